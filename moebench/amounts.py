"""The small words that suites are made of: names that are safe in paths, sizes, and amounts with their unit."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, model_serializer, model_validator

from moebench.frozen import Frozen

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
"""A word that is safe as a file name and a label: no slash, no leading dot."""


Size = Annotated[int, Field(ge=1, le=1_000_000)]
"""A width or a count of the architecture."""


class FieldError(ValueError):
    """What is wrong with a mapping's values together, and the one that the reader should look at."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Amount(Frozen):
    """A margin or share with its unit: `0.5%` is relative, a bare number is in the metric's own unit."""

    value: float
    """A fraction when relative (`0.5%` is 0.005), else in the metric's unit."""
    relative: bool
    """Whether it is a share of something, rather than a number with a unit of its own."""

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: Any, info: ValidationInfo) -> Any:
        if isinstance(raw, Amount) or (isinstance(raw, dict) and info.mode == "python"):
            return raw
        if isinstance(raw, str) and re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})? ?%", raw):
            return {"value": float(raw[:-1]) / 100, "relative": True}
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            shown = repr(raw[:60]) if isinstance(raw, str) else "this"
            raise ValueError(f"{shown} is not an amount: write a percentage such as 0.5%, or a number in its own unit")
        return {"value": float(raw), "relative": False}

    @model_serializer
    def _write(self) -> str | float:
        return str(self) if self.relative else self.value

    def __str__(self) -> str:
        return f"{self.value * 100:.12g}%" if self.relative else f"{self.value:g}"
