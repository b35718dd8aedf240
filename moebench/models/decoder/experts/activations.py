"""The activations of experts and dense networks by the words of suites, forward and backward.

Legend: R rows, X columns of the input projection (2F when gated, gate first; else F), F expert hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CLAMP, ALPHA = 7.0, 1.702
"""Of gpt-oss's activation."""


def swiglu(gate_up_R2F: Tensor) -> Tensor:
    """silu(gate) * up of a fused projection (Shazeer 2020, arXiv:2002.05202)."""
    gate_RF, up_RF = gate_up_R2F.chunk(2, dim=-1)
    return F.silu(gate_RF) * up_RF


def activate(word: str, hidden: Tensor, *, dim: int = -1) -> Tensor:
    """The activation of a suite's word on a (fused) input projection; gated ones halve the axis `dim`."""
    if word == "relu":
        return F.relu(hidden)
    if word == "gelu":
        return F.gelu(hidden)
    gate, up = hidden.chunk(2, dim=dim)
    if word == "swiglu":
        return F.silu(gate) * up
    if word == "geglu":
        return F.gelu(gate) * up
    if word == "swiglu_clamped":
        gate, up = gate.clamp(max=CLAMP), up.clamp(-CLAMP, CLAMP)
        return (up + 1) * gate * (ALPHA * gate).sigmoid()
    raise KeyError(f"unknown activation {word!r}")


def back_through(word: str, hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Backward of weight * activate(word, hidden); `grad_RF`, the gradient of that product, is overwritten.

    Gives weight * activate(word, hidden) [R, F], the gradient of the weights [R], and that of `hidden` [R, X]. The
    activations without a backward of their own here go through autograd.
    """
    if word == "swiglu":
        return _back_through_swiglu(hidden_RX, grad_RF, weight_R1)
    if word == "swiglu_clamped":
        return _back_through_swiglu_clamped(hidden_RX, grad_RF, weight_R1)
    if word == "relu":
        active_RF = F.relu(hidden_RX)
        grad_weight_R = (grad_RF * active_RF).sum(1)
        return active_RF * weight_R1, grad_weight_R, grad_RF.mul_(weight_R1).mul_(hidden_RX > 0)
    with torch.enable_grad():
        leaf_RX = hidden_RX.detach().requires_grad_()
        active_RF = activate(word, leaf_RX)
    (grad_RX,) = torch.autograd.grad(active_RF, leaf_RX, grad_RF * weight_R1)
    active_RF = active_RF.detach()
    return active_RF * weight_R1, grad_RF.mul_(active_RF).sum(1), grad_RX


def _back_through_swiglu(hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def _back_through_swiglu_clamped(
    hidden_RX: Tensor, grad_RF: Tensor, weight_R1: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
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
