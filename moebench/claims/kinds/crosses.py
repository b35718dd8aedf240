"""`crosses`: along a sweep the treatment's gain passes a margin: below it at one end, above it at the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from moebench.amounts import Amount
from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import (
    Fault,
    MarginKind,
    Sweeps,
    better_and_worse,
    compared,
    difference,
    direction,
    less,
)
from moebench.claims.kinds.part import Known, Part, Parts
from moebench.claims.kinds.spread import Place, at_points, swept_sides
from moebench.frozen import later
from moebench.metrics.metric import Metric
from moebench.text import listed, nearest

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Crosses(MarginKind):
    """The gain is less than the margin at the low end of a sweep and more at its high end."""

    example = (
        "{compare: {treatment: moe_sweep, baseline: dense}, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: crosses, margin: 0.5%}}"
    )
    takes = ("compare", "along")
    may = ("minus",)
    directed = True
    spreads = False
    of_points = True

    kind: Literal["crosses"]
    """crosses: a gain that passes a margin along a sweep."""
    margin: Amount = Amount(value=0.0, relative=True)
    """`0.5%` is a ratio; a bare number is in the metric's unit."""
    sign: Literal["rising", "falling"] = later("rising")
    """Which end has the gain above the margin: the high one, or for `falling` the low one."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from super().check(claim, metric, minus, sweeps)
        swept = swept_sides(claim, sweeps)
        if not swept:
            message = "a crosses test needs a model with a `sweep` on either side"
            yield Fault(at=("compare",), message=message, hint=f"the sweeps are {listed(list(sweeps), last='and')}")
            return
        points = list(sweeps[next(iter(swept.values()))].values())
        values = {point.get(str(claim.along)) for point in points}
        if None in values:
            hint = nearest(claim.along, points[0]) or f"it is swept over {listed(list(points[0]), last='and')}"
            yield Fault(at=("along",), message=f"it is not swept over {claim.along}", hint=hint)
        elif any(isinstance(value, str | bool) for value in values):
            yield Fault(at=("along",), message=f"{claim.along} takes words: a crosses test needs numbers")
        elif len(values) < 2:
            yield Fault(at=("along",), message=f"{claim.along} takes one value: a crosses test needs two ends")

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair, (better, _) = compared(claim), better_and_worse(claim)
        by = f"by more than {self.by(claim)} " if self.margin.value else ""
        ends = ("largest", "smallest") if self.sign == "rising" else ("smallest", "largest")
        gain = f"{pair.treatment} is {by}{better} than {pair.baseline}{less(claim)}"
        return f"{gain} at the {ends[0]} {claim.along} and not at the {ends[1]}", "either of the two fails"

    def parts(self, claim: Claim, known: Known) -> Parts | None:
        """Both ends, at every combination of what else is swept: each must hold (Berger 1982)."""
        swept, along = swept_sides(claim, known.sweeps), str(claim.along)
        places = list(at_points(claim, swept, known.sweeps)) if swept else []
        values = [place.at.get(along) for place in places]
        numbers = [value for value in values if isinstance(value, float | int) and not isinstance(value, bool)]
        if len(numbers) < len(places) or len(set(numbers)) < 2:
            raise Withheld("invalid", f"no two ends of {along}: it is not swept over numbers")
        low, high = min(numbers), max(numbers)
        parts = [
            self._end(place, above=(value == high) == (self.sign == "rising"))
            for place, value in zip(places, numbers, strict=True)
            if value in (low, high)
        ]
        asked = {part.name: part.hypothesis.asked for part in parts if part.hypothesis is not None}
        words = " and ".join(f"{word} at {name}" for name, word in asked.items())
        return Parts(of=tuple(parts), need=len(parts), what="ends", where="at", asked=words)

    def _end(self, place: Place, *, above: bool) -> Part:
        hypothesis = self.hypothesis(place.claim, {})
        if not above:
            sign = direction(place.claim.metric)
            bound = self.level(sign, better=True)
            word = f"less than {self.by(place.claim)} " if self.margin.value else "not "
            asked = word + ("higher" if sign > 0 else "lower")
            hypothesis = replace(hypothesis, support=(bound.below(),), refute=(bound.above(),), asked=asked)
        return Part(name=place.name, claim=place.claim, hypothesis=hypothesis)

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """That the gain is above the margin at one point."""
        sign = direction(claim.metric)
        bound = self.level(sign, better=True)
        return Hypothesis(
            contrast=difference(claim, sign, log=self.margin.relative),
            support=(bound.above(strict=True),),
            refute=(bound.below(),),
            reading=self.reading(claim, sign),
            asked=self.asked_better(claim, sign),
        )
