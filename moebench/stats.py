"""Intervals and tests on small arrays of effects: one number a seed, a process or a document.

Formulas, not policy: what margin is asked and what follows from an interval is the business of `claims`. A t interval
covers what it says at any n; a percentile bootstrap over seeds does not (84% at n = 5) and is not here. Effects may
be infinite where a run never got there, and NaN where it is unknown which way: only the functions on sign flips and
the median take those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, special
from scipy import stats as distributions

Array = npt.NDArray[np.float64]

_BLOCKS = 16
"""Beyond so many effects, signs are flipped block by block."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A two-sided interval; its ends may be infinite."""

    low: float
    high: float
    level: float
    """Its coverage, such as 0.95: at least that for the exact interval of signs."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean-like quantity with its standard error: everything t-based is one of these."""

    centre: float
    se: float
    """0 when all observations agree: then the interval is the point."""
    df: float

    def interval(self, level: float) -> Interval:
        """The two-sided t interval at `level`, such as 0.95."""
        half = 0.0 if self.se == 0 else t_quantile((1 - level) / 2, self.df) * self.se
        return Interval(low=self.centre - half, high=self.centre + half, level=level)

    def p_above(self, null: float) -> float:
        """One-sided p of "it is above `null`". Without any variance it is 0 or 1."""
        if self.se == 0:
            return 0.0 if self.centre > null else 1.0
        return float(distributions.t.sf((self.centre - null) / self.se, self.df))

    def p_below(self, null: float) -> float:
        """One-sided p of "it is below `null`"."""
        return Estimate(centre=-self.centre, se=self.se, df=self.df).p_above(-null)


def t_quantile(alpha: float, df: float) -> float:
    """The value that Student's t exceeds with probability `alpha`."""
    return -float(special.stdtrit(df, alpha))


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


def welch(a: Array, b: Array) -> Estimate:
    """mean(a) - mean(b) of independent samples with unequal variances (Welch-Satterthwaite degrees of freedom)."""
    one, two = paired(a), paired(b)
    variance = one.se**2 + two.se**2
    centre = one.centre - two.centre
    if variance == 0:
        return Estimate(centre=centre, se=0.0, df=one.df + two.df)
    df = variance**2 / (one.se**4 / one.df + two.se**4 / two.df)
    return Estimate(centre=centre, se=math.sqrt(variance), df=df)


def sign_flip_p(x: Array, null: float = 0.0, *, further: float = 0.0) -> float:
    """Exact one-sided p of "effects x [n] are centred above `null`" under flips of the signs of x - null.

    The share of the 2^n subsets of the effects, the empty one included, whose mean is not above `null`: flipping the
    signs of such a subset leaves the sum as large as it is. It never rises when an effect does, whichever; of a t test
    that does not hold. An effect of -infinity or an unknown (NaN) is in half of the subsets, so that p is above a half.
    Effects at the null, to rounding, count against. With `further` only those flips count that take the mean so much
    further than it is: mirrored, the chance of an effect as extreme beyond the far end of a range that wide.
    """
    sums, sizes = _subsets(x)
    finite = x[np.isfinite(x)]
    rounding = 1e-12 * (float(np.sum(np.abs(finite))) + len(x) * abs(null))
    reach = rounding - len(x) * further / 2
    return (int(reach >= 0) + int(np.sum(sums - sizes * null <= reach))) / (len(sums) + 1)


def sign_flip_limit(x: Array, alpha: float) -> float:
    """The lower confidence limit that inverts `sign_flip_p`: effects x [n] are centred above it, one-sided at `alpha`.

    The k-th smallest mean of a subset, k = alpha 2^n rounded down (Fisher 1935; Hartigan, JASA 64, 1969); exact for
    effects that are symmetric about their centre, whatever their law. -infinity when n is too small for any.
    """
    sums, sizes = _subsets(x)
    rank = math.floor(alpha * (len(sums) + 1) * (1 + 1e-12))
    if rank < 1:
        return -math.inf
    rank = min(rank, len(sums))
    return float(np.partition(sums / sizes, rank - 1)[rank - 1])


ENOUGH = 6
"""2^-6 is the first floor of a sign-flip test below 2.5%."""


def lower_limit(x: Array, alpha: float) -> float:
    """The lower confidence limit of the centre of x [n], one-sided at `alpha`.

    By sign flips from six effects on, or where one is infinite; below, by Student's t, for signs say nothing there.
    """
    if len(x) >= ENOUGH or not np.all(np.isfinite(x)):
        return sign_flip_limit(x, alpha)
    return paired(x).interval(1 - 2 * alpha).low if len(x) > 1 else -math.inf


def central(x: Array, level: float) -> Interval:
    """The two-sided interval of `lower_limit`: what every verdict and every mean over seeds or processes is given."""
    alpha = (1 - level) / 2
    return Interval(low=lower_limit(x, alpha), high=-lower_limit(-x, alpha), level=level)


def attained(n: int, alpha: float) -> float:
    """The level, at most `alpha`, at which a sign-flip test of n pairs really rejects; 0 when it never does."""
    flips = 2.0 ** min(n, _BLOCKS)
    return math.floor(alpha * flips * (1 + 1e-12)) / flips


def many_flips_p(x: Array, null: float = 0.0, *, further: float = 0.0) -> float:
    """`sign_flip_p` of more effects than can be flipped one by one, by the normal law of their flipped sum."""
    away = x - null
    spread = math.sqrt(float(np.sum(away**2)))
    if spread == 0:
        return 1.0
    return float(special.ndtr(-(float(np.sum(away)) + len(x) * further) / spread))


def many_flips_limit(x: Array, alpha: float) -> float:
    """The lower confidence limit that inverts `many_flips_p`; -infinity when x [n] are too few for any."""
    n, z = len(x), -float(special.ndtri(alpha))
    if n <= z * z:
        return -math.inf
    return float(np.mean(x)) - z * math.sqrt(float(np.sum((x - np.mean(x)) ** 2)) / (n * (n - z * z)))


def _subsets(x: Array) -> tuple[Array, Array]:
    """Sums and sizes of all non-empty subsets of x [n]: [2^n - 1]. Unknowns are as bad as can be.

    Beyond 16 effects the subsets are of 16 blocks of them: a subgroup of all flips, so still exact.
    """
    if len(x) == 0:
        raise ValueError("a sign-flip test needs at least one effect")
    known = np.where(np.isnan(x), -np.inf, np.asarray(x, dtype=np.float64))
    sums, sizes = np.zeros(1), np.zeros(1)
    with np.errstate(invalid="ignore"):
        for block in np.array_split(known, min(len(known), _BLOCKS)):
            sums = np.concatenate([sums, sums + np.sum(block)])
            sizes = np.concatenate([sizes, sizes + len(block)])
    return np.where(np.isnan(sums), -np.inf, sums)[1:], sizes[1:]


def median(x: Array) -> float:
    """Median of x [n] without its unknowns; may be infinite, NaN when nothing is known or +inf meets -inf."""
    known = np.sort(x[~np.isnan(x)])
    if len(known) == 0:
        return math.nan
    low, high = float(known[(len(known) - 1) // 2]), float(known[len(known) // 2])
    return low if low == high else low + (high - low) / 2 if math.isfinite(low) and math.isfinite(high) else low + high


# ---------------------------------------------------------------------------------------------- what effects look like


def outlier(x: Array, level: float) -> int | None:
    """The one of x [n], n >= 4, that the others do not predict: t of n - 2 degrees of freedom, Bonferroni over n.

    None when there is none.
    """
    distances = []
    for index, value in enumerate(x):
        others = np.delete(x, index)
        away, sd = abs(value - float(np.mean(others))), standard_deviation(others)
        distances.append(0.0 if away == 0 else math.inf if sd == 0 else away / (sd * math.sqrt(1 + 1 / len(others))))
    farthest = int(np.argmax(distances))
    p = 2 * len(x) * float(special.stdtr(len(x) - 2, -distances[farthest]))
    return farthest if p <= level else None


def skewness(x: Array) -> tuple[float, float]:
    """Skewness G1 of x [n], n >= 3, corrected for n, and the same in its standard errors on normal samples."""
    n, centred = len(x), x - np.mean(x)
    moment = float(np.mean(centred**3)) / float(np.mean(centred**2)) ** 1.5
    corrected = moment * math.sqrt(n * (n - 1)) / (n - 2)
    return corrected, corrected / math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))


def autocorrelation(x: Array) -> tuple[float, float]:
    """Lag-1 correlation of x [n], in order, and how many standard errors it is above that of independent values."""
    n, centred = len(x), x - np.mean(x)
    lag_1 = float(np.sum(centred[1:] * centred[:-1]) / np.sum(centred**2))
    return lag_1, (lag_1 + 1 / n) * n * math.sqrt(n - 1) / (n - 2)


# ---------------------------------------------------------------------------------------------- several claims


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scand. J. Statist. 6, 1979), in the order given."""
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, (len(p) - rank) * p[index])
        adjusted[index] = min(1.0, running)
    return adjusted


# ---------------------------------------------------------------------------------------------- documents and items


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
    ratios_M = np.sum(bits_MI, axis=1) / float(np.sum(bytes_I))
    influence_I = _influences(bits_MI, bytes_I, weights_M, log=log)
    variance = documents / (documents - 1) * float(np.sum(influence_I**2))
    return Estimate(
        centre=float(weights_M @ (np.log(ratios_M) if log else ratios_M)), se=math.sqrt(variance), df=documents - 1
    )


def noise_of_documents(bits_SMI: Array, bytes_I: Array, weights_M: Array, *, log: bool) -> float:
    """The part of `clustered`'s standard error that is the scatter of a document's contrast over seeds.

    bits_SMI [seeds, models, documents]. The scatter over seeds holds it already: where both variances are added, its
    square is taken off once (Cameron, Gelbach and Miller, JBES 29, 2011).
    """
    seeds, documents = len(bits_SMI), len(bytes_I)
    if seeds < 2:
        return 0.0
    influence_SI = np.stack([_influences(bits_MI, bytes_I, weights_M, log=log) for bits_MI in bits_SMI])
    scatter = float(np.sum(np.var(influence_SI, axis=0, ddof=1))) / seeds
    return math.sqrt(documents / (documents - 1) * scatter)


def _influences(bits_MI: Array, bytes_I: Array, weights_M: Array, *, log: bool) -> Array:
    """What each document adds to the contrast, linearised [documents]; they sum to 0."""
    total_bytes = float(np.sum(bytes_I))
    ratios_M = np.sum(bits_MI, axis=1) / total_bytes
    influence_MI = (bits_MI - ratios_M[:, None] * bytes_I[None, :]) / total_bytes
    return np.asarray(weights_M @ (influence_MI / ratios_M[:, None] if log else influence_MI), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Linearised:
    """A contrast of ratios of sums, and what each cluster adds to it."""

    centre: float
    ratios_M: Array
    influence_C: Array
    """They sum to 0; `clustered` takes its standard error from them."""


def linearised(values_MC: Array, sizes_C: Array, weights_M: Array, *, log: bool) -> Linearised:
    """The contrast of `clustered` by cluster: values [models, clusters], sizes [clusters].

    Raises ValueError for a ratio without a log.
    """
    ratios_M = np.sum(values_MC, axis=1) / float(np.sum(sizes_C))
    if log and np.min(ratios_M) <= 0:
        raise ValueError(f"{float(np.min(ratios_M)):g} has no log")
    return Linearised(
        centre=float(weights_M @ (np.log(ratios_M) if log else ratios_M)),
        ratios_M=ratios_M,
        influence_C=_influences(values_MC, sizes_C, weights_M, log=log),
    )


UNSEEN = 5.0
"""Clusters as far out as can be that are added, of which all are where models agree on every item."""


@dataclass(frozen=True, kw_only=True)
class RareEvents:
    """The mean of effects of which many are 0, as those of two models that differ on a few items in a thousand.

    The t interval would then be too narrow, and of no width at all where none differs. So the variance grows with the
    mean as the sample's skewness has it, which for counts makes it the score interval (Brown, Cai and DasGupta,
    Statist. Sinica 13, 2003), and in proportion to the share of ties effects are added that were not seen, as far from
    the mean as can be. Without ties it is Student's t.
    """

    centre: float
    variance: float
    """Of the mean, those not seen included."""
    slope: float
    """How fast that grows with the mean."""
    df: float

    @staticmethod
    def of(x: Array, *, farthest: float, tied: float, df: float | None = None) -> RareEvents:
        """From effects x [n], n >= 2: the share `tied` of them is 0 by nature, and one may lie `farthest` off.

        `df` is n - 1 unless some effects weigh more than others.
        """
        n, centre = len(x), float(np.mean(x))
        centred = x - centre
        square = float(np.sum(centred**2))
        skew = float(np.sum(centred**3)) / square if square > 0 else 0.0
        variance = (n / (n - 1) * square + UNSEEN * tied * farthest**2) / n**2
        return RareEvents(centre=centre, variance=variance, slope=tied * skew / n, df=n - 1 if df is None else df)

    def p_above(self, null: float) -> float:
        """One-sided p of "it is above `null`"."""
        variance = self.variance + self.slope * (null - self.centre)
        if variance <= 0:
            return 0.0 if self.centre > null else 1.0
        return float(special.stdtr(self.df, (null - self.centre) / math.sqrt(variance)))

    def mirrored(self) -> RareEvents:
        """The same of the effects with the other sign."""
        return replace(self, centre=-self.centre, slope=-self.slope)

    def interval(self, level: float) -> Interval:
        """The two-sided interval at `level`."""
        t = t_quantile((1 - level) / 2, self.df)
        shift = t * t * self.slope / 2
        half = math.sqrt(t * t * self.variance + shift**2)
        return Interval(low=self.centre + shift - half, high=self.centre + shift + half, level=level)


# ---------------------------------------------------------------------------------------------- curves and shares


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
    """Chance that a one-sided sign-flip test at `alpha` sees an effect of `effect_sd` SDs with n pairs.

    That of the t test (noncentral t) at the level which n pairs attain: signs and t agree closely on normal effects.
    """
    level = attained(n, alpha)
    if n < 2 or level <= 0:
        return 0.0
    return _noncentral_t_above(t_quantile(level, n - 1), n - 1, effect_sd * math.sqrt(n))


def _noncentral_t_above(value: float, df: float, centre: float) -> float:
    chance = 1.0 - float(special.nctdtr(df, centre, value))
    return chance if math.isfinite(chance) else float(centre > value)


def detectable(n: int, alpha: float, *, chance: float = 0.8) -> float:
    """The effect, in SDs of the paired difference, that n pairs see with probability `chance`; infinite for too few."""
    if attained(n, alpha) <= 0 or n < 2:
        return math.inf
    top = 1.0
    while power(n, top, alpha) < chance:
        top *= 2
    return float(optimize.brentq(lambda effect: power(n, effect, alpha) - chance, 0.0, top, xtol=1e-6))


def smallest(power_of: Callable[[int], float], *, chance: float = 0.8, largest: int = 10_000) -> int | None:
    """The smallest n whose power reaches `chance`; None when more than `largest` would be needed."""
    if power_of(largest) < chance:
        return None
    low, high = 2, largest
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= chance else (middle + 1, high)
    return low


def effect_range(effect_sd: float, n: int, level: float) -> tuple[float, float]:
    """Interval of a standardised effect mean / SD, seen as `effect_sd` in n normal pairs (inverting noncentral t)."""
    seen, df = effect_sd * math.sqrt(n), n - 1
    reach = 10.0 + 2 * abs(seen)

    def end(share: float) -> float:
        """The noncentrality under which a larger t than the seen one has this chance."""
        return float(
            optimize.brentq(
                lambda centre: _noncentral_t_above(seen, df, centre) - share, seen - reach, seen + reach, xtol=1e-6
            )
        )

    return end((1 - level) / 2) / math.sqrt(n), end((1 + level) / 2) / math.sqrt(n)
