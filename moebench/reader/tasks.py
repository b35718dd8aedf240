"""What a run scored on tasks of lm-eval, read without trusting it.

Each task is a job of its own, and one that failed or is not done costs its own metrics alone: they are absent with the
reason. Records are of the metrics that the plan has of the task, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from moebench.planning.types import Plan, PlannedJob
from moebench.reader.checks import UNREADABLE, is_own
from moebench.reader.items import read_items
from moebench.reader.runs import LISTED, Outcome, read_records
from moebench.store import CorruptFile, Folder, Source
from moebench.store.files import MOST_SHOWN, words_of
from moebench.text import plain

MOST_RECORDS = 1000
"""More than a task has metrics."""


def with_tasks(results: Source, run: Outcome, jobs: Iterable[PlannedJob], plan: Plan, problems: list[str]) -> Outcome:
    """A run and what it scored on its tasks. What is wrong with a task's folder is added to `problems`."""
    for job in jobs:
        facts = plan.tasks[str(job.task)]
        names = tuple(facts.named(metric) for metric in facts.metrics)
        run = replace(run, conditions={**run.conditions, **dict.fromkeys(names, facts.conditions)})
        try:
            folder = results.job(job.id)
            status = folder.status()
            if status == "completed":
                run = _with_task(folder, run, names, beside=(facts.chance, facts.cut))
                continue
            why = _why_not(folder, status)
        except UNREADABLE as error:
            status, why = "corrupt", words_of(error)
        run = replace(run, absent={**run.absent, **dict.fromkeys(names, f"task {facts.name}: {why}")})
        if status in ("corrupt", "failed"):
            problems.append(f"task {facts.name} of {run.model} seed {run.seed} is {status}: {why}")
    return run


def _with_task(folder: Folder, run: Outcome, names: tuple[str, ...], *, beside: tuple[str | None, ...]) -> Outcome:
    folder.unchanged(LISTED)
    is_own(folder, folder.job_json()["job"])
    values, absent, _ = read_records([folder], None, most=MOST_RECORDS)
    if stray := sorted({*values, *absent} - {*names, *beside}):
        raise CorruptFile(folder.path / "records.jsonl", f"{stray[0]} is no metric of this task")
    missing = dict.fromkeys({*names} - {*values, *absent}, "it was not recorded")
    items = read_items([folder], values, split="test", documents=0)
    return replace(
        run,
        values={**run.values, **values},
        absent={**run.absent, **missing, **absent},
        items={**run.items, **items},
    )


def _why_not(folder: Folder, status: str) -> str:
    if status == "failed":
        return plain((folder.failure() or {}).get("reason", "it failed"), most=MOST_SHOWN)
    if status == "diverged":
        return plain((folder.manifest() or {}).get("reason", "the model gave no number"), most=MOST_SHOWN)
    if status == "corrupt":
        return "; ".join(folder.verify()[:2]) or "does not read"
    return "not finished" if status == "partial" else "not run yet"
