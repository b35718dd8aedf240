"""Few tokens on small experts, all in the cache: assignments sorted by expert, one product per expert and direction.

The first code path there was. Suites of nano size stay on it, and so keep the bits that their committed results have;
`blocks` is faster where rows or weights leave the cache.

Legend: T tokens, D width, F expert hidden, X rows of the input projection, E experts, S sorted assignments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.dispatch import by_expert, combine, dispatch
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing


def plain(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Any activation, biases, any number of assignments a token; backward by hand."""
    order_S, ends_E = by_expert(routing, num_experts=experts.num_experts)
    x_SD = dispatch(x_TD, routing, order_S)
    weight_S, ends = routing.weight_N[order_S].to(x_TD.dtype), ends_E.tolist()
    if experts.activation == "swiglu" and experts.gate_up_bias_EX is None:
        weights = (experts.gate_up_EXD, experts.down_EDF)
        y_SD: Tensor = _SortedExperts.apply(x_SD, weight_S, *weights, ends)  # type: ignore[no-untyped-call]
    else:
        y_SD = _any_network(x_SD, weight_S, experts, routing.expert_N[order_S], ends)
    return combine(y_SD, routing, order_S, num_tokens=x_TD.shape[0])


class _SortedExperts(torch.autograd.Function):
    """Assignments sorted by expert, one matrix product per expert and direction, gradients written in place."""

    @staticmethod
    def forward(
        ctx: Any, x_SD: Tensor, weight_S: Tensor, gate_up_E2FD: Tensor, down_EDF: Tensor, ends: list[int]
    ) -> Tensor:
        gate_up_S2F = x_SD.new_empty(x_SD.shape[0], gate_up_E2FD.shape[1])
        out_SD = torch.empty_like(x_SD)
        for expert, (start, stop) in enumerate(_groups(ends)):
            torch.mm(x_SD[start:stop], gate_up_E2FD[expert].t(), out=gate_up_S2F[start:stop])
        hidden_SF = activate("swiglu", gate_up_S2F)
        for expert, (start, stop) in enumerate(_groups(ends)):
            torch.mm(hidden_SF[start:stop], down_EDF[expert].t(), out=out_SD[start:stop])
        ctx.save_for_backward(x_SD, weight_S, gate_up_E2FD, down_EDF, gate_up_S2F)
        ctx.ends = ends
        return out_SD.mul_(weight_S[:, None])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        x_SD, weight_S, gate_up_E2FD, down_EDF, gate_up_S2F = ctx.saved_tensors
        grad_out_SD = grads[0].contiguous()
        gate_SF, up_SF = gate_up_S2F.chunk(2, dim=1)
        sigmoid_SF = gate_SF.sigmoid()
        silu_SF = gate_SF * sigmoid_SF
        hidden_SF = silu_SF * up_SF
        grad_hidden_SF = torch.empty_like(hidden_SF)
        for expert, (start, stop) in enumerate(_groups(ctx.ends)):
            torch.mm(grad_out_SD[start:stop], down_EDF[expert], out=grad_hidden_SF[start:stop])
        # d(out)/d(weight) = grad_out . (down hidden) = (down^T grad_out) . hidden: the unweighted output is not kept.
        grad_weight_S = (grad_hidden_SF * hidden_SF).sum(1)
        grad_hidden_SF.mul_(weight_S[:, None])
        grad_gate_up_S2F = torch.empty_like(gate_up_S2F)
        grad_gate_SF, grad_up_SF = grad_gate_up_S2F.chunk(2, dim=1)
        torch.mul(grad_hidden_SF, silu_SF, out=grad_up_SF)
        # d silu(g) / dg = sigmoid(g) (1 + g (1 - sigmoid(g)))
        torch.mul(grad_hidden_SF.mul_(up_SF), sigmoid_SF + silu_SF * (1 - sigmoid_SF), out=grad_gate_SF)
        weighted_hidden_SF = hidden_SF.mul_(weight_S[:, None])
        grad_x_SD, grad_gate_up_E2FD = torch.empty_like(x_SD), torch.empty_like(gate_up_E2FD)
        grad_down_EDF = torch.empty_like(down_EDF)
        for expert, (start, stop) in enumerate(_groups(ctx.ends)):
            torch.mm(grad_gate_up_S2F[start:stop], gate_up_E2FD[expert], out=grad_x_SD[start:stop])
            torch.mm(grad_gate_up_S2F[start:stop].t(), x_SD[start:stop], out=grad_gate_up_E2FD[expert])
            torch.mm(grad_out_SD[start:stop].t(), weighted_hidden_SF[start:stop], out=grad_down_EDF[expert])
        return grad_x_SD, grad_weight_S, grad_gate_up_E2FD, grad_down_EDF, None


class _GroupedLinear(torch.autograd.Function):
    """y = x W[expert]^T for rows sorted by expert, one product per expert and direction."""

    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, weight_EXD: Tensor, ends: list[int]) -> Tensor:
        y_SX = x_SD.new_empty(x_SD.shape[0], weight_EXD.shape[1])
        for expert, (start, stop) in enumerate(_groups(ends)):
            torch.mm(x_SD[start:stop], weight_EXD[expert].t(), out=y_SX[start:stop])
        ctx.save_for_backward(x_SD, weight_EXD)
        ctx.ends = ends
        return y_SX

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_SD, weight_EXD = ctx.saved_tensors
        grad_SX = grads[0].contiguous()
        grad_x_SD, grad_weight_EXD = torch.empty_like(x_SD), torch.empty_like(weight_EXD)
        for expert, (start, stop) in enumerate(_groups(ctx.ends)):
            torch.mm(grad_SX[start:stop], weight_EXD[expert], out=grad_x_SD[start:stop])
            torch.mm(grad_SX[start:stop].t(), x_SD[start:stop], out=grad_weight_EXD[expert])
        return grad_x_SD, grad_weight_EXD, None


def _any_network(x_SD: Tensor, weight_S: Tensor, experts: Experts, expert_S: Tensor, ends: list[int]) -> Tensor:
    """Networks with biases or another activation: grouped products by hand, the rest in autograd's words."""
    hidden_SX: Tensor = _GroupedLinear.apply(x_SD, experts.gate_up_EXD, ends)  # type: ignore[no-untyped-call]
    if experts.gate_up_bias_EX is not None:
        hidden_SX = hidden_SX + experts.gate_up_bias_EX.index_select(0, expert_S)
    hidden_SF = activate(experts.activation, hidden_SX)
    y_SD: Tensor = _GroupedLinear.apply(hidden_SF, experts.down_EDF, ends)  # type: ignore[no-untyped-call]
    if experts.down_bias_ED is not None:
        y_SD = y_SD + experts.down_bias_ED.index_select(0, expert_S)
    return y_SD * weight_S[:, None]


def _groups(ends: list[int]) -> zip[tuple[int, int]]:
    """(start, stop) of each expert's rows."""
    return zip([0, *ends[:-1]], ends, strict=True)
