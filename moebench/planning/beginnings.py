"""Models that start from a checkpoint, planned: its files hold what they must, and their digest goes into the run's id.

Headers are read, and weights only to be hashed, once for each file that has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moebench.checkpoints.digest import digest
from moebench.checkpoints.located import CheckpointError, locate
from moebench.models.convert.stored import check, described
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.matching import Machine
from moebench.planning.types import PlannedModel, PlannedStart
from moebench.suite.types import SuiteSpec


def begun(
    spec: SuiteSpec, models: Mapping[str, PlannedModel], *, base: Path, machine: Machine
) -> dict[str, PlannedModel]:
    """The models, with the checkpoint that each starts from; relative paths start from `base`.

    Raises PlanError, at its place, for each checkpoint whose files are not what its config.json stands for.
    """
    found, misfits = dict(models), list[Misfit]()
    for name, model in spec.decoders.items():
        if model.start is None:
            continue
        try:
            folder = locate(model.start.checkpoint, base=base).folder
            held = check(folder, models[name].architecture, described(folder)[1])
            start = PlannedStart(
                checkpoint=model.start.checkpoint, digest=digest(folder, held.files, cache=machine.digests)
            )
            found[name] = models[name].model_copy(update={"start": start})
        except CheckpointError as error:
            at = ("models", name, "start", "checkpoint")
            misfits.append(Misfit(at=at, message=error.message, hint=error.hint))
    if misfits:
        raise PlanError(*misfits)
    return found
