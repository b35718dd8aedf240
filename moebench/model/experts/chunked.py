"""Many tokens through plain SwiGLU experts, chunk by chunk, so that rows stay in the cache from gather to product.

The plain sorted road copies all k T rows of x, of y and of their gradients once more for each operation, and at
64 experts top-8 those copies cost as much as the products. Here a chunk of one expert's rows is gathered into a small
buffer, multiplied, activated and multiplied again before the next one comes; the backward gathers again instead of
keeping what was gathered. The sum over a token's experts is `embedding_bag`: a gather, a scaling and a sum in one pass.

Legend: T tokens, D width, F expert hidden, X = 2F, E experts, K top-k, S = T K pairs sorted by expert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.model.experts.dispatch import by_expert, groups, inverse
from moebench.model.experts.weights import Experts
from moebench.model.routers import Routing

CHUNK_ROWS = 512
"""Most rows at once: at width 512 and 8 experts 256, 512 and 1024 took the same time."""


def chunked(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Every token has `per_token` pairs, and the experts are plain SwiGLU."""
    assert experts.plain
    assert routing.per_token is not None
    order_S, ends_E = by_expert(routing, num_experts=experts.num_experts)
    weight_TK = routing.weight_N.to(x_TD.dtype).view(-1, routing.per_token)
    weights = (experts.gate_up_EXD, experts.down_EDF)
    out: Tensor = _Chunked.apply(x_TD, weight_TK, *weights, order_S, ends_E.tolist())  # type: ignore[no-untyped-call]
    return out


def _chunks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Equal parts of at most CHUNK_ROWS rows."""
    parts = -(-(stop - start) // CHUNK_ROWS)
    for part in range(parts):
        yield start + (stop - start) * part // parts, start + (stop - start) * (part + 1) // parts


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_TD: Tensor,
        weight_TK: Tensor,
        gate_up_EXD: Tensor,
        down_EDF: Tensor,
        order_S: Tensor,
        ends: list[int],
    ) -> Tensor:
        token_S = order_S // weight_TK.shape[1]
        num_pairs, hidden = order_S.numel(), down_EDF.shape[2]
        gate_up_SX = x_TD.new_empty(num_pairs, 2 * hidden)
        y_SD = x_TD.new_empty(num_pairs, x_TD.shape[1])
        rows = min(CHUNK_ROWS, num_pairs)
        x_buffer, hidden_buffer = x_TD.new_empty(rows, x_TD.shape[1]), x_TD.new_empty(rows, hidden)
        for expert, group in enumerate(groups(ends)):
            for start, stop in _chunks(*group):
                x_RD, hidden_RF, gate_up_RX = (
                    x_buffer[: stop - start],
                    hidden_buffer[: stop - start],
                    gate_up_SX[start:stop],
                )
                torch.index_select(x_TD, 0, token_S[start:stop], out=x_RD)
                torch.mm(x_RD, gate_up_EXD[expert].t(), out=gate_up_RX)
                gate_RF, up_RF = gate_up_RX[:, :hidden], gate_up_RX[:, hidden:]
                torch.sigmoid(gate_RF, out=hidden_RF).mul_(gate_RF).mul_(up_RF)
                torch.mm(hidden_RF, down_EDF[expert].t(), out=y_SD[start:stop])
        inverse_TK = inverse(order_S).view_as(weight_TK)
        ctx.save_for_backward(x_TD, weight_TK, gate_up_EXD, down_EDF, gate_up_SX, order_S, token_S, inverse_TK)
        ctx.ends = ends
        return F.embedding_bag(inverse_TK, y_SD, mode="sum", per_sample_weights=weight_TK)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        x_TD, weight_TK, gate_up_EXD, down_EDF, gate_up_SX, order_S, token_S, inverse_TK = ctx.saved_tensors
        grad_TD = grads[0].contiguous()
        hidden, width = down_EDF.shape[2], x_TD.shape[1]
        weight_S = weight_TK.reshape(-1)[order_S]
        grad_x_SD, grad_weight_S = x_TD.new_empty(order_S.numel(), width), torch.empty_like(weight_S)
        grad_gate_up_EXD, grad_down_EDF = torch.empty_like(gate_up_EXD), torch.empty_like(down_EDF)
        rows = min(CHUNK_ROWS, order_S.numel())
        row_buffer, gate_up_buffer = x_TD.new_empty(rows, width), x_TD.new_empty(rows, 2 * hidden)
        buffers = [x_TD.new_empty(rows, hidden) for _ in range(3)]
        for expert, (first, last) in enumerate(groups(ctx.ends)):
            if first == last:  # an expert without tokens still has gradients, of zero
                grad_gate_up_EXD[expert].zero_()
                grad_down_EDF[expert].zero_()
            for start, stop in _chunks(first, last):
                added = float(start > first)
                row_RD, grad_gate_up_RX = row_buffer[: stop - start], gate_up_buffer[: stop - start]
                grad_hidden_RF, sigmoid_RF, silu_RF = (buffer[: stop - start] for buffer in buffers)
                gate_RF, up_RF = gate_up_SX[start:stop, :hidden], gate_up_SX[start:stop, hidden:]
                grad_gate_RF, grad_up_RF = grad_gate_up_RX[:, :hidden], grad_gate_up_RX[:, hidden:]
                torch.index_select(grad_TD, 0, token_S[start:stop], out=row_RD)
                torch.mm(row_RD, down_EDF[expert], out=grad_hidden_RF)
                torch.sigmoid(gate_RF, out=sigmoid_RF)
                torch.mul(gate_RF, sigmoid_RF, out=silu_RF)
                hidden_RF = torch.mul(silu_RF, up_RF, out=grad_up_RF)  # stands there until the gradient is due
                # d(out)/d(weight) = grad . (down hidden) = (down^T grad) . hidden: the unweighted output is not kept.
                torch.sum(grad_hidden_RF * hidden_RF, 1, out=grad_weight_S[start:stop])
                grad_hidden_RF.mul_(weight_S[start:stop, None])
                hidden_RF.mul_(weight_S[start:stop, None])
                _add_product(grad_down_EDF[expert], row_RD, hidden_RF, added=added)
                torch.mul(grad_hidden_RF, silu_RF, out=grad_up_RF)
                # d silu(g) / dg = sigmoid(g) + silu(g) (1 - sigmoid(g))
                torch.sub(1, sigmoid_RF, out=grad_gate_RF)
                grad_gate_RF.mul_(silu_RF).add_(sigmoid_RF).mul_(up_RF).mul_(grad_hidden_RF)
                torch.index_select(x_TD, 0, token_S[start:stop], out=row_RD)
                _add_product(grad_gate_up_EXD[expert], grad_gate_up_RX, row_RD, added=added)
                torch.mm(grad_gate_up_RX, gate_up_EXD[expert], out=grad_x_SD[start:stop])
        grad_x_TD = F.embedding_bag(inverse_TK, grad_x_SD, mode="sum")
        grad_weight_TK = grad_weight_S[inverse_TK]
        return grad_x_TD, grad_weight_TK, grad_gate_up_EXD, grad_down_EDF, None, None


def _add_product(total_AB: Tensor, left_RA: Tensor, right_RB: Tensor, *, added: float) -> None:
    """total = added x total + left^T right; with `added` 0 what was there is not read."""
    torch.addmm(total_AB, left_RA.t(), right_RB, beta=added, out=total_AB)
