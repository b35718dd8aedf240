"""`near_best`: a point of a sweep is worse than no other by more than a margin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import Fault, MarginKind, Sweeps, better_and_worse
from moebench.claims.kinds.part import MOST_PARTS, Known, Part, Parts
from moebench.claims.kinds.spread import point_words
from moebench.metrics.metric import Metric
from moebench.text import listed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class NearBest(MarginKind):
    """A point of a sweep is not worse than any other by more than the margin."""

    example = (
        "{over: moe_sweep, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: near_best, at: 8, margin: 0.5%}}"
    )
    takes = ("over", "along")
    directed = True
    allows = True
    spreads = False

    kind: Literal["near_best"]
    """near_best: a point of a sweep, against every other."""
    at: float | str | bool
    """The swept value of the point."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from super().check(claim, metric, minus, sweeps)
        values = [point[str(claim.along)] for point in sweeps.get(str(claim.over), {}).values() if claim.along in point]
        if values and self.at not in values:
            there = listed([_shown(value) for value in dict.fromkeys(values)], last="and")
            yield Fault(
                at=("test", "at"), message=f"{claim.along} is not {_shown(self.at)} at any point", hint=f"it is {there}"
            )
        elif values and len(set(values)) < 2:
            yield Fault(at=("along",), message=f"{claim.along} takes one value: there is no other point")

    def says(self, claim: Claim) -> str:
        where = f"{claim.along} {_shown(self.at)} of {claim.over}"
        return f"{claim.metric} at {where} is within {self.margin} of the best."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        (_, worse), by = better_and_worse(claim), self.by(claim)
        where = f"{claim.over} at {claim.along} {_shown(self.at)}"
        return f"{where} is at most {by} {worse} than at any other", f"it is more than {by} {worse} than at one of them"

    def parts(self, claim: Claim, known: Known) -> Parts | None:
        """Not worse than each other point with the same values of what else is swept: all must hold."""
        points, along = known.sweeps.get(str(claim.over), {}), str(claim.along)
        parts: list[Part] = []
        for here, own in points.items():
            if own.get(along) != self.at:
                continue
            for other, theirs in points.items():
                if other != here and {**theirs, along: self.at} == own:
                    parts.append(Part(name=point_words(theirs), claim=self._against(claim, here, other)))
        if len(parts) < 1:
            raise Withheld("invalid", f"{claim.over} has no other point than {along} {_shown(self.at)}")
        if len(parts) > MOST_PARTS:
            raise Withheld("invalid", f"{len(parts)} other points: at most {MOST_PARTS} are judged at once")
        (_, worse) = better_and_worse(claim)
        asked = f"≤ {self.by(claim)} {worse} than at any other {along}"
        return Parts(of=tuple(parts), need=len(parts), what="other points", where="against", asked=asked)

    def _against(self, claim: Claim, here: str, other: str) -> Claim:
        kept = claim.model_dump(mode="json", exclude={"over", "along", "test"})
        pair = {"treatment": here, "baseline": other}
        test = {"kind": "non_inferior", "margin": self.margin.model_dump(mode="json")}
        return type(claim).model_validate({**kept, "compare": pair, "test": test})

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        raise Withheld("invalid", "`near_best` compares one point with each of the others")


def _shown(value: float | str | bool) -> str:
    return f"{value:g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
