"""What one run left, read without trusting it.

A folder is what it says it is, or it is refused with the reason: a run's resolved spec gives the planned id, seed,
model and data; every row is of the form, the range and the number that moebench writes; documents add up to the
records. Rows are read one by one, so memory does not grow with a file. This module knows files and what was planned;
what they mean to the claims is known elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.environment import Environment
from moebench.jobs.recipe import Run
from moebench.metrics import METRICS, impossible
from moebench.metrics.metric import IMPOSSIBLE, Record
from moebench.planning.types import Plan, PlannedJob
from moebench.reader.checks import Labels, is_own, misfit, number, word, wrong
from moebench.reader.items import Items, read_items
from moebench.store import CorruptFile, Folder, Status, files
from moebench.store.files import MOST_SHOWN
from moebench.text import plain


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one planned run."""

    model: str
    seed: int
    run_id: str
    status: Status
    reason: str | None = None
    """Why it is not completed; None when it is."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> its value at the last step it was measured."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Metric -> why it has no value."""
    curves: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """Metric -> (step, value) in order of steps, for metrics measured more than once."""
    items: Items = field(default_factory=dict)
    """Metric with its labels -> its items, in the order they were written."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Metric with its labels -> how it was measured, where that is known: models are compared in one way only."""
    digests: Mapping[int, str] = field(default_factory=dict)
    """Step -> rolling digest of the tokens consumed up to it."""
    test_digest: str | None = None
    """Digest of the test split it was evaluated on."""
    finished: float | None = None
    """Unix time at which it was done."""
    environment: Environment | None = None
    """Where it ran."""
    step_s: float | None = None
    """Mean wall seconds of a training step over the undisturbed segments, if any were kept."""
    machine: str | None = None
    """Short name of the machine it ran on."""
    kernels: str | None = None
    """How norms and attention were computed in training: `unfused` or `fused`."""

    @property
    def done(self) -> bool:
        """Whether it ran to an end: completed, or diverged, which is an outcome too."""
        return self.status in ("completed", "diverged")


# ---------------------------------------------------------------------------------------------- one run

LISTED = ("job.json", "steps.jsonl", "records.jsonl", "items.jsonl", "timed.jsonl")


def read_run(
    folder: Folder,
    planned: PlannedJob,
    plan: Plan,
    *,
    at: Collection[int],
    measured: Sequence[Folder] = (),
    read: Folder | None = None,
) -> Outcome:
    """A finished run with what was `measured` of it, and its digests at the steps `at`, the first and the last.

    `read` is the run whose tokens it has read, where it was made of another without training.

    Raises one of `UNREADABLE` when a file is not what was written, or not that of the planned run.
    """
    folder.unchanged(LISTED)
    about = folder.job_json()
    _is_planned(folder, about, planned, plan)
    for one in measured:
        one.unchanged(LISTED)
        is_own(one, one.job_json()["job"])
    recipe = plan.decoders[planned.model].recipe
    most = _most_records(plan, planned.model)
    values, absent, curves = read_records(
        [folder, *measured], _labels(plan, planned.model), most=most, steps=recipe.steps
    )
    items = read_items(measured, values, split=recipe.split, documents=plan.data.documents[recipe.split])
    run = _finished(folder, planned, about)
    return replace(
        run,
        values=values,
        absent=absent,
        curves=curves,
        items=items,
        digests=digests(read or folder, steps=recipe.steps, at=at, whole=run.status == "completed"),
        test_digest=_test_digest(about),
        step_s=_step_s(folder, recipe.steps),
        kernels=Run.model_validate(folder.spec()).kernels,
    )


def _finished(folder: Folder, planned: PlannedJob, about: Mapping[str, Any]) -> Outcome:
    """What its manifest and `job.json` say of a run that is done: how it ended, when and where."""
    manifest = folder.manifest() or {}
    here = Environment.model_validate(about["environment"]) if about.get("environment") is not None else None
    return Outcome(
        model=planned.model,
        seed=planned.seed,
        run_id=planned.id,
        status=manifest["status"],
        reason=None if manifest.get("reason") is None else plain(manifest["reason"], most=MOST_SHOWN),
        finished=float(manifest["finished"]),
        environment=here,
        machine=None if here is None else here.machine,
    )


def _test_digest(about: Mapping[str, Any]) -> str | None:
    digest: str | None = about.get("data_splits", {}).get("test", {}).get("digest")
    return digest


def read_elsewhere(folder: Folder, planned: PlannedJob, *, measured: Sequence[Folder] = ()) -> Outcome:
    """A finished run that was not trained here: a checkpoint with what was `measured` of it, or imported numbers.

    Raises one of `UNREADABLE` when a file is not what was written, or not that of the planned job.
    """
    about = folder.job_json()
    for one in (folder, *measured):
        one.unchanged(LISTED)
        is_own(one, one.job_json()["job"])
    scored = next((one.job_json() for one in measured if one.spec().get("measurement") == "quality"), {})
    values, absent, curves = read_records([folder, *measured], None, most=files.MOST_ROWS)
    items = read_items([folder, *measured], values, split="test", documents=files.MOST_ROWS)
    return replace(
        _finished(folder, planned, about),
        values=values,
        absent=absent,
        curves=curves,
        items=items,
        test_digest=_test_digest(scored),
        conditions={str(name): plain(how, most=200) for name, how in about.get("conditions", {}).items()},
    )


def _is_planned(folder: Folder, about: Mapping[str, Any], planned: PlannedJob, plan: Plan) -> None:
    """The resolved spec in `job.json` is that of the planned run: its seed, model, data, and by its hash all else."""
    path, raw = folder.path / "job.json", about["job"]["spec"]
    try:
        run = Run.model_validate(raw)
    except ValidationError as error:
        raise CorruptFile(path, f"does not hold the run of this version of moebench: {wrong(error)}") from error
    model = plan.decoders[planned.model]
    if run.seed != planned.seed:
        raise CorruptFile(path, f"is of seed {run.seed}, not of the planned seed {planned.seed}: a copy of another run")
    if (run.architecture.identity, run.recipe) != (model.architecture.identity, model.recipe):
        raise CorruptFile(path, f"is not of the model {planned.model} as planned: a copy of another run")
    if run.derived != plan.derivation(planned.model) or tuple(folder.inputs) != planned.inputs:
        raise CorruptFile(path, f"does not start from what {planned.model} does: a copy of another run")
    if run.data_digest != plan.data_of(planned.model).digest:
        raise CorruptFile(path, "was trained on other data than planned")
    is_own(folder, about["job"])


Curves = Mapping[str, tuple[tuple[int, float], ...]]


def _labels(plan: Plan, model: str) -> Labels:
    """What there is of each label in the records of a decoder."""
    architecture = plan.decoders[model].architecture
    stated: dict[str, tuple[str, ...]] = {}
    for metric in METRICS.values():
        for label, values in metric.values.items():
            stated[label] = (*stated.get(label, ()), *values)
    return (
        *stated.items(),
        ("part", PARTS),
        ("layer", range(architecture.layers)),
        ("expert", range(getattr(architecture.ffn, "experts", 0))),
        ("domain", plan.data.domains),
        ("task", tuple(plan.data.tasks)),
    )


def read_records(
    folders: Sequence[Folder], labels: Labels | None, *, most: int, steps: int | None = None
) -> tuple[dict[str, float], dict[str, str], Curves]:
    """Last values, reasons of metrics without one, and curves; labels and steps are held against what there is.

    The last record of a metric counts, and so does its reason. A value that cannot be makes the whole metric absent.
    """
    last_step = math.inf if steps is None else steps
    metrics: dict[str, dict[int, float | str]] = {}
    for path, record in _each_record(folders, most=most):
        step = -1 if record.step is None else record.step
        if not -1 <= step <= last_step or (record.step is not None and step < 0):
            raise CorruptFile(path, f"{record.metric}: step {step} of {steps}")
        points = metrics.get(record.metric)
        if points is None:
            if labels is not None and (label := misfit(record.metric, labels)) is not None:
                raise CorruptFile(path, f"{record.metric}: there is no such {label}")
            points = metrics[record.metric] = {}
        if step in points:
            raise CorruptFile(path, f"{record.metric}: recorded twice" + (f" at step {step}" if step >= 0 else ""))
        reason = record.reason if record.value is None else impossible(record.metric, record.value)
        points[step] = float(record.value or 0) if reason is None else plain(reason, most=MOST_SHOWN)
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    curves: dict[str, tuple[tuple[int, float], ...]] = {}
    for metric, points in metrics.items():
        ordered = sorted(points.items())
        reasons = [value for _, value in ordered if isinstance(value, str)]
        last = next((why for why in reasons if is_impossible(why)), ordered[-1][1])
        if isinstance(last, str):
            absent[metric] = last
            continue
        values[metric] = last
        curve = tuple((step, value) for step, value in ordered if step >= 0 and not isinstance(value, str))
        if len(curve) > 1:
            curves[metric] = curve
    return values, absent, curves


def _each_record(folders: Sequence[Folder], *, most: int) -> Iterator[tuple[Path, Record]]:
    for folder in folders:
        path = folder.path / "records.jsonl"
        yield from ((path, record) for record in folder.each_record(most=most))


PARTS = frozenset(part for metric in METRICS.values() for part in metric.values.get("part", ()))
"""What a peak of bytes is split into; of a part that only training has, inference records 0."""


def is_impossible(reason: str) -> bool:
    """Whether a metric is absent because what was measured cannot be."""
    return reason.endswith(IMPOSSIBLE)


def _most_records(plan: Plan, model: str) -> int:
    """More records than a run of this model can leave: of each expert at each evaluation and in each domain."""
    planned = plan.decoders[model]
    experts = getattr(planned.architecture.ffn, "experts", 0)
    looks = len(planned.recipe.evaluate_at) + len(plan.data.domains) + 1
    return 1000 + 8 * looks * (1 + planned.architecture.layers) * (1 + experts)


def digests(folder: Folder, *, steps: int, at: Collection[int], whole: bool = False) -> dict[int, str]:
    """Rolling digests at the steps `at`, the first and the last row. Raises CorruptFile for rows that are no steps.

    A run that is `whole` has its last step. A small copy of a run lacks rows; none has more than it took steps.
    """
    path, kept, step, digest = folder.path / "steps.jsonl", dict[int, str](), 0, None
    for row in folder.each_row("steps.jsonl", most=steps):
        before, step = step, number(row["step"], "step")
        if not before < step <= steps:
            raise CorruptFile(path, f"step {step} of {steps} after step {before}")
        digest = word(row["digest"], "digest") if "digest" in row else None
        if digest is not None and (not kept or step in at):
            kept[step] = digest
    if whole and step not in (0, steps):
        raise CorruptFile(path, f"ends at step {step} of {steps}")
    return kept if digest is None else {**kept, step: digest}


def _step_s(folder: Folder, planned: int) -> float | None:
    """Mean wall seconds of a training step; a run checkpoints no more often than it takes its planned steps."""
    steps, seconds = 0, 0.0
    for row in folder.each_row("timed.jsonl", most=1000 + 10 * planned):
        took, first, last = (number(row[key], key) for key in ("seconds", "step_from", "step_to"))
        if took < 0 or last < first:
            raise CorruptFile(folder.path / "timed.jsonl", f"{took} s from step {first} to {last}: impossible")
        if row["what"] == "train":
            steps, seconds = steps + last - first, seconds + took
    return seconds / steps if steps and seconds else None
