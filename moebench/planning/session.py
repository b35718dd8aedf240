"""The speed session of a plan: which models race, and whether one process holds them all.

A session whose models fit into the memory together times them in turns. Else each process builds, times and lets go one
model after the other; a model that does not fit alone is refused. Bytes are counted before anything is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moebench.counting.memory import kv_bytes_per_token, passing_bytes
from moebench.format import quantity
from moebench.identity import digest_of
from moebench.jobs.recipe import Run
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.planned import PlannedCheckpoint, PlannedModel
from moebench.planning.types import SpeedPlan
from moebench.suite.external import ExternalModel
from moebench.suite.model import DenseFFN
from moebench.suite.types import SpeedSpec, SuiteSpec

FILLED = 0.8
"""Share of the memory that a session may fill."""
PREFILLED = 0.5
"""Share of the context that is in the cache before a decoding step."""


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
    needs = {name: _bytes(model, speed) for name, model in models.items()}
    held, passing = sum(held for held, _ in needs.values()), max(passing for _, passing in needs.values())
    held += needs[baseline][0]  # it is raced against itself
    apart = memory_bytes is not None and held + passing > FILLED * memory_bytes
    if apart and memory_bytes is not None:
        wanted["apart"] = True
        _refuse_too_large(needs, memory_bytes)
        held = max(held for held, _ in needs.values())
    identity = [[*trained, *(run.id for run in untrained.values())], wanted, names, baseline, machine]
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
    tokens = max([round(b.context * PREFILLED), *speed.prefill, batch])
    if isinstance(model, PlannedCheckpoint):  # it is read straight into its type
        cache = batch * b.context * kv_bytes_per_token(b, model.dtype)
        return model.costs.weight_bytes + cache, passing_bytes(b, tokens=tokens)
    recipe = model.recipe
    cache = batch * b.context * kv_bytes_per_token(b, recipe.dtype)
    weights = 4 * total if recipe.trains else model.costs.weight_bytes
    training = model.costs.train_state_bytes - 4 * total if speed.train_step else 0
    return weights + training + cache, max(4 * total, passing_bytes(b, tokens=tokens))


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
    counts = {name: 0 for name, model in spec.models.items() if not isinstance(model, ExternalModel)}
    for claim in spec.claims.values():
        if claim.compare is not None and claim.compare.baseline in counts:
            counts[claim.compare.baseline] += 1
    if any(counts.values()):
        return max(counts, key=lambda name: counts[name])
    dense = [name for name, model in spec.decoders.items() if isinstance(model.ffn, DenseFFN)]
    return (dense or list(counts) or list(spec.models))[0]
