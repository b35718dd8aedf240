"""Counting: every formula against shapes written out by hand, blueprints by hand, and the model that is built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, LatentAttention, Layer, Lstm, Stack
from moebench.counting.costs import costs_of
from moebench.counting.flops import (
    decode_flops_per_token,
    forward_flops,
    forward_flops_per_token,
    linear_flops,
    train_flops_per_token,
    train_step_flops,
    twice_pairs,
)
from moebench.counting.kernels import executed_step_flops
from moebench.counting.memory import BITS, decode_bytes, experts_touched, kv_bytes, kv_bytes_per_token, weight_bytes
from moebench.counting.weights import (
    active_without_input_tables,
    ffn_weights,
    layer_weights,
    mixer_weights,
    parameters,
    saving,
)
from moebench.models.decoder import Transformer, build
from moebench.models.routers import ROUTERS
from moebench.planning.matching import match_all
from moebench.suite.load import load_suite
from moebench.suite.words import bundled_names
from tests.support.counted_flops import attention_square_flops, counted_step_flops
from tests.support.small_models import SHAPES, architecture, dense, moe, odd
from tests.support.small_routers import VARIANTS, model_of

# 7 experts top-3 of hidden 16; width 32; 3 layers; 4 query and 2 key-value heads of 6; vocabulary 256, head untied.
QUERY, KEY_VALUE, OUTPUT = 32 * 4 * 6, 32 * 2 * 6, 4 * 6 * 32
ATTENTION = QUERY + KEY_VALUE + KEY_VALUE + OUTPUT
EXPERT = 32 * 16 + 32 * 16 + 16 * 32  # gate, up, down
ROUTER = 32 * 7
NORMS = 32 + 32
TABLE = 256 * 32
ODD = odd(moe(7, 3, 16))


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_built_model(shape: str) -> None:
    built = build(SHAPES[shape], seed=0)
    assert parameters(SHAPES[shape].blueprint).total == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("word", ROUTERS)
def test_parameters_of_every_router_in_every_variant_are_those_of_the_built_model(word: str, variant: str) -> None:
    """A projection that is drawn once and never trained is a weight too."""
    a = model_of(word, variant)
    model = build(a, seed=0)
    frozen = {name: value for name, value in model.named_buffers() if name.endswith("router.weight")}
    weights = {**dict(model.named_parameters()), **frozen}
    experts = [
        value[0].numel()
        for name, value in weights.items()
        if name.split(".")[-1].removesuffix("_bias") in ("gate_up", "down") and value.shape[0] == a.ffn.experts
    ]
    counted = parameters(a.blueprint)
    assert counted.total == sum(value.numel() for value in weights.values())
    assert counted.total - counted.active == (a.ffn.experts - a.ffn.top_k) * sum(experts)
    assert len(experts) == len(a.moe_layers) * (4 if a.ffn.bias else 2)
    assert len(frozen) == (len(a.moe_layers) if word == "frozen_random" else 0)


# Four layers: dense, mixture, dense, mixture. Two noisy gates a mixture, of 9 experts and of 3 groups; experts with two
# matrices and biases; a shared expert with a gate; dense layers with three matrices.
HIERARCHICAL = model_of("hierarchical", "everything", layers=4)
GATES = 32 * (9 + 3)
HIDDEN_8, BIASES_8 = 2 * 32 * 8, 8 + 32
SHARED = 2 * 32 * 12 + 32
DENSE_20 = 3 * 32 * 20
PROJECTIONS = 4 * 32 * 32  # attention


def test_parameters_of_a_mixed_model_by_hand() -> None:
    counted = parameters(HIERARCHICAL.blueprint)
    common = 4 * (PROJECTIONS + NORMS) + 32 + 2 * DENSE_20 + 2 * (SHARED + GATES + GATES)  # weights and noise
    assert counted.total_no_embedding == common + 2 * 9 * (HIDDEN_8 + BIASES_8)
    assert counted.active_no_embedding == common + 2 * 4 * (HIDDEN_8 + BIASES_8)


def test_flops_of_a_mixed_model_by_hand() -> None:
    """Noise is projected in training alone; biases are additions, and not counted."""
    common = 4 * PROJECTIONS + 2 * DENSE_20 + 2 * (SHARED + GATES + 4 * HIDDEN_8) + TABLE
    assert linear_flops(HIERARCHICAL.blueprint, tokens=7, training=False) == 2 * 7 * common
    assert linear_flops(HIERARCHICAL.blueprint, tokens=7) == 2 * 7 * (common + 2 * GATES)
    assert linear_flops(HIERARCHICAL.blueprint, tokens=7, assignments=5) == 2 * (
        7 * (common + 2 * GATES - 2 * 4 * HIDDEN_8) + 5 * HIDDEN_8
    )
    attention = 4 * (2 * 11 * 4 * 8 + 2 * 11 * 4 * 8)
    assert decode_flops_per_token(HIERARCHICAL.blueprint, cached=11) == 2 * common + attention


def test_a_frozen_router_has_no_gradient_to_compute() -> None:
    """A third of its share of a training step: the input's gradient goes through it, its weights' is not taken."""
    frozen, learned = (model_of(word) for word in ("frozen_random", "softmax_topk"))
    flops = [train_step_flops(a.blueprint, sequences=2, length=10) for a in (frozen, learned)]
    assert flops[1] - flops[0] == 2 * 2 * 20 * 32 * 8


@pytest.mark.parametrize("word", ["token_hash", "round_robin"])
def test_a_router_without_weights_costs_nothing(word: str) -> None:
    bare, learned = model_of(word), model_of("softmax_topk")
    assert parameters(learned.blueprint).total - parameters(bare.blueprint).total == 2 * 32 * 8
    flops = [linear_flops(a.blueprint, tokens=1) for a in (learned, bare)]
    assert flops[0] - flops[1] == 2 * 2 * 32 * 8


def test_decode_bytes_of_a_mixed_model_by_hand() -> None:
    numbers = 4 * PROJECTIONS + 2 * DENSE_20 + 2 * (SHARED + GATES + 2.5 * (HIDDEN_8 + BIASES_8)) + TABLE
    cache = 3 * 11 * (2 * 4 * 32)
    found = decode_bytes(HIERARCHICAL.blueprint, "float32", batch=3, cached=11, touched=2.5)
    assert found == 4 * (numbers + cache)


def test_parameters_by_hand() -> None:
    counted = parameters(ODD.blueprint)
    layer = ATTENTION + ROUTER + NORMS
    assert counted.total_no_embedding == 3 * (layer + 7 * EXPERT) + 32
    assert counted.active_no_embedding == 3 * (layer + 3 * EXPERT) + 32
    assert counted.total - counted.total_no_embedding == 2 * TABLE
    assert counted.active - counted.active_no_embedding == 2 * TABLE


def test_tied_tables_count_once() -> None:
    tied, untied = (architecture(dense(), tied_embeddings=tied) for tied in (True, False))
    assert parameters(untied.blueprint).total - parameters(tied.blueprint).total == TABLE
    assert parameters(untied.blueprint).total_no_embedding == parameters(tied.blueprint).total_no_embedding


def test_a_dense_model_uses_all_it_has() -> None:
    counted = parameters(architecture(dense()).blueprint)
    assert (counted.total, counted.total_no_embedding) == (counted.active, counted.active_no_embedding)


def test_forward_flops_by_hand_count_half_the_attention_square() -> None:
    tokens = 2 * 10  # two sequences of ten
    linear = 2 * tokens * (3 * (ATTENTION + ROUTER + 3 * EXPERT) + TABLE)
    square = (
        3 * 2 * (2 * 10 * 10 * 4 * 6 + 2 * 10 * 10 * 4 * 6)
    )  # layers, sequences; queries by keys, weights by values
    assert 2 * attention_square_flops(ODD.blueprint, length=10) == square
    assert forward_flops(ODD.blueprint, sequences=2, length=10) == linear + square // 2
    assert train_step_flops(ODD.blueprint, sequences=2, length=10) == 3 * (linear + square // 2)
    assert counted_step_flops(ODD.blueprint, sequences=2, length=10) == 3 * (linear + square)


def test_pairs_really_routed_replace_the_expected_ones() -> None:
    """Half of the pairs dropped is half of the experts' work less, and of nothing else."""
    whole = 3 * 20 * 3  # layers, tokens, experts a token
    all_kept = forward_flops(ODD.blueprint, sequences=2, length=10, assignments=whole)
    half_kept = forward_flops(ODD.blueprint, sequences=2, length=10, assignments=whole // 2)
    assert all_kept == forward_flops(ODD.blueprint, sequences=2, length=10)
    assert all_kept - half_kept == 2 * (whole // 2) * EXPERT


def test_executed_flops_add_the_recomputed_scores() -> None:
    """Flash attention's backward computes queries by keys again, over the causal half: one product of the two."""
    scores_again = 3 * 2 * (2 * 10 * 10 * 4 * 6) // 2
    expected = train_step_flops(ODD.blueprint, sequences=2, length=10) + scores_again
    assert executed_step_flops(ODD.blueprint, sequences=2, length=10) == expected


def test_train_flops_per_token_are_those_of_a_full_context() -> None:
    assert train_flops_per_token(ODD.blueprint) * 16 == train_step_flops(ODD.blueprint, sequences=1, length=16)


def test_decode_flops_by_hand() -> None:
    """One token against 11 in the cache, itself included: no half here, it sees them all."""
    linear = 2 * (3 * (ATTENTION + ROUTER + 3 * EXPERT) + TABLE)
    attention = 3 * (2 * 11 * 4 * 6 + 2 * 11 * 4 * 6)
    assert decode_flops_per_token(ODD.blueprint, cached=11) == linear + attention


def test_cache_bytes_by_hand() -> None:
    assert kv_bytes_per_token(ODD.blueprint, "float32") == 2 * 3 * 2 * 6 * 4
    assert kv_bytes_per_token(ODD.blueprint, "bfloat16") == 2 * 3 * 2 * 6 * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_cache_bytes_are_those_of_the_cache_that_is_made(shape: str) -> None:
    a = SHAPES[shape]
    cache = build(a, seed=0).new_cache(3)
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys_BGSC, layer.values_BGSC))
    assert held == 3 * a.context * kv_bytes_per_token(a.blueprint, "float32")


def test_experts_touched_by_hand() -> None:
    assert experts_touched(ODD.blueprint, tokens=1) == pytest.approx(3)
    assert experts_touched(ODD.blueprint, tokens=2) == pytest.approx(7 * (1 - (4 / 7) ** 2))
    assert experts_touched(architecture(dense()).blueprint, tokens=64) is None


def test_experts_touched_is_the_mean_of_uniform_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(4000, 5, 7, generator=generator).topk(3, dim=2).indices.flatten(1)  # five tokens, top-3 of 7
    seen = torch.zeros(4000, 7).scatter_(1, draws, 1.0).sum(1).mean()
    assert experts_touched(ODD.blueprint, tokens=5) == pytest.approx(float(seen), rel=0.01)


def test_decode_bytes_by_hand() -> None:
    """Weights of the experts touched, attention, router and head; the cache of every sequence."""
    numbers = 3 * (ATTENTION + ROUTER + 4.5 * EXPERT) + TABLE
    cache = 8 * 11 * (2 * 3 * 2 * 6)
    assert decode_bytes(ODD.blueprint, "float32", batch=8, cached=11, touched=4.5) == 4 * (numbers + cache)
    assert decode_bytes(ODD.blueprint, "bfloat16", batch=1, cached=11) == 2 * (
        3 * (ATTENTION + ROUTER + 3 * EXPERT) + TABLE + 11 * (2 * 3 * 2 * 6)
    )


def test_weight_bytes_are_in_the_recipes_dtype_and_training_state_in_float32() -> None:
    total = parameters(ODD.blueprint).total
    half = costs_of(ODD.blueprint, dtype="bfloat16")
    assert (half.weight_bytes, half.train_state_bytes) == (2 * total, (4 + 4 + 4 + 4) * total)
    assert costs_of(ODD.blueprint, dtype="float32").weight_bytes == 4 * total


@pytest.mark.parametrize("word", ["frozen_random", "token_hash", "softmax_topk"])
def test_what_is_not_trained_has_no_gradient_and_no_moments(word: str) -> None:
    a = model_of(word)
    model = build(a, seed=0)
    trained = sum(value.numel() for value in model.parameters())
    frozen = sum(value.numel() for name, value in model.named_buffers() if name.endswith("router.weight"))
    assert (frozen > 0) == (word == "frozen_random")
    assert costs_of(a.blueprint, dtype="float32").train_state_bytes == 16 * trained + 4 * frozen


def test_a_width_still_to_be_matched_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="before its match is solved"):
        parameters(architecture(dense(None)).blueprint)


@pytest.mark.parametrize("suite", bundled_names())
def test_every_model_of_the_bundled_suites_is_built_as_planned(suite: str) -> None:
    """Weights that are drawn once and never trained are counted too, and are buffers."""
    for a in match_all(load_suite(suite).spec, vocab=256)[0].values():
        model = Transformer(a, dtype="float32", backend="sorted")
        frozen = [value for name, value in model.named_buffers() if name.endswith("router.weight")]
        built = sum(weight.numel() for weight in [*model.parameters(), *frozen])
        assert built == parameters(a.blueprint).total


# ----------------------------------------------------------------------------------------------------
# Counting blueprints: each formula by hand.


ATTENTION_FORMULAS = Attention(heads=4, kv_heads=2, head_dim=8)


def one_layer(layer: Layer, **more: Any) -> Blueprint:
    return Blueprint(width=32, vocab=100, stacks=(Stack(layers=(layer,)),), **more)


# ------------------------------------------------------------------------------------------------ parameters, by hand


def test_attention() -> None:
    matrices = 32 * 32 + 2 * 32 * 16 + 32 * 32  # queries, keys and values, output
    layer = Layer(mixer=ATTENTION_FORMULAS, norms=2)
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
    layer = Layer(mixer=ATTENTION_FORMULAS)
    untied, tied = one_layer(layer), one_layer(layer, tied=True)
    assert active_without_input_tables(untied) == parameters(untied).active - 3200
    assert active_without_input_tables(tied) == parameters(tied).active


# ------------------------------------------------------------------------------------------------ FLOPs and bytes


def seen(mixer: Attention, context: int, *, causal: bool = True) -> float:
    """Keys a query meets, on average over a sequence."""
    return twice_pairs(mixer, length=context, causal=causal) / (2 * context)


def test_windows_and_chunks_bound_what_a_query_sees() -> None:
    """Against counting keys one by one; the half square leaves out half a key a query."""
    windowed, chunked = (ATTENTION_FORMULAS.model_copy(update={key: 16}) for key in ("window", "chunk"))
    for context in (8, 16, 40, 64):
        by_hand = sum(min(i + 1, 16) for i in range(context)) / context
        assert seen(windowed, context) == pytest.approx(by_hand, abs=0.5)
        by_hand = sum(i % 16 + 1 for i in range(context)) / context
        assert seen(chunked, context) == pytest.approx(by_hand, abs=0.51)
        assert seen(ATTENTION_FORMULAS, context) == context / 2
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
    encoder = Stack(kind="encoder", layers=(Layer(mixer=ATTENTION_FORMULAS),))
    decoder = Stack(layers=(Layer(mixer=ATTENTION_FORMULAS, cross=ATTENTION_FORMULAS, norms=3),))
    b = Blueprint(width=32, vocab=100, stacks=(encoder, decoder))
    one, pair = mixer_weights(ATTENTION_FORMULAS, 32).matrices, 4 * 4 * 8
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
    windowed = one_layer(Layer(mixer=ATTENTION_FORMULAS.model_copy(update={"window": 16})))
    assert kv_bytes(windowed, "bfloat16", context=100) == 16 * kv_bytes_per_token(windowed, "bfloat16")
    assert kv_bytes(windowed, "int8", context=100) == 16 * 2 * 16


def test_bytes_of_weights() -> None:
    b = one_layer(Layer(mixer=ATTENTION_FORMULAS))
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
