"""The decoder: causality, the cache, documents that know nothing of their batch mates, and initial values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.rotary import rotary_table, rotate
from moebench.models.decoder.subject import ffn_output_rms
from moebench.models.decoder.transformer import RMSNorm, cross_entropy_bits
from moebench.models.routers import ROUTERS
from moebench.suite.activations import ACTIVATIONS
from moebench.suite.model import DenseFFN, MoEFFN
from tests.support.small_models import SHAPES, architecture, built, dense, moe, odd, tokens
from tests.support.small_routers import CAUSAL, mixture, model_of

pytestmark = pytest.mark.numeric

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # of logits whose size is 1 to 10; products of other shapes round otherwise


def logits(model: Transformer, tokens_BT: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(tokens_BT).logits_BTV


# ------------------------------------------------------------------------------------------ causality

MODELS = {**SHAPES, **{word: model_of(word) for word in CAUSAL}}
MODELS |= {f"{word}, with everything": model_of(word, "everything") for word in ("sigmoid_bias", "round_robin")}


def evaluated(name: str) -> Transformer:
    """The law is one of evaluation: in training, capacity lets tokens take each other's places."""
    model = built(MODELS[name]).eval()
    for buffer, value in model.named_buffers():
        if buffer.endswith("bias_E"):
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_changing_later_tokens_leaves_earlier_logits_unchanged(name: str) -> None:
    model, original = evaluated(name), tokens(2, 16)
    changed = original.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 256
    before, after = logits(model, original), logits(model, changed)
    torch.testing.assert_close(after[:, :9], before[:, :9], **CLOSE)
    assert (after[:, 9:] - before[:, 9:]).abs().amax(2).min() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_earlier_tokens_do_change_later_logits(name: str) -> None:
    model, original = evaluated(name), tokens(2, 16)
    changed = original.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 256
    assert (logits(model, changed)[:, -1] - logits(model, original)[:, -1]).abs().max() > 1e-3


def decoded(model: Transformer, tokens_BT: Tensor, chunks: list[int]) -> Tensor:
    """Logits by way of the cache, some tokens at a time."""
    cache = model.new_cache(tokens_BT.shape[0])
    with torch.inference_mode():
        parts = [model(chunk_BT, cache=cache).logits_BTV for chunk_BT in tokens_BT.split(chunks, dim=1)]
    assert cache.length == tokens_BT.shape[1]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunks", [[1] * 16, [7, 1, 8], [16], [5, 11]], ids=str)
def test_decoding_through_the_cache_equals_the_full_forward(name: str, chunks: list[int]) -> None:
    model = evaluated(name)
    torch.testing.assert_close(decoded(model, tokens(2, 16), chunks), logits(model, tokens(2, 16)), **CLOSE)


@pytest.mark.parametrize("name", [*MODELS, "expert_choice"])
def test_a_documents_loss_does_not_depend_on_its_batch_mates(name: str) -> None:
    """Within 1e-5 bits a byte: a product of more rows may be summed in another order. expert_choice keeps this one."""
    model = built(model_of(name)).eval() if name == "expert_choice" else evaluated(name)
    mine, mates = tokens(1, 17), tokens(5, 17, seed=8)
    alone, among = mine, torch.cat([mates[:2], mine, mates[2:]])
    loss = [cross_entropy_bits(logits(model, batch[:, :-1]), batch[:, 1:]).mean(1) for batch in (alone, among)]
    assert float(loss[1][2]) == pytest.approx(float(loss[0][0]), rel=1e-5)


def test_expert_choice_breaks_the_law_and_says_so() -> None:
    """A later token takes an earlier one's place with an expert; alone in the cache, a token gets every expert."""
    assert [word for word, router in ROUTERS.items() if not router.causal] == ["expert_choice"]
    model, original = built(model_of("expert_choice")).eval(), tokens(2, 16)
    changed = original.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 256
    before, after = logits(model, original), logits(model, changed)
    assert (after[:, :9] - before[:, :9]).abs().max() > 0.01
    assert (decoded(model, original, [1] * 16) - before).abs().max() > 0.01


def test_every_routing_is_reported_layer_by_layer() -> None:
    output = built(odd(moe(7, 3, 16)))(tokens(2, 16))
    assert [routing.token_N.numel() for routing in output.routings] == [2 * 16 * 3] * 3
    assert built(odd(dense()))(tokens(2, 16)).routings == ()


def test_more_tokens_than_the_context_are_refused() -> None:
    model = built(architecture(dense()))
    with pytest.raises(ValueError, match="17 tokens do not fit the context of 16"):
        model(tokens(1, 17))
    cache = model.new_cache(1)
    model(tokens(1, 16), cache=cache)
    with pytest.raises(ValueError, match="17 tokens"):
        model(tokens(1, 1), cache=cache)


# ------------------------------------------------------------------------------------------ parts


def test_grouped_query_heads_share_keys_and_values() -> None:
    """Two key-value heads for four queries are four heads of which each two have the same key and value weights."""
    grouped = built(architecture(dense(), kv_heads=2))
    whole = build(architecture(dense(), kv_heads=4), seed=0)
    state = grouped.state_dict()
    for name, value in state.items():
        if name.endswith((".key", ".value")):
            state[name] = value.view(2, 1, 8, 32).expand(2, 2, 8, 32).reshape(32, 32)
    whole.load_state_dict(state)
    torch.testing.assert_close(logits(grouped, tokens(2, 16)), logits(whole, tokens(2, 16)), **CLOSE)


def test_a_query_sees_its_window_and_no_key_before_it() -> None:
    """Of one layer: token 4 reaches the logits of places 4 to 8, and no others."""
    model, original = built(architecture(dense(), layers=1, window=5)).eval(), tokens(2, 16)
    changed = original.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 256
    apart_T = (logits(model, changed) - logits(model, original)).abs().amax((0, 2))
    assert apart_T[4:9].min() > 1e-3
    assert apart_T[9:].max() == apart_T[:4].max() == 0


def test_layers_without_a_window_are_those_that_full_every_divides() -> None:
    a = architecture(dense(), layers=5, window=3, full_every=2)
    assert [a.window_of(layer) for layer in range(5)] == [3, None, 3, None, 3]
    assert [layer.attention.window for layer in built(a).layers] == [3, None, 3, None, 3]


@pytest.mark.parametrize("window", [None, 5])
def test_a_sink_takes_its_share_of_the_attention(window: int | None) -> None:
    """At minus infinity nothing; where it is as large as all scores together, half; beyond that all."""
    plain, sunk = (architecture(dense(), layers=1, attention_sinks=sinks, window=window) for sinks in (False, True))
    without, model = built(plain).eval(), built(sunk).eval()
    model.load_state_dict({**without.state_dict(), "layers.0.attention.sinks": torch.full((4,), -torch.inf)})
    torch.testing.assert_close(logits(model, tokens(2, 16)), logits(without, tokens(2, 16)), **CLOSE)
    q, k, v = torch.randn(3, 1, 4, 6, 8, generator=torch.Generator().manual_seed(0)).unbind()
    attention = model.layers[0].attention
    with torch.no_grad():
        whole = without.layers[0].attention._attended(q, k, v)
        attention.sinks.copy_((q[0, :, 0] * k[0, :, 0]).sum(1) / 8**0.5)  # type: ignore[union-attr]  of the first key
        torch.testing.assert_close(attention._attended(q, k, v)[:, :, 0], whole[:, :, 0] / 2)
        attention.sinks.fill_(1e4)  # type: ignore[union-attr]
        assert attention._attended(q, k, v).abs().max() == 0


def test_rotation_keeps_lengths_and_depends_on_distance_alone() -> None:
    a = architecture(dense(), context=64)
    cos, sin = rotary_table(a, device=torch.device("cpu"))
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).unbind()

    def score(i: int, j: int) -> float:
        return float(
            rotate(query[None], cos[i : i + 1], sin[i : i + 1]) @ rotate(key[None], cos[j : j + 1], sin[j : j + 1]).T
        )

    assert score(9, 4) == pytest.approx(score(40, 35), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)
    turned = rotate(query.expand(64, 8), cos, sin)
    torch.testing.assert_close(turned.norm(dim=1), query.norm().expand(64))
    torch.testing.assert_close(turned[0], query)


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, eps=0.5)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0]))
    root = ((9 + 16) / 2 + 0.5) ** 0.5
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3 / root, 8 / root]))


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not() -> None:
    tied, untied = built(architecture(dense())), built(architecture(dense(), tied_embeddings=False))
    assert tied.head is None
    assert untied.head is not None
    assert not torch.equal(untied.head, untied.embedding)


def test_cross_entropy_is_in_bits() -> None:
    even = torch.zeros(1, 2, 256)
    torch.testing.assert_close(cross_entropy_bits(even, tokens(1, 2)), torch.full((1, 2), 8.0))
    quarter = torch.tensor([[[0.25, 0.5, 0.25]]]).log()
    assert float(cross_entropy_bits(quarter, torch.tensor([[0]]))) == pytest.approx(2.0)


def test_bfloat16_products_give_float32_logits_near_those_of_float32() -> None:
    a = architecture(moe())
    whole, half = build(a, seed=0), build(a, seed=0, dtype="bfloat16")
    assert all(parameter.dtype == torch.float32 for parameter in half.parameters())
    assert logits(half, tokens(2, 16)).dtype == torch.float32
    loss = [cross_entropy_bits(logits(model, tokens(2, 16)), tokens(2, 16, seed=3)).mean() for model in (whole, half)]
    assert float(loss[1]) == pytest.approx(float(loss[0]), rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_gradient(name: str) -> None:
    """Those of a router with one expert, or of one expert to choose, by its auxiliary losses alone."""
    a = MODELS[name]
    if isinstance(a.ffn, MoEFFN):
        a = a.model_copy(update={"ffn": a.ffn.model_copy(update={"z_loss": 0.1})})
    model = built(a)
    output = model(tokens(4, 16), generator=torch.Generator().manual_seed(0))
    losses = [loss for routing in output.routings for loss in routing.losses.values()]
    (cross_entropy_bits(output.logits_BTV, tokens(4, 16, seed=1)).mean() + sum(losses)).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


# ------------------------------------------------------------------------------------------ initial values


def state(a: Architecture, *, seed: int = 0) -> dict[str, Tensor]:
    return build(a, seed=seed).state_dict()


@pytest.mark.parametrize("shape", [architecture, odd])
def test_what_dense_and_mixture_share_starts_alike_bit_for_bit(shape: type) -> None:
    plain, mixture = state(shape(dense(40))), state(shape(moe(7, 3, 16)))
    shared = [name for name in plain if ".ffn." not in name]
    assert len(shared) == len([name for name in mixture if ".ffn." not in name])
    assert all(torch.equal(plain[name], mixture[name]) for name in shared)


def test_the_dense_width_moves_no_other_weight() -> None:
    narrow, wide = state(architecture(dense(40))), state(architecture(dense(41)))
    assert all(torch.equal(narrow[name], wide[name]) for name in narrow if ".ffn." not in name)


def test_expert_0_starts_as_the_dense_network_of_its_width() -> None:
    """To the bit for one expert; with more, its output is scaled by what averaging takes away."""
    undecided = moe(8, 4, 24, router_scale=1e-6)
    plain, single, several = (state(architecture(ffn)) for ffn in (dense(24), moe(1, 1, 24), undecided))
    for layer in ("layers.0.ffn", "layers.1.ffn"):
        for sparse in (single, several):
            assert torch.equal(sparse[f"{layer}.gate_up"][0], plain[f"{layer}.gate_up"])
        assert torch.equal(single[f"{layer}.down"][0], plain[f"{layer}.down"])
        torch.testing.assert_close(several[f"{layer}.down"][0], 2 * plain[f"{layer}.down"], rtol=1e-5, atol=0)


def test_adding_experts_moves_no_other_weight() -> None:
    """But for the experts' scale: what two chosen of more weigh is another sum of squares."""
    fewer, more = state(architecture(moe(5, 2, 24))), state(architecture(moe(9, 2, 24)))
    for name, value in fewer.items():
        if name.endswith(".ffn.down"):
            scale = more[name][0, 0, 0] / value[0, 0, 0]
            torch.testing.assert_close(more[name][:5], value * scale, msg=name)
        else:
            assert torch.equal(more[name][:5] if ".ffn." in name else more[name], value), name


@pytest.mark.parametrize("word", ROUTERS)
def test_no_router_moves_another_weight(word: str) -> None:
    """Nor does its noise, its table, a shared expert or a bias: all but the router and the experts' scale is as before.

    A router that averages otherwise scales the down projections otherwise; experts start in the same directions.
    """
    plain = state(architecture(moe(8, 2, 8)))
    for variant in ("plain", "shared expert with a gate", "biases"):
        other = state(model_of(word, variant))
        for name, value in plain.items():
            if name.endswith(".ffn.down"):
                scale = other[name][0, 0, 0] / value[0, 0, 0]
                torch.testing.assert_close(other[name][:8], value * scale, msg=name)
            elif ".router." not in name:
                assert torch.equal(other[name][:8] if ".ffn." in name else other[name], value), name


def test_dense_layers_among_mixtures_start_as_those_of_a_dense_model() -> None:
    plain, mixed = state(architecture(dense(20))), state(model_of("softmax_topk", "every other layer"))
    assert all(torch.equal(mixed[name], value) for name, value in plain.items() if not name.startswith("layers.1.ffn."))


def test_no_two_experts_or_layers_start_alike() -> None:
    started = state(architecture(moe(4, 2, 24)))
    experts = [started[f"layers.{layer}.ffn.{part}"][e] for layer in (0, 1) for e in range(4) for part in ("gate_up",)]
    assert not any(torch.equal(a, b) for i, a in enumerate(experts) for b in experts[:i])
    assert not torch.equal(started["layers.0.attention.query"], started["layers.1.attention.query"])
    assert not torch.equal(started["layers.0.attention.query"], started["layers.0.attention.key"])


def test_another_seed_is_another_start_and_the_same_seed_the_same() -> None:
    first, again, other = state(architecture(moe())), state(architecture(moe())), state(architecture(moe()), seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if "norm" not in name)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_ffn_outputs_of_a_matched_pair_start_at_the_same_scale(top_k: int, renormalise: bool) -> None:
    """Root mean square within 20%, layer by layer, the dense network being as wide as the experts a token uses.

    Without renormalisation the chosen experts' probabilities exceed 1/E, by 15% for the best of 8: within 35%.
    """
    sizes = {"width": 64, "head_dim": 16, "context": 64}
    text = tokens(16, 64)
    plain = ffn_output_rms(build(architecture(dense(top_k * 64), **sizes), seed=0), text)
    mixture = ffn_output_rms(build(architecture(moe(8, top_k, 64, renormalise=renormalise), **sizes), seed=0), text)
    assert mixture == pytest.approx(plain, rel=0.2 if renormalise else 0.35)


SIZES = {"width": 64, "head_dim": 16, "context": 64}


def start_rms(ffn: DenseFFN | MoEFFN) -> list[float]:
    return ffn_output_rms(build(architecture(ffn, **SIZES), seed=0), tokens(16, 64))


USUAL = start_rms(dense(128))


@pytest.mark.parametrize("word", ROUTERS)
def test_ffn_outputs_of_every_router_start_at_the_scale_of_the_dense_network(word: str) -> None:
    """Within 25%. Those that weigh by a bare probability choose where it is high: 10 to 20% above."""
    assert start_rms(mixture(word, hidden=64)) == pytest.approx(USUAL, rel=0.25)


@pytest.mark.parametrize("word", ["sigmoid_bias", "top_p", "frozen_random"])
def test_so_they_do_without_renormalisation(word: str) -> None:
    assert start_rms(mixture(word, hidden=64, renormalise=False)) == pytest.approx(USUAL, rel=0.25)


@pytest.mark.parametrize("changes", [{}, {"shared_hidden": 64}, {"shared_hidden": 64, "shared_gate": True}], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ffn_outputs_of_every_activation_start_at_the_scale_of_swiglu(
    activation: str, changes: dict[str, object]
) -> None:
    """Dense and mixture, with a shared expert and its gate too: within 10%."""
    plain = DenseFFN(kind="dense", hidden=128, activation=activation)
    assert start_rms(plain) == pytest.approx(USUAL, rel=0.1)
    assert start_rms(mixture("softmax_topk", hidden=64, activation=activation, **changes)) == pytest.approx(
        USUAL, rel=0.1
    )


def test_the_scale_of_ffn_outputs_by_hand() -> None:
    model = build(architecture(dense()), seed=0)
    seen: list[Tensor] = []
    model.layers[1].ffn.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    found = ffn_output_rms(model, tokens(2, 16))
    assert len(found) == 2
    assert found[1] == pytest.approx(float((seen[0] ** 2).mean()) ** 0.5)
