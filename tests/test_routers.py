"""Routing: who goes where, with what weight, and the losses that shape it, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_models import moe
from torch import Tensor

from moebench.model import routers
from moebench.model.routers import ROUTERS, Routing, SoftmaxTopK, load_balance_loss, router_class, router_z_loss
from moebench.spec import words


def router(experts: int = 8, top_k: int = 2, *, width: int = 16, seed: int = 0, **other: Any) -> SoftmaxTopK:
    made = SoftmaxTopK(moe(experts, top_k, **other), width=width)
    with torch.no_grad():
        made.weight.copy_(torch.randn(experts, width, generator=torch.Generator().manual_seed(seed)))
    return made


def vectors(num_tokens: int, width: int = 16, *, seed: int = 1) -> Tensor:
    return torch.randn(num_tokens, width, generator=torch.Generator().manual_seed(seed))


def given(logits_TE: Tensor, *, top_k: int, renormalise: bool = True) -> Routing:
    """What a router makes of logits: its weight is the identity, so a token is its own logits."""
    experts = logits_TE.shape[1]
    made = SoftmaxTopK(moe(experts, top_k, renormalise=renormalise), width=experts)
    with torch.no_grad():
        made.weight.copy_(torch.eye(experts))
    return made(logits_TE)


def test_the_most_probable_experts_are_chosen_with_their_probabilities() -> None:
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.4, 0.3, 0.2, 0.1]])
    plain = given(probabilities.log(), top_k=2, renormalise=False)
    assert plain.token_N.tolist() == [0, 0, 1, 1]
    assert plain.expert_N.tolist() == [1, 3, 0, 1]
    torch.testing.assert_close(plain.weight_N, torch.tensor([0.5, 0.25, 0.4, 0.3]))
    renormalised = given(probabilities.log(), top_k=2)
    torch.testing.assert_close(renormalised.weight_N, torch.tensor([2 / 3, 1 / 3, 4 / 7, 3 / 7]))


@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (8, 1), (8, 2), (7, 3), (5, 5)])
def test_renormalised_weights_add_up_to_one(experts: int, top_k: int) -> None:
    routing = router(experts, top_k)(vectors(50))
    torch.testing.assert_close(routing.weight_N.view(50, top_k).sum(1), torch.ones(50))
    assert routing.per_token == top_k
    assert routing.dropped == 0


def test_no_token_meets_an_expert_twice() -> None:
    experts_TK = router(7, 3)(vectors(50)).expert_N.view(50, 3)
    assert all(len(set(row)) == 3 for row in experts_TK.tolist())


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_the_balance_loss_is_one_at_perfect_balance_whatever_k(top_k: int) -> None:
    """Every token prefers another run of k experts, so that all are used and expected alike."""
    wanted_TE = torch.zeros(8, 8)
    for token in range(8):
        wanted_TE[token, [(token + i) % 8 for i in range(top_k)]] = 3.0
    loss = given(wanted_TE, top_k=top_k).losses["balance_loss"].detach()
    assert float(loss) == pytest.approx(1.0, rel=1e-6)


def test_the_balance_loss_of_one_busy_expert_by_hand() -> None:
    """All pairs on expert 0, mean probability 0.7: 4 experts times 1 times 0.7."""
    probabilities = torch.tensor([[0.7, 0.1, 0.1, 0.1]] * 5)
    assert load_balance_loss(probabilities, torch.zeros(5, dtype=torch.int64)) == pytest.approx(4 * 0.7)


def test_the_balance_loss_by_hand() -> None:
    """Shares of the six pairs 3/6, 2/6, 1/6; mean probabilities 0.5, 0.3, 0.2."""
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]])
    pairs = torch.tensor([0, 1, 0, 1, 0, 2])
    expected = 3 * (3 / 6 * 0.5 + 2 / 6 * 0.3 + 1 / 6 * 0.2)
    assert load_balance_loss(probabilities, pairs) == pytest.approx(expected)


def test_the_balance_loss_pushes_down_the_busy_experts_probability() -> None:
    logits = torch.zeros(6, 4, requires_grad=True)
    load_balance_loss(logits.softmax(1), torch.zeros(6, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_the_z_loss_by_hand() -> None:
    """Two tokens whose logits sum, exponentiated, to 4 and to 2 e."""
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, -100.0, -100.0]])
    expected = (math.log(4) ** 2 + (1 + math.log(2)) ** 2) / 2
    assert router_z_loss(logits) == pytest.approx(expected)


def test_the_losses_of_a_routing_are_those_of_its_own_logits() -> None:
    made, x_TD = router(), vectors(20)
    routing, logits_TE = made(x_TD), vectors(20) @ made.weight.T
    torch.testing.assert_close(routing.losses["z_loss"], router_z_loss(logits_TE))
    torch.testing.assert_close(
        routing.losses["balance_loss"], load_balance_loss(logits_TE.softmax(1), routing.expert_N)
    )


def test_routing_twice_gives_the_same() -> None:
    made, x_TD = router(), vectors(64)
    first, second = made(x_TD), made(x_TD)
    assert torch.equal(first.expert_N, second.expert_N)
    assert torch.equal(first.weight_N, second.weight_N)


def test_permuting_tokens_permutes_their_routing() -> None:
    made, x_TD = router(7, 3), vectors(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    plain, permuted = made(x_TD), made(x_TD[order])
    assert torch.equal(permuted.expert_N.view(40, 3), plain.expert_N.view(40, 3)[order])
    torch.testing.assert_close(permuted.weight_N.view(40, 3), plain.weight_N.view(40, 3)[order])


def test_a_tokens_routing_depends_on_no_other_token() -> None:
    made, x_TD = router(7, 3), vectors(40)
    alone = made(x_TD[:1])
    assert torch.equal(alone.expert_N, made(x_TD).expert_N[:3])


@pytest.mark.parametrize("experts", [2, 8, 64, 128])
@pytest.mark.parametrize("top_k", [1, 2])
def test_ties_are_broken_the_same_way_for_every_token_and_time(experts: int, top_k: int) -> None:
    routing = given(torch.zeros(33, experts), top_k=top_k)
    experts_TK = routing.expert_N.view(33, top_k)
    assert (experts_TK == experts_TK[0]).all()
    assert torch.equal(experts_TK, given(torch.zeros(33, experts), top_k=top_k).expert_N.view(33, top_k))
    torch.testing.assert_close(routing.weight_N, torch.full((33 * top_k,), 1 / top_k))


def test_scores_are_float32_whatever_the_tokens() -> None:
    made, x_TD = router(), vectors(20)
    half = made(x_TD.bfloat16())
    assert half.weight_N.dtype == torch.float32
    assert torch.equal(half.expert_N, made(x_TD.bfloat16().float()).expert_N)


def test_the_routers_weight_learns_from_the_weights_of_its_pairs() -> None:
    made = router(8, 2)
    made(vectors(20)).weight_N[::2].sum().backward()
    assert made.weight.grad is not None
    assert made.weight.grad.abs().sum() > 0


def test_with_one_expert_to_choose_renormalised_weights_teach_the_router_nothing() -> None:
    made = router(8, 1)
    made(vectors(20)).weight_N.sum().backward()
    assert made.weight.grad is not None
    assert made.weight.grad.abs().max() < 1e-6


@pytest.mark.parametrize(("top_k", "renormalise", "scale"), [
    (1, True, 1.0), (4, True, 0.5), (1, False, 1 / 8), (4, False, 2 / 8),
])  # fmt: skip
def test_the_scale_of_an_average_by_hand(top_k: int, renormalise: bool, scale: float) -> None:
    """The root of k times weight squared, the weight being 1/k renormalised and 1/E otherwise."""
    assert SoftmaxTopK.output_scale(moe(8, top_k, renormalise=renormalise)) == pytest.approx(scale)


def test_every_router_says_whether_it_is_causal_and_drops() -> None:
    for known in ROUTERS.values():
        assert isinstance(known.causal, bool)
        assert isinstance(known.drops, bool)


def test_suites_and_models_know_the_same_routers() -> None:
    assert tuple(ROUTERS) == words.ROUTERS


def test_an_unknown_router_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="softmax_topk"):
        router_class("softmax")


def test_installed_packages_offer_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offered:
        name = "mine"

        @staticmethod
        def load() -> type[SoftmaxTopK]:
            return SoftmaxTopK

    monkeypatch.setattr(routers, "entry_points", lambda group: [Offered] if group == "moebench.routers" else [])
    assert router_class("mine") is SoftmaxTopK
    with pytest.raises(KeyError, match="mine, softmax_topk"):
        router_class("yours")
