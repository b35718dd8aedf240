"""Serving in a speed session: what would mislead about inputs, memory, offloading and routing is told apart."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch

from moebench import api
from moebench.claims.judge import judge
from moebench.counting.memory import kv_bytes
from moebench.environment import environment
from moebench.jobs.measuring import enter, text_of
from moebench.jobs.session import SpeedPlan
from moebench.launch import launch
from moebench.metrics import METRICS, clock, serving
from moebench.metrics.racer import AGAIN, Racer
from moebench.metrics.serving import offload, parts
from moebench.metrics.serving.inputs import LEAST_SPREAD, spreads
from moebench.metrics.speed import race
from moebench.reader.evidence import gather
from moebench.store import Results
from moebench.suite.errors import SuiteError
from tests.support import tiny_suites
from tests.support.suite_texts import load, messages

SUITE = """\
suite: serving
question: What does it take to serve?
seeds: 6
data: {source: synthetic, sources: 2, symbols: 6, order: 1, documents: 60, document_bytes: 200, context: 16}
models:
  moe: {layers: 2, width: 16, heads: 2, weights: random,
        ffn: {kind: moe, experts: 4, top_k: 2, expert_hidden: 16}}
  dense: {base: moe, ffn: {kind: dense}, match: {to: moe, on: active_params}}
measure:
  speed: {train_step: false, prefill: [8], decode: {batch: [1, 3]}, processes: 6, seconds: 1.5, SERVING}
"""
ALL = "inputs: {count: 8, tokens: 8}, memory_budget: {bytes: 1.0e5, tokens: 12}, " \
      "offload: {resident: [1, 2], copy_bytes_per_s: 1.0e9}, layer_parts: true"  # fmt: skip


def suite(serving: str = ALL, claims: str = "") -> str:
    return SUITE.replace("SERVING", serving) + claims


def planned(folder: Path, text: str) -> api.Planned:
    path = folder / "serving.yaml"
    path.write_text(text)
    return api.prepare_plan(path, results=folder / "results")


# ------------------------------------------------------------------------------------------ inputs


def halves(rng: np.random.Generator, *, spread: float, noise: float, inputs: int = 32) -> list[tuple[float, float]]:
    """Two medians of each input: its own time, and noise that is each one's own."""
    of_input = rng.normal(0, spread, inputs)
    return [tuple(np.exp(x + rng.normal(0, noise, 2))) for x in of_input]  # type: ignore[misc]


def test_noise_is_taken_off_the_spread() -> None:
    rng = np.random.default_rng(0)
    found = [spreads({"moe": halves(rng, spread=0.05, noise=0.03)})["moe"] for _ in range(50)]
    assert np.mean(found) == pytest.approx(0.05, rel=0.05)
    raw = [float(np.std(np.log([a for a, _ in halves(rng, spread=0.05, noise=0.03)]))) for _ in range(50)]
    assert np.mean(raw) > 0.056, "of the medians as they are it would be in it"


def test_a_noisier_model_is_not_called_the_one_that_varies() -> None:
    """Neither varies; one is timed with three times the noise, and both are told as what cannot be told from it."""
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(100):
        both = {"moe": halves(rng, spread=0, noise=0.03), "dense": halves(rng, spread=0, noise=0.01)}
        found = spreads(both)
        ratios.append(math.log(found["moe"] / found["dense"]))
    assert np.mean(np.array(ratios) == 0) > 0.9
    assert abs(float(np.mean(ratios))) < 0.02
    naive = [float(np.std(np.log(halves(rng, spread=0, noise=n)))) for n in (0.03, 0.01)]
    assert naive[0] > 2 * naive[1]


def test_one_that_varies_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(2)
    found = spreads({"moe": halves(rng, spread=0.05, noise=0.01), "dense": halves(rng, spread=0, noise=0.01)})
    assert found["moe"] / found["dense"] > 5
    exact = spreads({"moe": [(1.0, 1.0), (2.0, 2.0)], "dense": [(1.0, 1.0), (1.0, 1.0)]})
    assert exact == {"moe": pytest.approx(math.log(2) / math.sqrt(2)), "dense": LEAST_SPREAD}


class Clock:
    """Ticks when somebody works; the first call after another model's is slow, as its weights are cold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.last = 0.0, ""
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def worker(self, name: str, seconds: float) -> Any:
        def work() -> None:
            self.now += seconds * (1.0 if self.last == name else 1.5)
            self.last = name

        return work


def test_the_input_that_comes_first_is_not_the_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fixed order, without a call that is not kept, the first would find cold weights each time."""
    hand = Clock(monkeypatch)
    timed = {name: [hand.worker(name, 0.01)] * 8 for name in ("moe", "dense")}
    times = clock.rounds(timed, device="cpu", seconds=2.0, shift=0)
    assert {len(values) for of in times.values() for values in of} == {math.ceil(2.0 / (0.01 * (2 * 9 + 1)))}
    assert all(value == pytest.approx(0.01) for of in times.values() for values in of for value in values)


def test_inputs_stand_in_another_order_each_round_and_models_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    hand, seen = Clock(monkeypatch), list[str]()

    def worker(name: str, index: int) -> Any:
        work = hand.worker(name, 0.01)

        def call() -> None:
            seen.append(f"{name}{index}")
            work()

        return call

    timed = {name: [worker(name, index) for index in range(4)] for name in "AB"}
    monkeypatch.setattr(clock, "warm_up", lambda call, device: 0.0)
    clock.rounds(timed, device="cpu", seconds=0.0, shift=0)
    blocks = [seen[n : n + 5] for n in range(0, len(seen), 5)]
    assert [block[0][0] for block in blocks] == ["A", "B", "B", "A", "A", "B", "B", "A", "A", "B", "B", "A"]
    assert all(sorted(block[1:]) == [f"{block[0][0]}{n}" for n in range(4)] for block in blocks)
    assert all(block[0] == block[-1] for block in blocks), "the one that is not kept is no input's first"
    assert len({tuple(block[1:]) for block in blocks}) > 6


def racers(made: api.Planned, seed: int = 0) -> list[Racer]:
    assert made.plan.speed is not None
    names = (*made.plan.speed.models, made.plan.speed.baseline + AGAIN)
    return [enter(name, made.plan.speed, {}, seed=seed) for name in names]


class Ticks:
    """A clock by which a call takes as long as the tokens and experts that it reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, field: list[Racer]) -> None:
        self.now = 0.0
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(clock, "measure_peak_flops", lambda *_: 1.0)
        monkeypatch.setattr(clock, "measure_peak_bandwidth", lambda *_: 1.0)
        for racer in field:
            self._slow(racer)

    def _slow(self, racer: Racer) -> None:
        model = racer.subject.weights
        honest = model.forward

        def forward(tokens: torch.Tensor, **more: Any) -> Any:
            output = honest(tokens, **more)
            experts = sum(len(routing.expert_N.unique()) for routing in output.routings)
            self.now += 1e-3 * (1 + experts)
            return output

        model.forward = forward  # type: ignore[method-assign]


def test_prompts_vary_by_the_experts_they_use_and_decoding_alone_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: at equal lengths a decoding step of one sequence reads k experts of each layer, whichever."""
    many = suite("inputs: {count: 16, tokens: 4}").replace("experts: 4", "experts: 32")
    made = planned(tmp_path, many)
    field = racers(made)
    Ticks(monkeypatch, field)
    found = race(field, made.plan.speed, text_of(tiny_suites.corpus(made)), process=0, seconds=0.1)  # type: ignore[arg-type]
    prompts, steps = ({name: d[f"speed.input_{w}spread[length=4]"] for name, d in found.derived.items()}
                      for w in ("", "decode_"))  # fmt: skip
    assert prompts["dense"] == steps["dense"] == steps["moe"] == LEAST_SPREAD
    assert steps["moe"] / steps["dense"] == 1.0
    assert prompts["moe"] > 5 * LEAST_SPREAD
    assert len(found.samples["moe"]["speed.input_s[length=4]"]) == 2 * 16


# ------------------------------------------------------------------------------------------ a memory budget


def test_the_batch_is_the_largest_whose_weights_and_cache_fit(tmp_path: Path) -> None:
    """By formula, and as many bytes as the tensors that are made for it have."""
    made = planned(tmp_path, suite("memory_budget: {bytes: [6.0e4, 1.0e5], tokens: 12}"))
    assert made.plan.speed is not None
    for racer in racers(made):
        name = racer.name.removesuffix(AGAIN)
        planned_model = made.plan.decoders[name]
        weights = sum(p.numel() * p.element_size() for p in racer.subject.weights.parameters())
        assert weights == planned_model.costs.weight_bytes
        for memory, batch in zip((60_000, 100_000), made.plan.speed.batches[name], strict=True):
            caches = [
                weights + sum(held.numel() * held.element_size() for held in racer.subject.new_cache(n, 12).tensors)
                for n in (batch, batch + 1)
            ]
            assert caches[0] <= memory < caches[1]
            assert batch == (memory - weights) // kv_bytes(planned_model.blueprint, "float32", context=12)


def test_half_the_bytes_a_weight_leave_room_for_more(tmp_path: Path) -> None:
    half = suite("memory_budget: {bytes: 1.0e5, tokens: 12}").replace(
        "measure:", "  half: {base: moe, dtype: bfloat16}\nmeasure:"
    )
    batches = planned(tmp_path, half).plan.speed.batches  # type: ignore[union-attr]
    assert batches["half"][0] > 2 * batches["moe"][0]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("2.0e4", r"serving.yaml:10:113: moe does not fit 20.0 kB: its weights take 50.0 kB"),
        ("1.0e9", "sequences of moe fit 1.00 GB, and no more than 4,096 are timed"),
    ],
)
def test_a_budget_that_nothing_or_too_much_fits_is_refused(tmp_path: Path, size: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        planned(tmp_path, suite(f"memory_budget: {{bytes: {size}, tokens: 12}}"))


def test_the_rate_is_tokens_over_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense step takes 1 ms by this clock, whatever the batch."""
    made = planned(tmp_path, suite("memory_budget: {bytes: 1.0e5, tokens: 12}"))
    field = racers(made)
    Ticks(monkeypatch, field)
    found = race(field, made.plan.speed, text_of(tiny_suites.corpus(made)), process=0, seconds=0.05)  # type: ignore[arg-type]
    batch = made.plan.speed.batches["dense"][0]  # type: ignore[union-attr]
    assert found.derived["dense"]["speed.tokens_per_s[memory=100000]"] == pytest.approx(batch / 1e-3)
    assert found.derived["dense"]["speed.budget_batch[memory=100000]"] == batch
    assert found.samples["moe"]["speed.budget_step_s[memory=100000]"][0] > 2e-3


def test_budgets_decode_the_second_half_of_their_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seven(timed: dict[str, Any], **_: Any) -> tuple[dict[str, list[float]], list[str]]:
        return {name: [(call(), 1.0)[1] for _ in range(7)] for name, call in timed.items()}, []

    monkeypatch.setattr(clock, "rotate", seven)
    made = planned(tmp_path, suite("memory_budget: {bytes: 1.0e5, tokens: 12}"))
    field, seen = racers(made)[:1], list[tuple[int, int]]()
    honest = field[0].subject.weights.forward

    def forward(tokens: torch.Tensor, *, cache: Any = None) -> Any:
        if cache is not None:
            seen.append((cache.length, *tokens.shape))
        return honest(tokens, cache=cache)

    field[0].subject.weights.forward = forward  # type: ignore[method-assign]
    plan = made.plan.speed
    assert plan is not None
    race(field, plan, text_of(tiny_suites.corpus(made)), process=0, seconds=1e-3)
    of_budget = [one for one in seen if one[1] == plan.batches["moe"][0] and one[2] == 1]
    assert [one[0] for one in of_budget] == [6, 7, 8, 9, 10, 11, 6]


# ------------------------------------------------------------------------------------------ offloading


def test_without_a_declared_rate_there_is_no_time(tmp_path: Path) -> None:
    """A warm page cache measures nothing: bytes are counted, and a claim about seconds is refused."""
    made = planned(tmp_path, suite("offload: {resident: [1, 4]}"))
    found = race(racers(made), made.plan.speed, text_of(tiny_suites.corpus(made)), process=0, seconds=0.05)  # type: ignore[arg-type]
    assert not any("offload" in metric for of in found.samples.values() for metric in of)
    moe = found.derived["moe"]
    assert moe["speed.offload_unequal_logits[resident=1]"] == moe["speed.offload_unequal_logits[resident=4]"] == 0
    # Two experts of each of two layers, of 3 matrices of 16 x 16: with room for one nearly all are copied, for all none
    share = moe["speed.offload_copied_share[resident=1]"]
    assert 0.5 < share <= 1.0
    assert moe["speed.offload_bytes_per_token[resident=1]"] == pytest.approx(share * 2 * 2 * 3 * 16 * 16 * 4)
    assert moe["speed.offload_bytes_per_token[resident=4]"] == 0
    assert not any("offload" in metric for metric in found.derived["dense"])
    claim = 'claims:\n  c:\n    compare: {treatment: moe, baseline: dense}\n    metric: "speed.offload_step_s[resident=1]"\n    test: {kind: superior}\n'  # noqa: E501
    told = messages(tmp_path, suite("offload: {resident: 1}", claim))
    assert "does not measure speed.offload_step_s" in told
    assert "give measure.speed.offload.copy_bytes_per_s" in told


def test_a_bit_that_differs_is_counted() -> None:
    one = torch.tensor([[1.0, 0.0, math.nan]])
    assert offload._unequal(one, one.clone()) == 0
    assert offload._unequal(one, torch.tensor([[1.0, -0.0, math.nan]])) == 1
    assert offload._unequal(one, torch.tensor([[1.0 + 1.2e-7, 0.0, math.nan]])) == 1


def test_a_backend_that_computes_otherwise_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moebench.models.decoder.experts.offloaded import Offloaded

    honest = Offloaded.fetch
    monkeypatch.setattr(Offloaded, "fetch", lambda self, expert: honest(self, max(0, expert - 1)))
    made = planned(tmp_path, suite("offload: {resident: 2}"))
    found = race(racers(made), made.plan.speed, text_of(tiny_suites.corpus(made)), process=0, seconds=0.01)  # type: ignore[arg-type]
    assert found.derived["moe"]["speed.offload_unequal_logits[resident=2]"] > 1000


# ------------------------------------------------------------------------------------------ parts


def test_what_is_no_network_is_routing_and_at_least_the_router() -> None:
    assert parts.routing_share(layer=10.0, ffn=6.0, router=1.0, products=4.0) == pytest.approx(0.2)
    assert parts.routing_share(layer=10.0, ffn=6.0, router=1.0, products=7.0) == pytest.approx(0.1), (
        "one by one may be slower than together"
    )


@pytest.mark.parametrize("process", range(4))
def test_parts_are_timed_of_mixtures_at_each_batch_and_prompt(tmp_path: Path, process: int) -> None:
    """Whichever part a process begins with, the share is that of its own samples."""
    made = planned(tmp_path, suite("layer_parts: true"))
    found = race(racers(made), made.plan.speed, text_of(tiny_suites.corpus(made)), process=process, seconds=0.05)  # type: ignore[arg-type]
    wanted = {f"speed.decode_part_s[batch={b},part={p}]" for b, p in itertools.product((1, 3), parts.PARTS)}
    wanted |= {f"speed.prefill_part_s[tokens=8,part={p}]" for p in parts.PARTS}
    assert {metric for metric in found.samples["moe"] if "part_s" in metric} == wanted
    shares = {metric: share for metric, share in found.derived["moe"].items() if "routing_share" in metric}
    assert set(shares) == {"speed.decode_routing_share[batch=1]", "speed.decode_routing_share[batch=3]",
                           "speed.prefill_routing_share[tokens=8]"}  # fmt: skip
    for metric, share in shares.items():
        shape = metric.partition("[")[2].removesuffix("]")
        name = metric.partition("[")[0].replace("routing_share", "part_s")
        seconds = {p: median(found.samples["moe"][f"{name}[{shape},part={p}]"]) for p in parts.PARTS}
        wanted_s = max(seconds["ffn"] - seconds["products"], seconds["router"])
        assert share == pytest.approx(wanted_s / seconds["layer"])
    assert not any("part_s" in metric or "routing" in metric for metric in found.samples["dense"])


# ------------------------------------------------------------------------------------------ the plan and the suite


def test_a_session_that_asks_for_none_of_it_is_the_session_it_was(tmp_path: Path) -> None:
    """Its fields are in no id."""
    plain = SpeedPlan(
        id="s", models=("moe",), baseline="moe", processes=(0,), train_step=True, prefill=(8,), decode_batches=(1,),
        seconds=1.0,
    )  # fmt: skip
    new = {"inputs", "memory_budget", "batches", "offload", "layer_parts"}
    assert new.isdisjoint(plain.model_dump(mode="json"))
    assert new.isdisjoint(load(tmp_path, suite("")).model_dump(mode="json")["measure"]["speed"])


def test_what_is_asked_for_is_in_its_id(tmp_path: Path) -> None:
    asked = ["", "inputs: {tokens: 8}", "inputs: {tokens: 4}", "offload: {resident: 2}", "layer_parts: true",
             "memory_budget: {bytes: 1.0e5, tokens: 12}", "memory_budget: {bytes: 1.0e5, tokens: 10}"]  # fmt: skip
    ids = {planned(tmp_path, suite(words)).plan.speed.id for words in asked}  # type: ignore[union-attr]
    assert len(ids) == len(asked)


WRONG = {
    "inputs: {tokens: 16}": "inputs of 16 tokens and one more are longer than the context, 16",
    "memory_budget: {bytes: 1.0e5, tokens: 17}": "sequences of 17 tokens are longer than the context, 16",
    "memory_budget: {bytes: [1.0e5, 1.0e5], tokens: 8}": "100000 is given twice",
    "memory_budget: {bytes: 1.5, tokens: 8}": "bytes",
    "offload: {resident: 5}": "memory for 5 experts is more than the 4 that a layer has",
    "offload: {resident: [2, 2]}": "2 is given twice",
    "offload: {residents: 2}": "did you mean 'resident'?",
    "layer_part: true": "did you mean 'layer_parts'?",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_measured_is_told_with_its_place(tmp_path: Path, words: str) -> None:
    told = messages(tmp_path, suite(words))
    assert WRONG[words] in told
    assert "suite.yaml:10:" in told


def test_parts_and_offloading_need_a_mixture(tmp_path: Path) -> None:
    alone = suite("offload: {resident: 1}, layer_parts: true").replace(
        "ffn: {kind: moe, experts: 4, top_k: 2, expert_hidden: 16}", "ffn: {kind: dense, hidden: 8}"
    ).replace("  dense: {base: moe, ffn: {kind: dense}, match: {to: moe, on: active_params}}\n", "")  # fmt: skip
    told = messages(tmp_path, alone)
    assert told.count("no model of this suite is a mixture") == 2


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("speed.input_spread[length=9]", "measure.speed.inputs.tokens has 8"),
        ("speed.tokens_per_s[memory=8]", "measure.speed.memory_budget.bytes has 100000"),
        ("speed.offload_step_s[resident=3]", "measure.speed.offload.resident has 1 and 2"),
        ("speed.decode_routing_share[batch=2]", "measure.speed.decode.batch has 1 and 3"),
    ],
)
def test_a_claim_about_what_is_not_measured_is_told_what_is(tmp_path: Path, metric: str, hint: str) -> None:
    test = "{kind: at_most, value: 1}" if "routing" in metric else "{kind: superior}"
    about = "model: moe" if "routing" in metric else "compare: {treatment: moe, baseline: dense}"
    claim = f'claims:\n  c:\n    {about}\n    metric: "{metric}"\n    test: {test}\n'
    assert hint in messages(tmp_path, suite(claims=claim))


# ------------------------------------------------------------------------------------------ the whole way


CLAIMS = """\
claims:
  same: {model: moe, metric: "speed.offload_unequal_logits[resident=1]", family: primary,
         test: {kind: at_most, value: 0}}
  unlike: {model: moe, metric: "speed.offload_unequal_logits[resident=1]", test: {kind: at_least, value: 1}}
  copies: {model: moe, metric: "speed.offload_copied_share[resident=1]", test: {kind: at_least, value: 10%}}
  fewer: {model: moe, metric: "speed.offload_bytes_per_token[resident=1]", test: {kind: at_least, value: 1},
          minus: "speed.offload_bytes_per_token[resident=2]"}
  fits: {compare: {treatment: moe, baseline: dense}, metric: "speed.budget_batch[memory=100000]",
         test: {kind: ratio_at_least, value: 1.0}}
  share: {model: moe, metric: "speed.decode_routing_share[batch=1]", test: {kind: at_most, value: 0.1%}}
  every: {compare: {treatment: moe, baseline: dense}, metric: "speed.decode_step_s[batch=*]",
          test: {kind: non_inferior, margin: 1000000%, in: every}}
"""


def test_a_suite_of_it_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of a process are exact where all agree, and rest on no clock; shares of time do."""
    for peak in ("measure_peak_flops", "measure_peak_bandwidth"):
        monkeypatch.setattr(clock, peak, lambda *_: 1e12)
    made = planned(tmp_path, suite(ALL, CLAIMS))
    stored = Results(made.results).save_plan(made.plan, environment(1))
    statuses = launch(made.graph.jobs, replace(made.options, launcher="inline"))
    assert set(statuses.values()) == {"completed"}
    told = {one.id: one for one in judge(gather(Results(made.results), stored))}
    states = {name: one.state for name, one in told.items()}
    assert states["same"] == "supported", told["same"]
    assert (told["same"].estimate, told["same"].n) == (0, 6)
    assert math.copysign(1, told["same"].estimate or 0.0) > 0
    assert states["unlike"] == "refuted"
    assert (states["copies"], states["fits"], states["every"]) == ("supported", "refuted", "supported")
    assert states["share"] in ("refuted", "invalid"), told["share"]


def test_every_metric_says_what_it_cannot() -> None:
    names = [name for name in METRICS if name.startswith("speed.") and METRICS[name].kind == "timed"]
    assert all(METRICS[name].cannot for name in names)
    assert {metric.name for metric in serving.METRICS} <= set(names)


def test_a_session_that_only_counts_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for peak in ("measure_peak_flops", "measure_peak_bandwidth"):
        monkeypatch.setattr(clock, peak, lambda *_: 1e12)
    alone = suite("offload: {resident: 2}").replace(
        "prefill: [8], decode: {batch: [1, 3]}, processes: 6", "processes: 2"
    )
    made = planned(tmp_path, alone)
    for _ in range(2):
        events: list[dict[str, Any]] = []
        statuses = launch(made.graph.jobs, replace(made.options, launcher="inline", on_event=events.append))
        assert set(statuses.values()) == {"completed"}
        assert sum(event["event"] == "speed" for event in events) == (0 if _ else 2)


@pytest.mark.parametrize(("resident", "copied"), [(4, 0.53), (6, 0.27)])
def test_even_routing_without_memory_copies_what_the_suite_says(tmp_path: Path, resident: int, copied: float) -> None:
    """Two of eight experts drawn anew for each token: what suite `offloading` holds a trained router against."""
    from moebench.models.decoder.experts.offloaded import Offloaded

    store = Offloaded(torch.zeros(8, 2, 1), torch.zeros(8, 1, 1), resident=resident, file=tmp_path / "e")
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        for expert in sorted(rng.choice(8, size=2, replace=False).tolist()):
            store.fetch(expert)
    assert store.copied / store.used == pytest.approx(copied, abs=0.01)
