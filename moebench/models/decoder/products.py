"""Products of few rows with weights that the caches do not hold: a decoding step is little else.

MKL's product of one row reads a weight matrix in many short streams, at 6 to 10 GB/s on the machine this was measured
on, where reading it in order gives 22 GB/s. So a matrix is first read in order, a piece at a time that the cache
holds, and multiplied from there: 1.3 to 1.4 times as fast at 2 to 50 MB of weights a step, and the same bits.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FEW_ROWS = 32
"""Rows up to which reading costs as much as multiplying: 32 gained 2 to 10%, one 25 to 45%."""
LARGE_BYTES = 2**18
"""Of a matrix from which reading it first pays; smaller ones stay in the cache from step to step."""
PIECE_BYTES = 2**20
"""Read at once, then multiplied."""


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`F.linear`, [..., I] -> [..., O]; a decoding step on a CPU reads large weights in order first."""
    weight_bytes = weight_OI.numel() * weight_OI.element_size()
    if (
        weight_bytes < LARGE_BYTES
        or torch.is_grad_enabled()
        or weight_OI.is_cuda
        or weight_OI.dtype != torch.float32
        or x.numel() > FEW_ROWS * x.shape[-1]
    ):
        return F.linear(x, weight_OI, bias_O)
    rows = max(64, PIECE_BYTES // (weight_bytes // weight_OI.shape[0]) // 64 * 64)
    if weight_OI.shape[0] <= rows:
        weight_OI.sum()
        return F.linear(x, weight_OI, bias_O)
    out = x.new_empty(*x.shape[:-1], weight_OI.shape[0])
    for piece_PI, out_P in zip(torch.split(weight_OI, rows), torch.split(out, rows, dim=-1), strict=True):
        piece_PI.sum()
        out_P.copy_(F.linear(x, piece_PI))
    return out if bias_O is None else out.add_(bias_O)
