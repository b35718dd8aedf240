"""Where a loss stands on a ladder of dense models: the log size at which their interpolated losses meet it.

Between rungs the log of the loss is a monotone cubic of the log of the size (Fritsch and Carlson, SIAM J. Numer. Anal.
17, 1980). A chord would lie above a curve that flattens, and so give a model up to a few percent too much: with rungs a
factor of two apart as much as its standard error over eight seeds. What is not between rungs is no number: it is
smaller than the smallest or larger than the largest. Where a ladder rises and falls, so that several sizes have the
loss, all that is known is that the size lies among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

Array = npt.NDArray[np.float64]
SAME = 1e-9
"""Log sizes that differ by less are one root, found from both sides."""


@dataclass(frozen=True)
class Place:
    """The least and the most that the log size of equal loss can be; equal where it was found."""

    least: float
    """-inf where even the smallest rung is as good."""
    most: float
    """inf where not even the largest is."""

    @property
    def found(self) -> bool:
        return self.least == self.most

    @property
    def low(self) -> bool:
        """Whether the smallest rung is as good already."""
        return math.isinf(self.least)

    @property
    def high(self) -> bool:
        """Whether the largest rung is not as good."""
        return math.isinf(self.most)


def place(log_size: Array, log_loss: Array, level: float) -> Place:
    """The place of a log loss `level` on a ladder of log sizes [K], ascending, with log losses [K].

    A loss of NaN is not known: that of a rung that diverged. It may have been any, so what is found beside it is only
    known to lie between its neighbours.
    """
    known = np.isfinite(log_loss)
    as_good_at_most = np.where(known, log_loss, -np.inf) <= level  # the rungs that may be as good
    as_good_at_least = np.where(known, log_loss, np.inf) <= level  # and those that are for sure
    roots = _roots(log_size, log_loss, known, level)
    least = _first(log_size, as_good_at_most, known, roots)
    most = -_first(-log_size[::-1], ~as_good_at_least[::-1], known[::-1], -roots[::-1])
    return Place(least, least if abs(most - least) < SAME else most)


def _first(x: Array, reached: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_], roots: Array) -> float:
    """The first x at which the curve is, or may be, as good; -inf when it is at the first, the last x when at none."""
    if not reached.any():
        return float(x[-1])
    index = int(np.argmax(reached))
    if index == 0:
        return -math.inf
    if not (known[index - 1] and known[index]):
        return float(x[index - 1])
    inside = roots[(roots >= x[index - 1]) & (roots <= x[index])]
    return float(inside[0]) if len(inside) else float(x[index])


def _roots(x: Array, y: Array, known: npt.NDArray[np.bool_], level: float) -> Array:
    """Where the curve through the known rungs has the level, ascending."""
    if known.sum() < 2:
        return np.empty(0)
    found = np.asarray(curve(x[known], y[known]).solve(level, extrapolate=False), dtype=np.float64)
    return np.unique(found[np.isfinite(found)])


def curve(log_size: Array, log_loss: Array) -> PchipInterpolator:
    """The log loss between rungs, as a function of log size."""
    return PchipInterpolator(log_size, log_loss, extrapolate=False)


def at(log_size: Array, quantity: Array, where: float) -> float:
    """A quantity of the rungs, such as the log of their FLOPs, at a place between them: linear in log size.

    At -inf and inf it has the same sign: what costs less than the smallest rung, or more than the largest, is unknown.
    """
    return where if math.isinf(where) else float(np.interp(where, log_size, quantity))
