"""The road of CPUs: pairs sorted by expert, one product per expert and direction, gradients written once, by hand.

It chooses by shape, as measured (`nox -s bench`):

- a decoding step of few pairs copies out the pairs' weights when they are small, or goes pair by pair;
- many tokens go through `chunked`, which keeps each expert's rows in the cache from gather to product;
- everything else is the plain sorted road below.

Group sizes are read on the host, so it is meant for CPUs.

Legend: T tokens, D width, F expert hidden, X rows of the input projection, E experts, N routed pairs, S sorted pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.model.experts.chunked import chunked
from moebench.model.experts.dispatch import by_expert, combine, dispatch, groups
from moebench.model.experts.weights import Experts, activate, swiglu
from moebench.model.routers import Routing

GATHERED_EXPERT_BYTES, GATHERED_BYTES = 2**15, 2**20
"""Experts this small, and this much of them in all, are copied out for few pairs: cheaper than a product an expert."""
SINGLE_PAIRS = 8
"""Up to this many pairs of larger experts are computed one by one when no gradient is wanted."""
CHUNKED_BYTES = 2**23
"""From this many bytes of sorted rows on they would leave the cache between one operation and the next."""


def sorted_loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """The fastest road of a CPU for this shape."""
    num_pairs = routing.expert_N.numel()
    if not torch.is_grad_enabled():
        small = experts.bytes_each <= GATHERED_EXPERT_BYTES
        if small and num_pairs * experts.bytes_each <= GATHERED_BYTES:
            return _gathered(x_TD, routing, experts)
        if num_pairs <= SINGLE_PAIRS:
            return _singly(x_TD, routing, experts)
    if (
        experts.plain
        and routing.per_token is not None
        and num_pairs * x_TD.shape[1] * x_TD.element_size() >= CHUNKED_BYTES
    ):
        return chunked(x_TD, routing, experts)
    return _sorted(x_TD, routing, experts)


# ------------------------------------------------------------------------------------------ the plain road


def _sorted(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    order_S, ends_E = by_expert(routing, num_experts=experts.num_experts)
    x_SD = dispatch(x_TD, routing, order_S)
    weight_S, ends = routing.weight_N[order_S].to(x_TD.dtype), ends_E.tolist()
    if experts.plain:
        weights = (experts.gate_up_EXD, experts.down_EDF)
        y_SD: Tensor = _SortedExperts.apply(x_SD, weight_S, *weights, ends)  # type: ignore[no-untyped-call]
    else:
        y_SD = _any_network(x_SD, weight_S, experts, routing.expert_N[order_S], ends)
    return combine(y_SD, routing, order_S, num_tokens=x_TD.shape[0])


class _SortedExperts(torch.autograd.Function):
    """Pairs sorted by expert, one matrix product per expert and direction, gradients written in place."""

    @staticmethod
    def forward(
        ctx: Any, x_SD: Tensor, weight_S: Tensor, gate_up_E2FD: Tensor, down_EDF: Tensor, ends: list[int]
    ) -> Tensor:
        gate_up_S2F = x_SD.new_empty(x_SD.shape[0], gate_up_E2FD.shape[1])
        out_SD = torch.empty_like(x_SD)
        for expert, (start, stop) in enumerate(groups(ends)):
            torch.mm(x_SD[start:stop], gate_up_E2FD[expert].t(), out=gate_up_S2F[start:stop])
        hidden_SF = swiglu(gate_up_S2F)
        for expert, (start, stop) in enumerate(groups(ends)):
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
        for expert, (start, stop) in enumerate(groups(ctx.ends)):
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
        for expert, (start, stop) in enumerate(groups(ctx.ends)):
            torch.mm(grad_gate_up_S2F[start:stop], gate_up_E2FD[expert], out=grad_x_SD[start:stop])
            torch.mm(grad_gate_up_S2F[start:stop].t(), x_SD[start:stop], out=grad_gate_up_E2FD[expert])
            torch.mm(grad_out_SD[start:stop].t(), weighted_hidden_SF[start:stop], out=grad_down_EDF[expert])
        return grad_x_SD, grad_weight_S, grad_gate_up_E2FD, grad_down_EDF, None


class _GroupedLinear(torch.autograd.Function):
    """y = x W[expert]^T for rows sorted by expert, one product per expert and direction."""

    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, weight_EXD: Tensor, ends: list[int]) -> Tensor:
        y_SX = x_SD.new_empty(x_SD.shape[0], weight_EXD.shape[1])
        for expert, (start, stop) in enumerate(groups(ends)):
            torch.mm(x_SD[start:stop], weight_EXD[expert].t(), out=y_SX[start:stop])
        ctx.save_for_backward(x_SD, weight_EXD)
        ctx.ends = ends
        return y_SX

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_SD, weight_EXD = ctx.saved_tensors
        grad_SX = grads[0].contiguous()
        grad_x_SD, grad_weight_EXD = torch.empty_like(x_SD), torch.empty_like(weight_EXD)
        for expert, (start, stop) in enumerate(groups(ctx.ends)):
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


# ------------------------------------------------------------------------------------------ few pairs


def _gathered(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Every pair's own copy of its expert's weights, and two batched products; forward alone."""
    x_ND1 = x_TD.index_select(0, routing.token_N).unsqueeze(2)
    hidden_NX = torch.bmm(experts.gate_up_EXD.index_select(0, routing.expert_N), x_ND1).squeeze(2)
    if experts.gate_up_bias_EX is not None:
        hidden_NX = hidden_NX + experts.gate_up_bias_EX.index_select(0, routing.expert_N)
    hidden_NF = activate(experts.activation, hidden_NX)
    y_ND = torch.bmm(experts.down_EDF.index_select(0, routing.expert_N), hidden_NF.unsqueeze(2)).squeeze(2)
    if experts.down_bias_ED is not None:
        y_ND = y_ND + experts.down_bias_ED.index_select(0, routing.expert_N)
    y_ND = y_ND * routing.weight_N[:, None].to(y_ND.dtype)
    if routing.per_token is None:
        return torch.zeros_like(x_TD).index_add(0, routing.token_N, y_ND)
    return y_ND.view(-1, routing.per_token, y_ND.shape[1]).sum(1)


def _singly(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """One pair after the other, reading only the weights of the experts used; forward alone."""
    out_TD = torch.zeros_like(x_TD)
    for token, expert, weight in zip(
        routing.token_N.tolist(), routing.expert_N.tolist(), routing.weight_N, strict=True
    ):
        gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
        down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
        hidden_F = activate(experts.activation, F.linear(x_TD[token], experts.gate_up_EXD[expert], gate_up_bias_X))
        out_TD[token].addcmul_(F.linear(hidden_F, experts.down_EDF[expert], down_bias_D), weight.to(out_TD.dtype))
    return out_TD
