"""Scores on tasks, with what guessing gets and the paired difference to the baseline, and items won and lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moebench.format import number, p_value
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, across, ends, text
from moebench.reporting.tasks import Score, Task


@part("tasks", order=1)
def tasks(findings: Findings) -> Table | None:
    """A row a task and model; of many models a row a task and a column a model."""
    every = findings.tasks
    rows = [
        {**_scored(task, model, every.scores[task.metric, model]), **_against(findings, task, model)}
        for task in every.tasks
        for model in findings.study.models
        if (task.metric, model) in every.scores
    ]
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    held = {task.metric: task for task in every.tasks}
    against = every.others[0] if len(every.others) == 1 else "the baseline"

    def score(row: Row) -> str:
        return held[row.metric].text(every.scores[row.metric, row.model].mean)

    columns: tuple[Column, ...] = (
        text("task", "task"),
        text("model", "model"),
        Column(key="score", title="score", show=score),
        text("n", "over"),
        Column(key="chance", title="chance", show=lambda row: _bound(held[row.metric], row.chance)),
        Column(key="difference", title=f"against {against}", show=lambda row: _difference(held, row)),
        Column(key="won", title="items won : lost", show=_won),
        text("decided", "decided"),
    )
    if not every.baselines:
        columns = columns[:5]
    note = (
        f"Difference: paired, 95% interval, unadjusted. Decided: against {against} with Holm's correction "
        "over the tasks of a model. Items won: those on which a model is better, mean over seeds."
    )
    note = note if every.baselines else "With 95% intervals over seeds, or over items of one run."
    shown = None
    if findings.many:
        shown, columns = across(frame, by="model", value="score", show=score, rows="task")
        note = "With their 95% intervals; differences and items won and lost are in tables/tasks.csv."
    return Table(title="Scores on tasks", note=note, frame=frame, columns=columns, shown=shown)


def _scored(task: Task, model: str, score: Score) -> dict[str, Any]:
    return {
        "task": task.name,
        "metric": task.metric,
        "model": model,
        "unit": task.unit,
        "score": score.mean.centre,
        **ends(score.mean),
        "n": score.n,
        "chance": _float(task.chance),
        "ceiling": _float(task.ceiling),
        "conditions": task.conditions or None,
    }


def _against(findings: Findings, task: Task, model: str) -> dict[str, Any]:
    """Cells of the difference to the baseline, absent where there is none; a pair that is not valid says why."""
    gap = findings.tasks.gaps.get((task.metric, model))
    v = None if gap is None else gap.verdict
    is_valid = v is not None and v.state not in ("invalid", "not_tested")
    decided = "baseline" if model == findings.tasks.baselines.get(task.metric) else "–"
    if gap is not None and v is not None:
        decided = f"{gap.side} (Holm {p_value(gap.p)})" if gap.side else "undecided" if is_valid else v.reason
    return {
        "difference": _float(v.estimate if v is not None and is_valid else None),
        "difference_low": _float(v.low if v is not None and is_valid else None),
        "difference_high": _float(v.high if v is not None and is_valid else None),
        "units": v.units if v is not None and is_valid else None,
        "pairs": v.n if v is not None and is_valid else 0,
        "won": _float(None if gap is None else gap.won),
        "lost": _float(None if gap is None else gap.lost),
        "tied": _float(None if gap is None else gap.tied),
        "p_holm": _float(None if gap is None else gap.p),
        "decided": decided,
    }


def _float(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _bound(task: Task, value: float | None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{number(100 * value, 1)}%" if task.share else f"{value:g}"


def _difference(held: dict[str, Task], row: Row) -> str:
    if row.difference is None:
        return "–"
    return held[row.metric].difference(row.difference, row.difference_low, row.difference_high)


def _won(row: Row) -> str:
    if row.won is None:
        return "–"
    digits = 0 if row.won == int(row.won) and row.lost == int(row.lost) else 1
    return f"{number(row.won, digits)} : {number(row.lost, digits)} of {number(row.won + row.lost + row.tied, 0)}"
