"""Checkpoints of a suite, planned from their headers: what each is, what it holds in memory, and whether that fits.

No weight is read but to be hashed, once for each file that has not changed; whatever can be refused is refused before.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from moebench.checkpoints.described import describe
from moebench.checkpoints.facts import OURS, Dtype, LoadSpec
from moebench.checkpoints.located import INSTALL, CheckpointError, Located, locate
from moebench.counting.blueprint import Attention, Blueprint
from moebench.counting.costs import costs_of
from moebench.counting.memory import passing_bytes
from moebench.counting.weights import parameters
from moebench.format import quantity
from moebench.identity import digest_of
from moebench.jobs.recipe import Run
from moebench.models.convert.stored import check, described
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.matching import Machine
from moebench.planning.planned import PlannedCheckpoint
from moebench.planning.session import FILLED
from moebench.store import WEIGHTS, CorruptFile, JobFolder, Results
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.types import SuiteSpec
from moebench.systems.configs import families

WINDOWS_AT_ONCE = 16
"""As many as an evaluation reads."""
LOGITS = 2**26
"""Numbers that the output head gives at once."""
ALONE = 0.25
"""Share of the memory beyond which a checkpoint is loaded with nothing else of ours beside it."""


def plan_checkpoint(
    name: str, model: CheckpointModel, *, spec: SuiteSpec, base: Path, machine: Machine
) -> PlannedCheckpoint:
    """A checkpoint as it will be measured. Raises PlanError, at its place, for one that cannot be had here."""
    try:
        located = locate(model.checkpoint, base=base, revision=model.revision, online=model.online)
        planned = _run_of_ours(located, model) if is_run(located.folder) else _published(located, model, machine)
    except CheckpointError as error:
        raise PlanError(Misfit(at=("models", name, "checkpoint"), message=error.message, hint=error.hint)) from None
    limit = spec.data.context
    if spec.data.source != "none" and limit > planned.longest:
        message = f"windows of {limit:,} are longer than {name} was made for, {planned.longest:,} tokens"
        raise PlanError(Misfit(at=("data", "context"), message=message, hint="give a smaller context"))
    blueprint = planned.blueprint.model_copy(update={"context": min(limit, planned.longest)})
    costs = costs_of(blueprint, dtype=planned.dtype)
    planned = planned.model_copy(update={"blueprint": blueprint, "costs": costs})
    _check_fits(name, planned, machine)
    return planned


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a job of ours, and not an exported checkpoint."""
    return (folder / "job.json").is_file() and not (folder / "config.json").exists()


def _published(located: Located, model: CheckpointModel, machine: Machine) -> PlannedCheckpoint:
    try:
        version("transformers")  # its tokenizer, where our decoder computes it
    except PackageNotFoundError:
        raise CheckpointError(
            "checkpoints are loaded with transformers, which is not installed", hint=INSTALL
        ) from None
    facts, blueprint = describe(located, cache=machine.digests)
    dtype = _check_native(located, model) if model.native else model.dtype or facts.stored_dtype
    assert blueprint.context is not None
    return PlannedCheckpoint(
        checkpoint=model.checkpoint,
        revision=facts.revision,
        family=families()[facts.model_type].architecture,
        model_type=facts.model_type,
        digest=facts.digest,
        dtype=dtype,
        experts="none" if not blueprint.mixtures else "sorted" if model.native else model.experts,
        blueprint=blueprint,
        costs=costs_of(blueprint, dtype=dtype),
        longest=facts.context,
        files=len(facts.files),
        file_bytes=facts.file_bytes,
        device_map=model.device_map,
        native=model.native,
    )


def _check_native(located: Located, model: CheckpointModel) -> Dtype:
    """The type of products in our decoder, whose weights are float32. Raises CheckpointError where it cannot be had."""
    if model.dtype == "float16" or model.device_map is not None:
        raise CheckpointError("our decoder computes in float32 or bfloat16, on one device", hint="leave the other out")
    architecture, family = described(located.folder)
    check(located.folder, architecture, family)
    return model.dtype or "float32"


def _run_of_ours(located: Located, model: CheckpointModel) -> PlannedCheckpoint:
    """A finished run in a results folder."""
    folder = Results(located.folder.parent.parent).job(located.folder.name)
    try:
        manifest = folder.manifest() or {}
        weights = manifest.get("files", {}).get(WEIGHTS)
        if manifest.get("status") != "completed" or weights is None or manifest.get("weights") != "kept":
            raise CheckpointError(f"{located.asked} is no finished run with its weights")
        run = Run.model_validate(folder.spec())
    except (CorruptFile, KeyError, ValidationError) as error:
        raise CheckpointError(f"{located.asked} is no run of this version of moebench: {error}") from None
    if model.dtype not in (None, run.recipe.dtype):
        raise CheckpointError(f"{located.asked} computes in {run.recipe.dtype}", hint="leave `dtype` out")
    if run.derived is not None and run.derived.transform is not None and run.derived.transform.unpacks:
        hint = "name the run that it was made of, and change its weights by `start`"
        raise CheckpointError(f"{located.asked} is packed: it is no checkpoint for another suite", hint=hint)
    blueprint = run.architecture.blueprint
    return PlannedCheckpoint(
        checkpoint=model.checkpoint,
        family=OURS,
        model_type=OURS,
        digest=digest_of_run(folder),
        dtype=run.recipe.dtype,
        experts="none" if not blueprint.mixtures else run.backend,
        blueprint=blueprint,
        costs=costs_of(blueprint, dtype=run.recipe.dtype),
        longest=run.architecture.context,
        files=1,
        file_bytes=int(weights["bytes"]),
    )


def digest_of_run(folder: JobFolder) -> str:
    """Of a finished run, which has its files' hashes: its id and its weights."""
    files = (folder.manifest() or {"files": {}})["files"]
    return digest_of([folder.id, files[WEIGHTS]["sha256"]], length=64)


# ------------------------------------------------------------------------------------------------ memory


def scoring_bytes(planned: PlannedCheckpoint) -> int:
    """What a checkpoint takes while it is scored: its weights, and the widest activations of a batch of windows."""
    b = planned.blueprint
    assert b.context is not None
    tokens = WINDOWS_AT_ONCE * b.context
    logits = 2 * 4 * min(LOGITS, tokens * b.vocab)
    return planned.costs.weight_bytes + passing_bytes(b, tokens=tokens) + _scores_bytes(b) + logits


def _scores_bytes(b: Blueprint) -> int:
    """Of attention with sinks, which keeps the weights of a whole square of queries and keys, twice."""
    assert b.context is not None
    heads = [m.heads for layer in b.layers if isinstance(m := layer.mixer, Attention) and m.sinks]
    return 2 * 4 * WINDOWS_AT_ONCE * max(heads, default=0) * b.context**2


def _check_fits(name: str, planned: PlannedCheckpoint, machine: Machine) -> None:
    """Raises PlanError for a model that one device cannot hold; over several it is for transformers to place."""
    needed, there = scoring_bytes(planned), machine.memory_bytes
    if planned.device_map is not None or there is None or needed <= FILLED * there:
        return
    count = parameters(planned.blueprint).total
    message = (
        f"{name} takes {quantity(needed, 'bytes')} to score ({count:,} parameters in {planned.dtype}), and "
        f"this machine has {quantity(there, 'bytes')}, of which {FILLED:.0%} are filled"
    )
    hint = "run it on a larger machine" + ("" if planned.dtype != "float32" else ", or give it dtype: bfloat16")
    raise PlanError(Misfit(at=("models", name), message=message, hint=hint))


def goes_alone(planned: PlannedCheckpoint, machine: Machine) -> bool:
    """Whether nothing else of ours should run while it is loaded."""
    return machine.memory_bytes is not None and scoring_bytes(planned) > ALONE * machine.memory_bytes


def load_spec(planned: PlannedCheckpoint, *, device: str) -> LoadSpec:
    """How it is loaded on a kind of device."""
    ours = planned.family == OURS
    names = ("torch",) if ours else ("torch", "transformers")
    return LoadSpec(
        digest=planned.digest,
        family=planned.model_type,
        dtype=planned.dtype,
        experts=None if ours or planned.native or planned.experts == "none" else planned.experts,
        device=device,
        device_map=planned.device_map,
        native=planned.native,
        libraries={name: ".".join(version(name).split("+")[0].split(".")[:2]) for name in names},
    )
