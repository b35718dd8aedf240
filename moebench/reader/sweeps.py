"""The summary of a tuning sweep, read without trusting it: its points, seeds and losses are the planned ones, or those
of the one extension that the plan leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moebench.metrics import impossible
from moebench.planning.grid import LR, SIDES, Cell, End, best_point, cells, ends, extended
from moebench.planning.types import TunePlan
from moebench.reader.checks import wrong
from moebench.store import CorruptFile, Folder


class _Point(BaseModel):
    """What a model lost at one rate with one seed, or why that is not known."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    lr: float
    over: dict[str, bool | int | float | str] = Field(default={}, max_length=2)
    seed: int
    bits_per_byte: float | None
    reason: str | None = None
    extension: bool = False


class _SweptModel(BaseModel):
    """One model's points, and which is best."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    curve: list[_Point]
    best_lr: float | None
    interior: bool
    ends: list[list[str]] = Field(default=[], max_length=6)
    configured_lr: float | None
    best: dict[str, bool | int | float | str] = Field(default={}, max_length=2)


def read_tune(folder: Folder, tune: TunePlan) -> dict[str, Any]:
    """A sweep's summary, as written. Raises one of `UNREADABLE` when it is not that of the planned sweep."""
    path = folder.path / "tune.json"
    raw: dict[str, Any] = folder.read(path.name)
    if TunePlan.model_validate(raw["plan"]) != tune:
        raise CorruptFile(path, "is of another sweep than planned")
    whole = tune if "extended" not in raw else _extended(path, TunePlan.model_validate(raw["extended"]), tune)
    first = {run[-1] for run in tune.runs}
    for name, model in raw["models"].items():
        try:
            swept = _SweptModel.model_validate(model)
        except ValidationError as error:
            raise CorruptFile(path, f"not what a sweep writes: {wrong(error)}") from error
        told = [_key(Cell(one.lr, tuple(map(one.over.get, tune.over)), one.seed), one.extension) for one in swept.curve]
        planned = [_key(cell, run not in first) for cell, run in whole.cells(name)]
        if sorted(told) != sorted(planned):
            raise CorruptFile(path, f"the rates and seeds of {name} are not those planned")
        known = all(len(end) == 2 and end[0] in whole.axes and end[1] in SIDES for end in swept.ends)
        if not known or not set(swept.best) <= set(tune.over):
            raise CorruptFile(path, f"{name} has a best point that the sweep has not")
        for point in swept.curve:
            why = None if point.bits_per_byte is None else impossible("tune.bits_per_byte", point.bits_per_byte)
            if why is not None:
                raise CorruptFile(path, why)
        best = best_point(model["curve"])
        if best != (None if swept.best_lr is None else {LR: swept.best_lr, **swept.best}):
            raise CorruptFile(path, f"the best point of {name} is not that of its losses")
        if swept.interior and (best is None or any(end.axis == LR for end in ends(whole.axes, best))):
            raise CorruptFile(path, f"the best rate of {name} does not lie inside")
    return raw


def _key(cell: Cell, late: bool) -> tuple[float, str, int, bool]:
    return cell.lr, repr(cell.over), cell.seed, late


def _extended(path: Path, wider: TunePlan, tune: TunePlan) -> TunePlan:
    """The sweep with its extension: at most one step more on each side of an axis, and as many runs for each model."""
    every = [End(axis, side) for axis in tune.axes for side in SIDES]
    steps = [end for end in every if set(extended(tune.axes, [end])[end.axis]) <= set(wider.axes.get(end.axis, ()))]
    fits = wider.axes == extended(tune.axes, steps) and wider.models == tune.models and wider.seeds == tune.seeds
    for name in tune.models if fits else ():
        at = [cell for cell, _ in wider.cells(name)]
        fits = fits and sorted(map(repr, at)) == sorted(map(repr, cells(wider.axes, tune.has(name), tune.seeds)))
        fits = fits and set(tune.cells(name)) <= set(wider.cells(name))
    if not fits:
        raise CorruptFile(path, "its extension is not the one step that the planned sweep may take")
    return wider
