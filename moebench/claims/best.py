"""How much the best of several lies above something else, when the same seeds say which is the best.

Differences [seeds, candidates] of one seed come from the same runs. Below: were no candidate above, flipping the signs
of all differences of a seed together would leave the smallest p of any candidate's own sign flips as small as it is
(min-P of Westfall and Young 1993); all 2^n flips are formed of up to 16 seeds, beyond, 20,000 from a fixed seed. That
is exact for differences that are symmetric about their centre, whatever their correlation, and unlike the largest mean
it is not spoilt by a candidate far below. Above: the largest upper limit of any candidate, since all must lie below.
The estimate is that of each seed's difference to the candidate which is best on the other seeds, whose choice owes
nothing to that seed's luck. Its own sign flips would not do: seeds share a choice, and among equal candidates the test
is passed in 4% of samples (simulated, 6 to 10 seeds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moebench import stats

Array = stats.Array
EVERY = 16
"""Seeds to which every flip is formed."""
DRAWN = 20_000


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """Differences [n, candidates] of which the largest mean is asked."""

    differences_SK: Array

    @property
    def n(self) -> int:
        return len(self.differences_SK)

    @cached_property
    def effects(self) -> Array:
        """Each seed's difference to the candidate that is best on the others; NaN of a single seed."""
        if self.n < 2:
            return np.full(self.n, np.nan)
        others_SK = np.sum(self.differences_SK, axis=0) - self.differences_SK
        best_S = np.argmax(others_SK, axis=1)
        return np.asarray(np.take_along_axis(self.differences_SK, best_S[:, None], axis=1)[:, 0], dtype=np.float64)

    def p_above(self, null: float) -> float:
        """One-sided p of "some candidate's mean is above `null`"."""
        signed_FK, signs_F = self._flipped
        sums_FK = signed_FK - null * signs_F[:, None]
        rounding = 1e-9 * (float(np.max(np.abs(signed_FK[0]))) + len(self.differences_SK) * abs(null)) or 1.0
        coarse_FK = np.round(sums_FK / rounding)  # so that equal sums are equal
        below_FK = np.stack([np.searchsorted(np.sort(column), column) for column in coarse_FK.T], axis=1)
        most_F = np.max(below_FK, axis=1)
        return float(np.mean(most_F >= most_F[0]))

    def p_below(self, null: float) -> float:
        """One-sided p of "every candidate's mean is below `null`"."""
        return max(stats.sign_flip_p(-column, -null) for column in self.differences_SK.T)

    def interval(self, level: float) -> stats.Interval:
        """Two-sided at `level`, of the largest mean."""
        alpha = (1 - level) / 2
        high = max(-stats.lower_limit(-column, alpha) for column in self.differences_SK.T)
        return stats.Interval(low=self._limit(alpha), high=high, level=level)

    def _limit(self, alpha: float) -> float:
        """The lower limit of the largest mean, one-sided at `alpha`."""
        high = float(np.max(np.mean(self.differences_SK, axis=0)))
        low = high - 100 * float(np.max(np.ptp(self.differences_SK, axis=0)))
        if self.p_above(low) > alpha or low == high:
            return -math.inf if low < high else high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p_above(middle) <= alpha else (low, middle)
        return low

    @cached_property
    def _flipped(self) -> tuple[Array, Array]:
        """Of each flip the sums of every candidate's differences and the sum of its signs, no flip at all first."""
        signs_FS = 1 - 2 * _flips(self.n)
        return signs_FS @ self.differences_SK, np.sum(signs_FS, axis=1)


def _flips(n: int) -> Array:
    """Which seeds are flipped, a row each; none first."""
    if n <= EVERY:
        numbers = np.arange(2**n, dtype=np.uint32)[:, None] >> np.arange(n, dtype=np.uint32)
        return (numbers & 1).astype(np.float64)
    drawn = np.random.default_rng(0).integers(0, 2, (DRAWN, n))
    return np.concatenate([np.zeros((1, n)), drawn])
