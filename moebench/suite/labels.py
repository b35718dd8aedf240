"""The values that a metric's label takes in a suite: what it measures, and what its models have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moebench.suite.model import FFN, ModelSpec, MoEFFN

if TYPE_CHECKING:
    from moebench.suite.types import Measure, SpeedSpec, SuiteSpec


TIMED_LABELS: dict[str, tuple[str, Callable[[SpeedSpec], Sequence[int]]]] = {
    "tokens": ("prefill", lambda speed: speed.prefill),
    "batch": ("decode.batch", lambda speed: speed.decode.batch if speed.decode else []),
    "length": ("inputs.tokens", lambda speed: [speed.inputs.tokens] if speed.inputs else []),
    "memory": ("memory_budget.bytes", lambda speed: speed.memory_budget.bytes if speed.memory_budget else []),
    "resident": ("offload.resident", lambda speed: speed.offload.resident if speed.offload else []),
}
"""Label -> where `measure.speed` has its values, and those."""


def measured(measure: Measure, label: str) -> list[str]:
    """The values of a label that the speed session measures, or tasks."""
    if label == "task":
        return list(measure.lm_eval.tasks) if measure.lm_eval else []
    speed = measure.speed
    return [] if speed is None or label not in TIMED_LABELS else list(map(str, TIMED_LABELS[label][1](speed)))


def numbers(label: str, model: ModelSpec, *, routed: bool, ffn: FFN | None = None) -> list[int]:
    """The layers, or experts, of a model that a metric has numbers of; `ffn` is what became of its network."""
    if label == "expert":
        ffn = model.ffn if ffn is None else ffn
        return list(range(ffn.experts)) if isinstance(ffn, MoEFFN) else []
    layers = range(model.layers)
    return [i for i in layers if not routed or (isinstance(model.ffn, MoEFFN) and model.ffn.is_mixture(i))]


def every_value(spec: SuiteSpec, label: str, models: Sequence[str], domains: Sequence[str]) -> tuple[str, ...]:
    """All values of a label: those that each of the models has, of layers and experts; empty where none is known."""
    if label == "domain":
        return tuple(domains)
    if label == "task" and spec.tasks:
        return tuple(spec.tasks)
    if label not in ("layer", "expert"):
        return tuple(measured(spec.measure, label))
    decoders = {name: spec.decoders[name] for name in models if name in spec.decoders}
    routed = any(isinstance(model.ffn, MoEFFN) for model in decoders.values())
    shared = [set(numbers(label, one, routed=routed, ffn=spec.ffn_of(name))) for name, one in decoders.items()]
    return tuple(map(str, sorted(set.intersection(*shared)))) if shared else ()
