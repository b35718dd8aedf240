"""A speed session: which models race each other, and what is timed."""

from __future__ import annotations

from pydantic import Field

from moebench.amounts import Name
from moebench.frozen import Frozen, later
from moebench.jobs.recipe import Run
from moebench.suite.serving import InputsSpec, MemorySpec, OffloadSpec


class SpeedPlan(Frozen):
    """One speed session: which models race each other, process by process."""

    id: str
    models: tuple[str, ...]
    baseline: str
    """Raced against itself (A/A)."""
    processes: tuple[int, ...]
    """The seed whose weights each process loads."""
    train_step: bool
    prefill: tuple[int, ...]
    decode_batches: tuple[int, ...]
    seconds: float
    untrained: dict[Name, Run] = Field(default={}, exclude_if=lambda value: not value)
    """Models at their initial values, by a run of no steps; a process gives it its own seed."""
    checkpoints: dict[Name, int] = later(default={})
    """Checkpoints that race -> the tokens that are their context."""
    inputs: InputsSpec | None = later()
    memory_budget: MemorySpec | None = later()
    batches: dict[Name, tuple[int, ...]] = later(default={})
    """Model -> the largest batch that fits each number of bytes."""
    offload: OffloadSpec | None = later()
    layer_parts: bool = later(default=False)
    apart: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether a process builds, times and lets go one model after the other, as its memory does not hold all."""
    memory_bytes: int | None = Field(default=None, exclude_if=lambda value: value is None)
    """What a process needs at most; None where all models are trained, as they are small beside their training."""


class SpeedSpec(Frozen):
    """What a job of kind `speed` does: one process of a session."""

    session: SpeedPlan
    process: int
    runs: dict[str, str]
    """Model -> the job that trains it with the process's seed, or loads it; models at initial values are the
    session's."""


def labels_of(plan: SpeedPlan) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Label -> its values in what a session times."""
    return (
        ("tokens", plan.prefill),
        ("batch", plan.decode_batches),
        ("length", (plan.inputs.tokens,) if plan.inputs else ()),
        ("memory", tuple(plan.memory_budget.bytes) if plan.memory_budget else ()),
        ("resident", tuple(plan.offload.resident) if plan.offload else ()),
    )
