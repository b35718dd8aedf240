"""`equivalent`: treatment and baseline differ by less than a margin, either way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.claims.hypothesis import Hypothesis, Level, orientation
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, compared, difference, exactly, less
from moebench.format import TIMES
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Equivalent(MarginKind):
    """The two differ by less than the margin, either way."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: test.bits_per_byte, test: {kind: equivalent, margin: 1%}}"
    )
    of_two = True
    may = ("minus",)
    allows = True

    kind: Literal["equivalent"]
    """equivalent: no further apart than the margin."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from super().check(claim, metric, minus, sweeps)
        if self.margin.value == 0:
            message, hint = (
                "no measurement shows a difference of exactly 0",
                "the largest difference that does not matter",
            )
            yield Fault(at=("test", "margin"), message=message, hint=f"give {hint}")

    def bounds_below(self, metric: Metric) -> bool:
        return True

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair, by = compared(claim), self.by(claim)
        return f"{pair.treatment} and {pair.baseline} differ by less than {by}{less(claim)}", "they differ by more"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """Two one-sided tests (Schuirmann 1987): the 90% interval lies inside the margins.

        A relative margin is a factor either way, 20% from 1/1.2 to 1.2: which of the two is called the baseline must
        not matter.
        """
        sign, margin, either = orientation(claim.metric) or 1, self.margin, ""
        low, high = Level.of(-exactly(margin)), Level.of(exactly(margin))
        if margin.relative:
            factor = 1 + exactly(margin)
            low, high = Level.log(1 / factor), Level.log(factor)
            if margin.value >= 0.05:
                either = f" ({float(1 / factor):.3g}{TIMES} to {float(factor):.3g}{TIMES})"
        return Hypothesis(
            contrast=difference(claim, sign, log=margin.relative),
            support=(low.above(), high.below()),
            refute=(low.below(), high.above()),
            reading=self.reading(claim, sign),
            asked=f"within {self.by(claim)}{either}{less(claim)}",
            level=0.05,
        )
