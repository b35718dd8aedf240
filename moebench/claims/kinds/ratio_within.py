"""`ratio_within`: treatment over baseline lies between two bounds, whatever the metric's direction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat, model_validator

from moebench.amounts import FieldError
from moebench.claims.hypothesis import Hypothesis, Level, as_written
from moebench.claims.kinds.kind import RATIO, ClaimKind, Sweeps, between, compared, difference, divided
from moebench.format import TIMES

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class RatioWithin(ClaimKind):
    """Treatment over baseline, whatever the metric's direction, lies in [low, high]."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: cost.weight_bytes, "
        "test: {kind: ratio_within, low: 0.9, high: 1.1}}"
    )
    of_two = True
    may = ("minus",)

    kind: Literal["ratio_within"]
    """ratio_within: a ratio between two bounds."""
    low: PositiveFloat
    """Lower bound of the ratio."""
    high: PositiveFloat
    """Upper bound of the ratio."""

    @model_validator(mode="after")
    def _order(self) -> RatioWithin:
        if self.low >= self.high:
            raise FieldError("low", f"low {self.low:g} is not below high {self.high:g}")
        return self

    def says(self, claim: Claim) -> str:
        return f"{between(claim)}: the ratio is between {self.low:g} and {self.high:g}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        over = f"{compared(claim).treatment} over {compared(claim).baseline}{divided(claim)}"
        return f"{over} lies between {self.low:g} and {self.high:g}", "it lies outside"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        low, high = Level.log(as_written(self.low)), Level.log(as_written(self.high))
        return Hypothesis(
            contrast=difference(claim, 1, log=True, oriented=False),
            support=(low.above(), high.below()),
            refute=(low.below(), high.above()),
            reading=RATIO,
            asked=f"{self.low:g}{TIMES} to {self.high:g}{TIMES}{divided(claim)}",
        )

    def equal_within(self, usual: float | None) -> Iterator[float]:
        yield from (math.expm1(abs(math.log(bound))) for bound in (self.low, self.high) if bound != 1)
