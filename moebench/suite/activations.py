"""The activations of feed-forward networks, by the words of suite files; `models.decoder.experts.activations` computes
them.

swiglu          silu(gate) * up                      Shazeer 2020, arXiv:2002.05202
geglu           gelu(gate) * up                      the same, with the exact (erf) gelu
swiglu_clamped  (up + 1) * gate * sigmoid(1.702 gate), gate at most 7, up within -7..7   gpt-oss 2025
relu, gelu      of one projection: the two-matrix network of Switch, T5 and GPT
"""

from __future__ import annotations

from typing import Literal, get_args

Activation = Literal["swiglu", "geglu", "swiglu_clamped", "relu", "gelu"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
GATED = frozenset({"swiglu", "geglu", "swiglu_clamped"})
"""Those with two input projections, gate and up: three matrices a network instead of two."""


def input_matrices(activation: str) -> int:
    """Projections from the width to the hidden layer: 2 when gated, else 1."""
    return 2 if activation in GATED else 1
