"""Bytes of a `Blueprint`: its weights, its cache of keys and values, and what a decoding step reads."""

from __future__ import annotations

from moebench.counting.blueprint import Attention, Blueprint, Dense, LatentAttention, Mixer
from moebench.counting.flops import decoder_of, held_tokens
from moebench.counting.weights import dense_weights, layer_weights, parameters

BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
"""Of one weight; float16 is as bfloat16, float8 as int8. What quantisation adds in scales is not counted."""


def _bits(dtype: str) -> int:
    return BITS["bfloat16" if dtype == "float16" else dtype]


def weight_bytes(b: Blueprint, dtype: str) -> int:
    """Bytes of all weights, stored in one type."""
    return -(-parameters(b).total * _bits(dtype) // 8)


def _cached_numbers(mixer: Mixer | None, *, absorbed: bool = True) -> int:
    if isinstance(mixer, LatentAttention) and absorbed:
        return mixer.kv_rank + mixer.rope_dim
    if isinstance(mixer, LatentAttention):
        return mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)
    return 2 * mixer.kv_heads * mixer.head_dim if isinstance(mixer, Attention) else 0


def kv_bytes_per_token(b: Blueprint, dtype: str, *, absorbed: bool = True) -> int:
    """Bytes a token adds to the cache of keys and values, before any window is full; an LSTM's state does not grow."""
    numbers = (layer.times * _cached_numbers(layer.mixer, absorbed=absorbed) for layer in decoder_of(b).layers)
    return sum(numbers) * _bits(dtype) // 8


def kv_bytes(b: Blueprint, dtype: str, *, context: int) -> int:
    """Bytes of the cache of one sequence of `context` tokens: windows hold no more than themselves, and
    cross-attention holds a source as long."""
    numbers = 0
    for layer in decoder_of(b).layers:
        if isinstance(layer.mixer, Attention | LatentAttention):
            numbers += layer.times * _cached_numbers(layer.mixer) * held_tokens(layer.mixer, context)
        numbers += layer.times * _cached_numbers(layer.cross) * context
    return numbers * _bits(dtype) // 8


def experts_touched(b: Blueprint, *, tokens: int) -> float | None:
    """Experts of one layer that `tokens` tokens are expected to use under uniform routing, E (1 - (1 - k/E)^tokens),
    mean over MoE layers; None for a model without experts."""
    if not b.mixtures:
        return None
    used = sum(times * ffn.experts * (1 - (1 - ffn.top_k / ffn.experts) ** tokens) for times, ffn in b.mixtures)
    return used / sum(times for times, _ in b.mixtures)


def passing_bytes(b: Blueprint, *, tokens: int) -> int:
    """Bytes of the widest activations of a pass over so many tokens, in float32, four of them at once."""
    widths = [
        ffn.hidden if isinstance(ffn, Dense) else ffn.hidden * ffn.top_k
        for layer in b.layers
        if (ffn := layer.ffn) is not None
    ]
    return 4 * 4 * tokens * max(widths, default=0)


def decode_bytes(
    b: Blueprint, dtype: str, *, batch: int, cached: int, cache_dtype: str | None = None, touched: float | None = None
) -> float:
    """Bytes of weights and cache that one decoding step of a decoder must read; the cache in its own dtype where that
    differs.

    `touched` is the experts used in one layer, measured; the expectation under uniform routing when absent.
    """
    experts = experts_touched(b, tokens=batch) if touched is None else touched
    numbers: float = b.vocab * b.width + sum(layer.times * layer_weights(layer, b).matrices for layer in b.layers)
    for times, ffn in b.mixtures:
        expert = dense_weights(ffn, b.width)
        numbers += times * ((experts or 0.0) * expert.total - ffn.top_k * expert.matrices)
    return numbers * (_bits(dtype) / 8) + batch * cached * kv_bytes_per_token(b, cache_dtype or dtype)
