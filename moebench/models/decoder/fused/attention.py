"""Projections, rotation and causal attention, up to the output projection, with their backward.

Queries go in blocks against the keys before them, so the half of the square that the causal rule hides is mostly never
computed; torch's CPU kernel computes all of it up to 512 keys. Probabilities are kept for the backward: computing them
again costs more than it gains (measured), so what is kept has a limit (`counting.kernels.keeps_scores`).

    s = q k^T / sqrt(C)   p = softmax s   o = p v
    dv = p^T do   dp = do v^T   ds = p (dp - sum p dp)   dq = ds k / sqrt(C)   dk = ds^T q / sqrt(C)

Rotation turns pairs (a, b) by an angle; its backward turns the gradient back.

Legend: B batch, T tokens, D width, H heads, G key-value heads, C head dim, N = H B sequences of heads, X = H + 2G.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from moebench.counting.kernels import QUERIES

BLOCK_BYTES = 2**19
"""Of a block's scores: heads are taken together up to this, so that they stay in the cache."""


class Shape(NamedTuple):
    batch: int
    length: int
    heads: int
    kv_heads: int
    head_dim: int


class Block(NamedTuple):
    """Sequences `first` to `last`, queries `start` to `stop`; keys up to `stop`; where its probabilities are kept."""

    first: int
    last: int
    start: int
    stop: int
    offset: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.last - self.first, self.stop - self.start, self.stop

    @property
    def numel(self) -> int:
        return math.prod(self.sizes)


def attend(
    x_BTD: Tensor,
    query_ND: Tensor,
    key_MD: Tensor,
    value_MD: Tensor,
    cos_TC: Tensor,
    sin_TC: Tensor,
    *,
    heads: int,
    kv_heads: int,
) -> Tensor:
    """Causal self-attention of whole sequences, [B, T, H C]; float32 on a CPU. `cos` and `sin` as in `rotate`."""
    batch, length, _ = x_BTD.shape
    shape = Shape(batch, length, heads, kv_heads, query_ND.shape[0] // heads)
    half = shape.head_dim // 2
    table = cos_TC[:, None, :half], sin_TC[:, None, :half]
    out: Tensor = _Attend.apply(x_BTD, query_ND, key_MD, value_MD, *table, shape)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        query_ND: Tensor,
        key_MD: Tensor,
        value_MD: Tensor,
        cos_T1C: Tensor,
        sin_T1C: Tensor,
        shape: Shape,
    ) -> Tensor:
        batch, length, heads, groups, dim = shape
        x_RD = x_BTD.reshape(-1, x_BTD.shape[-1])
        weight_XD = torch.cat((query_ND, key_MD, value_MD))
        qkv_BTXC = torch.mm(x_RD, weight_XD.t()).view(batch, length, heads + 2 * groups, dim)
        qkv_XBTC = qkv_BTXC.new_empty(heads + 2 * groups, batch, length, dim)
        rotated = heads + groups
        _turn(qkv_BTXC[:, :, :rotated], cos_T1C, sin_T1C, out=qkv_XBTC[:rotated].permute(1, 2, 0, 3))
        qkv_XBTC[rotated:].copy_(qkv_BTXC[:, :, rotated:].permute(2, 0, 1, 3))
        q_NTC = qkv_XBTC[:heads].mul_(dim**-0.5).view(-1, length, dim)
        k_NTC, v_NTC = (_repeated(qkv_XBTC[i : i + groups], shape) for i in (heads, rotated))
        blocks = list(_blocks(batch * heads, length))
        kept = x_RD.new_empty(sum(block.numel for block in blocks))
        out_NTC = torch.empty_like(q_NTC)
        hidden = torch.full((min(QUERIES, length),) * 2, -math.inf).triu_(1)
        for block in blocks:
            rows, queries, keys = slice(block.first, block.last), slice(block.start, block.stop), slice(block.stop)
            p_NQK = _view(kept, block)
            torch.bmm(q_NTC[rows, queries], k_NTC[rows, keys].transpose(1, 2), out=p_NQK)
            size = block.stop - block.start
            p_NQK[:, :, block.start :].add_(hidden[:size, :size])
            torch.softmax(p_NQK, -1, out=p_NQK)
            torch.bmm(p_NQK, v_NTC[rows, keys], out=out_NTC[rows, queries])
        ctx.save_for_backward(x_RD, weight_XD, q_NTC, k_NTC, v_NTC, cos_T1C, sin_T1C, kept)
        ctx.shape, ctx.blocks = shape, blocks
        return out_NTC.view(heads, batch, length, dim).permute(1, 2, 0, 3).reshape(batch, length, heads * dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_RD, weight_XD, q_NTC, k_NTC, v_NTC, cos_T1C, sin_T1C, kept = ctx.saved_tensors
        batch, length, heads, groups, dim = ctx.shape
        grad_BTHC = grads[0].reshape(batch, length, heads, dim)
        grad_NTC = grad_BTHC.permute(2, 0, 1, 3).reshape(-1, length, dim)
        grad_q, grad_k, grad_v = (torch.empty_like(t) for t in (q_NTC, k_NTC, v_NTC))
        scratch = kept.new_empty(max(block.numel for block in ctx.blocks))
        for block in ctx.blocks:
            rows, queries, keys = slice(block.first, block.last), slice(block.start, block.stop), slice(block.stop)
            if block.start == 0:
                grad_k[rows].zero_()
                grad_v[rows].zero_()
            p_NQK, grad_NQK = _view(kept, block), _view(scratch, block._replace(offset=0))
            torch.bmm(grad_NTC[rows, queries], v_NTC[rows, keys].transpose(1, 2), out=grad_NQK)
            grad_v[rows, keys].baddbmm_(p_NQK.transpose(1, 2), grad_NTC[rows, queries])
            torch.ops.aten._softmax_backward_data.out(grad_NQK, p_NQK, -1, p_NQK.dtype, grad_input=grad_NQK)
            torch.bmm(grad_NQK, k_NTC[rows, keys], out=grad_q[rows, queries])
            grad_k[rows, keys].baddbmm_(grad_NQK.transpose(1, 2), q_NTC[rows, queries])
        grad_q.mul_(dim**-0.5)
        grad_BTXC = x_RD.new_empty(batch, length, heads + 2 * groups, dim)
        rotated, back_T1C = heads + groups, -sin_T1C
        by_head = [grad_q.view(heads, batch, length, dim), *(_summed(grad, ctx.shape) for grad in (grad_k, grad_v))]
        q_BTHC, k_BTGC, v_BTGC = (grad.permute(1, 2, 0, 3) for grad in by_head)
        _turn(q_BTHC, cos_T1C, back_T1C, out=grad_BTXC[:, :, :heads])
        _turn(k_BTGC, cos_T1C, back_T1C, out=grad_BTXC[:, :, heads:rotated])
        grad_BTXC[:, :, rotated:].copy_(v_BTGC)
        grad_RX = grad_BTXC.view(batch * length, -1)
        grad_weights = torch.split(torch.mm(grad_RX.t(), x_RD), [heads * dim, groups * dim, groups * dim])
        return torch.mm(grad_RX, weight_XD).view(batch, length, -1), *grad_weights, None, None, None


def _blocks(sequences: int, length: int) -> Iterator[Block]:
    together = max(1, min(sequences, BLOCK_BYTES // (4 * QUERIES * length)))
    offset = 0
    for first in range(0, sequences, together):
        for start in range(0, length, QUERIES):
            block = Block(first, min(sequences, first + together), start, min(length, start + QUERIES), offset)
            offset += block.numel
            yield block


def _view(flat: Tensor, block: Block) -> Tensor:
    return flat[block.offset : block.offset + block.numel].view(block.sizes)


def _turn(x_BTHC: Tensor, cos_T1C: Tensor, sin_T1C: Tensor, *, out: Tensor) -> None:
    """(a, b) -> (a cos - b sin, b cos + a sin)."""
    (a, b), (out_a, out_b) = x_BTHC.chunk(2, dim=-1), out.chunk(2, dim=-1)
    torch.mul(a, cos_T1C, out=out_a).addcmul_(b, sin_T1C, value=-1)
    torch.mul(b, cos_T1C, out=out_b).addcmul_(a, sin_T1C)


def _repeated(x_GBTC: Tensor, shape: Shape) -> Tensor:
    """Key-value heads once for each query head they serve, [H B, T, C]."""
    times = shape.heads // shape.kv_heads
    return (x_GBTC if times == 1 else x_GBTC.repeat_interleave(times, dim=0)).reshape(-1, shape.length, shape.head_dim)


def _summed(x_NTC: Tensor, shape: Shape) -> Tensor:
    """Gradients of the query heads that share a key-value head, added up, [G, B, T, C]."""
    batch, length, heads, groups, dim = shape
    x: Tensor = x_NTC.view(groups, heads // groups, batch, length, dim)
    return x.sum(1) if heads > groups else x[:, 0]
