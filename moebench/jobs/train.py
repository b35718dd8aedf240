"""Jobs that train a model: one for each model and seed. Their spec is a `Run`.

Those that begin with the weights of another model of the suite are named where transforms are; see `lineage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from moebench.counting.trained import Trained
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import Recipe, Run
from moebench.models.architecture import Architecture, Kernels
from moebench.suite.model import DenseFFN

if TYPE_CHECKING:
    from moebench.planning.matching import Machine
    from moebench.planning.planned import DataFacts, PlannedModel

FUSED_FROM = 2**17
"""Numbers in the activations of a micro-batch, tokens times width, from which fused kernels gain: 1 to 13% from 2**17
to 2**20. Below, from 2**13 at width 32 to 2**16 at width 64, they took from 1% less to 9% more of the processor's time,
dense models more than mixtures (one thread)."""


def jobs(draft: Draft) -> Iterator[Job]:
    """One for each model and seed, seeds outermost, so that early results hold whole pairs."""
    for seed in draft.plan.spec.seeds:
        names = (name for name, model in draft.plan.trained.items() if model.derived is None)
        yield from (job(draft, name, seed) for name in names)


def job(draft: Draft, model: str, seed: int, recipe: Recipe | None = None) -> Job:
    """Trains one model of a plan with one seed, by its own recipe or another."""
    plan = draft.plan
    run = run_of(plan.decoders[model], seed=seed, facts=plan.data_of(model), machine=draft.machine, recipe=recipe)
    train = plan.spec.decoders[model].train
    assert train is not None
    facts = {"checkpoint_seconds": train.checkpoint_seconds, "places": places_of(draft, model)}
    return draft.job("train", run.model_dump(mode="json"), model=model, seed=seed, **facts)


def places_of(draft: Draft, model: str) -> dict[str, Path]:
    """Where the files of the checkpoint lie that a model of a plan starts from."""
    from moebench.checkpoints.located import locate

    start = draft.plan.decoders[model].start
    return {} if start is None else {model: locate(start.checkpoint, base=draft.base).folder}


def run_of(
    planned: PlannedModel, *, seed: int, facts: DataFacts, machine: Machine, recipe: Recipe | None = None
) -> Run:
    """The run of one model and seed, on one kind of machine."""
    recipe = recipe or planned.recipe
    kernels = kernels_of(
        width=planned.architecture.width,
        tokens=recipe.micro_batch_tokens,
        dtype=recipe.dtype,
        device=machine.device,
        trained=recipe.trained,
    )
    return Run(
        architecture=planned.architecture,
        recipe=recipe,
        seed=seed,
        data_digest=facts.digest,
        device="cuda" if machine.device == "cuda" else "cpu",
        backend=backend_of(planned.architecture, machine.device, trained=recipe.trained),
        kernels=kernels,
        losses_over=losses_over(planned.architecture, recipe),
        torch=".".join(version("torch").split("+")[0].split(".")[:2]),
        start=None if planned.start is None else planned.start.digest,
    )


def losses_over(a: Architecture, recipe: Recipe) -> Literal["micro_batch", "batch"]:
    """`batch` where a model has losses that its micro-batches do not add up to."""
    return "batch" if recipe.micro_batches > 1 and a.losses_of_batch else "micro_batch"


def kernels_of(*, width: int, tokens: int, dtype: str, device: str, trained: Trained | None = None) -> Kernels:
    """`fused` where it was measured to pay: float32 on a CPU, and enough numbers in a micro-batch's activations.

    `tokens` are those of a micro-batch. Models of one width and micro-batch take the same kernels, mixtures or not;
    fused ones have a gradient of every weight, so they are for models that are trained whole.
    """
    fast = tokens * width >= FUSED_FROM and dtype == "float32" and device == "cpu"
    return "fused" if fast and trained is None else "unfused"


def backend_of(a: Architecture, device: str, *, trained: Trained | None = None) -> str:
    """The expert backend a run will use: the measured best of its device, that of experts that are trained in part or
    by adapters, 'none' for a dense model."""
    if isinstance(a.ffn, DenseFFN):
        return "none"
    if trained is not None:
        return "loop"
    return "grouped_mm" if device == "cuda" else "sorted"


def execute(job: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """Trains, or goes on from a checkpoint; see `loop`."""
    from moebench.jobs import loop

    return loop.execute(job, root=root, on_event=on_event, should_stop=should_stop)


TRAIN = Kind(jobs=jobs, execute=execute)
