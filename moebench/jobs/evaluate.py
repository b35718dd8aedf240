"""Jobs that measure a trained model: one subject, one measurement. The weights are read and never written.

A measurement asked for later is a job more, so nothing is trained again for it. What is measured, and how, is known to
`metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from moebench.frozen import Frozen
from moebench.identity import canonical, job_id
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import Run
from moebench.metrics import MEASUREMENTS


class EvaluateSpec(Frozen):
    """What is measured of the input's model."""

    measurement: str
    """A word of `metrics.MEASUREMENTS`."""
    version: int = 1
    """Of the measurement: another one gives other numbers."""
    options: dict[str, Any] = Field(default={})


def jobs(draft: Draft) -> Iterator[Job]:
    """Every measurement that the suite asks for, of every trained model."""
    asked = draft.plan.spec.measure.quality
    for name, measurement in MEASUREMENTS.items():
        if not measurement.optional or name in asked:
            yield from (job(trained, name) for trained in draft.jobs if trained.kind == "train")


def job(trained: Job, measurement: str) -> Job:
    """The job of one measurement of what another trains."""
    return trained.model_copy(
        update={"kind": "evaluate", "spec": spec_of(measurement), "inputs": (trained.id,)},
    )


def id_of(trained_id: str, measurement: str) -> str:
    """The id of that job."""
    return job_id("evaluate", spec_of(measurement), [trained_id])


def spec_of(measurement: str) -> dict[str, Any]:
    """The spec of that job."""
    one = MEASUREMENTS[measurement]
    return EvaluateSpec(measurement=measurement, version=one.version, options=dict(one.options)).model_dump(mode="json")


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  a measurement is short: it is done anew
) -> str:
    """Measures and writes the records: 'completed', or 'diverged' when the model gives no number."""
    from moebench.jobs.loop import about, corpus_of, settle
    from moebench.jobs.measuring import RunContext, load_state
    from moebench.metrics.measurement import NotFinite
    from moebench.store import Results, write_json

    results = Results(root)
    folder, spec = results.job(job.id), EvaluateSpec.model_validate(job.spec)
    for name in ("records.jsonl", "items.jsonl"):
        (folder.path / name).unlink(missing_ok=True)
    trained = results.job(job.inputs[0])
    run = Run.model_validate(trained.spec())
    settle(run, job.threads)
    corpus = corpus_of(job, run, root)
    on_event(job.event("measuring"))
    write_json(folder.path / "job.json", about(job, run, corpus))
    try:
        measured = MEASUREMENTS[spec.measurement].measure(RunContext(run, load_state(run, trained), corpus))
    except NotFinite as problem:
        folder.finish(
            "diverged", reason=f"step {run.recipe.steps}: {problem} on the {run.recipe.split} split is not finite"
        )
        return "diverged"
    _write(folder.path / "records.jsonl", (row.model_dump(exclude_none=True) for row in measured.records))
    if measured.items is not None:
        _write(folder.path / "items.jsonl", measured.items)
    folder.finish("completed")
    return "completed"


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    from moebench.store import write_bytes

    write_bytes(path, "".join(canonical(row) + "\n" for row in rows).encode())


EVALUATE = Kind(jobs=jobs, execute=execute)
