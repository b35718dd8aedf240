"""`turns`: over a sweep a metric gets better and then worse again, so that its best lies inside.

Its last point is held against the best of those inside, and so is the first: `claims.best` has the test, which knows
that the best was chosen by the same seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Guard, Hypothesis, Withheld
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, better_and_worse, direction, of_seeds
from moebench.claims.kinds.sweeping import along_numbers, points_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Turns(MarginKind):
    """The metric gets better along a sweep and then worse again: its last point is worse than its best."""

    example = "{over: moe_sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: turns, margin: 0.5%}}"
    takes = ("over", "along")
    directed = True

    kind: Literal["turns"]
    """turns: better and then worse again along a sweep."""
    margin: Amount = Amount(value=0.0, relative=True)
    """By how much the last point is worse than the best: `0.5%` is a ratio; a bare number is in the metric's unit."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from super().check(claim, metric, minus, sweeps)
        swept = str(claim.over)
        yield from of_seeds(metric)
        yield from along_numbers(claim, swept, sweeps, least=3)
        if any(len(point) > 1 for point in sweeps.get(swept, {}).values()):
            message = f"{swept} is swept over several keys: a turn lies along one"
            yield Fault(at=("over",), message=message, hint="give the claim a sweep of one key")

    def says(self, claim: Claim) -> str:
        return f"{claim.metric} of {claim.over} gets better along {claim.along} and then worse again."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        _, worse = better_and_worse(claim)
        by = f"more than {self.by(claim)} " if self.margin.value else ""
        last = f"at the last {claim.along} of {claim.over}"
        supported = f"{last} it is {by}{worse} than at the best inside, and at the first it is {worse} than there too"
        return supported, f"{last} it is not {by}{worse} than at any point inside"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """By how much the last point is worse than the best; the first must be so too, or nothing turned."""
        points, along, sign = points_of(claim, claim.over, sweeps), str(claim.along), direction(claim.metric)
        names = sorted(points, key=lambda name: float(points[name][along]))
        if len(names) < 3:
            raise Withheld("invalid", f"{claim.over} has {len(names)} points: a turn needs at least 3")
        log, bound = self.margin.relative, self.level(-sign, better=True)
        _, worse = better_and_worse(claim)
        by = f"{self.by(claim)} " if self.margin.value else ""

        def below_the_best(end: str) -> Contrast:
            weights = {end: float(-sign), **dict.fromkeys(names[1:-1], float(sign))}
            whole = Contrast.of(claim.metric, weights, log=log)
            return Contrast(terms=whole.terms, log=log, rests_on=tuple(names), sided=False, formed="best")

        first = Guard(
            contrast=below_the_best(names[0]),
            must="be above 0",
            blocks=("supported",),
            otherwise=f"the first point is not shown to be {worse} than the best inside: it may be {worse} all along",
        )
        return Hypothesis(
            contrast=below_the_best(names[-1]),
            support=(bound.above(strict=True),),
            refute=(bound.below(),),
            reading=self.reading(claim, -sign),
            asked=f"{'≥ ' if by else ''}{by}{worse} at the last {along} than at the best inside",
            guards=(first,),
        )

    def bounds_below(self, metric: Metric) -> bool:
        return metric.better == "higher"
