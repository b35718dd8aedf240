"""Models that moebench does not build, planned: checkpoints and external results, each from what lies on disk.

`PLANNERS` has one function a kind. They read headers and digests, load no weights, and raise PlanError, at the key that
is to change, for what cannot be read, is not known or does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moebench.metrics.metric import Metric
from moebench.planning.checkpoints import plan_checkpoint
from moebench.planning.experiment import plan_experiment
from moebench.planning.external import plan_external, task_metrics
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.matching import Machine
from moebench.planning.planned import PlannedCheckpoint, PlannedExperiment, PlannedExternal
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.experiment import ExperimentModel
from moebench.suite.external import ExternalModel
from moebench.suite.types import SuiteSpec

PlannedElsewhere = PlannedCheckpoint | PlannedExternal | PlannedExperiment


@dataclass(frozen=True, kw_only=True)
class Told:
    """What models made elsewhere bring into a plan beside themselves."""

    metrics: dict[str, Metric]
    """By their whole names: those of lm-eval's tasks."""
    notes: tuple[str, ...]


Elsewhere = tuple[dict[str, PlannedElsewhere], Told]


def planned_elsewhere(spec: SuiteSpec, *, base: Path, machine: Machine) -> Elsewhere:
    """Every checkpoint and external model of a suite; relative paths start from `base`. Raises PlanError with all that
    cannot be had."""
    found: dict[str, PlannedElsewhere] = {}
    misfits: list[Misfit] = []
    for name, model in spec.models.items():
        if (planner := PLANNERS.get(model.tag)) is not None:
            try:
                found[name] = planner(name, model, spec=spec, base=base, machine=machine)
            except PlanError as error:
                misfits += error.problems
    if misfits:
        raise PlanError(*misfits)
    metrics = task_metrics({name: one for name, one in spec.models.items() if isinstance(one, ExternalModel)}, base)
    notes = [note for one in found.values() if isinstance(one, PlannedExternal) for note in one.notes]
    return found, Told(metrics=metrics, notes=tuple(dict.fromkeys(notes)))


PLANNERS: dict[str, Callable[..., PlannedElsewhere]] = {
    CheckpointModel.tag: plan_checkpoint,
    ExternalModel.tag: plan_external,
    ExperimentModel.tag: plan_experiment,
}
