"""What one process of a speed session left, read without trusting it: it is of the planned session, seed and runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from moebench.environment import Environment
from moebench.jobs.session import SpeedSpec, labels_of
from moebench.metrics import impossible, metric_of
from moebench.metrics.ref import MetricRef
from moebench.metrics.serving import PARTS
from moebench.metrics.speed import AGAIN
from moebench.planning.planned import PlannedModel
from moebench.planning.types import Plan
from moebench.reader.checks import is_own, misfit, wrong
from moebench.store import PROCESS, CorruptFile, Folder
from moebench.store.files import MOST_SHOWN
from moebench.text import plain


@dataclass(frozen=True, kw_only=True)
class SpeedProcess:
    """One fresh process of the speed session."""

    process: int
    seed: int
    values: Mapping[str, Mapping[str, float]]
    """Model -> metric -> median within the process. The baseline's second copy is `<baseline>~again`."""
    absent: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Model -> metric -> why it has no value though it was measured."""
    samples: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """Model -> metric -> seconds, behind those of `values` that are medians."""
    unsteady: frozenset[tuple[str, str]] = frozenset()
    """(model, metric) whose timings had not settled after the warm-up."""
    machine: str | None = None
    """Short name of the machine it ran on."""
    setup: str | None = None
    """The same with what else decides timings: processor, threads, torch."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else its file says, as written."""


class _ProcessFile(BaseModel):
    """What a process of a speed session writes; see `metrics.speed` and `session`."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    process: int
    seed: int
    samples: dict[str, dict[str, list[float]]]
    steady: dict[str, dict[str, bool]] = {}
    derived: dict[str, dict[str, float]] = {}
    environment: Environment | None = None
    peak_flops: PositiveFloat | None = None
    peak_bandwidth: PositiveFloat | None = None
    load: list[float] = []
    order: list[str] = []
    missing: dict[str, str] = {}
    runs: dict[str, str] | None = None
    """Model -> the run whose weights it loaded; files of before did not say."""
    routed: dict[str, dict[str, float]] | None = None
    """Model -> timed metric -> pairs or experts that derived figures rest on; files of before took the most."""


def read_process(folder: Folder, index: int, plan: Plan) -> SpeedProcess:
    """One process of a plan's session. Samples become their medians: the datum of a process is its median.

    Raises one of `UNREADABLE` when its file is not what a process writes, or not that of the planned process.
    """
    speed, models, path = plan.speed, plan.decoders, folder.path / PROCESS
    assert speed is not None
    folder.unchanged(("job.json", PROCESS))
    is_own(folder, folder.job_json()["job"])
    spec = SpeedSpec.model_validate(folder.spec())
    if (spec.session, spec.process) != (speed, index):
        raise CorruptFile(path, "is of another session than planned")
    seed = speed.processes[index]
    runs = {run.model: run.id for run in plan.runs if run.seed == seed or run.model in speed.checkpoints}
    runs = {model: run_id for model, run_id in runs.items() if model in speed.models}
    raw = folder.read(PROCESS)
    try:
        file = _ProcessFile.model_validate(raw)
    except ValidationError as error:
        raise CorruptFile(path, f"not what a process writes: {wrong(error)}") from error
    if (file.process, file.seed) != (index, speed.processes[index]):
        planned = f"process {index} with seed {speed.processes[index]}"
        raise CorruptFile(path, f"is of process {file.process} with seed {file.seed}, not of {planned}")
    strange = {*file.samples, *file.derived} - {*speed.models, speed.baseline + AGAIN}
    if strange:
        raise CorruptFile(path, f"times {', '.join(sorted(strange))}, which the session does not race")
    if file.runs is not None and file.runs != dict(runs):
        raise CorruptFile(path, "loaded other runs than planned")
    values: dict[str, dict[str, float]] = {}
    absent: dict[str, dict[str, str]] = {}
    samples: dict[str, dict[str, tuple[float, ...]]] = {}
    for model, metric, numbers, timed in _measurements(file):
        if metric_of(metric).kind != "timed":
            raise CorruptFile(path, f"{metric} is not timed")
        if (label := misfit(metric, (*labels_of(speed), ("part", PARTS)))) is not None:
            raise CorruptFile(path, f"{metric}: there is no such {label}")
        ends = (min(numbers), max(numbers))
        why = next((why for number in ends if (why := impossible(metric, number)) is not None), None)
        why = why or _is_bound(metric, models.get(model.removesuffix(AGAIN)), file)
        if why is not None:
            absent.setdefault(model, {})[metric] = why
            continue
        values.setdefault(model, {})[metric] = float(statistics.median(numbers))
        if timed:
            samples.setdefault(model, {})[metric] = numbers
    return SpeedProcess(
        process=file.process,
        seed=file.seed,
        values=values,
        absent=absent,
        samples=samples,
        unsteady=frozenset((m, metric) for m, flags in file.steady.items() for metric, ok in flags.items() if not ok),
        machine=None if file.environment is None else file.environment.machine,
        setup=None if file.environment is None else _setup(file.environment),
        about={key: value for key, value in raw.items() if key != "samples"} | {"derived": _kept(file, absent)},
    )


def _measurements(file: _ProcessFile) -> Iterator[tuple[str, str, tuple[float, ...], bool]]:
    """(model, metric, what was measured, whether these are timed samples)."""
    for model, samples in file.samples.items():
        for metric, numbers in samples.items():
            if numbers:
                yield model, metric, tuple(numbers), True
    for model, derived in file.derived.items():
        for metric, number in derived.items():
            yield model, metric, (number,), False


def _kept(file: _ProcessFile, absent: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """The derived figures that are measurements."""
    return {
        model: {metric: number for metric, number in derived.items() if metric not in absent.get(model, {})}
        for model, derived in file.derived.items()
    }


def _is_bound(metric: str, model: PlannedModel | None, file: _ProcessFile) -> str | None:
    """Why a figure of a file of before is no measurement: it rests on work that may not have been done."""
    if file.routed is not None or model is None:
        return None
    a, base = model.architecture, MetricRef.parse(metric).base
    again = "remove the folder of the speed session and run the suite again"
    if base == "speed.train_utilisation" and a.computes_fewer(training=True):
        return f"counted with assignments that may not have been computed: {again}"
    if base == "speed.decode_bandwidth_utilisation" and (a.moe_layers or model.recipe.dtype != "float32"):
        return f"counted with experts and bytes that may not have been read: {again}"
    return None


def _setup(place: Environment) -> str:
    """What decides timings, as far as it is told: `2-core x86_64 CPU, AMD EPYC 9R14, 1 thread, torch 2.13.0`."""
    torch = place.packages.get("torch")
    threads = f"{place.threads} thread{'s' if place.threads != 1 else ''}"
    parts = [place.machine, place.gpu or place.cpu, threads, None if torch is None else f"torch {torch}"]
    return plain(", ".join(part for part in parts if part is not None), most=MOST_SHOWN)
