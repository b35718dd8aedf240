"""What `plan`, `inspect` and the report print about a suite's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moebench.counting.blueprint import Blueprint, Layer
from moebench.counting.flops import decode_flops_per_token, train_flops_per_token
from moebench.counting.memory import kv_bytes_per_token, weight_bytes
from moebench.counting.trained import Trained, adapter_parameters, step_flops, trained_matrices, trained_parameters
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
            **({} if self.trained_params is None else {"cost.trained_params": self.trained_params}),
        }


def costs_of(
    b: Blueprint,
    *,
    dtype: str,
    optimizer: Literal["adamw", "muon"] = "adamw",
    trained: Trained | None = None,
    layers: Sequence[Layer] = (),
) -> Costs:
    """Weights are counted as served, in `dtype`; training keeps float32 weights, and of those that are trained
    gradients and two moments, of which Muon's matrices have one.

    `trained` says what of the model is trained, if not all of it, whose `layers` in their order are then told too.
    """
    assert b.context is not None
    count, beside = parameters(b), 0
    if trained is None:
        gradients, matrices = count.total - untrained_parameters(b), hidden_matrices(b)
        flops = train_flops_per_token(b)
    else:
        beside, matrices = adapter_parameters(b, trained), trained_matrices(b, trained)
        gradients = trained_parameters(b, trained)
        flops = step_flops(b, layers, trained, sequences=1, length=b.context).model / b.context
    moments = 2 * gradients - (matrices if optimizer == "muon" else 0)
    return Costs(
        params=count,
        train_flops_per_token=flops,
        decode_flops_per_token=decode_flops_per_token(b, cached=b.context),
        weight_bytes=weight_bytes(b, dtype),
        kv_bytes_per_token=kv_bytes_per_token(b, dtype),
        train_state_bytes=4 * (count.total + beside + gradients + moments),
        trained_params=gradients,
    )
