"""Probes that change a model while they look: by hand, against the same change made another way, and on copies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from moebench.data.batches import evaluation_windows
from moebench.metrics import MEASUREMENTS, constant
from moebench.metrics.probes import agreement, regret, similarity, swap
from moebench.models.decoder import Transformer
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.routers import ROUTERS, Text
from tests.support import small_corpora
from tests.support.small_models import architecture, built, moe, tokens
from tests.support.small_routers import model_of

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)
WINDOWS = evaluation_windows(CORPUS, "test", tokens=600)
MOE = moe(4, 2)


def context(model: Transformer) -> Any:
    subject = DecoderSubject(model)
    return SimpleNamespace(
        subject=subject, text=WINDOWS, documents=CORPUS.documents("test"), step=5, batch=np.zeros((4, 17))
    )


def found(name: str, model: Transformer) -> dict[str, float]:
    records = MEASUREMENTS[name].measure(context(model)).records
    return {record.metric: record.value for record in records if record.value is not None}


def copies(model: Transformer) -> Transformer:
    """The model with expert 0 in the place of each expert of every layer."""
    with torch.no_grad():
        for layer in model.layers:
            for weights in (layer.ffn.gate_up, layer.ffn.down):
                weights.copy_(weights[:1].expand_as(weights).clone())
    return model


# ---------------------------------------------------------------------------------------------- opened


@pytest.mark.parametrize("word", ROUTERS)
def test_a_router_weighs_the_experts_that_it_chooses_as_it_weighed_them(word: str) -> None:
    a = model_of(word)
    model = built(a).eval()
    router = model.routers[0]
    x_TD, ids_BT = torch.randn(32, a.width, generator=torch.Generator().manual_seed(0)), tokens(2, 16)
    with torch.inference_mode():
        routing = router(x_TD, Text(ids_BT=ids_BT))
        if routing.per_token is None:
            assert word in ("top_p", "expert_choice")
            return
        experts_TK = routing.expert_N.view(32, -1)
        weighed = router.weigh(x_TD, experts_TK.flip(1))
    if weighed is None:
        assert word in ("gshard", "hierarchical", "soft_mixture")
        return
    table_TE = torch.zeros(32, a.ffn.experts).scatter(1, experts_TK, routing.weight_N.view(32, -1))
    assert torch.allclose(torch.zeros_like(table_TE).scatter(1, weighed[1], weighed[0]), table_TE, atol=1e-6)


@pytest.mark.parametrize("word", ["softmax_topk", "topk_softmax", "sigmoid_bias", "noisy_topk", "token_hash"])
def test_other_experts_are_weighed_by_the_routers_own_rule(word: str) -> None:
    """Those it would give them if they were all that there is; its own choice is left when it is over."""
    model = built(architecture(moe(4, 2, router=word, balance_loss=0.0))).eval()
    opened, ids = DecoderSubject(model).opened, tokens(2, 16)
    before = model(ids)
    with opened.sent(1, torch.tensor([[1, 3]]).expand(32, 2)):
        inside = model(ids)
    assert set(inside.routings[1].expert_N.tolist()) == {1, 3}
    assert torch.equal(inside.routings[0].expert_N, before.routings[0].expert_N)
    weights = inside.routings[1].weight_N.view(32, 2).sum(1)
    assert torch.allclose(weights, torch.ones(32), atol=1e-5)
    assert torch.equal(model(ids).logits_BTV, before.logits_BTV)


def test_moved_experts_are_those_that_changed_places() -> None:
    """The same loss as with the weights themselves moved."""
    model, order = built(architecture(MOE)), torch.tensor([2, 0, 3, 1])
    subject, ids = DecoderSubject(model), tokens(3, 17)
    with subject.opened.moved(1, order):
        inside = subject.score(ids[:, :-1], ids[:, 1:]).logprob_BT
    usual = subject.score(ids[:, :-1], ids[:, 1:]).logprob_BT
    model.layers[1].ffn.permute(order)
    moved = subject.score(ids[:, :-1], ids[:, 1:]).logprob_BT
    assert torch.allclose(inside, moved, atol=1e-5)
    assert not torch.allclose(inside, usual, atol=1e-2)


def test_outputs_are_each_experts_own() -> None:
    """What the mixture gives is their sum by the router's weights."""
    model, ids = built(architecture(MOE)).eval(), tokens(2, 16)
    opened = DecoderSubject(model).opened
    seen: list[Any] = []
    handle = model.layers[1].ffn.register_forward_hook(lambda _m, _i, output: seen.append(output))
    with torch.no_grad():
        model(ids)
    handle.remove()
    (out_BTD, routing) = seen[0]
    outputs_ETD = opened.outputs(1, ids)
    by_hand = torch.zeros_like(out_BTD).flatten(0, 1)
    for token, expert, weight in zip(routing.token_N, routing.expert_N, routing.weight_N, strict=True):
        by_hand[token] += weight * outputs_ETD[expert, token]
    assert torch.allclose(by_hand, out_BTD.flatten(0, 1), atol=1e-5)
    fresh = opened.outputs(1, ids, untrained=0)
    assert not torch.allclose(fresh, outputs_ETD, atol=1e-3)
    assert torch.equal(opened.outputs(1, ids), outputs_ETD)  # and the model's own experts are as they were


# ---------------------------------------------------------------------------------------------- regret


def test_the_cost_at_other_experts_is_that_of_one_token_sent_elsewhere_alone() -> None:
    """In the first of two layers, against a pass over the whole window in which one position is sent elsewhere."""
    model = built(architecture(moe(3, 2)))
    one = context(model)
    sets = np.array([[0, 1], [0, 2], [1, 2]])
    usual, changed = regret.tried(one, 0, sets, count=2)
    place = 5
    subject = one.subject
    inputs, targets = (torch.from_numpy(part[:2]) for part in (WINDOWS.inputs, WINDOWS.targets))
    for number, pair in enumerate(sets):
        chosen = subject.routings(inputs)[0].expert_N.view(32, 2).clone()
        chosen[place] = torch.from_numpy(pair)
        with subject.opened.sent(0, chosen):
            logprob = subject.score(inputs, targets).logprob_BT
        assert WINDOWS.mask[0, : place + 1].all()
        assert changed[place, number] == pytest.approx(float(-logprob[0, place]) / np.log(2), rel=1e-4)
    pairs = subject.routings(inputs)[0].expert_N.view(32, 2)[:16].sort(1).values.tolist()
    same = [changed[t, sets.tolist().index(pair)] for t, pair in enumerate(pairs) if WINDOWS.mask[0, t]]
    assert usual[: len(same)] == pytest.approx(same, rel=1e-4)


def test_copies_of_one_expert_are_missed_nowhere_and_cost_nothing_to_swap() -> None:
    values = found("regret", copies(built(architecture(MOE))))
    assert values.keys() >= {"regret.best", "regret.held_out[layer=1]"}
    assert all(abs(value) < 1e-5 for value in values.values())
    values = found("swap", copies(built(architecture(MOE))))
    assert all(abs(value) < 1e-5 for value in values.values())


def test_the_best_of_many_is_chosen_with_the_answer_known_and_that_is_luck() -> None:
    """Sets that differ by noise alone: the best of 28 saves much, what is chosen without the answer nothing."""
    draws = np.random.default_rng(0)
    tried = draws.normal(3, 1, (4000, 28))
    usual = tried[np.arange(4000), draws.integers(0, 28, 4000)]
    read, half = draws.integers(0, 20, 4000), draws.random(4000) < 0.5
    best, second, at_random, held_out = regret.of_losses(usual, tried, read, half)
    assert best > second > 1
    assert best == pytest.approx(at_random, rel=0.05)
    assert abs(held_out) < 0.05


def test_experts_that_are_missed_for_a_token_are_found_without_its_answer() -> None:
    """One set is better by a bit wherever token 3 is read, and the router never takes it."""
    tried = np.full((1000, 6), 2.0)
    read = np.arange(1000) % 10
    tried[read == 3, 4] = 1.0
    best, second, at_random, held_out = regret.of_losses(np.full(1000, 2.0), tried, read, np.arange(1000) % 20 < 10)
    assert best == held_out == pytest.approx(0.1)
    assert second == pytest.approx(0)
    assert at_random == pytest.approx(0.1 * 5 / 6)
    # In one half alone it is never known to the other.
    half = read == 3
    assert regret.of_losses(np.full(1000, 2.0), tried, read, half)[3] == 0


def test_regret_says_why_it_has_no_number() -> None:
    for one, why in (
        (moe(16, 4), "1,820 sets of 4 of 16 experts are too many to try"),
        (moe(4, 4, router="top_p", top_p=0.5), "top_p does not say what other experts would weigh"),
    ):
        reasons = {
            record.reason for record in MEASUREMENTS["regret"].measure(context(built(architecture(one)))).records
        }
        assert reasons == {why}


# ---------------------------------------------------------------------------------------------- swap, similarity


def test_swapping_costs_what_the_moved_weights_cost() -> None:
    model = built(architecture(moe(2, 1, renormalise=False)))
    values = found("swap", model)
    assert values["swap.turned[layer=0]"] == pytest.approx(values["swap.exchanged[layer=0]"])  # of two there is one way
    usual, _ = swap._bits(context(model), None, None)
    model.layers[0].ffn.permute(torch.tensor([1, 0]))
    moved, _ = swap._bits(context(model), None, None)
    assert values["swap.turned[layer=0]"] == pytest.approx(moved - usual, abs=1e-5)


def test_cka_by_hand() -> None:
    draws = np.random.default_rng(1)
    one = draws.normal(size=(2000, 8))
    rotation, _ = np.linalg.qr(draws.normal(size=(8, 8)))
    alike = similarity.pairwise(np.stack([one, 3 * one @ rotation + 5]))
    assert alike == pytest.approx([1])
    assert similarity.pairwise(np.stack([one, draws.normal(size=(2000, 8))]))[0] < 0.05
    half = np.concatenate([one[:, :4], draws.normal(size=(2000, 4))], axis=1)
    assert similarity.pairwise(np.stack([one, half]))[0] == pytest.approx(0.5, abs=0.05)
    assert similarity.pairwise(np.stack([one, np.ones((2000, 8))])).tolist() == [0]


def test_copies_are_similar_and_what_was_never_trained_is_the_measure_of_chance() -> None:
    values = found("similarity", copies(built(architecture(MOE))))
    assert values["similarity.cka"] == values["similarity.closest"] == pytest.approx(1)
    own = found("similarity", built(architecture(MOE)))
    assert values["similarity.untrained[layer=0]"] == pytest.approx(own["similarity.untrained[layer=0]"])
    assert own["similarity.cka"] <= own["similarity.closest"] < 0.99


# ---------------------------------------------------------------------------------------------- agreement


def test_a_router_agrees_with_itself_as_far_as_its_noise_lets_it() -> None:
    shares = {
        scale: found(
            "agreement", built(architecture(moe(4, 2, router="noisy_topk", balance_loss=0.0, noise_scale=scale)))
        )
        for scale in (0.01, 0.5, 100.0)
    }
    same = [values["agreement.same_experts"] for values in shares.values()]
    assert same[0] > 0.95
    assert same[0] > same[1] > same[2]
    assert same[2] == pytest.approx(shares[100.0]["agreement.by_chance"], abs=0.05)
    assert shares[100.0]["agreement.by_chance"] == 0.5


def test_without_noise_agreement_is_a_constant_and_no_claim_is_about_it() -> None:
    a = architecture(MOE)
    assert found("agreement", built(a))["agreement.same_experts"] == 1
    for ffn, is_fixed in (
        (MOE, True),
        (moe(4, 2, jitter=0.1), False),
        (moe(4, 2, router="noisy_topk", balance_loss=0.0), False),
        (moe(4, 2, router="gshard", capacity_factor=1.0), False),
    ):
        why = constant("agreement.same_experts", architecture(ffn))
        assert (why is not None) == is_fixed, ffn
    assert agreement.BY_CHANCE.fixed is not None


def test_noise_is_as_published_unless_its_scale_is_written() -> None:
    """And the model is in evaluation afterwards."""
    ids = tokens(2, 16)
    usual = built(architecture(moe(4, 2, router="noisy_topk", balance_loss=0.0)))
    written = built(architecture(moe(4, 2, router="noisy_topk", balance_loss=0.0, noise_scale=1.0)))
    one, other = (DecoderSubject(model).opened.drawn(ids, 3) for model in (usual, written))
    assert all(torch.equal(a.expert_N, b.expert_N) for a, b in zip(one, other, strict=True))
    assert not usual.training
    assert "noise_scale" not in moe(4, 2, router="noisy_topk", balance_loss=0.0).model_dump()
