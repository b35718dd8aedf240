"""What a table is: a frame of raw numbers for csv, and columns that say how a reader sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moebench.format import interval, number
from moebench.reporting.analysis import Mean

Row = Any
"""A row as `itertuples` gives it: fields by column name."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column is shown."""

    key: str
    """The frame's column that it sorts by."""
    title: str
    """Heading, with the unit."""
    show: Callable[[Row], str]
    number: bool = True
    """Right-aligned, and sorted as a number."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw numbers, and how to show them where they are more than a file."""

    frame: pd.DataFrame
    """What csv holds."""
    title: str = ""
    note: str = ""
    columns: tuple[Column, ...] = ()
    shown: pd.DataFrame | None = None
    """What the page shows, where it is not the frame."""

    def rows(self) -> Iterator[list[tuple[str, Any, bool, str]]]:
        """Cells of each row as (text, value to sort by, whether it is a number, column title)."""
        plain = (self.frame if self.shown is None else self.shown).astype(object)
        for row in plain.where(plain.notna(), None).itertuples(index=False):
            yield [(c.show(row), _sortable(getattr(row, c.key)), c.number, c.title) for c in self.columns]

    def csv(self) -> str:
        """The raw numbers, full precision, absent values empty."""
        return self.frame.to_csv(index=False, lineterminator="\n")


def _sortable(value: Any) -> Any:
    return "" if value is None else value


def text(key: str, title: str) -> Column:
    return Column(key=key, title=title, show=lambda row: str(_sortable(getattr(row, key))) or "–", number=False)


def amount(key: str, title: str, show: Callable[[float], str]) -> Column:
    return Column(
        key=key, title=title, show=lambda row: "–" if pd.isna(getattr(row, key)) else show(float(getattr(row, key)))
    )


def with_interval(key: str, title: str, unit: str = "") -> Column:
    def show(row: Row) -> str:
        value, low, high = getattr(row, key), row.low, row.high
        if pd.isna(value):
            return "–"
        return interval(value, low, high, unit)

    return Column(key=key, title=title, show=show)


def ends(m: Mean) -> dict[str, float]:
    """The ends of an interval as cells; empty where there is none."""
    return {"low": m.low, "high": m.high} if m.bounded else {"low": np.nan, "high": np.nan}


def whole(value: float) -> str:
    return number(value, 0)


def across(
    frame: pd.DataFrame, *, by: str, value: str, show: Callable[[Row], str], rows: str = "model"
) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    """A long frame with one row for each of `rows` and one sortable column for each word in its column `by`."""
    names = list(dict.fromkeys(frame[by]))
    wide: dict[str, dict[str, Any]] = {}
    plain = frame.astype(object)
    for row in plain.where(plain.notna(), None).itertuples(index=False):
        cells = wide.setdefault(getattr(row, rows), {rows: getattr(row, rows)})
        place = names.index(getattr(row, by))
        cells |= {f"v{place}": getattr(row, value), f"t{place}": show(row)}
    made = pd.DataFrame(list(wide.values()))
    return made, (text(rows, rows), *(_shown(name, place) for place, name in enumerate(names)))


def _shown(name: str, place: int) -> Column:
    return Column(key=f"v{place}", title=name, show=lambda row: getattr(row, f"t{place}") or "–")
