"""What holds for every router: counts and weights, chance, capacity, gradients, and what is told of them elsewhere.

What each rule computes is in `test_routers`; that causal routers make causal models, in `test_model`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given as with_
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from moebench.models.routers import ROUTERS, Routing, described, facts_of
from moebench.models.routers.routing import Router, refuse_when_full, room
from moebench.suite.mixture import idle_gradient
from moebench.suite.model import MoEFFN
from tests.support.small_models import moe
from tests.support.small_routers import (
    CAPPED,
    JITTERED,
    LEARNED,
    NOISY,
    OPTIONS,
    UNEVEN,
    WIDTH,
    Given,
    chance,
    given,
    matrix,
    mixture,
    of,
    projection,
    router,
    single,
)

pytestmark = pytest.mark.numeric

B, L = 4, 16
T = B * L
TOKENS = given(B, L)
DRAWING = sorted({*NOISY, *JITTERED})
"""Routers that draw at random in training, some of them only when given a jitter."""


def jittered(word: str, **changes: Any) -> Router:
    return router(word, **({"jitter": 0.2, **changes} if word in JITTERED else changes))


def dropless(word: str, **changes: Any) -> Router:
    """With room for all where there must be a capacity."""
    factor = {"capacity_factor": 1000.0} if "capacity_factor" in ROUTERS[word].needs else {}
    return router(word, **{**factor, **changes})


def losses_of(word: str) -> tuple[str, ...]:
    return tuple(map(str, ROUTERS[word].auxiliary))


def same(one: Routing, other: Routing) -> bool:
    return (
        torch.equal(one.token_N, other.token_N)
        and torch.equal(one.expert_N, other.expert_N)
        and torch.equal(one.weight_N, other.weight_N)
        and one.dropped == other.dropped
    )


# ------------------------------------------------------------------------------------------ facts and classes


def test_suites_and_models_know_the_same_routers() -> None:
    assert list(ROUTERS) == list(OPTIONS)


@pytest.mark.parametrize("word", ROUTERS)
def test_plans_know_what_is_built_whether_it_is_causal_learned_and_what_it_counts(word: str) -> None:
    made, facts = router(word), facts_of(mixture(word), width=WIDTH)
    assert facts is not None
    assert made.causal == facts.causal == ROUTERS[word].causal
    assert made.drops == (made.capacity_factor is not None)
    trained = sum(parameter.numel() for parameter in made.parameters() if parameter.requires_grad)
    assert (trained > 0) == facts.learned == ROUTERS[word].learned
    assert (made.num_weights(), made.num_weights() - trained) == (facts.parameters, facts.untrained_parameters)
    assert (word in UNEVEN or word == "gshard") == (facts.fewer is not None or word == "expert_choice")
    if not ROUTERS[word].causal:
        assert "NOT CAUSAL" in (ROUTERS[word].__doc__ or "")
        assert "NOT CAUSAL" in described(word, ROUTERS[word])[0]


def test_the_base_of_all_routers_leaves_it_to_them_to_say_whether_they_are_causal() -> None:
    assert not hasattr(Router, "causal")


@pytest.mark.parametrize("word", ROUTERS)
def test_the_losses_a_router_gives_are_those_suites_are_told_it_has(word: str) -> None:
    coefficients = {"balance_loss": 0.1, "z_loss": 0.1}
    coefficients |= dict.fromkeys(losses_of(word), 0.1)
    found = TOKENS.routed_by(router(word, **coefficients)).losses
    assert set(found) == set(losses_of(word))
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in found.values())


@pytest.mark.parametrize("word", ROUTERS)
def test_losses_are_taken_only_with_a_coefficient_and_a_gradient(word: str) -> None:
    off = dict.fromkeys(set(losses_of(word)) & {"importance_loss", "load_loss", "entropy_loss"})
    assert TOKENS.routed_by(router(word, balance_loss=0.0, **off)).losses == {}
    with torch.no_grad():
        assert TOKENS.routed_by(router(word)).losses == {}


# ------------------------------------------------------------------------------------------ counts and weights


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("word", ROUTERS)
def test_pairs_are_in_token_order_and_no_token_meets_an_expert_twice(word: str, training: bool) -> None:
    routing = TOKENS.routed_by(router(word).train(training))
    pairs = list(zip(routing.token_N.tolist(), routing.expert_N.tolist(), strict=True))
    assert routing.token_N.tolist() == sorted(routing.token_N.tolist())
    assert len(set(pairs)) == len(pairs) == routing.weight_N.numel()
    assert all(0 <= token < T and 0 <= expert < mixture(word).experts for token, expert in pairs)
    assert (routing.weight_N > 0).all()
    assert (routing.token_N.dtype, routing.expert_N.dtype, routing.weight_N.dtype) == (
        torch.int64, torch.int64, torch.float32,
    )  # fmt: skip


@pytest.mark.parametrize("word", ROUTERS)
def test_dropless_pairs_are_k_times_the_tokens(word: str) -> None:
    """Where the router decides how many, k bounds them (top_p) or is their mean (expert_choice)."""
    made = router(word).eval()
    routing = TOKENS.routed_by(made)
    counts_T = torch.bincount(routing.token_N, minlength=T)
    assert routing.dropped == 0
    if word not in UNEVEN:
        assert routing.per_token == made.top_k
        assert (counts_T == made.top_k).all()
        return
    assert routing.per_token is None
    assert counts_T.unique().numel() > 1
    assert counts_T.sum() == made.top_k * T if word == "expert_choice" else counts_T.max() <= made.top_k


SUMS = {"sigmoid_bias": 2.5, "switch": None, "expert_choice": None}
"""What a token's weights add up to, 1 where nothing else is said; None: to probabilities that say how sure it was."""


@pytest.mark.parametrize("word", ROUTERS)
def test_the_weights_of_a_token_add_up(word: str) -> None:
    sums_T = matrix(TOKENS.routed_by(router(word).eval()), num_tokens=T).sum(1)
    expected = SUMS.get(word, 1.0)
    if expected is None:
        assert (sums_T < 1).all()
        assert sums_T.unique().numel() > T // 2
    else:
        torch.testing.assert_close(sums_T, torch.full((T,), expected))


@pytest.mark.parametrize("word", ["softmax_topk", "frozen_random", "top_p"])
def test_without_renormalisation_weights_are_the_probabilities(word: str) -> None:
    made = router(word, renormalise=False).eval()
    weights_TE = matrix(TOKENS.routed_by(made), num_tokens=T)
    probabilities_TE = (TOKENS.x_TD @ projection(made).T).softmax(1)
    torch.testing.assert_close(weights_TE[:, :8], probabilities_TE * (weights_TE[:, :8] > 0))
    assert (weights_TE.sum(1) < 1).all()


@pytest.mark.parametrize("word", ROUTERS)
def test_a_router_that_is_said_to_read_renormalise_does_and_no_other(word: str) -> None:
    """A suite that writes `renormalise: false` for another is refused, as it would change nothing."""
    one, other = (TOKENS.routed_by(router(word, renormalise=yes).eval()) for yes in (True, False))
    assert same(one, other) is (ROUTERS[word].sums_to_1 != "if asked")


def test_without_renormalisation_sigmoid_weights_are_the_scaled_scores() -> None:
    made = router("sigmoid_bias", renormalise=False).eval()
    weights_TE = matrix(TOKENS.routed_by(made), num_tokens=T)
    scores_TE = (TOKENS.x_TD @ projection(made).T).sigmoid()
    torch.testing.assert_close(weights_TE[:, :8], 2.5 * scores_TE * (weights_TE[:, :8] > 0))


@pytest.mark.parametrize("word", ROUTERS)
def test_scores_are_float32_whatever_the_tokens(word: str) -> None:
    made = router(word).eval()
    half = Given(TOKENS.x_TD.bfloat16(), TOKENS.ids_BT)
    assert same(half.routed_by(made), Given(half.x_TD.float(), TOKENS.ids_BT).routed_by(made))
    assert half.routed_by(made).weight_N.dtype == torch.float32


@pytest.mark.parametrize("word", ROUTERS)
def test_one_token_is_enough(word: str) -> None:
    one = given(1, 1)
    for training in (True, False):
        assert set(one.routed_by(router(word).train(training)).token_N.tolist()) <= {0}


# ------------------------------------------------------------------------------------------ chance


@pytest.mark.parametrize("word", ROUTERS)
def test_a_generators_state_decides_the_routing(word: str) -> None:
    made = jittered(word)
    assert same(TOKENS.routed_by(made, seed=7), TOKENS.routed_by(made, seed=7))


@pytest.mark.parametrize("word", DRAWING)
def test_another_generator_is_another_routing_in_training(word: str) -> None:
    made = jittered(word)
    assert not same(TOKENS.routed_by(made, seed=7), TOKENS.routed_by(made, seed=8))


@pytest.mark.parametrize("word", DRAWING)
def test_chance_in_training_without_a_generator_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="needs a generator"):
        TOKENS.routed_by(jittered(word), seed=None)


@pytest.mark.parametrize("word", [word for word in ROUTERS if word not in NOISY])
def test_a_router_that_draws_nothing_needs_no_generator_and_leaves_one_alone(word: str) -> None:
    made = router(word, **({"jitter": None} if word in JITTERED else {}))
    TOKENS.routed_by(made, seed=None)
    generator = chance(3)
    before = generator.get_state()
    made(TOKENS.x_TD, replace(TOKENS.text(), generator=generator))
    assert torch.equal(generator.get_state(), before)


def test_jitter_multiplies_every_entry_by_a_number_of_its_range() -> None:
    """Seen through a router whose logits are its input, all ones: weights tell what the factors differ by."""
    made = of(mixture("softmax_topk", top_k=8, jitter=0.25), width=8)
    with torch.no_grad():
        projection(made).copy_(torch.eye(8))
    flat = Given(torch.ones(400, 8), torch.zeros(4, 100, dtype=torch.int64))
    logits_TE = matrix(flat.routed_by(made), num_tokens=400, experts=8).detach().log()
    spread_T = logits_TE.amax(1) - logits_TE.amin(1)
    assert 0.45 < float(spread_T.max()) <= 0.5
    assert float(spread_T.min()) > 0.05


@pytest.mark.parametrize("word", ROUTERS)
def test_evaluation_is_free_of_noise_jitter_and_drops(word: str) -> None:
    tight = {"capacity_factor": 0.1} if word in CAPPED else {}
    made, plain = (
        jittered(word, **tight).eval(),
        dropless(word, **({"jitter": None} if word in JITTERED else {})).eval(),
    )
    routing = TOKENS.routed_by(made, seed=None)
    assert routing.dropped == 0
    assert same(routing, TOKENS.routed_by(made, seed=9))
    assert same(routing, TOKENS.routed_by(plain))


# ------------------------------------------------------------------------------------------ capacity


def test_room_is_the_share_of_a_balanced_load_rounded_up() -> None:
    assert room(1.0, tokens=64, top_k=2, experts=8) == 16
    assert room(1.25, tokens=64, top_k=2, experts=8) == 20
    assert room(1.0, tokens=10, top_k=1, experts=4) == 3
    assert room(1.1, tokens=100, top_k=1, experts=2) == 55  # 1.1 * 100 / 2 is 55.00000000000001 in floating point
    assert room(0.01, tokens=4, top_k=1, experts=8) == 1


@with_(st.data())
@settings(max_examples=60, deadline=None)
def test_full_experts_refuse_as_a_queue_does(data: st.DataObject) -> None:
    """First choices of all tokens in order, then second choices, ...; tokens may have any number of choices."""
    experts, slots = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    choices = data.draw(st.lists(st.lists(st.integers(0, experts - 1), max_size=experts, unique=True), max_size=12))
    queue = sorted((rank, token) for token, chosen in enumerate(choices) for rank in range(len(chosen)))
    taken, kept = dict.fromkeys(range(experts), 0), set()
    for rank, token in queue:
        expert = choices[token][rank]
        if taken[expert] < slots:
            taken[expert] += 1
            kept.add((token, rank))
    pairs = [(token, rank) for token, chosen in enumerate(choices) for rank in range(len(chosen))]
    token_N = torch.tensor([token for token, _ in pairs], dtype=torch.int64)
    expert_N = torch.tensor([choices[token][rank] for token, rank in pairs], dtype=torch.int64)
    found = refuse_when_full(token_N, expert_N, slots=slots, experts=experts)
    assert found.tolist() == [pair in kept for pair in pairs]


@pytest.mark.parametrize("factor", [0.25, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("word", CAPPED)
def test_no_expert_is_over_capacity_and_every_refusal_is_counted(word: str, factor: float) -> None:
    made, free = router(word, capacity_factor=factor), dropless(word)
    capped, whole = TOKENS.routed_by(made), TOKENS.routed_by(free)
    slots = room(factor, tokens=T, top_k=made.top_k, experts=made.experts)
    wanted_E = torch.bincount(whole.expert_N, minlength=made.experts)
    kept_E = torch.bincount(capped.expert_N, minlength=made.experts)
    assert torch.equal(kept_E, wanted_E.clamp_max(slots))  # none over its room, and none refuses while it has room
    assert capped.dropped == whole.expert_N.numel() - capped.expert_N.numel()
    assert capped.per_token is None
    assert capped.dropped > 0 or factor > (0.25 if word == "top_p" else 1.0)  # k bounds what top_p asks for
    kept_TE, whole_TE = (matrix(routing, num_tokens=T) for routing in (capped, whole))
    assert torch.equal(kept_TE, whole_TE * (kept_TE > 0))  # what is kept keeps its weight: no one takes over


@pytest.mark.parametrize("word", [word for word in CAPPED if word not in ("gshard", "top_p")])
def test_first_choices_are_served_before_second_ones_and_earlier_tokens_first(word: str) -> None:
    made = router(word, capacity_factor=0.7)
    whole, capped = TOKENS.routed_by(dropless(word)), TOKENS.routed_by(made)
    rank_of = {(t, e): n % made.top_k for n, (t, e) in enumerate(pairs(whole))}
    slots, kept = room(0.7, tokens=T, top_k=made.top_k, experts=made.experts), set(pairs(capped))
    for expert in range(made.experts):
        line = sorted((rank, token) for (token, e), rank in rank_of.items() if e == expert)
        assert {token for _, token in line[:slots]} == {token for token, e in kept if e == expert}


def pairs(routing: Routing) -> list[tuple[int, int]]:
    return list(zip(routing.token_N.tolist(), routing.expert_N.tolist(), strict=True))


CHOOSING = [
    "softmax_topk", "topk_softmax", "noisy_topk", "hierarchical", "switch", "gshard", "frozen_random", "top_p",
]  # fmt: skip


@pytest.mark.parametrize("word", CHOOSING)
def test_a_tokens_pairs_are_in_falling_order_of_its_weights(word: str) -> None:
    """So that capacity serves what a token wants most. sigmoid_bias orders by its biased scores instead."""
    weights = TOKENS.routed_by(dropless(word))
    for token in range(T):
        mine = weights.weight_N[weights.token_N == token].tolist()
        assert mine == sorted(mine, reverse=True)


# ------------------------------------------------------------------------------------------ permuting tokens


@pytest.mark.parametrize("word", [word for word in ROUTERS if word not in ("round_robin", "expert_choice")])
def test_permuting_tokens_permutes_the_result(word: str) -> None:
    """Each token is routed on its own: words with their vectors, in any order, over any sequences."""
    made, order_T = router(word).eval(), torch.randperm(T, generator=chance(2))
    moved = Given(TOKENS.x_TD[order_T], TOKENS.ids_BT.view(-1)[order_T].view(B, L))
    plain, permuted = (matrix(tokens.routed_by(made), num_tokens=T) for tokens in (TOKENS, moved))
    torch.testing.assert_close(permuted, plain[order_T])


def test_round_robin_goes_by_place_so_permuting_tokens_changes_nothing() -> None:
    made, order_T = router("round_robin"), torch.randperm(T, generator=chance(2))
    moved = Given(TOKENS.x_TD[order_T], TOKENS.ids_BT.view(-1)[order_T].view(B, L))
    assert same(moved.routed_by(made), TOKENS.routed_by(made))


def test_expert_choice_follows_permutations_within_a_sequence_and_of_whole_sequences_alone() -> None:
    made = router("expert_choice")
    plain_TE = matrix(TOKENS.routed_by(made), num_tokens=T)
    place_T = torch.arange(T).view(B, L)
    within = place_T[:, torch.randperm(L, generator=chance(2))].reshape(-1)
    sequences = place_T[torch.tensor([2, 0, 3, 1])].reshape(-1)
    across = torch.randperm(T, generator=chance(2))
    for order_T, follows in ((within, True), (sequences, True), (across, False)):
        moved = Given(TOKENS.x_TD[order_T], TOKENS.ids_BT.view(-1)[order_T].view(B, L))
        moved_TE = matrix(moved.routed_by(made), num_tokens=T)
        assert torch.allclose(moved_TE, plain_TE[order_T]) == follows


@pytest.mark.parametrize("word", [word for word in CAPPED if word not in NOISY])
def test_with_a_capacity_permuting_tokens_changes_who_is_refused_and_not_how_many(word: str) -> None:
    """Earlier tokens go first. The experts' loads are the same, and each refuses what is over its room."""
    made = router(word, capacity_factor=0.5, **({"jitter": None} if word in JITTERED else {}))
    order_T = torch.randperm(T, generator=chance(2))
    moved = Given(TOKENS.x_TD[order_T], TOKENS.ids_BT.view(-1)[order_T].view(B, L))
    plain, permuted = TOKENS.routed_by(made), moved.routed_by(made)
    assert permuted.dropped == plain.dropped > 0
    assert torch.equal(torch.bincount(plain.expert_N, minlength=8), torch.bincount(permuted.expert_N, minlength=8))
    plain_TE, permuted_TE = (matrix(routing, num_tokens=T) for routing in (plain, permuted))
    assert not torch.equal(permuted_TE > 0, (plain_TE > 0)[order_T])


@pytest.mark.parametrize("word", ROUTERS)
def test_a_sequences_routing_does_not_depend_on_its_batch_mates(word: str) -> None:
    made = router(word).eval()
    alone = Given(TOKENS.x_TD[L : 2 * L], TOKENS.ids_BT[1:2]).routed_by(made)
    among_TE = matrix(TOKENS.routed_by(made), num_tokens=T)
    torch.testing.assert_close(matrix(alone, num_tokens=L), among_TE[L : 2 * L])


# ------------------------------------------------------------------------------------------ gradients


def uneven(routing: Routing) -> Tensor:
    """A sum of the weights in which every pair counts differently, as experts' outputs do."""
    return (routing.weight_N * torch.randn(routing.weight_N.shape, generator=chance(5))).sum()


@pytest.mark.parametrize("word", LEARNED)
def test_every_weight_of_a_learned_router_learns_from_the_weights_of_its_pairs(word: str) -> None:
    """In training; evaluation has no noise to learn the size of."""
    made = router(word)
    uneven(TOKENS.routed_by(made)).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-4, name


@pytest.mark.parametrize("word", [word for word in ROUTERS if word not in LEARNED])
def test_nothing_of_an_unlearned_router_can_learn(word: str) -> None:
    made = router(word, balance_loss=0.1, z_loss=0.1)
    routing = TOKENS.routed_by(made)
    assert routing.losses == {}
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert not routing.weight_N.requires_grad


@pytest.mark.parametrize(("word", "loss"), [(word, loss) for word in LEARNED for loss in losses_of(word)])
def test_every_loss_reaches_the_routers_projection(word: str, loss: str) -> None:
    made = router(word, **{loss: 0.1})
    TOKENS.routed_by(made).losses[loss].backward()
    assert projection(made).grad is not None
    assert projection(made).grad.abs().max() > 1e-5  # type: ignore[union-attr]


@pytest.mark.parametrize("word", ["softmax_topk", "sigmoid_bias", "topk_softmax", "top_p"])
def test_with_one_expert_to_choose_renormalised_weights_teach_the_router_nothing(word: str) -> None:
    """The choice itself has no gradient."""
    options = {"top_k": 1, "groups": None, "groups_chosen": None} if word == "sigmoid_bias" else {"top_k": 1}
    made = router(word, **options)
    uneven(TOKENS.routed_by(made)).backward()
    assert projection(made).grad is not None
    assert projection(made).grad.abs().max() < 1e-5  # type: ignore[union-attr]


@pytest.mark.parametrize("word", ["softmax_topk", "switch", "gshard", "top_p", "sigmoid_bias"])
def test_experts_that_were_not_chosen_learn_only_through_the_softmax_of_all(word: str) -> None:
    """Renormalised weights and sigmoid scores know nothing of them; switch's probability does."""
    options = {"groups": None, "groups_chosen": None} if word == "sigmoid_bias" else {}
    made, one = router(word, **options).eval(), given(1, 1)
    routing = one.routed_by(made)
    uneven(routing).backward()
    grad = projection(made).grad
    assert grad is not None
    idle = sorted(set(range(8)) - set(routing.expert_N.tolist()))
    assert (grad[idle].abs().max() > 1e-5) == (word == "switch")


# ------------------------------------------------------------------------------------------ at the edges


@pytest.mark.parametrize("word", [word for word in ROUTERS if word != "gshard"])
def test_one_expert_gets_every_token_with_weight_one(word: str) -> None:
    """And so a mixture of one expert is the dense network; gshard has no such form, for it needs two experts."""
    made = of(single(word))
    for training in (True, False):
        routing = TOKENS.routed_by(made.train(training))
        assert routing.token_N.tolist() == list(range(T))
        torch.testing.assert_close(routing.weight_N, torch.ones(T))


AS_SOFT: dict[str, MoEFFN] = {
    "softmax_topk": mixture("softmax_topk", top_k=8),
    "softmax_topk, not renormalised": mixture("softmax_topk", top_k=8, renormalise=False),
    "topk_softmax": mixture("topk_softmax", top_k=8),
    "noisy_topk": mixture("noisy_topk", top_k=8),
    "top_p": mixture("top_p", top_k=8, top_p=1.0),
    "frozen_random": mixture("frozen_random", top_k=8),
    "gshard of two": mixture("gshard", experts=2),
    "sigmoid_bias": mixture("sigmoid_bias", top_k=8, scale=None, groups=None, groups_chosen=None),
}


@pytest.mark.parametrize("name", AS_SOFT)
def test_with_all_experts_chosen_it_is_the_soft_mixture(name: str) -> None:
    """Weights and gradients, evaluated. sigmoid_bias is one of scores, not of a softmax, and so is another thing."""
    made = of(AS_SOFT[name]).eval()
    soft = of(mixture("soft_mixture", experts=made.experts, top_k=made.experts)).eval()
    with torch.no_grad():
        projection(soft).copy_(projection(made))
    lever = torch.randn(T, made.experts, generator=chance(4))
    weights = [matrix(TOKENS.routed_by(one), num_tokens=T, experts=made.experts) for one in (made, soft)]
    assert torch.allclose(weights[0], weights[1], rtol=1e-5, atol=1e-7) == (name != "sigmoid_bias")
    for weights_TE in weights:
        if weights_TE.requires_grad:
            (weights_TE * lever).sum().backward()
    if projection(made).requires_grad and name != "sigmoid_bias":
        torch.testing.assert_close(projection(made).grad, projection(soft).grad)


@pytest.mark.parametrize("top_k", [1, 2, 5, 8])
def test_softmax_over_the_chosen_equals_softmax_over_all_renormalised(top_k: int) -> None:
    """Experts, weights and gradients."""
    after, before = router("topk_softmax", top_k=top_k), router("softmax_topk", top_k=top_k)
    routings = [TOKENS.routed_by(made) for made in (after, before)]
    assert torch.equal(routings[0].expert_N, routings[1].expert_N)
    torch.testing.assert_close(routings[0].weight_N, routings[1].weight_N)
    for routing in routings:
        (uneven(routing) + routing.losses["balance_loss"]).backward()
    torch.testing.assert_close(projection(after).grad, projection(before).grad)


def test_frozen_random_is_softmax_topk_that_stands_still() -> None:
    frozen, learned = router("frozen_random"), router("softmax_topk")
    assert same(TOKENS.routed_by(frozen), TOKENS.routed_by(learned))


# ------------------------------------------------------------------------------------------ with one expert


def one_expert(word: str, **changes: Any) -> MoEFFN:
    """Its mixture of 8 experts with top_k 1, in two levels where there must be two."""
    needed = {name: value for name, value in OPTIONS[word].items() if name in ROUTERS[word].needs}
    groups = {"groups": 2, "groups_chosen": 1} if "groups" in needed else {}
    return moe(8, 1, router=word, balance_loss=0.0, **{**needed, **groups, **changes})


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("word", [word for word in LEARNED if word not in ("gshard", "soft_mixture")])
def test_suites_refuse_one_expert_exactly_where_its_weight_gives_the_router_no_gradient(
    word: str, renormalise: bool
) -> None:
    """gshard takes two experts, and a soft mixture all."""
    ffn = one_expert(word, renormalise=renormalise)
    made = of(ffn)
    weight_N = TOKENS.routed_by(made).weight_N
    total = (weight_N * torch.randn(weight_N.shape, generator=chance(7))).sum()
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(total, trained, allow_unused=True) if total.requires_grad else []
    learns = any(gradient is not None and float(gradient.abs().max()) > 1e-3 for gradient in gradients)
    assert (idle_gradient(ffn, ROUTERS[word]) is None) == learns
