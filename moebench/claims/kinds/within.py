"""`within`: a metric of one model lies between two values."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from moebench.amounts import Amount, FieldError
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, Withheld
from moebench.claims.kinds.at_least import SHARE, is_ratio
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, amount_words, between, exactly
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Within(ClaimKind):
    """The metric of one model lies in [low, high]."""

    example = '{model: moe, metric: "routing.entropy", test: {kind: within, low: 0.8, high: 0.95}}'
    takes = ("model",)

    kind: Literal["within"]
    """within: a metric of one model, between two values."""
    low: Amount
    """The least that it may be, in the metric's unit; `5%` for a share."""
    high: Amount
    """The most."""

    @model_validator(mode="after")
    def _order(self) -> Within:
        if self.low.value >= self.high.value:
            raise FieldError("low", f"low {self.low} is not below high {self.high}")
        return self

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound.relative and metric.unit != SHARE:
                message = f"{metric.name} is no share: {bound} of what?"
                yield Fault(at=("test", name), message=message, hint=f"give it in {metric.unit}")
            elif bound.value <= 0 and is_ratio(metric):
                message = f"{metric.name} is above 0, whatever comes out"
                yield Fault(at=("test", name), message=message, hint="give a value above 0")

    def says(self, claim: Claim) -> str:
        return f"{between(claim)} is between {self._words(claim)}."

    def _words(self, claim: Claim) -> str:
        return f"{self.low} and {amount_words(self.high, claim.metric)}"

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        return f"{claim.subject} lies between {self._words(claim)}", "it lies outside"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """The metric of each seed or process itself, as a log where it is a time or a ratio."""
        if claim.model is None:
            raise Withheld("invalid", "`within` needs a model")
        metric, ends = metric_of(claim.metric), (exactly(self.low), exactly(self.high))
        log = is_ratio(metric)
        if log and ends[0] <= 0:
            raise Withheld("invalid", f"{claim.metric} is above 0, whatever comes out")
        low, high = (Level.log(Fraction(end)) if log else Level.of(end) for end in ends)
        return Hypothesis(
            contrast=Contrast.of(claim.metric, {claim.model: 1.0}, log=log, sided=False),
            support=(low.above(), high.below()),
            refute=(low.below(), high.above()),
            reading=Reading(form="ratio" if log else "difference", sign=1, unit=metric.unit),
            asked=f"{self.low} to {amount_words(self.high, claim.metric)}",
        )
