"""`plateau`: how wide the range of a swept value is in which a model is nearly at its best, against another's.

A plateau is measured in octaves of the swept value: the metric is joined by straight lines of its log over log2 of the
value, and what lies within a share of the model's best of that seed counts. Where something else is swept too, it is
the mean over its values, the best being that of the whole sweep. What would lie beyond the ends of the sweep is not
counted, so both models must be swept over the same values. A plateau that is narrower than the step between two values,
mean over seeds, is not resolved, and no verdict rests on it: by simulation of 8 seeds with five or seven values a bound
is then passed wrongly in up to 4% of samples, and in 2 to 2.5% otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveFloat, model_validator

from moebench.amounts import Amount, FieldError
from moebench.claims.hypothesis import Array, Contrast, Form, Hypothesis, Level, Reading, Term, as_written
from moebench.claims.kinds.bounded import BoundedKind
from moebench.claims.kinds.kind import Fault, Sweeps, compared, direction, of_seeds
from moebench.claims.kinds.sweeping import Points, along_numbers, key_of, points_of
from moebench.format import TIMES
from moebench.metrics.metric import Metric
from moebench.text import listed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Plateau(BoundedKind):
    """One swept model's range of nearly best values is at most, or at least, a multiple of another's."""

    example = (
        "{compare: {treatment: moe_rates, baseline: dense_rates}, along: train.optimizer.lr, "
        "metric: test.bits_per_byte, test: {kind: plateau, within: 2%, at_most: 0.7}}"
    )
    takes = ("compare", "along")
    of_sweeps = True
    directed = True
    spreads = False

    kind: Literal["plateau"]
    """plateau: how wide a range of nearly best values is."""
    within: Amount = Amount(value=0.02, relative=True)
    """How far from its best a model may be: a percentage."""
    at_most: PositiveFloat | None = None
    """Upper bound of the treatment's octaves over the baseline's."""
    at_least: PositiveFloat | None = None
    """Lower bound of it."""

    @model_validator(mode="after")
    def _a_share(self) -> Plateau:
        if not self.within.relative or not 0 < self.within.value < 1:
            raise FieldError("within", f"within {self.within}: write a percentage between 0% and 100%")
        return self

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from of_seeds(metric)
        named = {"treatment": claim.compare.treatment, "baseline": claim.compare.baseline} if claim.compare else {}
        values: list[set[float | str | bool | None]] = []
        for side, name in named.items():
            if name not in sweeps:
                hint = f"the sweeps are {listed(list(sweeps), last='and')}" if sweeps else "give it a `sweep`"
                yield Fault(at=("compare", side), message=f"{name} is not swept", hint=hint)
                continue
            yield from along_numbers(claim, name, sweeps, least=3)
            values.append({point.get(str(claim.along)) for point in sweeps[name].values()} - {None})
        if len(values) == 2 and values[0] != values[1]:
            message = f"the two are not swept over the same values of {claim.along}"
            yield Fault(at=("compare", "baseline"), message=message, hint="what lies beyond a sweep is not counted")

    def says(self, claim: Claim) -> str:
        pair = compared(claim)
        what = f"The range of {claim.along} within {self.within} of its best"
        return f"{what} is {self.words} times as wide for {pair.treatment} as for {pair.baseline}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        pair = compared(claim)
        over = f"octaves of {claim.along} within {self.within} of the best, {pair.treatment} over {pair.baseline},"
        return f"{over} are {self.words}", f"they are {'less' if self.at_least is not None else 'more'}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        pair, along = compared(claim), str(claim.along)
        sides = [points_of(claim, name, sweeps) for name in (pair.treatment, pair.baseline)]
        lines = [rows(points, along) for points in sides]
        terms = tuple(Term(model=name, metric=claim.metric, weight=1.0) for points in sides for name in points)
        sign = 1 if self.at_least is not None else -1
        form = wider(lines, within=math.log1p(self.within.value), sign=sign, better=direction(claim.metric))
        bound = Level.log(as_written(self.value) ** sign)
        return Hypothesis(
            contrast=Contrast(terms=terms, log=True, sided=False, formed=form),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=Reading(form="ratio", sign=sign, unit="ratio"),
            asked=f"{'≥' if sign > 0 else '≤'} {self.value:g}{TIMES} the octaves",
        )


Line = tuple[tuple[float, ...], tuple[int, ...]]
"""Log2 of the swept value, ascending, and where the point stands in the sweep."""


def rows(points: Points, along: str) -> list[Line]:
    """The points of a sweep by what else is swept."""
    lines: dict[object, list[tuple[float, int]]] = {}
    for place, point in enumerate(points.values()):
        rest = key_of({key: value for key, value in point.items() if key != along})
        lines.setdefault(rest, []).append((math.log2(float(point[along])), place))
    ordered = (sorted(line) for line in lines.values())
    return [(tuple(x for x, _ in line), tuple(place for _, place in line)) for line in ordered]


def wider(lines: Sequence[Sequence[Line]], *, within: float, sign: int, better: int) -> Form:
    """Log-ratio of the octaves of two sweeps, of the logs of their values one after the other."""

    def form(values_ST: Array) -> Array:
        first = sum(len(places) for _, places in lines[0])
        both = values_ST[:, :first], values_ST[:, first:]
        widths = [octaves(one, -better * side, within=within) for one, side in zip(lines, both, strict=True)]
        for (x, _), width_S in zip((one[0] for one in lines), widths, strict=True):
            if np.mean(width_S) < (step := float(np.max(np.diff(x)))):
                told = f"the plateau is {np.mean(width_S):.2g} octaves wide and the values are {step:.2g} apart"
                raise ValueError(f"{told}: sweep closer values")
        return np.asarray(sign * (np.log(widths[0]) - np.log(widths[1])), dtype=np.float64)

    return form


def octaves(lines: Sequence[Line], values_SP: Array, *, within: float) -> Array:
    """Octaves, mean over lines, on which straight lines through each row, lower is better, stay `within` its least.

    Above 0 unless a value is infinite: a line leaves its best point at a finite slope.
    """
    limit_S = np.min(values_SP, axis=1) + within
    total_S = np.zeros(len(values_SP))
    for x, places in lines:
        ends_SX = values_SP[:, list(places)]
        low_SX, high_SX = (f(ends_SX[:, :-1], ends_SX[:, 1:]) for f in (np.minimum, np.maximum))
        rise_SX = np.where(high_SX > low_SX, high_SX - low_SX, 1.0)
        share_SX = np.clip((limit_S[:, None] - low_SX) / rise_SX, 0.0, 1.0)
        share_SX = np.where(high_SX <= limit_S[:, None], 1.0, share_SX)
        total_S += share_SX @ np.diff(x)
    return np.asarray(total_S / len(lines), dtype=np.float64)
