"""Expert compute: the same sum over routed pairs, by several roads.

    out[t] = sum over pairs n of token t:  weight[n] * down[e(n)] (silu(gate[e(n)] x[t]) * up[e(n)] x[t])

`loop` is the oracle: plain autograd, one expert after the other. `sorted` groups the pairs by expert, runs one product
per expert and writes every gradient once, by hand. `grouped_mm` hands the groups to torch's grouped product, which
never asks the host for the group sizes: the road on CUDA. All are deterministic on a CPU.

Legend: T tokens, D width, F expert hidden, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.model.routers import Routing


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Weights of all experts of a layer, in the dtype of the products."""

    gate_up_EXD: Tensor
    """Input projections; gate rows first, then up rows, when gated."""
    down_EDF: Tensor
    activation: str
    """A word of `spec.activations`."""
    gate_up_bias_EX: Tensor | None = None
    down_bias_ED: Tensor | None = None

    @property
    def plain(self) -> bool:
        """SwiGLU without biases: what the hand-written road computes."""
        return self.activation == "swiglu" and self.gate_up_bias_EX is None


Backend = Callable[[Tensor, Routing, Experts], Tensor]
"""(x_TD, routing, experts) -> out_TD"""


def swiglu(gate_up_N2F: Tensor) -> Tensor:
    """silu(gate) * up of a fused projection (Shazeer 2020, arXiv:2002.05202)."""
    gate_NF, up_NF = gate_up_N2F.chunk(2, dim=-1)
    return F.silu(gate_NF) * up_NF


CLAMP, ALPHA = 7.0, 1.702
"""Of gpt-oss's activation."""


def activate(word: str, hidden_NX: Tensor) -> Tensor:
    """The activation of a suite's word on a (fused) input projection: [N, 2F] -> [N, F] when gated, else [N, F]."""
    if word == "swiglu":
        return swiglu(hidden_NX)
    if word == "relu":
        return F.relu(hidden_NX)
    if word == "gelu":
        return F.gelu(hidden_NX)
    gate_NF, up_NF = hidden_NX.chunk(2, dim=-1)
    if word == "geglu":
        return F.gelu(gate_NF) * up_NF
    if word == "swiglu_clamped":
        gate_NF, up_NF = gate_NF.clamp(max=CLAMP), up_NF.clamp(-CLAMP, CLAMP)
        return (up_NF + 1) * gate_NF * (ALPHA * gate_NF).sigmoid()
    raise KeyError(f"unknown activation {word!r}")


def loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """One expert after the other, in autograd's own words."""
    out_TD = torch.zeros_like(x_TD)
    # unbind, not weight[e]: the backward of an index fills a gradient of all experts with zeros, once per expert.
    weights = zip(experts.gate_up_EXD.unbind(), experts.down_EDF.unbind(), strict=True)
    for expert, (gate_up_XD, down_DF) in enumerate(weights):
        pairs = (routing.expert_N == expert).nonzero().squeeze(1)
        token = routing.token_N[pairs]
        gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
        down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
        y = F.linear(
            activate(experts.activation, F.linear(x_TD[token], gate_up_XD, gate_up_bias_X)), down_DF, down_bias_D
        )
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


def sorted_loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Pairs sorted by expert; backward by hand. Reads the group sizes on the host, so it is meant for CPUs.

    A decoding step has few pairs and is all overhead: it takes the road of `_gathered` instead.
    """
    gate_up_EXD, down_EDF = experts.gate_up_EXD, experts.down_EDF
    few = routing.expert_N.numel() * _expert_bytes(gate_up_EXD, down_EDF) <= GATHERED_BYTES
    if few and not torch.is_grad_enabled():
        return _gathered(x_TD, routing, experts)
    order_S, ends_E = _by_expert(routing, num_experts=gate_up_EXD.shape[0])
    x_SD = _dispatch(x_TD, routing, order_S)
    weight_S, ends = routing.weight_N[order_S].to(x_TD.dtype), ends_E.tolist()
    if experts.plain:
        y_SD: Tensor = _SortedExperts.apply(x_SD, weight_S, gate_up_EXD, down_EDF, ends)  # type: ignore[no-untyped-call]
    else:
        y_SD = _any_network(x_SD, weight_S, experts, routing.expert_N[order_S], ends)
    return _combine(y_SD, routing, order_S, num_tokens=x_TD.shape[0])


GATHERED_BYTES = 2**20
"""Up to this many bytes of weights are copied out for a few pairs, which is cheaper than a product per expert."""


def _expert_bytes(gate_up_E2FD: Tensor, down_EDF: Tensor) -> int:
    return (gate_up_E2FD[0].numel() + down_EDF[0].numel()) * gate_up_E2FD.element_size()


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


def grouped_mm(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """torch's grouped product over pairs sorted by expert: no host synchronisation.

    Row strides must be multiples of 16 bytes (widths of 4 in float32, 8 in bfloat16); torch raises otherwise.
    """
    order_S, ends_E = _by_expert(routing, num_experts=experts.gate_up_EXD.shape[0])
    x_SD, expert_S = _dispatch(x_TD, routing, order_S), routing.expert_N[order_S]
    hidden_SX = F.grouped_mm(x_SD, experts.gate_up_EXD.transpose(1, 2), offs=ends_E)
    if experts.gate_up_bias_EX is not None:
        hidden_SX = hidden_SX + experts.gate_up_bias_EX.index_select(0, expert_S)
    hidden_SF = activate(experts.activation, hidden_SX)
    y_SD = F.grouped_mm(hidden_SF, experts.down_EDF.transpose(1, 2), offs=ends_E)
    if experts.down_bias_ED is not None:
        y_SD = y_SD + experts.down_bias_ED.index_select(0, expert_S)
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
