"""Counting blueprints: each formula by hand, and equal to `costs` for what moebench trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moebench.counting import costs
from moebench.counting import formulas as counting
from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, LatentAttention, Layer, Lstm, Stack
from moebench.counting.trained import blueprint_of
from moebench.models.architecture import Architecture
from moebench.suite.model import DenseFFN, MoEFFN

ATTENTION = Attention(heads=4, kv_heads=2, head_dim=8)
TINY: dict[str, Any] = {
    "vocab": 256, "context": 64, "layers": 4, "width": 32, "heads": 4, "kv_heads": 2, "head_dim": 8,
    "tied_embeddings": True, "rope_theta": 1e4, "norm_eps": 1e-5,
}  # fmt: skip


def one_layer(layer: Layer, **more: Any) -> Blueprint:
    return Blueprint(width=32, vocab=100, stacks=(Stack(layers=(layer,)),), **more)


# ------------------------------------------------------------------------------------------------ the same as costs

MIXTURES: list[dict[str, Any]] = [
    {},
    {"router": "topk_softmax", "bias": True, "activation": "swiglu_clamped"},
    {"activation": "relu", "every": 2, "dense_hidden": 96, "dense_activation": "geglu"},
    {"first_dense": 1, "dense_hidden": 40, "shared_hidden": 24},
    {"shared_hidden": 24, "shared_gate": True},
    {"router": "sigmoid_bias", "groups": 4, "groups_chosen": 2, "scale": 2.5, "bias_rate": 0.001},
    {"router": "noisy_topk", "importance_loss": 0.1, "load_loss": 0.1},
    {"router": "hierarchical", "groups": 4, "groups_chosen": 2},
    {"router": "switch", "top_k": 1, "capacity_factor": 1.25},
    {"router": "gshard", "capacity_factor": 2.0},
    {"router": "soft_mixture", "top_k": 8},
    {"router": "top_p", "top_p": 0.5, "bias": True},
    {"router": "token_hash"},
    {"router": "frozen_random"},
    {"router": "round_robin"},
    {"router": "expert_choice"},
]
FFNS = [
    DenseFFN(kind="dense", hidden=88),
    DenseFFN(kind="dense", hidden=88, activation="gelu"),
    *(
        MoEFFN.model_validate({"kind": "moe", "experts": 8, "top_k": 2, "expert_hidden": 16, **more})
        for more in MIXTURES
    ),
]
SHAPES: list[dict[str, Any]] = [{}, {"tied_embeddings": False, "qk_norm": "full"}, {"qk_norm": "per_head"}]


@pytest.mark.parametrize("ffn", FFNS, ids=lambda ffn: getattr(ffn, "router", "dense"))
@pytest.mark.parametrize("shape", SHAPES, ids=["plain", "full", "per_head"])
def test_what_moebench_trains_counts_as_in_costs(ffn: DenseFFN | MoEFFN, shape: dict[str, Any]) -> None:
    a = Architecture(ffn=ffn, **{**TINY, **shape})
    b = blueprint_of(a)
    assert counting.parameters(b) == costs.parameters(a)
    assert counting.forward_flops_per_token(b, context=64) * 64 == costs.forward_flops(
        a, sequences=1, length=64, training=False
    )
    assert counting.train_flops_per_token(b, context=a.context) == costs.train_flops_per_token(a)
    assert counting.decode_flops_per_token(b, cached=50) == costs.decode_flops_per_token(a, cached=50)
    for dtype, size in costs.DTYPE_BYTES.items():
        assert counting.weight_bytes(b)[dtype] == costs.parameters(a).total * size
        assert counting.kv_bytes_per_token(b, bits=8 * size) == costs.kv_bytes_per_token(a, dtype=dtype)
    if isinstance(ffn, MoEFFN):
        assert counting.experts_touched(b, tokens=5) == pytest.approx(costs.experts_touched(a, tokens=5))


def test_a_width_that_is_not_solved_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="before its match is solved"):
        blueprint_of(Architecture(ffn=DenseFFN(kind="dense"), **TINY))


# ------------------------------------------------------------------------------------------------ parameters, by hand


def test_attention() -> None:
    matrices = 32 * 32 + 2 * 32 * 16 + 32 * 32  # queries, keys and values, output
    layer = Layer(mixer=ATTENTION, norms=2)
    assert counting.layer_weights(layer, one_layer(layer)).total == matrices + 2 * 32
    more = Attention(heads=4, kv_heads=2, head_dim=8, qkv_bias=True, output_bias=True, sinks=True, position_buckets=32)
    assert counting.mixer_weights(more, 32).vectors == (32 + 16 + 16) + 32 + 4 + 4 * 32
    for norm, weights in (("per_head", 8 + 8), ("full", 32 + 16)):
        normed = Attention(heads=4, kv_heads=2, head_dim=8, qk_norm=norm)
        assert counting.mixer_weights(normed, 32).vectors == weights


def test_latent_attention() -> None:
    plain = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    down, up, output, queries = 32 * (10 + 2), 10 * 4 * (6 + 5), 4 * 5 * 32, 32 * 4 * 8
    assert counting.mixer_weights(plain, 32).total == down + up + output + queries + 10
    narrow = plain.model_copy(update={"q_rank": 7})
    assert counting.mixer_weights(narrow, 32).total == down + up + output + 32 * 7 + 7 * 4 * 8 + 10 + 7
    biased = narrow.model_copy(update={"bias": True, "output_bias": True})
    added = counting.mixer_weights(biased, 32).total - counting.mixer_weights(narrow, 32).total
    assert added == (10 + 2) + 7 + 32


def test_an_lstm_is_torchs_without_biases() -> None:
    with torch.device("meta"):
        module = torch.nn.LSTM(32, 32, bias=False)
    assert counting.mixer_weights(Lstm(), 32).total == sum(weight.numel() for weight in module.parameters())


def test_feed_forward_networks() -> None:
    assert counting.ffn_weights(Dense(hidden=10), 32).total == 3 * 32 * 10
    assert counting.ffn_weights(Dense(hidden=10, gated=False), 32).total == 2 * 32 * 10
    assert counting.ffn_weights(Dense(hidden=10, bias=True), 32).total == 3 * 32 * 10 + 2 * 10 + 32
    moe = Experts(experts=8, top_k=2, hidden=10, shared=Dense(hidden=20), shared_gate=True)
    found = counting.ffn_weights(moe, 32)
    assert found.total == 8 * 960 + 32 * 8 + 3 * 32 * 20 + 32
    assert found.active == 2 * 960 + 32 * 8 + 3 * 32 * 20 + 32
    biased = Experts(experts=8, top_k=2, hidden=10, bias=True, router_bias=True)
    assert counting.ffn_weights(biased, 32).total == 8 * (960 + 20 + 32) + 32 * 8 + 8
    assert counting.ffn_weights(biased, 32).active == 2 * (960 + 20 + 32) + 32 * 8 + 8


def test_a_two_level_router_meets_only_its_groups() -> None:
    """16 groups of 4 experts, 2 groups chosen, noise beside each: Shazeer et al. 2017, appendix B."""
    moe = Experts(experts=64, top_k=4, hidden=10, gated=False, router_rows=80, noise_rows=80, idle_rows=2 * 14 * 4)
    found = counting.ffn_weights(moe, 32)
    assert found.total == 64 * 640 + 2 * 32 * (16 + 64)
    assert found.active == 4 * 640 + 2 * 32 * (16 + 2 * 4)


def test_tables_and_norms() -> None:
    layer = Layer(norms=0)
    for more, tables in (({}, 2 * 3200), ({"tied": True}, 3200), ({"source_vocab": 7}, 2 * 3200 + 7 * 32)):
        assert counting.parameters(one_layer(layer, **more)).total == tables + 32  # and the final norm
    for norm, weights in (("rms", 32), ("layer", 64), ("layer_no_bias", 32), ("none", 0)):
        assert counting.parameters(one_layer(layer, norm=norm)).total_no_embedding == weights
    assert counting.parameters(one_layer(layer, head_bias=True)).total == 2 * 3200 + 100 + 32


def test_the_input_table_is_left_out_where_publishers_leave_it() -> None:
    layer = Layer(mixer=ATTENTION)
    untied, tied = one_layer(layer), one_layer(layer, tied=True)
    assert counting.active_without_input_tables(untied) == counting.parameters(untied).active - 3200
    assert counting.active_without_input_tables(tied) == counting.parameters(tied).active


# ------------------------------------------------------------------------------------------------ FLOPs and bytes


def seen(mixer: Attention, context: int) -> float:
    return counting.seen_keys(mixer, context=context, causal=True)


def test_windows_and_chunks_bound_what_a_query_sees() -> None:
    """Against counting keys one by one; the half square leaves out half a key a query."""
    windowed, chunked = (ATTENTION.model_copy(update={key: 16}) for key in ("window", "chunk"))
    for context in (8, 16, 40, 64):
        by_hand = sum(min(i + 1, 16) for i in range(context)) / context
        assert seen(windowed, context) == pytest.approx(by_hand, abs=0.5)
        by_hand = sum(i % 16 + 1 for i in range(context)) / context
        assert seen(chunked, context) == pytest.approx(by_hand, abs=0.51)
        assert seen(ATTENTION, context) == context / 2
    assert counting.seen_keys(windowed, context=64, causal=False) == 64


def test_flops_of_latent_attention() -> None:
    mixer = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    b = one_layer(Layer(mixer=mixer))
    matrices = counting.mixer_weights(mixer, 32).matrices + 3200
    assert counting.forward_flops_per_token(b, context=64) == 2 * matrices + 2 * 4 * (8 + 5) * 32
    expanded = counting.decode_flops_per_token(b, cached=64, absorbed=False)
    assert expanded == 2 * matrices + 2 * 4 * (8 + 5) * 64
    absorbed = counting.decode_flops_per_token(b, cached=64)
    assert absorbed == 2 * matrices + 2 * 4 * (10 + 2 + 10) * 64, "scores: latent and rotary key; values: latent"


def test_flops_of_an_encoder_decoder() -> None:
    """A token is one of the source and one of the target; the encoder and cross-attention see the whole square."""
    encoder = Stack(kind="encoder", layers=(Layer(mixer=ATTENTION),))
    decoder = Stack(layers=(Layer(mixer=ATTENTION, cross=ATTENTION, norms=3),))
    b = Blueprint(width=32, vocab=100, stacks=(encoder, decoder))
    one, pair = counting.mixer_weights(ATTENTION, 32).matrices, 4 * 4 * 8
    assert counting.forward_flops_per_token(b, context=10) == 2 * (3 * one + 3200) + pair * (10 + 5 + 10)
    keys_and_values = 2 * 32 * 16  # of the source, read once
    assert counting.decode_flops_per_token(b, cached=10) == 2 * (2 * one - keys_and_values + 3200) + 2 * pair * 10
    assert counting.kv_bytes_per_token(b) == 2 * 16 * 2
    assert counting.kv_bytes(b, context=10) == 2 * (10 * 2 * 16 * 2)


def test_bytes_of_a_cache() -> None:
    latent = LatentAttention(heads=4, nope_dim=6, rope_dim=2, value_dim=5, kv_rank=10)
    assert counting.kv_bytes_per_token(one_layer(Layer(mixer=latent, times=3))) == 3 * (10 + 2) * 2
    assert counting.kv_bytes_per_token(one_layer(Layer(mixer=latent)), absorbed=False) == 4 * (6 + 2 + 5) * 2
    assert counting.kv_bytes_per_token(one_layer(Layer(mixer=Lstm()))) == 0
    windowed = one_layer(Layer(mixer=ATTENTION.model_copy(update={"window": 16})))
    assert counting.kv_bytes(windowed, context=100) == 16 * counting.kv_bytes_per_token(windowed)
    assert counting.kv_bytes(windowed, context=100, bits=8) == 16 * 2 * 16


def test_bytes_of_weights() -> None:
    b = one_layer(Layer(mixer=ATTENTION))
    total = counting.parameters(b).total
    assert counting.weight_bytes(b) == {
        "float32": 4 * total, "bfloat16": 2 * total, "int8": total, "int4": (total + 1) // 2
    }  # fmt: skip


def test_experts_touched_by_chance() -> None:
    """8 experts, top 2: one token touches 2, and a simulation of uniform routing agrees at 5."""
    b = one_layer(Layer(ffn=Experts(experts=8, top_k=2, hidden=4)))
    assert counting.experts_touched(b, tokens=1) == pytest.approx(2)
    generator = torch.Generator().manual_seed(0)
    chosen_NTK = torch.rand(4000, 5, 8, generator=generator).argsort(-1)[..., :2]
    drawn = sum(len(set(one.flatten().tolist())) for one in chosen_NTK) / 4000
    assert counting.experts_touched(b, tokens=5) == pytest.approx(drawn, rel=0.02)
    assert counting.experts_touched(one_layer(Layer(ffn=Dense(hidden=4))), tokens=5) is None


def test_the_saving_is_over_the_weights_outside_the_tables() -> None:
    b = one_layer(Layer(ffn=Experts(experts=8, top_k=2, hidden=4)))
    count = counting.parameters(b)
    assert counting.saving(b) == 1 - count.active_no_embedding / count.total_no_embedding
    assert counting.saving(one_layer(Layer(ffn=Dense(hidden=4)))) == 0


def test_more_experts_chosen_than_there_are_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="top-3 is more than the 2 experts"):
        Experts(experts=2, top_k=3, hidden=4)
