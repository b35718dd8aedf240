"""`ratio_at_least`: the treatment is better than the baseline by a factor, as a speed-up is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from moebench.claims.hypothesis import Hypothesis, Level, as_written, orientation
from moebench.claims.kinds.kind import RATIO, AskedEffect, ClaimKind, Sweeps, between, compared, difference, divided
from moebench.format import TIMES
from moebench.metrics import metric_of

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class RatioAtLeast(ClaimKind):
    """Baseline over treatment for metrics where lower is better, else treatment over baseline, is at least `value`."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: flops_to_quality, "
        "target: {reach: dense}, test: {kind: ratio_at_least, value: 2}}"
    )
    directed = True
    of_two = True
    may = ("minus",)
    divides = True

    kind: Literal["ratio_at_least"]
    """ratio_at_least: better by a factor."""
    value: PositiveFloat
    """The factor."""

    def says(self, claim: Claim) -> str:
        return f"{between(claim)}: better by a factor of at least {self.value:g}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        above, below = compared(claim).treatment, compared(claim).baseline
        if metric_of(claim.metric).better != "higher":
            above, below = below, above
        over = f"{above} over {below}" + _divided(claim)
        return f"{over} is at least {self.value:g}", "it is less"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        sign, bound = orientation(claim.metric) or 1, Level.log(as_written(self.value))
        return Hypothesis(
            contrast=difference(claim, sign, log=True),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=RATIO,
            asked=f"≥ {self.value:g}{TIMES}{_divided(claim)}",
        )

    def asked_effect(self) -> AskedEffect:
        return AskedEffect(size=self.value - 1, relative=True, words=f"a factor of {self.value:g}")

    def equal_within(self, usual: float | None) -> Iterator[float]:
        if self.value != 1:
            yield math.expm1(abs(math.log(self.value)))


def _divided(claim: Claim) -> str:
    """What it is divided by: the same, or on a metric of the other direction its inverse, a factor better as well."""
    minus, pair = claim.minus, compared(claim)
    if not isinstance(minus, str) or orientation(claim.metric) * orientation(minus) >= 0:
        return divided(claim)
    above, below = pair.treatment, pair.baseline
    if orientation(minus) < 0:
        above, below = below, above
    return f", divided by {above} over {below} on {minus}"
