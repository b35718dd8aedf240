"""`interaction`: `superior` of a gain over another gain: on a second metric, or of a second pair of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import MarginKind, Sweeps, compared, subtracted
from moebench.claims.kinds.superior import beyond

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


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
        return beyond(self, claim)
