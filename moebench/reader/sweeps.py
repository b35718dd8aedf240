"""The summary of a learning-rate sweep, read without trusting it: its rates, seeds and losses are the planned ones."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from moebench.metrics import impossible
from moebench.planning.types import TunePlan
from moebench.reader.checks import wrong
from moebench.store import CorruptFile, Folder


class _Point(BaseModel):
    """What a model lost at one rate with one seed, or why that is not known."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    lr: float
    seed: int
    bits_per_byte: float | None
    reason: str | None = None


class _SweptModel(BaseModel):
    """One model's learning-rate curve."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    curve: list[_Point]
    best_lr: float | None
    interior: bool
    configured_lr: float | None


def read_tune(folder: Folder, tune: TunePlan) -> dict[str, Any]:
    """A sweep's summary, as written. Raises one of `UNREADABLE` when it is not that of the planned sweep."""
    path = folder.path / "tune.json"
    raw: dict[str, Any] = folder.read(path.name)
    if TunePlan.model_validate(raw["plan"]) != tune:
        raise CorruptFile(path, "is of another sweep than planned")
    for name, model in raw["models"].items():
        try:
            swept = _SweptModel.model_validate(model)
        except ValidationError as error:
            raise CorruptFile(path, f"not what a sweep writes: {wrong(error)}") from error
        if sorted((point.lr, point.seed) for point in swept.curve) != sorted(
            (lr, seed) for of, lr, seed, _ in tune.runs if of == name
        ):
            raise CorruptFile(path, f"the rates and seeds of {name} are not those planned")
        for point in swept.curve:
            why = None if point.bits_per_byte is None else impossible("tune.bits_per_byte", point.bits_per_byte)
            if why is not None:
                raise CorruptFile(path, why)
    return raw
