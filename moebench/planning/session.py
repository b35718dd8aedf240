"""The speed session of a plan: which models race, and whether one process holds them all.

A session whose models fit into the memory together times them in turns. Else each process builds, times and lets go one
model after the other; a model that does not fit alone is refused. Bytes are counted before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moebench.counting.memory import kv_bytes, kv_bytes_per_token, passing_bytes
from moebench.format import quantity
from moebench.frozen import Frozen
from moebench.identity import digest_of
from moebench.jobs.recipe import Run
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.planned import PlannedCheckpoint, PlannedModel
from moebench.planning.types import SpeedPlan
from moebench.suite.experiment import ExperimentModel
from moebench.suite.external import ExternalModel
from moebench.suite.model import DenseFFN
from moebench.suite.serving import MemorySpec
from moebench.suite.types import SpeedSpec, SuiteSpec

FILLED = 0.8
"""Share of the memory that a session may fill."""
PREFILLED = 0.5
"""Share of the context that is in the cache before a decoding step."""
MOST_SEQUENCES = 4096
"""That are decoded at once."""


def speed_plan(
    spec: SuiteSpec,
    models: Mapping[str, PlannedModel | PlannedCheckpoint],
    *,
    trained: Sequence[str],
    untrained: Mapping[str, Run],
    machine: str,
    memory_bytes: int | None,
) -> SpeedPlan | None:
    """The session; `trained` are ids of jobs that train or load a model, `untrained` the runs of models at initial
    values, of any seed.

    Raises PlanError for a model that the memory cannot hold.
    """
    speed = spec.measure.speed
    if speed is None or not models:
        return None
    names, baseline = tuple(models), baseline_of(spec)
    wanted: dict[str, Any] = {
        "train_step": speed.train_step,
        "prefill": tuple(speed.prefill),
        "decode_batches": tuple(speed.decode.batch) if speed.decode else (),
        "seconds": speed.seconds,
        "processes": tuple(spec.first_seeds[i % len(spec.first_seeds)] for i in range(speed.processes)),
    }
    loaded = {name: model.blueprint.context for name, model in models.items() if isinstance(model, PlannedCheckpoint)}
    if loaded:
        wanted["checkpoints"] = loaded
    for name in ("inputs", "offload", "layer_parts"):
        if asked := getattr(speed, name):
            wanted[name] = asked
    if speed.memory_budget is not None:
        wanted["memory_budget"], wanted["batches"] = speed.memory_budget, _batches(models, speed.memory_budget)
    needs = {name: _bytes(model, speed) for name, model in models.items()}
    held, passing = sum(held for held, _ in needs.values()), max(passing for _, passing in needs.values())
    held += needs[baseline][0]  # it is raced against itself
    apart = memory_bytes is not None and held + passing > FILLED * memory_bytes
    if apart and memory_bytes is not None:
        wanted["apart"] = True
        _refuse_too_large(needs, memory_bytes)
        if speed.inputs is not None:
            message = "this machine's memory does not hold all models at once, and times over inputs are told from one "
            raise PlanError(
                Misfit(
                    at=("measure", "speed", "inputs"),
                    message=f"{message}noise, that of a process with all of them",
                    hint="leave inputs out, or time fewer or smaller models",
                )
            )
        held = max(held for held, _ in needs.values())
    told = {key: value.model_dump(mode="json") if isinstance(value, Frozen) else value for key, value in wanted.items()}
    identity = [[*trained, *(run.id for run in untrained.values())], told, names, baseline, machine]
    return SpeedPlan(
        id=digest_of(identity, length=20),
        models=names,
        baseline=baseline,
        untrained=dict(untrained),
        memory_bytes=held + passing if untrained or loaded else None,
        **wanted,
    )


def _bytes(model: PlannedModel | PlannedCheckpoint, speed: SpeedSpec) -> tuple[int, int]:
    """What a model holds in a session, and what it needs besides for a while: a float32 copy while it is built, or the
    widest activations."""
    b, total = model.blueprint, model.costs.params.total
    assert b.context is not None
    batch = max(speed.decode.batch, default=1) if speed.decode is not None else 1
    tokens, cached = max([round(b.context * PREFILLED), *speed.prefill, batch]), batch * b.context
    if (inputs := speed.inputs) is not None:
        tokens, cached = max(tokens, inputs.tokens), max(cached, inputs.count * (inputs.tokens + 1))
    if (budget := speed.memory_budget) is not None:
        most = max(_batch(model, memory, budget.tokens) for memory in budget.bytes)
        tokens, cached = max(tokens, most), max(cached, most * budget.tokens)
    if isinstance(model, PlannedCheckpoint):  # it is read straight into its type
        return model.costs.weight_bytes + cached * kv_bytes_per_token(b, model.dtype), passing_bytes(b, tokens=tokens)
    recipe = model.recipe
    cache = cached * kv_bytes_per_token(b, recipe.dtype)
    weights = 4 * total if recipe.trains else model.costs.weight_bytes
    training = model.costs.train_state_bytes - 4 * total if speed.train_step else 0
    return weights + training + cache, max(4 * total, passing_bytes(b, tokens=tokens))


def _batches(models: Mapping[str, PlannedModel | PlannedCheckpoint], asked: MemorySpec) -> dict[str, tuple[int, ...]]:
    """The largest batch of each model that fits each number of bytes. Raises PlanError for one that does not fit."""
    misfits: list[Misfit] = []
    for index, memory in enumerate(asked.bytes):
        for name, model in models.items():
            batch, fits = _batch(model, memory, asked.tokens), quantity(memory, "bytes")
            weights = quantity(model.costs.weight_bytes, "bytes")
            if batch < 1:
                message = f"{name} does not fit {fits}: its weights take {weights}, before any cache"
            elif batch > MOST_SEQUENCES:
                message = f"{batch:,} sequences of {name} fit {fits}, and no more than {MOST_SEQUENCES:,} are timed"
            else:
                continue
            hint = f"give {'more' if batch < 1 else 'fewer'} bytes, or sequences of other tokens"
            misfits.append(Misfit(at=("measure", "speed", "memory_budget", "bytes", index), message=message, hint=hint))
    if misfits:
        raise PlanError(*misfits)
    return {
        name: tuple(_batch(model, memory, asked.tokens) for memory in asked.bytes) for name, model in models.items()
    }


def _batch(model: PlannedModel | PlannedCheckpoint, memory: int, tokens: int) -> int:
    """Sequences of so many tokens whose cache fits beside the weights as served."""
    dtype = model.dtype if isinstance(model, PlannedCheckpoint) else model.recipe.dtype
    left = memory - model.costs.weight_bytes
    return left // max(1, kv_bytes(model.blueprint, dtype, context=tokens)) if left > 0 else 0


def _refuse_too_large(needs: Mapping[str, tuple[int, int]], memory_bytes: int) -> None:
    large = {name: sum(need) for name, need in needs.items() if sum(need) > FILLED * memory_bytes}
    if large:
        raise PlanError(
            *(
                Misfit(
                    at=("models", name),
                    message=f"{name} takes {quantity(need, 'bytes')} to build and time, and this machine has "
                    f"{quantity(memory_bytes, 'bytes')}, of which a session fills {FILLED:.0%}",
                    hint="give it smaller widths or fewer layers, a smaller batch, or dtype: bfloat16",
                )
                for name, need in large.items()
            )
        )


def baseline_of(spec: SuiteSpec) -> str:
    """The model that others are compared with most often in claims; the first dense model, or the first, if none is."""
    counts = {name: 0 for name, model in spec.models.items() if not isinstance(model, ExternalModel | ExperimentModel)}
    for claim in spec.claims.values():
        if claim.compare is not None and claim.compare.baseline in counts:
            counts[claim.compare.baseline] += 1
    if any(counts.values()):
        return max(counts, key=lambda name: counts[name])
    dense = [name for name, model in spec.decoders.items() if isinstance(model.ffn, DenseFFN)]
    return (dense or list(counts) or list(spec.models))[0]
