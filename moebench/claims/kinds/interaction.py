"""`interaction`: the treatment's gain exceeds its gain on another metric, or the gain of another pair, by a margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Hypothesis, Withheld
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, compared, difference, direction, subtracted
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim, Pair


class Interaction(MarginKind):
    """The treatment's effect on `metric` exceeds that on the metric `minus`, or of the pair `minus`, by the margin."""

    example = (
        '{compare: {treatment: moe, baseline: dense}, metric: "test.bits_per_byte[domain=code]", '
        'minus: "test.bits_per_byte[domain=prose]", test: {kind: interaction, margin: 1%}}'
    )
    takes = ("compare", "minus")
    directed = True

    kind: Literal["interaction"]
    """interaction: an effect beyond that on another metric, or of another pair of models."""
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
        what = f"on {claim.minus}" if isinstance(claim.minus, str) else f"of {subtracted(claim)}"
        return f"{gain} exceeds {by}that {what}", "it does not"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        if claim.minus is None:
            raise Withheld("invalid", "`interaction` needs a second metric, or a second pair, in `minus`")
        sign, log = direction(claim.metric), self.margin.relative
        bound = self.level(sign, better=True)
        if not isinstance(claim.minus, str):
            return Hypothesis(
                contrast=self._of_pairs(claim, claim.minus, sign),
                support=(bound.above(strict=True),),
                refute=(bound.below(),),
                reading=self.reading(claim, sign),
                asked=f"{self.asked_better(claim, sign)} than {subtracted(claim)}",
            )
        other = direction(claim.minus)
        if not log and metric_of(claim.metric).unit != metric_of(claim.minus).unit:
            units = f"{claim.metric} and {claim.minus} have different units"
            raise Withheld("invalid", f"{units}: give the margin in %")
        here, there = difference(claim, sign, log=log), difference(claim, -other, log=log, metric=claim.minus)
        return Hypothesis(
            contrast=Contrast(terms=here.terms + there.terms, log=log),
            support=(bound.above(strict=True),),
            refute=(bound.below(),),
            reading=self.reading(claim, sign),
            asked=f"{self.asked_better(claim, sign)} than on {claim.minus}",
        )

    def _of_pairs(self, claim: Claim, minus: Pair, sign: int) -> Contrast:
        """(T1 - B1) - (T2 - B2); a model that stands in both pairs is held once, with both its weights.

        A run of the second pair that diverged would speak for the claim: there are no sides on which to hold it.
        """
        pair = compared(claim)
        weights = dict.fromkeys((pair.treatment, pair.baseline, minus.treatment, minus.baseline), 0)
        for model, weight in ((pair.treatment, 1), (pair.baseline, -1), (minus.treatment, -1), (minus.baseline, 1)):
            weights[model] += sign * weight
        return Contrast.of(claim.metric, weights, log=self.margin.relative, rests_on=tuple(weights), sided=False)
