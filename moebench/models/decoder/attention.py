"""Causal self-attention with rotary positions, grouped-query heads and a cache of keys and values.

Grouped queries: Ainslie et al. 2023 (arXiv:2305.13245). Queries and keys may be normalised before they are rotated
(Henry et al. 2020, arXiv:2010.04245): each head on its own, with weights that heads share, or all heads at once. A
layer may see a window of keys alone, and a head may have a sink: a logit beside those of the keys, whose share of the
attention goes nowhere (gpt-oss 2025).

Legend: B batch, T tokens, S cached and new tokens, D width, H heads, G key-value heads, C head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.counting.kernels import is_plain, keeps_scores
from moebench.models.architecture import Architecture, Kernels
from moebench.models.decoder.adapters import adapted
from moebench.models.decoder.fused import attend
from moebench.models.decoder.norm import RMSNorm
from moebench.models.decoder.products import linear
from moebench.models.decoder.rotary import rotate


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

    def __init__(self, a: Architecture, *, layer: int = 0, kernels: Kernels = "unfused") -> None:
        super().__init__()
        self.window = a.window_of(layer)
        self.fused = kernels == "fused" and is_plain(a.attention_of(layer))
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        self.query = nn.Parameter(torch.empty(a.heads * a.head_dim, a.width))
        self.key = nn.Parameter(torch.empty(a.kv_heads * a.head_dim, a.width))
        self.value = nn.Parameter(torch.empty(a.kv_heads * a.head_dim, a.width))
        self.output = nn.Parameter(torch.empty(a.width, a.heads * a.head_dim))
        qkv, out = a.attention_bias is not None, a.attention_bias == "all"
        self.query_bias = nn.Parameter(torch.zeros(a.heads * a.head_dim)) if qkv else None
        self.key_bias = nn.Parameter(torch.zeros(a.kv_heads * a.head_dim)) if qkv else None
        self.value_bias = nn.Parameter(torch.zeros(a.kv_heads * a.head_dim)) if qkv else None
        self.output_bias = nn.Parameter(torch.zeros(a.width)) if out else None
        self.sinks = nn.Parameter(torch.zeros(a.heads)) if a.attention_sinks else None
        self.lora: nn.ModuleDict | None = None
        """Adapters of some matrices, by name; see `adapters`."""
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
        batch, length, _ = x_BTD.shape
        training = torch.is_grad_enabled() and cache is None
        if self.fused and training and keeps_scores(heads=self.heads, sequences=batch, length=length):
            weights = (self.query, self.key, self.value)
            out_BTX = attend(x_BTD, *weights, cos_TC, sin_TC, heads=self.heads, kv_heads=self.kv_heads)
            return linear(out_BTX, self.output)
        q_BTX = _normalised(self._projected(x_BTD, "query"), self.query_norm)
        k_BTX = _normalised(self._projected(x_BTD, "key"), self.key_norm)
        q = rotate(self._split(q_BTX, self.heads), cos_TC, sin_TC)
        k = rotate(self._split(k_BTX, self.kv_heads), cos_TC, sin_TC)
        v = self._split(self._projected(x_BTD, "value"), self.kv_heads)
        if cache is not None:
            k, v = cache.extend(start, k, v)
        if self.window is not None:  # of what is cached, no query sees more
            k, v = (held[:, :, -(self.window + length - 1) :] for held in (k, v))
        if self.kv_heads != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=1) for t in (k, v))
        out_BHTC = self._attended(q, k, v)
        return self._projected(out_BHTC.transpose(1, 2).flatten(2), "output")

    def _projected(self, x_BTX: Tensor, name: str) -> Tensor:
        """By a matrix, its bias and its adapter, where it has them."""
        weight, bias, dtype = getattr(self, name), getattr(self, f"{name}_bias"), x_BTX.dtype
        return adapted(x_BTX, weight.to(dtype), None if bias is None else bias.to(dtype), self.lora, name)

    def _attended(self, q_BHTC: Tensor, k_BHSC: Tensor, v_BHSC: Tensor) -> Tensor:
        """Of queries that are the last of the S tokens."""
        length, seen = q_BHTC.shape[2], k_BHSC.shape[2]
        windowed = self.window is not None and seen > self.window
        causal = length == seen and not windowed  # so plain that kernels know it without a mask
        if self.sinks is not None:
            return _with_sinks(q_BHTC, k_BHSC, v_BHSC, self.sinks, _visible(q_BHTC, k_BHSC, self.window))
        mask = None if causal or length == 1 else _visible(q_BHTC, k_BHSC, self.window)
        return F.scaled_dot_product_attention(q_BHTC, k_BHSC, v_BHSC, attn_mask=mask, is_causal=causal)

    def _split(self, x_BTX: Tensor, heads: int) -> Tensor:
        x_BTHC: Tensor = x_BTX.unflatten(2, (heads, self.head_dim))  # type: ignore[no-untyped-call]
        return x_BTHC.transpose(1, 2)


def _normalised(x_BTX: Tensor, norm: RMSNorm | None) -> Tensor:
    """All heads at once when the norm has a weight for each of their elements, else each head on its own."""
    if norm is None:
        return x_BTX
    groups: Tensor = x_BTX.unflatten(2, (-1, norm.weight.numel()))  # type: ignore[no-untyped-call]
    return norm(groups).flatten(2)  # type: ignore[no-any-return]


def _visible(q_BHTC: Tensor, k_BHSC: Tensor, window: int | None) -> Tensor:
    """Which keys each query sees, bool [T, S]; the queries are the last of the S tokens."""
    seen, device = k_BHSC.shape[2], q_BHTC.device
    back_TS = torch.arange(seen - q_BHTC.shape[2], seen, device=device)[:, None] - torch.arange(seen, device=device)
    return (back_TS >= 0) & (back_TS < (seen if window is None else window))


def _with_sinks(q_BHTC: Tensor, k_BHSC: Tensor, v_BHSC: Tensor, sink_H: Tensor, visible_TS: Tensor) -> Tensor:
    """Softmax over the keys and the head's sink, whose share is given to no value; in float32."""
    scores_BHTS = (q_BHTC @ k_BHSC.transpose(2, 3)).float() * q_BHTC.shape[3] ** -0.5
    scores_BHTS = scores_BHTS.masked_fill(~visible_TS, -torch.inf)
    sink_BHT1 = sink_H.float()[:, None, None].expand(*scores_BHTS.shape[:3], 1)
    share_BHTS = torch.cat((scores_BHTS, sink_BHT1), dim=3).softmax(3)[..., :-1]
    return share_BHTS.to(v_BHSC.dtype) @ v_BHSC
