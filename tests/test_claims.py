"""What each kind of claim makes of numbers known by hand, and that no verdict is reached more often than it may be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moebench import stats
from moebench.claims.controls import check_controls
from moebench.claims.decide import Correction, settle, weigh
from moebench.claims.judge import judge, strict_ok
from moebench.claims.kinds import KINDS, Bound, Hypothesis, Reading
from moebench.claims.samples import Contrast, Sample, Term
from moebench.claims.verdict import Verdict
from moebench.counting.counts import ParameterCount
from moebench.format import NBSP
from moebench.reader.evidence import Evidence, TunedModel
from moebench.suite.claim import Claim
from moebench.suite.routers import ROUTERS
from tests.support.builders import BPB, PLANNED_AT, TWIN, claim, evidence_of, machine, plan_of, with_outcome

EIGHT = np.arange(1.0, 9.0) / 100
"""Mean 0.045. The 6th of the 256 subset means, 2.5% of them, are (1 + 2 + 4) / 3 and (8 + 7 + 5) / 3 hundredths."""
LOW, HIGH = 0.07 / 3, 0.20 / 3


def judged(evidence: Evidence) -> Verdict:
    (verdict,) = judge(evidence)
    return verdict


def lower_by(gains: Sequence[float], test: Mapping[str, Any], **other: Any) -> Verdict:
    """The verdict when the treatment's bits per byte are below the baseline's by these differences."""
    return judged(pair([2 - gain for gain in gains], [2.0] * len(gains), test, **other))


def pair(moe: Sequence[float], dense: Sequence[float], test: Mapping[str, Any], **other: Any) -> Evidence:
    return evidence_of({"moe": {BPB: moe}, "dense": {BPB: dense}}, {"c": claim(test)}, **other)


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
    assert verdict.asked == ">= 0.02 bits/byte lower"
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
    assert (up.state, up.estimate, up.asked) == ("supported", pytest.approx(0.045), ">= 0.02 higher")
    assert (up.asked_low, up.asked_high) == (pytest.approx(0.02), None)
    down = {"moe": values["dense"], "dense": values["moe"]}
    assert judged(evidence_of(down, {"c": claim({"kind": "superior", "margin": 0.0}, metric)})).state == "refuted"
    worse = judged(evidence_of(down, {"c": claim({"kind": "non_inferior", "margin": "1%"}, metric)}))
    assert (worse.state, worse.asked) == ("refuted", "<= 1% lower")


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
    assert verdict.asked == f">= {value:g}x"


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
    plan = evidence.plan.model_copy(update={"systems": {"mixtral-8x7b": counted}})
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan})))
    assert (verdict.state, verdict.estimate) == ("supported", 12_879_925_248)
    assert verdict.scope == "mixtral-8x7b, counted from the published architecture"
    assert verdict.asked == "= 12,900,000,000 +- 0.5%"
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


# ---------------------------------------------------------------------------------------------- when not to decide


@pytest.mark.parametrize("n", [1, 2, 5])
def test_below_six_pairs_nothing_is_decided(n: int) -> None:
    verdict = lower_by([1.0 + i / 100 for i in range(n)], {"kind": "superior"})
    assert verdict.state == "inconclusive"
    assert "at least 6" in verdict.reason
    assert verdict.needs is not None


def test_six_pairs_can_decide() -> None:
    assert lower_by([0.1, 0.11, 0.12, 0.1, 0.11, 0.12], {"kind": "superior"}).state == "supported"


def test_the_interval_is_the_one_of_the_signs() -> None:
    # Flipping the one negative value gives a larger sum: p = 2 / 64, and the smallest of 64 subset means is negative.
    verdict = lower_by([0.1, 0.1, 0.1, 0.1, 0.1, -0.03], {"kind": "superior", "margin": 0.0})
    assert (verdict.state, verdict.p) == ("inconclusive", pytest.approx(2 / 64))
    assert (verdict.low, verdict.high) == (pytest.approx(-0.1), pytest.approx(0.03))
    assert "exact sign flips over seeds" in verdict.method
    few = lower_by([0.1, 0.1, 0.1, 0.1, -0.03], {"kind": "superior", "margin": 0.0})
    assert "paired t" in few.method, "below six pairs an interval and no verdict"


@pytest.mark.parametrize(("gain", "state"), [(0.01, "supported"), (-0.01, "refuted"), (0.0, "inconclusive")])
def test_zero_variance_is_decided_by_signs(gain: float, state: str) -> None:
    verdict = lower_by([gain] * 8, {"kind": "superior", "margin": 0.0})
    assert verdict.state == state
    assert verdict.low == verdict.high == verdict.estimate
    assert 2**-8 in (verdict.p, verdict.p_against) or gain == 0


def test_zero_variance_with_few_pairs_stays_undecided() -> None:
    assert lower_by([0.01] * 5, {"kind": "superior"}).state == "inconclusive"


def test_missing_runs_are_counted_with_their_reason() -> None:
    test = {"kind": "superior"}
    some = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("moe", 3)]))
    assert (some.state, some.n) == ("interim", 7), "an estimate, and no verdict until the last planned run is done"
    assert some.reason == "7 of 8 seeds: seed 3: moe is missing; `moebench run built` finishes it"
    assert any("7 of 8 seeds present" in note and "seed 3: moe is missing" in note for note in some.notes)
    few = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("moe", s) for s in range(4)]))
    assert few.state == "interim"
    assert few.reason.startswith("4 of 8 seeds: seed 0: moe is missing; ")
    none = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("dense", s) for s in range(8)]))
    assert none.state == "not_tested"
    assert "0 of 8 seeds present" in none.reason


def test_a_metric_that_was_not_measured_is_not_tested() -> None:
    verdict = judged(
        evidence_of({"moe": {BPB: [None] * 8}, "dense": {BPB: [2.0] * 8}}, {"c": claim({"kind": "superior"})})
    )
    assert verdict.state == "not_tested"
    assert "not measured here" in verdict.reason


# ---------------------------------------------------------------------------------------------- documents


def test_variances_over_seeds_and_documents_are_added() -> None:
    steady = [[(1000, 1990.0 - 0.01 * s + 30 * (-1) ** d) for d in range(20)] for s in range(8)]
    plain = [[(1000, 2000.0)] * 20] * 8
    gains = [0.01 + 1e-5 * s for s in range(8)]
    values = {"moe": {BPB: [2 - g for g in gains]}, "dense": {BPB: [2.0] * 8}}
    block = {"c": claim({"kind": "superior", "margin": 0.0})}
    narrow = judged(evidence_of(values, block))
    verdict = judged(evidence_of(values, block, items={"moe": steady, "dense": plain}))
    assert narrow.state == "supported"
    assert verdict.state == "inconclusive"
    assert verdict.item_low is not None
    assert verdict.item_high is not None
    assert verdict.low <= verdict.item_low < verdict.item_high <= verdict.high
    assert verdict.method == "exact sign flips over seeds, variance over documents added"
    assert verdict.needs is not None
    assert "score more test text" in verdict.needs


def test_documents_that_agree_add_nothing() -> None:
    items = {
        "moe": [[(1000, 1000 * (2 - g) + d) for d in range(20)] for g in EIGHT],
        "dense": [[(1000, 2000.0 + d) for d in range(20)]] * 8,
    }
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, items=items))
    assert verdict.method == "exact sign flips over seeds"
    assert verdict.item_low == pytest.approx(-0.045)


def test_the_scatter_of_documents_over_seeds_is_not_counted_twice() -> None:
    noise = np.random.default_rng(0).normal(0, 20, (8, 20))
    items = {"moe": [[(1000, 1990.0 + x) for x in row] for row in noise], "dense": [[(1000, 2000.0)] * 20] * 8}
    moe = [1.99 + float(np.mean(row)) / 1000 for row in noise]
    test = {"kind": "superior", "margin": 0.0}
    alone, both = judged(pair(moe, [2.0] * 8, test)), judged(pair(moe, [2.0] * 8, test, items=items))
    width = both.high - both.low
    assert alone.high - alone.low <= width < 1.05 * (alone.high - alone.low)


# ---------------------------------------------------------------------------------------------- families


def family(*margins: float, **other: Any) -> list[Verdict]:
    values = {"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}
    claims = {
        f"c{i}": claim({"kind": "superior", "margin": margin}, family="primary") for i, margin in enumerate(margins)
    }
    return judge(evidence_of(values, {**claims, **other}))


def test_holm_over_the_primary_family() -> None:
    # margin 0.02 has p = 6 / 256 = 0.0234, margin 0 has 1 / 256 = 0.0039.
    alone = family(0.02)
    assert (alone[0].state, alone[0].p_adjusted) == ("supported", pytest.approx(6 / 256))
    two = family(0.02, 0.0)
    assert [v.state for v in two] == ["supported", "supported"]
    assert [v.p_adjusted for v in two] == pytest.approx([6 / 256, 2 / 256])
    three = family(0.02, 0.02, 0.0)
    assert [v.state for v in three] == ["inconclusive", "inconclusive", "supported"]
    assert three[0].p_adjusted == pytest.approx(12 / 256)
    assert "Holm over 3 primary claims" in three[0].reason


def test_holm_corrects_refutations_too() -> None:
    assert family(0.07)[0].state == "refuted"
    two = family(0.07, 0.07)
    assert [v.state for v in two] == ["inconclusive", "inconclusive"]
    assert two[0].p_against_adjusted == pytest.approx(12 / 256)


def test_counts_and_exploratory_claims_are_outside_the_family() -> None:
    count = claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", family="primary")
    verdicts = family(0.02, count=count, more=claim({"kind": "superior", "margin": 0.02}))
    assert [v.state for v in verdicts] == ["supported"] * 3
    assert verdicts[0].p_adjusted == verdicts[0].p
    assert any("not part of the Holm family" in note for note in verdicts[1].notes)
    assert verdicts[2].p_adjusted is None


def test_untested_primary_claims_still_count_in_the_family() -> None:
    timed = claim({"kind": "non_inferior", "margin": "10%"}, "speed.train_step_s", family="primary")
    verdicts = family(0.02, timed=timed)
    assert verdicts[1].state == "not_tested"
    assert verdicts[0].state == "inconclusive", "the correction was fixed before anything ran"


def test_strict() -> None:
    assert strict_ok(family(0.02, more=claim({"kind": "superior", "margin": 0.07})))
    assert not strict_ok(family(0.0, 0.07))
    assert not strict_ok(family(0.03))
    assert not strict_ok([])
    assert not strict_ok(family(more=claim({"kind": "superior", "margin": 0.02}))), "no primary claim"
    late = family(0.02)[0].model_copy(update={"post_hoc": True})
    assert not strict_ok([late]), "a post hoc claim is no primary one"


def test_a_claim_first_stored_after_its_runs_is_post_hoc() -> None:
    block = claim({"kind": "superior"}, family="primary")
    evidence = evidence_of({"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}, {"c": block})
    assert judged(evidence).label == "primary"
    late = dict.fromkeys(evidence.stored.claims_first_stored, PLANNED_AT + 1800)
    assert (
        judged(replace(evidence, stored=evidence.stored.model_copy(update={"claims_first_stored": late}))).label
        == "primary"
    )
    later = dict.fromkeys(evidence.stored.claims_first_stored, PLANNED_AT + 5400)
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"claims_first_stored": later})))
    assert (verdict.post_hoc, verdict.label, verdict.p_adjusted) == (True, "post hoc", None)
    assert "post hoc" in verdict.notes[0]


# ---------------------------------------------------------------------------------------------- preconditions


def invalid(evidence: Evidence, words: str) -> None:
    verdict = judged(evidence)
    assert verdict.state == "invalid"
    assert words in verdict.reason
    assert (verdict.estimate, verdict.p) == (None, None)


def test_one_mutated_token_makes_a_pair_invalid() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    run = evidence.outcome("moe", 5)
    assert run is not None
    mutated = {step: (digest if step < 100 else "f" * 16) for step, digest in run.digests.items()}
    invalid(with_outcome(evidence, "moe", 5, digests=mutated), "moe and dense with seed 5 did not see the same tokens")


def test_a_shorter_stream_may_be_a_prefix() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    run = evidence.outcome("moe", 5)
    assert run is not None
    short = {step: digest for step, digest in run.digests.items() if step <= 120}
    assert judged(with_outcome(evidence, "moe", 5, digests=short)).state == "supported"
    invalid(with_outcome(evidence, "moe", 5, digests={**short, 120: "f" * 16}), "same tokens up to step 120")
    invalid(with_outcome(evidence, "moe", 5, digests={}), "no digest")


def test_another_test_split() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    invalid(with_outcome(evidence, "dense", 2, test_digest="u" * 16), "different test splits")


def test_a_missed_match() -> None:
    test = {"kind": "superior"}
    invalid(pair(2 - EIGHT, [2.0] * 8, test, residual=0.02), "match: moe misses dense by +2.00%")
    assert judged(pair(2 - EIGHT, [2.0] * 8, test, residual=-0.009)).state == "supported"


def test_a_router_that_sees_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROUTERS, "softmax_topk", ROUTERS["expert_choice"])
    invalid(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}), "softmax_topk of moe sees later tokens")


def test_quality_not_shown_to_be_tuned() -> None:
    words = "learning rate not shown to be tuned"
    good = TunedModel(lrs=(1e-3, 3e-3, 9e-3), best_lr=3e-3, interior=True, configured_lr=3e-3)

    def notes(**tuned: TunedModel) -> str:
        return " ".join(judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, tuned=tuned)).notes)

    assert words not in notes(moe=good, dense=good)
    assert words in notes()
    assert "no sweep of dense" in notes(moe=good)
    assert "end of its range" in notes(moe=good, dense=replace(good, interior=False))
    assert "sweeps differ" in notes(moe=good, dense=replace(good, lrs=(1e-3, 3e-3, 8e-3)))
    assert "its best was 0.009" in notes(moe=replace(good, best_lr=9e-3), dense=good)
    assert "no rate" in notes(moe=replace(good, best_lr=None), dense=good)


# ---------------------------------------------------------------------------------------------- divergence


def test_one_diverged_run_is_the_worst_value_not_a_missing_one() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 7)]))
    assert verdict.n == 8
    assert verdict.state == "inconclusive"
    assert verdict.unbounded == ("high",)
    assert verdict.estimate == pytest.approx(-1.75, abs=0.01), "the median"
    assert (verdict.low, verdict.high) == (pytest.approx(-2.84, abs=0.01), None)
    assert verdict.effect.replace(NBSP, " ").endswith(", diverged]")
    assert any("1 run diverged" in note for note in verdict.notes)


def test_a_diverged_baseline_favours_the_treatment() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, diverged=[("dense", 0)]))
    assert verdict.state == "supported"
    assert verdict.unbounded == ("low",)


def test_one_diverged_run_of_ten_leaves_nothing_supported() -> None:
    verdict = judged(pair([1.9] * 10, [2.0] * 10, {"kind": "superior"}, diverged=[("moe", 3)]))
    assert verdict.state == "inconclusive", "nor would it be with that run 30% worse instead"
    assert judged(pair([1.9] * 3 + [2.6] + [1.9] * 6, [2.0] * 10, {"kind": "superior"})).state == "inconclusive"
    assert verdict.needs is not None
    assert "runs diverged (1 of moe)" in verdict.needs


def test_both_diverged_is_unknown() -> None:
    both = [("moe", 3), ("dense", 3)]
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, diverged=both))
    assert verdict.state == "inconclusive"
    assert verdict.unbounded == ("low", "high")


def test_more_than_a_tenth_diverged_is_invalid() -> None:
    invalid(
        pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 1), ("moe", 2)]),
        "2 of 8 runs of moe diverged",
    )


# ---------------------------------------------------------------------------------------------- to a quality


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


# ---------------------------------------------------------------------------------------------- timed claims


def timed(
    ratio: float = 1.05, *, again: float = 1.0, processes: int = 10, noise: float = 0.01, **other: Any
) -> Evidence:
    rng = np.random.default_rng(2)
    metric = "speed.decode_step_s[batch=8]"
    drift = np.exp(rng.normal(0, 0.2, processes))
    values = {"dense": 1.0, "dense~again": again, "moe": ratio}
    times = {m: {metric: 0.004 * v * drift * np.exp(rng.normal(0, noise, processes))} for m, v in values.items()}
    block = claim({"kind": "non_inferior", "margin": "10%"}, metric)
    return evidence_of({"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": block}, times=times, **other)


def test_timed_claims_pair_within_processes() -> None:
    verdict = judged(timed())
    assert (verdict.state, verdict.n, verdict.units) == ("supported", 10, "processes")
    assert verdict.estimate == pytest.approx(5, abs=1)
    assert "processes" in verdict.method
    assert any(note.startswith("A/A:") for note in verdict.notes)
    assert judged(timed(1.2)).state == "refuted"
    assert judged(timed(1.1, noise=0.05)).state == "inconclusive"


def test_a_baseline_that_differs_from_itself_gates_timed_claims() -> None:
    verdict = judged(timed(again=1.05))
    assert verdict.state == "invalid"
    assert "A/A" in verdict.reason
    assert judged(timed(again=1.015)).state == "supported", "within 2% is quiet enough"
    assert judged(timed(again=1.05, noise=0.1)).state != "invalid", "noise only widens the interval"


def test_a_session_that_was_not_raced_against_itself_is_invalid() -> None:
    evidence = timed()
    bare = [replace(p, values={m: v for m, v in p.values.items() if "~" not in m}) for p in evidence.processes]
    assert judged(replace(evidence, processes=tuple(bare))).state == "invalid"


def test_no_speed_session_is_not_tested_and_says_how_to_get_one() -> None:
    evidence = timed()
    verdict = judged(replace(evidence, processes=(), speed_reason="killed"))
    assert verdict.state == "not_tested"
    assert "moebench run built" in verdict.reason
    assert "killed" in verdict.reason
    never = evidence_of(
        {"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": claim({"kind": "superior"}, "speed.train_step_s")}
    )
    assert "measure" in judged(never).reason


def test_a_timing_that_the_session_left_out() -> None:
    evidence = timed()
    spec = evidence.plan.spec
    other = spec.claims["c"].model_copy(update={"metric": "speed.prefill_s[tokens=64]"})
    plan = evidence.plan.model_copy(update={"spec": spec.model_copy(update={"claims": {"c": other}})})
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan})))
    assert verdict.state == "not_tested"
    assert "speed.prefill_s[tokens=64]" in verdict.reason


def test_few_processes_and_unsteady_ones_are_said() -> None:
    evidence = timed(processes=6)
    first = replace(evidence.processes[0], unsteady=frozenset({("moe", "speed.decode_step_s[batch=8]")}))
    notes = " ".join(judged(replace(evidence, processes=(first, *evidence.processes[1:]))).notes)
    assert "6 processes; use 10 for a headline claim" in notes
    assert "not settled in 1 of 6" in notes


# ---------------------------------------------------------------------------------------------- controls


def controlled(values: Sequence[float], *claims: Any) -> Any:
    named = {f"c{place}": block for place, block in enumerate(claims)}
    evidence = evidence_of({"moe": {BPB: values}, "dense": {BPB: values}}, named, same_model="dense")
    return check_controls(evidence)[0]


def test_same_model_control() -> None:
    noise = np.random.default_rng(3).normal(0, 0.002, 8)
    control = controlled(list(2.2 + noise))
    assert (control.state, control.n) == ("passed", "4 seeds against 4")
    assert control.resolution == pytest.approx((control.high - control.low) / 2)
    assert control.low < 0 < control.high
    assert controlled([2.2, 2.3] * 4).state == "failed"
    assert controlled([2.2] * 8).state == "passed", "no variance and no difference"
    assert controlled([2.2] * 3).state == "not_tested"


def test_a_model_against_itself_passes_only_within_what_the_claims_ask_about() -> None:
    values = list(2.2 + np.random.default_rng(3).normal(0, 0.002, 8))
    wide = controlled(
        values, claim({"kind": "superior", "margin": "2%"}), claim({"kind": "equivalent", "margin": "0.1%"})
    )
    assert wide.state == "too_wide"
    assert re.search(r"not within ±0.10%, the margin that a claim asks about; about \d+ seeds would tell", wide.reason)
    assert controlled(values, claim({"kind": "superior", "margin": "2%"})).state == "passed"
    in_bits = controlled(values, claim({"kind": "superior", "margin": 0.0022}))
    assert (in_bits.state, "±0.10%" in in_bits.reason) == ("too_wide", True)
    assert controlled(values, claim({"kind": "superior"})).state == "passed", "no margin is asked: within 1%"


def test_a_noisy_model_is_too_wide_to_tell_and_never_passes() -> None:
    rng = np.random.default_rng(4)
    states = [controlled(list(2.2 * np.exp(rng.normal(0, 0.05, 8)))).state for _ in range(100)]
    assert set(states) <= {"too_wide", "failed"}
    assert states.count("too_wide") > 90


def test_same_model_control_fails_one_time_in_a_hundred() -> None:
    rng = np.random.default_rng(4)
    failed = np.mean([controlled(list(2.2 + rng.normal(0, 0.005, 8))).state == "failed" for _ in range(300)])
    assert failed <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 300)


def test_races_against_itself_are_controls() -> None:
    (race,) = check_controls(timed())
    assert (race.id, race.state) == ("against_itself[speed.decode_step_s[batch=8]]", "passed")
    assert check_controls(timed(again=1.05))[0].state == "failed"


def test_a_race_that_noise_lets_pass_is_too_wide_to_tell() -> None:
    noisy = timed(noise=0.2)
    (race,) = check_controls(noisy)
    assert race.low < 0.98 < 1.02 < race.high
    assert race.state == "too_wide"
    assert re.search(r"not within 0.952× to 1.05×; about \d+ processes would tell, or a quieter machine", race.reason)
    verdict = judged(noisy)
    assert verdict.state != "invalid"
    assert verdict.caveats == ("A/A too wide to tell",)
    assert any(note.startswith("A/A too wide to tell: dense takes ") for note in verdict.notes)
    assert judged(timed()).caveats == ()


def test_a_race_is_held_to_the_smallest_margin_that_a_claim_asks_of_that_timing() -> None:
    assert check_controls(timed(noise=0.02, processes=20))[0].state == "passed"
    finer = timed(noise=0.02, processes=20)
    block = claim({"kind": "non_inferior", "margin": "1%"}, "speed.decode_step_s[batch=8]")
    spec = finer.plan.spec.model_copy(update={"claims": {"c": type(finer.plan.spec.claims["c"]).model_validate(block)}})
    stored = finer.stored.model_copy(update={"plan": finer.plan.model_copy(update={"spec": spec})})
    assert check_controls(replace(finer, stored=stored))[0].state == "too_wide"


# ---------------------------------------------------------------------------------------------- words


def test_every_verdict_says_its_scope() -> None:
    verdict = lower_by(EIGHT, {"kind": "superior"}, params=SIZES)
    assert verdict.scope == (
        "nano models (0.11 M active parameters, 0.11 to 0.30 M total), stdlib text, 1.0 M tokens, 2-core x86_64 CPU; "
        "moe over dense: 2.73x total parameters, matched on active parameters"
    )


@pytest.mark.parametrize(
    ("active", "words"),
    [(110_000, "nano models (0.11 M"), (12_000_000, "small models (12.0 M"), (2_000_000_000, "large models (2.0 B")],
)
def test_a_nano_model_is_called_one(active: int, words: str) -> None:
    sizes = {"moe": (active, active), "dense": (active, active)}
    assert lower_by(EIGHT, {"kind": "superior"}, params=sizes).scope.startswith(words)


def test_verdicts_are_json_even_when_unbounded() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 7)]))
    again = Verdict.model_validate(json.loads(json.dumps(verdict.model_dump(mode="json"), allow_nan=False)))
    assert again == verdict


def test_judging_twice_gives_the_same() -> None:
    evidence = timed()
    assert judge(evidence) == judge(evidence)


def test_a_margin_nobody_could_meet() -> None:
    verdict = lower_by(EIGHT, {"kind": "superior", "margin": "100%"})
    assert verdict.state == "invalid"


def test_a_metric_without_a_better_direction() -> None:
    rms = "init.ffn_output_rms[layer=0]"
    values = {"moe": {rms: [0.5 + 0.001 * i for i in range(8)]}, "dense": {rms: [0.5 + 0.001 * i for i in range(8)]}}
    assert judged(evidence_of(values, {"c": claim({"kind": "superior"}, rms)})).state == "invalid"
    within = claim({"kind": "ratio_within", "low": 0.99, "high": 1.01}, rms)
    assert judged(evidence_of(values, {"c": within})).state == "supported"


def test_every_kind_of_test_in_a_suite_file_has_a_judge() -> None:
    from typing import get_args

    from moebench.suite.claim import Test

    union = get_args(Test)[0]
    words = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(union)}
    assert words == set(KINDS)


def test_a_new_kind_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice_as_good(block: Claim, test: Any, plan: Any) -> Hypothesis:
        return replace(KINDS["ratio_at_least"](block, test, plan), asked="twice as good")

    monkeypatch.setitem(KINDS, "superior", lambda block, test, plan: twice_as_good(block, HalfTest(), plan))
    assert lower_by(EIGHT, {"kind": "superior"}).asked == "twice as good"


class HalfTest:
    value = 2.0


def test_builders_make_what_they_say() -> None:
    plan = plan_of(["moe", "dense"], {"c": claim({"kind": "superior"})})
    assert len(plan.runs) == 16
    assert machine().machine == "2-core x86_64 CPU"


# ---------------------------------------------------------------------------------------------- error rates


def hypothesis_of(support: tuple[Bound, ...], refute: tuple[Bound, ...], level: float = 0.025) -> Hypothesis:
    terms = (Term(model="moe", metric=BPB, weight=-1), Term(model="dense", metric=BPB, weight=1))
    return Hypothesis(
        contrast=Contrast(terms=terms, log=False),
        support=support,
        refute=refute,
        reading=Reading(form="difference", sign=-1, unit="bits/byte"),
        asked="",
        level=level,
    )


def ratio_hypothesis(ratio: float) -> Hypothesis:
    bound = math.log(ratio)
    return hypothesis_of((Bound(side="above", value=bound),), (Bound(side="below", value=bound),))


def decided(effects: stats.Array, hypothesis: Hypothesis) -> str:
    return decided_of(Sample(effects=effects, units="seeds", planned=len(effects)), hypothesis)


def decided_of(sample: Sample, hypothesis: Hypothesis) -> str:
    finding = weigh(sample, hypothesis)
    none = Correction(p_for=finding.p_for or 0.0, p_against=finding.p_against or 0.0, words="", in_family=False)
    return settle(finding, hypothesis, sample, none)[0]


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_false_support_and_refutation_are_no_more_than_nominal(n: int) -> None:
    """The truth lies on the bound: each wrong decision is made at most one time in forty."""
    above = hypothesis_of((Bound(side="above", value=0.5),), (Bound(side="below", value=0.5),))
    x = np.random.default_rng(n).normal(0.5, 1.0, (1000, n))
    states = [decided(row, above) for row in x]
    assert states.count("supported") <= 1000 * at_most(0.025, 1000)
    assert states.count("refuted") <= 1000 * at_most(0.025, 1000)


def test_skewed_effects_do_not_inflate_support() -> None:
    above = hypothesis_of((Bound(side="above", value=0.0),), (Bound(side="below", value=0.0),))
    x = np.random.default_rng(5).standard_t(3, (1000, 8))
    assert [decided(row, above) for row in x].count("supported") <= 1000 * at_most(0.025, 1000)


def test_false_equivalence_is_no_more_than_nominal() -> None:
    inside = (Bound(side="above", value=-1.0), Bound(side="below", value=1.0))
    outside = (Bound(side="below", value=-1.0), Bound(side="above", value=1.0))
    x = np.random.default_rng(6).normal(1.0, 0.5, (1000, 8))
    states = [decided(row, hypothesis_of(inside, outside, level=0.05)) for row in x]
    assert states.count("supported") <= 1000 * at_most(0.05, 1000)
    assert states.count("refuted") <= 1000 * at_most(0.025, 1000)


def test_real_effects_are_found() -> None:
    above = hypothesis_of((Bound(side="above", value=0.0),), (Bound(side="below", value=0.0),))
    x = np.random.default_rng(7).normal(2.0, 1.0, (300, 8))
    assert [decided(row, above) for row in x].count("supported") >= 285


def test_the_family_makes_few_errors_through_judge() -> None:
    """Three true nulls beside one real effect: the chance of any false support stays at 2.5%."""
    rng = np.random.default_rng(8)
    domains = [f"{BPB}[domain={d}]" for d in ("a", "b", "c", "d")]
    claims = {f"c{i}": claim({"kind": "superior", "margin": 0.0}, m, family="primary") for i, m in enumerate(domains)}
    wrong = 0
    for _ in range(200):
        shift = {m: (3.0 if i == 3 else 0.0) for i, m in enumerate(domains)}
        values = {
            "moe": {m: 20 - shift[m] + rng.normal(0, 1, 8) for m in domains},
            "dense": {m: [20.0] * 8 for m in domains},
        }
        wrong += any(v.state == "supported" for v in judge(evidence_of(values, claims))[:3])
    assert wrong / 200 <= at_most(0.025, 200)
