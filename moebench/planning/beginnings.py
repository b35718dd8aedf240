"""Models that start from a checkpoint, planned: its files hold what they must, and their digest goes into the run's id.

Headers are read, and weights only to be hashed, once for each file that has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moebench.checkpoints.digest import digest
from moebench.checkpoints.located import CheckpointError, locate
from moebench.data.documents import DataError
from moebench.data.tokenizer import of_checkpoint
from moebench.models.convert.stored import check, described
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.matching import Machine
from moebench.planning.planned import DataFacts, PlannedModel, PlannedStart
from moebench.suite.types import SuiteSpec


def begun(
    spec: SuiteSpec,
    models: Mapping[str, PlannedModel],
    data: Mapping[str, DataFacts],
    *,
    base: Path,
    machine: Machine,
) -> dict[str, PlannedModel]:
    """The models, with the checkpoint that each starts from; `data` are what each reads, and paths start from `base`.

    Raises PlanError, at its place, for each checkpoint whose files are not what its config.json stands for, or that
    was trained on other tokens.
    """
    found, misfits = dict(models), list[Misfit]()
    for name, model in spec.decoders.items():
        if model.start is None or (asked := model.start.checkpoint) is None:
            continue
        try:
            folder = locate(asked, base=base).folder
            held = check(folder, models[name].architecture, described(folder)[1])
            _same_tokens(folder, data[name])
            start = PlannedStart(checkpoint=asked, digest=digest(folder, held.files, cache=machine.digests))
            found[name] = models[name].model_copy(update={"start": start})
        except CheckpointError as error:
            at = ("models", name, "start", "checkpoint")
            misfits.append(Misfit(at=at, message=error.message, hint=error.hint))
    if misfits:
        raise PlanError(*misfits)
    return found


def _same_tokens(folder: Path, data: DataFacts) -> None:
    """Raises CheckpointError where an id of the data is another token of the checkpoint's."""
    try:
        its = of_checkpoint(folder)
    except DataError as error:
        told = f"whether its tokens are those of the data cannot be told: {error}"
        raise CheckpointError(f"{folder}: {told}", hint="put its own tokenizer.json into the folder") from None
    bytewise = its.start == 0 and all(its.decode([token]) == bytes([token]) for token in range(1, min(256, its.vocab)))
    if bytewise and its.vocab == 256 and data.tokenizer is None:
        return
    if its.digest != data.tokenizer:
        what = "bytes" if data.tokenizer is None else "those of another tokenizer"
        raise CheckpointError(
            f"{folder}: its tokens are not the data's, which are {what}",
            hint="give the model data: {tokenizer: {checkpoint: FOLDER}}, the folder that it starts from",
        )
