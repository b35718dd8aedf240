"""`recovers`: the treatment has at least a share of a gain: that of a ceiling over the baseline, or of another pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from moebench.claims.hypothesis import Bound, Contrast, Guard, Hypothesis, Reading, Withheld
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, between, compared, direction
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Recovers(ClaimKind):
    """The treatment has at least this share of the ceiling's gain over the baseline, or of another pair's gain."""

    example = (
        "{compare: {treatment: moe, baseline: dense, ceiling: dense_total}, metric: test.bits_per_byte, "
        "test: {kind: recovers, value: 0.5}}"
    )
    may = ("compare.ceiling", "share_of")
    directed = True

    kind: Literal["recovers"]
    """recovers: a share of another gain."""
    value: Annotated[float, Field(gt=0, le=10)]
    """Share of the ceiling's gain over the baseline, or of the gain of the pair in `share_of`."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        ceiling = claim.compare and claim.compare.ceiling
        if ceiling is None and claim.share_of is None:
            message = "a recovers test needs 'compare.ceiling' or 'share_of'"
            yield Fault(at=("compare", "ceiling"), message=message, hint="name what has the whole gain")
        elif ceiling is not None and claim.share_of is not None:
            yield Fault(at=("share_of",), message="a share of one gain: give `ceiling` or `share_of`, not both")

    def says(self, claim: Claim) -> str:
        return f"{between(claim)}: at least {self.value:.0%} of {whole_gain(claim)}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        return f"{compared(claim).treatment} has at least {self.value * 100:g}% of {whole_gain(claim)}", "it has less"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """(A - M) - f (A - T) per seed, M treatment, A baseline, T ceiling: no ratio of noisy differences is formed.

        Of another pair's gain (A2 - T2) stands in the place of (A - T). Of a gain that is not there any share is
        recovered and none: it must be shown before either verdict.
        """
        pair, sign, share = compared(claim), direction(claim.metric), float(self.value)
        whole_of = whole_pair(claim)
        gain, whole = (
            Contrast.of(claim.metric, {better: sign, worse: -sign})
            for better, worse in ((pair.treatment, pair.baseline), whole_of)
        )
        rest = whole.times(-share)
        contrast = gain.plus(rest, sided=claim.share_of is None)
        every = tuple(dict.fromkeys((*gain.models, *whole.models)))
        there = Guard(
            contrast=replace(whole, rests_on=every),
            must="be above 0",
            blocks=("supported", "refuted"),
            otherwise=f"{whole_gain(claim)}, of which a share is asked, is not shown to be above 0",
        )
        return Hypothesis(
            contrast=replace(contrast, rests_on=every),
            support=(Bound(side="above", value=0.0),),
            refute=(Bound(side="below", value=0.0),),
            reading=Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit),
            asked=f"≥ {share * 100:g}% of {whole_gain(claim)}",
            gain=replace(gain, rests_on=every),
            share_of=replace(whole, rests_on=every),
            guards=(there,),
        )


def whole_pair(claim: Claim) -> tuple[str, str]:
    """The models whose difference is the whole gain."""
    pair = compared(claim)
    if claim.share_of is not None:
        return claim.share_of.treatment, claim.share_of.baseline
    if pair.ceiling is None:
        raise Withheld("invalid", "`recovers` needs a ceiling, or a pair in `share_of`, to compare with")
    return pair.ceiling, pair.baseline


def whole_gain(claim: Claim) -> str:
    """The whole gain in words, of a claim that may lack a part."""
    pair = claim.compare
    better, worse = (pair.ceiling, pair.baseline) if pair is not None else (None, None)
    if claim.share_of is not None:
        better, worse = claim.share_of.treatment, claim.share_of.baseline
    return f"the gain of {better} over {worse}"
