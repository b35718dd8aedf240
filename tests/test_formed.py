"""Kinds whose effects are no sum over models: turns, rank correlations, overtaking, and ratios of spreads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as distributions

from moebench import stats
from moebench.claims import spread
from moebench.claims.best import BestOf
from moebench.claims.kinds.correlates import fisher_z, rank_correlation, ranks
from moebench.claims.kinds.plateau import octaves, rows, wider
from moebench.claims.kinds.predicts import log_error_ratio
from moebench.claims.reaching import UNDECAYED
from moebench.claims.spread import SpreadRatio
from moebench.claims.verdict import Verdict
from tests.support.builders import BPB, POINTS, claim, evidence_of, judged, with_outcome, with_recipe
from tests.support.error_rates import limits
from tests.support.suite_texts import KINDS as KINDS_SUITE
from tests.support.suite_texts import messages


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


def shares(effects: np.ndarray, null: float) -> tuple[float, float]:
    """How often effects [trials, n] show that they lie above, and below, a value."""
    return float(np.mean(limits(effects) > null)), float(np.mean(-limits(-effects) < null))


# ---------------------------------------------------------------------------------------------- turns

XS = (2.0, 4.0, 8.0, 16.0)


def turned(curve: Sequence[float], test: dict[str, Any], *, noise: float = 0.004, **other: Any) -> Verdict:
    rng = np.random.default_rng(3)
    sweeps = {"moe_s": {f"moe_s_{x:g}": {"ffn.experts": x} for x in XS}}
    common = rng.normal(0, 0.02, 8)
    values = {f"moe_s_{x:g}": {BPB: loss + common + rng.normal(0, noise, 8)} for x, loss in zip(XS, curve, strict=True)}
    block = claim({"kind": "turns", **test}, over="moe_s", along="ffn.experts")
    return judged(evidence_of(values, {"c": block}, sweeps=sweeps, **other))


def test_a_turn_is_the_last_point_over_the_best() -> None:
    verdict = turned([2.1, 2.0, 2.02, 2.06], {"margin": 0.02})
    assert (verdict.state, verdict.n, verdict.units) == ("supported", 8, "seeds")
    assert verdict.estimate == pytest.approx(0.06, abs=0.005)
    assert verdict.asked == "≥ 0.02 bits/byte higher at the last ffn.experts than at the best inside"
    assert any("no sum over documents" in note for note in verdict.notes)
    share = turned([2.1, 2.0, 2.02, 2.06], {"margin": "2%"})
    assert (share.state, share.unit, share.estimate) == ("supported", "%", pytest.approx(3.0, abs=0.3))


@pytest.mark.parametrize(
    ("curve", "state", "reason"),
    [
        ([2.1, 2.05, 2.02, 2.0], "refuted", "other side of the threshold"),
        ([2.1, 2.0, 2.0, 2.005], "refuted", "other side of the threshold"),
        ([2.0, 2.02, 2.04, 2.06], "inconclusive", "it may be higher all along"),
        ([2.1, 2.0, 2.02, 2.02], "inconclusive", "crosses the threshold"),
    ],
)
def test_what_does_not_turn(curve: list[float], state: str, reason: str) -> None:
    verdict = turned(curve, {"margin": 0.02})
    assert verdict.state == state
    assert reason in verdict.reason


def test_a_margin_that_one_point_may_pass_is_not_refuted() -> None:
    """The best is chosen wrongly now and then; before it is refuted no single point may be better by the margin."""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(80):
        values = np.array([2.1, 2.0, 2.001, 2.02]) + rng.normal(0, 0.01, (8, 4))
        sweeps = {"moe_s": {f"moe_s_{x:g}": {"ffn.experts": x} for x in XS}}
        columns = {f"moe_s_{x:g}": {BPB: column} for x, column in zip(XS, values.T, strict=True)}
        block = claim({"kind": "turns", "margin": 0.02}, over="moe_s", along="ffn.experts")
        wrong += judged(evidence_of(columns, {"c": block}, sweeps=sweeps)).state == "refuted"
    assert wrong / 80 <= at_most(0.025, 80)


def found(values_TSP: np.ndarray, bound: float = 0.0) -> float:
    """How often the last of several points is shown to lie above the best of the others."""
    made = [BestOf(differences_SK=x[:, -1:] - x[:, 1:-1]) for x in values_TSP]
    return float(np.mean([one.p_above(bound) <= 0.025 for one in made]))


@pytest.mark.parametrize("curve", [[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [2.0, 0.0, 0.5, 0.0], [3, 2, 1, 0.0]])
@pytest.mark.parametrize("n", [6, 8, 10])
def test_a_turn_that_is_not_there_is_found_no_more_often_than_it_may(curve: list[float], n: int) -> None:
    rng, trials = np.random.default_rng(n), 1500
    values = np.array(curve) + rng.normal(0, 1, (trials, n, 4))
    assert found(values) <= at_most(0.025, trials)


def test_effects_of_points_that_seeds_chose_for_each_other_would_be_passed_too_often() -> None:
    """Why the best is chosen anew in each flip: chosen by the other seeds, equal points differ in 4% of samples."""
    values = np.random.default_rng(8).normal(0, 1, (6000, 8, 4))
    effects = np.array([BestOf(differences_SK=x[:, -1:] - x[:, :-1]).effects for x in values])
    assert abs(np.mean(effects)) < 0.02, "the estimate has no bias"
    assert shares(effects, 0.0)[0] > at_most(0.025, 6000)


def test_the_best_of_one_is_flipped_as_ever_and_the_interval_is_what_the_test_does_not_reject() -> None:
    x = np.random.default_rng(0).normal(0.5, 1, (9, 3))
    one = BestOf(differences_SK=x[:, :1])
    assert one.effects == pytest.approx(x[:, 0])
    assert one.p_above(0.1) == pytest.approx(stats.sign_flip_p(x[:, 0], 0.1))
    assert one.interval(0.95).low == pytest.approx(stats.sign_flip_limit(x[:, 0], 0.025))
    every = BestOf(differences_SK=x)
    ends = every.interval(0.95)
    assert every.p_above(ends.low - 1e-9) <= 0.025 < every.p_above(ends.low + 1e-9)
    assert every.p_below(ends.high + 1e-9) <= 0.025 < every.p_below(ends.high - 1e-9)


def test_turns_are_found_where_they_are() -> None:
    values = np.array([3.0, 0.0, 0.3, 2.0]) + np.random.default_rng(9).normal(0, 1, (300, 8, 4))
    assert found(values) >= 0.75


def test_a_sweep_that_is_read_in_another_order_or_turned_over_turns_as_well() -> None:
    verdicts = [turned(curve, {"margin": 0.02}) for curve in ([2.1, 2.0, 2.02, 2.06], [2.1, 2.02, 2.0, 2.06])]
    assert {verdict.state for verdict in verdicts} == {"supported"}


def test_a_diverged_point_speaks_for_no_turn() -> None:
    whole = turned([2.1, 2.0, 2.02, 2.06], {"margin": 0.02})
    broken = turned([2.1, 2.0, 2.02, 2.06], {"margin": 0.02}, diverged={("moe_s_4", 0)})
    assert whole.p is not None
    assert broken.p is not None
    assert broken.p > whole.p
    assert any("1 of 8 seeds unbounded" in note for note in broken.notes)


# ---------------------------------------------------------------------------------------------- correlates

SIX = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def correlated(
    slope: float, test: dict[str, Any], *, against: str = "cost.total_params", noise: float = 0.1
) -> Verdict:
    rng = np.random.default_rng(6)
    names = {f"moe_s_{x:g}": x for x in SIX}
    values = {
        name: {BPB: 2 - slope * i / 10 + rng.normal(0, noise, 8), "routing.entropy": [0.1 * i + 0.1] * 8}
        for i, name in enumerate(names)
    }
    sweeps = {"moe_s": {name: {"ffn.experts": x} for name, x in names.items()}}
    sizes = {name: (100_000 * (i + 1), 100_000) for i, name in enumerate(names)}
    block = claim({"kind": "correlates", **test}, over="moe_s", against=against)
    evidence = evidence_of(values, {"c": block}, sweeps=sweeps, params=sizes)
    return judged(evidence)


@pytest.mark.parametrize("against", ["cost.total_params", "routing.entropy"])
def test_a_rank_correlation_with_a_count_or_a_metric(against: str) -> None:
    verdict = correlated(1.0, {"at_most": -0.3}, against=against, noise=0.05)
    assert (verdict.state, verdict.n, verdict.asked) == ("supported", 8, "≤ -0.3")
    assert verdict.estimate is not None
    assert -1 < verdict.estimate < -0.8
    assert verdict.low is not None
    assert verdict.low >= -1 - 1e-9
    assert correlated(1.0, {"at_least": -0.3}, against=against, noise=0.05).state == "refuted"
    undecided = correlated(0.0, {"at_most": 0.0}, against=against)
    assert undecided.state == "inconclusive"
    assert undecided.needs is not None


def test_a_perfect_order_with_every_seed_has_an_interval() -> None:
    verdict = correlated(5.0, {"at_most": -0.9}, noise=0.001)
    assert (verdict.state, verdict.estimate) == ("supported", pytest.approx(-1.0))


def test_a_correlation_is_that_of_scipy_and_turns_with_its_sign_and_its_metrics() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 5, (4, 7)).astype(float), rng.normal(size=(4, 7))
    z = fisher_z(ranks(one), ranks(other))
    expected = [distributions.spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert np.tanh(z) / 0.95 == pytest.approx(expected)
    assert fisher_z(ranks(other), ranks(one)) == pytest.approx(z)
    assert fisher_z(ranks(-one), ranks(other)) == pytest.approx(-z)


def test_what_does_not_rank_has_no_correlation() -> None:
    same = np.concatenate([np.ones((3, 6)), np.random.default_rng(0).normal(size=(3, 6))], axis=1)
    with pytest.raises(ValueError, match="x is the same in all 6 models"):
        rank_correlation(["m"] * 6, ("x", "y"), 1)(same)


@pytest.mark.parametrize("slope", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize(("models", "n"), [(6, 6), (6, 10), (8, 8), (12, 10)])
def test_a_correlation_at_its_bound_is_passed_no_more_often_than_it_may(models: int, n: int, slope: float) -> None:
    """Ranks of few models: within a percent of the level, up to a correlation of 0.9."""
    rng, trials = np.random.default_rng(models + n), 2000
    x = np.arange(float(models))

    def z(count: int) -> np.ndarray:
        y = slope * x + rng.normal(size=(count, models))
        return fisher_z(np.broadcast_to(x, y.shape), ranks(y))

    truth = float(np.mean(z(60_000)))
    if math.tanh(truth) / 0.95 > 0.9:
        return
    for share in shares(z(trials * n).reshape(trials, n), truth):
        assert share <= at_most(0.025, trials) + 0.005


def test_a_correlation_is_found_where_it_is() -> None:
    rng, x = np.random.default_rng(2), np.arange(8.0)
    y = 0.6 * x + rng.normal(size=(8000, 8))
    effects = fisher_z(np.broadcast_to(x, y.shape), ranks(y)).reshape(1000, 8)
    assert shares(effects, math.atanh(0.95 * 0.5))[0] >= 0.9


# ---------------------------------------------------------------------------------------------- plateau

RATES = (1.0, 2.0, 4.0, 8.0)


def flat(treatment: Sequence[float], test: dict[str, Any], *, swap: bool = False, noise: float = 0.0) -> Verdict:
    """Four rates of a mixture and of a dense model whose loss is 1, 1, 1 and 2: it stays within 2% for 2.03 octaves."""
    rng = np.random.default_rng(4)
    values, sweeps = {}, dict[str, dict[str, dict[str, float]]]()
    for name, curve in (("moe_s", treatment), ("dense_s", (1.0, 1.0, 1.0, 2.0))):
        sweeps[name] = {f"{name}_{rate:g}": {"train.optimizer.lr": rate} for rate in RATES}
        for point, loss in zip(sweeps[name], curve, strict=True):
            values[point] = {BPB: loss * np.exp(rng.normal(0, noise, 8))}
    compare = {"treatment": "dense_s", "baseline": "moe_s"} if swap else {"treatment": "moe_s", "baseline": "dense_s"}
    block = claim({"kind": "plateau", "within": "2%", **test}, compare=compare, along="train.optimizer.lr")
    return judged(evidence_of(values, {"c": block}, sweeps=sweeps))


def test_octaves_of_rates_by_hand() -> None:
    share = math.log(1.02) / math.log(2)  # of an octave, from a loss of 1 towards one of 2
    verdict = flat((2.0, 1.0, 1.0, 2.0), {"at_most": 0.7})
    assert (verdict.state, verdict.n, verdict.asked) == ("supported", 8, "≤ 0.7× the octaves")
    assert verdict.estimate == pytest.approx((1 + 2 * share) / (2 + share))
    assert flat((2.0, 1.0, 1.0, 2.0), {"at_least": 0.7}).state == "refuted"


def test_a_plateau_between_two_values_is_not_resolved() -> None:
    verdict = flat((2.0, 1.0, 2.0, 2.0), {"at_most": 0.7})
    assert verdict.state == "invalid"
    assert "the plateau is 0.057 octaves wide and the values are 1 apart" in (verdict.reason or "")


def test_a_plateau_turns_with_its_models() -> None:
    one = flat((1.0, 1.0, 2.0, 2.0), {"at_most": 0.7}, noise=0.002)
    other = flat((1.0, 1.0, 2.0, 2.0), {"at_least": 1 / 0.7}, swap=True, noise=0.002)
    assert (one.state, other.state) == ("supported", "supported")
    assert one.estimate == pytest.approx(1 / (other.estimate or 0.0))


def test_a_plateau_is_a_mean_over_what_else_is_swept_and_its_best_that_of_all() -> None:
    lines = rows({f"{r}{b}": {"lr": r, "b": b} for b in (0.0, 0.1) for r in (1.0, 2.0, 4.0)}, "lr")
    values = np.log([[1.0, 1.0, 1.0, 1.5, 1.5, 1.5], [1.0] * 6])
    assert octaves(lines, values, within=math.log(1.01)) == pytest.approx([1, 2]), "of the first none of the other"


@pytest.mark.parametrize("ratio", [0.7, 0.85, 1.0])
@pytest.mark.parametrize("values", [5, 7])
def test_a_plateau_at_its_bound_is_passed_no_more_often_than_it_may(values: int, ratio: float) -> None:
    """Two parabolas, of which one is as wide as the ratio says, with the noise of losses at nano size."""
    rng, trials, n = np.random.default_rng(values), 1500, 8
    x = np.arange(values) - (values - 1) / 2
    lines = rows({str(r): {"lr": 2.0**r} for r in x}, "lr")
    curves = np.concatenate([0.01 * (x / ratio) ** 2, 0.01 * x**2])
    form = wider([lines, lines], within=0.02, sign=-1, better=-1)
    effects = form(curves + rng.normal(0, 0.004, (trials * n, 2 * values)))
    for share in shares(effects.reshape(trials, n), float(np.mean(effects))):
        assert share <= at_most(0.025, trials)


def test_a_narrower_plateau_is_found() -> None:
    rng, x = np.random.default_rng(3), np.arange(5.0) - 2
    lines = rows({str(r): {"lr": 2.0**r} for r in x}, "lr")
    curves = np.concatenate([0.01 * (x / 0.5) ** 2, 0.01 * x**2])
    effects = wider([lines, lines], within=0.02, sign=-1, better=-1)(curves + rng.normal(0, 0.004, (4000, 10)))
    assert shares(effects.reshape(500, 8), -math.log(0.7))[0] >= 0.9


# ---------------------------------------------------------------------------------------------- predicts

GRID = [(experts, width) for experts in (1.0, 4.0, 16.0) for width in (1.0, 2.0, 3.0)]
SIZES = [(int(1e5 * width**2 * experts**0.9), int(1e5 * width**2 * experts**0.02)) for experts, width in GRID]


def predicted(total: float, active: float, *, swap: bool = False, noise: float = 0.004) -> Verdict:
    """Losses that fall with total and active parameters by these powers, over a grid of experts and widths."""
    rng = np.random.default_rng(8)
    points = {f"g_{e:g}_{w:g}": {"ffn.experts": e, "width": w} for e, w in GRID}
    values = {
        name: {BPB: 2 * (t / 1e5) ** -total * (a / 1e5) ** -active * np.exp(rng.normal(0, noise, 8))}
        for name, (t, a) in zip(points, SIZES, strict=True)
    }
    by = ["cost.total_params", "cost.active_params"]
    block = claim({"kind": "predicts", "by": by[::-1] if swap else by}, over="g", along="ffn.experts")
    sizes = dict(zip(points, SIZES, strict=True))
    return judged(evidence_of(values, {"c": block}, sweeps={"g": points}, params=sizes))


@pytest.mark.parametrize("swap", [False, True])
def test_two_counts_predict_what_rests_on_both(swap: bool) -> None:
    assert predicted(0.05, 0.08, swap=swap).state == "supported"
    for alone in ((0.1, 0.0), (0.0, 0.1)):  # the other count adds noise to what is predicted, and no more
        assert predicted(*alone, swap=swap).state in ("refuted", "inconclusive")


def test_counts_that_go_together_tell_no_line() -> None:
    y, one = np.zeros(9), np.log(np.arange(1.0, 10.0))
    with pytest.raises(ValueError, match="tell no line"):
        log_error_ratio([1, 1, 1, 2, 2, 2, 3, 3, 3], 0)(np.concatenate([y, one, 2 * one])[None])


def test_what_rests_on_one_count_is_not_said_to_rest_on_both() -> None:
    """Leaving out groups punishes a count that adds nothing: the mean of the effect lies below 0."""
    rng = np.random.default_rng(5)
    t, a = np.log(np.array(SIZES, dtype=float)).T
    groups = [experts for experts, _ in GRID]
    for truth, alone in ((t, 0), (a, 1)):
        y = -0.05 * truth + rng.normal(0, 0.004, (8000, 9))
        rows = np.concatenate([y, np.broadcast_to(t, y.shape), np.broadcast_to(a, y.shape)], axis=1)
        above, _ = shares(log_error_ratio(groups, alone)(rows).reshape(1000, 8), 0.0)
        assert above <= at_most(0.025, 1000)


# ---------------------------------------------------------------------------------------------- overtaking


def overtaken(at: Sequence[float], test: dict[str, Any], *, swap: bool = False, **other: Any) -> Verdict:
    """Curves that cross where a share of the budget, on a log scale, is spent; beyond 1 they do not."""
    logs = np.log(np.array(POINTS) / POINTS[-1])
    dense = [list(2 - 0.3 * logs) for _ in at]
    moe = [list(2 - 0.3 * logs - 0.1 * (logs - math.log(share))) for share in at]
    compare = {"treatment": "dense", "baseline": "moe"} if swap else {"treatment": "moe", "baseline": "dense"}
    block = claim({"kind": "tokens_to_overtake", **test}, "curve.bits_per_byte", compare=compare)
    return judged(evidence_of({}, {"c": block}, curves={"moe": moe, "dense": dense}, **other))


EIGHTHS = [0.3 * math.exp(0.05 * k) for k in range(8)]


def test_the_share_of_the_budget_after_which_a_curve_stays_below() -> None:
    verdict = overtaken(EIGHTHS, {"at_most": "50%"})
    assert (verdict.state, verdict.n) == ("supported", 8)
    assert verdict.estimate == pytest.approx(0.3 * math.exp(0.05 * 3.5))
    assert (verdict.unit, verdict.asked) == ("of the budget", "≤ 50% of the budget")
    assert verdict.effect.startswith("0.3")
    assert UNDECAYED in verdict.caveats
    assert overtaken(EIGHTHS, {"at_least": "50%"}).state == "refuted"
    assert overtaken(EIGHTHS, {"at_least": "25%"}).state == "supported"
    assert overtaken(EIGHTHS, {"at_most": "35%"}).state == "inconclusive"


def test_overtaking_before_the_first_point_or_never_is_censored_and_not_left_out() -> None:
    early = overtaken([0.01] * 8, {"at_most": "30%"})
    assert (early.state, early.n) == ("supported", 8)
    assert overtaken([0.01] * 8, {"at_most": "10%"}).state != "refuted"
    assert overtaken([0.01] * 8, {"at_least": "10%"}).state == "inconclusive", "how much earlier is not known"
    never = overtaken([1.5] * 8, {"at_most": "50%"})
    assert never.state == "refuted"
    assert "high" in never.unbounded
    assert overtaken([1.5] * 8, {"at_least": "90%"}).state == "supported"
    mixed = overtaken([0.3] * 7 + [1.5], {"at_most": "50%"})
    assert (mixed.state, mixed.n) == ("inconclusive", 8)


def test_who_is_overtaken_never_overtakes() -> None:
    assert overtaken(EIGHTHS, {"at_most": "50%"}, swap=True).state == "refuted"


def test_a_diverged_treatment_does_not_overtake() -> None:
    whole = overtaken(EIGHTHS, {"at_most": "50%"})
    broken = overtaken(EIGHTHS, {"at_most": "50%"}, diverged={("moe", 0)})
    assert whole.p is not None
    assert broken.p is not None
    assert broken.p > whole.p


def test_decayed_points_are_read_where_there_are_some() -> None:
    logs = np.log(np.array(POINTS) / POINTS[-1])
    block = claim({"kind": "tokens_to_overtake", "at_most": "50%"}, "curve.bits_per_byte")
    curves = {"moe": [list(2.5 - 0.3 * logs)] * 8, "dense": [list(2 - 0.3 * logs)] * 8}
    evidence = evidence_of({}, {"c": block}, curves=curves)
    assert judged(evidence).state == "refuted"
    for model in ("moe", "dense"):
        evidence = with_recipe(evidence, model, decay="wsd", cooldown=0.2, branches=POINTS[:-1])
    for model in ("moe", "dense"):
        for seed in range(8):
            slope = 0.4 if model == "moe" else 0.3
            decayed = 2 - slope * (logs - math.log(0.3 + 0.01 * seed))
            rows = {
                "decayed.bits_per_byte": tuple(zip(POINTS, map(float, decayed), strict=True)),
                "decayed.tokens": tuple((step, step * 4096.0) for step in POINTS),
            }
            evidence = with_outcome(evidence, model, seed, curves=rows)
    verdict = judged(evidence)
    assert (verdict.state, verdict.estimate) == ("supported", pytest.approx(0.335, abs=0.01))
    assert UNDECAYED not in verdict.caveats
    assert "read from decayed.bits_per_byte, over seeds alone" in verdict.notes

    (lost,) = [run for run in evidence.outcomes if (run.model, run.seed) == ("dense", 3)]
    short = {name: tuple(point for point in rows if point[0] != POINTS[1]) for name, rows in lost.curves.items()}
    beside = judged(with_outcome(evidence, "dense", 3, curves=short))
    assert "read from decayed.bits_per_byte, over seeds alone" in beside.notes, "the plan decides, not what came out"
    assert (beside.state, beside.n) == ("supported", 8)
    assert beside.high > verdict.high, "with seed 3 it lies anywhere up to the next budget"


def test_overtaking_at_its_bound_is_passed_no_more_often_than_it_may_and_found_where_it_is() -> None:
    rng, trials = np.random.default_rng(8), 150
    shift = rng.normal(0, 0.2, (trials, 8))
    states = [overtaken(0.5 * np.exp(row), {"at_most": "50%"}).state for row in shift]
    assert max(states.count("supported"), states.count("refuted")) / trials <= at_most(0.025, trials)
    there = [overtaken(0.35 * np.exp(row), {"at_most": "50%"}).state for row in shift[:40]]
    assert there.count("supported") >= 32


# ---------------------------------------------------------------------------------------------- spreads


def pairs(rng: np.random.Generator, n: int, ratio: float, rho: float = 0.3) -> np.ndarray:
    z = rng.normal(size=(n, 2))
    z[:, 1] = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    return z * np.array([ratio, 1.0])


def scattered(x: np.ndarray, test: dict[str, Any], *, swap: bool = False, **other: Any) -> Verdict:
    compare = {"treatment": "dense", "baseline": "moe"} if swap else {"treatment": "moe", "baseline": "dense"}
    block = claim({"kind": "spread_ratio", **test}, compare=compare)
    values = {"moe": {BPB: 2 + x[:, 0] / 100}, "dense": {BPB: 3 + x[:, 1] / 100}}
    return judged(evidence_of(values, {"c": block}, **other))


def test_a_ratio_of_spreads_that_is_there() -> None:
    x = pairs(np.random.default_rng(0), 16, 4.0)
    verdict = scattered(x, {"at_least": 1.5})
    assert (verdict.state, verdict.n) == ("supported", 16)
    one, other = np.std(x, axis=0, ddof=1)
    assert verdict.estimate == pytest.approx(one / other)
    assert verdict.low is not None
    assert verdict.low > 1.5
    assert (verdict.asked, verdict.item_low) == ("≥ 1.5× the SD over seeds", None)
    assert "all 2^16 swaps" in verdict.method
    assert any("no sum over documents" in note for note in verdict.notes)
    assert scattered(x, {"at_most": 1.5}).state == "refuted"


def test_a_ratio_of_spreads_turns_with_its_sides() -> None:
    x = pairs(np.random.default_rng(1), 12, 3.0)
    one, other = scattered(x, {"at_least": 1.25}), scattered(x, {"at_most": 0.8}, swap=True)
    assert (one.state, one.p, one.p_against) == (other.state, pytest.approx(other.p), pytest.approx(other.p_against))
    assert one.estimate == pytest.approx(1 / (other.estimate or 1))
    assert one.low == pytest.approx(1 / (other.high or 1))


def test_equal_spreads_are_not_told_apart_and_what_it_takes_is_said() -> None:
    verdict = scattered(pairs(np.random.default_rng(4), 16, 1.3), {"at_least": 1.0})
    assert verdict.state == "inconclusive"
    assert verdict.needs is not None
    assert "smallest detectable ratio of spreads a factor of" in verdict.needs
    assert verdict.units_needed is None or verdict.units_needed > 16


def test_a_spread_that_is_none_and_a_run_that_diverged() -> None:
    x = pairs(np.random.default_rng(0), 8, 4.0)
    flat = scattered(x * np.array([1.0, 0.0]), {"at_least": 1.5})
    assert flat.state == "invalid"
    assert "of dense is the same with every seed" in flat.reason
    assert scattered(x, {"at_least": 1.5}, diverged={("moe", 0)}).state == "inconclusive"


def test_the_interval_of_a_ratio_of_spreads_is_what_its_test_does_not_reject() -> None:
    own = SpreadRatio(pairs=pairs(np.random.default_rng(2), 10, 2.0))
    ends = own.interval(0.95)
    assert own.p_above(ends.low - 1e-6) <= 0.025 < own.p_above(ends.low + 1e-6)
    assert own.p_below(ends.high + 1e-6) <= 0.025 < own.p_below(ends.high - 1e-6)


def test_swaps_by_hand() -> None:
    """Two of the eight swaps of three pairs leave the first spread as large."""
    own = SpreadRatio(pairs=np.array([[-3.0, -1.0], [0.0, 0.0], [3.0, 1.0]]))
    assert own.centre == pytest.approx(math.log(3))
    assert own.p_above(0.0) == pytest.approx(2 / 8), "the middle pair may be swapped or not"
    assert own.p_above(math.log(3)) == 1.0


LAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=(n, 2)),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=(n, 2)),
    "skewed": lambda rng, n: rng.lognormal(0, 0.5, (n, 2)),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [6, 8, 12])
def test_a_ratio_at_its_bound_is_passed_no_more_often_than_it_may(n: int, law: str) -> None:
    rng, trials = np.random.default_rng(n), 600
    bound, passed = math.log(1.5), [0, 0]
    for _ in range(trials):
        z = LAWS[law](rng, n)
        z[:, 1] = 0.3 * z[:, 0] + math.sqrt(1 - 0.3**2) * z[:, 1] if law == "normal" else z[:, 1]
        own = SpreadRatio(pairs=z * np.array([1.5, 1.0]))
        passed[0] += own.p_above(bound) <= 0.025
        passed[1] += own.p_below(bound) <= 0.025
    assert max(passed) / trials <= at_most(0.025, trials)


def test_about_48_seeds_tell_a_ratio_of_one_and_a_half() -> None:
    """And what power says of it is what happens, within what swaps about medians lose."""
    rng = np.random.default_rng(7)
    share = np.mean([SpreadRatio(pairs=pairs(rng, 48, 1.5)).p_above(0.0) <= 0.025 for _ in range(40)])
    said = spread.power(48, math.log(1.5), 0.3, 0.025)
    assert 0.74 <= said <= 0.84
    assert abs(share - said) <= 3 * math.sqrt(0.2 * 0.8 / 40)


@pytest.mark.parametrize(("ratio", "rho"), [(2.0, 0.3), (3.0, 0.6)])
def test_the_seeds_that_are_said_to_be_needed_decide(ratio: float, rho: float) -> None:
    n = stats.smallest(lambda n: spread.power(n, math.log(ratio), rho, 0.025))
    assert n is not None
    rng = np.random.default_rng(n)
    trials = 300 if n <= spread.EVERY else 60
    share = np.mean([SpreadRatio(pairs=pairs(rng, n, ratio, rho)).p_above(0.0) <= 0.025 for _ in range(trials)])
    assert 0.7 - 2 * math.sqrt(0.16 / trials) <= share <= 0.9 + 2 * math.sqrt(0.16 / trials)


# ---------------------------------------------------------------------------------------------- what does not fit

PAIR = "compare: {treatment: moe, baseline: dense}"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("{over: moe_swep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: turns}}", "did you mean"),
        ("{over: moe_sweep, metric: test.bits_per_byte, test: {kind: turns}}", "a turns test needs 'along'"),
        (
            "{over: moe_sweep, metric: test.bits_per_byte, against: cost.total_param, "
            "test: {kind: correlates, at_most: 0.5}}",
            "did you mean 'cost.total_params'",
        ),
        (
            "{over: moe_sweep, metric: cost.total_params, against: cost.active_params, "
            "test: {kind: correlates, at_most: 0.5}}",
            "cost.total_params has no value for each seed",
        ),
        (
            "{over: moe_sweep, metric: test.bits_per_byte, against: cost.total_params, test: {kind: correlates}}",
            "give one of at_least and at_most, a correlation",
        ),
        (
            "{over: moe_sweep, metric: test.bits_per_byte, against: speed.train_step_s, "
            "test: {kind: correlates, at_most: 0.5}}",
            "speed.train_step_s is neither a count nor",
        ),
        (
            f"{{{PAIR}, metric: speed.train_step_s, test: {{kind: spread_ratio, at_least: 2}}}}",
            "has no value for each seed",
        ),
        (f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: spread_ratio}}}}", "give one of at_least and at_most"),
        (
            f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: tokens_to_overtake, at_most: 50%}}}}",
            "write curve.bits_per_byte",
        ),
        (
            f"{{{PAIR}, metric: curve.bits_per_byte, test: {{kind: tokens_to_overtake, at_most: 5}}}}",
            "5 is no share of a budget",
        ),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, claim: str, message: str) -> None:
    assert message in messages(tmp_path, KINDS_SUITE.partition("claims:")[0] + f"claims:\n  c: {claim}\n")
