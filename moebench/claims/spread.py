"""The ratio of two standard deviations over seeds, of values that come in pairs.

Swaps: were the ratio the one asked for, the first member divided by it and the second, each about its arm's median,
could change places. All 2^n swaps are formed of up to 16 pairs; beyond, 100,000 are drawn from a fixed seed. The
interval is what the test does not reject. The test of Pitman (1939) and Morgan (1939), that sum and difference of a
pair are uncorrelated, is exact for normal pairs only: with heavy tails (t of 3 degrees of freedom) or skew it is passed
wrongly in 6 to 12% of samples, and swaps in 1.3 to 3% (simulated, 6 to 30 pairs, correlation 0 to 0.7). It serves to
tell the power, of which swaps have about as much with four pairs more. There is no interval over documents: a spread is
no sum over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from moebench import stats

Array = stats.Array
EVERY = 16
"""Pairs to which every swap is formed."""
DRAWN = 100_000
_FAR = 12.0
"""Log-ratios beyond which no limit is looked for."""


LEAST_PAIRS = 4
"""Pairs of which each can be left out and the rest still has a spread."""


@dataclass(frozen=True, kw_only=True)
class SpreadRatio:
    """log(SD of the first / SD of the second) of pairs [n, 2], n >= 3, none of whose columns is constant."""

    pairs: Array

    @property
    def n(self) -> int:
        return len(self.pairs)

    @cached_property
    def centre(self) -> float:
        one, other = (stats.standard_deviation(column) for column in self.pairs.T)
        return math.log(one / other)

    @cached_property
    def correlation(self) -> float:
        one, other = (self.pairs - np.mean(self.pairs, axis=0)).T
        return float(one @ other / math.sqrt((one @ one) * (other @ other)))

    def interval(self, level: float) -> stats.Interval:
        """Two-sided at `level`."""
        alpha = (1 - level) / 2
        return stats.Interval(low=self.limit(alpha), high=-self.mirrored.limit(alpha), level=level)

    def p_above(self, null: float) -> float:
        """One-sided p of "the log-ratio is above `null`"."""
        scale = math.exp(-2 * null)
        (swapped_one, swapped_other), (one, other) = self._squares
        above = scale * (one - swapped_one) + swapped_other
        below = other - swapped_other + scale * swapped_one
        # above / below is the ratio as it is or more; to rounding, so that no swap at all counts
        extreme = above * other - scale * one * below >= -1e-12 * scale * one * other
        return float(np.mean(extreme)) if self.n <= EVERY else (1 + int(np.sum(extreme))) / (1 + len(extreme))

    def p_below(self, null: float) -> float:
        return self.mirrored.p_above(-null)

    def limit(self, alpha: float) -> float:
        """The lower confidence limit, one-sided at `alpha`; -infinity where there is none."""
        return _last(lambda null: self.p_above(null) <= alpha, self.centre)

    @cached_property
    def mirrored(self) -> SpreadRatio:
        return SpreadRatio(pairs=self.pairs[:, ::-1])

    @cached_property
    def _squares(self) -> tuple[tuple[Array, Array], tuple[float, float]]:
        """Of each swap the sums of squares that leave either arm, and those of the arms."""
        squares_N2 = (self.pairs - np.median(self.pairs, axis=0)) ** 2
        moved_K2 = np.concatenate([chosen_KN @ squares_N2 for chosen_KN in _swaps(self.n)])
        one, other = np.sum(squares_N2, axis=0)
        return (moved_K2[:, 0], moved_K2[:, 1]), (float(one), float(other))


def pseudo_values(pairs: Array) -> Array:
    """What each pair [n, 2] adds to the log-ratio: n times it less n - 1 times that of the others. NaN below four."""
    n = len(pairs)
    if n < LEAST_PAIRS:
        return np.full(n, np.nan)
    whole = SpreadRatio(pairs=pairs).centre
    rest = [_log_ratio(np.delete(pairs, i, axis=0)) for i in range(n)]
    return n * whole - (n - 1) * np.array(rest)


def _log_ratio(pairs: Array) -> float:
    one, other = np.std(pairs, axis=0, ddof=1)
    return math.log(max(one, 1e-300) / max(other, 1e-300))


def _swaps(n: int) -> list[Array]:
    """Which pairs are swapped, a row each, in blocks."""
    if n <= EVERY:
        numbers = np.arange(2**n, dtype=np.uint32)[:, None] >> np.arange(n, dtype=np.uint32)
        return [(numbers & 1).astype(np.float64)]
    generator = np.random.default_rng(0)
    return [generator.integers(0, 2, (DRAWN // 20, n)).astype(np.float64) for _ in range(20)]


def _last(holds: Callable[[float], bool], centre: float) -> float:
    """The largest null, from below to the centre, at which something holds that does not hold at the centre."""
    low, high = centre - _FAR, centre
    if not holds(low):
        return -math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# ---------------------------------------------------------------------------------------------- power

_TRIALS = 4000
_LOST = 4
"""Pairs that swaps about medians need beyond Pitman and Morgan's test."""


def power(n: int, distance: float, correlation: float, alpha: float) -> float:
    """How often n normal pairs of this correlation show a log-ratio that lies so far above the bound.

    Simulated by draws of the correlation of sum and difference (Bartlett's decomposition) with a fixed seed.
    """
    if n < stats.ENOUGH or alpha < 2.0**-n:
        return 0.0
    n = max(4, n - _LOST)
    ratio = math.exp(2 * distance)
    c = (ratio - 1) / math.sqrt((ratio + 1) ** 2 - 4 * correlation**2 * ratio)
    generator = np.random.default_rng(0)
    first, other = np.sqrt(generator.chisquare(n - 1, _TRIALS)), np.sqrt(generator.chisquare(n - 2, _TRIALS))
    along = c * first + math.sqrt(1 - c**2) * generator.normal(size=_TRIALS)
    t = along / (math.sqrt(1 - c**2) * other) * math.sqrt(n - 2)
    return float(np.mean(special.stdtr(n - 2, -t) <= alpha))


def detectable(n: int, correlation: float, alpha: float, *, chance: float = 0.8) -> float:
    """The least distance above the bound that n pairs show with this chance; infinite where there is none."""
    low, high = 0.0, 5.0
    if power(n, high, correlation, alpha) < chance:
        return math.inf
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if power(n, middle, correlation, alpha) >= chance else (middle, high)
    return high
