"""The gain at each point of a sweep, as a claim along it counts it: what a figure of the claim shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moebench.claims.hypothesis import Reading, Withheld, orientation
from moebench.claims.kinds.crosses import Crosses
from moebench.claims.kinds.kind import difference
from moebench.claims.kinds.spread import at_points, pair_sides
from moebench.claims.kinds.trend import Trend
from moebench.claims.samples import draw
from moebench.metrics import in_force, metric_of
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What the treatment gains at one point."""

    model: str
    """The treatment there; where that is one model, the baseline."""
    at: float
    """The swept value."""
    effects: npt.NDArray[np.float64]
    """[n] an effect a seed, above 0 where the treatment is better; `reading_of` tells how it reads."""


def reading_of(claim: Claim) -> Reading:
    """How a claim's gains read: log-ratios in percent, differences in the metric's unit."""
    if _relative(claim):
        return Reading(form="percent", sign=1, unit="%")
    return Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit)


def gains_along(evidence: Evidence, claim: Claim) -> tuple[Gain, ...]:
    """The gains that a trend or a crossing is about, by the swept value; none for any other claim.

    A point of which nothing can be drawn is left out, and so are seeds of which a run diverged.
    """
    if not isinstance(claim.test, Trend | Crosses) or claim.compare is None:
        return ()
    with in_force(evidence.metrics):
        return tuple(sorted(_gains(evidence, claim), key=lambda gain: gain.at))


def _gains(evidence: Evidence, claim: Claim) -> Iterator[Gain]:
    sweeps, log = evidence.plan.spec.sweeps, _relative(claim)
    sides = pair_sides(claim, sweeps)
    for place in at_points(claim, sides, sweeps) if sides else ():
        at, pair = place.at.get(str(claim.along)), place.claim.compare
        if pair is None or isinstance(at, str | bool | None):
            continue
        try:
            asked = difference(place.claim, orientation(claim.metric) or 1, log=log)
            effects = draw(evidence, asked, place.claim).effects
        except Withheld:
            continue
        swept = pair.treatment if ("compare", "treatment") in sides else pair.baseline
        yield Gain(model=swept, at=float(at), effects=effects[np.isfinite(effects)])


def _relative(claim: Claim) -> bool:
    """Whether it is of log-ratios: a trend of gains always is."""
    return claim.test.margin.relative if isinstance(claim.test, Crosses) else True
