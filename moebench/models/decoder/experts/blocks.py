"""Many tokens on a CPU: assignments sorted by expert, in blocks whose rows stay in the cache, backward by hand.

A block's rows are gathered, multiplied, activated, multiplied again and added to their tokens before the next block
comes; whole-batch copies of k T rows, which at 64 experts top-8 cost as much as the products, are never made, and the
backward gathers again instead of keeping what was gathered. Small batches are one block: few operations in all.

Weights that no cache holds are read in order just before a product of few rows, and a gradient is zeroed just before it
is written: the product's own order of reading and writing is no friend of memory (22 to 40% faster at 4 to 8 rows an
expert, 5% at 64 to 128). No such choice changes a bit of any product.

Legend: T tokens, D width, X rows of the input projection, F expert hidden, E experts, S sorted assignments, R rows
(of a block).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder.experts.activations import activate, back_through
from moebench.models.decoder.experts.dispatch import inverse
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing

BLOCK_BYTES = 2**21
"""Of the rows of a block, all their stages together; 2**19 to 2**21 took the same time, 2**22 more."""
SUMMED_BYTES = 2**23
"""Up to this many bytes of outputs are kept for one sum over each token's experts; more are added block by block."""
CACHED_BYTES = 2**22
"""Weights of a layer beyond this leave the cache between one step and the next."""
FEW_ROWS = 256
"""Rows of an expert up to which reading its weights first pays."""


class Part(NamedTuple):
    """One expert's rows within a block."""

    expert: int
    first: int
    last: int


class Block(NamedTuple):
    """Rows `start` to `stop` of the sorted assignments, and the experts they belong to."""

    start: int
    stop: int
    parts: list[Part]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is computed in which order; the same for forward and backward."""

    order_S: Tensor
    """Assignments sorted by expert."""
    token_S: Tensor
    expert_S: Tensor
    blocks: list[Block]
    rows_TK: Tensor | None
    """Where each token's rows are, when one sum takes them; None when blocks add theirs one after the other."""
    idle: list[int]
    """Experts without rows."""
    cold: bool
    """Whether weights have left the cache."""
    read_first: bool
    activation: str


def blocks(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Any activation, biases, and any number of assignments a token."""
    work = _plan(x_TD, routing, experts)
    weights = (experts.gate_up_EXD, experts.down_EDF, experts.gate_up_bias_EX, experts.down_bias_ED)
    if not torch.is_grad_enabled():
        return _forward(x_TD, routing.weight_N.to(x_TD.dtype)[work.order_S], *weights, work, kept_SX=None)
    out_TD: Tensor = _Blocks.apply(x_TD, routing.weight_N, *weights, work)  # type: ignore[no-untyped-call]
    return out_TD


def _plan(x_TD: Tensor, routing: Routing, experts: Experts) -> Work:
    rows_E = torch.bincount(routing.expert_N, minlength=experts.num_experts).tolist()
    expert_S, order_S = routing.expert_N.sort(stable=True)
    width, hidden, size = x_TD.shape[1], experts.down_EDF.shape[2], x_TD.element_size()
    row_bytes = size * (2 * width + experts.gate_up_EXD.shape[1] + 3 * hidden)
    summed = routing.per_token is not None and expert_S.numel() * width * size <= SUMMED_BYTES
    idle = [expert for expert, rows in enumerate(rows_E) if not rows]
    cold = experts.bytes_each * experts.num_experts > CACHED_BYTES
    return Work(
        order_S=order_S,
        token_S=routing.token_N[order_S],
        expert_S=expert_S,
        blocks=list(cut(rows_E, most=max(1, BLOCK_BYTES // row_bytes))),
        rows_TK=inverse(order_S).view(-1, routing.per_token or 1) if summed else None,
        idle=idle,
        cold=cold,
        read_first=cold and expert_S.numel() <= FEW_ROWS * (len(rows_E) - len(idle)),
        activation=experts.activation,
    )


def cut(rows_E: list[int], *, most: int) -> Iterator[Block]:
    """Blocks of consecutive experts of at most `most` rows together; an expert is never cut."""
    start, stop, parts = 0, 0, list[Part]()
    for expert, rows in enumerate(rows_E):
        if not rows:
            continue
        if parts and stop - start + rows > most:
            yield Block(start, stop, parts)
            start, parts = stop, []
        parts.append(Part(expert, stop - start, stop - start + rows))
        stop += rows
    if parts:
        yield Block(start, stop, parts)


def _forward(
    x_TD: Tensor,
    weight_S: Tensor,
    gate_up_EXD: Tensor,
    down_EDF: Tensor,
    gate_up_bias_EX: Tensor | None,
    down_bias_ED: Tensor | None,
    work: Work,
    *,
    kept_SX: Tensor | None,
) -> Tensor:
    """The layer's output; fills `kept_SX` with the input projections when there is one."""
    gate_ups, downs, weight_S1 = gate_up_EXD.unbind(), down_EDF.unbind(), weight_S[:, None]
    y_SD, out_TD = _sums(x_TD, work)
    for start, stop, parts in work.blocks:
        token_R = work.token_S[start:stop]
        x_RD = x_TD.index_select(0, token_R)
        hidden_RX = x_TD.new_empty(stop - start, gate_up_EXD.shape[1]) if kept_SX is None else kept_SX[start:stop]
        for expert, first, last in parts:
            if work.read_first:
                gate_ups[expert].sum()
            torch.mm(x_RD[first:last], gate_ups[expert].t(), out=hidden_RX[first:last])
        if gate_up_bias_EX is not None:
            hidden_RX += gate_up_bias_EX.index_select(0, work.expert_S[start:stop])
        hidden_RF = activate(work.activation, hidden_RX)
        y_RD = torch.empty_like(x_RD) if y_SD is None else y_SD[start:stop]
        for expert, first, last in parts:
            if work.read_first:
                downs[expert].sum()
            torch.mm(hidden_RF[first:last], downs[expert].t(), out=y_RD[first:last])
        if down_bias_ED is not None:
            y_RD += down_bias_ED.index_select(0, work.expert_S[start:stop])
        y_RD.mul_(weight_S1[start:stop])
        if out_TD is not None:
            out_TD.index_add_(0, token_R, y_RD)
    return _summed(y_SD, out_TD, work)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        weight_N: Tensor,
        gate_up_EXD: Tensor,
        down_EDF: Tensor,
        gate_up_bias_EX: Tensor | None,
        down_bias_ED: Tensor | None,
        work: Work,
    ) -> Tensor:
        weight_S = weight_N.to(x_TD.dtype)[work.order_S]
        hidden_SX = x_TD.new_empty(weight_S.numel(), gate_up_EXD.shape[1])
        weights = (gate_up_EXD, down_EDF, gate_up_bias_EX, down_bias_ED)
        out_TD = _forward(x_TD, weight_S, *weights, work, kept_SX=hidden_SX)
        ctx.save_for_backward(x_TD, weight_N, weight_S, *weights, hidden_SX)
        ctx.work = work
        return out_TD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_TD, weight_N, weight_S, gate_up_EXD, down_EDF, gate_up_bias_EX, down_bias_ED, hidden_SX = ctx.saved_tensors
        work: Work = ctx.work
        grad_TD, weight_S1 = grads[0].contiguous(), weight_S[:, None]
        gate_ups, downs = gate_up_EXD.unbind(), down_EDF.unbind()
        grad_gate_up_EXD, grad_down_EDF = _gradient(gate_up_EXD, work), _gradient(down_EDF, work)
        grad_gate_ups, grad_downs = grad_gate_up_EXD.unbind(), grad_down_EDF.unbind()
        grad_gate_up_bias_EX = None if gate_up_bias_EX is None else torch.zeros_like(gate_up_bias_EX)
        grad_down_bias_ED = None if down_bias_ED is None else torch.zeros_like(down_bias_ED)
        grad_weight_S = torch.empty_like(weight_S)
        grad_x_SD, grad_x_TD = _sums(x_TD, work)
        for start, stop, parts in work.blocks:
            token_R, expert_R, weight_R1 = work.token_S[start:stop], work.expert_S[start:stop], weight_S1[start:stop]
            grad_RD = grad_TD.index_select(0, token_R)
            grad_RF = x_TD.new_empty(stop - start, down_EDF.shape[2])
            for expert, first, last in parts:
                if work.read_first:
                    downs[expert].sum()
                torch.mm(grad_RD[first:last], downs[expert], out=grad_RF[first:last])
            hidden_RF, grad_weight_R, grad_RX = back_through(work.activation, hidden_SX[start:stop], grad_RF, weight_R1)
            grad_weight_S[start:stop] = grad_weight_R
            if grad_down_bias_ED is not None:
                grad_weight_S[start:stop] += (grad_RD * down_bias_ED.index_select(0, expert_R)).sum(1)
                grad_down_bias_ED.index_add_(0, expert_R, grad_RD * weight_R1)
            if grad_gate_up_bias_EX is not None:
                grad_gate_up_bias_EX.index_add_(0, expert_R, grad_RX)
            x_RD = x_TD.index_select(0, token_R)
            grad_x_RD = torch.empty_like(x_RD) if grad_x_SD is None else grad_x_SD[start:stop]
            for expert, first, last in parts:
                if work.read_first:
                    gate_ups[expert].sum()
                if work.cold:
                    grad_gate_ups[expert].zero_()
                    grad_downs[expert].zero_()
                grad_PX = grad_RX[first:last]
                torch.mm(grad_PX, gate_ups[expert], out=grad_x_RD[first:last])
                torch.mm(grad_PX.t(), x_RD[first:last], out=grad_gate_ups[expert])
                torch.mm(grad_RD[first:last].t(), hidden_RF[first:last], out=grad_downs[expert])
            if grad_x_TD is not None:
                grad_x_TD.index_add_(0, token_R, grad_x_RD)
        grad_weight_N = torch.empty_like(weight_N).index_copy_(0, work.order_S, grad_weight_S.to(weight_N.dtype))
        weights = (grad_gate_up_EXD, grad_down_EDF, grad_gate_up_bias_EX, grad_down_bias_ED)
        return _summed(grad_x_SD, grad_x_TD, work), grad_weight_N, *weights, None


def _gradient(weight_EAB: Tensor, work: Work) -> Tensor:
    """Room for a gradient, zero where no row will come."""
    grad_EAB = torch.empty_like(weight_EAB)
    for expert in work.idle:
        grad_EAB[expert].zero_()
    return grad_EAB


def _sums(x_TD: Tensor, work: Work) -> tuple[Tensor | None, Tensor | None]:
    """(room for all rows, None) when one sum takes them in the end, else (None, zeros to add to)."""
    if work.rows_TK is not None:
        return x_TD.new_empty(work.order_S.numel(), x_TD.shape[1]), None
    return None, torch.zeros_like(x_TD, memory_format=torch.contiguous_format)


def _summed(rows_SD: Tensor | None, total_TD: Tensor | None, work: Work) -> Tensor:
    """The sum of each token's rows; two rows add up to the same bits either way."""
    if total_TD is not None:
        return total_TD
    assert rows_SD is not None
    assert work.rows_TK is not None
    return F.embedding_bag(work.rows_TK, rows_SD, mode="sum")
