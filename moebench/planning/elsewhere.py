"""Models that moebench does not build, planned: checkpoints and external results, each from what lies on disk.

`PLANNERS` has one function a kind. They read headers and digests, load no weights, and raise PlanError, at the key that
is to change, for what cannot be read, is not known or does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from moebench.planning.checkpoints import plan_checkpoint
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.matching import Machine
from moebench.planning.types import PlannedCheckpoint, PlannedExternal
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.external import ExternalModel
from moebench.suite.types import SuiteSpec

PlannedElsewhere = PlannedCheckpoint | PlannedExternal


def planned_elsewhere(spec: SuiteSpec, *, base: Path, machine: Machine) -> dict[str, PlannedElsewhere]:
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
    return found


def _not_yet(name: str, model: Any, **_: Any) -> PlannedElsewhere:
    raise PlanError(Misfit(at=("models", name), message=f"{model.tag} models cannot be planned yet"))


PLANNERS: dict[str, Callable[..., PlannedElsewhere]] = {
    CheckpointModel.tag: plan_checkpoint,
    ExternalModel.tag: _not_yet,
}
