"""Jobs that do a published experiment: one for each arm that a suite names, and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from moebench.experiments import EXPERIMENTS
from moebench.frozen import Frozen
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind


class ExperimentSpec(Frozen):
    """What is done."""

    experiment: str
    arm: str
    version: int
    """Of its code."""
    seed: int


def jobs(draft: Draft) -> Iterator[Job]:
    """One for each arm and seed."""
    for name, model in draft.plan.experiments.items():
        for seed in draft.plan.spec.seeds:
            spec = ExperimentSpec(experiment=model.experiment, arm=model.arm, version=model.version, seed=seed)
            yield draft.job("experiment", spec.model_dump(mode="json"), model=name, seed=seed)


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  it takes seconds: it is done anew
) -> str:
    """Does it, and writes a record a metric; one that was not reached says so."""
    from moebench.environment import environment
    from moebench.store import Results, append_lines, write_json

    folder, spec = Results(root).job(job.id), ExperimentSpec.model_validate(job.spec)
    experiment = EXPERIMENTS[spec.experiment]
    if experiment.version != spec.version:
        raise ValueError(f"{spec.experiment} is not what it was when this was planned: run it again")
    on_event(job.event("measuring"))
    found = experiment.run(spec.arm, spec.seed)
    missing = "not reached"
    records = [
        metric.record(found.get(metric.name), reason=None if metric.name in found else missing)
        for metric in experiment.metrics
    ]
    here = environment(job.threads, job.device).model_dump(mode="json")
    write_json(
        folder.path / "job.json", {"job": job.identity, "model": job.model, "seed": job.seed, "environment": here}
    )
    (folder.path / "records.jsonl").unlink(missing_ok=True)
    append_lines(folder.path / "records.jsonl", [record.model_dump(exclude_none=True) for record in records])
    folder.finish("completed")
    return "completed"


EXPERIMENT = Kind(jobs=jobs, execute=execute)
