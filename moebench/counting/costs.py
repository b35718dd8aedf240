"""What `plan`, `inspect` and the report print about a suite's model."""

from __future__ import annotations

from typing import Literal

from moebench.counting.blueprint import Blueprint
from moebench.counting.flops import decode_flops_per_token, train_flops_per_token
from moebench.counting.memory import kv_bytes_per_token, weight_bytes
from moebench.counting.weights import ParameterCount, hidden_matrices, parameters, untrained_parameters
from moebench.frozen import Frozen


class Costs(Frozen):
    """Counts of one model at its own context."""

    params: ParameterCount
    train_flops_per_token: float
    decode_flops_per_token: float
    """At the full context."""
    weight_bytes: int
    kv_bytes_per_token: int
    train_state_bytes: int
    """Weights, gradients and optimizer state."""
    trained_params: int | None = None
    """Those with a gradient; None in what was stored before they were counted."""

    @property
    def metrics(self) -> dict[str, float]:
        """Counted metric -> its value."""
        return {
            **self.params.metrics,
            "cost.train_flops_per_token": self.train_flops_per_token,
            "cost.decode_flops_per_token": self.decode_flops_per_token,
            "cost.weight_bytes": self.weight_bytes,
            "cost.kv_bytes_per_token": self.kv_bytes_per_token,
        }


def costs_of(b: Blueprint, *, dtype: str, optimizer: Literal["adamw", "muon"] = "adamw") -> Costs:
    """Weights are counted as served, in `dtype`; training keeps float32 weights, and of those that are trained
    gradients and two moments, of which Muon's matrices have one."""
    count = parameters(b)
    trained = count.total - untrained_parameters(b)
    moments = 2 * trained - (hidden_matrices(b) if optimizer == "muon" else 0)
    assert b.context is not None
    return Costs(
        params=count,
        train_flops_per_token=train_flops_per_token(b),
        decode_flops_per_token=decode_flops_per_token(b, cached=b.context),
        weight_bytes=weight_bytes(b, dtype),
        kv_bytes_per_token=kv_bytes_per_token(b, dtype),
        train_state_bytes=4 * (count.total + trained + moments),
        trained_params=trained,
    )
