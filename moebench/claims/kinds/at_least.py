"""`at_least`: a metric of one model is at least a value."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, Withheld
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, amount_words, between, exactly, less
from moebench.format import exact_number, exact_quantity
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

SHARE = "1"
"""The unit of metrics that are shares."""


class OneSided(ClaimKind):
    """A kind that holds a metric of one model against a value."""

    takes = ("model",)
    may = ("minus",)
    sign: ClassVar[int]
    """+1 where the metric is to be above the value, -1 where below."""

    value: Amount
    """The value, in the metric's unit; `5%` for a share."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        at = ("test", "value")
        if self.value.relative and metric.unit != SHARE:
            unit = "ratio" if metric.unit == "ratio" else metric.unit
            yield Fault(at=at, message=f"{metric.name} is no share: {self.value} of what?", hint=f"give it in {unit}")
        elif self.value.value <= 0 and is_ratio(metric):
            yield Fault(at=at, message=f"{metric.name} is above 0, whatever comes out", hint="give a value above 0")
        if claim.minus is not None and not isinstance(claim.minus, str):
            message = f"{claim.test.kind} is about one model: it takes a second metric in 'minus', and no pair"
            yield Fault(at=("minus",), message=message)
        elif minus is not None and minus.unit != metric.unit:
            yield Fault(at=("minus",), message=f"{metric.unit} and {minus.unit} cannot be subtracted")

    def says(self, claim: Claim) -> str:
        return f"{between(claim)} is {self.words} {self.of(claim)}."

    @property
    def words(self) -> str:
        """`at least`, or `at most`."""
        return self.kind.replace("_", " ")

    def of(self, claim: Claim) -> str:
        """The value in words."""
        if self.value.relative:
            return str(self.value)
        try:
            unit = metric_of(claim.metric).unit
        except (KeyError, ValueError):  # what is wrong with the metric is told at its place
            unit = SHARE
        value = self.value.value
        return exact_number(value) if unit in (SHARE, "ratio") else exact_quantity(value, unit)

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        other = "less" if self.sign > 0 else "more"
        return f"{claim.subject} has {self.words} {self.of(claim)}{less(claim)}", f"it has {other}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """The metric of each seed or process itself, as a log where it is a time or a ratio.

        There is no other side that a diverged run could stand on: it never speaks for the claim.
        """
        if claim.model is None:
            raise Withheld("invalid", f"`{self.kind}` needs a model")
        metric, value = metric_of(claim.metric), exactly(self.value)
        log = is_ratio(metric)
        if log and value <= 0:
            raise Withheld("invalid", f"{claim.metric} is above 0, whatever comes out")
        contrast = Contrast.of(claim.metric, {claim.model: float(self.sign)}, log=log, sided=False)
        if isinstance(claim.minus, str):
            if metric_of(claim.minus).unit != metric.unit:
                raise Withheld("invalid", f"{claim.metric} and {claim.minus} have different units")
            there = Contrast.of(claim.minus, {claim.model: -float(self.sign)}, log=log, sided=False)
            contrast = contrast.plus(there, sided=False)
        bound = Level.log(value if self.sign > 0 else Fraction(1) / value) if log else Level.of(self.sign * value)
        return Hypothesis(
            contrast=contrast,
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=Reading(form="ratio" if log else "difference", sign=self.sign, unit=metric.unit),
            asked=f"{'≥' if self.sign > 0 else '≤'} {amount_words(self.value, claim.metric)}",
        )


def is_ratio(metric: Metric) -> bool:
    """Whether a metric scatters by factors: times, and ratios."""
    scatters = metric.kind not in ("counted", "seeded", "event") and metric.unit != "bytes"
    scatters = scatters and not metric.same_each_time
    return scatters or metric.unit in ("s", "ratio")


class AtLeast(OneSided):
    """The metric of one model is at least the value."""

    example = '{model: moe, metric: "routing.entropy", test: {kind: at_least, value: 0.9}}'
    sign = 1

    kind: Literal["at_least"]
    """at_least: a metric of one model, against a value."""
