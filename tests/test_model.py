"""The decoder: causality, the cache, documents that know nothing of their batch mates, and initial values."""

from __future__ import annotations

import pytest
import torch
from small_models import SHAPES, architecture, built, dense, moe, odd, tokens
from torch import Tensor

from moebench.metrics.routing import ffn_output_rms
from moebench.model import Transformer, build
from moebench.model.attention import rotary_table, rotate
from moebench.model.transformer import RMSNorm, cross_entropy_bits
from moebench.plan import Architecture

CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # of logits whose size is 1 to 10; products of other shapes round otherwise


def logits(model: Transformer, tokens_BT: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(tokens_BT).logits_BTV


# ------------------------------------------------------------------------------------------ causality


@pytest.mark.parametrize("shape", SHAPES)
def test_changing_later_tokens_leaves_earlier_logits_unchanged(shape: str) -> None:
    model, original = built(SHAPES[shape]), tokens(2, 16)
    changed = original.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 256
    before, after = logits(model, original), logits(model, changed)
    torch.testing.assert_close(after[:, :9], before[:, :9], **CLOSE)
    assert (after[:, 9:] - before[:, 9:]).abs().amax(2).min() > 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_earlier_tokens_do_change_later_logits(shape: str) -> None:
    model, original = built(SHAPES[shape]), tokens(2, 16)
    changed = original.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 256
    assert (logits(model, changed)[:, -1] - logits(model, original)[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [[1] * 16, [7, 1, 8], [16], [5, 11]], ids=str)
def test_decoding_through_the_cache_equals_the_full_forward(shape: str, chunks: list[int]) -> None:
    model, tokens_BT = built(SHAPES[shape]), tokens(2, 16)
    cache = model.new_cache(2)
    with torch.inference_mode():
        parts = [model(chunk_BT, cache=cache).logits_BTV for chunk_BT in tokens_BT.split(chunks, dim=1)]
    assert cache.length == 16
    torch.testing.assert_close(torch.cat(parts, dim=1), logits(model, tokens_BT), **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_documents_loss_does_not_depend_on_its_batch_mates(shape: str) -> None:
    """Within 1e-5 bits a byte: a product of more rows may be summed in another order."""
    model, mine, mates = built(SHAPES[shape]), tokens(1, 17), tokens(5, 17, seed=8)
    alone, among = mine, torch.cat([mates[:2], mine, mates[2:]])
    loss = [cross_entropy_bits(logits(model, batch[:, :-1]), batch[:, 1:]).mean(1) for batch in (alone, among)]
    assert float(loss[1][2]) == pytest.approx(float(loss[0][0]), rel=1e-5)


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


def test_every_parameter_has_a_gradient() -> None:
    for a in SHAPES.values():
        model = built(a)
        output = model(tokens(4, 16))
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
    plain, single, several = (state(architecture(ffn)) for ffn in (dense(24), moe(1, 1, 24), moe(8, 4, 24)))
    for layer in ("layers.0.ffn", "layers.1.ffn"):
        for mixture in (single, several):
            assert torch.equal(mixture[f"{layer}.gate_up"][0], plain[f"{layer}.gate_up"])
        assert torch.equal(single[f"{layer}.down"][0], plain[f"{layer}.down"])
        torch.testing.assert_close(several[f"{layer}.down"][0], 2 * plain[f"{layer}.down"])


def test_adding_experts_moves_no_other_weight() -> None:
    fewer, more = state(architecture(moe(5, 2, 24))), state(architecture(moe(9, 2, 24)))
    for name, value in fewer.items():
        assert torch.equal(more[name][:5] if ".ffn." in name else more[name], value), name


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


def test_the_scale_of_ffn_outputs_by_hand() -> None:
    model = build(architecture(dense()), seed=0)
    seen: list[Tensor] = []
    model.layers[1].ffn.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    found = ffn_output_rms(model, tokens(2, 16))
    assert len(found) == 2
    assert found[1] == pytest.approx(float((seen[0] ** 2).mean()) ** 0.5)
