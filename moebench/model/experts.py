"""Expert compute: the same sum over routed pairs, by several roads.

    out[t] = sum over pairs n of token t:  weight[n] * down[e(n)] (silu(gate[e(n)] x[t]) * up[e(n)] x[t])

`loop` is the oracle: plain autograd, one expert after the other. `sorted` groups the pairs by expert, runs one product
per expert and writes every gradient once, by hand. `grouped_mm` hands the groups to torch's grouped product, which
never asks the host for the group sizes: the road on CUDA. All are deterministic on a CPU.

Legend: T tokens, D width, F expert hidden, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.model.routers import Routing

Backend = Callable[[Tensor, Routing, Tensor, Tensor], Tensor]
"""(x_TD, routing, gate_up_E2FD, down_EDF) -> out_TD"""


def swiglu(gate_up_N2F: Tensor) -> Tensor:
    """silu(gate) * up of a fused projection (Shazeer 2020, arXiv:2002.05202)."""
    gate_NF, up_NF = gate_up_N2F.chunk(2, dim=-1)
    return F.silu(gate_NF) * up_NF


def loop(x_TD: Tensor, routing: Routing, gate_up_E2FD: Tensor, down_EDF: Tensor) -> Tensor:
    """One expert after the other, in autograd's own words."""
    out_TD = torch.zeros_like(x_TD)
    # unbind, not weight[e]: the backward of an index fills a gradient of all experts with zeros, once per expert.
    for expert, (gate_up_2FD, down_DF) in enumerate(zip(gate_up_E2FD.unbind(), down_EDF.unbind(), strict=True)):
        pairs = (routing.expert_N == expert).nonzero().squeeze(1)
        token = routing.token_N[pairs]
        y = F.linear(swiglu(F.linear(x_TD[token], gate_up_2FD)), down_DF)
        out_TD = out_TD.index_add(0, token, y * routing.weight_N[pairs, None].to(y.dtype))
    return out_TD


class _SortedExperts(torch.autograd.Function):
    """Pairs sorted by expert, one matrix product per expert and direction, gradients written in place."""

    @staticmethod
    def forward(
        ctx: Any, x_SD: Tensor, weight_S: Tensor, gate_up_E2FD: Tensor, down_EDF: Tensor, ends: list[int]
    ) -> Tensor:
        gate_up_S2F = x_SD.new_empty(x_SD.shape[0], gate_up_E2FD.shape[1])
        out_SD = torch.empty_like(x_SD)
        for expert, (start, stop) in enumerate(_groups(ends)):
            torch.mm(x_SD[start:stop], gate_up_E2FD[expert].t(), out=gate_up_S2F[start:stop])
        hidden_SF = swiglu(gate_up_S2F)
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


def _groups(ends: list[int]) -> zip[tuple[int, int]]:
    return zip([0, *ends[:-1]], ends, strict=True)


def sorted_loop(x_TD: Tensor, routing: Routing, gate_up_E2FD: Tensor, down_EDF: Tensor) -> Tensor:
    """Pairs sorted by expert; backward by hand. Reads the group sizes on the host, so it is meant for CPUs.

    A decoding step has few pairs and is all overhead: it takes the road of `_gathered` instead.
    """
    if (
        not torch.is_grad_enabled()
        and routing.expert_N.numel() * _expert_bytes(gate_up_E2FD, down_EDF) <= GATHERED_BYTES
    ):
        return _gathered(x_TD, routing, gate_up_E2FD, down_EDF)
    order_S, ends_E = _by_expert(routing, num_experts=gate_up_E2FD.shape[0])
    x_SD = _dispatch(x_TD, routing, order_S)
    weight_S = routing.weight_N[order_S].to(x_TD.dtype)
    y_SD: Tensor = _SortedExperts.apply(x_SD, weight_S, gate_up_E2FD, down_EDF, ends_E.tolist())  # type: ignore[no-untyped-call]
    return _combine(y_SD, routing, order_S, num_tokens=x_TD.shape[0])


GATHERED_BYTES = 2**20
"""Up to this many bytes of weights are copied out for a few pairs, which is cheaper than a product per expert."""


def _expert_bytes(gate_up_E2FD: Tensor, down_EDF: Tensor) -> int:
    return (gate_up_E2FD[0].numel() + down_EDF[0].numel()) * gate_up_E2FD.element_size()


def _gathered(x_TD: Tensor, routing: Routing, gate_up_E2FD: Tensor, down_EDF: Tensor) -> Tensor:
    """Every pair's own copy of its expert's weights, and two batched products; forward alone."""
    x_ND1 = x_TD.index_select(0, routing.token_N).unsqueeze(2)
    hidden_NF = swiglu(torch.bmm(gate_up_E2FD.index_select(0, routing.expert_N), x_ND1).squeeze(2))
    y_ND = torch.bmm(down_EDF.index_select(0, routing.expert_N), hidden_NF.unsqueeze(2)).squeeze(2)
    y_ND = y_ND * routing.weight_N[:, None].to(y_ND.dtype)
    if routing.per_token is None:
        return torch.zeros_like(x_TD).index_add(0, routing.token_N, y_ND)
    return y_ND.view(-1, routing.per_token, y_ND.shape[1]).sum(1)


def grouped_mm(x_TD: Tensor, routing: Routing, gate_up_E2FD: Tensor, down_EDF: Tensor) -> Tensor:
    """torch's grouped product over pairs sorted by expert: no host synchronisation.

    Row strides must be multiples of 16 bytes (widths of 4 in float32, 8 in bfloat16); torch raises otherwise.
    """
    order_S, ends_E = _by_expert(routing, num_experts=gate_up_E2FD.shape[0])
    x_SD = _dispatch(x_TD, routing, order_S)
    hidden_SF = swiglu(F.grouped_mm(x_SD, gate_up_E2FD.transpose(1, 2), offs=ends_E))
    y_SD = F.grouped_mm(hidden_SF, down_EDF.transpose(1, 2), offs=ends_E)
    return _combine(y_SD * routing.weight_N[order_S, None].to(y_SD.dtype), routing, order_S, num_tokens=x_TD.shape[0])


def _by_expert(routing: Routing, *, num_experts: int) -> tuple[Tensor, Tensor]:
    """Order of the pairs grouped by expert (stable), and the end of each expert's group, int32."""
    order_S = routing.expert_N.argsort(stable=True)
    return order_S, torch.bincount(routing.expert_N, minlength=num_experts).cumsum(0).to(torch.int32)


class _Gather(torch.autograd.Function):
    """rows = x[index], whose backward is a gather and a sum over k instead of a scatter of rows.

    Valid when every token has exactly `per_token` pairs in token order; `inverse_N` undoes the sorting.
    """

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_S: Tensor, inverse_N: Tensor, per_token: int) -> Tensor:
        ctx.save_for_backward(inverse_N)
        ctx.per_token = per_token
        return x_TD.index_select(0, token_S)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse_N,) = ctx.saved_tensors
        rows_ND = grads[0].index_select(0, inverse_N)
        return rows_ND.view(-1, ctx.per_token, rows_ND.shape[1]).sum(1), None, None, None


class _SumPairs(torch.autograd.Function):
    """out[t] = sum of token t's rows; the backward repeats a row instead of scattering it."""

    @staticmethod
    def forward(ctx: Any, y_SD: Tensor, token_S: Tensor, inverse_N: Tensor, per_token: int) -> Tensor:
        ctx.save_for_backward(token_S)
        return y_SD.index_select(0, inverse_N).view(-1, per_token, y_SD.shape[1]).sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (token_S,) = ctx.saved_tensors
        return grads[0].index_select(0, token_S), None, None, None


def _inverse(order_S: Tensor) -> Tensor:
    inverse_N = torch.empty_like(order_S)
    inverse_N[order_S] = torch.arange(order_S.numel(), device=order_S.device)
    return inverse_N


def _dispatch(x_TD: Tensor, routing: Routing, order_S: Tensor) -> Tensor:
    token_S = routing.token_N[order_S]
    if routing.per_token is None:
        return x_TD.index_select(0, token_S)
    rows: Tensor = _Gather.apply(x_TD, token_S, _inverse(order_S), routing.per_token)  # type: ignore[no-untyped-call]
    return rows


def _combine(y_SD: Tensor, routing: Routing, order_S: Tensor, *, num_tokens: int) -> Tensor:
    token_S = routing.token_N[order_S]
    if routing.per_token is None:
        return y_SD.new_zeros(num_tokens, y_SD.shape[1]).index_add(0, token_S, y_SD)
    out: Tensor = _SumPairs.apply(y_SD, token_S, _inverse(order_S), routing.per_token)  # type: ignore[no-untyped-call]
    return out


BACKENDS: dict[str, Backend] = {
    "loop": loop,
    "sorted": sorted_loop,
    "grouped_mm": grouped_mm,
}


def default_backend(device: str) -> str:
    """The fastest backend measured for a device type; it is named in every run's identity."""
    return "grouped_mm" if device == "cuda" else "sorted"
