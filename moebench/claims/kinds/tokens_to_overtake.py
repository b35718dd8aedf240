"""`tokens_to_overtake`: after which share of the budget the treatment's curve stays below the baseline's.

One share a seed, on a log scale as other crossings: the last time that the curves cross. A treatment that is behind at
the end takes more than the budget, and how much is not known; one that is ahead at every point takes less than the
first. Read from decayed points of several budgets where the runs have some, else from the curve of the one budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from moebench.amounts import Amount, FieldError
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, compared, exactly
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

CURVES = ("curve.bits_per_byte", "decayed.bits_per_byte")
"""Metrics with a value at each of several points of a run."""
OF_BUDGET = "of the budget"


class TokensToOvertake(ClaimKind):
    """The treatment's curve stays below the baseline's from at most, or at least, a share of the budget on."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: curve.bits_per_byte, "
        "test: {kind: tokens_to_overtake, at_most: 50%}}"
    )
    directed = True

    kind: Literal["tokens_to_overtake"]
    """tokens_to_overtake: the share of the budget after which one curve stays below another."""
    at_most: Amount | None = None
    """Latest share of the tokens at which it overtakes, such as 50%."""
    at_least: Amount | None = None
    """Earliest share of them."""

    @model_validator(mode="after")
    def _one_bound(self) -> TokensToOvertake:
        if (self.at_least is None) == (self.at_most is None):
            raise FieldError("at_most", "give one of at_most and at_least, a share of the budget such as 50%")
        return self

    @property
    def share(self) -> Amount:
        bound = self.at_most if self.at_most is not None else self.at_least
        return bound if bound is not None else Amount(value=1.0, relative=True)

    @property
    def words(self) -> str:
        return f"at {'most' if self.at_most is not None else 'least'} {self.share} of the budget"

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        if metric.name not in CURVES:
            message = f"{metric.name} has one value a run: there is no point at which it is overtaken"
            yield Fault(at=("metric",), message=message, hint=f"write {CURVES[0]}")
        if not self.share.relative or not 0 < self.share.value <= 1:
            at = ("test", "at_most" if self.at_most is not None else "at_least")
            yield Fault(at=at, message=f"{self.share} is no share of a budget", hint="write a percentage, such as 50%")

    def says(self, claim: Claim) -> str:
        pair = compared(claim)
        return f"{pair.treatment} overtakes {pair.baseline} after {self.words}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair = compared(claim)
        after = f"{claim.metric} of {pair.treatment} stays below that of {pair.baseline} after {self.words}"
        return after, "it does so later, or not" if self.at_most is not None else "it does so earlier"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        pair, sign = compared(claim), -1 if self.at_most is not None else 1
        ends = Contrast.of(claim.metric, {pair.treatment: sign, pair.baseline: -sign}, sided=False)
        bound = Level.log(exactly(self.share) ** sign)
        return Hypothesis(
            contrast=Contrast(terms=ends.terms, log=True, sided=False, formed="overtaking"),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=Reading(form="ratio", sign=sign, unit=OF_BUDGET),
            asked=f"{'≤' if sign < 0 else '≥'} {self.share} of the budget",
        )
