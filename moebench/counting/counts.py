"""What counting gives: parameters, FLOPs and bytes of one model."""

from __future__ import annotations

from moebench.frozen import Frozen


class ParameterCount(Frozen):
    """Weights of a model. Tied tables count once; the router counts as active."""

    total: int
    active: int
    total_no_embedding: int
    active_no_embedding: int


class Costs(Frozen):
    """Arithmetic about a model; see `costs` for the formulas."""

    params: ParameterCount
    train_flops_per_token: float
    decode_flops_per_token: float
    """At the full context."""
    weight_bytes: int
    kv_bytes_per_token: int
    train_state_bytes: int
    """Weights, gradients and optimizer state."""
