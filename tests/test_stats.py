"""Intervals cover what they say, tests reject no more than they say, and hand-computed numbers come out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from moebench import stats
from moebench.claims.kinds.sweeping import slope_weights

ONE_TO_EIGHT = np.arange(1.0, 9.0)


# ---------------------------------------------------------------------------------------------- paired t


def test_paired_interval_by_hand() -> None:
    # mean 4.5, SD sqrt(6), SE sqrt(6 / 8), t(7, 97.5%) = 2.36462
    estimate = stats.paired(ONE_TO_EIGHT)
    interval = estimate.interval(0.95)
    assert estimate.centre == 4.5
    assert interval.low == pytest.approx(4.5 - 2.36462 * math.sqrt(6 / 8), abs=1e-4)
    assert interval.high == pytest.approx(4.5 + 2.36462 * math.sqrt(6 / 8), abs=1e-4)
    assert estimate.p_above(4.0) == pytest.approx(
        scipy_stats.ttest_1samp(ONE_TO_EIGHT, 4, alternative="greater").pvalue
    )
    assert estimate.p_below(4.0) == pytest.approx(1 - estimate.p_above(4.0))


@pytest.mark.parametrize("value", [0.3, 0.1 + 0.2, -7.0, 0.0, 1e-300])
def test_zero_variance_is_a_point_and_divides_by_nothing(value: float) -> None:
    estimate = stats.paired(np.full(8, value))
    interval = estimate.interval(0.99)
    assert (estimate.se, interval.high - interval.low) == (0.0, 0.0)
    assert estimate.p_above(value - 1) == 0.0
    assert estimate.p_above(value) == 1.0
    assert estimate.p_above(value + 1) == 1.0


def test_values_that_agree_to_rounding_have_no_variance() -> None:
    assert stats.paired(np.array([0.1 + 0.2, 0.3, 0.3])).se == 0.0


@pytest.mark.parametrize("n", [3, 5, 8, 10])
def test_paired_interval_covers_what_it_says(n: int) -> None:
    x = np.random.default_rng(n).normal(1.0, 2.0, (3000, n))
    inside = [interval.low <= 1.0 <= interval.high for interval in (stats.paired(row).interval(0.95) for row in x)]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_welch_interval_covers_and_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2000, 4)), rng.normal(0, 3, (2000, 6))
    inside = [i.low <= 0 <= i.high for i in (stats.welch(p, q).interval(0.99) for p, q in zip(a, b, strict=True))]
    assert 0.98 <= np.mean(inside) <= 1.0
    ours, theirs = stats.welch(a[0], b[0]), scipy_stats.ttest_ind(a[0], b[0], equal_var=False)
    assert ours.interval(0.95).low == pytest.approx(theirs.confidence_interval(0.95).low)
    assert ours.df == pytest.approx(theirs.df)


# ---------------------------------------------------------------------------------------------- signs


@pytest.mark.parametrize("n", [1, 2, 5, 8, 11])
def test_sign_flip_counts_all_flips(n: int) -> None:
    x = np.random.default_rng(n).normal(0.7, 1, n)
    flips = np.array(np.meshgrid(*[[1, -1]] * n)).reshape(n, -1).T
    assert stats.sign_flip_p(x, 0.2) == pytest.approx(np.mean(flips @ (x - 0.2) >= np.sum(x - 0.2) - 1e-12))


def test_sign_flip_by_hand() -> None:
    # 1..8 less 2: -1 0 1 2 3 4 5 6, sum 20 of at most 22. Reached by no flip, flipping -1, or flipping -1 and 1,
    # each with either sign of the 0: 6 of 256.
    assert stats.sign_flip_p(ONE_TO_EIGHT, 2.0) == 6 / 256
    assert stats.sign_flip_p(ONE_TO_EIGHT) == 2**-8


def test_sign_flip_without_variance() -> None:
    same = np.full(8, 0.3)
    assert stats.sign_flip_p(same) == 2**-8
    assert stats.sign_flip_p(same, 0.3) == 1.0
    assert stats.sign_flip_p(same, 0.4) == 1.0


def test_sign_flip_is_exact_beyond_what_can_be_enumerated() -> None:
    rng = np.random.default_rng(1)
    p = np.array([stats.sign_flip_p(rng.standard_cauchy(40)) for _ in range(40)])
    assert 0.2 < np.mean(p <= 0.5) < 0.8
    assert stats.sign_flip_p(np.full(100, 1.0)) == 2**-16


def test_sign_flip_rejects_no_more_than_nominal() -> None:
    x = np.random.default_rng(2).standard_t(2, (2000, 8))
    assert np.mean([stats.sign_flip_p(row) <= 0.025 for row in x]) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)


def test_sign_flip_takes_infinities_and_counts_unknowns_against() -> None:
    x = np.array([1.0, 2, 3, 4, 5, np.inf])
    assert stats.sign_flip_p(x) == 2**-6
    assert stats.sign_flip_limit(x, 0.025) == 1.0
    for bad in (-np.inf, np.nan):
        x = np.array([1.0, 2, 3, 4, 5, bad, 7, 8, 9, 10])
        assert stats.sign_flip_p(x) > 0.5
        assert stats.sign_flip_limit(x, 0.025) == -np.inf
    with pytest.raises(ValueError, match="at least one"):
        stats.sign_flip_p(np.array([]))


@given(
    st.lists(st.integers(-9, 9), min_size=6, max_size=9), st.integers(0, 8), st.sampled_from([0.001, 1, 5, math.inf])
)
def test_sign_flip_never_gains_by_a_lower_effect(x: list[int], index: int, less: float) -> None:
    """Of a t test this does not hold: lowering the one large effect of [1, 1, 1, 1, 1, 9] shrinks the variance."""
    before = np.array(x) / 3
    after = before.copy()
    after[index % len(x)] -= less
    for null in (0.0, 0.5):
        assert stats.sign_flip_p(after, null) >= stats.sign_flip_p(before, null)
    assert stats.sign_flip_limit(after, 0.025) <= stats.sign_flip_limit(before, 0.025) + 1e-12


@given(st.lists(st.integers(-20, 20), min_size=6, max_size=9), st.sampled_from([0.025, 0.05]), st.integers(-41, 41))
def test_the_limit_of_sign_flips_inverts_the_test(x: list[int], alpha: float, null: int) -> None:
    effects, at = np.array(x, dtype=float), null / 2
    limit = stats.sign_flip_limit(effects, alpha)
    assert (stats.sign_flip_p(effects, at) <= alpha) == (limit > at + 1e-9)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_the_interval_of_sign_flips_covers_what_it_says(n: int) -> None:
    x = np.random.default_rng(n).standard_t(3, (2000, n))
    inside = [stats.sign_flip_limit(row, 0.025) <= 0 <= -stats.sign_flip_limit(-row, 0.025) for row in x]
    level = 1 - 2 * stats.attained(n, 0.025)
    assert np.mean(inside) == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 2000))


def test_the_p_of_two_sides_is_doubled_but_for_the_width_between() -> None:
    x = np.array([0.1, 0.4, -0.2, 0.3, 0.5, 0.6])
    assert stats.sign_flip_p(x, further=0.0) == stats.sign_flip_p(x)
    assert stats.sign_flip_p(x, further=0.1) < stats.sign_flip_p(x)
    assert stats.sign_flip_p(x, further=9.0) == 0.0


def test_what_signs_can_reach_with_few_pairs() -> None:
    assert [stats.attained(n, 0.025) for n in (5, 6, 8)] == [0.0, 1 / 64, 6 / 256]


# ---------------------------------------------------------------------------------------------- medians


def test_median() -> None:
    assert stats.median(np.array([3.0, 1.0, 2.0, np.nan])) == 2.0
    assert stats.median(np.array([1.0, 2.0, np.inf, np.inf])) == np.inf
    assert stats.median(np.array([1.0, np.inf, np.inf])) == np.inf
    assert math.isnan(stats.median(np.array([np.nan])))


# ---------------------------------------------------------------------------------------------- Holm


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_adjusts_upwards_keeps_order_and_stays_below_bonferroni(p: list[float]) -> None:
    adjusted = stats.holm(p)
    assert all(a >= b or a == 1.0 for a, b in zip(adjusted, p, strict=True))
    assert all(a <= min(1.0, len(p) * b) + 1e-12 for a, b in zip(adjusted, p, strict=True))
    ranks = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(ranks))


def test_holm_keeps_the_family_error() -> None:
    rng = np.random.default_rng(4)
    wrong = []
    for _ in range(1000):
        x = rng.normal(0, 1, (4, 8)) + np.array([[0], [0], [0], [3]])
        adjusted = stats.holm([stats.paired(row).p_above(0) for row in x])
        wrong.append(min(adjusted[:3]) <= 0.025)
    assert np.mean(wrong) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 1000)


# ---------------------------------------------------------------------------------------------- documents


def test_clustered_by_hand() -> None:
    # Two documents of 100 bytes; bits 210 and 190 against 200 and 200: both models have 2 bits a byte, and the
    # documents disagree by +10 and -10 bits of 200 bytes: SE = sqrt(2 / 1 * 2 * (10 / 200)^2) = 0.1.
    bits, sizes, weights = np.array([[210.0, 190.0], [200.0, 200.0]]), np.array([100.0, 100.0]), np.array([1.0, -1.0])
    difference = stats.clustered(bits, sizes, weights, log=False)
    assert difference.centre == pytest.approx(0.0)
    assert difference.se == pytest.approx(0.1)
    assert difference.df == 1
    assert stats.clustered(bits, sizes, weights, log=True).se == pytest.approx(0.05)


def test_clustered_is_the_ratio_of_sums_not_the_mean_of_ratios() -> None:
    bits, sizes = np.array([[100.0, 4000.0], [100.0, 2000.0]]), np.array([100.0, 1000.0])
    assert stats.clustered(bits, sizes, np.array([1.0, -1.0]), log=False).centre == pytest.approx((4100 - 2100) / 1100)


def test_clustered_interval_covers_over_documents_of_unequal_size() -> None:
    rng = np.random.default_rng(5)
    inside = []
    for _ in range(1500):
        sizes = rng.integers(500, 1500, 60).astype(float)
        hard = rng.normal(2.2, 0.3, 60)
        bits = np.stack([sizes * (hard + 0.02 + rng.normal(0, 0.05, 60)), sizes * hard])
        interval = stats.clustered(bits, sizes, np.array([1.0, -1.0]), log=False).interval(0.95)
        inside.append(interval.low <= 0.02 <= interval.high)
    assert 0.93 <= np.mean(inside) <= 0.97


def test_clustered_pairs_documents() -> None:
    """What makes a document hard for both models does not widen the interval of their difference."""
    rng = np.random.default_rng(6)
    sizes, hard = np.full(30, 1000.0), rng.normal(2.2, 0.5, 30)
    bits = np.stack([sizes * (hard + 0.01), sizes * hard])
    assert stats.clustered(bits, sizes, np.array([1.0, -1.0]), log=False).se < 1e-12
    assert stats.clustered(bits[:1], sizes, np.array([1.0]), log=False).se > 0.05


# ---------------------------------------------------------------------------------------------- shapes


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=6, unique=True), st.floats(-5, 5), st.floats(-5, 5))
def test_slope_weights_recover_a_line(x: list[float], slope: float, start: float) -> None:
    points = np.array(x) * 1.0
    if np.ptp(points) < 1e-3:
        return
    assert slope_weights(points) @ (start + slope * points) == pytest.approx(slope, abs=1e-6)


def test_slope_weights_need_two_values() -> None:
    with pytest.raises(ValueError, match="two different"):
        slope_weights(np.array([3.0, 3.0]))


def test_crossing_is_interpolated_in_log_x() -> None:
    x, y = np.array([1.0, 100.0, 1000.0]), np.array([3.0, 2.0, 1.0])
    assert stats.crossing(x, y, 2.5) == pytest.approx(10.0)
    assert stats.crossing(x, y, 2.0) == 100.0
    assert stats.crossing(x, y, 1.0) == 1000.0
    assert stats.crossing(x, y, 0.5) == math.inf
    assert math.isnan(stats.crossing(x, y, 3.5))
    assert stats.crossing(x, y, 3.0) == 1.0


def test_crossing_is_the_first_one() -> None:
    assert stats.crossing(np.array([1.0, 10.0, 100.0, 1000.0]), np.array([3.0, 1.9, 2.1, 1.0]), 2.0) < 10.0


def test_fieller_interval_is_the_shares_whose_contrast_holds_zero() -> None:
    rng = np.random.default_rng(7)
    whole = rng.normal(1.0, 0.1, 8)
    part = 0.6 * whole + rng.normal(0, 0.05, 8)
    interval = stats.fieller(part, whole, 0.95)
    assert interval is not None
    for share in (interval.low, interval.high):
        contrast = stats.paired(part - share * whole).interval(0.95)
        assert min(abs(contrast.low), abs(contrast.high)) == pytest.approx(0, abs=1e-9)
    assert stats.fieller(part, whole - 1.0, 0.95) is None


# ---------------------------------------------------------------------------------------------- planning


@pytest.mark.parametrize("n", [6, 8, 12])
def test_power_is_what_simulation_finds(n: int) -> None:
    x = np.random.default_rng(8).normal(1.0, 1.0, (1500, n))
    seen = np.mean([stats.sign_flip_p(row) <= 0.025 for row in x])
    assert stats.power(n, 1.0, 0.025) == pytest.approx(seen, abs=0.06)


def test_detectable_effect_has_the_power_it_says() -> None:
    for n in (6, 8, 30):
        assert stats.power(n, stats.detectable(n, 0.025), 0.025) == pytest.approx(0.8, abs=1e-4)
    assert stats.detectable(5, 0.025) == math.inf, "five pairs see nothing, however large"


def test_smallest_is_the_first_that_suffices() -> None:
    def needed(effect: float, alpha: float) -> int | None:
        return stats.smallest(lambda n: stats.power(n, effect, alpha))

    n = needed(0.7, 0.025)
    assert n is not None
    assert stats.power(n, 0.7, 0.025) >= 0.8 > stats.power(n - 1, 0.7, 0.025)
    assert needed(50.0, 0.025) == 6, "below six pairs no sign-flip test can reach 2.5%"
    assert needed(50.0, 0.025 / 4) == 8
    assert needed(0.001, 0.025) is None


@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.3, 2.0])
def test_the_range_of_a_standardised_effect_covers_what_it_says(effect: float) -> None:
    rng, inside = np.random.default_rng(9), 0
    for row in rng.normal(effect, 1.0, (400, 8)):
        low, high = stats.effect_range(float(np.mean(row) / np.std(row, ddof=1)), 8, 0.8)
        inside += low <= effect <= high
    assert inside / 400 == pytest.approx(0.8, abs=0.06)
