"""Every table of a report: a function that declares its section and makes it, and one line here."""

from __future__ import annotations

from moebench.reporting.analysis import Findings
from moebench.reporting.part import Part
from moebench.reporting.tables import (
    cost,
    derived,
    leverage,
    match,
    origins,
    published,
    quality,
    routing,
    runs,
    sensitivity,
    sure,
    tasks,
)
from moebench.reporting.tables.table import Column, Table

TABLES: dict[str, Part[Table | None]] = {
    "claims": runs.claims,
    "published": published.published,
    "leverage": leverage.leverage,
    "match": match.match,
    "origins": origins.origins,
    "costs": cost.costs,
    "timings": cost.timings,
    "memory": cost.memory,
    "quality": quality.quality,
    "derived": derived.derived,
    "tasks": tasks.tasks,
    "curves": runs.curves,
    "routing": routing.routing,
    "probes": routing.probes,
    "tuning": sure.tuning,
    "controls": sure.controls,
    "looks": sure.looks,
    "smallest": sure.smallest,
    "sensitivity": sensitivity.sensitivity,
    "limits": sure.limits,
    "runs": runs.runs,
    "unfinished": runs.unfinished,
}


def made(findings: Findings) -> dict[str, Table]:
    """The tables that have something in them, by name."""
    tables = {name: make(findings) for name, make in TABLES.items()}
    return {name: table for name, table in tables.items() if table is not None}


__all__ = ["TABLES", "Column", "Table", "made"]
