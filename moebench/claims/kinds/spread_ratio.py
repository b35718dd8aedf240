"""`spread_ratio`: how much more one model scatters over seeds than another: the ratio of their standard deviations.

The runs of a seed are a pair. `claims.spread` has the test, which swaps the two within pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, as_written
from moebench.claims.kinds.bounded import BoundedKind
from moebench.claims.kinds.kind import Fault, Sweeps, compared, of_seeds
from moebench.format import TIMES
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class SpreadRatioKind(BoundedKind):
    """The treatment's standard deviation over seeds is at least, or at most, a multiple of the baseline's."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: test.bits_per_byte, "
        "test: {kind: spread_ratio, at_least: 1.5}}"
    )

    kind: Literal["spread_ratio"]
    """spread_ratio: how much more one model scatters over seeds."""
    at_least: PositiveFloat | None = None
    """Lower bound of the treatment's SD over the baseline's."""
    at_most: PositiveFloat | None = None
    """Upper bound of it."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from of_seeds(metric)

    def says(self, claim: Claim) -> str:
        pair = compared(claim)
        what = f"the spread of {claim.metric} over seeds"
        return f"In {pair.treatment} {what} is {self.words} times that in {pair.baseline}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair = compared(claim)
        over = f"the SD over seeds of {pair.treatment} over that of {pair.baseline}"
        return f"{over} is {self.words}", f"it is {'less' if self.at_least is not None else 'more'}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        pair, sign = compared(claim), 1 if self.at_least is not None else -1
        ends = Contrast.of(claim.metric, {pair.treatment: sign, pair.baseline: -sign}, sided=False)
        bound = Level.log(as_written(self.value) ** sign)
        return Hypothesis(
            contrast=Contrast(terms=ends.terms, log=False, sided=False, formed="spread"),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=Reading(form="ratio", sign=sign, unit="ratio"),
            asked=f"{'≥' if sign > 0 else '≤'} {self.value:g}{TIMES} the SD over seeds",
        )
