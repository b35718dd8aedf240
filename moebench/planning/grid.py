"""The points of a tuning sweep: every rate with every value of the other fields, and as many runs for each model.

A model that lacks a field has fewer points, and makes up for them by more seeds at each. A sweep is extended once: an
axis of which some model's best point is an end gets one value more on that side, one step of the grid's ratio away,
for all models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from moebench.frozen import Frozen, later

LR = "lr"
Value = bool | int | float | str
Side = Literal["lowest", "highest"]
SIDES: tuple[Side, ...] = ("lowest", "highest")
Axes = Mapping[str, tuple[Value, ...]]
"""`lr`, then the other fields -> values tried, numbers ascending."""
Over = tuple[Value | None, ...]
"""Values of a point's fields besides the rate, None of those that its model lacks."""


class Cell(NamedTuple):
    """One run of a model's grid."""

    lr: float
    over: Over
    seed: int


class End(NamedTuple):
    """An axis and its side at which a best point lies."""

    axis: str
    side: Side


class TunePlan(Frozen):
    """A sweep on the tune split: runs by model, rate, seed, and values of the other fields."""

    id: str
    lrs: tuple[float, ...]
    seeds: tuple[int, ...]
    """Of a point of a model that has every field."""
    runs: tuple[tuple[str, float, int, str], ...]
    """(model, learning rate, seed, run id)."""
    over: dict[str, Annotated[tuple[Value, ...], Field(max_length=32)]] = later({}, max_length=2)
    """Other field -> values tried, numbers ascending."""
    domain: str | None = later()
    """Of the tune split, by which it chooses; None for the whole."""
    at: tuple[Over, ...] = later(())
    """Of each run, the value of each field of `over`; empty where there are none."""

    @model_validator(mode="after")
    def _says_where_each_run_is(self) -> TunePlan:
        if len(self.at) != (len(self.runs) if self.over else 0):
            raise ValueError("it does not say which values its runs have")
        if any(len(over) != len(self.over) for over in self.at):
            raise ValueError("a run of it has too few values, or too many")
        return self

    @property
    def axes(self) -> dict[str, tuple[Value, ...]]:
        return {LR: self.lrs, **self.over}

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run[0] for run in self.runs))

    def cells(self, model: str) -> list[tuple[Cell, str]]:
        """A model's runs: where each is, and its id."""
        at = self.at or ((),) * len(self.runs)
        where = zip(self.runs, at, strict=True)
        return [(Cell(lr, over, seed), run) for (of, lr, seed, run), over in where if of == model]

    def has(self, model: str) -> tuple[bool, ...]:
        """Of each field of `over`, whether the model has it."""
        rows = [cell.over for cell, _ in self.cells(model)]
        return tuple(any(row[index] is not None for row in rows) for index in range(len(self.over)))


def cells(axes: Axes, has: Sequence[bool], seeds: Sequence[int]) -> list[Cell]:
    """A model's runs, rates outermost. What it lacks in points it has in seeds, which go on from the last."""
    lrs, over = axes[LR], [values for name, values in axes.items() if name != LR]
    own = [values if there else (None,) for values, there in zip(over, has, strict=True)]
    times = math.prod(len(values) for values, there in zip(over, has, strict=True) if not there)
    more = len(seeds) * (times - 1)
    every = (*seeds, *range(seeds[-1] + 1, seeds[-1] + 1 + more))
    return [Cell(float(lr), point, seed) for lr in lrs for point in itertools.product(*own) for seed in every]


def beyond(values: Sequence[Value], side: Side) -> float | int | None:
    """The value one step further, in the ratio of the last two; None beside zero, and of words.

    Where the last two have no ratio, as of 0 and 0.01, it is 2.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(numbers) < 2:
        return None
    last, inner = (numbers[0], numbers[1]) if side == "lowest" else (numbers[-1], numbers[-2])
    if last <= 0:
        return None
    ratio = last / inner if inner > 0 else 2.0
    further = float(f"{last * ratio:.6g}")
    if all(isinstance(value, int) for value in numbers):
        further = round(further)
    return further if further != last and further > 0 and math.isfinite(further) else None


def best_point(curve: Sequence[Mapping[str, Any]]) -> dict[str, Value] | None:
    """Rate and other fields of the lowest mean over seeds, among points at which every seed completed; None when there
    is none."""
    by_point: dict[tuple[tuple[str, Value], ...], list[float | None]] = {}
    for point in curve:
        where: tuple[tuple[str, Value], ...] = ((LR, point["lr"]), *point.get("over", {}).items())
        by_point.setdefault(where, []).append(point["bits_per_byte"])
    known = {point: [v for v in values if v is not None] for point, values in by_point.items()}
    means = {point: mean(values) for point, values in known.items() if len(values) == len(by_point[point])}
    lowest = min(means, key=lambda point: means[point], default=None)
    return None if lowest is None else dict(lowest)


def ends(axes: Axes, point: Mapping[str, Value]) -> list[End]:
    """Where a point lies at the end of an axis that goes on: a rate of 0 has none below, and words have no order."""
    found = []
    for name, value in point.items():
        values = axes[name]
        sides: Iterable[tuple[Side, Value]] = (("lowest", values[0]), ("highest", values[-1]))
        found += [End(name, side) for side, last in sides if value == last and beyond(values, side) is not None]
    return found


def extended(axes: Axes, at: Iterable[End]) -> dict[str, tuple[Value, ...]]:
    """The axes with one value more at each of these ends."""
    wider = dict(axes)
    for name, side in dict.fromkeys(at):
        further = beyond(axes[name], side)
        if further is not None:
            wider[name] = (further, *wider[name]) if side == "lowest" else (*wider[name], further)
    return wider
