"""Claims about one model's number, about the ends of a sweep, and about its best point: each by hand and by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench.claims.decide import weigh
from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.samples import Sample
from moebench.claims.verdict import Verdict
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim
from tests.support.builders import BPB, claim, evidence_of, judged, with_plan
from tests.support.suite_texts import messages
from tests.test_feasibility import GOOD

EIGHT = np.arange(1.0, 9.0) / 100
SPREAD = EIGHT - 0.045
TRIALS = 4000


# ---------------------------------------------------------------------------------------------- at least, at most


def of_one(kind: str, value: object, column: Sequence[float], metric: str = BPB, **other: Any) -> Verdict:
    block = claim({"kind": kind, "value": value}, metric, model="moe")
    return judged(evidence_of({"moe": {metric: column}, "dense": {}}, {"c": block}, **other))


@pytest.mark.parametrize(("value", "state"), [(1.9, "supported"), (1.99, "inconclusive"), (2.1, "refuted")])
def test_at_least_by_hand(value: float, state: str) -> None:
    verdict = of_one("at_least", value, 2 + SPREAD)
    assert verdict.state == state
    assert (verdict.estimate, verdict.unit, verdict.n) == (pytest.approx(2.0), "bits/byte", 8)
    # The 6th of the 256 means of subsets lies 0.0217 below the mean, as for differences.
    assert (verdict.low, verdict.high) == (pytest.approx(2 - 0.0217, abs=1e-4), pytest.approx(2 + 0.0217, abs=1e-4))
    assert (verdict.treatment, verdict.baseline, verdict.asked) == ("moe", None, f"≥ {value} bits/byte")
    assert verdict.effect.startswith("2.00")


@pytest.mark.parametrize("value", [1.9, 1.99, 2.0, 2.02, 2.1])
def test_at_most_mirrors_at_least(value: float) -> None:
    most, least = of_one("at_most", value, 2 + SPREAD), of_one("at_least", value, 2 + SPREAD)
    assert (most.p, most.p_against) == (least.p_against, least.p)
    assert (most.low, most.high, most.estimate) == (least.low, least.high, least.estimate)


def test_a_share_is_written_in_percent() -> None:
    verdict = of_one("at_most", "95%", 0.9 + SPREAD / 10, "routing.entropy")
    assert (verdict.state, verdict.asked, verdict.asked_high) == ("supported", "≤ 95%", pytest.approx(0.95))


def test_times_are_held_against_a_value_on_their_log_scale() -> None:
    metric = "speed.decode_step_s[batch=8]"
    rng = np.random.default_rng(3)
    drift = np.exp(rng.normal(0, 0.005, 10))
    times = {m: {metric: 0.004 * drift} for m in ("dense", "dense~again", "moe")}
    for value, state in ((0.0041, "supported"), (0.0039, "refuted")):
        block = claim({"kind": "at_most", "value": value}, metric, model="moe")
        verdict = judged(evidence_of({"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": block}, times=times))
        assert (verdict.state, verdict.units, verdict.unit) == (state, "processes", "s")
        assert verdict.estimate == pytest.approx(np.exp(np.mean(np.log(0.004 * drift))))


@pytest.mark.parametrize(("value", "state"), [(300_000, "supported"), (300_001, "refuted")])
def test_counts_are_at_least_a_value_exactly(value: float, state: str) -> None:
    block = claim({"kind": "at_least", "value": value}, "cost.total_params", model="moe")
    params = {"moe": (300_000, 110_000), "dense": (110_000, 110_000)}
    verdict = judged(evidence_of({"moe": {}, "dense": {}}, {"c": block}, params=params))
    assert (verdict.state, verdict.units) == (state, "counts")


@pytest.mark.parametrize("kind", ["at_least", "at_most"])
def test_a_run_that_diverged_speaks_for_no_value(kind: str) -> None:
    value = 1.9 if kind == "at_least" else 2.1
    whole, lost = of_one(kind, value, 2 + SPREAD), of_one(kind, value, 2 + SPREAD, diverged={("moe", 3)})
    assert whole.state == "supported"
    assert lost.p is not None
    assert whole.p is not None
    assert lost.p > whole.p


def test_at_least_less_a_second_metric_of_the_model() -> None:
    code, prose = f"{BPB}[domain=code]", f"{BPB}[domain=prose]"
    block = claim({"kind": "at_least", "value": 0.05}, prose, model="moe", minus=code)
    values = {"moe": {prose: 2.1 + SPREAD, code: [2.0] * 8}, "dense": {}}
    verdict = judged(evidence_of(values, {"c": block}))
    assert (verdict.state, verdict.estimate) == ("supported", pytest.approx(0.1))


def test_at_least_at_every_point_of_a_sweep() -> None:
    points = {f"moe_s{x}": {"ffn.experts": float(x)} for x in (2, 4, 8)}
    values = {name: {BPB: 2 + 0.1 * i + SPREAD} for i, name in enumerate(points)}
    block = claim({"kind": "at_least", "value": 1.95, "in": "every"}, model="moe_s")
    verdict = judged(with_plan(evidence_of(values, {"c": block}, sweeps={"moe_s": points}), matches=()))
    assert (verdict.state, verdict.shown) == ("supported", "ffn.experts=2")


# ---------------------------------------------------------------------------------------------- crosses


def ends(gains: Sequence[float], test: Mapping[str, Any], *, baseline: str = "dense_w", **other: Any) -> Evidence:
    """Gains in bits per byte at widths 64, 128, 256, ... of two sweeps, or of one over a single model."""
    values: dict[str, dict[str, Any]] = {"dense": {BPB: [2.0] * 8}} if baseline == "dense" else {}
    sweeps: dict[str, Any] = {"moe_w": {}, "dense_w": {}}
    for i, gain in enumerate(gains):
        for name in ("moe_w", "dense_w"):
            point = f"{name}_{64 * 2**i}"
            sweeps[name][point] = {"width": 64.0 * 2**i}
            values[point] = {BPB: 2 - (gain + SPREAD) * (name == "moe_w")}
    block = claim(test, compare={"treatment": "moe_w", "baseline": baseline}, along="width", **other)
    return with_plan(evidence_of(values, {"c": block}, sweeps=sweeps), matches=())


CROSSES = {"kind": "crosses", "margin": 0.05}


@pytest.mark.parametrize("baseline", ["dense_w", "dense"])
@pytest.mark.parametrize(
    ("gains", "state"),
    [
        ((0.0, 0.3, 0.1), "supported"),
        ((0.1, 0.0, 0.1), "refuted"),
        ((0.0, 0.3, 0.0), "refuted"),
        ((0.045, 0.3, 0.1), "inconclusive"),
    ],
)
def test_a_gain_that_crosses_by_hand(gains: tuple[float, ...], state: str, baseline: str) -> None:
    verdict = judged(ends(gains, CROSSES, baseline=baseline))
    assert verdict.state == state
    assert [part.id for part in verdict.parts] == ["width=64", "width=256"]
    assert verdict.asked == "less than 0.05 bits/byte lower at width=64 and ≥ 0.05 bits/byte lower at width=256", (
        verdict.asked
    )
    if state == "supported":
        assert verdict.reason == "it holds at both ends"
        assert verdict.p == 2**-8


def test_a_gain_that_falls_crosses_the_other_way() -> None:
    assert judged(ends((0.1, 0.3, 0.0), {**CROSSES, "sign": "falling"})).state == "supported"
    assert judged(ends((0.0, 0.3, 0.1), {**CROSSES, "sign": "falling"})).state == "refuted"


def test_a_crossing_read_backwards_is_refuted_as_often_as_it_is_supported() -> None:
    """The mirror of both ends is either end: p against is twice the smaller, where p is the larger."""
    for gains in ((0.0, 0, 0.1), (0.045, 0, 0.1), (0.1, 0, 0.0)):
        rising, falling = (judged(ends(gains, {**CROSSES, "sign": sign})) for sign in ("rising", "falling"))
        p = [part.p for part in rising.parts]
        assert [part.p_against for part in falling.parts] == pytest.approx(p)
        assert falling.p_against == pytest.approx(min(1.0, 2 * min(filter(None, p))))


# ---------------------------------------------------------------------------------------------- near_best


def best(losses: Sequence[float], at: float, margin: object = 0.05) -> Verdict:
    points = {f"moe_s{2**i}": {"ffn.experts": float(2**i)} for i in range(len(losses))}
    shifts = np.random.default_rng(4).permuted(np.tile(SPREAD, (len(losses), 1)), axis=1)
    values = {name: {BPB: loss + shift / 2} for name, loss, shift in zip(points, losses, shifts, strict=True)}
    block = claim({"kind": "near_best", "at": at, "margin": margin}, over="moe_s", along="ffn.experts")
    return judged(with_plan(evidence_of(values, {"c": block}, sweeps={"moe_s": points}), matches=()))


@pytest.mark.parametrize(
    ("losses", "state"),
    [
        ((2.3, 2.0, 2.2, 2.1), "supported"),
        ((2.3, 2.01, 2.0, 2.1), "supported"),
        ((2.3, 2.2, 2.0, 2.1), "refuted"),
        ((2.3, 2.05, 2.0, 2.1), "inconclusive"),
    ],
)
def test_a_point_near_the_best_by_hand(losses: tuple[float, ...], state: str) -> None:
    verdict = best(losses, 2.0)
    assert verdict.state == state
    assert [part.id for part in verdict.parts] == ["ffn.experts=1", "ffn.experts=4", "ffn.experts=8"]
    assert (verdict.parts[1].treatment, verdict.parts[1].baseline) == ("moe_s2", "moe_s4")
    assert verdict.asked == "≤ 0.05 bits/byte higher than at any other ffn.experts"
    if state != "supported":
        assert verdict.shown == "ffn.experts=4", "the best of the others decides"


def test_of_two_points_near_best_is_not_worse() -> None:
    """Swapping the point mirrors the difference: what is better by the margin elsewhere refutes here."""
    assert (best((2.0, 2.2), 1.0).state, best((2.0, 2.2), 2.0).state) == ("supported", "refuted")
    alone = best((2.0, 2.03), 2.0).parts[0]
    assert alone.kind == "non_inferior"


# ---------------------------------------------------------------------------------------------- by chance


FLIPS = np.array([[1 - 2 * (k >> bit & 1) for bit in range(8)] for k in range(256)])


def p_of(bound: Bound, x_RN: np.ndarray) -> np.ndarray:
    """One-sided p of a bound for each row of eight effects, by all flips of signs."""
    up = 1.0 if bound.side == "above" else -1.0
    away_RN = up * (x_RN - bound.value)
    return np.mean(away_RN @ FLIPS.T >= np.sum(away_RN, axis=1, keepdims=True) - 1e-12, axis=1)


def decisions(
    hypotheses: Sequence[Hypothesis], means: Sequence[float], need: int, *, rho: float
) -> tuple[float, float]:
    """Shares of samples of eight seeds in which the whole is supported and refuted; effects have SD 0.02."""
    rng = np.random.default_rng([len(means), need, int(100 * rho), abs(int(1e6 * sum(means)))])
    shared_RN = rng.normal(0, 0.02, (TRIALS, 8))
    p_for, p_against = [], []
    for one, mean in zip(hypotheses, means, strict=True):
        x_RN = mean + np.sqrt(rho) * shared_RN + np.sqrt(1 - rho) * rng.normal(0, 0.02, (TRIALS, 8))
        p_for.append(p_of(one.support[0], x_RN))
        p_against.append(p_of(one.refute[0], x_RN))
        found = weigh(Sample(effects=x_RN[0], units="seeds", planned=8), one)
        assert (found.p_for, found.p_against) == (pytest.approx(p_for[-1][0]), pytest.approx(p_against[-1][0]))
    m = len(means)
    supported = (m - need + 1) * np.sort(p_for, axis=0)[need - 1] <= 0.025
    refuted = need * np.sort(p_against, axis=0)[m - need] <= 0.025
    return float(np.mean(supported)), float(np.mean(refuted))


def asked(evidence: Evidence) -> list[Hypothesis]:
    plan = evidence.plan
    one: Claim = plan.spec.claims["c"]
    parts = one.test.parts(one, plan.known)
    if parts is None:
        return [one.test.hypothesis(one, plan.spec.sweeps)]
    return [part.hypothesis or part.claim.test.hypothesis(part.claim, plan.spec.sweeps) for part in parts.of]


def near_best_evidence(number: int) -> Evidence:
    points = {f"moe_s{2**i}": {"ffn.experts": float(2**i)} for i in range(number)}
    block = claim({"kind": "near_best", "at": 1.0, "margin": 0.05}, over="moe_s", along="ffn.experts")
    return evidence_of({name: {BPB: [2.0] * 8} for name in points}, {"c": block}, sweeps={"moe_s": points})


MOST_FALSE = 0.025 + 3 * np.sqrt(0.025 * 0.975 / TRIALS)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_at_their_bounds_they_are_wrong_in_at_most_2_5_percent(rho: float) -> None:
    least = asked(evidence_of({"moe": {BPB: [2.0] * 8}}, {"c": claim({"kind": "at_least", "value": 2.0}, model="moe")}))
    crosses, near = asked(ends((0, 0), CROSSES)), asked(near_best_evidence(4))
    cases = [
        (least, [2.0], 1),
        (crosses, [0.05, 0.5], 2),  # one end at the margin, the other far beyond: the hardest case
        (crosses, [0.05, 0.05], 2),
        (near, [-0.05, 0.5, 0.5], 3),
        (near, [-0.05, -0.05, -0.05], 3),
    ]
    for hypotheses, means, need in cases:
        supported, refuted = decisions(hypotheses, means, need, rho=rho)
        assert supported <= MOST_FALSE, (means, supported)
        assert refuted <= MOST_FALSE, (means, refuted)


def test_two_sds_beyond_their_bounds_they_decide() -> None:
    crosses, near = asked(ends((0, 0), CROSSES)), asked(near_best_evidence(3))
    assert decisions(crosses, [0.05 - 0.04, 0.05 + 0.04], 2, rho=0.3)[0] > 0.95
    assert decisions(crosses, [0.05 + 0.04, 0.05 + 0.04], 2, rho=0.3)[1] > 0.9
    assert decisions(near, [-0.05 + 0.04, 0.0], 2, rho=0.3)[0] > 0.95
    assert decisions(near, [-0.05 - 0.04, 0.0], 2, rho=0.3)[1] > 0.9


# ---------------------------------------------------------------------------------------------- in suites


SWEEPS = "  moes: {base: moe, sweep: {ffn.experts: [2, 4, 8]}}\n  routed: {base: moe, sweep: {ffn.balance_over: "
SWEEPS += "[micro_batch, sequence]}}\n"


@pytest.mark.parametrize(
    ("block", "message", "hint"),
    [
        ("{model: moe, metric: test.bits_per_byte, test: {kind: at_least, value: 5%}}",
         "test.bits_per_byte is no share: 5% of what?", "give it in bits/byte"),
        ("{model: moe, metric: speed.train_step_s, test: {kind: at_most, value: 0}}",
         "speed.train_step_s is above 0", "give a value above 0"),
        ("{model: mo, metric: test.bits_per_byte, test: {kind: at_most, value: 2}}",
         "is called 'mo'", "did you mean 'moe'?"),
        ("{compare: {treatment: moe, baseline: dense}, metric: test.bits_per_byte, test: {kind: at_most, value: 2}}",
         "an at_most test takes no 'compare'", "it takes model"),
        ("{compare: {treatment: moe, baseline: dense}, along: width, metric: test.bits_per_byte, "
         "test: {kind: crosses}}",
         "a crosses test needs a model with a `sweep` on either side", "the sweeps are moes"),
        ("{compare: {treatment: moes, baseline: dense}, along: ffn.expert, metric: test.bits_per_byte, "
         "test: {kind: crosses}}", "it is not swept over ffn.expert", "did you mean 'ffn.experts'?"),
        ("{compare: {treatment: routed, baseline: dense}, along: ffn.balance_over, metric: test.bits_per_byte, "
         "test: {kind: crosses}}", "ffn.balance_over takes words", ""),
        ("{over: moes, along: ffn.experts, metric: test.bits_per_byte, test: {kind: near_best, at: 16, margin: 1%}}",
         "ffn.experts is not 16 at any point", "it is 2, 4 and 8"),
        ("{over: moe, along: ffn.experts, metric: test.bits_per_byte, test: {kind: near_best, at: 8, margin: 1%}}",
         "moe is one model", ""),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(tmp_path: Path, block: str, message: str, hint: str) -> None:
    said = messages(tmp_path, GOOD.replace("measure:\n", SWEEPS + "measure:\n") + f"  asked: {block}\n")
    assert message in said
    assert hint in said
