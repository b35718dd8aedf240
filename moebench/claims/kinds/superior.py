"""`superior`: the treatment is better than the baseline by more than a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.kinds.kind import MarginKind, Sweeps, better_and_worse, compared, difference, direction, less

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Superior(MarginKind):
    """The treatment is better by more than the margin."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: test.bits_per_byte, test: {kind: superior, margin: 0.5%}}"
    )
    directed = True
    of_two = True
    may = ("minus",)

    kind: Literal["superior"]
    """superior: better by more than the margin."""
    margin: Amount = Amount(value=0.0, relative=True)
    """`0.5%` is a ratio; a bare number is in the metric's unit."""

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair, (better, worse) = compared(claim), better_and_worse(claim)
        if self.margin.value == 0:
            return f"{pair.treatment} is {better} than {pair.baseline}{less(claim)}", f"it is equal or {worse}"
        by = self.by(claim)
        supported = f"{pair.treatment} is more than {by} {better} than {pair.baseline}{less(claim)}"
        return supported, f"it is less than {by} {better}, or {worse}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        return beyond(self, claim)


def beyond(kind: MarginKind, claim: Claim) -> Hypothesis:
    """The treatment, or its gain less another, is better by more than a margin."""
    sign = direction(claim.metric)
    bound = kind.level(sign, better=True)
    return Hypothesis(
        contrast=difference(claim, sign, log=kind.margin.relative),
        support=(bound.above(strict=True),),
        refute=(bound.below(),),
        reading=kind.reading(claim, sign),
        asked=kind.asked_better(claim, sign),
    )
