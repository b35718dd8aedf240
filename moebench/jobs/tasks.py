"""Jobs of tasks of lm-eval: one a task and model that is there, in workers that carry out nothing else.

lm-eval seeds global generators and loads a good deal, so its jobs have a lane of their own. They are of kind
`evaluate`: a task asked for later trains nothing. The suite's text is not read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft

if TYPE_CHECKING:
    from moebench.metrics.measurement import Measured
    from moebench.models.subject import Subject
    from moebench.store import JobFolder

MEASUREMENT = "lm_eval"
"""Of a task; it is none of `metrics.MEASUREMENTS`."""
PROGRESS_SECONDS = 0.5


def jobs(draft: Draft) -> Iterator[Job]:
    """Every task of every run that is trained and of every checkpoint."""
    asked = draft.plan.spec.measure.lm_eval
    if asked is None:
        return
    include = None if asked.include_path is None else str((draft.base / asked.include_path).resolve())
    means = {"include": include, "online": asked.online}
    for facts in draft.plan.tasks.values():
        for given in draft.jobs:
            if given.kind in ("train", "transform", "load"):
                yield job(given, facts.options, means)


def job(given: Job, options: Mapping[str, Any], means: Mapping[str, Any]) -> Job:
    """The job of one task of what another trains or loads."""
    spec = {"measurement": MEASUREMENT, "version": 1, "options": dict(options)}
    changes = {"kind": "evaluate", "spec": spec, "inputs": (given.id,), "lane": MEASUREMENT, "means": dict(means)}
    return given.model_copy(update=changes)


def execute(job: Job, folder: JobFolder, given: JobFolder, *, root: Path, on_event: OnEvent) -> Measured:
    """Carries out the task on what the folder `given` trained or loaded; writes nothing but `job.json`."""
    from moebench.environment import environment
    from moebench.jobs.loop import settle
    from moebench.store import write_json
    from moebench.tasks.harness import Place, measure_task

    settle(job.device, job.threads)
    on_event(job.event("measuring"))
    about = {"job": job.identity, "model": job.model, "seed": job.seed, "suite": job.suite, "started": time.time()}
    here = environment(job.threads, job.device).model_dump(mode="json")
    write_json(folder.path / "job.json", {**about, "environment": here})
    subject, step = _subject(job, given, root)
    include = job.means.get("include")
    place = Place(
        cache=root / "data" / MEASUREMENT,
        include=None if include is None else Path(include),
        online=bool(job.means.get("online")),
    )
    return measure_task(subject, job.spec["options"], place, step=step, on_progress=_Teller(job, on_event))


def _subject(job: Job, given: JobFolder, root: Path) -> tuple[Subject, int | None]:
    """The model, and training steps behind it."""
    from moebench.checkpoints.facts import LoadSpec
    from moebench.data.tokenizer import tokenizer_of
    from moebench.jobs.load import subject_of
    from moebench.jobs.measuring import served
    from moebench.jobs.recipe import Run
    from moebench.models.decoder.subject import DecoderSubject

    if given.kind == "load":
        return subject_of(LoadSpec.model_validate(given.spec()), job.places[job.model], root=root), None
    run = Run.model_validate(given.spec())
    return DecoderSubject(served(run, given), tokenizer_of(given.path)), run.recipe.steps


class _Teller:
    """Says how far a task is, twice a second, and how long the rest takes at the pace so far."""

    def __init__(self, job: Job, on_event: OnEvent) -> None:
        self._job, self._on_event = job, on_event
        self._began = time.monotonic()
        self._told = 0.0

    def __call__(self, _kind: str, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS or done == of:
            self._told = now
            left_s = (now - self._began) * (of - done) / done
            self._on_event(self._job.event("answering", done=done, of=of, left_s=left_s))
