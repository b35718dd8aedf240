"""Jobs that take numbers measured elsewhere into the results: one for each external model and seed.

What a file holds of a run is copied as records and items, with the file's name and hash, so that a report, or a bundle
of it, needs the file no more. Another file, by its hash, is another job.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from moebench.external import read
from moebench.external.numbers import Column, Names, Run
from moebench.frozen import Frozen
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.metrics import METRICS
from moebench.metrics.ref import MetricRef

if TYPE_CHECKING:
    from moebench.planning.planned import PlannedExternal

MOST_POINTS = 1000
"""Points of a curve that are kept, evenly, the last among them."""


class ImportSpec(Frozen):
    """What is taken."""

    form: Literal["table", "lm_eval"]
    sha256: str
    """Of the file, or of a folder's files."""
    model: str
    """Its name there."""
    seed: int | None
    """Its seed there; None where none is given."""
    metrics: tuple[str, ...]
    """Metrics that are known to the suite beside those of moebench, by name without labels."""
    version: int = 1
    """Of how it is read."""


def jobs(draft: Draft) -> Iterator[Job]:
    """One for each run of each external model."""
    plan = draft.plan
    extra = tuple(sorted({MetricRef.parse(name).base for name in plan.extra_metrics}))
    for name in filter(plan.is_external, plan.models):
        model = cast("PlannedExternal", plan.models[name])
        for seed in model.seeds:
            own = None if model.single else seed
            spec = ImportSpec(form=model.form, sha256=model.sha256, model=model.model, seed=own, metrics=extra)
            places = {model.results: draft.base / Path(model.results).expanduser()}
            yield draft.job("import", spec.model_dump(mode="json"), model=name, seed=seed, places=places)


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  reading takes seconds: it is done anew
) -> str:
    """Copies the run's numbers: 'completed', or 'diverged' where the file says so. Raises ValueError for another file
    than planned."""
    from moebench.store import Results, write_json

    folder, spec = Results(root).job(job.id), ImportSpec.model_validate(job.spec)
    on_event(job.event("measuring"))
    (path,) = job.places.values()
    found = read(path)
    if found.sha256 != spec.sha256:
        raise ValueError(f"{path} is not what it was when this was planned: run it again")
    by_seed = found.models[spec.model]
    run = by_seed[spec.seed] if spec.seed in by_seed else next(iter(by_seed.values()))
    known = {*METRICS, *spec.metrics}
    columns = {name: column for name, column in run.columns.items() if MetricRef.parse(name).base in known}
    _write(folder.path, columns, found.names)
    about = {"name": found.path.name, "form": found.form, "sha256": found.sha256, "model": spec.model}
    conditions = {name: column.condition for name, column in columns.items() if column.condition is not None}
    identity = {"job": job.identity, "model": job.model, "seed": job.seed, "source": about, "conditions": conditions}
    write_json(folder.path / "job.json", identity)
    return _finish(folder, run)


def _finish(folder: Any, run: Run) -> str:
    status: Literal["completed", "diverged"] = "diverged" if run.diverged else "completed"
    folder.finish(status, reason="its results say so" if run.diverged else None)
    return status


def _write(folder: Path, columns: dict[str, Column], names: Names) -> None:
    """Records and items, a row each, metric by metric."""
    _lines(folder / "records.jsonl", (row for name, column in columns.items() for row in _records(name, column)))
    if any(column.items for column in columns.values()):
        rows = (row for name, column in columns.items() for row in _items(name, column, names))
        _lines(folder / "items.jsonl", rows)


def _records(name: str, column: Column) -> Iterator[dict[str, Any]]:
    version = METRICS[base].version if (base := MetricRef.parse(name).base) in METRICS else 1
    if not column.steps:
        yield {"metric": name, "value": column.final, "version": version}
        return
    order = np.argsort(np.frombuffer(column.steps, dtype=np.int64), kind="stable")
    for at in order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_POINTS)).astype(np.int64))].tolist():
        yield {"metric": name, "value": column.points[at], "step": column.steps[at], "version": version}


def _items(name: str, column: Column, names: Names) -> Iterator[dict[str, Any]]:
    words = names.words
    for item, group, size, value in zip(column.items, column.groups, column.sizes, column.values, strict=True):
        yield {"metric": name, "item": words[item], "group": words[group], "size": size, "value": value}


def _lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Rows as JSON Lines, as they come: of millions none is held."""
    from moebench.store.files import TEMPORARY

    temporary = path.with_name(f".{path.name}{TEMPORARY}import")
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
    with temporary.open("w", encoding="ascii") as file:
        file.writelines(f"{encode(row)}\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


IMPORT = Kind(jobs=jobs, execute=execute)
