"""Published systems as a plan has them: counted, and those that claims select. Types only; `selecting` makes them."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from moebench.counting.weights import ParameterCount
from moebench.frozen import Frozen, later


class PlannedSystem(Frozen):
    """What claims ask of a published system."""

    family: str = ""
    """Its maker, or the line of papers it belongs to."""
    year: int | None = None
    counts: dict[str, float]
    """Counted metric, with its labels -> its value."""

    @model_validator(mode="before")
    @classmethod
    def _of_parameters(cls, value: Any) -> Any:
        """Plans of before there were other counts hold its parameters alone."""
        if isinstance(value, ParameterCount):
            return {"counts": value.metrics}
        if isinstance(value, dict) and "counts" not in value:
            return {"counts": ParameterCount.model_validate(value).metrics}
        return value

    @property
    def family_year(self) -> str:
        """`qwen 2025`."""
        return f"{self.family} {self.year}"


class Selected(Frozen):
    """What a selection came to."""

    names: tuple[str, ...]
    """Those selected and counted."""
    left_out: dict[str, str] = later({})
    """Those that fit and cannot be counted -> why."""
