"""`interaction`: the treatment's gain on one metric exceeds its gain on another by more than a margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Hypothesis, Withheld
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, compared, difference, direction
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Interaction(MarginKind):
    """The treatment's effect on `metric` minus its effect on `minus` exceeds the margin."""

    example = (
        '{compare: {treatment: moe, baseline: dense}, metric: "test.bits_per_byte[domain=code]", '
        'minus: "test.bits_per_byte[domain=prose]", test: {kind: interaction, margin: 1%}}'
    )
    takes = ("compare", "minus")
    directed = True

    kind: Literal["interaction"]
    """interaction: an effect on one metric beyond that on another."""
    margin: Amount = Amount(value=0.0, relative=False)
    """`0.5%` is a ratio; a bare number is in the metric's unit."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from super().check(claim, metric, minus, sweeps)
        if minus is not None and metric.unit != minus.unit and not self.margin.relative:
            message = f"{metric.unit} and {minus.unit} cannot be subtracted"
            yield Fault(at=("minus",), message=message, hint="give the margin as a percentage")

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair, by = compared(claim), ""
        if self.margin.value:
            by = f"by more than {self.by(claim)} "
        gain = f"{pair.treatment}'s gain over {pair.baseline}"
        return f"{gain} exceeds {by}that on {claim.minus}", "it does not"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        if claim.minus is None:
            raise Withheld("invalid", "`interaction` needs a second metric in `minus`")
        sign, other, log = direction(claim.metric), direction(claim.minus), self.margin.relative
        if not log and metric_of(claim.metric).unit != metric_of(claim.minus).unit:
            units = f"{claim.metric} and {claim.minus} have different units"
            raise Withheld("invalid", f"{units}: give the margin in %")
        here, there = difference(claim, sign, log=log), difference(claim, -other, log=log, metric=claim.minus)
        bound = self.level(sign, better=True)
        return Hypothesis(
            contrast=Contrast(terms=here.terms + there.terms, log=log),
            support=(bound.above(strict=True),),
            refute=(bound.below(),),
            reading=self.reading(claim, sign),
            asked=f"{self.asked_better(claim, sign)} than on {claim.minus}",
        )
