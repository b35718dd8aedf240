"""How much dense a model is worth: its place on a ladder, and what claims make of places inside and outside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench import stats
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.leverage.place import Place, at, place
from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, claim, evidence_of, judged, with_outcome, with_recipe

SIZES = (30_000, 60_000, 120_000, 240_000)
RUNGS = tuple(f"dense.n-{size}" for size in SIZES)
NOISE = np.array([0.004, -0.006, 0.001, 0.007, -0.002, -0.005, 0.003, -0.002])
TOWARDS = {"kind": "ratio_at_least", "value": 1.5}


def law(size: float) -> float:
    """Bits per byte of a dense model."""
    return float(1.4 + 12.0 * size**-0.25)


def ladder_of(
    worth: Sequence[float],
    *,
    metric: str = "effective_params",
    test: dict[str, Any] = TOWARDS,
    compare: dict[str, str] | None = None,
    own: int = 60_000,
    alone: dict[str, Any] | None = None,
    **other: Any,
) -> Evidence:
    """A mixture of `own` active parameters whose loss is that of a dense model of `worth`, a size for each seed.

    Its baseline is the rung of its own size. Each seed shifts all models alike.
    """
    shift = np.exp(NOISE[: len(worth)])
    values = {name: {BPB: list(law(size) * shift)} for name, size in zip(RUNGS, SIZES, strict=True)}
    values["moe"] = {BPB: [law(size) * s for size, s in zip(worth, shift, strict=True)]}
    sides = compare or {"treatment": "moe", "baseline": "dense.n-60000"}
    sizes = {name: (size, size) for name, size in zip(RUNGS, SIZES, strict=True)} | {"moe": (4 * own, own)}
    block = claim(test, metric, compare=sides, target={"ladder": "dense"})
    claims = (
        {"c": block}
        if alone is None
        else {"c": block, "alone": {**alone, "says": "It is so.", "target": block["target"]}}
    )
    return evidence_of(values, claims, params=sizes, ladders={"dense": RUNGS}, **other)


# ---------------------------------------------------------------------------------------------- places

X, Y = np.log(SIZES), np.log([law(size) for size in SIZES])


def test_a_loss_between_two_rungs_has_their_interpolated_size() -> None:
    found = place(X, Y, math.log(law(85_000)))
    assert found.found
    assert math.exp(found.least) == pytest.approx(85_000, rel=0.01)


def test_a_loss_outside_the_ladder_is_known_from_one_side_only() -> None:
    assert place(X, Y, Y[-1] - 0.01) == Place(X[-1], math.inf)
    assert place(X, Y, Y[0] + 0.01) == Place(-math.inf, X[0])


def test_where_a_ladder_turns_all_sizes_that_have_the_loss_are_told() -> None:
    turning = place(X, np.log([3.0, 2.6, 2.7, 2.4]), math.log(2.65))
    assert X[0] < turning.least < X[1]
    assert X[2] < turning.most < X[3]
    rising = place(X, np.log([3.0, 2.6, 2.4, 2.5]), math.log(2.45))
    assert X[1] < rising.least < X[2]
    assert rising.high


def test_beside_a_rung_that_diverged_a_size_is_known_by_its_neighbours() -> None:
    unknown = Y.copy()
    unknown[2] = math.nan
    assert place(X, unknown, math.log(law(85_000))) == Place(X[1], X[3])
    assert place(X, unknown, math.log(law(45_000))).least == pytest.approx(math.log(45_000), abs=0.03)


@given(st.lists(st.floats(0.5, 1.5), min_size=4, max_size=4), st.floats(0.4, 1.6), st.floats(0, 0.5))
def test_a_lower_loss_is_never_worth_less(losses: list[float], level: float, better: float) -> None:
    y = np.array(losses)
    worse, other = place(X, y, level), place(X, y, level - better)
    assert other.least >= worse.least - 1e-9
    assert other.most >= worse.most - 1e-9
    assert worse.least <= worse.most


def test_what_is_read_off_at_a_place_is_linear_between_rungs() -> None:
    assert at(X, 2 * X, X[1] + 0.1) == pytest.approx(2 * (X[1] + 0.1))
    assert at(X, 2 * X, math.inf) == math.inf


# ---------------------------------------------------------------------------------------------- claims


def worth(true: float, **other: Any) -> Verdict:
    return judged(ladder_of([true] * 8, **other))


def test_effective_size_is_compared_with_a_rungs_own() -> None:
    verdict = worth(120_000)
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(2.0, rel=0.01)
    assert worth(66_000).state == "refuted"
    assert any(note.startswith("on dense: 4 dense models of 30,000 to 240,000 parameters") for note in verdict.notes)
    assert any("34.1 to 4.27 tokens a weight" in note for note in verdict.notes)


@pytest.mark.parametrize(("metric", "expected"), [("leverage.flops", 2.0), ("leverage.bytes", 0.5)])
def test_leverage_is_over_the_models_own(metric: str, expected: float) -> None:
    """The mixture has the FLOPs of 60,000 weights and the bytes of 240,000; a rung's own leverage is 1."""
    verdict = worth(120_000, metric=metric)
    assert verdict.estimate == pytest.approx(expected, rel=0.01)


def test_leverage_in_time_has_the_scatter_of_processes() -> None:
    seconds = {name: size / 1e6 for name, size in zip(RUNGS, SIZES, strict=True)} | {"moe": 0.1}
    jitter = np.exp([0.01, -0.02, 0.005, 0.015, -0.01, 0.0, 0.01, -0.01])
    times = {
        name: {"speed.train_step_s": list(mean * np.roll(jitter, i))} for i, (name, mean) in enumerate(seconds.items())
    }
    times[f"{RUNGS[0]}~again"] = times[RUNGS[0]]
    timed = ladder_of(
        [120_000] * 8, metric="leverage.seconds", times=times, test={"kind": "ratio_at_least", "value": 1}
    )
    verdict = judged(timed)
    assert verdict.estimate == pytest.approx(1.2, rel=0.02)
    assert "step times added" in verdict.method
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.high / verdict.low > 1.01
    without = judged(ladder_of([120_000] * 8, metric="leverage.seconds"))
    assert without.state == "not_tested"


@pytest.mark.parametrize("metric", ["effective_params", "leverage.flops"])
@pytest.mark.parametrize(("true", "says"), [(300_000.0, "at least"), (20_000.0, "at most")])
def test_beyond_the_ladder_an_end_is_told_and_no_number(metric: str, true: float, says: str) -> None:
    """Of one model as of two: neither infinity nor 0 is what it is worth."""
    alone = {"model": "moe", "metric": metric, "test": {"kind": "at_least", "value": 1}}
    evidence = ladder_of([true] * 8, metric=metric, alone=alone)
    for verdict in judge(evidence):
        assert verdict.effect.startswith(f"beyond the ladder; {says} "), verdict.id
        assert "∞" not in verdict.effect


def test_a_model_of_which_every_run_diverged_has_no_time_and_no_warning() -> None:
    times = {name: {"speed.train_step_s": [0.1] * 8} for name in (*RUNGS, "moe", f"{RUNGS[0]}~again")}
    lost = [("moe", seed) for seed in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verdict = judged(ladder_of([120_000] * 8, metric="leverage.seconds", times=times, diverged=lost))
    assert verdict.reason.startswith("divergence: 8 of 8 runs of moe")


def test_what_is_beyond_the_largest_rung_is_at_least_its_size() -> None:
    """At least four times the rung of 60,000, so twice it as well, and nothing above four is known."""
    beyond = [300_000.0] * 8
    assert judged(ladder_of(beyond, test={"kind": "ratio_at_least", "value": 3.9})).state == "supported"
    verdict = judged(ladder_of(beyond, test={"kind": "ratio_at_least", "value": 4.5}))
    assert verdict.state == "inconclusive"
    assert "high" in verdict.unbounded
    assert any("beyond the largest rung in 8 of 8 seeds: known to be at least that" in note for note in verdict.notes)


def test_what_the_smallest_rung_equals_is_at_most_its_size() -> None:
    assert judged(ladder_of([20_000.0] * 8, test={"kind": "ratio_at_least", "value": 0.6})).state == "refuted"
    verdict = judged(ladder_of([20_000.0] * 8, test={"kind": "ratio_at_least", "value": 0.2}))
    assert verdict.state == "inconclusive"


def test_swapping_the_two_mirrors_the_verdict() -> None:
    swapped = {"treatment": "dense.n-60000", "baseline": "moe"}
    one, other = worth(120_000), worth(120_000, compare=swapped, test={"kind": "ratio_at_least", "value": 1 / 1.5})
    assert (one.state, other.state) == ("supported", "refuted")
    assert one.estimate is not None
    assert other.estimate is not None
    assert one.estimate == pytest.approx(1 / other.estimate)


def test_a_rung_that_diverged_never_helps_a_mixture() -> None:
    evidence = ladder_of([100_000] * 8, diverged=[("dense.n-120000", 3)])
    verdict = judged(evidence)
    assert verdict.state == "inconclusive"  # with seed 3 it is only known to be worth more than 60,000
    whole = judged(ladder_of([100_000] * 8))
    assert whole.state == "supported"
    assert verdict.p is not None
    assert whole.p is not None
    assert verdict.p > whole.p


def test_a_rung_without_a_run_leaves_the_claim_open() -> None:
    verdict = judged(ladder_of([120_000] * 8, missing=[("dense.n-240000", 5)]))
    assert verdict.state == "interim"
    assert "dense.n-240000 is missing" in verdict.reason


def test_a_ladder_of_another_budget_is_no_ladder() -> None:
    verdict = judged(with_recipe(ladder_of([120_000] * 8), "moe", steps=500))
    assert verdict.state == "invalid"
    assert verdict.reason.startswith("ladder: moe was trained on 2,048,000 tokens and dense.n-30000 on 1,024,000")


def test_a_rung_that_read_other_tokens_makes_the_claim_invalid() -> None:
    evidence = with_outcome(ladder_of([120_000] * 8), "dense.n-240000", 0, digests={250: "f" * 16})
    assert judged(evidence).reason.startswith("data: ")


def test_a_rung_that_is_no_better_than_the_one_below_is_told() -> None:
    evidence = ladder_of([80_000] * 8)
    for seed in range(8):
        flat = law(240_000) * math.exp(NOISE[seed]) * (1.001 if seed % 2 else 0.999)
        evidence = with_outcome(evidence, "dense.n-120000", seed, values={BPB: flat})
    told = "dense.n-240000 is not shown to be better than dense.n-120000, the rung below it"
    assert told in judged(evidence).notes


@pytest.mark.parametrize(("worths", "state"), [((1.2, 1.6, 2.1), "supported"), ((2.1, 1.6, 1.2), "refuted")])
def test_leverage_over_sizes_is_a_trend_of_logs(worths: tuple[float, ...], state: str) -> None:
    """Three mixtures of 40,000, 60,000 and 90,000 active weights, each worth so many times its own."""
    own = (40_000, 60_000, 90_000)
    family = {f"moe.width-{width}": size for width, size in zip((16, 24, 36), own, strict=True)}
    rng = np.random.default_rng(3)
    values = {rung: {BPB: list(law(size) * np.exp(NOISE))} for rung, size in zip(RUNGS, SIZES, strict=True)}
    for (name, size), worth_of in zip(family.items(), worths, strict=True):
        values[name] = {BPB: list(law(size * worth_of) * np.exp(NOISE + rng.normal(0, 0.002, 8)))}
    trend = {"kind": "trend", "sign": "rising"}
    block = claim(trend, "leverage.flops", over="moe", along="width", target={"ladder": "dense"})
    swept = {name: {"width": float(name.rpartition("-")[2])} for name in family}
    sizes = {name: (size, size) for name, size in zip(RUNGS, SIZES, strict=True)} | {
        n: (3 * s, s) for n, s in family.items()
    }
    verdict = judged(evidence_of(values, {"c": block}, params=sizes, ladders={"dense": RUNGS}, sweeps={"moe": swept}))
    assert verdict.state == state
    assert verdict.unit == "% per doubling of width"


# ---------------------------------------------------------------------------------------------- error rates


@pytest.mark.parametrize(("exponent", "sd"), [(0.1, 0.009), (0.35, 0.006), (0.35, 0.009)])
def test_the_interval_of_leverage_holds_the_truth_as_often_as_it_says(exponent: float, sd: float) -> None:
    """Ladders with seed noise as measured: 0.6 to 0.9% of the loss a run, correlated 0.3 over the models of a seed."""
    rng = np.random.default_rng(5)
    top, bottom, trials, seeds = 2.7, 2.25, 700, 8
    a = (top - bottom) / (SIZES[0] ** -exponent - SIZES[-1] ** -exponent)
    floor = top - a * SIZES[0] ** -exponent
    true = 95_000.0
    means = np.log([floor + a * size**-exponent for size in (*SIZES, true)])
    shared, own = rng.normal(size=(trials, seeds, 1)), rng.normal(size=(trials, seeds, 5))
    y = means + sd * (math.sqrt(0.3) * shared + math.sqrt(0.7) * own)
    covered = 0
    for trial in y:
        places = [place(X, losses[:4], losses[4]) for losses in trial]
        low = stats.lower_limit(np.array([one.least for one in places]), 0.025)
        high = -stats.lower_limit(-np.array([one.most for one in places]), 0.025)
        covered += low <= math.log(true) <= high
    assert 0.93 <= covered / trials <= 0.97 + 0.01
