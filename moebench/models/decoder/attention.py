"""Causal self-attention with rotary positions, grouped-query heads and a cache of keys and values.

Rotary positions: Su et al. 2021 (arXiv:2104.09864), halves rotated as in Llama. Grouped queries: Ainslie et al. 2023
(arXiv:2305.13245). Queries and keys may be normalised before they are rotated (Henry et al. 2020, arXiv:2010.04245):
each head on its own, with weights that heads share, or all heads at once.

Legend: B batch, T tokens, S cached and new tokens, D width, H heads, G key-value heads, C head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.counting.kernels import keeps_scores
from moebench.models.architecture import Architecture, Kernels
from moebench.models.decoder.fused import attend
from moebench.models.decoder.norm import RMSNorm
from moebench.models.decoder.products import linear


def rotary_table(architecture: Architecture, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [context, head_dim], float32; computed on the CPU, so that a device does not change them."""
    half, cpu = architecture.head_dim // 2, torch.device("cpu")
    frequency = architecture.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=cpu) / half)
    place = torch.arange(architecture.context, dtype=torch.float32, device=cpu)
    angle = torch.outer(place, frequency).repeat(1, 2)
    return angle.cos().to(device), angle.sin().to(device)


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turns each pair (i, i + C/2) by its position's angle."""
    first, second = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_TC.to(x_BHTC.dtype) + torch.cat((-second, first), dim=-1) * sin_TC.to(x_BHTC.dtype)


class LayerCache:
    """Keys and values of one layer, filled from the left; all its room is taken at once."""

    def __init__(
        self, architecture: Architecture, *, batch: int, room: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (batch, architecture.kv_heads, room, architecture.head_dim)
        self.keys_BGSC = torch.zeros(shape, dtype=dtype, device=device)
        self.values_BGSC = torch.zeros(shape, dtype=dtype, device=device)

    def extend(self, start: int, keys_BGTC: Tensor, values_BGTC: Tensor) -> tuple[Tensor, Tensor]:
        """Stores new tokens after the first `start` and returns all that are now held."""
        stop = start + keys_BGTC.shape[2]
        self.keys_BGSC[:, :, start:stop] = keys_BGTC
        self.values_BGSC[:, :, start:stop] = values_BGTC
        return self.keys_BGSC[:, :, :stop], self.values_BGSC[:, :, :stop]


class Attention(nn.Module):
    """One layer's attention."""

    def __init__(self, a: Architecture, *, kernels: Kernels = "unfused") -> None:
        super().__init__()
        self.fused = kernels == "fused" and a.qk_norm is None
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        self.query = nn.Parameter(torch.empty(a.heads * a.head_dim, a.width))
        self.key = nn.Parameter(torch.empty(a.kv_heads * a.head_dim, a.width))
        self.value = nn.Parameter(torch.empty(a.kv_heads * a.head_dim, a.width))
        self.output = nn.Parameter(torch.empty(a.width, a.heads * a.head_dim))
        self.query_norm: RMSNorm | None = None
        self.key_norm: RMSNorm | None = None
        if a.qk_norm is not None:
            queries, keys = (a.heads, a.kv_heads) if a.qk_norm == "full" else (1, 1)
            self.query_norm = RMSNorm(queries * a.head_dim, eps=a.norm_eps)
            self.key_norm = RMSNorm(keys * a.head_dim, eps=a.norm_eps)

    def forward(
        self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor, *, cache: LayerCache | None = None, start: int = 0
    ) -> Tensor:
        """Attends to itself and, with a cache, to the `start` tokens before it."""
        dtype = x_BTD.dtype
        batch, length, _ = x_BTD.shape
        training = torch.is_grad_enabled() and cache is None
        if self.fused and training and keeps_scores(heads=self.heads, sequences=batch, length=length):
            weights = (self.query, self.key, self.value)
            out_BTX = attend(x_BTD, *weights, cos_TC, sin_TC, heads=self.heads, kv_heads=self.kv_heads)
            return linear(out_BTX, self.output)
        q_BTX = _normalised(linear(x_BTD, self.query.to(dtype)), self.query_norm)
        k_BTX = _normalised(linear(x_BTD, self.key.to(dtype)), self.key_norm)
        q = rotate(self._split(q_BTX, self.heads), cos_TC, sin_TC)
        k = rotate(self._split(k_BTX, self.kv_heads), cos_TC, sin_TC)
        v = self._split(linear(x_BTD, self.value.to(dtype)), self.kv_heads)
        if cache is not None:
            k, v = cache.extend(start, k, v)
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        out_BHTC = F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(q, k, start), is_causal=start == 0)
        return linear(out_BHTC.transpose(1, 2).flatten(2), self.output.to(dtype))

    def _split(self, x_BTX: Tensor, heads: int) -> Tensor:
        x_BTHC: Tensor = x_BTX.unflatten(2, (heads, self.head_dim))  # type: ignore[no-untyped-call]
        return x_BTHC.transpose(1, 2)


def _normalised(x_BTX: Tensor, norm: RMSNorm | None) -> Tensor:
    """All heads at once when the norm has a weight for each of their elements, else each head on its own."""
    if norm is None:
        return x_BTX
    groups: Tensor = x_BTX.unflatten(2, (-1, norm.weight.numel()))  # type: ignore[no-untyped-call]
    return norm(groups).flatten(2)  # type: ignore[no-any-return]


def _mask(q_BHTC: Tensor, k_BHSC: Tensor, start: int) -> Tensor | None:
    """Which cached keys each new query may see; None when the plain causal rule or a single query says it already."""
    if start == 0 or q_BHTC.shape[2] == 1:
        return None
    queries = torch.arange(start, start + q_BHTC.shape[2], device=q_BHTC.device)
    return torch.arange(k_BHSC.shape[2], device=q_BHTC.device) <= queries[:, None]
