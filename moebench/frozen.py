"""The base of every type that travels between modules, processes and files."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of every type that travels: immutable, keyword-only, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def later(default: Any = None, **limits: Any) -> Any:
    """A field by which the suite language grew: at its default it is in no dump, so no id of what was run moves."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)
