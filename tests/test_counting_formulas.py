"""Counting blueprints: each formula by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, LatentAttention, Layer, Lstm, Stack
from moebench.counting.flops import decode_flops_per_token, forward_flops_per_token, twice_pairs
from moebench.counting.memory import BITS, experts_touched, kv_bytes, kv_bytes_per_token, weight_bytes
from moebench.counting.weights import (
    active_without_input_tables,
    ffn_weights,
    layer_weights,
    mixer_weights,
    parameters,
    saving,
)

ATTENTION = Attention(heads=4, kv_heads=2, head_dim=8)


def one_layer(layer: Layer, **more: Any) -> Blueprint:
    return Blueprint(width=32, vocab=100, stacks=(Stack(layers=(layer,)),), **more)


# ------------------------------------------------------------------------------------------------ parameters, by hand


def test_attention() -> None:
    matrices = 32 * 32 + 2 * 32 * 16 + 32 * 32  # queries, keys and values, output
    layer = Layer(mixer=ATTENTION, norms=2)
    assert layer_weights(layer, one_layer(layer)).total == matrices + 2 * 32
    more = Attention(heads=4, kv_heads=2, head_dim=8, qkv_bias=True, output_bias=True, sinks=True, position_buckets=32)
    assert mixer_weights(more, 32).vectors == (32 + 16 + 16) + 32 + 4 + 4 * 32
    for norm, weights in (("per_head", 8 + 8), ("full", 32 + 16)):
        normed = Attention(heads=4, kv_heads=2, head_dim=8, qk_norm=norm)
        assert mixer_weights(normed, 32).vectors == weights


def test_latent_attention() -> None:
    plain = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    down, up, output, queries = 32 * (10 + 2), 10 * 4 * (6 + 5), 4 * 5 * 32, 32 * 4 * 8
    assert mixer_weights(plain, 32).total == down + up + output + queries + 10
    narrow = plain.model_copy(update={"q_rank": 7})
    assert mixer_weights(narrow, 32).total == down + up + output + 32 * 7 + 7 * 4 * 8 + 10 + 7
    biased = narrow.model_copy(update={"bias": True, "output_bias": True})
    added = mixer_weights(biased, 32).total - mixer_weights(narrow, 32).total
    assert added == (10 + 2) + 7 + 32


def test_an_lstm_is_torchs_without_biases() -> None:
    with torch.device("meta"):
        module = torch.nn.LSTM(32, 32, bias=False)
    assert mixer_weights(Lstm(), 32).total == sum(weight.numel() for weight in module.parameters())


def test_feed_forward_networks() -> None:
    assert ffn_weights(Dense(hidden=10), 32).total == 3 * 32 * 10
    assert ffn_weights(Dense(hidden=10, gated=False), 32).total == 2 * 32 * 10
    assert ffn_weights(Dense(hidden=10, bias=True), 32).total == 3 * 32 * 10 + 2 * 10 + 32
    moe = Experts(experts=8, top_k=2, hidden=10, shared=Dense(hidden=20), shared_gate=True)
    found = ffn_weights(moe, 32)
    assert found.total == 8 * 960 + 32 * 8 + 3 * 32 * 20 + 32
    assert found.active == 2 * 960 + 32 * 8 + 3 * 32 * 20 + 32
    biased = Experts(experts=8, top_k=2, hidden=10, bias=True, router_bias=True)
    assert ffn_weights(biased, 32).total == 8 * (960 + 20 + 32) + 32 * 8 + 8
    assert ffn_weights(biased, 32).active == 2 * (960 + 20 + 32) + 32 * 8 + 8


def test_a_two_level_router_meets_only_its_groups() -> None:
    """16 groups of 4 experts, 2 groups chosen, noise beside each: Shazeer et al. 2017, appendix B."""
    moe = Experts(experts=64, top_k=4, hidden=10, gated=False, router_rows=80, noise_rows=80, idle_rows=2 * 14 * 4)
    found = ffn_weights(moe, 32)
    assert found.total == 64 * 640 + 2 * 32 * (16 + 64)
    assert found.active == 4 * 640 + 2 * 32 * (16 + 2 * 4)


def test_tables_and_norms() -> None:
    layer = Layer(norms=0)
    for more, tables in (({}, 2 * 3200), ({"tied": True}, 3200), ({"source_vocab": 7}, 2 * 3200 + 7 * 32)):
        assert parameters(one_layer(layer, **more)).total == tables + 32  # and the final norm
    for norm, weights in (("rms", 32), ("layer", 64), ("layer_no_bias", 32), ("none", 0)):
        assert parameters(one_layer(layer, norm=norm)).total_no_embedding == weights
    assert parameters(one_layer(layer, head_bias=True)).total == 2 * 3200 + 100 + 32


def test_the_input_table_is_left_out_where_publishers_leave_it() -> None:
    layer = Layer(mixer=ATTENTION)
    untied, tied = one_layer(layer), one_layer(layer, tied=True)
    assert active_without_input_tables(untied) == parameters(untied).active - 3200
    assert active_without_input_tables(tied) == parameters(tied).active


# ------------------------------------------------------------------------------------------------ FLOPs and bytes


def seen(mixer: Attention, context: int, *, causal: bool = True) -> float:
    """Keys a query meets, on average over a sequence."""
    return twice_pairs(mixer, length=context, causal=causal) / (2 * context)


def test_windows_and_chunks_bound_what_a_query_sees() -> None:
    """Against counting keys one by one; the half square leaves out half a key a query."""
    windowed, chunked = (ATTENTION.model_copy(update={key: 16}) for key in ("window", "chunk"))
    for context in (8, 16, 40, 64):
        by_hand = sum(min(i + 1, 16) for i in range(context)) / context
        assert seen(windowed, context) == pytest.approx(by_hand, abs=0.5)
        by_hand = sum(i % 16 + 1 for i in range(context)) / context
        assert seen(chunked, context) == pytest.approx(by_hand, abs=0.51)
        assert seen(ATTENTION, context) == context / 2
    assert seen(windowed, 64, causal=False) == 64


def test_flops_of_latent_attention() -> None:
    mixer = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    b = one_layer(Layer(mixer=mixer))
    matrices = mixer_weights(mixer, 32).matrices + 3200
    assert forward_flops_per_token(b, context=64) == 2 * matrices + 2 * 4 * (8 + 5) * 32
    expanded = decode_flops_per_token(b, cached=64, absorbed=False)
    assert expanded == 2 * matrices + 2 * 4 * (8 + 5) * 64
    absorbed = decode_flops_per_token(b, cached=64)
    assert absorbed == 2 * matrices + 2 * 4 * (10 + 2 + 10) * 64, "scores: latent and rotary key; values: latent"


def test_flops_of_an_encoder_decoder() -> None:
    """A token is one of the source and one of the target; the encoder and cross-attention see the whole square."""
    encoder = Stack(kind="encoder", layers=(Layer(mixer=ATTENTION),))
    decoder = Stack(layers=(Layer(mixer=ATTENTION, cross=ATTENTION, norms=3),))
    b = Blueprint(width=32, vocab=100, stacks=(encoder, decoder))
    one, pair = mixer_weights(ATTENTION, 32).matrices, 4 * 4 * 8
    assert forward_flops_per_token(b, context=10) == 2 * (3 * one + 3200) + pair * (10 + 5 + 10)
    keys_and_values = 2 * 32 * 16  # of the source, read once
    assert decode_flops_per_token(b, cached=10) == 2 * (2 * one - keys_and_values + 3200) + 2 * pair * 10
    assert kv_bytes_per_token(b, "bfloat16") == 2 * 16 * 2
    assert kv_bytes(b, "bfloat16", context=10) == 2 * (10 * 2 * 16 * 2)


def test_bytes_of_a_cache() -> None:
    latent = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    assert kv_bytes_per_token(one_layer(Layer(mixer=latent, times=3)), "bfloat16") == 3 * (10 + 2) * 2
    assert kv_bytes_per_token(one_layer(Layer(mixer=latent)), "bfloat16", absorbed=False) == 4 * (6 + 2 + 5) * 2
    assert kv_bytes_per_token(one_layer(Layer(mixer=Lstm())), "bfloat16") == 0
    windowed = one_layer(Layer(mixer=ATTENTION.model_copy(update={"window": 16})))
    assert kv_bytes(windowed, "bfloat16", context=100) == 16 * kv_bytes_per_token(windowed, "bfloat16")
    assert kv_bytes(windowed, "int8", context=100) == 16 * 2 * 16


def test_bytes_of_weights() -> None:
    b = one_layer(Layer(mixer=ATTENTION))
    total = parameters(b).total
    assert {dtype: weight_bytes(b, dtype) for dtype in BITS} == {
        "float32": 4 * total, "bfloat16": 2 * total, "int8": total, "int4": (total + 1) // 2
    }  # fmt: skip


def test_experts_touched_by_chance() -> None:
    """8 experts, top 2: one token touches 2, and a simulation of uniform routing agrees at 5."""
    b = one_layer(Layer(ffn=Experts(experts=8, top_k=2, hidden=4)))
    assert experts_touched(b, tokens=1) == pytest.approx(2)
    generator = torch.Generator().manual_seed(0)
    chosen_NTK = torch.rand(4000, 5, 8, generator=generator).argsort(-1)[..., :2]
    drawn = sum(len(set(one.flatten().tolist())) for one in chosen_NTK) / 4000
    assert experts_touched(b, tokens=5) == pytest.approx(drawn, rel=0.02)
    assert experts_touched(one_layer(Layer(ffn=Dense(hidden=4))), tokens=5) is None


def test_the_saving_is_over_the_weights_outside_the_tables() -> None:
    b = one_layer(Layer(ffn=Experts(experts=8, top_k=2, hidden=4)))
    count = parameters(b)
    assert saving(b) == 1 - count.active_no_embedding / count.total_no_embedding
    assert saving(one_layer(Layer(ffn=Dense(hidden=4)))) == 0


def test_more_experts_chosen_than_there_are_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="top-3 is more than the 2 experts"):
        Experts(experts=2, top_k=3, hidden=4)
