"""The activations of experts and dense networks: what `suite.activations` names, forward and backward.

An activation is its entry in `ACTIVATIONS`. One with a backward by hand saves the passes that autograd makes.

Legend: R rows, X columns of the input projection (2F when gated, gate first; else F), F expert hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.suite.activations import GATED

CLAMP, ALPHA = 7.0, 1.702
"""Of gpt-oss's activation."""

Backward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """How an activation is computed."""

    forward: Callable[..., Tensor]
    """(gate, up) -> hidden where it is gated, else (projection) -> hidden."""
    backward: Backward | None = None
    """By hand: see `back_through`; autograd's when absent."""
    root_mean_square: float
    """Of its output on standard normal projections: every network starts at SwiGLU's scale."""


def activate(word: str, hidden_RX: Tensor) -> Tensor:
    """The activation of a suite's word on a (fused) input projection; gated ones halve the last axis."""
    forward = ACTIVATIONS[word].forward
    return forward(*hidden_RX.chunk(2, dim=-1)) if word in GATED else forward(hidden_RX)


def back_through(word: str, hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of weight * activate(word, hidden); `grad_RF`, the gradient of that product, is overwritten.

    Gives weight * activate(word, hidden) [R, F], the gradient of the weights [R], and that of `hidden` [R, X].
    """
    if (backward := ACTIVATIONS[word].backward) is not None:
        return backward(hidden_RX, grad_RF, weight_R1)
    with torch.enable_grad():
        leaf_RX = hidden_RX.detach().requires_grad_()
        active_RF = activate(word, leaf_RX)
    (grad_RX,) = torch.autograd.grad(active_RF, leaf_RX, grad_RF * weight_R1)
    active_RF = active_RF.detach()
    return active_RF * weight_R1, grad_RF.mul_(active_RF).sum(1), grad_RX


def _relu_backward(hidden_RF: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    active_RF = F.relu(hidden_RF)
    grad_weight_R = (grad_RF * active_RF).sum(1)
    return active_RF * weight_R1, grad_weight_R, grad_RF.mul_(weight_R1).mul_(hidden_RF > 0)


def _swiglu_backward(hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With s = sigmoid(gate): d silu / d gate = s + silu (1 - s)."""
    gate_RF, up_RF = hidden_RX.chunk(2, dim=1)
    grad_RX = torch.empty_like(hidden_RX)
    grad_gate_RF, grad_up_RF = grad_RX.chunk(2, dim=1)
    sigmoid_RF = gate_RF.sigmoid()
    silu_RF = gate_RF * sigmoid_RF
    active_RF = silu_RF * up_RF
    # d(out)/d(weight) = grad . (down active) = (down^T grad) . active: the unweighted output is not kept.
    grad_weight_R = (grad_RF * active_RF).sum(1)
    grad_RF.mul_(weight_R1)
    torch.mul(grad_RF, silu_RF, out=grad_up_RF)
    torch.sub(1, sigmoid_RF, out=grad_gate_RF)
    grad_gate_RF.mul_(silu_RF).add_(sigmoid_RF).mul_(grad_RF.mul_(up_RF))
    return active_RF.mul_(weight_R1), grad_weight_R, grad_RX


def _swiglu_clamped_backward(hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With s = sigmoid(1.702 gate): d (gate s) / d gate = s + 1.702 gate s (1 - s); 0 beyond the clamps."""
    gate_RF, up_RF = hidden_RX.chunk(2, dim=1)
    grad_RX = torch.empty_like(hidden_RX)
    grad_gate_RF, grad_up_RF = grad_RX.chunk(2, dim=1)
    clamped_RF, factor_RF = gate_RF.clamp(max=CLAMP), up_RF.clamp(-CLAMP, CLAMP) + 1
    sigmoid_RF = (ALPHA * clamped_RF).sigmoid()
    glu_RF = clamped_RF * sigmoid_RF
    active_RF = factor_RF * glu_RF
    grad_weight_R = (grad_RF * active_RF).sum(1)
    grad_RF.mul_(weight_R1)
    torch.mul(grad_RF, glu_RF, out=grad_up_RF)
    grad_up_RF.mul_(up_RF.abs() <= CLAMP)
    torch.mul(grad_RF, factor_RF, out=grad_gate_RF)
    grad_gate_RF.mul_(sigmoid_RF + ALPHA * glu_RF * (1 - sigmoid_RF)).mul_(gate_RF <= CLAMP)
    return active_RF.mul_(weight_R1), grad_weight_R, grad_RX


def _swiglu_clamped(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = gate.clamp(max=CLAMP), up.clamp(-CLAMP, CLAMP)
    return (up + 1) * gate * (ALPHA * gate).sigmoid()


ACTIVATIONS: dict[str, Activation] = {
    # Shazeer 2020, arXiv:2002.05202
    "swiglu": Activation(
        forward=lambda gate, up: F.silu(gate) * up, backward=_swiglu_backward, root_mean_square=0.59647
    ),
    "geglu": Activation(forward=lambda gate, up: F.gelu(gate) * up, root_mean_square=0.65209),
    # gpt-oss 2025
    "swiglu_clamped": Activation(forward=_swiglu_clamped, backward=_swiglu_clamped_backward, root_mean_square=0.91864),
    # The two-matrix network of Switch, T5 and GPT
    "relu": Activation(forward=F.relu, backward=_relu_backward, root_mean_square=0.70711),
    "gelu": Activation(forward=F.gelu, root_mean_square=0.65209),
}


def initial_scale(word: str) -> float:
    """What brings an activation's output to the scale of SwiGLU's."""
    return ACTIVATIONS["swiglu"].root_mean_square / ACTIVATIONS[word].root_mean_square
