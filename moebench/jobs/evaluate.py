"""Jobs that measure a trained model or a checkpoint: one subject, one measurement. Weights are read, never written.

A measurement asked for later is a job more, so nothing is trained again for it. What is measured, and how, is known to
`metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from moebench.frozen import Frozen, later
from moebench.identity import canonical, job_id
from moebench.jobs import tasks
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import Run
from moebench.metrics import MEASUREMENTS
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.training import Evaluation

if TYPE_CHECKING:
    from moebench.metrics.measurement import Measured, Measurement
    from moebench.store import JobFolder


class TextSpec(Frozen):
    """What a checkpoint is measured on: of a model that was trained for a suite, its recipe says so."""

    data_digest: str
    context: int
    """Tokens of the suite in a window."""
    evaluation: Evaluation


class EvaluateSpec(Frozen):
    """What is measured of the input's model."""

    measurement: str
    """A word of `metrics.MEASUREMENTS`, or `lm_eval`."""
    version: int = 1
    """Of the measurement: another one gives other numbers."""
    options: dict[str, Any] = Field(default={})
    text: TextSpec | None = later()
    """Of a checkpoint."""


def jobs(draft: Draft) -> Iterator[Job]:
    """Every measurement that the suite asks for, of every model that is trained, made of one, or loaded."""
    measure = draft.plan.spec.measure
    asked = (*measure.quality, *measure.probes)
    for name, measurement in MEASUREMENTS.items():
        if measurement.optional and name not in asked:
            continue
        for given in draft.jobs:
            if given.kind not in ("train", "transform", "load") or not _is_of(measurement, draft, given):
                continue
            if given.kind != "load":
                yield job(given, name)
            elif draft.plan.data.source != "none":
                yield job(given, name, text=_text(draft, given.model))
    yield from tasks.jobs(draft)


def _is_of(measurement: Measurement, draft: Draft, given: Job) -> bool:
    """Whether there is such a number of what a job leaves."""
    if measurement.of_training and given.kind != "train":
        return False
    blueprint = draft.plan.models[given.model].blueprint
    if measurement.of_mixtures and not (blueprint is not None and blueprint.mixtures):
        return False
    transform = draft.plan.decoders[given.model].transform if given.kind == "transform" else None
    return transform is None or not (measurement.of_memory and transform.unpacks)


def _text(draft: Draft, model: str) -> TextSpec:
    """What a checkpoint of a plan is measured on."""
    written = draft.plan.spec.models[model]
    assert isinstance(written, CheckpointModel)
    evaluation = written.evaluate.model_copy(update={"points": 1})
    context = draft.plan.spec.data.context
    return TextSpec(data_digest=draft.plan.data.digest, context=context, evaluation=evaluation)


def job(given: Job, measurement: str, *, text: TextSpec | None = None) -> Job:
    """The job of one measurement of what another trains or loads."""
    spec = spec_of(measurement, text=text)
    return given.model_copy(update={"kind": "evaluate", "spec": spec, "inputs": (given.id,)})


def id_of(trained_id: str, measurement: str) -> str:
    """The id of that job."""
    return job_id("evaluate", spec_of(measurement), [trained_id])


def spec_of(measurement: str, *, text: TextSpec | None = None) -> dict[str, Any]:
    """The spec of that job."""
    one = MEASUREMENTS[measurement]
    spec = EvaluateSpec(measurement=measurement, version=one.version, options=dict(one.options), text=text)
    return spec.model_dump(mode="json")


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  a measurement is short: it is done anew
) -> str:
    """Measures and writes the records: 'completed', or 'diverged' when the model gives no number."""
    from moebench.metrics.measurement import NotFinite
    from moebench.store import Results

    results = Results(root)
    folder, spec = results.job(job.id), EvaluateSpec.model_validate(job.spec)
    for name in ("records.jsonl", "items.jsonl"):
        (folder.path / name).unlink(missing_ok=True)
    given = results.job(job.inputs[0])
    try:
        if spec.measurement == tasks.MEASUREMENT:
            measured = tasks.execute(job, folder, given, root=root, on_event=on_event)
        else:
            measured = _of_text(job, spec, folder, given, root=root, on_event=on_event)
    except NotFinite as problem:
        folder.finish("diverged", reason=f"{problem} is not finite")
        return "diverged"
    _write(folder.path / "records.jsonl", (row.model_dump(exclude_none=True) for row in measured.records))
    if measured.items is not None:
        _write(folder.path / "items.jsonl", measured.items)
    folder.finish("completed")
    return "completed"


def _of_text(
    job: Job, spec: EvaluateSpec, folder: JobFolder, given: JobFolder, *, root: Path, on_event: OnEvent
) -> Measured:
    """One measurement on the suite's text. Raises NotFinite, which says where."""
    from moebench.jobs.loop import about, corpus_of, settle
    from moebench.jobs.measuring import context_of
    from moebench.metrics.measurement import NotFinite
    from moebench.store import write_json

    settle(job.device, job.threads)
    corpus = corpus_of(job, spec.text.data_digest if spec.text else Run.model_validate(given.spec()).data_digest, root)
    on_event(job.event("measuring"))
    write_json(folder.path / "job.json", about(job, job.device, corpus))
    context = context_of(job, given, corpus, evaluation=spec.text.evaluation if spec.text else None, root=root)
    try:
        return MEASUREMENTS[spec.measurement].measure(context)
    except NotFinite as problem:
        at = "" if context.step is None else f"step {context.step}: "
        raise NotFinite(f"{at}{problem} on the {context.split} split") from problem


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    from moebench.store import write_bytes

    write_bytes(path, "".join(canonical(row) + "\n" for row in rows).encode())


EVALUATE = Kind(jobs=jobs, execute=execute)
