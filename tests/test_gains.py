"""Gains of gains: what is subtracted from a comparison, a gain over two sweeps, and a share of another pair's gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench.claims.gains import gains_along, reading_of
from moebench.claims.verdict import Verdict
from moebench.planning.understood import understood
from tests.support.builders import BPB, TWIN, claim, evidence_of, judged
from tests.support.suite_texts import KINDS as KINDS_SUITE
from tests.support.suite_texts import load, messages

EIGHT = np.arange(1.0, 9.0) / 100
CODE, PROSE = f"{BPB}[domain=code]", f"{BPB}[domain=prose]"
OTHER = {"treatment": "moe_b", "baseline": "dense_b"}
TESTS: dict[str, dict[str, Any]] = {
    "superior": {"kind": "superior", "margin": "1%"},
    "non_inferior": {"kind": "non_inferior", "margin": "1%"},
    "equivalent": {"kind": "equivalent", "margin": "1%"},
    "ratio_at_least": {"kind": "ratio_at_least", "value": 1.01},
    "ratio_within": {"kind": "ratio_within", "low": 0.99, "high": 1.01},
}
"""Every kind that compares two models."""


def gains(first: Sequence[float], second: Sequence[float], test: dict[str, Any], *, by: str) -> Verdict:
    """The verdict where log gains of one comparison stand against those of another: on a metric, or of a pair."""
    lower = {True: [2 * math.exp(-g) for g in first], False: [3 * math.exp(-g) for g in second]}
    if by == "metric":
        values = {"moe": {CODE: lower[True], PROSE: lower[False]}, "dense": {CODE: [2.0] * 8, PROSE: [3.0] * 8}}
        return judged(evidence_of(values, {"c": claim(test, CODE, minus=PROSE)}))
    columns = {"moe": lower[True], "dense": [2.0] * 8, "moe_b": lower[False], "dense_b": [3.0] * 8}
    values = {name: {BPB: column} for name, column in columns.items()}
    return judged(evidence_of(values, {"c": claim(test, compare=TWIN, minus=OTHER)}))


NOISE = (EIGHT - 0.045) / 20


@pytest.mark.parametrize("by", ["metric", "pair"])
@pytest.mark.parametrize("kind", TESTS)
def test_what_is_subtracted_leaves_the_rest_to_be_judged(kind: str, by: str) -> None:
    """A gain of 30% against one of 30%: it is the difference of both that each kind is about."""
    states = {
        "superior": ("supported", "refuted", "refuted"),
        "non_inferior": ("supported", "supported", "refuted"),
        "equivalent": ("refuted", "supported", "refuted"),
        "ratio_at_least": ("supported", "refuted", "refuted"),
        "ratio_within": ("refuted", "supported", "refuted"),
    }[kind]
    for more, state in zip((0.05, 0.0, -0.05), states, strict=True):
        verdict = gains(0.3 + more + NOISE, [0.3] * 8, TESTS[kind], by=by)
        assert (verdict.state, verdict.n) == (state, 8), more
        assert verdict.minus == (PROSE if by == "metric" else "moe_b over dense_b")
        assert PROSE in verdict.asked or "moe_b over dense_b" in verdict.asked


@pytest.mark.parametrize("by", ["metric", "pair"])
def test_what_is_subtracted_and_what_it_is_subtracted_from_mirror_each_other(by: str) -> None:
    one = gains(0.1 + EIGHT, [0.1] * 8, {"kind": "superior", "margin": "1%"}, by=by)
    other = gains([0.1] * 8, 0.1 + EIGHT, {"kind": "non_inferior", "margin": "0%"}, by=by)
    assert (one.state, other.state) == ("supported", "refuted")
    assert other.p_against == pytest.approx(gains(0.1 + EIGHT, [0.1] * 8, {"kind": "superior"}, by=by).p or 0)


def test_interaction_is_superior_with_something_subtracted() -> None:
    for margin in ("1%", 0.02):
        for by in ("metric", "pair"):
            named = [gains(0.1 + EIGHT, [0.1] * 8, {"kind": kind, "margin": margin}, by=by) for kind in KINDS_OF_TWO]
            one, other = (verdict.model_copy(update={"kind": ""}) for verdict in named)
            assert one == other


KINDS_OF_TWO = ("interaction", "superior")


def test_a_gain_on_a_metric_where_more_is_better_is_a_gain() -> None:
    """Losses that fall by as much as an entropy rises leave nothing."""
    entropy = "routing.entropy"
    values = {
        "moe": {BPB: 2 * np.exp(-0.1 - NOISE), entropy: [0.5 * math.exp(0.1)] * 8},
        "moe_b": {BPB: [2.0] * 8, entropy: [0.5] * 8},
    }
    compare = {"treatment": "moe", "baseline": "moe_b"}
    block = claim({"kind": "equivalent", "margin": "1%"}, compare=compare, minus=entropy)
    assert judged(evidence_of(values, {"c": block})).state == "supported"


def test_a_ratio_says_which_way_round_the_other_one_is() -> None:
    """Half the loss is a factor of 2, and so is twice the entropy: of the one the inverse is what it is divided by."""
    entropy = "routing.entropy"
    values = {"moe": {BPB: [1.0] * 8, entropy: [0.8] * 8}, "moe_b": {BPB: [2.0] * 8, entropy: [0.4] * 8}}
    compare = {"treatment": "moe", "baseline": "moe_b"}
    block = claim({"kind": "ratio_at_least", "value": 1.0}, compare=compare, minus=entropy)
    evidence = evidence_of(values, {"c": block})
    assert judged(evidence).estimate == pytest.approx(1.0)
    (made,) = evidence.plan.spec.claims.values()
    supports, _ = made.test.supported_if(made)
    assert supports == "moe_b over moe, divided by moe over moe_b on routing.entropy is at least 1"
    same = made.model_copy(update={"minus": PROSE})
    assert same.test.supported_if(same)[0].startswith(f"moe_b over moe, divided by the same on {PROSE}")


def test_timings_are_subtracted_process_by_process() -> None:
    """Twice as slow at batch 1 and at batch 8: no slower at 8 beyond what it is at 1."""
    one, eight = "speed.decode_step_s[batch=1]", "speed.decode_step_s[batch=8]"
    drift = np.exp(np.random.default_rng(1).normal(0, 0.2, 10))
    times = {
        "moe": {one: 0.002 * drift, eight: 0.004 * drift**2},
        "dense": {one: 0.001 * drift, eight: 0.002 * drift**2},
        "dense~again": {one: 0.001 * drift, eight: 0.002 * drift**2},
    }
    block = claim({"kind": "non_inferior", "margin": "5%"}, eight)
    values = {"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}
    assert judged(evidence_of(values, {"c": block}, times=times)).state == "refuted"
    assert judged(evidence_of(values, {"c": {**block, "minus": one}}, times=times)).state == "supported"


# ---------------------------------------------------------------------------------------------- a gain over two sweeps

POINTS = (2.0, 4.0, 16.0)
BOTH = {"compare": {"treatment": "moe_s", "baseline": "dense_s"}, "along": "width"}


def swept_gains(slopes: Sequence[float], sign: str, *, drop: float = 0.0, turned: bool = False, **other: Any) -> Any:
    """Log gains that rise by a slope per doubling, over losses that fall; `drop` lowers the gain at the middle."""
    sweeps = {side: {f"{side}_{x:g}": {"width": x} for x in POINTS} for side in ("moe_s", "dense_s")}
    values: dict[str, Any] = {}
    for x in POINTS:
        dense = 3.0 - 0.2 * math.log2(x) + np.arange(8) / 50
        gain = np.array(slopes) * math.log2(x) - drop * (x == 4.0)
        values[f"moe_s_{x:g}"] = {BPB: dense * np.exp(-gain)}
        values[f"dense_s_{x:g}"] = {BPB: dense}
    block = claim({"kind": "trend", "sign": sign}, **BOTH)
    if turned:
        block["compare"] = {"treatment": "dense_s", "baseline": "moe_s"}
    return judged(evidence_of(values, {"c": block}, sweeps=sweeps, **other))


def test_a_trend_of_a_gain_is_the_slope_of_log_ratios() -> None:
    verdict = swept_gains(EIGHT, "rising")
    assert (verdict.state, verdict.n, verdict.treatment) == ("supported", 8, "moe_s")
    assert verdict.estimate == pytest.approx(100 * math.expm1(0.045))
    assert verdict.unit == "% per doubling of width"
    assert verdict.low == pytest.approx(100 * math.expm1(0.07 / 3), abs=1e-4)
    assert swept_gains(EIGHT, "falling").state == "refuted"
    assert swept_gains(EIGHT - 0.045, "rising").state == "inconclusive"


def test_a_trend_of_a_gain_turns_with_its_sides_and_its_sign() -> None:
    one, other = swept_gains(EIGHT, "rising"), swept_gains(EIGHT, "falling", turned=True)
    assert (one.state, one.p, one.p_against) == (other.state, pytest.approx(other.p), pytest.approx(other.p_against))


def test_a_gain_that_falls_on_its_way_does_not_rise() -> None:
    verdict = swept_gains([0.05 + 0.001 * s for s in range(8)], "rising", drop=0.2)
    assert verdict.state == "inconclusive"
    assert "from width 2 to 4 the gain of moe_s over dense_s" in verdict.reason
    assert "shown to fall" in verdict.reason


@pytest.mark.parametrize("model", ["moe_s_4", "dense_s_16", "moe_s_2"])
def test_a_diverged_point_never_speaks_for_a_gains_trend(model: str) -> None:
    whole, broken = swept_gains(EIGHT, "rising"), swept_gains(EIGHT, "rising", diverged={(model, 0)})
    assert broken.p is not None
    assert whole.p is not None
    assert broken.p > whole.p


def test_a_gains_trend_is_supported_no_more_often_than_it_may_be_and_found_where_it_is() -> None:
    rng = np.random.default_rng(11)
    null = [swept_gains(rng.normal(0, 0.02, 8), "rising").state for _ in range(120)]
    assert null.count("supported") <= 120 * 0.025 + 3 * math.sqrt(120 * 0.025)
    found = [swept_gains(rng.normal(0.03, 0.02, 8), "rising").state for _ in range(40)]
    assert found.count("supported") >= 32


# ---------------------------------------------------------------------------------------------- a share of another gain


def share(recovered: float, *, whole: float = 0.2, asked: float = 0.5) -> Verdict:
    shift = (EIGHT - 0.045) / 10
    values = {
        "moe": {BPB: 2.2 - recovered * whole + shift},
        "dense": {BPB: [2.2] * 8},
        "moe_b": {BPB: [4.0 - whole] * 8},
        "dense_b": {BPB: [4.0] * 8},
    }
    block = claim({"kind": "recovers", "value": asked}, compare=TWIN, share_of=OTHER)
    return judged(evidence_of(values, {"c": block}))


@pytest.mark.parametrize(("recovered", "state"), [(0.7, "supported"), (0.5, "inconclusive"), (0.3, "refuted")])
def test_a_share_of_another_pairs_gain(recovered: float, state: str) -> None:
    verdict = share(recovered)
    assert (verdict.state, verdict.n) == (state, 8)
    assert verdict.share == pytest.approx(100 * recovered)
    assert any(f"recovers {100 * recovered:.1f}%" in n and "the gain of moe_b over dense_b" in n for n in verdict.notes)
    assert verdict.asked == "≥ 50% of the gain of moe_b over dense_b"


def test_a_share_of_a_gain_that_is_not_there_is_neither() -> None:
    verdict = share(-2.0, whole=-0.1)
    assert verdict.state == "inconclusive"
    assert verdict.reason.startswith("the gain of moe_b over dense_b, of which a share is asked, is not shown")


# ---------------------------------------------------------------------------------------------- as suites have them

GAIN = "compare: {treatment: moe, baseline: dense}, metric: test.bits_per_byte"


def broken(tmp_path: Path, claim: str) -> str:
    return messages(tmp_path, KINDS_SUITE.partition("claims:")[0] + f"claims:\n  c: {claim}\n")


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            "{compare: {treatment: moe_sweep, baseline: moe_swep}, along: ffn.experts, metric: test.bits_per_byte, "
            "test: {kind: trend, sign: rising}}",
            "did you mean 'moe_sweep'",
        ),
        (
            "{along: ffn.experts, metric: test.bits_per_byte, test: {kind: trend, sign: rising}}",
            "a trend test needs 'over', or 'compare' with two sweeps",
        ),
        (
            f"{{{GAIN}, share_of: {{treatment: moe, baseline: dense}}, test: {{kind: recovers, value: 0.5}}}}",
            "share_of is the pair itself",
        ),
        (
            f"{{{GAIN}, share_of: {{treatment: mo, baseline: dense}}, test: {{kind: recovers, value: 0.5}}}}",
            "no model of this suite is called 'mo'",
        ),
        (f"{{{GAIN}, test: {{kind: recovers, value: 0.5}}}}", "needs 'compare.ceiling' or 'share_of'"),
        (
            f"{{{GAIN}, minus: train.tokens, test: {{kind: superior, margin: 0.1}}}}",
            "give the margin as a percentage",
        ),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, claim: str, message: str) -> None:
    assert message in broken(tmp_path, claim)


def test_what_is_subtracted_is_told_before_the_run(tmp_path: Path) -> None:
    block = f'{{{GAIN}, minus: "test.bits_per_byte[domain=code]", test: {{kind: non_inferior, margin: 1%}}}}'
    spec = load(tmp_path, KINDS_SUITE.partition("claims:")[0] + f"claims:\n  c: {block}\n")
    words = "supported if moe is at most 1% higher than dense, less the same on test.bits_per_byte[domain=code]"
    assert words in understood(spec, "c")


# ------------------------------------------------------------------------------------------- the points of a claim

BY_NOISE: dict[str, dict[str, dict[str, float]]] = {
    side: {f"{side}.{x}": {"data.corrupt": x} for x in (0.0, 0.1, 0.3)} for side in ("ours", "theirs")
}


@pytest.mark.parametrize(
    ("test", "unit", "shown"),
    [
        ({"kind": "trend", "sign": "falling"}, "%", [100.0, 25.0, 0.0]),
        ({"kind": "crosses", "sign": "falling", "margin": "1%"}, "%", [100.0, 25.0, 0.0]),
        ({"kind": "crosses", "sign": "falling", "margin": 0.1}, "bits/byte", [2.0, 0.5, 0.0]),
    ],
)
def test_the_points_of_a_claim_along_a_sweep_are_the_gains_that_it_is_of(
    test: dict[str, Any], unit: str, shown: list[float]
) -> None:
    """Above 0 where the treatment is better, at each value of the sweep, a value a seed."""
    lower = {f"ours.{x}": {BPB: [2.0] * 8} for x in (0.0, 0.1, 0.3)}
    higher = {f"theirs.{x}": {BPB: [high] * 8} for x, high in ((0.0, 4.0), (0.1, 2.5), (0.3, 2.0))}
    block = claim(test, compare={"treatment": "ours", "baseline": "theirs"}, along="data.corrupt")
    evidence = evidence_of({**lower, **higher}, {"c": block}, sweeps=BY_NOISE)
    asked = evidence.plan.spec.claims["c"]
    gains = gains_along(evidence, asked)
    reading = reading_of(asked)
    assert reading.unit == unit
    assert [(gain.model, gain.at) for gain in gains] == [(f"ours.{x}", x) for x in (0.0, 0.1, 0.3)]
    assert [pytest.approx(high) for high in shown] == [reading.show(gain.effects.mean()) for gain in gains]
    assert all(len(gain.effects) == 8 for gain in gains)


def test_of_one_model_against_a_sweep_every_point_is_there() -> None:
    values = {"one": {BPB: [2.0] * 8}, **{f"theirs.{x}": {BPB: [2.0 + x] * 8} for x in (0.0, 0.1, 0.3)}}
    pair = {"treatment": "one", "baseline": "theirs"}
    block = claim({"kind": "crosses", "margin": 0.05}, compare=pair, along="data.corrupt")
    evidence = evidence_of(values, {"c": block}, sweeps={"theirs": BY_NOISE["theirs"]})
    gains = gains_along(evidence, evidence.plan.spec.claims["c"])
    assert [(gain.model, gain.at) for gain in gains] == [(f"theirs.{x}", x) for x in (0.0, 0.1, 0.3)]
    assert [gain.effects.mean() for gain in gains] == pytest.approx([0.0, 0.1, 0.3])


def test_a_seed_of_which_a_run_diverged_has_no_gain_to_draw() -> None:
    values = {f"{side}.{x}": {BPB: [2.0] * 8} for side in ("ours", "theirs") for x in (0.0, 0.1, 0.3)}
    block = claim(
        {"kind": "trend", "sign": "falling"}, compare={"treatment": "ours", "baseline": "theirs"}, along="data.corrupt"
    )
    evidence = evidence_of(values, {"c": block}, sweeps=BY_NOISE, diverged=[("ours.0.1", 3)])
    assert [len(gain.effects) for gain in gains_along(evidence, evidence.plan.spec.claims["c"])] == [8, 7, 8]


def test_a_claim_of_no_gain_along_a_sweep_has_no_such_points() -> None:
    block = claim({"kind": "superior"})
    evidence = evidence_of({"moe": {BPB: [2.0] * 8}, "dense": {BPB: [3.0] * 8}}, {"c": block})
    assert gains_along(evidence, evidence.plan.spec.claims["c"]) == ()
