"""What tests over a sweep share: its points, the slope over a swept value, and the steps between neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moebench.claims.hypothesis import Withheld
from moebench.claims.kinds.kind import Fault, Sweeps

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

Points = Mapping[str, Mapping[str, Any]]
"""Expanded model -> its swept keys and values; the one that a test runs along is a number."""
Key = tuple[tuple[str, Any], ...]


def key_of(point: Mapping[str, Any]) -> Key:
    """What a point of a sweep is, whichever model is swept."""
    return tuple(sorted(point.items()))


def together(claim: Claim, sweeps: Sweeps) -> Iterator[tuple[str, ...]]:
    """The models whose numbers a claim holds against each other, of swept ones point by point.

    Of a sweep over what models are trained on (`along: data.limit`) each point stands for itself.
    """
    reach = claim.target.reach if claim.target is not None else None
    aim = (reach,) if isinstance(reach, str) else ()
    for group in claim.groups:
        keys = dict.fromkeys(key_of(point) for name in group for point in sweeps.get(name, {}).values())
        for key in keys or (None,):
            points = (
                point
                for name in group
                for point, at in sweeps.get(name, {name: {}}).items()
                if name not in sweeps or key_of(at) == key
            )
            yield (*points, *aim)
    if claim.over is not None and not (claim.along or "").startswith("data."):
        yield tuple(sweeps.get(claim.over, ()))


def points_of(claim: Claim, swept: str | None, sweeps: Sweeps) -> Points:
    """The points of a swept model. Raises Withheld where there are none, or none along the claim's key."""
    points = sweeps.get(swept or "", {})
    if not points:
        raise Withheld("invalid", f"{swept} is not a sweep of this suite")
    if claim.along is None or any(claim.along not in point for point in points.values()):
        raise Withheld("invalid", f"{swept} does not sweep {claim.along}")
    if any(isinstance(point[claim.along], str | bool) for point in points.values()):
        raise Withheld("invalid", f"{claim.along} is not swept over numbers: no slope")
    return points


def along_numbers(claim: Claim, swept: str, sweeps: Sweeps, *, least: int) -> Iterator[Fault]:
    """That the values along a sweep are numbers, and enough of them."""
    values = {point.get(str(claim.along)) for point in sweeps.get(swept, {}).values()} - {None}
    kind = claim.test.kind
    if any(isinstance(value, str | bool) for value in values):
        yield Fault(at=("along",), message=f"{claim.along} takes words: a {kind} needs numbers")
    elif 0 < len(values) < least:
        message = f"{claim.along} takes {len(values)} values: a {kind} needs at least {least}"
        yield Fault(at=("along",), message=message)


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Weights that make of the values at a sweep's points a slope over its swept value, or a step along it."""

    values: tuple[float, ...]
    """The swept value of each point."""
    others: tuple[Key, ...]
    """What else is swept, of each point: slopes are taken within each combination and pooled."""
    doubling: bool
    """Whether the slope is per doubling: where all values are positive."""
    weights: tuple[float, ...]

    @staticmethod
    def of(points: Points, along: str) -> Slope:
        """The least-squares slope. Raises Withheld where there is one value only."""
        values = np.array([float(point[along]) for point in points.values()])
        others = [key_of({key: v for key, v in point.items() if key != along}) for point in points.values()]
        doubling = bool(np.all(values > 0))
        x, every = np.log2(values) if doubling else values, range(len(values))
        centred = np.array([x[i] - np.mean([x[j] for j in every if others[j] == others[i]]) for i in every])
        if not np.any(centred):
            raise Withheld("invalid", f"the sweep has one value of {along} only: no slope")
        weights = tuple(map(float, slope_weights(centred)))
        return Slope(values=tuple(map(float, values)), others=tuple(others), doubling=doubling, weights=weights)

    def steps(self) -> Iterator[tuple[float, float, Sequence[float]]]:
        """Each step between neighbours of the swept value, averaged over combinations of what else is swept."""
        levels = sorted(set(self.values))
        for low, high in itertools.pairwise(levels) if len(levels) > 2 else ():
            at = [{o: i for i, o in enumerate(self.others) if self.values[i] == level} for level in (low, high)]
            both = [rest for rest in at[0] if rest in at[1]]
            weights = [0.0] * len(self.values)
            for rest in both:
                weights[at[0][rest]] -= 1 / len(both)
                weights[at[1][rest]] += 1 / len(both)
            if both:
                yield low, high, weights


def slope_weights(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights w [k] so that w @ y is the least-squares slope of y over x [k]. Raises ValueError when x is constant."""
    centred = x - np.mean(x)
    spread = float(np.sum(centred**2))
    if spread == 0:
        raise ValueError("a slope needs at least two different values")
    return np.asarray(centred / spread, dtype=np.float64)
