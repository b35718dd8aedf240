"""Rows to experts and back: the order of assignments by expert, the gather before and the sum after.

Legend: T tokens, D width, E experts, K top-k, N assignments in token order, S the same sorted by expert.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.models.routers import Routing


def by_expert(routing: Routing, *, num_experts: int) -> tuple[Tensor, Tensor]:
    """Order of the assignments grouped by expert (stable), and the end of each expert's group, int32."""
    expert_S, order_S = routing.expert_N.sort(stable=True)
    experts_E = torch.arange(num_experts, device=expert_S.device)
    # A search, not bincount: that one asks a CUDA device how many there are.
    return order_S, torch.searchsorted(expert_S, experts_E, right=True, out_int32=True)


def inverse(order_S: Tensor) -> Tensor:
    """Where each assignment went."""
    inverse_N = torch.empty_like(order_S)
    inverse_N[order_S] = torch.arange(order_S.numel(), device=order_S.device)
    return inverse_N


def _sum_rows(rows_SD: Tensor, inverse_N: Tensor, per_token: int) -> Tensor:
    """out[t] = sum of token t's rows, [T, D]."""
    if rows_SD.dtype == torch.float32 and not rows_SD.is_cuda:
        # One pass instead of two, and the same bits: 2 to 8 times as fast (measured).
        return F.embedding_bag(inverse_N.view(-1, per_token), rows_SD, mode="sum")
    return rows_SD.index_select(0, inverse_N).view(-1, per_token, rows_SD.shape[1]).sum(1)


class _Gather(torch.autograd.Function):
    """rows = x[index], whose backward is a gather and a sum over k instead of a scatter of rows.

    Valid when every token has exactly `per_token` assignments in token order; `inverse_N` undoes the sorting.
    """

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, token_S: Tensor, inverse_N: Tensor, per_token: int) -> Tensor:
        ctx.save_for_backward(inverse_N)
        ctx.per_token = per_token
        return x_TD.index_select(0, token_S)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse_N,) = ctx.saved_tensors
        return _sum_rows(grads[0].contiguous(), inverse_N, ctx.per_token), None, None, None


class _SumAssignments(torch.autograd.Function):
    """out[t] = sum of token t's rows; the backward repeats a row instead of scattering it."""

    @staticmethod
    def forward(ctx: Any, y_SD: Tensor, token_S: Tensor, inverse_N: Tensor, per_token: int) -> Tensor:
        ctx.save_for_backward(token_S)
        return _sum_rows(y_SD, inverse_N, per_token)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (token_S,) = ctx.saved_tensors
        return grads[0].index_select(0, token_S), None, None, None


def dispatch(x_TD: Tensor, routing: Routing, order_S: Tensor) -> Tensor:
    """Each assignment's token, sorted by expert: [S, D]."""
    token_S = routing.token_N[order_S]
    if routing.per_token is None:
        return x_TD.index_select(0, token_S)
    rows: Tensor = _Gather.apply(x_TD, token_S, inverse(order_S), routing.per_token)  # type: ignore[no-untyped-call]
    return rows


def combine(y_SD: Tensor, routing: Routing, order_S: Tensor, *, num_tokens: int) -> Tensor:
    """The sum of each token's rows: [T, D]."""
    token_S = routing.token_N[order_S]
    if routing.per_token is None:
        return y_SD.new_zeros(num_tokens, y_SD.shape[1]).index_add(0, token_S, y_SD)
    out: Tensor = _SumAssignments.apply(y_SD, token_S, inverse(order_S), routing.per_token)  # type: ignore[no-untyped-call]
    return out
