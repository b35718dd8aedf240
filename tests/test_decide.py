"""Worse data never helps a claim, whatever its kind; what else a verdict must withstand; what an undecided claim
could detect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench import stats
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, TWIN, claim, evidence_of, judged, lower_by, pair, with_outcome

RANK = {"refuted": 0, "supported": 2}
"""Any other state is 1: nothing is claimed either way."""


ENTROPY = "routing.entropy"


def rank(evidence: Evidence) -> int:
    return RANK.get(judged(evidence).state, 1)


# ---------------------------------------------------------------------------------------------- worse data never helps


class Subject:
    """A kind of claim over made-up data, with its models by the side on which a worse run speaks."""

    def __init__(self, test: Mapping[str, Any], *, worse: str = "moe", better: str = "dense", **block: Any) -> None:
        self.test, self.worse, self.better, self.block = test, worse, better, block

    def evidence(self, columns: Mapping[str, Sequence[float]], **changes: Any) -> Evidence:
        metric = self.block.get("metric", BPB)
        values: dict[str, dict[str, list[float]]] = {name: {metric: list(column)} for name, column in columns.items()}
        block = {key: value for key, value in self.block.items() if key not in ("metric", "sweeps", "over_curves")}
        if "minus" in block:
            for name in values:
                values[name][block["minus"]] = [3.0] * len(values[name][metric])
        return evidence_of(values, {"c": claim(self.test, metric, **block)}, sweeps=self.block.get("sweeps"), **changes)


POINTS = {"moe_2": {"ffn.experts": 2.0}, "moe_4": {"ffn.experts": 4.0}, "moe_8": {"ffn.experts": 8.0}}


KINDS = {
    "superior": Subject({"kind": "superior", "margin": 0.02}),
    "superior%": Subject({"kind": "superior", "margin": "1%"}),
    "non_inferior": Subject({"kind": "non_inferior", "margin": "1%"}),
    "ratio_at_least": Subject({"kind": "ratio_at_least", "value": 1.01}),
    "recovers": Subject({"kind": "recovers", "value": 0.5}, compare={**TWIN, "ceiling": "big"}),
    "interaction": Subject({"kind": "interaction", "margin": 0.0}, minus=f"{BPB}[domain=code]"),
    "trend": Subject(
        {"kind": "trend", "sign": "falling"}, worse="moe_8", better="moe_2", over="moe", along="ffn.experts",
        sweeps={"moe": POINTS},
    ),
    "equivalent": Subject({"kind": "equivalent", "margin": "5%"}),
    "ratio_within": Subject({"kind": "ratio_within", "low": 0.95, "high": 1.05}),
    "exact": Subject({"kind": "exact", "value": 2.0, "tolerance": 0.5}, model="moe"),
}  # fmt: skip


DIRECTED = ("superior", "superior%", "non_inferior", "ratio_at_least", "recovers", "interaction", "trend")
"""Kinds for which less is less; the others ask for a value in between, so that worse may be nearer to it."""


gains = st.lists(st.sampled_from([-0.05, 0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.3]), min_size=6, max_size=9)


def columns_of(subject: Subject, gain: Sequence[float]) -> dict[str, list[float]]:
    n = len(gain)
    if "sweeps" in subject.block:
        middle = [2.0 - g / 2 for g in gain]
        return {"moe_2": [2.0] * n, "moe_4": middle, "moe_8": [2.0 - g for g in gain]}
    found = {"moe": [2.0 - g for g in gain], "dense": [2.0] * n}
    return found | ({"big": [1.95] * n} if "compare" in subject.block else {})


@pytest.mark.parametrize("kind", DIRECTED)
@settings(max_examples=40, deadline=None)
@given(gain=gains, at=st.integers(0, 8), by=st.sampled_from([0.001, 0.02, 0.26, 3.0]))
def test_a_worse_treatment_is_never_nearer_to_support(kind: str, gain: list[float], at: int, by: float) -> None:
    subject, at = KINDS[kind], at % len(gain)
    before = columns_of(subject, gain)
    after = {name: list(column) for name, column in before.items()}
    after[subject.worse][at] += by
    assert rank(subject.evidence(after)) <= rank(subject.evidence(before))


@pytest.mark.parametrize("kind", DIRECTED)
@settings(max_examples=40, deadline=None)
@given(gain=gains, at=st.integers(0, 8), by=st.sampled_from([0.001, 0.02, 0.26, 3.0]))
def test_a_worse_baseline_is_never_nearer_to_refutation(kind: str, gain: list[float], at: int, by: float) -> None:
    subject, at = KINDS[kind], at % len(gain)
    before = columns_of(subject, gain)
    after = {name: list(column) for name, column in before.items()}
    after[subject.better][at] += by
    assert rank(subject.evidence(after)) >= min(1, rank(subject.evidence(before)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(gain=gains, at=st.integers(0, 8), which=st.integers(0, 2))
def test_a_run_that_diverged_or_is_missing_never_supports(kind: str, gain: list[float], at: int, which: int) -> None:
    """Whichever model it is of, the baseline's divergence alone can speak for a claim, and only against it no more."""
    subject, seed = KINDS[kind], at % len(gain)
    columns = columns_of(subject, gain)
    before = rank(subject.evidence(columns))
    models = [name for name in columns if name in (subject.worse, "big", "moe_4")]
    lost = models[which % len(models)]
    assert rank(subject.evidence(columns, missing=[(lost, seed)])) == 1, "INTERIM"
    if lost != "big":
        assert rank(subject.evidence(columns, diverged=[(lost, seed)])) <= min(1, before)
    else:
        assert rank(subject.evidence(columns, diverged=[(lost, seed)])) == 1, "no gain to recover is shown"
    if subject.better in columns and "sweeps" not in subject.block and kind in DIRECTED:
        assert rank(subject.evidence(columns, diverged=[(subject.better, seed)])) >= min(1, before)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.sampled_from([0.001, 0.002, 0.004]), min_size=6, max_size=9),
    at=st.integers(0, 8),
    model=st.sampled_from(["moe", "dense"]),
    test=st.sampled_from(
        [{"kind": "superior", "margin": "10%"}, {"kind": "ratio_at_least", "value": 1.5},
         {"kind": "equivalent", "margin": "20%"}, {"kind": "ratio_within", "low": 0.5, "high": 2.0}]
    ),
)  # fmt: skip
def test_a_zero_in_a_ratio_is_refused_and_never_left_out(
    counts: list[float], at: int, model: str, test: dict[str, Any]
) -> None:
    columns = {"moe": {ENTROPY: [0.002] * len(counts)}, "dense": {ENTROPY: list(counts)}}
    columns[model][ENTROPY][at % len(counts)] = 0.0
    verdict = judged(evidence_of(columns, {"c": claim(test, ENTROPY)}))
    assert verdict.state == "invalid"
    assert f"{ENTROPY} of {model} with seed {at % len(counts)} is 0" in verdict.reason
    assert "in the metric's own unit" in verdict.reason


def test_zeros_compare_in_the_metrics_own_unit() -> None:
    dense = [0.0] * 4 + [0.005] * 6
    test = {"kind": "superior", "margin": 0.0005}
    verdict = judged(pair([0.004] * 10, dense, test, metric=ENTROPY))
    assert (verdict.n, verdict.state) == (10, "inconclusive")


@settings(max_examples=40, deadline=None)
@given(
    finals=st.lists(st.sampled_from([1.2, 1.5, 1.8, 1.99, 2.0, 2.2]), min_size=6, max_size=8),
    at=st.integers(0, 7),
    to=st.sampled_from([1.9, 2.0, 2.4, 2.9]),
    reach=st.sampled_from(["dense", 2.0]),
)
def test_a_slower_or_unfinished_curve_never_helps_a_crossing(
    finals: list[float], at: int, to: float, reach: Any
) -> None:
    at %= len(finals)
    after = [max(final, to) if seed == at else final for seed, final in enumerate(finals)]
    assert rank(crossing(after, reach)) <= rank(crossing(finals, reach))
    assert rank(crossing(finals, reach, diverged=[("moe", at)])) <= min(1, rank(crossing(finals, reach)))


def crossing(moe: Sequence[float], reach: Any, **other: Any) -> Evidence:
    logs = np.log(np.array([50, 100, 150, 200, 250]) / 50) / math.log(5)
    curves = {
        "moe": [list(3.0 + (final - 3.0) * logs) for final in moe],
        "dense": [list(3.0 - 1.0 * logs) for _ in moe],
    }
    block = claim({"kind": "ratio_at_least", "value": 1.1}, "flops_to_quality", target={"reach": reach})
    return evidence_of({}, {"c": block}, curves=curves, seeds=tuple(range(len(moe))), **other)


@settings(max_examples=40, deadline=None)
@given(
    ratios=st.lists(st.sampled_from([0.9, 1.0, 1.02, 1.05, 1.08, 1.3]), min_size=6, max_size=10),
    at=st.integers(0, 9),
    by=st.sampled_from([1.001, 1.1, 3.0]),
    model=st.sampled_from(["moe", "dense"]),
)
def test_a_slower_process_never_helps_a_timing(ratios: list[float], at: int, by: float, model: str) -> None:
    def timed(moe: Sequence[float], dense: Sequence[float]) -> Evidence:
        metric = "speed.train_step_s"
        times = {"moe": {metric: moe}, "dense": {metric: dense}, "dense~again": {metric: dense}}
        block = claim({"kind": "non_inferior", "margin": "10%"}, metric)
        return evidence_of({"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": block}, times=times)

    at %= len(ratios)
    moe, dense = [0.01 * ratio for ratio in ratios], [0.01] * len(ratios)
    before = rank(timed(moe, dense))
    slower = [x * by if process == at else x for process, x in enumerate(moe if model == "moe" else dense)]
    after = rank(timed(slower, dense) if model == "moe" else timed(moe, slower))
    assert after <= before if model == "moe" else after >= min(1, before)


def test_one_run_that_is_much_better_cannot_lose_a_claim() -> None:
    """By a t interval it would, and making that run worse would support the claim."""
    assert lower_by([0.02] * 9 + [0.5], {"kind": "superior", "margin": 0.0}).state == "supported"
    assert lower_by([0.02, 0.021, 0.02, 0.021, 0.02, 0.021, 0.02, 0.5], {"kind": "superior"}).state == "supported"


def test_nine_seeds_better_and_one_diverged() -> None:
    worse = [0.04] * 9 + [-0.6]
    assert lower_by(worse, {"kind": "superior"}).state == "inconclusive"
    assert lower_by([0.04] * 10, {"kind": "superior"}, diverged=[("moe", 9)]).state == "inconclusive"
    assert lower_by([-0.04] * 10, {"kind": "superior"}, diverged=[("dense", 9)]).state == "inconclusive"


# ---------------------------------------------------------------------------------------------- trends


def trending(middle: Sequence[float], **other: Any) -> Evidence:
    columns = {"moe_2": [2.0] * 8, "moe_4": list(middle), "moe_8": [1.9 + s / 1000 for s in range(8)]}
    return KINDS["trend"].evidence(columns, **other)


def test_the_middle_point_of_a_trend_counts() -> None:
    """Its weight in the slope is 0: it was dropped, and may have been missing, diverged or 50% worse."""
    steady = [1.95 + s / 1000 for s in range(8)]
    assert judged(trending(steady)).state == "supported"
    verdict = judged(trending([3.0] * 8))
    assert verdict.state == "inconclusive"
    assert "from ffn.experts 2 to 4 test.bits_per_byte is shown to rise" in verdict.reason
    assert judged(trending(steady, missing=[("moe_4", 3)])).state == "interim"
    assert judged(trending(steady, diverged=[("moe_4", 3)])).state == "inconclusive"
    other_data = with_outcome(trending(steady), "moe_4", 3, digests={250: "f" * 16})
    assert judged(other_data).state == "invalid"


def test_a_diverged_low_end_does_not_count_for_a_fall() -> None:
    steady = [1.95 + s / 1000 for s in range(8)]
    verdict = judged(trending(steady, diverged=[("moe_2", 3)]))
    assert verdict.state == "inconclusive"
    assert verdict.unbounded == ("low", "high")


# ---------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("layers", range(1, 40))
def test_counts_compare_as_whole_numbers(layers: int) -> None:
    """log(2 a) - log(a) is not log(2) at 5 and 6 layers of 48."""
    sizes = {"moe": (48 * layers, 48 * layers), "dense": (96 * layers, 96 * layers)}
    tests = [
        {"kind": "ratio_at_least", "value": 2.0},
        {"kind": "ratio_within", "low": 0.5, "high": 0.6},
        {"kind": "non_inferior", "margin": "0%"},
    ]
    for test in tests:
        evidence = evidence_of({"moe": {}, "dense": {}}, {"c": claim(test, "cost.total_params")}, params=sizes)
        assert judged(evidence).state == "supported", test


@pytest.mark.parametrize("percent", [0.7, 5.5, 7.0, 14.0, 28.0, 56.0])
def test_a_count_just_at_a_margin(percent: float) -> None:
    """0.7% reaches the claim as 0.006999999999999999."""
    sizes = {"moe": (100_000, round(1000 * (100 - percent))), "dense": (100_000, 100_000)}
    block = {"non": claim({"kind": "non_inferior", "margin": f"{percent}%"}, "cost.active_params")}
    turned = claim({"kind": "non_inferior", "margin": f"{percent}%"}, "routing.entropy")
    assert turned["test"]["margin"] == f"{percent}%"
    block["more"] = claim({"kind": "superior", "margin": f"{percent}%"}, "cost.active_params")
    non, more = judge(evidence_of({"moe": {}, "dense": {}}, block, params=sizes))
    assert (non.state, more.state) == ("supported", "refuted"), "lower by just the margin is not by more than it"


@pytest.mark.parametrize(
    ("sizes", "state"),
    [((100_000, 90_000, 200_000), "inconclusive"), ((100_000, 100_000, 200_000), "supported")],
)
def test_a_trend_of_counts_has_no_step_against_it(sizes: tuple[int, ...], state: str) -> None:
    points = {f"moe_{k}": {"ffn.experts": float(k)} for k in (2, 4, 8)}
    block = claim({"kind": "trend", "sign": "rising"}, "cost.total_params", over="moe", along="ffn.experts")
    params = {name: (size, size) for name, size in zip(points, sizes, strict=True)}
    verdict = judged(evidence_of({name: {} for name in points}, {"c": block}, sweeps={"moe": points}, params=params))
    assert verdict.state == state
    assert ("from ffn.experts 2 to 4" in verdict.reason) == (state == "inconclusive")


@pytest.mark.parametrize(("ceiling", "state"), [(120_000, "supported"), (100_000, "inconclusive")])
def test_a_share_of_a_counted_gain_is_exact(ceiling: int, state: str) -> None:
    block = claim({"kind": "recovers", "value": 0.5}, "cost.total_params", compare={**TWIN, "ceiling": "big"})
    params = {"moe": (80_000, 80_000), "dense": (100_000, 100_000), "big": (200_000 - ceiling, 1)}
    assert judged(evidence_of({name: {} for name in params}, {"c": block}, params=params)).state == state


def test_counts_that_do_not_change_have_no_trend() -> None:
    points = {f"moe_{k}": {"ffn.top_k": float(k)} for k in (3, 5, 7)}
    sizes = dict.fromkeys(points, (123457, 123457))
    for sign in ("rising", "falling"):
        block = claim({"kind": "trend", "sign": sign}, "cost.total_params", over="moe", along="ffn.top_k")
        evidence = evidence_of({name: {} for name in points}, {"c": block}, params=sizes, sweeps={"moe": points})
        assert judged(evidence).state == "refuted"


# ---------------------------------------------------------------------------------------------- two bounds


@pytest.mark.parametrize("margin", ["1%", "20%", "60%"])
def test_equivalence_does_not_depend_on_which_is_the_baseline(margin: str) -> None:
    for factor in (1.22, 1.18, 1.005, 1.7):
        high, low = [2.0 * factor + s / 1e5 for s in range(8)], [2.0] * 8
        test = {"kind": "equivalent", "margin": margin}
        one, other = judged(pair(high, low, test)), judged(pair(low, high, test))
        assert one.state == other.state, (factor, margin)
    assert "0.833× to 1.2×" in judged(pair([2.0] * 8, [2.0] * 8, {"kind": "equivalent", "margin": "20%"})).asked


def test_refuting_by_either_of_two_bounds_counts_both_sides() -> None:
    x = [0.01, 0.02, 0.03, 0.04, 0.05, -0.02, 0.02, 0.03]
    narrow = lower_by(x, {"kind": "equivalent", "margin": 0.0})
    one_sided = lower_by(x, {"kind": "superior", "margin": 0.0})
    assert narrow.p_against == pytest.approx(2 * one_sided.p)
    assert (one_sided.state, narrow.state) == ("supported", "inconclusive")
    wide = lower_by([g + 0.5 for g in x], {"kind": "equivalent", "margin": 0.5})
    assert wide.p_against == pytest.approx(one_sided.p), "nothing lies as far beyond the other side"


def test_false_refutation_by_two_bounds_is_no_more_than_nominal() -> None:
    x = np.random.default_rng(0).normal(0, 1, (4000, 8))
    p = np.array([min(1.0, 2 * min(stats.sign_flip_p(row), stats.sign_flip_p(-row))) for row in x])
    assert np.mean(p <= 0.025) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 4000)


# ---------------------------------------------------------------------------------------------- recovering


def recovering(ceiling_gains: Sequence[float], share: float = 0.0, **other: Any) -> Evidence:
    columns = {
        "moe": [2.2 - share * gain for gain in ceiling_gains],
        "dense": [2.2] * len(ceiling_gains),
        "big": [2.2 - gain for gain in ceiling_gains],
    }
    return KINDS["recovers"].evidence(columns, **other)


def test_a_share_of_no_gain_is_neither_supported_nor_refuted() -> None:
    shown = [0.2 + s / 100 for s in range(8)]
    assert judged(recovering(shown)).state == "refuted"
    for gains_of_ceiling in ([0.2 * (-1) ** s for s in range(8)], [-0.1 - s / 100 for s in range(8)]):
        for share in (-1.0, 0.0, 2.0):
            verdict = judged(recovering(gains_of_ceiling, share))
            assert verdict.state == "inconclusive"
            assert verdict.units_needed is None or verdict.units_needed > verdict.n
    columns = {"moe": [2.3] * 8, "dense": [2.2] * 8, "big": [2.201, *[2.1998] * 3, *[2.0] * 4]}
    barely = judged(KINDS["recovers"].evidence(columns))
    assert "the gain of big over dense, of which a share is asked, is not shown to be above 0" in barely.reason
    assert barely.units_low is not None
    assert barely.units_low > barely.n, "of seeds that show the gain"


def test_a_ceiling_that_diverged_shows_no_gain() -> None:
    verdict = judged(recovering([0.2 + s / 100 for s in range(10)], 0.9, diverged=[("big", 0)]))
    assert verdict.state == "inconclusive"
    assert verdict.share is None, "never the share of the seeds that made it"


# ---------------------------------------------------------------------------------------------- numbers that agree


def test_the_order_of_the_seeds_is_no_choice() -> None:
    """Beyond 16 pairs signs are flipped block by block: which seeds share a block must not be for the suite to say."""
    rng = np.random.default_rng(3)
    gains = dict(enumerate(0.005 + rng.normal(0, 0.01, 20)))

    def p(order: Sequence[int]) -> float | None:
        columns = [2 - gains[seed] for seed in order]
        return judged(pair(columns, [2.0] * 20, {"kind": "superior", "margin": 0.0}, seeds=tuple(order))).p

    assert len({p([int(seed) for seed in rng.permutation(20)]) for _ in range(10)}) == 1


@pytest.mark.parametrize("value", [0.1, 0.07, 0.9, 1 / 3, 1.5e-7])
def test_a_number_is_exactly_what_it_is_written_as(value: float) -> None:
    """One tenth has no binary float: held against the fraction, every run of 0.1 would be off."""

    def verdict(**test: float) -> str:
        block = claim({"kind": "exact", **test}, "routing.entropy", model="moe")
        values = {"moe": {"routing.entropy": [value] * 6}, "dense": {BPB: [2.0] * 6}}
        return judged(evidence_of(values, {"c": block})).state

    assert verdict(value=value) == "supported"
    assert verdict(value=value * (1 + 1e-12)) == "refuted"
    assert verdict(value=value * (1 + 1e-12), tolerance=1e-12) == "supported"


def test_a_ratio_that_is_asked_for_may_be_tiny() -> None:
    assert lower_by([0.1] * 6, {"kind": "ratio_at_least", "value": 1e-12}).state == "supported"


def peaks(n: int, *, claims: int = 1) -> list[Verdict]:
    """Claims on a number that is the same in all n runs."""
    metric = "memory.train_peak_bytes"
    values = {"moe": {metric: [100.0] * n}, "dense": {metric: [120.0] * n}}
    block = {"kind": "superior", "margin": "5%"}
    return judge(
        evidence_of(values, {f"c{i}": claim(block, metric, family="primary", says=f"{i}") for i in range(claims)})
    )


def test_two_runs_that_agree_are_too_few_like_any_two() -> None:
    (few,), (enough,) = peaks(2), peaks(6)
    assert (few.state, few.reason) == ("inconclusive", "2 seeds; at least 6 for any verdict")
    assert (enough.state, enough.p_adjusted, enough.effect) == ("supported", 2**-6, "−16.7%")


def test_numbers_that_agree_are_corrected_for_as_others_are() -> None:
    assert [verdict.p_adjusted for verdict in peaks(6, claims=3)] == [3 * 2**-6] * 3
    assert {verdict.state for verdict in peaks(6, claims=3)} == {"inconclusive"}


def test_a_share_is_supported_no_more_surely_than_its_gain() -> None:
    """What must be shown besides is corrected for as the claim itself is."""
    gain = np.array([0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.04, -0.04])  # p = 3 / 256 of a gain above 0
    values = {"moe": {BPB: [1.8] * 8}, "dense": {BPB: [2.0] * 8}, "big": {BPB: 2 - gain}}
    block = {"kind": "recovers", "value": 0.5}
    compare = {**TWIN, "ceiling": "big"}

    def states(claims: int) -> set[str]:
        made = {f"c{i}": claim(block, family="primary", compare=compare, says=f"{i}") for i in range(claims)}
        return {verdict.state for verdict in judge(evidence_of(values, made))}

    assert states(1) == {"supported"}
    assert states(3) == {"inconclusive"}


# ----------------------------------------------------------------------------------------------------
# What an undecided claim could have detected, and what it would take.


def test_inconclusive_says_what_it_could_have_seen_and_what_it_needs() -> None:
    gains_seen = np.arange(1.0, 9.0) / 100
    verdict = lower_by(gains_seen, {"kind": "superior", "margin": 0.03})
    sd = 0.01 * math.sqrt(6)
    assert verdict.detectable == pytest.approx(stats.detectable(8, 0.025) * sd)
    assert verdict.units_needed == stats.smallest(lambda n: stats.power(n, 0.015 / sd, 0.0125)), "the next look counts"
    assert verdict.needs is not None
    assert verdict.needs.startswith("smallest detectable effect 0.0287 bits/byte beyond the threshold (80% power)")
    assert verdict.units_low is not None
    assert verdict.units_low < verdict.units_needed < (verdict.units_high or math.inf)
    assert f"more seeds are needed: {verdict.units_low} to {verdict.units_high}," in verdict.needs
    assert lower_by(gains_seen, {"kind": "superior"}).needs is None


def test_an_effect_just_at_the_bound_has_no_upper_end() -> None:
    verdict = lower_by([0.03, -0.02, 0.01, -0.03, 0.02, -0.01, 0.02, -0.01], {"kind": "superior"})
    assert verdict.units_high is None
    assert verdict.needs is not None
    assert "8 give no upper estimate" in verdict.needs


def test_equal_models_need_no_more_seeds() -> None:
    verdict = lower_by([0.0] * 8, {"kind": "superior", "margin": 0.0})
    assert verdict.state == "inconclusive"
    assert verdict.needs == "identical in all 8 seeds, exactly at the threshold: more seeds will not decide"


def test_too_few_seeds_for_the_family() -> None:
    block = {f"c{i}": claim({"kind": "superior", "margin": 0.0}, family="primary") for i in range(3)}
    first, *_ = judge(evidence_of({"moe": {BPB: [1.9 + s / 99 for s in range(6)]}, "dense": {BPB: [2.0] * 6}}, block))
    assert first.state == "inconclusive"
    assert first.units_needed is not None
    assert first.units_needed >= 8, "2^-7 is above 2.5% / 3 / 2"


def test_divergence_is_not_answered_with_more_training() -> None:
    verdict = lower_by([0.02] * 8, {"kind": "superior"}, diverged=[("moe", 3)])
    assert verdict.needs is not None
    assert "diverged (1 of moe)" in verdict.needs
    assert "learning rate" in verdict.needs


def test_memory_is_no_worse_for_a_run_that_diverged() -> None:
    metric = "memory.train_peak_bytes"
    test = {"kind": "superior", "margin": "1%"}
    evidence = pair([1e6] * 8, [2e6] * 8, test, metric=metric, diverged=[("moe", 3)])
    measured = with_outcome(evidence, "moe", 3, values={metric: 1e6})
    assert judged(measured).state == "supported"
    verdict = judged(evidence)
    assert (verdict.state, verdict.unbounded) == ("interim", ())
    assert "not measured before it diverged" in verdict.reason


@pytest.mark.parametrize("kind", ["equivalent", "superior"])
def test_the_number_that_would_decide_decides(kind: str) -> None:
    """New samples of that size, from what was seen, are decided four times in five."""
    rng = np.random.default_rng(3)
    shift = 0.0 if kind == "equivalent" else 0.0078
    x = rng.normal(0, 1, 8)
    x = 0.01 * (x - x.mean()) / x.std(ddof=1) + shift
    test = {"kind": kind, "margin": 0.006 if kind == "equivalent" else 0.0}
    verdict = lower_by(x, test)
    assert verdict.state == "inconclusive"
    n, trials = verdict.units_needed, 100
    assert n is not None
    level = (0.05 if kind == "equivalent" else 0.025) / 2
    draws = rng.normal(shift, 0.01, (trials, n))
    bounds = [(-0.006, 1), (0.006, -1)] if kind == "equivalent" else [(0.0, 1)]
    decided = np.mean([all(stats.sign_flip_p(s * row, s * bound) <= level for bound, s in bounds) for row in draws])
    assert 0.7 <= decided <= 0.95
