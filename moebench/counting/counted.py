"""Counts of a `Blueprint` by the name of a metric: what suites claim of published systems and of their own models.

Parameters, and shares of them, are counted with both tables (tied ones once) unless the name says otherwise. A saving
is against a dense model of equal total size, not of equal quality. FLOPs are those of `flops`: attention is sparsified
by no mixture, so savings in FLOPs fall with the context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from moebench.counting import communication
from moebench.counting.blueprint import Blueprint
from moebench.counting.flops import decode_flops_per_token, forward_flops_per_token
from moebench.counting.weights import active_without_input_tables, body_weights, parameters, saving

Labels = Mapping[str, str]
"""Label of a metric -> its value, as it is written."""


def count(b: Blueprint, name: str, labels: Labels) -> float:
    """The value of a counted metric. Raises LookupError with the reason where the model has none."""
    if name not in COUNTED:
        raise LookupError(f"{name} is not counted of a published system: counted are {', '.join(COUNTED)}")
    return COUNTED[name](b, labels)


def _experts(b: Blueprint, _: Labels) -> float:
    return _of_mixture("shape.experts", {ffn.experts for _, ffn in b.mixtures})


def _top_k(b: Blueprint, _: Labels) -> float:
    return _of_mixture("shape.top_k", {ffn.top_k for _, ffn in b.mixtures})


def _of_mixture(name: str, values: set[int]) -> float:
    if not values:
        raise LookupError(f"a dense model has no {name}")
    if len(values) > 1:
        raise LookupError(f"its mixtures differ in {name}: {', '.join(map(str, sorted(values)))}")
    return values.pop()


def _active_share(b: Blueprint, _: Labels) -> float:
    weights = parameters(b)
    return weights.active / weights.total


def _flops_saving(b: Blueprint, labels: Labels) -> float:
    """Against every expert computing every token, which is the dense model of equal total size."""
    own = forward_flops_per_token(b, context=int(float(labels["context"])))
    return 1 - own / (own + 2 * body_weights(b).idle)


def _flops_per_active_param(b: Blueprint, labels: Labels) -> float:
    own = forward_flops_per_token(b, context=int(float(labels["context"])))
    return own / active_without_input_tables(b)


def _decode_flops(b: Blueprint, labels: Labels) -> float:
    _needs("cost.decode_flops_per_token", "context", labels)
    return decode_flops_per_token(b, cached=int(float(labels["context"])))


def _weight_bytes(b: Blueprint, labels: Labels) -> float:
    _needs("cost.weight_bytes", "bits", labels)
    return math.ceil(parameters(b).total * Fraction(labels["bits"]) / 8)


def _needs(name: str, label: str, labels: Labels) -> None:
    if label not in labels:
        raise LookupError(f"{name} of a published system needs the label {label!r}: {name}[{label}=...]")


def _modelled(model: Callable[..., float]) -> Callable[[Blueprint, Labels], float]:
    """A formula whose arguments are the labels."""
    return lambda b, labels: model(b, **{label: float(value) for label, value in labels.items()})


COUNTED: dict[str, Callable[[Blueprint, Labels], float]] = {
    "cost.total_params": lambda b, _: parameters(b).total,
    "cost.active_params": lambda b, _: parameters(b).active,
    "cost.total_params_no_embedding": lambda b, _: parameters(b).total_no_embedding,
    "cost.active_params_no_embedding": lambda b, _: parameters(b).active_no_embedding,
    "cost.saving": lambda b, _: saving(b),
    "cost.active_share": _active_share,
    "cost.flops_saving": _flops_saving,
    "cost.flops_per_active_param": _flops_per_active_param,
    "cost.decode_flops_per_token": _decode_flops,
    "cost.weight_bytes": _weight_bytes,
    "shape.experts": _experts,
    "shape.top_k": _top_k,
    "shape.is_moe": lambda b, _: float(bool(b.mixtures)),
    "modelled.expert_parallel_bytes": _modelled(communication.expert_parallel_bytes),
    "modelled.tensor_parallel_bytes": _modelled(communication.tensor_parallel_bytes),
    "modelled.data_parallel_bytes": _modelled(communication.data_parallel_bytes),
    "modelled.expert_parallel_share": _modelled(communication.expert_parallel_share),
    "modelled.tensor_parallel_share": _modelled(communication.tensor_parallel_share),
    "modelled.data_parallel_share": _modelled(communication.data_parallel_share),
}
"""Metric -> how it is counted."""
