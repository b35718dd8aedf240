"""`trend`: a metric rises or falls with a value that is swept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from moebench.claims.hypothesis import Bound, Contrast, Guard, Hypothesis, Reading, Withheld
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, between
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

Points = Mapping[str, Mapping[str, Any]]
"""Expanded model -> its swept keys and values; the one that the trend runs along is a number."""


class Trend(ClaimKind):
    """The metric rises or falls with the swept value."""

    example = "{over: moe_sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: trend, sign: falling}}"
    takes = ("over", "along")

    kind: Literal["trend"]
    """trend: a direction over a swept value."""
    sign: Literal["rising", "falling"]
    """Which way the metric goes as the swept value rises."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        values = {point.get(str(claim.along)) for point in sweeps.get(str(claim.over), {}).values()} - {None}
        if any(isinstance(value, str | bool) for value in values):
            yield Fault(at=("along",), message=f"{claim.along} takes words: a trend needs numbers")
        elif 0 < len(values) < 3:
            message = f"{claim.along} takes {len(values)} values: a trend needs at least 3"
            yield Fault(at=("along",), message=message)

    def says(self, claim: Claim) -> str:
        return f"{between(claim)} is {self.sign} along {claim.along}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        way = "rises" if self.sign == "rising" else "falls"
        return f"it {way} with {claim.along}, over the models of {claim.over}", "it does not"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """The least-squares slope of each seed over the swept value, on a log scale where all values are positive.

        Points whose weight in the slope is 0 count as well: each step between neighbours must not be shown to go the
        other way. Which way a diverged run would have bent the slope is unknown.
        """
        points, along = _points(claim, sweeps), str(claim.along)
        values = np.array([float(point[along]) for point in points.values()])
        doubling = bool(np.all(values > 0))
        x = np.log2(values) if doubling else values
        # Where other keys are swept too, slopes are taken within each combination of them and pooled.
        others = [{key: value for key, value in point.items() if key != along} for point in points.values()]
        every = range(len(x))
        centred = np.array([x[i] - np.mean([x[j] for j in every if others[j] == others[i]]) for i in every])
        if not np.any(centred):
            raise Withheld("invalid", f"the sweep has one value of {along} only: no slope")
        sign = 1 if self.sign == "rising" else -1
        weights = dict(zip(points, sign * slope_weights(centred), strict=True))
        per = f"per doubling of {along}" if doubling else f"per unit of {along}"
        steps = tuple(_steps(claim, sign, points, others))
        return Hypothesis(
            contrast=Contrast.of(claim.metric, weights, rests_on=tuple(points), sided=False),
            support=(Bound(side="above", value=0.0, strict=True),),
            refute=(Bound(side="below", value=0.0),),
            reading=Reading(form="difference", sign=sign, unit=f"{metric_of(claim.metric).unit} {per}"),
            asked=f"{self.sign} with {along}" + (", no step against it" if steps else ""),
            guards=steps,
        )


def slope_weights(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights w [k] so that w @ y is the least-squares slope of y over x [k]. Raises ValueError when x is constant."""
    centred = x - np.mean(x)
    spread = float(np.sum(centred**2))
    if spread == 0:
        raise ValueError("a slope needs at least two different values")
    return np.asarray(centred / spread, dtype=np.float64)


def _points(claim: Claim, sweeps: Sweeps) -> Points:
    points = sweeps.get(claim.over or "", {})
    if not points:
        raise Withheld("invalid", f"{claim.over} is not a sweep of this suite")
    if claim.along is None or any(claim.along not in point for point in points.values()):
        raise Withheld("invalid", f"{claim.over} does not sweep {claim.along}")
    if any(isinstance(point[claim.along], str | bool) for point in points.values()):
        raise Withheld("invalid", f"{claim.along} is not swept over numbers: no slope")
    return points


def _steps(claim: Claim, sign: int, points: Points, others: list[dict[str, Any]]) -> Iterator[Guard]:
    """Each step of a trend between neighbours of the swept value, averaged over combinations of what else is swept."""
    along = str(claim.along)
    levels = sorted({float(point[along]) for point in points.values()})
    for low, high in itertools.pairwise(levels) if len(levels) > 2 else ():
        at = [
            {str(rest): name for name, rest in zip(points, others, strict=True) if float(points[name][along]) == level}
            for level in (low, high)
        ]
        both = [rest for rest in at[0] if rest in at[1]]
        if not both:
            continue
        weights = {at[0][rest]: -sign / len(both) for rest in both} | {at[1][rest]: sign / len(both) for rest in both}
        way = "rise" if sign < 0 else "fall"
        holds = "the slope holds end to end only"
        yield Guard(
            contrast=Contrast.of(claim.metric, weights, rests_on=tuple(points), sided=False),
            must="not be below 0",
            blocks=("supported",),
            otherwise=f"from {along} {low:g} to {high:g} {claim.metric} is shown to {way}: {holds}",
        )
