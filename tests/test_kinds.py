"""What each kind of claim makes of numbers known by hand, told before the run as it is judged after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from moebench import api
from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.kinds import KINDS
from moebench.claims.samples import Sample
from moebench.claims.verdict import Verdict
from moebench.cli.console.plan import plan_json, plan_text
from moebench.counting.weights import ParameterCount
from moebench.format import NBSP
from moebench.planning.published import PlannedSystem
from moebench.planning.understood import understood
from moebench.suite.load import load_suite
from tests.support.builders import BPB, TWIN, claim, decided_of, evidence_of, hypothesis_of, judged, lower_by, pair
from tests.support.suite_texts import KINDS as KINDS_SUITE
from tests.test_feasibility import GOOD

EIGHT = np.arange(1.0, 9.0) / 100
"""Mean 0.045. The 6th of the 256 subset means, 2.5% of them, are (1 + 2 + 4) / 3 and (8 + 7 + 5) / 3 hundredths."""


LOW, HIGH = 0.07 / 3, 0.20 / 3


# ---------------------------------------------------------------------------------------------- superior


def test_superior_by_hand() -> None:
    verdict = lower_by(EIGHT, {"kind": "superior", "margin": 0.02})
    assert verdict.state == "supported"
    assert (verdict.estimate, verdict.unit, verdict.n, verdict.units) == (
        pytest.approx(-0.045),
        "bits/byte",
        8,
        "seeds",
    )
    assert (verdict.low, verdict.high) == (pytest.approx(-HIGH, abs=1e-6), pytest.approx(-LOW, abs=1e-6))
    assert verdict.p == pytest.approx(6 / 256), "6 of 256 flips"
    assert verdict.asked == "≥ 0.02 bits/byte lower"
    assert (verdict.asked_low, verdict.asked_high) == (None, pytest.approx(-0.02))


@pytest.mark.parametrize(
    ("margin", "state"),
    [(0.0, "supported"), (0.02, "supported"), (0.03, "inconclusive"), (0.06, "inconclusive"), (0.07, "refuted")],
)
def test_superior_follows_the_interval(margin: float, state: str) -> None:
    assert lower_by(EIGHT, {"kind": "superior", "margin": margin}).state == state


def test_superior_refutes_what_points_the_other_way() -> None:
    verdict = lower_by(-EIGHT, {"kind": "superior", "margin": 0.0})
    assert verdict.state == "refuted"
    assert verdict.p_against == 2**-8
    assert verdict.p == 1.0


def test_relative_margin_is_read_as_printed() -> None:
    """2% lower is a ratio of 0.98, interval and margin on the same printed scale."""
    moe = [2 * math.exp(-gain) for gain in EIGHT]
    verdict = judged(pair(moe, [2.0] * 8, {"kind": "superior", "margin": "2%"}))
    assert verdict.state == "supported"
    assert verdict.unit == "%"
    assert verdict.estimate == pytest.approx(100 * math.expm1(-0.045))
    assert verdict.low == pytest.approx(100 * math.expm1(-HIGH), abs=1e-4)
    assert verdict.high == pytest.approx(100 * math.expm1(-LOW), abs=1e-4)
    assert verdict.asked_high == pytest.approx(-2.0)
    assert verdict.effect.replace(NBSP, " ") == "−4.4% [−6.4, −2.3]"
    over = judged(pair(moe, [2.0] * 8, {"kind": "superior", "margin": "2.32%"}))
    assert over.state == "inconclusive"


def test_higher_is_better_turns_the_sign() -> None:
    metric = "routing.entropy"
    values = {"moe": {metric: 0.5 + EIGHT}, "dense": {metric: [0.5] * 8}}
    up = judged(evidence_of(values, {"c": claim({"kind": "superior", "margin": 0.02}, metric)}))
    assert (up.state, up.estimate, up.asked) == ("supported", pytest.approx(0.045), "≥ 0.02 higher")
    assert (up.asked_low, up.asked_high) == (pytest.approx(0.02), None)
    down = {"moe": values["dense"], "dense": values["moe"]}
    assert judged(evidence_of(down, {"c": claim({"kind": "superior", "margin": 0.0}, metric)})).state == "refuted"
    worse = judged(evidence_of(down, {"c": claim({"kind": "non_inferior", "margin": "1%"}, metric)}))
    assert (worse.state, worse.asked) == ("refuted", "≤ 1% lower")


# ---------------------------------------------------------------------------------------------- other kinds


@pytest.mark.parametrize(("margin", "state"), [(0.07, "supported"), (0.05, "inconclusive"), (0.02, "refuted")])
def test_non_inferior_by_hand(margin: float, state: str) -> None:
    verdict = lower_by(-EIGHT, {"kind": "non_inferior", "margin": margin})
    assert verdict.state == state
    assert verdict.estimate == pytest.approx(0.045)
    assert verdict.asked_high == pytest.approx(margin)


def test_equivalent_uses_the_90_percent_interval() -> None:
    # The 12th of the 256 subset means, 5% of them, is 2.75 or 6.25 hundredths; the 6th is 2.33 or 6.67.
    verdict = lower_by(EIGHT, {"kind": "equivalent", "margin": 0.063})
    assert verdict.state == "supported"
    assert verdict.low90 == pytest.approx(-0.0625)
    assert verdict.high is not None
    assert -verdict.high < 0.063 < -verdict.low, "the 95% interval reaches beyond the margin"
    assert lower_by(EIGHT, {"kind": "equivalent", "margin": 0.061}).state == "inconclusive"
    assert lower_by(EIGHT, {"kind": "equivalent", "margin": 0.02}).state == "refuted"
    assert lower_by(-EIGHT, {"kind": "equivalent", "margin": 0.02}).state == "refuted"


def test_no_difference_found_is_not_equality() -> None:
    noise = [0.05, -0.05, 0.04, -0.04, 0.03, -0.03, 0.02, -0.02]
    assert lower_by(noise, {"kind": "superior", "margin": 0.0}).state == "inconclusive"
    assert lower_by(noise, {"kind": "equivalent", "margin": 0.01}).state == "inconclusive"
    assert lower_by(noise, {"kind": "equivalent", "margin": 0.05}).state == "supported"


@pytest.mark.parametrize(("value", "state"), [(1.02, "supported"), (1.045, "inconclusive"), (1.08, "refuted")])
def test_ratio_at_least_is_baseline_over_treatment_when_lower_is_better(value: float, state: str) -> None:
    moe = [2 * math.exp(-gain) for gain in EIGHT]
    verdict = judged(pair(moe, [2.0] * 8, {"kind": "ratio_at_least", "value": value}))
    assert verdict.state == state
    assert verdict.estimate == pytest.approx(math.exp(0.045))
    assert (verdict.low, verdict.high) == (
        pytest.approx(math.exp(LOW), abs=1e-6),
        pytest.approx(math.exp(HIGH), abs=1e-6),
    )
    assert verdict.effect.replace(NBSP, " ") == "1.046× [1.024, 1.069]"
    assert verdict.asked == f"≥ {value:g}×"


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(0.93, 0.98, "supported"), (0.95, 1.0, "inconclusive"), (1.0, 1.1, "refuted"), (0.8, 0.9, "refuted")],
)
def test_ratio_within_is_treatment_over_baseline(low: float, high: float, state: str) -> None:
    moe = [2 * math.exp(-gain) for gain in EIGHT]
    verdict = judged(pair(moe, [2.0] * 8, {"kind": "ratio_within", "low": low, "high": high}))
    assert verdict.state == state
    assert verdict.estimate == pytest.approx(math.exp(-0.045))
    assert (verdict.asked_low, verdict.asked_high) == (pytest.approx(low), pytest.approx(high))


def recovering(share: float, *, ceiling_gain: float = 0.2, asked: float = 0.5) -> Verdict:
    shifts = (EIGHT - 0.045) / 10
    values = {
        "moe": {BPB: 2.2 - share * ceiling_gain + shifts},
        "big": {BPB: [2.2 - ceiling_gain] * 8},
        "dense": {BPB: [2.2] * 8},
    }
    block = claim({"kind": "recovers", "value": asked}, compare={**TWIN, "ceiling": "big"})
    return judged(evidence_of(values, {"c": block}))


@pytest.mark.parametrize(("share", "state"), [(0.7, "supported"), (0.5, "inconclusive"), (0.3, "refuted")])
def test_recovers_by_hand(share: float, state: str) -> None:
    verdict = recovering(share)
    assert verdict.state == state
    # (A - M) - f (A - T) = 0.2 share - 0.5 * 0.2
    assert verdict.estimate == pytest.approx(0.2 * share - 0.1)
    assert (verdict.unit, verdict.units) == ("bits/byte", "seeds")
    assert any(f"recovers {100 * share:.1f}%" in note for note in verdict.notes)


def test_recovers_needs_a_gain_to_recover() -> None:
    verdict = recovering(-2.0, ceiling_gain=-0.1)
    assert verdict.state == "inconclusive"
    assert "not shown to be above 0" in verdict.reason
    assert any("no share" in note for note in verdict.notes)


def test_recovered_share_agrees_with_the_contrast() -> None:
    """A share is supported just when its Fieller interval lies above it: both are the same test."""
    verdict = recovering(0.5, asked=0.5)
    (note,) = [note for note in verdict.notes if note.startswith("recovers")]
    low, high = (float(end) for end in note.split("[")[1].split("]")[0].split(","))
    assert recovering(0.5, asked=(low - 0.2) / 100).state == "supported"
    assert recovering(0.5, asked=(high + 0.2) / 100).state == "refuted"


def swept(slopes: Sequence[float], sign: str) -> Verdict:
    names = {"moe_s2": 2.0, "moe_s4": 4.0, "moe_s16": 16.0}
    values = {name: {BPB: [2.0 + slope * math.log2(x) for slope in slopes]} for name, x in names.items()}
    block = claim({"kind": "trend", "sign": sign}, over="moe_s", along="ffn.experts")
    sweeps = {"moe_s": {name: {"ffn.experts": x} for name, x in names.items()}}
    return judged(evidence_of(values, {"c": block}, sweeps=sweeps))


def test_trend_is_the_slope_per_doubling() -> None:
    verdict = swept(-EIGHT, "falling")
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(-0.045)
    assert (verdict.low, verdict.high) == (pytest.approx(-HIGH, abs=1e-6), pytest.approx(-LOW, abs=1e-6))
    assert verdict.unit == "bits/byte per doubling of ffn.experts"
    assert swept(-EIGHT, "rising").state == "refuted"
    assert swept(EIGHT - 0.045, "rising").state == "inconclusive"


def test_trend_within_each_combination_of_other_keys() -> None:
    points = {f"moe_{e}_{k}": {"ffn.experts": float(e), "ffn.top_k": float(k)} for e in (4, 8) for k in (1, 2)}
    values = {n: {BPB: 2 - EIGHT * math.log2(p["ffn.experts"]) - 5 * p["ffn.top_k"]} for n, p in points.items()}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe", along="ffn.experts")
    assert judged(evidence_of(values, {"c": block}, sweeps={"moe": points})).estimate == pytest.approx(-0.045)


def test_interaction_is_a_difference_of_gains() -> None:
    code, prose = f"{BPB}[domain=code]", f"{BPB}[domain=prose]"
    values = {
        "moe": {code: 2 - EIGHT - 0.1, prose: [2 - 0.1] * 8},
        "dense": {code: [2.0] * 8, prose: [2.0] * 8},
    }
    block = claim({"kind": "interaction", "margin": 0.02}, code, minus=prose)
    verdict = judged(evidence_of(values, {"c": block}))
    assert (verdict.state, verdict.estimate) == ("supported", pytest.approx(-0.045))
    turned = claim({"kind": "interaction"}, prose, minus=code)
    assert judged(evidence_of(values, {"c": turned})).state == "refuted"


PAIRS = {"compare": {"treatment": "moe", "baseline": "dense"}, "minus": {"treatment": "moe_b", "baseline": "dense_b"}}


def two_gains(**other: list[float]) -> dict[str, dict[str, Any]]:
    """A gain of `EIGHT` and 0.1 more in one pair, and of 0.1 in another of twice the loss."""
    columns = {"moe": 2 - EIGHT - 0.1, "dense": [2.0] * 8, "moe_b": [4 - 0.1] * 8, "dense_b": [4.0] * 8, **other}
    return {name: {BPB: column} for name, column in columns.items()}


def test_interaction_of_two_pairs_is_a_difference_of_their_gains() -> None:
    block = claim({"kind": "interaction", "margin": 0.02}, **PAIRS)
    verdict = judged(evidence_of(two_gains(), {"c": block}))
    assert (verdict.state, verdict.n) == ("supported", 8)
    assert verdict.estimate == pytest.approx(-0.045)
    assert (verdict.low, verdict.high) == (pytest.approx(-HIGH, abs=1e-6), pytest.approx(-LOW, abs=1e-6))
    assert verdict.asked == "≥ 0.02 bits/byte lower than moe_b over dense_b"
    turned = {"compare": PAIRS["minus"], "minus": PAIRS["compare"]}
    assert judged(evidence_of(two_gains(), {"c": claim({"kind": "interaction"}, **turned)})).state == "refuted"


def test_interaction_of_two_pairs_in_percent_is_a_ratio_of_their_ratios() -> None:
    values = two_gains(moe=[1.8] * 7 + [1.8001], moe_b=[3.8] * 8)
    verdict = judged(evidence_of(values, {"c": claim({"kind": "interaction", "margin": "4%"}, **PAIRS)}))
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(100 * (0.9 / 0.95 - 1), abs=1e-2)


def test_a_model_in_both_pairs_is_held_once() -> None:
    block = claim({"kind": "interaction"}, compare=PAIRS["compare"], minus={"treatment": "moe_b", "baseline": "dense"})
    verdict = judged(evidence_of(two_gains(), {"c": block}))
    assert verdict.estimate == pytest.approx(-(0.045 + 0.1 + 1.9)), "moe_b - moe: of dense nothing is left"


@pytest.mark.parametrize("model", ["moe", "dense", "moe_b", "dense_b"])
def test_a_run_that_diverged_in_either_pair_never_speaks_for_the_claim(model: str) -> None:
    block = claim({"kind": "interaction"}, **PAIRS)
    whole = judged(evidence_of(two_gains(), {"c": block}))
    verdict = judged(evidence_of(two_gains(), {"c": block}, diverged={(model, 0)}))
    assert whole.state == "supported"
    assert verdict.p > whole.p


def test_tokens_are_identical_within_each_of_two_pairs() -> None:
    evidence = evidence_of(two_gains(), {"c": claim({"kind": "interaction"}, **PAIRS)})

    def with_other_tokens(*models: str) -> Verdict:
        outcomes = tuple(
            replace(o, digests=dict.fromkeys(o.digests, "other")) if o.model in models else o for o in evidence.outcomes
        )
        return judged(replace(evidence, outcomes=outcomes))

    assert with_other_tokens("moe_b", "dense_b").state == "supported"
    broken = with_other_tokens("moe_b")
    assert broken.state == "invalid"
    assert "moe_b and dense_b with seed 0 did not see the same tokens" in broken.reason


def test_interaction_of_different_units_needs_a_relative_margin() -> None:
    values = {name: {BPB: [2.0] * 8, "routing.entropy": [0.5] * 8} for name in ("moe", "dense")}
    verdict = judged(evidence_of(values, {"c": claim({"kind": "interaction"}, BPB, minus="routing.entropy")}))
    assert verdict.state == "invalid"
    assert "different units" in verdict.reason


# ---------------------------------------------------------------------------------------------- counts


SIZES = {"moe": (300_000, 110_000), "dense": (110_000, 110_000), "big": (300_000, 300_000)}


@pytest.mark.parametrize(
    ("test", "metric", "state"),
    [
        ({"kind": "superior"}, "cost.active_params", "refuted"),
        ({"kind": "superior"}, "cost.total_params", "refuted"),
        ({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", "supported"),
        ({"kind": "equivalent", "margin": "0%"}, "cost.active_params", "supported"),
        ({"kind": "equivalent", "margin": "1%"}, "cost.total_params", "refuted"),
        ({"kind": "ratio_at_least", "value": 1.0}, "cost.active_params", "supported"),
        ({"kind": "ratio_within", "low": 2.5, "high": 3.0}, "cost.total_params", "supported"),
        ({"kind": "ratio_within", "low": 0.9, "high": 1.1}, "cost.total_params", "refuted"),
    ],
)
def test_counts_compare_exactly(test: dict[str, Any], metric: str, state: str) -> None:
    verdict = judged(evidence_of({"moe": {}, "dense": {}}, {"c": claim(test, metric)}, params=SIZES))
    assert (verdict.state, verdict.n, verdict.units, verdict.p) == (state, 1, "counts", None)
    assert verdict.estimate == verdict.low == verdict.high
    assert "the same on any hardware" in verdict.scope


@pytest.mark.parametrize(
    ("value", "tolerance", "state"),
    [
        (300_000, "0%", "supported"),
        (299_999, "0%", "refuted"),
        (301_000, "0.5%", "supported"),
        (310_000, 9_999, "refuted"),
    ],
)
def test_exact(value: float, tolerance: Any, state: str) -> None:
    block = claim({"kind": "exact", "value": value, "tolerance": tolerance}, "cost.total_params", model="moe")
    verdict = judged(evidence_of({"moe": {}, "dense": {}}, {"c": block}, params=SIZES))
    assert (verdict.state, verdict.estimate) == (state, 300_000)


def test_exact_of_a_published_system() -> None:
    block = claim({"kind": "exact", "value": 12.9e9, "tolerance": "0.5%"}, "cost.active_params", model="mixtral-8x7b")
    evidence = evidence_of({"moe": {}, "dense": {}}, {"c": block})
    counted = ParameterCount(
        total=46_702_792_704,
        active=12_879_925_248,
        total_no_embedding=46_440_648_704,
        active_no_embedding=12_617_781_248,
    )
    plan = evidence.plan.model_copy(update={"systems": {"mixtral-8x7b": PlannedSystem.model_validate(counted)}})
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan})))
    assert (verdict.state, verdict.estimate) == ("supported", 12_879_925_248)
    assert verdict.scope == "mixtral-8x7b, counted from the published architecture"
    assert verdict.asked == "= 12,900,000,000 ± 0.5%"
    verdict = judged(evidence)
    assert verdict.state == "not_tested"
    assert "mixtral-8x7b" in verdict.reason


def test_exact_of_a_seeded_count_holds_in_every_run() -> None:
    block = {"c": claim({"kind": "exact", "value": 0}, "routing.dead_experts", model="moe")}
    assert judged(evidence_of({"moe": {"routing.dead_experts": [0] * 3}}, block)).state == "supported"
    assert judged(evidence_of({"moe": {"routing.dead_experts": [0, 1, 0]}}, block)).state == "refuted"


def test_a_time_is_never_exact() -> None:
    block = {"c": claim({"kind": "exact", "value": 1}, "speed.train_step_s", model="moe")}
    assert judged(evidence_of({"moe": {BPB: [2.0]}}, block)).state == "invalid"


# ----------------------------------------------------------------------------------------------------
# Claims about what it takes to reach a quality.


def falling(final: float, start: float = 3.0) -> list[float]:
    """Bits per byte at the five evaluation points, linear in the log of the step, from `start` to `final`."""
    logs = np.log(np.array([50, 100, 150, 200, 250]) / 50) / math.log(5)
    return list(start + (final - start) * logs)


def to_quality(moe: Sequence[float], dense: Sequence[float], **other: Any) -> Verdict:
    test = other.pop("test", {"kind": "ratio_at_least", "value": 1.2})
    metric, reach = other.pop("metric", "flops_to_quality"), other.pop("reach", "dense")
    block = claim(test, metric, target={"reach": reach})
    curves = {"moe": [falling(f) for f in moe], "dense": [falling(f) for f in dense]}
    curves |= {"big": [falling(f) for f in other.pop("big")]} if "big" in other else {}
    return judged(evidence_of({}, {"c": block}, curves=curves, **other))


def test_flops_to_the_baselines_final_quality_by_hand() -> None:
    # The MoE falls twice as fast in log steps: it is at the dense model's final 2.0 after 50 * sqrt(5) steps.
    verdict = to_quality([1.0] * 8, [2.0] * 8)
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(math.sqrt(5))
    assert any("undecayed curve" in note for note in verdict.notes)
    dearer = to_quality([1.0] * 8, [2.0] * 8, params={"moe": (300_000, 220_000), "dense": (110_000, 110_000)})
    assert dearer.estimate == pytest.approx(math.sqrt(5) / 2)
    assert to_quality([1.0] * 8, [2.0] * 8, test={"kind": "ratio_at_least", "value": 2.5}).state == "refuted"
    assert to_quality([1.0] * 8, [2.0] * 8, metric="tokens_to_quality").estimate == pytest.approx(math.sqrt(5))


def test_the_target_is_the_baselines_own_final_value_of_each_seed() -> None:
    dense = [2.0 + 0.01 * s for s in range(8)]
    assert to_quality(dense, dense).estimate == pytest.approx(1.0), "no pair is censored by the other seeds' luck"


def test_a_fixed_target_and_another_models_mean() -> None:
    assert to_quality([1.0] * 8, [2.0] * 8, reach=2.0).estimate == pytest.approx(math.sqrt(5))
    mean = to_quality([1.9, 2.1] * 4, [1.5] * 8, reach="big", big=[2.0] * 8)
    assert any("mean final quality of big, 2 bits/byte" in note for note in mean.notes)


def test_the_treatment_may_set_the_target_seed_by_seed() -> None:
    """The dense model falls short with all it spends: a ratio of at least what it spent, without an upper end."""
    verdict = to_quality([1.0] * 8, [2.0] * 8, reach="moe", test={"kind": "ratio_at_least", "value": 1.0})
    assert verdict.state == "supported"
    assert (verdict.estimate, verdict.low, verdict.unbounded) == (None, pytest.approx(1.0), ("estimate", "high"))
    more = to_quality([1.0] * 8, [2.0] * 8, reach="moe", test={"kind": "ratio_at_least", "value": 1.2})
    assert more.state == "inconclusive", "a budget of 1.0x shows no 1.2x"
    assert more.needs is not None
    assert "longer budget" in more.needs
    moe = [1.0 + 0.01 * s for s in range(8)]
    both = to_quality(moe, moe, reach="moe", test={"kind": "equivalent", "margin": "1%"})
    assert (both.state, both.estimate) == ("supported", pytest.approx(0.0)), "each seed has its own target"


def test_a_model_that_never_gets_there_is_censored_not_left_out() -> None:
    verdict = to_quality([1.0] * 7 + [2.5], [2.0] * 8)
    assert verdict.n == 8
    assert verdict.state == "inconclusive"
    assert verdict.low == pytest.approx(0.0), "the ratio of the run that never got there"
    assert any("1 of 8 seeds unbounded" in note for note in verdict.notes)


def test_never_reached_by_any_is_refuted() -> None:
    verdict = to_quality([2.5] * 8, [2.0] * 8)
    assert verdict.state == "refuted"
    assert (verdict.estimate, verdict.high) == (0.0, pytest.approx(1.0)), "it spent as much and is not there"


def test_no_finished_run_sets_the_target() -> None:
    verdict = to_quality([1.0] * 8, [2.0] * 8, missing=[("dense", s) for s in range(8)])
    assert verdict.state == "not_tested"


def test_seconds_add_the_variance_of_step_times() -> None:
    rng = np.random.default_rng(0)
    finals = 1.0 + rng.normal(0, 0.02, 8)
    step = {"moe": 0.02 * np.exp(rng.normal(0, 0.05, 10)), "dense": np.full(10, 0.01), "dense~again": np.full(10, 0.01)}
    times = {name: {"speed.train_step_s": column} for name, column in step.items()}
    verdict = to_quality(finals, [2.0] * 8, metric="seconds_to_quality", times=times)
    steps = to_quality(finals, [2.0] * 8, metric="tokens_to_quality")
    assert verdict.estimate is not None
    assert steps.estimate is not None
    slower = math.exp(float(np.mean(np.log(step["moe"] / step["dense"]))))
    assert verdict.estimate == pytest.approx(steps.estimate / slower)
    width = [math.log(v.high / v.low) for v in (verdict, steps)]
    assert width[0] > width[1]
    assert to_quality(finals, [2.0] * 8, metric="seconds_to_quality").state == "not_tested"


def test_censoring_supports_no_more_than_nominal_when_the_truth_lies_at_the_bound() -> None:
    rng, trials = np.random.default_rng(1), 1500
    at_one = ratio_hypothesis(1.0)
    states = []
    for _ in range(trials):
        baseline, treatment = rng.normal(0, 0.3, (2, 8))
        budget = 0.15
        least = np.minimum(baseline, budget) - np.where(treatment < budget, treatment, np.inf)
        most = np.where(baseline < budget, baseline, np.inf) - np.minimum(treatment, budget)
        sample = Sample(effects=baseline - treatment, least=least, most=most, units="seeds", planned=8)
        states.append(decided_of(sample, at_one))
    assert states.count("supported") + states.count("refuted") > 0
    assert states.count("supported") <= trials * at_most(0.025, trials)
    assert states.count("refuted") <= trials * at_most(0.025, trials)


def ratio_hypothesis(ratio: float) -> Hypothesis:
    bound = math.log(ratio)
    return hypothesis_of((Bound(side="above", value=bound),), (Bound(side="below", value=bound),))


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


# ----------------------------------------------------------------------------------------------------
# Each kind of claim is told before the run as it will be judged after it.


PAIR = "compare: {treatment: moe, baseline: dense}"
SWEEP = "  sweep:\n    base: moe\n    sweep: {ffn.experts: [2, 3, 4, 6, 8, 12]}\nmeasure:\n"

WORDS: dict[str, tuple[str, str]] = {
    "superior": (
        f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: superior, margin: 0.5}}}}",
        "test.bits_per_byte: supported if moe is more than 0.5 bits/byte lower than dense; "
        "refuted if it is less than 0.5 bits/byte lower, or higher; over 8 seeds; exploratory, uncorrected",
    ),
    "superior by anything": (
        f"{{{PAIR}, metric: routing.entropy, test: {{kind: superior}}}}",
        "supported if moe is higher than small; refuted if it is equal or lower",
    ),
    "non_inferior": (
        f"{{{PAIR}, metric: 'speed.decode_step_s[batch=8]', test: {{kind: non_inferior, margin: 10%}}, "
        "family: primary}",
        "supported if moe is at most 10% higher than dense; refuted if it is more than 10% higher; "
        "over 10 processes; primary, of 2",
    ),
    "equivalent": (
        f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: equivalent, margin: 1%}}}}",
        "supported if moe and dense differ by less than 1%; refuted if they differ by more",
    ),
    "ratio_at_least": (
        f"{{{PAIR}, metric: flops_to_quality, test: {{kind: ratio_at_least, value: 1.2}}, target: {{reach: dense}}}}",
        "flops_to_quality (to the final quality of dense): supported if dense over moe is at least 1.2; "
        "refuted if it is less",
    ),
    "ratio_within": (
        f"{{{PAIR}, metric: cost.weight_bytes, test: {{kind: ratio_within, low: 0.9, high: 1.1}}}}",
        "supported if moe over dense lies between 0.9 and 1.1; refuted if it lies outside; "
        "counted, so without an interval",
    ),
    "recovers": (
        "{compare: {treatment: moe, baseline: dense, ceiling: small}, metric: test.bits_per_byte, "
        "test: {kind: recovers, value: 0.5}}",
        "supported if moe has at least 50% of the gain of small over dense; refuted if it has less",
    ),
    "trend": (
        "{over: sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: trend, sign: falling}}",
        "supported if it falls with ffn.experts, over the models of sweep; refuted if it does not; over 8 seeds",
    ),
    "turns": (
        "{over: sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: turns, margin: 0.5%}}",
        "supported if at the last ffn.experts of sweep it is more than 0.5% higher than at the best inside, and at the "
        "first it is higher than there too; refuted if at the last ffn.experts of sweep it is not more than 0.5% "
        "higher than at any point inside; over 8 seeds",
    ),
    "correlates": (
        "{over: sweep, metric: test.bits_per_byte, against: cost.total_params, "
        "test: {kind: correlates, at_most: -0.5}}",
        "supported if the rank correlation of test.bits_per_byte and cost.total_params over the models of sweep is at "
        "most -0.5; refuted if it is more; over 8 seeds",
    ),
    "spread_ratio": (
        f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: spread_ratio, at_least: 1.5}}}}",
        "supported if the SD over seeds of moe over that of dense is at least 1.5; refuted if it is less; over 8 seeds",
    ),
    "tokens_to_overtake": (
        f"{{{PAIR}, metric: curve.bits_per_byte, test: {{kind: tokens_to_overtake, at_most: 50%}}}}",
        "supported if curve.bits_per_byte of moe stays below that of dense after at most 50% of the budget; "
        "refuted if it does so later, or not; over 8 seeds",
    ),
    "interaction": (
        f"{{{PAIR}, metric: test.bits_per_byte, minus: 'test.bits_per_byte[domain=source-0]', "
        "test: {kind: interaction, margin: 0.01}}",
        "supported if moe's gain over dense exceeds by more than 0.01 bits/byte that on test.bits_per_byte"
        "[domain=source-0]",
    ),
    "pairs": (
        f"{{{PAIR}, metric: test.bits_per_byte, minus: {{treatment: small, baseline: dense}}, "
        "test: {kind: interaction, margin: 1%}}",
        "supported if moe's gain over dense exceeds by more than 1% that of small over dense; refuted if it does not",
    ),
    "exact": (
        "{model: moe, metric: cost.total_params, test: {kind: exact, value: 123456, tolerance: 1%}}",
        "supported if moe has 123,456 within 1%; refuted if it has not",
    ),
    "at_least": (
        "{model: moe, metric: routing.entropy, test: {kind: at_least, value: 90%}}",
        "routing.entropy: supported if moe has at least 90%; refuted if it has less; over 8 seeds; exploratory",
    ),
    "at_most": (
        "{model: dense, metric: test.bits_per_byte, test: {kind: at_most, value: 2.5}}",
        "supported if dense has at most 2.5 bits/byte; refuted if it has more",
    ),
    "within": (
        "{model: moe, metric: routing.entropy, test: {kind: within, low: 0.8, high: 95%}}",
        "routing.entropy: supported if moe lies between 0.8 and 95%; refuted if it lies outside; over 8 seeds",
    ),
    "within, of published systems": (
        "{systems: {kind: moe, since: 2024}, metric: shape.top_k, test: {kind: within, low: 1, high: 2, in: median}}",
        "shape.top_k of published mixtures since 2024: supported if the median lies between 1 and 2 experts, "
        "refuted if not; counted, so without an interval",
    ),
    "cited": (
        "{source: {authors: Jacobs et al., year: 1991, where: a journal}, test: {kind: cited, holds: true}}",
        "cited from Jacobs et al. 1991, a journal: no verdict",
    ),
    "crosses": (
        "{compare: {treatment: sweep, baseline: dense}, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: crosses, margin: 1%}}",
        "supported if sweep is by more than 1% lower than dense at the largest ffn.experts and not at the smallest; "
        "refuted if either of the two fails",
    ),
    "near_best": (
        "{over: sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: near_best, at: 4, margin: 1%}}",
        "supported if sweep at ffn.experts 4 is at most 1% higher than at any other; "
        "refuted if it is more than 1% higher than at one of them",
    ),
    "plateau": (
        "{compare: {treatment: other, baseline: sweep}, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: plateau, within: 1%, at_most: 0.7}}",
        "supported if octaves of ffn.experts within 1% of the best, other over sweep, are at most 0.7; "
        "refuted if they are more; over 8 seeds",
    ),
    "predicts": (
        "{over: sweep, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: predicts, by: [cost.total_params, cost.active_params]}}",
        "supported if cost.total_params and cost.active_params predict the models of sweep, with each ffn.experts left "
        "out in turn, with less error than each alone; refuted if one alone does; over 8 seeds",
    ),
    "all_of": (
        "{test: {kind: all_of, claims: [better, counted]}}",
        "supported if better and counted all hold; refuted if any of them fails; over 8 seeds; exploratory",
    ),
    "any_of": (
        "{test: {kind: any_of, claims: [better, counted]}}",
        "supported if better or counted holds; refuted if every one of them fails; over 8 seeds",
    ),
}


def suite(tmp_path: Path, claim: str) -> Path:
    text = GOOD.replace("measure:\n", SWEEP, 1) + f"  asked: {claim}\n"
    if "other" in claim:
        other = "  other:\n    base: moe\n    ffn: {balance_loss: 0}\n    sweep: {ffn.experts: [2, 3, 4, 6, 8, 12]}\n"
        text = text.replace("  sweep:\n", f"{other}  sweep:\n", 1)
    text += f"  counted: {WORDS['exact'][0]}\n"
    if "routing" in claim:  # a dense model has none
        text = text.replace("  small:\n    base: dense\n    match: {on: total_params}\n", "  small:\n    base: moe\n")
        text = text.replace(f"asked: {claim}", f"asked: {claim.replace('baseline: dense', 'baseline: small')}")
    (tmp_path / "suite.yaml").write_text(text)
    return tmp_path / "suite.yaml"


@pytest.mark.parametrize("kind", WORDS)
def test_a_claim_is_told_as_it_will_be_judged(tmp_path: Path, kind: str) -> None:
    claim, words = WORDS[kind]
    assert words in understood(load_suite(suite(tmp_path, claim)).spec, "asked")


def test_a_number_to_reach_is_told_with_the_unit_of_what_it_is_read_from() -> None:
    half = understood(load_suite(Path("suites/translation.yaml")).spec, "half-compute")
    assert half.startswith("flops_to_quality (to 2 bits in task.answer_bits[task=transduce]): supported if dense over")


def test_no_kind_is_forgotten() -> None:
    assert set(KINDS) == {kind for kind in WORDS if kind in KINDS}
    for word, kind in KINDS.items():
        assert kind.model_fields["kind"].annotation == Literal[word]


def test_the_example_of_each_kind_is_a_claim_of_a_suite(tmp_path: Path) -> None:
    head = KINDS_SUITE.partition("claims:")[0]
    (tmp_path / "suite.yaml").write_text(
        head + "claims:\n" + "".join(f"  {k}: {v.example}\n" for k, v in KINDS.items())
    )
    claims = load_suite(tmp_path / "suite.yaml").spec.claims
    assert {name: claim.test.kind for name, claim in claims.items()} == {name: name for name in KINDS}


def test_plan_prints_every_claim_and_the_note_on_its_margin(tmp_path: Path) -> None:
    planned = api.prepare_plan(suite(tmp_path, WORDS["superior"][0]), results=tmp_path / "results")
    printed = " ".join(plan_text(planned).split())
    assert f"asked: {WORDS['superior'][1]}" in printed
    assert "note: claims.asked: a margin of 0.5 bits/byte is larger than a plausible effect" in printed
    assert plan_json(planned)["claims"]["asked"] == WORDS["superior"][1]


def test_a_diverged_run_leaves_one_models_number_without_ends() -> None:
    """A single number in its place would read as if every run had given it."""
    values = {"moe": {BPB: [2.0 + 0.01 * seed for seed in range(8)]}, "dense": {BPB: [2.0] * 8}}
    block = claim({"kind": "at_least", "value": 1.0}, model="moe")
    verdict = judged(evidence_of(values, {"c": block}, diverged=[("moe", 3)]))
    assert (verdict.state, verdict.unbounded) == ("inconclusive", ("low", "high"))
    assert verdict.effect.replace("\xa0", " ") == "2.04 [−∞, ∞] bits/byte"
