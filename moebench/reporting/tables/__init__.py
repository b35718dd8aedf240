"""Every table of a report: one function and one line here.

A function takes the `Findings` and returns the table, or None when there is nothing to put in it.
"""

from __future__ import annotations

from collections.abc import Callable

from moebench.reporting.analysis import Findings
from moebench.reporting.tables import judged, measured
from moebench.reporting.tables.table import Column, Table

TABLES: dict[str, Callable[[Findings], Table | None]] = {
    "claims": judged.claims,
    "match": measured.match,
    "costs": measured.costs,
    "timings": measured.timings,
    "memory": measured.memory,
    "quality": measured.quality,
    "curves": judged.curves,
    "routing": measured.routing,
    "tuning": judged.tuning,
    "controls": judged.controls,
    "smallest": judged.smallest,
    "limits": judged.limits,
    "runs": judged.runs,
    "unfinished": judged.unfinished,
}


def made(found: Findings) -> dict[str, Table]:
    """The tables that have something in them, by name."""
    held = {name: make(found) for name, make in TABLES.items()}
    return {name: table for name, table in held.items() if table is not None}


__all__ = ["TABLES", "Column", "Table", "made"]
