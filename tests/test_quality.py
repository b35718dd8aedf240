"""Bits per byte by hand, and the routing that is counted along with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moebench.data.batches import evaluation_windows
from moebench.metrics.quality import evaluate
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.decoder.transformer import cross_entropy_bits
from moebench.models.routers import ROUTERS
from tests.support import small_corpora
from tests.support.small_models import architecture, built, dense, moe, odd
from tests.support.small_routers import model_of

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
