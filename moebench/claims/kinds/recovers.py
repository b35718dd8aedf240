"""`recovers`: the treatment has at least a share of the gain of a ceiling over the baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from moebench.claims.hypothesis import Bound, Contrast, Guard, Hypothesis, Reading, Withheld
from moebench.claims.kinds.kind import ClaimKind, Sweeps, between, compared, direction
from moebench.metrics import metric_of

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Recovers(ClaimKind):
    """The treatment has at least this share of the ceiling's gain over the baseline."""

    example = (
        "{compare: {treatment: moe, baseline: dense, ceiling: dense_total}, metric: test.bits_per_byte, "
        "test: {kind: recovers, value: 0.5}}"
    )
    takes = ("compare", "compare.ceiling")
    directed = True

    kind: Literal["recovers"]
    """recovers: a share of the ceiling's gain."""
    value: Annotated[float, Field(gt=0, le=10)]
    """Share of the ceiling's gain over the baseline."""

    def says(self, claim: Claim) -> str:
        ceiling = claim.compare and claim.compare.ceiling
        return f"{between(claim)}: at least {self.value:.0%} of the gain of {ceiling}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair = compared(claim)
        gain = f"of the gain of {pair.ceiling} over {pair.baseline}"
        return f"{pair.treatment} has at least {self.value * 100:g}% {gain}", "it has less"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """(A - M) - f (A - T) per seed, M treatment, A baseline, T ceiling: no ratio of noisy differences is formed.

        Of a gain that is not there any share is recovered and none: it must be shown before either verdict.
        """
        pair, sign, share = compared(claim), direction(claim.metric), float(self.value)
        if pair.ceiling is None:
            raise Withheld("invalid", "`recovers` needs a ceiling to compare with")
        weights = {pair.treatment: 1.0, pair.baseline: share - 1.0, pair.ceiling: -share}
        contrast = Contrast.of(claim.metric, {model: sign * weight for model, weight in weights.items()})
        gain, whole = (
            Contrast.of(claim.metric, {better: sign, pair.baseline: -sign}, rests_on=tuple(weights))
            for better in (pair.treatment, pair.ceiling)
        )
        of_gain = f"the gain of {pair.ceiling} over {pair.baseline}"
        there = Guard(
            contrast=whole,
            must="be above 0",
            blocks=("supported", "refuted"),
            otherwise=f"{of_gain}, of which a share is asked, is not shown to be above 0",
        )
        return Hypothesis(
            contrast=replace(contrast, rests_on=tuple(weights)),
            support=(Bound(side="above", value=0.0),),
            refute=(Bound(side="below", value=0.0),),
            reading=Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit),
            asked=f"≥ {share * 100:g}% of {of_gain}",
            gain=gain,
            share_of=whole,
            guards=(there,),
        )
