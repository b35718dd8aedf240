"""Root-mean-square normalisation, before every sublayer, after the last, and of queries and keys where asked.

Legend: B batch, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.architecture import Kernels
from moebench.models.decoder.fused import rms_norm


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in float32 (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, *, eps: float, kernels: Kernels = "unfused") -> None:
        super().__init__()
        self.fused = kernels == "fused"
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Over the last axis."""
        if self.fused and torch.is_grad_enabled():
            return rms_norm(x_BTD, self.weight, self.eps)
        return F.rms_norm(x_BTD.float(), (x_BTD.shape[-1],), self.weight.float(), self.eps).to(x_BTD.dtype)
