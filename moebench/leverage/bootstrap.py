"""Intervals of effective sizes: seeds drawn again, with all models of a seed together, and what a law misses drawn too.

A percentile bootstrap over eight seeds covers 88%, not 95%: its draws scatter by sqrt((n - 1) / n) too little, and it
takes the tails of a normal where the scatter itself is an estimate. So only the scatter is taken from the draws, put
right by sqrt(n / (n - 1)), and the interval is Student's with n - 1 degrees of freedom on the log scale. Where a law
misses its points by more than seeds explain, that excess is drawn as well for each rung: the second level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from moebench import stats
from moebench.leverage.fits import Law, fit
from moebench.leverage.place import Array

DRAWS = 500
PARAMETERS = {False: 2, True: 3}
"""Of a law without and with a floor."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Log of the size or compute of equal loss by one law, with its interval."""

    law: Law
    """Of the mean losses."""
    centre: float
    """inf where the law never gets there."""
    low: float
    high: float
    extrapolated: bool
    """Whether it lies outside the ladder."""
    ends_extrapolated: bool
    """Whether an end of its interval does."""

    def over(self, own: float) -> Reach:
        """The same less a log: as a leverage over a model's own cost."""
        return replace(self, centre=self.centre - own, low=self.low - own, high=self.high - own)


def reaches(
    log_cost: Array,
    losses: Array,
    levels: Array,
    *,
    floor: bool,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> list[Reach]:
    """Where the law of a ladder has each model's loss, with 95% intervals.

    `log_cost` [K] is the log size or compute of the rungs, `losses` [S, K] their log losses by seed, `levels` [S, M]
    those of the models with the same seeds; all finite, S >= 2.
    """
    seeds, rungs = losses.shape
    law = fit(log_cost, losses.mean(axis=0), floor=floor)
    drawn = generator.integers(seeds, size=(draws, seeds))
    missed = _missed(losses, law, log_cost, floor=floor) * generator.normal(size=(draws, rungs))
    laws = fit(log_cost, losses[drawn].mean(axis=1) + missed, floor=floor)
    found: list[Reach] = []
    for column in levels.T:
        centre = float(law.log_size(np.array(column.mean())))
        scattered = laws.log_size(column[drawn].mean(axis=1))
        found.append(_interval(law, centre, scattered, seeds, (log_cost[0], log_cost[-1])))
    return found


def band(
    log_cost: Array, losses: Array, at: Array, *, floor: bool, generator: np.random.Generator, draws: int = DRAWS
) -> tuple[Array, Array, Array]:
    """The law of a ladder at log costs `at` [N]: its log loss, and the ends of its 95% interval at each."""
    seeds, rungs = losses.shape
    law = fit(log_cost, losses.mean(axis=0), floor=floor)
    drawn = generator.integers(seeds, size=(draws, seeds))
    missed = _missed(losses, law, log_cost, floor=floor) * generator.normal(size=(draws, rungs))
    scattered = fit(log_cost, losses[drawn].mean(axis=1) + missed, floor=floor).log_loss(at)
    half = stats.t_quantile(0.025, seeds - 1) * np.std(scattered, axis=0, ddof=1) * math.sqrt(seeds / (seeds - 1))
    centre = law.log_loss(at)
    return centre, centre - half, centre + half


def _missed(losses: Array, law: Law, log_cost: Array, *, floor: bool) -> float:
    """SD by which the law misses the mean losses beyond what their scatter over seeds explains."""
    seeds, rungs = losses.shape
    free = rungs - PARAMETERS[floor]
    if free <= 0:
        return 0.0
    squares = float(np.sum((losses.mean(axis=0) - law.log_loss(log_cost)) ** 2)) / free
    own = losses - losses.mean(axis=1, keepdims=True)  # a shift of all rungs alike bends no curve
    return math.sqrt(max(0.0, squares - float(np.mean(np.var(own, axis=0, ddof=1))) / seeds))


def _interval(law: Law, centre: float, scattered: Array, seeds: int, ends: tuple[float, float]) -> Reach:
    def outside(*where: float) -> bool:
        return bool(min(where) < ends[0] or max(where) > ends[1])

    if not np.all(np.isfinite(scattered)) or not math.isfinite(centre):
        # Some draws never get there: no upper end, and the lower one is that of the draws that do.
        kept = np.where(np.isfinite(scattered), scattered, np.inf)
        low = float(np.quantile(kept, 0.025 / 2, method="lower"))
        return Reach(
            law=law, centre=centre, low=low, high=math.inf, extrapolated=outside(centre), ends_extrapolated=True
        )
    sd = float(np.std(scattered, ddof=1)) * math.sqrt(seeds / (seeds - 1))
    half = stats.t_quantile(0.025, seeds - 1) * sd
    low, high = centre - half, centre + half
    return Reach(
        law=law, centre=centre, low=low, high=high, extrapolated=outside(centre), ends_extrapolated=outside(low, high)
    )
