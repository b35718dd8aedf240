"""An external model, planned: its file is read, and held against what the suite says and asks of it.

Whatever a claim needs must be there, for every seed that the suite has and in the unit that is declared; a pair that
is missing is named. What the file holds besides is left out, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moebench.claims.kinds.spread import EVERY_VALUE
from moebench.counting.blueprint import Blueprint
from moebench.counting.costs import Costs, costs_of
from moebench.counting.weights import parameters
from moebench.external import Read, ResultsError, read
from moebench.external.numbers import Run
from moebench.metrics import METRICS, in_force, metric_of
from moebench.metrics.metric import Metric
from moebench.metrics.ref import MetricRef
from moebench.metrics.tasks import task_metric
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.planned import PlannedExternal
from moebench.suite.external import ExternalModel
from moebench.suite.types import SuiteSpec
from moebench.systems.configs import ConfigError, load_config, read_config
from moebench.text import listed, nearest, plain, quoted

MOST_NAMED = 5


def plan_external(name: str, model: ExternalModel, *, spec: SuiteSpec, base: Path, **_: Any) -> PlannedExternal:
    """What a model's file holds that the suite needs. Raises PlanError at the key that is to change."""
    at = ("models", name, "results")
    try:
        found = read(path_of(model, base))
        named = _named(found, model.model or name, chosen=model.model is not None)
    except ResultsError as error:
        raise PlanError(Misfit(at=at, message=str(error))) from None
    runs, notes = found.models.get(named, {}), list(found.notes)
    metrics = _metrics(found, spec)
    with in_force(metrics):
        seeds, single = _seeds(name, found, named, spec, notes, at=at)
        chosen = {seed: runs[None if None in runs else seed] for seed in seeds if runs} if not single else {}
        chosen = chosen or {seeds[0]: next(iter(runs.values()))}
        problems = [*_claimed(name, chosen, spec), *_wrong(name, chosen, spec)]
    if problems:
        raise PlanError(*(Misfit(at=at, message=f"{plain(found.path)}: {why}") for why in problems[:MOST_NAMED]))
    notes += _ends(name, chosen, spec)
    if left := sorted({metric for run in chosen.values() for metric in run.columns if _base(metric) not in metrics}):
        notes.append(f"{name}: metrics that the suite does not declare: {listed(left, last='and')}")
    blueprint, costs = _costs(name, model, base)
    return PlannedExternal(
        results=model.results,
        form=found.form,
        model=named,
        sha256=found.sha256,
        seeds=seeds,
        single=single,
        blueprint=blueprint,
        costs=costs,
        counts=_counts(found, named, model, blueprint),
        notes=tuple(plain(note, most=300) for note in notes),
    )


def path_of(model: ExternalModel, base: Path) -> Path:
    """Where its results lie on this machine."""
    return base / Path(model.results).expanduser()


def task_metrics(models: Mapping[str, ExternalModel], base: Path) -> dict[str, Metric]:
    """What the metrics of lm-eval's tasks mean, by their whole names, as the models' folders say it.

    Raises PlanError where two say otherwise.
    """
    known: dict[str, Metric] = {}
    for name, model in models.items():
        for metric, told in _of_tasks(read(path_of(model, base))).items():
            if known.setdefault(metric, told).better != told.better:
                message = f"{metric} is better {told.better}; another model's results say {known[metric].better}"
                raise PlanError(Misfit(at=("models", name, "results"), message=message))
    return known


def _of_tasks(found: Read) -> dict[str, Metric]:
    columns = {name: column for _, _, run in found.runs() for name, column in run.columns.items()}
    made = {
        name: task_metric(_base(name), better=column.better, chance=column.chance) for name, column in columns.items()
    }
    return {name: metric for name, metric in made.items() if metric is not None}


def _metrics(found: Read, spec: SuiteSpec) -> dict[str, Metric]:
    """Every metric that numbers of the file can be of: known ones, declared ones, and those of lm-eval's tasks."""
    of_tasks = _of_tasks(found)
    return {**METRICS, **{_base(name): metric for name, metric in of_tasks.items()}, **of_tasks, **spec.declared}


def _base(metric: str) -> str:
    return MetricRef.parse(metric).base


def _named(found: Read, wanted: str, *, chosen: bool) -> str:
    """The model's name in the file. Of a folder of lm-eval that holds one model, that one."""
    if wanted in found.models:
        return wanted
    if not chosen and found.form == "lm_eval" and len(found.models) == 1:
        return next(iter(found.models))
    there = listed(sorted(found.models), last="and")
    hint = nearest(wanted, found.models) or "name one with `model:`"
    raise ResultsError(found.path, f"has no model {quoted(wanted)}: it has {there} ({hint})")


# ---------------------------------------------------------------------------------------------- seeds


def _seeds(
    name: str, found: Read, named: str, spec: SuiteSpec, notes: list[str], *, at: tuple[str, ...]
) -> tuple[tuple[int, ...], bool]:
    """The suite's seeds that it has runs of, and whether it is a single run. Raises PlanError for pairs that lack."""
    there = found.models[named]
    if len(there) == 1:
        (seed,) = there
        return (spec.seeds[0] if seed is None else seed,), True
    have, wanted = sorted(seed for seed in there if seed is not None), list(spec.seeds)
    if len(wanted) == 1:
        message = f"{plain(found.path)}: {name} has {len(have)} runs there, the suite has one seed"
        raise PlanError(Misfit(at=at, message=message, hint=f"give the suite `seeds: {have}`"))
    if missing := [seed for seed in wanted if seed not in there]:
        message = f"{plain(found.path)}: no run of {named} with seed {listed(list(map(str, missing)), last='and')}"
        hint = f"it has {listed(list(map(str, have)), last='and')}: add the rows, or leave these seeds out of `seeds`"
        raise PlanError(Misfit(at=at, message=message, hint=hint))
    if more := [seed for seed in have if seed not in wanted]:
        notes.append(f"{name}: runs with seed {listed(list(map(str, more)), last='and')} are no seeds of the suite")
    return tuple(wanted), False


# ---------------------------------------------------------------------------------------------- numbers


def _claimed(name: str, runs: Mapping[int, Run], spec: SuiteSpec) -> Iterator[str]:
    """Numbers that a claim about the model needs and a run has not."""
    for claim in spec.claims.values():
        about = claim.about(spec.sweeps)
        for metric in claim.metrics:
            if name not in about or f"={EVERY_VALUE}" in metric or metric_of(metric).kind != "seeded":
                continue
            lacking = [seed for seed, run in runs.items() if metric not in run.columns and not run.diverged]
            if lacking and len(lacking) == len(runs):
                there = sorted({known for run in runs.values() for known in run.columns})
                yield f"{name} has no {metric}: it has {listed(there, last='and')}"
            elif lacking:
                yield f"{name} has no {metric} with seed {listed(list(map(str, lacking)), last='and')}"


def _ends(name: str, runs: Mapping[int, Run], spec: SuiteSpec) -> Iterator[str]:
    """Curves that a claim rests on and that end at another step than those of other seeds: cut short, or unfinished."""
    for metric in dict.fromkeys(str(metric) for claim in spec.claims.values() for metric in claim.metrics):
        columns = {seed: run.columns[metric] for seed, run in runs.items() if metric in run.columns}
        ends = {seed: max(column.steps) for seed, column in columns.items() if column.steps}
        if len(set(ends.values())) > 1:
            last = max(ends.values())
            early = [f"{seed} (step {end:,})" for seed, end in ends.items() if end < last]
            counted = "what stands there counts as its final value"
            yield f"{name}: {metric} ends before step {last:,} with seed {listed(early, last='and')}: {counted}"


def _wrong(name: str, runs: Mapping[int, Run], spec: SuiteSpec) -> Iterator[str]:
    """Numbers in another unit than their metric has, or that cannot be."""
    for run in runs.values():
        for metric, column in run.columns.items():
            try:
                known = metric_of(metric)
            except KeyError as error:
                if _base(metric) in METRICS:
                    yield str(error.args[0])
                continue
            where = "" if column.line is None else f"line {column.line}: "
            declared = spec.metrics.get(_base(metric))
            if declared is not None and declared.per == "item" and not column.items:
                yield f"{where}{metric} of {name} is declared per item: a row needs the column item"
            elif column.unit is not None and column.unit != known.unit:
                yield f"{where}{metric} of {name} is in {quoted(column.unit)}, its unit is {known.unit}"
            elif (why := known.impossible(column.final, name=metric)) is not None:
                yield f"{where}{name}: {why}"


# ---------------------------------------------------------------------------------------------- sizes


def _costs(name: str, model: ExternalModel, base: Path) -> tuple[Blueprint | None, Costs | None]:
    if model.config is None:
        return None, None
    path = base / Path(model.config).expanduser()
    try:
        config = load_config(path)
        blueprint, _ = read_config(config)
    except (ConfigError, OSError) as error:
        raise PlanError(Misfit(at=("models", name, "config"), message=f"{plain(path)}: {plain(error)}")) from None
    word = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    dtype = {"float16": "bfloat16"}.get(word, word if word in ("float32", "bfloat16") else "float32")
    return blueprint, None if blueprint.context is None else costs_of(blueprint, dtype=dtype)


def _counts(found: Read, named: str, model: ExternalModel, blueprint: Blueprint | None) -> dict[str, float]:
    """Counts that are known without its costs: those of the configuration, the suite, and the table, in this order."""
    written = {f"cost.{key}": getattr(model, key) for key in ("total_params", "active_params")}
    counted = {} if blueprint is None else parameters(blueprint).metrics
    return {
        **found.facts.get(named, {}),
        **{metric: value for metric, value in written.items() if value is not None},
        **counted,
    }
