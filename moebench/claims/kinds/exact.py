"""`exact`: a count is what it is said to be, in every run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, Withheld, as_written
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, amount_words, below_zero, between, exactly
from moebench.format import exact_number, exact_quantity
from moebench.metrics import known, metric_of
from moebench.metrics.metric import Metric
from moebench.text import listed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Exact(ClaimKind):
    """A count is what it is said to be."""

    example = "{model: mixtral-8x7b, metric: cost.active_params, test: {kind: exact, value: 12.9e9, tolerance: 0.5%}}"
    takes = ("model",)
    without_chance = True

    kind: Literal["exact"]
    """exact: a count."""
    value: float
    """The count."""
    tolerance: Amount = Amount(value=0.0, relative=True)
    """Largest difference from it."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        if metric.kind != "counted":
            message = f"{metric.name} is measured, not counted: it has no exact value"
            counts = [name for name, one in known().items() if one.kind == "counted"]
            yield Fault(at=("test", "kind"), message=message, hint=f"exact is for counts: {listed(counts)}")
        yield from below_zero("tolerance", self.tolerance)

    def says(self, claim: Claim) -> str:
        return f"{between(claim)} is {self.value:g} within {self.tolerance}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        within = f" within {amount_words(self.tolerance, claim.metric)}" if self.tolerance.value else ""
        return f"{claim.subject} has {exact_number(self.value)}{within}", "it has not"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        if claim.model is None:
            raise Withheld("invalid", "`exact` needs a model")
        metric = metric_of(claim.metric)
        if metric.kind in ("timed", "event", "laddered"):
            raise Withheld("invalid", f"{claim.metric} is {metric.kind}: only counts can be exact")
        value, slack = as_written(self.value), exactly(self.tolerance)
        slack = abs(value) * slack if self.tolerance.relative else slack
        beside = f" ± {amount_words(self.tolerance, claim.metric)}" if slack else ""
        return Hypothesis(
            contrast=Contrast.of(claim.metric, {claim.model: 1.0}),
            support=(Level.of(value - slack).above(), Level.of(value + slack).below()),
            refute=(),
            reading=Reading(form="difference", sign=1, unit=metric.unit),
            asked=f"= {exact_quantity(self.value, metric.unit).removesuffix(f' {metric.unit}')}{beside}",
            exactly=True,
        )
