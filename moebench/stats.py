"""Intervals and tests on small arrays of effects: one number a seed, a process or a document.

Formulas, not policy: what margin is asked and what follows from an interval is the business of `claims`. A t interval
covers what it says at any n; a percentile bootstrap over seeds does not (84% at n = 5) and is not here. Effects may
be infinite where a run never got there, and NaN where it is unknown which way: only the functions on medians and
signs take those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy import stats as distributions

Array = npt.NDArray[np.float64]

_BLOCKS = 32


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A two-sided interval; its ends may be infinite."""

    low: float
    high: float
    level: float
    """Its true coverage, such as 0.95; for order statistics at least what was asked."""

    @property
    def width(self) -> float:
        return self.high - self.low

    def flipped(self) -> Interval:
        """The interval of the negated quantity."""
        return Interval(low=-self.high, high=-self.low, level=self.level)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean-like quantity with its standard error: everything t-based is one of these."""

    centre: float
    se: float
    """0 when all observations agree: then the interval is the point."""
    df: float

    def interval(self, level: float) -> Interval:
        """The two-sided t interval at `level`, such as 0.95."""
        half = 0.0 if self.se == 0 else float(distributions.t.ppf((1 + level) / 2, self.df)) * self.se
        return Interval(low=self.centre - half, high=self.centre + half, level=level)

    def p_above(self, null: float) -> float:
        """One-sided p of "it is above `null`". Without any variance it is 0 or 1."""
        if self.se == 0:
            return 0.0 if self.centre > null else 1.0
        return float(distributions.t.sf((self.centre - null) / self.se, self.df))

    def p_below(self, null: float) -> float:
        """One-sided p of "it is below `null`"."""
        return Estimate(centre=-self.centre, se=self.se, df=self.df).p_above(-null)


# ---------------------------------------------------------------------------------------------- paired effects


def standard_deviation(x: Array) -> float:
    """Sample SD (n - 1) of x [n], n >= 2; exactly 0 when its values agree to rounding."""
    if np.ptp(x) <= 1e-12 * float(np.max(np.abs(x))):
        return 0.0
    return float(np.std(x, ddof=1))


def paired(x: Array) -> Estimate:
    """Mean of paired differences or log-ratios x [n], n >= 2, all finite (Student's paired t)."""
    n = len(x)
    if n < 2:
        raise ValueError("an interval needs at least two pairs")
    return Estimate(centre=float(np.mean(x)), se=standard_deviation(x) / math.sqrt(n), df=n - 1)


def sum_of_means(a: Array, b: Array) -> Estimate:
    """mean(a) + mean(b) of independent samples, variances added (Welch-Satterthwaite degrees of freedom)."""
    one, two = paired(a), paired(b)
    variance = one.se**2 + two.se**2
    if variance == 0:
        return Estimate(centre=one.centre + two.centre, se=0.0, df=one.df + two.df)
    df = variance**2 / (one.se**4 / one.df + two.se**4 / two.df)
    return Estimate(centre=one.centre + two.centre, se=math.sqrt(variance), df=df)


def welch(a: Array, b: Array) -> Estimate:
    """mean(a) - mean(b) of independent samples with unequal variances."""
    return sum_of_means(a, -b)


def sign_flip_p(x: Array, null: float = 0.0) -> float:
    """Exact one-sided p of "effects x [n], all finite, are centred above `null`" under flips of the signs of x - null.

    All 2^n flips are counted, by sorting the sums of two halves. Beyond 32 pairs the flips are of 32 blocks of pairs:
    a subgroup of all flips, so still exact. Effects at the null have no sign and count against.
    """
    shifted = np.asarray(x, dtype=np.float64) - null
    if len(shifted) == 0 or not np.all(np.isfinite(shifted)):
        raise ValueError("a sign-flip test needs at least one effect, all finite; see sign_test_p")
    if len(shifted) > _BLOCKS:
        shifted = np.array([np.sum(block) for block in np.array_split(shifted, _BLOCKS)])
    half = len(shifted) // 2
    left, right = _flipped_sums(shifted[:half]), np.sort(_flipped_sums(shifted[half:]))
    # Ties with the observed sum must be counted in, whatever the order of summation did to the last bits.
    reach = float(np.sum(shifted)) - 1e-9 * float(np.sum(np.abs(shifted)))
    at_least = len(right) - np.searchsorted(right, reach - left, side="left")
    return float(np.sum(at_least)) / 2.0 ** len(shifted)


def _flipped_sums(x: Array) -> Array:
    """Sums of x [n] under every flip of signs: [2^n]."""
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def sign_test_p(x: Array, null: float = 0.0) -> float:
    """Exact one-sided p of "the median of x [n] is above `null`". Takes infinities; NaN and ties count against."""
    above = int(np.sum(x > null))
    return float(distributions.binom.sf(above - 1, len(x), 0.5))


def median_interval(x: Array, level: float = 0.95) -> Interval | None:
    """Order-statistic interval of the median of x [n]: [x1, x8] at n = 8, [x2, x9] at n = 10, for level 0.95.

    The ends are the k-th smallest and largest, k the largest for which the coverage, 1 - 2 P(Binomial(n, 1/2) < k),
    is at least `level`; None when n is too small for any. An unknown (NaN) takes the worst value at either end.
    """
    n = len(x)
    k = int(distributions.binom.ppf((1 - level) / 2, n, 0.5))
    while k > 0 and distributions.binom.cdf(k - 1, n, 0.5) > (1 - level) / 2:
        k -= 1
    while distributions.binom.cdf(k, n, 0.5) <= (1 - level) / 2:
        k += 1
    if k < 1:
        return None
    lowest = np.sort(np.where(np.isnan(x), -np.inf, x))
    highest = np.sort(np.where(np.isnan(x), np.inf, x))
    coverage = 1 - 2 * float(distributions.binom.cdf(k - 1, n, 0.5))
    return Interval(low=float(lowest[k - 1]), high=float(highest[n - k]), level=coverage)


def median(x: Array) -> float:
    """Median of x [n] without its unknowns; may be infinite, NaN when nothing is known or +inf meets -inf."""
    known = np.sort(x[~np.isnan(x)])
    if len(known) == 0:
        return math.nan
    low, high = float(known[(len(known) - 1) // 2]), float(known[len(known) // 2])
    return low if low == high else low + (high - low) / 2 if math.isfinite(low) and math.isfinite(high) else low + high


# ---------------------------------------------------------------------------------------------- several claims


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scand. J. Statist. 6, 1979), in the order given."""
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, (len(p) - rank) * p[index])
        adjusted[index] = min(1.0, running)
    return adjusted


# ---------------------------------------------------------------------------------------------- documents


def clustered(bits_MI: Array, bytes_I: Array, weights_M: Array, *, log: bool) -> Estimate:
    """A contrast of bits per byte between models, with its error over documents.

    bits_MI [models, documents] are cross-entropy bits averaged over seeds, bytes_I [documents] their sizes; bits per
    byte is a ratio of sums, r_m = sum_i bits_mi / sum_i bytes_i, and the contrast is sum_m w_m r_m, or of log r_m.
    The same documents stand under every model, so their differences are paired; the standard error is the linearised
    one with a document as the cluster (Miller 2024, arXiv:2411.00640).
    """
    documents = len(bytes_I)
    if documents < 2:
        raise ValueError("an interval over documents needs at least two")
    total_bytes = float(np.sum(bytes_I))
    ratios_M = np.sum(bits_MI, axis=1) / total_bytes
    centre = float(weights_M @ (np.log(ratios_M) if log else ratios_M))
    influence_MI = (bits_MI - ratios_M[:, None] * bytes_I[None, :]) / total_bytes
    if log:
        influence_MI = influence_MI / ratios_M[:, None]
    influence_I = weights_M @ influence_MI
    variance = documents / (documents - 1) * float(np.sum(influence_I**2))
    return Estimate(centre=centre, se=math.sqrt(variance), df=documents - 1)


# ---------------------------------------------------------------------------------------------- shapes


def slope_weights(x: Array) -> Array:
    """Weights w [k] so that w @ y is the least-squares slope of y over x [k]. Raises ValueError when x is constant."""
    centred = x - np.mean(x)
    spread = float(np.sum(centred**2))
    if spread == 0:
        raise ValueError("a slope needs at least two different values")
    return np.asarray(centred / spread, dtype=np.float64)


def crossing(x: Array, y: Array, target: float) -> float:
    """The x > 0 at which a falling curve first reaches `target`: x [k] ascending, y [k], linear in log x between.

    Infinite when it never does; NaN when it is already below at the first point, since where it crossed is unknown.
    """
    reached = np.flatnonzero(y <= target)
    if len(reached) == 0:
        return math.inf
    index = int(reached[0])
    if y[index] == target:
        return float(x[index])
    if index == 0:
        return math.nan
    share = (y[index - 1] - target) / (y[index - 1] - y[index])
    return float(math.exp(math.log(x[index - 1]) + share * (math.log(x[index]) - math.log(x[index - 1]))))


def fieller(numerator: Array, denominator: Array, level: float) -> Interval | None:
    """Fieller's interval of mean(numerator) / mean(denominator), paired [n]: the shares f whose contrast holds 0.

    A share f is in it when the t interval of numerator - f * denominator contains 0. None when the denominator's own
    interval holds 0: then the set is unbounded and no share can be stated (Fieller, JRSS B 16, 1954).
    """
    n = len(numerator)
    t = float(distributions.t.ppf((1 + level) / 2, n - 1))
    cov = np.atleast_2d(np.cov(numerator, denominator)) / n
    top, bottom = float(np.mean(numerator)), float(np.mean(denominator))
    a = bottom**2 - t**2 * float(cov[1, 1])
    if a <= 0:
        return None
    b = top * bottom - t**2 * float(cov[0, 1])
    c = top**2 - t**2 * float(cov[0, 0])
    root = math.sqrt(max(0.0, b * b - a * c))
    return Interval(low=(b - root) / a, high=(b + root) / a, level=level)


# ---------------------------------------------------------------------------------------------- planning


def power(n: int, effect_sd: float, alpha: float) -> float:
    """Chance that a one-sided paired t test at `alpha` sees an effect of `effect_sd` SDs with n pairs.

    Noncentral t.
    """
    critical = float(distributions.t.ppf(1 - alpha, n - 1))
    chance = float(distributions.nct.sf(critical, n - 1, effect_sd * math.sqrt(n)))
    return chance if math.isfinite(chance) else 1.0


def detectable(n: int, alpha: float, *, chance: float = 0.8) -> float:
    """The effect, in SDs of the paired difference, that n >= 2 pairs see with probability `chance`."""
    top = 1.0
    while power(n, top, alpha) < chance:
        top *= 2
    return float(optimize.brentq(lambda effect: power(n, effect, alpha) - chance, 0.0, top, xtol=1e-6))


def pairs_needed(effect_sd: float, alpha: float, *, chance: float = 0.8, largest: int = 10_000) -> int | None:
    """Smallest n whose power at an effect of `effect_sd` SDs reaches `chance` and whose 2^-n is below alpha.

    None when more than `largest` would be needed.
    """
    low = max(2, math.floor(-math.log2(alpha)) + 1)
    if effect_sd <= 0 or power(largest, effect_sd, alpha) < chance:
        return None
    high = largest
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, effect_sd, alpha) >= chance else (middle + 1, high)
    return low
