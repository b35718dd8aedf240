"""Every figure of a report: a file each, which declares its section and makes it, and one line here."""

from __future__ import annotations

from moebench.reporting.canvas import Drawn
from moebench.reporting.figures import (
    answer,
    balance,
    claims,
    costs,
    domains,
    dropped,
    fronts,
    latency,
    leverage,
    load,
    loss,
    quality,
    sweep,
    tasks,
    tuning,
)
from moebench.reporting.part import Part

FIGURES: dict[str, Part[Drawn | str]] = {
    "claims": claims.figure,
    "leverage": leverage.figure,
    "answer": answer.figure,
    "sweep": sweep.figure,
    "costs": costs.figure,
    "latency": latency.figure,
    "quality": quality.figure,
    "loss": loss.figure,
    "tasks": tasks.figure,
    "fronts": fronts.figure,
    "task_fronts": fronts.scores,
    "load": load.figure,
    "balance": balance.figure,
    "dropped": dropped.figure,
    "domains": domains.figure,
    "tuning": tuning.figure,
}
"""A figure without data is a sentence that says why."""
