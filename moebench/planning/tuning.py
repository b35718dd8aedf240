"""The tuning sweep as jobs: training at each point, read once on the tune split; and its one extension."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from moebench.identity import digest_of
from moebench.jobs import evaluate
from moebench.jobs.job import Job
from moebench.jobs.kind import Draft
from moebench.jobs.lineage import Lineage
from moebench.jobs.recipe import Recipe, Run
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.grid import LR, Axes, Cell, End, Value, cells, extended
from moebench.planning.planned import PlannedModel
from moebench.planning.types import TunePlan
from moebench.suite import fields
from moebench.suite.types import SuiteSpec

TUNE_SEED = 1_000_003
"""Tuning seeds count up from here, away from any suite's own."""
RENAMED = {"train.schedule.warmup": "warmup_steps", "train.schedule.final": "final_lr_share"}
"""Fields of a suite that a recipe calls otherwise."""
Solve = Callable[[SuiteSpec], Mapping[str, PlannedModel]]
"""Sizes and recipes of a suite's models."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep and its jobs; `extend` gives the same with further values at some ends."""

    plan: TunePlan
    jobs: tuple[Job, ...]
    extend: Callable[[Iterable[End]], Sweep | None]
    """None where it is given no end; each must be one beyond which there is something to try."""


def sweep_of(draft: Draft, solve: Solve) -> Sweep | None:
    """The sweep that the suite asks for. Raises PlanError for a field that makes models of other sizes."""
    tune = draft.plan.spec.tune
    if tune is None:
        return None
    axes: dict[str, tuple[Value, ...]] = {LR: tuple(sorted(tune.lr))}
    axes |= {path: tuple(values) for path, values in tune.over.items()}
    return _sweep(draft, solve, axes)


def _sweep(draft: Draft, solve: Solve, axes: Axes) -> Sweep:
    spec = draft.plan.spec
    assert spec.tune is not None
    names = spec.tune.models or list(draft.plan.trained)
    seeds = tuple(TUNE_SEED + i for i in range(spec.tune.seeds))
    over = {path: values for path, values in axes.items() if path != LR}
    has = {name: [fields.has(spec.decoders[name], path) for path in over] for name in names}
    planned = _variants(draft, solve, over, names)
    chosen = [(name, cell) for name in names for cell in cells(axes, has[name], seeds)]
    chosen.sort(key=lambda one: one[1].lr)  # stable: within a rate, models in their order, each with its points
    ancestors: dict[str, Job] = {}
    trained = [_job(draft, name, cell, planned[cell.over, name], ancestors) for name, cell in chosen]
    jobs = tuple({job.id: job for job in trained}.values())  # two values may come to one: 5% and 6% of few steps
    plan = TunePlan(
        id=digest_of([*(job.id for job in trained), *filter(None, [spec.tune.domain])], length=20),
        domain=spec.tune.domain,
        lrs=tuple(float(lr) for lr in axes[LR]),
        seeds=seeds,
        runs=tuple((name, cell.lr, cell.seed, job.id) for (name, cell), job in zip(chosen, trained, strict=True)),
        over=over,
        at=tuple(cell.over for _, cell in chosen) if over else (),
    )

    def extend(at: Iterable[End]) -> Sweep | None:
        wider = extended(axes, at)
        return _sweep(draft, solve, wider) if wider != axes else None

    first = [job for job in ancestors.values() if job.id not in {job.id for job in jobs}]
    return Sweep(plan=plan, jobs=(*first, *jobs, *(evaluate.job(job, "quality") for job in jobs)), extend=extend)


def may_go_on(spec: SuiteSpec, axes: Axes, end: End) -> bool:
    """Whether the models that have a field may have the value beyond an end of it: a share has none above 1."""
    if end.axis == LR:
        return True
    values = set(extended(axes, [end])[end.axis]) - set(axes[end.axis])
    for model in spec.decoders.values():
        if fields.has(model, end.axis):
            try:
                for value in values:
                    fields.with_values(model, {end.axis: value})
            except ValueError:
                return False
    return bool(values)


def _variants(
    draft: Draft, solve: Solve, over: Axes, names: list[str]
) -> dict[tuple[tuple[Value | None, ...], str], PlannedModel]:
    """Each model with each combination of the values of the fields that it has."""
    spec, found = draft.plan.spec, {}
    for point in itertools.product(*over.values()):
        own = {
            name: {path: v for path, v in zip(over, point, strict=True) if fields.has(spec.decoders[name], path)}
            for name in names
        }
        models = {name: fields.with_values(spec.decoders[name], own[name]) for name in names}
        changed = spec.model_copy(update={"models": {**spec.models, **models}})
        planned = solve(changed) if over else draft.plan.decoders
        for name in names:
            if planned[name].costs != draft.plan.decoders[name].costs:
                at = ("tune", "over", next(iter(own[name])))
                message = f"{name} has other sizes with {', '.join(f'{path}: {v}' for path, v in own[name].items())}"
                raise PlanError(Misfit(at=at, message=message, hint="models of several sizes are a `sweep`"))
            found[tuple(own[name].get(path) for path in over), name] = planned[name]
    return found


def _job(draft: Draft, name: str, cell: Cell, model: PlannedModel, ancestors: dict[str, Job]) -> Job:
    """Trains a model at a point. What it comes of is trained with the same seed, as the suite has it, and is put among
    the `ancestors`."""
    plan = draft.plan.model_copy(update={"models": {**draft.plan.models, name: model}})
    lineage = Lineage(
        draft=replace(draft, plan=plan), seed=cell.seed, made={}, recipe=lambda one: tune_recipe(one, lr=one.lr)
    )
    job = lineage.stage(name, tune_recipe(model.recipe, lr=cell.lr))
    ancestors |= {one.id: one for one in lineage.jobs.values() if one.id != job.id}
    return job


def tune_recipe(recipe: Recipe, *, lr: float) -> Recipe:
    """The same training at another rate, read on the tune split and evaluated once, at the end, unless it keeps the
    best of several looks."""
    once = {"evaluate_at": (recipe.steps,)} if recipe.keep == "last" else {}
    return recipe.model_copy(update={"lr": lr, "split": "tune", **once, "branches": ()})


def tune_identity(run: Run, swept: Iterable[str] = ()) -> str:
    """Hash of a run without rate, other fields that are swept, seed, split and evaluation points: what a tuned rate is
    valid for."""
    value: dict[str, Any] = run.model_dump(mode="json")
    value.pop("seed")
    recipe, architecture = value["recipe"], value["architecture"]
    for key in ("lr", "split", "evaluate_at", "branches"):
        recipe.pop(key)
    for path in swept:
        place = (
            recipe if path.startswith("train.") else architecture["ffn"] if path.startswith("ffn.") else architecture
        )
        place.pop(RENAMED.get(path, path.rsplit(".", 1)[-1]), None)
    return digest_of(value)
