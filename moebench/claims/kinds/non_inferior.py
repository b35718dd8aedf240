"""`non_inferior`: the treatment is worse than the baseline by no more than a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moebench.claims.hypothesis import Hypothesis
from moebench.claims.kinds.kind import (
    MarginKind,
    Sweeps,
    better_and_worse,
    compared,
    difference,
    direction,
    less,
    than,
)

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class NonInferior(MarginKind):
    """The treatment is not worse by more than the margin."""

    example = (
        "{compare: {treatment: moe, baseline: dense}, metric: speed.train_step_s, "
        "test: {kind: non_inferior, margin: 10%}}"
    )
    directed = True
    of_two = True
    may = ("minus",)
    allows = True

    kind: Literal["non_inferior"]
    """non_inferior: not worse by more than the margin."""

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair, (_, worse), by = compared(claim), better_and_worse(claim), self.by(claim)
        supported = f"{pair.treatment} is at most {by} {worse} than {pair.baseline}{less(claim)}"
        return supported, f"it is more than {by} {worse}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        sign = direction(claim.metric)
        bound = self.level(sign, better=False)
        return Hypothesis(
            contrast=difference(claim, sign, log=self.margin.relative),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=self.reading(claim, sign),
            asked=f"≤ {self.by(claim)} {'lower' if sign > 0 else 'higher'}{than(claim)}",
        )
