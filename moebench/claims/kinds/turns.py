"""`turns`: over a sweep a metric gets better and then worse again, so that its best lies inside.

L_s(last) - L_s(best), where the best point of seed s is that with the best mean over the other seeds: a point that is
chosen and measured on the same seeds looks better than it is, by the luck for which it was chosen. A point chosen
wrongly can only lower the effect, so it never speaks for the claim; before the claim is refuted every single point
must be shown not to be better than the last by the margin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from moebench.amounts import Amount
from moebench.claims.hypothesis import Array, Contrast, Form, Guard, Hypothesis, Withheld
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, better_and_worse, direction
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
        best = "the best before it, chosen on the other seeds, and the first point is worse than that best too"
        return f"{last} it is {by}{worse} than at {best}", f"{last} it is not {by}{worse} than at any point"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """Effects are of the last point over the best; the first must lie above the best too, or nothing turned."""
        points, along, sign = points_of(claim, claim.over, sweeps), str(claim.along), direction(claim.metric)
        names = sorted(points, key=lambda name: float(points[name][along]))
        if len(names) < 3:
            raise Withheld("invalid", f"{claim.over} has {len(names)} points: a turn needs at least 3")
        log, bound = self.margin.relative, self.level(-sign, better=True)
        _, worse = better_and_worse(claim)
        by = f"{self.by(claim)} " if self.margin.value else ""
        weights = dict.fromkeys(names, 1.0)

        def formed(end: int) -> Contrast:
            whole = Contrast.of(claim.metric, weights, log=log, sided=False)
            return Contrast(terms=whole.terms, log=log, sided=False, formed=below_the_best(end, sign))

        def single(name: str) -> Guard:
            ends = Contrast.of(claim.metric, {names[-1]: sign, name: -sign}, log=log, rests_on=tuple(names))
            at = f"{along} {float(points[name][along]):g}"
            return Guard(
                contrast=Contrast(terms=ends.terms, log=log, rests_on=tuple(names), sided=False),
                must="be above 0",
                zero=-bound.value,
                blocks=("refuted",),
                otherwise=f"it is not shown of {at} that the last point is no {by}{worse} than there",
            )

        first = Guard(
            contrast=formed(0),
            must="be above 0",
            blocks=("supported",),
            otherwise=f"the first point is not shown to be {worse} than the best: it may be {worse} all along",
        )
        return Hypothesis(
            contrast=formed(-1),
            support=(bound.above(strict=True),),
            refute=(bound.below(),),
            reading=self.reading(claim, -sign),
            asked=f"{'≥ ' if by else ''}{by}{worse} at the last {along} than at the best",
            guards=(first, *(single(name) for name in names[:-1])),
        )

    def bounds_below(self, metric: Metric) -> bool:
        return metric.better == "higher"


def below_the_best(end: int, sign: int) -> Form:
    """How much worse a point at the end of a sweep is than the best inside, of values in the order of the sweep."""

    def form(values_SP: Array) -> Array:
        if len(values_SP) < 2:
            raise ValueError("the best point of one seed is chosen on others: there are none")
        good_SP = sign * values_SP
        others_SP = (np.sum(good_SP, axis=0) - good_SP)[:, inside(values_SP.shape[1], end)]
        best_S = np.argmax(others_SP, axis=1)
        chosen_S = np.take_along_axis(good_SP[:, inside(values_SP.shape[1], end)], best_S[:, None], axis=1)[:, 0]
        return np.asarray(chosen_S - good_SP[:, end], dtype=np.float64)

    return form


def inside(points: int, end: int) -> slice:
    """The points among which the best is chosen: for the last all before it, for the first all after it."""
    return slice(0, points - 1) if end == -1 else slice(1, points)
