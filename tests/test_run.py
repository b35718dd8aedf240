"""One run: what it writes, that it is the same whatever happens on the way, and how it ends when training does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from moebench import api
from moebench.data.batches import evaluation_windows
from moebench.jobs import KINDS
from moebench.jobs.loop import DataChanged
from moebench.jobs.measuring import RunContext
from moebench.jobs.recipe import Run
from moebench.jobs.training import start, train
from moebench.metrics import MEASUREMENTS
from moebench.metrics.ref import labelled
from moebench.store import Checkpoints, Results
from tests.support import tiny_suites

pytestmark = pytest.mark.numeric

module = sys.modules["moebench.jobs.loop"]  # `moebench.run` is the function of that name


@pytest.fixture
def made(tmp_path: Path) -> api.Planned:
    return tiny_suites.planned(tmp_path)


def carry_out(
    made: api.Planned,
    run: Run,
    *,
    stop_after: int | None = None,
    events: list[dict[str, Any]] | None = None,
    results: Path | None = None,
    **task: Any,
) -> tuple[str, tiny_suites.Left]:
    """Trains a run and measures it; asks it to stop at the `stop_after`-th step it takes."""
    root = results or made.results
    asked = iter(range(10**6))
    jobs = tiny_suites.jobs_of(made, run, **task)
    status = "completed"
    for job in jobs:
        if status == "completed":
            Results(root).job(job.id).path.mkdir(parents=True, exist_ok=True)
            status = KINDS[job.kind].execute(
                job,
                root=root,
                on_event=(events if events is not None else []).append,
                should_stop=lambda: stop_after is not None and next(asked) + 1 >= stop_after,
            )
    return status, tiny_suites.Left.of(root, jobs)


def values(folder: tiny_suites.Left) -> dict[tuple[str, int | None], float | int | None]:
    return {(one.metric, one.step): one.value for one in folder.records()}


def contents(folder: tiny_suites.Left) -> dict[str, bytes]:
    return folder.contents()


# ------------------------------------------------------------------------------------------ what is written


def test_a_run_leaves_a_whole_folder(made: api.Planned) -> None:
    run = tiny_suites.run_of(made)
    status, folder = carry_out(made, run)
    assert (status, folder.status(), folder.verify()) == ("completed", "completed", [])
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"steps.jsonl", "records.jsonl", "model.safetensors", "job.json", "timed.jsonl", "DONE"}
    about = folder.job_json()
    assert Run.model_validate(about["job"]["spec"]).id == folder.id
    assert about["job"] == {"kind": "train", "spec": run.model_dump(mode="json"), "inputs": []}
    for measured, measurement in zip(folder.measured, ("quality", "flops", "memory"), strict=True):
        assert (measured.status(), measured.verify()) == ("completed", [])
        names = {path.name for path in measured.path.iterdir()}
        assert names == {"records.jsonl", "job.json", "DONE", *(["items.jsonl"] if measurement == "quality" else [])}
        assert (measured.kind, measured.inputs, measured.spec()["measurement"]) == ("evaluate", (run.id,), measurement)
        assert measured.job_json()["data_splits"] == about["data_splits"]
    assert (about["model"], about["suite"]) == ("moe", "tiny")
    corpus = tiny_suites.corpus(made)
    assert about["data_splits"]["test"] == {
        "digest": corpus.split_digest("test"),
        "documents": len(corpus.documents("test")),
    }
    assert [row["step"] for row in folder.steps()] == list(range(1, 13))


def test_quality_is_measured_at_the_points_and_on_more_text_at_the_end(made: api.Planned) -> None:
    _, folder = carry_out(made, tiny_suites.run_of(made))
    found, corpus = values(folder), tiny_suites.corpus(made)
    scored = evaluation_windows(corpus, "test", tokens=256).mask.sum()
    for step in (4, 8, 12):
        assert found["train.tokens", step] == 128 * step
        flops = made.plan.models["moe"].costs.train_flops_per_token * 128 * step
        assert found["train.model_flops", step] == flops
        assert 0 < found["curve.bits_per_byte", step] < 8
        for layer in range(2):
            loads = [found[labelled("routing.tokens", layer=layer, expert=e), step] for e in range(4)]
            assert sum(loads) == 2 * scored  # every scored byte goes to two experts
    windows = (len(corpus.tokens("train")) - corpus.context) // corpus.context
    assert found["train.epochs", 12] == 12 * (128 // corpus.context) / windows, "how often the text was read, by hand"
    items = folder.items()
    total = sum(row["bits"] for row in items) / sum(row["bytes"] for row in items)
    assert found["test.bits_per_byte", 12] == pytest.approx(total, rel=1e-12)
    for domain in ("source-0", "source-1"):
        own = [row for row in items if row["domain"] == domain]
        expected = sum(row["bits"] for row in own) / sum(row["bytes"] for row in own)
        assert found[labelled("test.bits_per_byte", domain=domain), 12] == pytest.approx(expected, rel=1e-12)
    for domain in (None, "source-0", "source-1"):
        own = [row for row in items if domain in (None, row["domain"])]
        labels = {} if domain is None else {"domain": domain}
        assert found[labelled("test.scored_bytes", **labels), 12] == sum(row["bytes"] for row in own)
        assert found[labelled("test.scored_documents", **labels), 12] == len(own)
    assert found["curve.scored_bytes", 4] == scored
    assert ("curve.scored_bytes", 8) not in found
    assert found["train.bits_per_token", 12] == folder.steps()[-1]["loss"]
    assert found["train.counted_flops", 12] > 0


def test_a_dense_run_has_no_routing(made: api.Planned) -> None:
    _, folder = carry_out(made, tiny_suites.run_of(made, "dense"))
    assert not [one.metric for one in folder.records() if one.metric.startswith("routing.")]


def test_another_number_of_threads_begins_anew(made: api.Planned) -> None:
    """Sums over threads round differently: a run must not be half of each."""
    run, events = tiny_suites.run_of(made), []
    carry_out(made, run, stop_after=6)
    carry_out(made, run, events=events, threads=2, stop_after=1)
    assert events[0]["step"] == 0


def test_a_tune_run_is_read_on_the_tune_split(made: api.Planned) -> None:
    run = tiny_suites.run_of(made, split="tune", evaluate_at=(12,))
    _, folder = carry_out(made, run)
    metrics = {one.metric for one in folder.records()}
    assert "tune.bits_per_byte" in metrics
    assert "test.bits_per_byte" not in metrics
    tune = {document.name for document in tiny_suites.corpus(made).documents("tune")}
    assert {row["document"] for row in folder.items()} <= tune


@pytest.mark.parametrize("model", ["moe", "dense"])
def test_weights_on_disk_are_those_after_the_last_step(made: api.Planned, model: str) -> None:
    """Memory is measured with one more real step: it must not reach the weights."""
    run = tiny_suites.run_of(made, model)
    _, folder = carry_out(made, run)
    state = start(run)
    list(train(state, run, tiny_suites.corpus(made)))
    assert (folder.path / "model.safetensors").read_bytes() == safetensors.torch.save(state.model.state_dict())
    assert any(one.metric == "memory.train_peak_bytes" for one in folder.records())


@pytest.mark.parametrize("model", ["moe", "dense"])
def test_a_measurement_of_weights_from_disk_is_that_of_the_model_just_trained(made: api.Planned, model: str) -> None:
    """Peaks of memory hold the optimizer's moments, which are not on disk."""
    run, corpus = tiny_suites.run_of(made, model), tiny_suites.corpus(made)
    _, folder = carry_out(made, run)
    state = start(run)
    list(train(state, run, corpus))
    context = RunContext(run, state, corpus)
    records = [one for name in ("quality", "flops", "memory") for one in MEASUREMENTS[name].measure(context).records]
    expected = {(one.metric, one.step): one.value for one in records}
    assert expected.items() <= values(folder).items()
    assert len(expected) > 5


def test_events_say_where_a_run_is(made: api.Planned) -> None:
    events: list[dict[str, Any]] = []
    run = tiny_suites.run_of(made)
    carry_out(made, run, events=events)
    measuring = [event["measurement"] for event in events if event["event"] == "measuring"]
    assert measuring == ["quality", "flops", "memory"]
    events = [event for event in events if event["event"] == "progress"]
    assert {(event["run"], event["model"], event["seed"], event["steps"]) for event in events} == {
        (run.id, "moe", 0, 12)
    }
    assert [event["step"] for event in events if event["phase"] == "evaluate"] == [4, 8, 12]
    assert events[0]["step"] == 0
    assert (events[-1]["phase"], events[-1]["step"]) == ("evaluate", 12)
    json.dumps(events, allow_nan=False)


# ------------------------------------------------------------------------------------------ the same bits


def test_the_same_run_twice_is_the_same_but_for_its_timings(made: api.Planned) -> None:
    run = tiny_suites.run_of(made)
    _, one = carry_out(made, run)
    _, other = carry_out(made, run, results=made.results / "other")
    assert contents(one) == contents(other)


@pytest.mark.parametrize("model", ["moe", "dense"])
def test_a_run_stopped_at_every_step_is_the_run_that_was_not(made: api.Planned, model: str) -> None:
    run = tiny_suites.run_of(made, model)
    _, undisturbed = carry_out(made, run)
    root = made.results / "stopped"
    statuses, first_steps = [], []
    for _ in range(run.recipe.steps):
        events: list[dict[str, Any]] = []
        status, folder = carry_out(made, run, stop_after=1, events=events, results=root)
        statuses.append(status)
        first_steps.append(events[0]["step"])
    assert statuses == ["stopped"] * 11 + ["completed"]
    assert first_steps == list(range(12))  # each began where the one before had stopped
    assert contents(folder) == contents(undisturbed)
    timed = [json.loads(line) for line in (folder.path / "timed.jsonl").read_text().splitlines()]
    assert {row["segment"] for row in timed} == set(range(12))


def test_rows_after_the_last_checkpoint_are_cut_back_and_written_once(made: api.Planned) -> None:
    run = tiny_suites.run_of(made)
    _, undisturbed = carry_out(made, run)
    root = made.results / "torn"
    carry_out(made, run, stop_after=6, results=root)
    folder = Results(root).job(run.id)
    step, *_ = Checkpoints(folder).load() or (0,)
    assert step == 6
    with (folder.path / "steps.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 0.0}\n{"step": 8, "lo')  # a killed process got this far
    with (folder.path / "records.jsonl").open("a") as file:
        file.write('{"metric": "train.tokens", "value": 1, "step": 7, "version": 1}\n')
    status, left = carry_out(made, run, results=root)
    assert status == "completed"
    assert contents(left) == contents(undisturbed)


def test_a_spoilt_checkpoint_costs_work_but_no_bits(made: api.Planned) -> None:
    run = tiny_suites.run_of(made)
    _, undisturbed = carry_out(made, run)
    root = made.results / "spoilt"
    carry_out(made, run, stop_after=5, results=root)
    folder = Results(root).job(run.id)
    (folder.path / "checkpoint-5.safetensors").write_bytes(b"not what was written")
    events: list[dict[str, Any]] = []
    _, left = carry_out(made, run, results=root, events=events)
    assert events[0]["step"] == 4  # the evaluation point before
    assert contents(left) == contents(undisturbed)


# ------------------------------------------------------------------------------------------ other ends


def poke(value: float, *, at_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a value into the weights after a step."""
    honest: Callable[..., Any] = module.train

    def poking(state: Any, *args: Any) -> Any:
        for facts in honest(state, *args):
            if facts.step == at_step:
                with torch.no_grad():
                    state.model.norm.weight[0] = value
            yield facts

    monkeypatch.setattr(module, "train", poking)


def test_divergence_is_an_outcome_with_its_reason_and_the_curve_so_far(
    made: api.Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    poke(float("nan"), at_step=6, monkeypatch=monkeypatch)
    status, folder = carry_out(made, tiny_suites.run_of(made))
    assert (status, folder.status(), folder.verify()) == ("diverged", "diverged", [])
    assert (folder.manifest() or {})["reason"].startswith("step 7: loss nan")
    assert [row["step"] for row in folder.steps()] == [1, 2, 3, 4, 5, 6]
    assert [one.step for one in folder.records() if one.metric == "curve.bits_per_byte"] == [4]
    assert not (folder.path / "model.safetensors").exists()


@pytest.mark.parametrize("at_step", [4, 12])
def test_weights_that_go_bad_in_the_step_before_an_evaluation_diverge_too(
    made: api.Planned, monkeypatch: pytest.MonkeyPatch, at_step: int
) -> None:
    poke(float("inf"), at_step=at_step, monkeypatch=monkeypatch)
    status, folder = carry_out(made, tiny_suites.run_of(made))
    assert (status, folder.status()) == ("diverged", "diverged")
    assert (folder.manifest() or {})["reason"] == f"step {at_step}: cross-entropy on the test split is not finite"
    assert len(folder.steps()) == at_step


def test_a_rate_that_is_far_too_high_diverges_and_is_told(made: api.Planned) -> None:
    run = tiny_suites.run_of(made, lr=1e4, clip=None)
    status, folder = carry_out(made, run)
    assert (status, folder.status()) == ("diverged", "diverged")
    assert (folder.manifest() or {})["reason"].startswith("step ")


def test_a_diverged_run_that_was_killed_on_the_way_ends_the_same(
    made: api.Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_suites.run_of(made)
    poke(float("nan"), at_step=6, monkeypatch=monkeypatch)
    _, undisturbed = carry_out(made, run)
    root = made.results / "stopped"
    carry_out(made, run, stop_after=5, results=root)
    status, folder = carry_out(made, run, results=root)
    assert status == "diverged"
    for name in ("steps.jsonl", "records.jsonl"):
        assert (folder.path / name).read_bytes() == (undisturbed.path / name).read_bytes()


def test_data_other_than_the_plans_are_refused(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path)
    run = tiny_suites.run_of(made)
    other = made.loaded.spec.data.model_copy(update={"documents": 70})
    with pytest.raises(DataChanged, match="plan again"):
        carry_out(made, run, data=other)
    assert Results(made.results).job(run.id).status() != "completed"


def test_weights_load_back_into_the_model_that_was_trained(made: api.Planned) -> None:
    run = tiny_suites.run_of(made)
    _, folder = carry_out(made, run)
    loaded = safetensors.torch.load_file(folder.path / "model.safetensors")
    parameters = made.plan.models["moe"].costs.params.total
    assert sum(value.numel() for value in loaded.values()) == parameters
