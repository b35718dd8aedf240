"""The race: what is timed, in which order, what follows from the samples, and its session of processes. No clock is
asserted.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
import torch

from moebench import api
from moebench.counting.flops import train_step_flops
from moebench.counting.memory import decode_bytes
from moebench.environment import environment
from moebench.jobs import KINDS
from moebench.jobs import speed as jobs_speed
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.loop import execute
from moebench.jobs.measuring import load_racer, racer, text_of
from moebench.jobs.training import start
from moebench.launch import launch
from moebench.metrics import clock, speed
from moebench.metrics.clock import is_steady, rotate, warm_up
from moebench.metrics.speed import AGAIN, Race, Racer, race
from moebench.planning.types import SpeedPlan
from moebench.reader.evidence import gather
from moebench.store import JobFolder, Results, read_lines
from tests.support import tiny_suites


class Clock:
    """A clock that only ticks when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def worker(self, seconds: float) -> Any:
        def work() -> None:
            self.now += seconds

        return work


# ------------------------------------------------------------------------------------------ rotation


def test_blocks_alternate_between_an_order_and_its_reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Clock(monkeypatch)
    timed = {name: hand.worker(0.01) for name in "ABC"}
    samples, blocks = rotate(timed, device="cpu", seconds=6.0, shift=0)
    turns = thirds(blocks)
    assert turns[:4] == ["ABC", "CBA", "ABC", "CBA"]
    assert len(turns) >= clock.MIN_BLOCKS
    assert len({len(seconds) for seconds in samples.values()}) == 1
    assert samples["A"][0] == pytest.approx(0.01)


def thirds(blocks: list[str]) -> list[str]:
    return ["".join(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]


def test_each_process_begins_with_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Clock(monkeypatch)
    firsts = []
    for process in range(4):
        _, blocks = rotate({n: hand.worker(0.01) for n in "ABC"}, device="cpu", seconds=1.0, shift=process)
        firsts.append("".join(blocks[:3]))
    assert firsts == ["ABC", "BCA", "CAB", "ABC"]


def test_a_slow_model_gets_fewer_calls_and_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Clock(monkeypatch)
    samples, _ = rotate({"slow": hand.worker(0.1), "fast": hand.worker(0.01)}, device="cpu", seconds=8.0, shift=0)
    assert len(samples["fast"]) > 5 * len(samples["slow"]) > 0
    assert sum(samples["fast"]) == pytest.approx(sum(samples["slow"]), rel=0.2)


def test_both_orders_are_seen_however_short_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Clock(monkeypatch)
    _, blocks = rotate({n: hand.worker(5.0) for n in "AB"}, device="cpu", seconds=0.1, shift=0)
    assert blocks == ["A", "B", "B", "A"]


def test_warming_up_goes_on_while_calls_get_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    hand, calls = Clock(monkeypatch), itertools.count()

    def warming() -> None:
        hand.now += max(0.01, 1.0 * 0.8 ** next(calls))

    assert warm_up(warming, "cpu") < 0.05
    assert 4 < next(calls) <= 42
    calls = itertools.count()
    assert warm_up(hand.worker(0.5), "cpu") == pytest.approx(0.5)


def test_steady_means_that_both_halves_agree_to_a_tenth() -> None:
    assert is_steady([1.0, 1.0, 1.09, 1.09])
    assert not is_steady([1.0, 1.0, 1.2, 1.2])
    assert not is_steady([1.0])


# ------------------------------------------------------------------------------------------ rates by hand


def test_the_peak_of_products_is_flops_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.5, 0.25, *[0.5] * 6])
    monkeypatch.setattr(clock, "time_call", lambda call, device: next(times))
    assert clock.measure_peak_flops("cpu", torch.float32) == 2 * 768**3 / 0.25


def test_the_peak_of_reading_is_bytes_over_the_best_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.5, 0.125, *[0.5] * 4])
    monkeypatch.setattr(clock, "time_call", lambda call, device: next(times))
    assert clock.measure_peak_bandwidth("cpu") == 2**26 / 0.125


def test_utilisation_by_hand(tmp_path: Path) -> None:
    """A dense model of one layer whose products can be counted on paper."""
    shape = {"layers": 1, "width": 8, "heads": 2, "ffn": {"kind": "dense", "hidden": 4}}
    made = tiny_suites.planned(tmp_path, models={"dense": shape})
    run = tiny_suites.run_of(made, "dense")
    entry = racer("dense", run, start(run))
    samples = {"speed.train_step_s": [3.0, 1.0, 2.0], "speed.decode_step_s[batch=4]": [0.5]}
    entry.passes.append(entry.trainable.backward(torch.zeros(8, 17, dtype=torch.long), None))
    found = speed.derived(entry, samples, peak_flops=1e6, peak_bandwidth=1e5)
    weights = 4 * 8 * 8 + 3 * 8 * 4 + 256 * 8  # attention, FFN, the tied table as output head
    # 128 tokens in 8 sequences of 16: products of weights, and half of attention's square, times 3 for the backward
    flops = 3 * (2 * 128 * weights + 4 * 8 * 16 * 16 * 8 // 2)
    assert found["speed.train_utilisation"] == pytest.approx(flops / 2.0 / 1e6)
    # 4 sequences with 12 cached tokens, a key and a value of 8 numbers each
    read = 4 * weights + 4 * 12 * (2 * 8 * 4)
    assert found["speed.decode_bandwidth_utilisation[batch=4]"] == pytest.approx(read / 0.5 / 1e5)


def racer_of(folder: Path, *, dtype: str = "float32", **ffn: Any) -> Racer:
    """One mixture of 8 experts that has not been trained, in a race of its own."""
    mixture = {"kind": "moe", "experts": 8, "top_k": 2, "expert_hidden": 16, **ffn}
    shape = {"layers": 2, "width": 16, "heads": 2, "ffn": mixture}
    made = tiny_suites.planned(folder, models={"moe": shape}, train={"dtype": dtype})
    run = tiny_suites.run_of(made, "moe")
    return racer("moe", run, start(run))


def timed(racer: Racer, folder: Path, **plan: Any) -> Race:
    made = tiny_suites.planned(folder)
    usual: dict[str, Any] = {"models": ("moe",), "baseline": "moe", "prefill": (), "decode_batches": ()}
    return race([racer], plan_of(**{**usual, **plan}), text_of(tiny_suites.corpus(made)), process=0, seconds=0.01)


def used(racer: Racer, found: Race) -> float:
    """FLOPs per step that the utilisation was counted with."""
    return (
        found.derived["moe"]["speed.train_utilisation"]
        * found.peak_flops
        * median(found.samples["moe"]["speed.train_step_s"])
    )


VARYING = {
    "dropping": {"capacity_factor": 0.25},
    "picking as many as it needs": {"router": "top_p", "top_k": 4, "top_p": 0.3},
    "the second by chance": {"router": "gshard", "capacity_factor": 100.0},
}


@pytest.mark.parametrize("name", VARYING)
def test_utilisation_counts_the_pairs_that_were_computed(tmp_path: Path, name: str) -> None:
    entry = racer_of(tmp_path, **VARYING[name])
    a, tokens = entry.trainable.run.architecture, entry.trainable.run.recipe.micro_batch_tokens
    found = timed(entry, tmp_path)
    pairs = found.routed["moe"]["speed.train_step_s"]
    assert 0 < pairs < tokens * a.ffn.top_k * a.layers  # type: ignore[union-attr]
    none, one = (
        train_step_flops(a.blueprint, sequences=tokens // a.context, length=a.context, assignments=assignments)
        for assignments in (0, 1)
    )
    assert used(entry, found) == pytest.approx(none + pairs * (one - none))
    planned = train_step_flops(a.blueprint, sequences=tokens // a.context, length=a.context)
    assert used(entry, found) < planned


def test_a_dropping_mixtures_pairs_are_no_more_than_its_room(tmp_path: Path) -> None:
    """A quarter of 128 tokens x 2 experts in 8 experts is 8 places each: at most 64 pairs a layer of the 256."""
    pairs = timed(racer_of(tmp_path, capacity_factor=0.25), tmp_path).routed["moe"]["speed.train_step_s"]
    assert 8 * 2 < pairs <= 64 * 2


def test_utilisation_of_a_model_that_is_trained_in_part_counts_the_step_that_it_does(tmp_path: Path) -> None:
    """Adapters of the last network alone: no gradient of a frozen weight, and no backward below them."""
    shape = {"layers": 2, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 32}}
    part = {"start": "dense", "lora": {"rank": 2, "on": ["ffn"]}, "train": {"budget": {"steps": 2}}}
    made = tiny_suites.planned(tmp_path, models={"dense": shape, "moe": part})
    assert set(launch(made.graph.jobs, replace(made.options, launcher="inline")).values()) == {"completed"}
    (job,) = (one for one in made.graph.jobs if one.kind == "train" and one.model == "moe" and one.seed == 0)
    entry = load_racer("moe", Results(made.results).job(job.id))
    found = timed(entry, tmp_path)
    a, tokens = entry.trainable.run.architecture, entry.trainable.run.recipe.micro_batch_tokens
    assert used(entry, found) == pytest.approx(made.plan.decoders["moe"].costs.train_flops_per_token * tokens)
    assert used(entry, found) < 0.8 * train_step_flops(a.blueprint, sequences=tokens // a.context, length=a.context)


def test_utilisation_of_a_dropless_mixture_is_that_of_its_plan(tmp_path: Path) -> None:
    entry = racer_of(tmp_path)
    a, tokens = entry.trainable.run.architecture, entry.trainable.run.recipe.micro_batch_tokens
    found = timed(entry, tmp_path)
    assert found.routed["moe"]["speed.train_step_s"] == tokens * 2 * 2
    planned = train_step_flops(a.blueprint, sequences=tokens // a.context, length=a.context)
    assert used(entry, found) == pytest.approx(planned)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoding_reads_the_cache_in_its_own_dtype_and_the_experts_really_used(tmp_path: Path, dtype: str) -> None:
    entry = racer_of(tmp_path, dtype=dtype)
    found = timed(entry, tmp_path, train_step=False, decode_batches=(3,))
    step_s = median(found.samples["moe"]["speed.decode_step_s[batch=3]"])
    read = found.derived["moe"]["speed.decode_bandwidth_utilisation[batch=3]"] * step_s * found.peak_bandwidth
    touched = found.routed["moe"]["speed.decode_step_s[batch=3]"]
    always = 2 * (4 * 16 * 16 + 8 * 16) + 256 * 16  # attention and router of two layers, the output head
    weights = 4 * (always + 2 * touched * 3 * 16 * 16)
    cache = entry.subject.weights.new_cache(1).layers[0].keys_BGSC
    held = 3 * 12 * 2 * 2 * 16 * cache.element_size()  # 3 sequences, 12 tokens, keys and values of two layers
    assert cache.element_size() == {"float32": 4, "bfloat16": 2}[dtype]
    assert read == pytest.approx(weights + held)


def test_the_experts_used_are_those_of_decoding_step_by_step(tmp_path: Path) -> None:
    entry = racer_of(tmp_path, experts=64)
    model, tokens = (
        entry.subject.weights.eval(),
        torch.randint(256, (20, 16), generator=torch.Generator().manual_seed(0)),
    )
    with torch.inference_mode():
        cache = model.new_cache(20)
        model(tokens[:, :8], cache=cache)
        seen = [
            len(routing.expert_N.unique())
            for place in range(8, 16)
            for routing in model(tokens[:, place : place + 1], cache=cache).routings
        ]
    assert speed.experts_read(entry.subject, tokens, start=8) == pytest.approx(sum(seen) / len(seen))
    assert 2 < sum(seen) / len(seen) < 40


def test_only_the_experts_touched_count_as_read(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path)
    a = made.plan.models["moe"].architecture
    one = decode_bytes(a.blueprint, "float32", batch=1, cached=0)
    dense_part = 4 * (a.layers * (4 * 16 * 16 + 16 * 4) + 256 * 16)
    assert one == dense_part + 4 * a.layers * 2 * (3 * 16 * 16)  # two experts of four


# ------------------------------------------------------------------------------------------ the race itself


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    made = tiny_suites.planned(tmp_path_factory.mktemp("speed"), seeds=1)
    for model in ("moe", "dense"):
        task = tiny_suites.job_of(made, tiny_suites.run_of(made, model))
        execute(task, root=made.results, on_event=lambda _: None, should_stop=lambda: False)
    return made


def racers(made: api.Planned) -> list[Racer]:
    results = Results(made.results)
    ids = {run.model: run.id for run in made.plan.runs}
    return [load_racer(name, results.job(ids[name.removesuffix(AGAIN)])) for name in ("moe", "dense", "dense" + AGAIN)]


def plan_of(**changes: Any) -> SpeedPlan:
    usual: dict[str, Any] = {
        "id": "s", "models": ("moe", "dense"), "baseline": "dense", "processes": (0,), "train_step": True,
        "prefill": (8, 16), "decode_batches": (1, 3), "seconds": 0.1,
    }  # fmt: skip
    return SpeedPlan(**{**usual, **changes})


METRICS = {
    "speed.train_step_s", "speed.prefill_s[tokens=8]", "speed.prefill_s[tokens=16]",
    "speed.decode_step_s[batch=1]", "speed.decode_step_s[batch=3]",
}  # fmt: skip


def test_every_model_is_timed_on_everything_and_the_baseline_twice(trained: api.Planned) -> None:
    found = race(racers(trained), plan_of(), text_of(tiny_suites.corpus(trained)), process=0, seconds=0.05)
    assert set(found.samples) == {"moe", "dense", "dense~again"}
    for model, samples in found.samples.items():
        assert set(samples) == METRICS
        assert set(found.steady[model]) == METRICS
        assert all(len(seconds) >= 2 and min(seconds) > 0 for seconds in samples.values())
        assert set(found.derived[model]) == {
            "speed.train_utilisation",
            "speed.decode_bandwidth_utilisation[batch=1]",
            "speed.decode_bandwidth_utilisation[batch=3]",
        }
    assert found.order[:6] == ["moe", "dense", "dense~again", "dense~again", "dense", "moe"]
    assert min(found.peak_flops, found.peak_bandwidth) > 0


def test_racing_leaves_the_weights_as_trained(trained: api.Planned) -> None:
    field = racers(trained)
    before = {name: value.clone() for name, value in field[0].subject.weights.state_dict().items()}
    race(field, plan_of(prefill=(), decode_batches=()), text_of(tiny_suites.corpus(trained)), process=0, seconds=0.02)
    assert all(torch.equal(value, before[name]) for name, value in field[0].subject.weights.state_dict().items())


def test_decoding_goes_on_token_by_token_and_back_to_the_middle(trained: api.Planned) -> None:
    entry = racers(trained)[0]
    seen: list[tuple[int, int]] = []
    honest = entry.subject.weights.forward

    def forward(tokens: torch.Tensor, *, cache: Any = None) -> Any:
        if cache is not None:  # without one, it is read which experts decoding uses
            seen.append((cache.length, tokens.shape[1]))
        return honest(tokens, cache=cache)

    entry.subject.weights.forward = forward  # type: ignore[method-assign]
    decode = speed._decode_step(entry, text_of(tiny_suites.corpus(trained)), batch=2)
    for _ in range(10):
        decode()
    assert seen == [(0, 8), *((held, 1) for held in range(8, 16)), (8, 1), (9, 1)]


# ----------------------------------------------------------------------------------------------------
# The speed session: one job a process, alone on the machine, redone for a model it lacked.


SPEED = {"speed": {"train_step": True, "prefill": [8], "decode": {"batch": [2]}, "processes": 3, "seconds": 0.2}}


def planned(folder: Path) -> api.Planned:
    return tiny_suites.planned(folder, measure={**SPEED, "memory": False}, train={"budget": {"steps": 2}})


@pytest.fixture
def made(tmp_path: Path) -> api.Planned:
    """Nothing of it is done yet."""
    return planned(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    """Its models are trained and its session is done."""
    made = planned(tmp_path_factory.mktemp("whole"))
    train(made, "moe", "dense")
    assert measure(made) == ["completed"] * 3
    return made


@pytest.fixture
def done(whole: api.Planned, tmp_path: Path) -> api.Planned:
    """A copy of one's own."""
    results = shutil.copytree(whole.results, tmp_path / "results")
    return replace(whole, options=replace(whole.options, results=results))


def train(made: api.Planned, *models: str) -> None:
    run(made, [job for job in made.graph.jobs if job.kind == "train" and job.model in models])


def run(made: api.Planned, jobs: Sequence[Job], on_event: OnEvent = lambda _: None) -> dict[str, str]:
    return launch(jobs, replace(made.options, launcher="inline", on_event=on_event))


def measure(made: api.Planned, on_event: OnEvent = lambda _: None) -> list[str]:
    """Carries out the session: the status of each process."""
    jobs = [job for job in made.graph.jobs if job.kind == "speed"]
    statuses = run(made, jobs, on_event)
    return [statuses[job.id] for job in jobs]


def folders_of(made: api.Planned) -> list[JobFolder]:
    return [Results(made.results).job(job.id) for job in made.plan.sessions]


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the processes that were carried out."""
    began: list[int] = []

    def counting(job: Job, **kw: Any) -> str:
        began.append(job.spec["process"])
        return jobs_speed.execute(job, **kw)

    monkeypatch.setitem(KINDS, "speed", replace(jobs_speed.SPEED, execute=counting))
    return began


def test_a_session_is_a_job_for_each_process(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    events: list[dict[str, Any]] = []
    assert measure(made, events.append) == ["completed"] * 3
    assert raced == [0, 1, 2]
    begun = [event for event in events if event["event"] == "speed"]
    assert [(event["process"], event["processes"]) for event in begun] == [(0, 3), (1, 3), (2, 3)]
    for index, seed in enumerate((0, 1, 0)):  # process i takes the i-th seed, and begins anew when they run out
        folder = folders_of(made)[index]
        assert (folder.status(), folder.verify(), folder.kind) == ("completed", [], "speed")
        value = folder.read("process.json")
        assert (value["process"], value["seed"], value["missing"]) == (index, seed, {})
        assert set(value["samples"]) == {"moe", "dense", "dense~again"} == set(value["derived"])
        assert set(value["samples"]["moe"]) == {
            "speed.train_step_s",
            "speed.prefill_s[tokens=8]",
            "speed.decode_step_s[batch=2]",
        }
        first = ["moe", "dense", "dense~again"][index:] + ["moe", "dense", "dense~again"][:index]
        assert value["order"][:6] == first + first[::-1]
        assert len(value["load"]) == 2
        assert "resident_growth_bytes" not in value, "it would measure the order of loading"
        assert value["environment"]["threads"] == 1
        assert min(value["peak_flops"], value["peak_bandwidth"]) > 0


def test_a_process_has_the_machine_and_a_process_of_its_own(made: api.Planned) -> None:
    jobs = [job for job in made.graph.jobs if job.kind == "speed"]
    assert all(job.exclusive and job.fresh for job in jobs)
    trained = {(job.model, job.seed): job.id for job in made.graph.jobs if job.kind == "train"}
    assert [set(job.inputs) for job in jobs] == [{trained["moe", seed], trained["dense", seed]} for seed in (0, 1, 0)]


def test_the_evidence_reads_what_the_session_wrote(done: api.Planned) -> None:
    again = api.prepare_plan(done.loaded.path, results=done.results)
    stored = Results(done.results).save_plan(again.plan, environment(1))
    evidence = gather(Results(done.results), stored)
    assert (len(evidence.processes), evidence.speed_reason) == (3, None)
    assert evidence.processes[0].values["dense~again"]["speed.train_step_s"] > 0


def test_a_session_is_not_repeated(done: api.Planned, raced: list[int]) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.results.rglob("*") if path.parent.name != ".locks"}
    assert measure(done) == ["completed"] * 3
    assert raced == []
    after = {path: path.stat().st_mtime_ns for path in done.results.rglob("*") if path.parent.name != ".locks"}
    assert after == before


def test_every_process_is_noted_beside_the_plans_and_stays_so(done: api.Planned, raced: list[int]) -> None:
    """A session that is removed and done again has been seen before."""
    for folder in folders_of(done):
        shutil.rmtree(folder.path)
    measure(done)
    assert done.plan.speed is not None
    rows = read_lines(Results(done.results).timed_path(done.plan.speed.id))
    assert [row["process"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert all("speed.train_step_s" in rows[0]["timed"][done.plan.training(name)] for name in ("moe", "dense"))
    stored = Results(done.results).save_plan(done.plan, environment(1))
    assert len(gather(Results(done.results), stored).history.sessions) == 1


def test_an_interrupted_session_goes_on_with_what_is_missing(
    made: api.Planned, raced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(made, "moe", "dense")
    willing = KINDS["speed"]

    def failing(job: Job, **kw: Any) -> str:
        if job.spec["process"] == 1:
            raise RuntimeError("no luck")
        return willing.execute(job, **kw)

    monkeypatch.setitem(KINDS, "speed", replace(willing, execute=failing))
    assert measure(made) == ["completed", "crash", "completed"]
    first = (folders_of(made)[0].path / "process.json").read_bytes()
    monkeypatch.setitem(KINDS, "speed", willing)
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 2, 1]
    assert (folders_of(made)[0].path / "process.json").read_bytes() == first


def test_a_model_without_weights_is_left_out_and_raced_once_it_has_them(made: api.Planned, raced: list[int]) -> None:
    train(made, "dense")
    assert measure(made) == ["completed"] * 3
    value = folders_of(made)[0].read("process.json")
    assert set(value["samples"]) == {"dense", "dense~again"}
    ids = {(run.model, run.seed): run.id for run in made.plan.runs}
    assert value["missing"] == {"moe": ids["moe", 0]}
    measure(made)
    assert raced == [0, 1, 2]
    train(made, "moe")
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 1, 2, 0, 1, 2]
    value = folders_of(made)[0].read("process.json")
    assert (set(value["samples"]), value["missing"]) == ({"moe", "dense", "dense~again"}, {})
    assert [folder.verify() for folder in folders_of(made)] == [[], [], []]


def test_a_harmed_process_is_put_aside_and_measured_again(done: api.Planned, raced: list[int]) -> None:
    folder = folders_of(done)[1]
    path = folder.path / "process.json"
    harmed = path.read_text().replace("0", "1", 1)
    path.write_text(harmed)
    assert measure(done) == ["completed"] * 3
    assert raced == [1]
    assert folder.verify() == []
    assert (folder.path.with_name(f"{folder.id}.corrupt-1") / "process.json").read_text() == harmed


@pytest.mark.parametrize("content", ["{", "[]", '{"missing": {}}'])
def test_a_file_of_an_unfinished_process_that_does_not_read_is_made_again(
    done: api.Planned, raced: list[int], content: str
) -> None:
    (folders_of(done)[1].path / "DONE").unlink()
    (folders_of(done)[1].path / "process.json").write_text(content)
    assert measure(done) == ["completed"] * 3
    assert raced == [1]


def test_with_nothing_trained_it_is_blocked_and_says_by_what(made: api.Planned, raced: list[int]) -> None:
    events: list[dict[str, Any]] = []
    assert measure(made, events.append) == ["blocked"] * 3
    assert raced == []
    assert "failed: missing" in events[0]["reason"]
    (job, *_) = [job for job in made.graph.jobs if job.kind == "speed"]
    with pytest.raises(FileNotFoundError, match=r"no model has been trained: moe, dense, dense~again with seed 0"):
        jobs_speed.execute(job, root=made.results, on_event=lambda _: None, should_stop=lambda: False)


# ------------------------------------------------------------------------------------------ the process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_of_its_own_for_each_after_all_else_has_ended(tmp_path: Path) -> None:
    made = tiny_suites.planned(
        tmp_path, seeds=1, measure={"speed": {**SPEED["speed"], "processes": 2}}, train={"budget": {"steps": 2}}
    )
    events: list[dict[str, Any]] = []
    outcome = api.run_planned(
        replace(made, options=replace(made.options, on_event=events.append)), reports=tmp_path / "reports"
    )
    assert (outcome.speed, outcome.failures) == ("completed", ())
    names = [event["event"] for event in events if event["event"] in ("speed", "progress", "measuring")]
    assert names[-2:] == ["speed", "speed"], "nothing else begins after the first"
    assert psutil.Process().children() == []


def test_orders_end_with_their_parent() -> None:
    """A helper's standard input ends when its parent does, however that was."""
    code = "from moebench.launch.spawn import read_order; read_order(); import threading; threading.Event().wait()"
    child = psutil.Popen([sys.executable, "-c", code], stdin=-1, bufsize=0)
    child.stdin.write(b'"an order"\n')
    child.stdin.close()
    assert child.wait(timeout=60) == 1


def test_models_are_made_in_turn_so_that_none_always_has_the_better_place() -> None:
    names = ["moe", "small", "dense", *(f"m{n}" for n in range(15)), "dense~again"]
    orders = [jobs_speed.in_turn(names, process) for process in range(10)]
    assert all(sorted(order) == sorted(names) for order in orders)
    assert len({order[0] for order in orders}) == 10
    first = sum(order.index("dense") < order.index("dense~again") for order in orders)
    assert 4 <= first <= 6
