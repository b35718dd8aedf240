"""What is measured of a model: bits per byte, routing, FLOPs and memory, by hand and against torch."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moebench.counting.costs import costs_of
from moebench.counting.flops import forward_flops, linear_flops
from moebench.counting.memory import kv_bytes_per_token
from moebench.counting.weights import parameters
from moebench.data.batches import evaluation_windows
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, TrainingStep, chance, start
from moebench.metrics.flops import counted_flops
from moebench.metrics.memory import memory_records
from moebench.metrics.quality import evaluate
from moebench.metrics.routing import domain_records, normalised_entropy, routing_records
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.experts import BACKENDS
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.decoder.transformer import cross_entropy_bits
from moebench.models.routers import ROUTERS
from tests.support import small_corpora
from tests.support.counted_flops import attention_square_flops, counted_step_flops
from tests.support.small_models import SHAPES, architecture, built, dense, moe, odd, run, step_of, tokens
from tests.support.small_routers import CAPPED, VARIANTS, model_of

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)
WINDOWS = evaluation_windows(CORPUS, "test", tokens=10_000)


def undecided(a: Architecture) -> Transformer:
    """A model whose logits are all zero: every byte has probability 1/256."""
    model = build(a, seed=0)
    with torch.no_grad():
        model.norm.weight.zero_()
    return model


@pytest.mark.parametrize(
    "a", [architecture(dense()), architecture(moe(balance_loss=5.0, z_loss=5.0))], ids=["dense", "moe"]
)
def test_a_uniform_guess_costs_eight_bits_a_byte(a: Architecture) -> None:
    """Whatever the coefficients of the auxiliary losses: they are no part of quality."""
    seen = evaluate(DecoderSubject(undecided(a)), WINDOWS)
    assert seen.bits_per_byte() == pytest.approx(8.0, rel=1e-6)
    np.testing.assert_allclose(seen.bits_N, 8.0 * seen.bytes_N, rtol=1e-6)


def test_a_model_that_prefers_a_byte_pays_by_hand() -> None:
    """Logits log 3 for byte 97 and 0 for all others, everywhere: probabilities 3/258 and 1/258."""
    model = build(architecture(dense(), tied_embeddings=False), seed=0)
    assert model.head is not None
    with torch.no_grad():
        model.embedding.fill_(1.0)  # with silent layers, every position's normalised state is all ones
        for layer in model.layers:
            layer.attention.output.zero_()
            layer.ffn.down.zero_()
        model.head.zero_()
        model.head[97] = float(np.log(3)) / 32
    seen = evaluate(DecoderSubject(model), WINDOWS)
    scored = WINDOWS.targets[WINDOWS.mask]
    bits = np.where(scored == 97, np.log2(258 / 3), np.log2(258)).sum()
    assert seen.bits_N.sum() == pytest.approx(bits, rel=1e-4)
    assert seen.bits_per_byte() == pytest.approx(bits / scored.size, rel=1e-4)


def test_bits_are_those_of_the_scored_positions_alone() -> None:
    model = built(architecture(moe()))
    seen = evaluate(DecoderSubject(model), WINDOWS)
    with torch.inference_mode():
        bits_NT = cross_entropy_bits(
            model(torch.from_numpy(WINDOWS.inputs)).logits_BTV, torch.from_numpy(WINDOWS.targets)
        )
    by_hand = [float(bits[mask].sum()) for bits, mask in zip(bits_NT.numpy(), WINDOWS.mask, strict=True)]
    np.testing.assert_allclose(seen.bits_N, by_hand, rtol=1e-4)
    assert seen.bytes_N.tolist() == WINDOWS.mask.sum(1).tolist()
    assert 0 < WINDOWS.mask.mean() < 1  # there are positions to leave out


def test_what_stands_where_nothing_is_scored_does_not_matter() -> None:
    model = built(architecture(dense()))
    other = replace(WINDOWS, targets=np.where(WINDOWS.mask, WINDOWS.targets, 65))
    assert (
        evaluate(DecoderSubject(model), other).bits_per_byte()
        == evaluate(DecoderSubject(model), WINDOWS).bits_per_byte()
    )


def test_a_choice_of_windows_is_weighed_by_its_bytes() -> None:
    seen = evaluate(DecoderSubject(built(architecture(dense()))), WINDOWS)
    chosen = np.arange(len(seen.bits_N)) % 3 == 0
    assert seen.bits_per_byte(chosen) == pytest.approx(seen.bits_N[chosen].sum() / seen.bytes_N[chosen].sum())
    parts = [seen.bits_per_byte(part) * seen.bytes_N[part].sum() for part in (chosen, ~chosen)]
    assert sum(parts) / seen.bytes_N.sum() == pytest.approx(seen.bits_per_byte())


def test_fewer_windows_are_the_first_ones() -> None:
    model = built(architecture(moe()))
    few, all_ = evaluate(DecoderSubject(model), WINDOWS, count=5), evaluate(DecoderSubject(model), WINDOWS)
    np.testing.assert_allclose(few.bits_N, all_.bits_N[:5], rtol=1e-4)
    assert np.array_equal(few.tokens_NLE, all_.tokens_NLE[:5])


@pytest.mark.parametrize("a", [architecture(moe(8, 2)), odd(moe(7, 3, 16))], ids=["top-2", "7 experts, top-3"])
def test_expert_loads_add_up_to_the_scored_tokens_times_k(a: Architecture) -> None:
    seen = evaluate(DecoderSubject(built(a)), WINDOWS)
    assert seen.tokens_NLE.shape == (len(WINDOWS.inputs), a.layers, a.ffn.experts)
    assert np.array_equal(seen.tokens_NLE.sum(2), np.repeat(seen.bytes_N[:, None] * a.ffn.top_k, a.layers, axis=1))
    assert seen.dropped == 0


@pytest.mark.parametrize("word", ROUTERS)
def test_every_router_is_evaluated_without_drops_noise_or_a_generator(word: str) -> None:
    """The same figures twice, from a model in the middle of its training. Layers that are dense have no loads."""
    a = model_of(word, "every other layer", layers=4)
    model = built(a).train()
    seen, again = evaluate(DecoderSubject(model), WINDOWS), evaluate(DecoderSubject(model), WINDOWS)
    assert seen.dropped == 0
    assert seen.tokens_NLE.shape == (len(WINDOWS.inputs), 2, a.ffn.experts)
    assert np.array_equal(seen.bits_N, again.bits_N)
    assert np.array_equal(seen.tokens_NLE, again.tokens_NLE)
    if word not in ("top_p", "expert_choice"):
        assert np.array_equal(seen.tokens_NLE.sum(2), np.repeat(seen.bytes_N[:, None] * a.ffn.top_k, 2, axis=1))


def test_expert_loads_are_counted_where_the_routing_says() -> None:
    model = built(architecture(moe(8, 2)))
    seen = evaluate(DecoderSubject(model), WINDOWS, count=3)
    with torch.inference_mode():
        routings = model(torch.from_numpy(WINDOWS.inputs[:3])).routings
    expected = np.zeros_like(seen.tokens_NLE)
    for layer, routing in enumerate(routings):
        for token, expert in zip(routing.token_N.tolist(), routing.expert_N.tolist(), strict=True):
            expected[token // 16, layer, expert] += bool(WINDOWS.mask[token // 16, token % 16])
    assert np.array_equal(seen.tokens_NLE, expected)


def test_a_dense_model_has_no_loads() -> None:
    assert evaluate(DecoderSubject(built(architecture(dense()))), WINDOWS).tokens_NLE.shape[1] == 0


def test_evaluating_leaves_the_model_as_it_was() -> None:
    model = built(architecture(moe())).train()
    evaluate(DecoderSubject(model), WINDOWS)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    evaluate(DecoderSubject(model), WINDOWS)
    assert not model.training


# ----------------------------------------------------------------------------------------------------
# Figures of expert load by hand.


def figures(loads: list[list[int]], *, dropped: int | None = None) -> dict[str, float]:
    rows = np.array(loads)
    found = routing_records(rows, layers=tuple(range(len(rows))), dropped=dropped, step=5)
    return {r.metric: r.value for r in found if r.value is not None}


def test_uniform_load() -> None:
    found = figures([[10, 10, 10, 10], [5, 5, 5, 5]])
    assert found["routing.entropy"] == pytest.approx(1.0)
    assert found["routing.max_over_mean"] == 1.0
    assert found["routing.dead_experts"] == 0
    assert "evaluation.dropped_share" not in found


def test_all_on_one_expert() -> None:
    found = figures([[0, 40, 0, 0]])
    assert found["routing.entropy"] == 0.0
    assert found["routing.max_over_mean"] == 4.0
    assert found["routing.dead_experts"] == 3


def test_two_of_four_experts_alike_is_half_the_entropy() -> None:
    assert normalised_entropy(np.array([7, 7, 0, 0])) == pytest.approx(math.log(2) / math.log(4))


def test_figures_are_means_over_layers_and_dead_experts_a_sum() -> None:
    found = figures([[10, 10, 10, 10], [0, 40, 0, 0]])
    assert found["routing.entropy"] == pytest.approx(0.5)
    assert found["routing.max_over_mean"] == 2.5
    assert found["routing.dead_experts"] == 3


def test_the_dropped_share_is_of_all_pairs_wanted() -> None:
    assert figures([[10, 20], [5, 25]], dropped=20)["evaluation.dropped_share"] == pytest.approx(20 / 80)
    assert figures([[10, 20], [5, 25]], dropped=0)["evaluation.dropped_share"] == 0.0


def test_the_experts_that_chance_alone_leaves_idle_stand_beside_the_dead_ones() -> None:
    """256 tokens, each to one of 256 experts at random, leave 256 (255/256)^256 = 94 of them without a token."""
    load = np.zeros(256, dtype=np.int64)
    load[:26] = [*[10] * 25, 6]
    found = figures([load.tolist()])
    assert found["routing.dead_experts"] == 230
    assert found["routing.idle_by_chance"] == pytest.approx(94.0, abs=0.05)
    assert found["routing.idle_by_chance"] == pytest.approx(256 * (255 / 256) ** 256)
    two = figures([[4, 4], [1, 1]])["routing.idle_by_chance"]
    assert two == pytest.approx(2 * 0.5**8 + 2 * 0.5**2)


def test_each_load_is_a_record_of_its_layer_and_expert_at_its_step() -> None:
    """Layers are told by their index in the model, in which some may be dense."""
    found = list(routing_records(np.array([[1, 2], [3, 4]]), layers=(1, 3), dropped=None, step=5))
    loads = {r.metric: r.value for r in found if r.metric.startswith("routing.tokens[")}
    assert loads == {f"routing.tokens[layer={1 + 2 * i},expert={j}]": 1 + 2 * i + j for i in (0, 1) for j in (0, 1)}
    assert {r.step for r in found} == {5}


def test_one_expert_is_always_balanced() -> None:
    found = figures([[40]])
    assert (found["routing.entropy"], found["routing.max_over_mean"], found["routing.dead_experts"]) == (1.0, 1.0, 0)


def test_a_dense_model_has_no_figures() -> None:
    assert list(routing_records(np.zeros((0, 0), dtype=np.int64), layers=(), dropped=None, step=5)) == []


def test_domains_are_told_apart() -> None:
    by_domain = {"code": np.array([[1, 2]]), "prose": np.array([[3, 4]])}
    found = {r.metric: r.value for r in domain_records(by_domain, layers=(1,), step=9)}
    assert found == {
        "routing.domain_tokens[layer=1,expert=0,domain=code]": 1,
        "routing.domain_tokens[layer=1,expert=1,domain=code]": 2,
        "routing.domain_tokens[layer=1,expert=0,domain=prose]": 3,
        "routing.domain_tokens[layer=1,expert=1,domain=prose]": 4,
    }


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=64).filter(any))
def test_entropy_lies_between_0_and_1_and_ignores_order_and_scale(load: list[int]) -> None:
    entropy = normalised_entropy(np.array(load))
    assert -1e-12 <= entropy <= 1 + 1e-12
    assert normalised_entropy(np.array(load[::-1])) == pytest.approx(entropy)
    assert normalised_entropy(np.array(load) * 3) == pytest.approx(entropy)


# ----------------------------------------------------------------------------------------------------
# The arithmetic of FLOPs against torch's own counter on the built model, the full attention square put back in.


B, T = 3, 16

# (multiply-adds of all matrix products but attention's own for one token, head dims of all layers)
BY_HAND = {
    "dense": (2 * (4 * 32 * 32 + 3 * 32 * 40) + 256 * 32, 2 * 4 * 8),
    "dense, grouped-query, untied": (3 * (2 * 32 * 24 + 2 * 32 * 12 + 3 * 32 * 40) + 256 * 32, 3 * 4 * 6),
    "8 experts, top-2": (2 * (4 * 32 * 32 + 32 * 8 + 2 * 3 * 32 * 16) + 256 * 32, 2 * 4 * 8),
    "7 experts, top-3, grouped-query, untied": (
        3 * (2 * 32 * 24 + 2 * 32 * 12 + 32 * 7 + 3 * 3 * 32 * 16) + 256 * 32,
        3 * 4 * 6,
    ),
    "1 expert": (2 * (4 * 32 * 32 + 32 * 1 + 3 * 32 * 24) + 256 * 32, 2 * 4 * 8),
    "normed queries and keys": (3 * (2 * 32 * 24 + 2 * 32 * 12 + 3 * 32 * 40) + 256 * 32, 3 * 4 * 6),
    "normed queries and keys, each head": (
        3 * (2 * 32 * 24 + 2 * 32 * 12 + 32 * 4 + 2 * 3 * 32 * 8) + 256 * 32,
        3 * 4 * 6,
    ),
    "a window": (2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40) + 256 * 32, 2 * 4 * 8),
    "sinks, biases, every other layer a window, stretched positions": (
        3 * (2 * 32 * 24 + 2 * 32 * 12 + 32 * 7 + 3 * 3 * 32 * 16) + 256 * 32,
        3 * 4 * 6,
    ),
}


def forward_by_hand(shape: str) -> int:
    linear, heads = BY_HAND[shape]
    return 2 * B * T * linear + B * (2 * T * T * heads + 2 * T * T * heads)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_flops_equal_torchs_count(shape: str) -> None:
    model = built(SHAPES[shape], backend="loop")
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens(B, T))
    assert counter.get_total_flops() == forward_by_hand(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_flops_equal_torchs_count(shape: str) -> None:
    counted = counted_flops(step_of(built(SHAPES[shape]), run(SHAPES[shape])), tokens(B, T + 1))
    assert counted == 3 * forward_by_hand(shape)
    assert counted == counted_step_flops(SHAPES[shape].blueprint, sequences=B, length=T)


def routed_pairs(model: Transformer, chosen: Run) -> int:
    """Pairs over all layers of the very pass that is counted."""
    output = model(tokens(B, T + 1)[:, :-1], generator=chance(chosen, step=0))
    return sum(routing.token_N.numel() for routing in output.routings)


CASES = [(word, variant) for word in ROUTERS for variant in ("plain", "everything")]
CASES += [("softmax_topk", variant) for variant in VARIANTS]


@pytest.mark.parametrize(("word", "variant"), dict.fromkeys(CASES))
def test_the_formula_equals_torchs_count_for_every_router_and_variant(word: str, variant: str) -> None:
    """Forward and backward, with the pairs really routed: fewer than k a token where some are refused or not asked for.

    Forward alone as it is evaluated: without what routers compute in training only.
    """
    tight = {"capacity_factor": 0.5} if word in CAPPED else {}
    a = model_of(word, variant, **tight)
    model, chosen = built(a), run(a)
    pairs = routed_pairs(model, chosen)
    counted = counted_flops(step_of(model, chosen), tokens(B, T + 1))
    assert counted == counted_step_flops(a.blueprint, sequences=B, length=T, assignments=pairs)
    assert (pairs < len(a.moe_layers) * B * T * a.ffn.top_k) == (word in CAPPED)
    model.eval()
    for mixture in (layer.ffn for layer in model.layers):
        mixture.compute = BACKENDS["loop"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(tokens(B, T))
    evaluated = sum(routing.token_N.numel() for routing in output.routings)
    linear = linear_flops(a.blueprint, tokens=B * T, assignments=evaluated, training=False)
    assert counter.get_total_flops() == linear + B * attention_square_flops(a.blueprint, length=T)


def test_model_flops_are_the_count_with_half_the_square() -> None:
    a = SHAPES["8 experts, top-2"]
    _, heads = BY_HAND["8 experts, top-2"]
    half_square = B * (2 * T * T * heads + 2 * T * T * heads) // 2
    assert forward_flops(a.blueprint, sequences=B, length=T) == forward_by_hand("8 experts, top-2") - half_square


def test_an_expert_that_no_token_chose_changes_no_count() -> None:
    a = odd(moe(7, 3, 16))
    model = built(a)
    with torch.no_grad():
        for layer in model.layers:
            layer.ffn.router.weight.zero_()  # every token to the same three
    counted = counted_flops(step_of(model, run(a)), tokens(B, T + 1))
    assert counted == counted_step_flops(a.blueprint, sequences=B, length=T)


def test_counting_leaves_the_model_as_it_was() -> None:
    a = architecture(moe())
    model = built(a, backend="sorted")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counted_flops(step_of(model, run(a)), tokens(B, T + 1))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(layer.ffn.compute is BACKENDS["sorted"] for layer in model.layers)


# ----------------------------------------------------------------------------------------------------
# Peaks of tensor bytes: parts that add up, weights and cache as counted, the rest in proportion.


TRAIN, INFERENCE = "memory.train_peak_bytes", "memory.inference_peak_bytes"
MODELS = {
    "dense": architecture(dense(40)),
    "moe": architecture(moe(8, 2, 16)),
    "odd": odd(moe(7, 3, 16)),
    "noisy": model_of("noisy_topk", "everything", capacity_factor=1.0),
}


def seen(state: State, chosen: Run) -> tuple[DecoderSubject, TrainingStep]:
    return DecoderSubject(state.model), TrainingStep(state, chosen)


@functools.cache
def peaks(a: Architecture, *, rows: int = 4, stepped: bool = True, muon: bool = False) -> dict[str, float]:
    """The records of a model that has taken a step, so that its optimizer has its moments, or of a fresh one."""
    how = {"optimizer": "muon", "momentum": 0.95} if muon else {}
    chosen = run(a, micro_batch_tokens=rows * 16, batch_tokens=rows * 16, **how)
    state = start(chosen)
    batch = tokens(rows, 17)
    if stepped:
        list(memory_records(*seen(state, chosen), batch, step=1))
    return {r.metric: r.value for r in memory_records(*seen(state, chosen), batch, step=1) if r.value is not None}


def parts(found: dict[str, float], metric: str) -> dict[str, float]:
    return {name.split("part=")[1][:-1]: value for name, value in found.items() if name.startswith(metric + "[")}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("metric", [TRAIN, INFERENCE])
def test_parts_add_up_to_the_total(name: str, metric: str) -> None:
    found = peaks(MODELS[name])
    assert sum(parts(found, metric).values()) == found[metric] > 0
    assert all(value >= 0 for value in parts(found, metric).values())


def test_training_and_inference_have_parts_of_their_own() -> None:
    found = peaks(MODELS["moe"])
    assert set(parts(found, TRAIN)) == {"weights", "gradients", "optimizer", "activations"}
    assert set(parts(found, INFERENCE)) == {"weights", "gradients", "optimizer", "activations", "kv_cache"}
    assert parts(found, INFERENCE)["gradients"] == parts(found, INFERENCE)["optimizer"] == 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("metric", [TRAIN, INFERENCE])
def test_weights_are_four_bytes_each_and_all_experts_count(name: str, metric: str) -> None:
    total = parameters(MODELS[name].blueprint).total
    assert parts(peaks(MODELS[name]), metric)["weights"] == 4 * total


@pytest.mark.parametrize("name", MODELS)
def test_the_cache_is_its_bytes_per_token_times_the_context(name: str) -> None:
    a = MODELS[name]
    counted = kv_bytes_per_token(a.blueprint, "float32") * a.context
    assert parts(peaks(a), INFERENCE)["kv_cache"] == counted


def test_the_cache_is_counted_once() -> None:
    """In a deep model it is larger than all activations, which live for a layer at a time."""
    found = parts(peaks(architecture(dense(40), layers=12)), INFERENCE)
    assert 0 < found["activations"] < found["kv_cache"]


@pytest.mark.parametrize("name", MODELS)
def test_the_optimizer_keeps_two_moments_of_every_weight(name: str) -> None:
    """And a count of steps for each parameter, a few bytes."""
    total = parameters(MODELS[name].blueprint).total
    assert 8 * total <= parts(peaks(MODELS[name]), TRAIN)["optimizer"] <= 8 * total + 4 * 100


@pytest.mark.parametrize("name", MODELS)
def test_muon_keeps_one_moment_of_a_matrix(name: str) -> None:
    """As it is counted, and a count of steps for each parameter of AdamW's."""
    costs = costs_of(MODELS[name].blueprint, dtype="float32", optimizer="muon")
    assert costs.trained_params is not None
    moments = costs.train_state_bytes - 4 * (costs.params.total + costs.trained_params)
    assert moments < 8 * costs.params.total
    assert moments <= parts(peaks(MODELS[name], muon=True), TRAIN)["optimizer"] <= moments + 4 * 100


def test_gradients_and_moments_dominate_where_weights_do() -> None:
    """At the peak of a wide model on few tokens, most gradients are there, and none twice."""
    a = architecture(moe(16, 2, 256))
    found, total = parts(peaks(a, rows=1), TRAIN), parameters(a.blueprint).total
    assert 0.4 * 4 * total < found["gradients"] <= 4 * total
    assert sum(found.values()) > 3 * 4 * total


def test_activations_grow_with_the_micro_batch_and_nothing_else_does() -> None:
    few, many = (parts(peaks(MODELS["moe"], rows=rows), TRAIN) for rows in (4, 16))
    assert many["activations"] > 2 * few["activations"]
    assert (many["weights"], many["optimizer"]) == (few["weights"], few["optimizer"])


def test_measuring_again_gives_the_same() -> None:
    assert peaks.__wrapped__(MODELS["moe"]) == peaks(MODELS["moe"])


def test_records_carry_their_step() -> None:
    chosen = run(MODELS["dense"])
    assert {r.step for r in memory_records(*seen(start(chosen), chosen), tokens(4, 17), step=7)} == {7}
