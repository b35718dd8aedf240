"""Each router's rule by hand: who goes where, with what weight, and the losses that shape it.

What holds for all of them is in `test_router_contracts`.
"""

from __future__ import annotations

import math
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from hypothesis import given as with_
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from moebench import plugins
from moebench.models.routers import Router, Routing, Text, router_class
from moebench.models.routers.expert_choice import ExpertChoice
from moebench.models.routers.hierarchical import Hierarchical
from moebench.models.routers.losses import Tally, balance_loss, sequence_balance, z_loss
from moebench.models.routers.noisy_topk import Gate, NoisyTopK, expected_load, squared_variation
from moebench.models.routers.projection import Projection
from moebench.models.routers.sigmoid_bias import SigmoidBias
from moebench.models.routers.soft_mixture import SoftMixture
from moebench.models.routers.softmax_topk import SoftmaxTopK
from moebench.models.routers.top_p import TopP, entropy_loss
from moebench.suite.model import MoEFFN
from tests.support.small_models import moe
from tests.support.small_routers import Given, chance, given, matrix, mixture, of, projection, router

pytestmark = pytest.mark.numeric


def text(num_tokens: int, *, batch: int = 1, seed: int = 0) -> Text:
    return Text(ids_BT=torch.zeros(batch, num_tokens // batch, dtype=torch.int64), generator=chance(seed))


def by_logits(ffn: MoEFFN) -> Router:
    """A router for which a token is its own logits: its projection is the identity."""
    made = of(ffn, width=ffn.experts)
    with torch.no_grad():
        projection(made).copy_(torch.eye(ffn.experts))
    return made


def routed(logits_TE: Tensor, ffn: MoEFFN, *, training: bool = False, batch: int = 1) -> Routing:
    """What a router makes of logits."""
    routing = by_logits(ffn).train(training)(logits_TE, text(logits_TE.shape[0], batch=batch))
    assert isinstance(routing, Routing)
    return routing


def plain(logits_TE: Tensor, *, top_k: int, **other: Any) -> Routing:
    return routed(logits_TE, moe(logits_TE.shape[1], top_k, **other))


# ------------------------------------------------------------------------------------------ softmax and top-k


def test_the_most_probable_experts_are_chosen_with_their_probabilities() -> None:
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.4, 0.3, 0.2, 0.1]])
    bare = plain(probabilities.log(), top_k=2, renormalise=False)
    assert bare.token_N.tolist() == [0, 0, 1, 1]
    assert bare.expert_N.tolist() == [1, 3, 0, 1]
    torch.testing.assert_close(bare.weight_N, torch.tensor([0.5, 0.25, 0.4, 0.3]))
    for word in ("softmax_topk", "topk_softmax"):
        renormalised = plain(probabilities.log(), top_k=2, router=word)
        assert renormalised.expert_N.tolist() == [1, 3, 0, 1]
        torch.testing.assert_close(renormalised.weight_N, torch.tensor([2 / 3, 1 / 3, 4 / 7, 3 / 7]))


@pytest.mark.parametrize("word", ["softmax_topk", "topk_softmax", "switch", "gshard", "soft_mixture", "top_p"])
def test_a_bias_is_added_to_the_logits(word: str) -> None:
    bias_E = torch.randn(8, generator=chance(3))
    x_TD = torch.randn(20, 17, generator=chance(1))
    x_TD[:, 16] = 1.0  # an input that is always 1 carries the bias for the router that has none
    made, wide = of(mixture(word, bias=True)).eval(), of(mixture(word), width=17).eval()
    with torch.no_grad():
        assert isinstance(made, Projection)
        assert made.bias is not None
        made.bias.copy_(bias_E)
        projection(wide).copy_(torch.cat([projection(made), bias_E[:, None]], dim=1))
    routings = [made(x_TD[:, :16], text(20)), wide(x_TD, text(20))]
    torch.testing.assert_close(*(matrix(routing, num_tokens=20) for routing in routings))


@pytest.mark.parametrize("experts", [2, 8, 64, 128])
@pytest.mark.parametrize("top_k", [1, 2])
def test_ties_are_broken_the_same_way_for_every_token_and_time(experts: int, top_k: int) -> None:
    routing = plain(torch.zeros(33, experts), top_k=top_k)
    experts_TK = routing.expert_N.view(33, top_k)
    assert (experts_TK == experts_TK[0]).all()
    assert torch.equal(experts_TK, plain(torch.zeros(33, experts), top_k=top_k).expert_N.view(33, top_k))
    torch.testing.assert_close(routing.weight_N, torch.full((33 * top_k,), 1 / top_k))


# ------------------------------------------------------------------------------------------ losses


def in_turn(experts: int, top_k: int, *, rounds: int = 1) -> Tensor:
    """Logits of tokens that each prefer another run of k experts, so that all are used and expected alike."""
    wanted_TE = torch.zeros(experts * rounds, experts)
    for token in range(experts * rounds):
        wanted_TE[token, [(token + i) % experts for i in range(top_k)]] = 3.0 - torch.arange(float(top_k)) / 10
    return wanted_TE


BALANCED = {
    "softmax_topk": {}, "topk_softmax": {}, "noisy_topk": {}, "switch": {"top_k": 1, "capacity_factor": 1.0},
    "gshard": {"top_k": 2, "capacity_factor": 1.0}, "sigmoid_bias": {}, "sigmoid_bias, grouped": {"groups": 1,
    "groups_chosen": 1}, "top_p": {"top_p": 0.9},
}  # fmt: skip


@pytest.mark.parametrize("over", [None, "sequence", "batch"])
@pytest.mark.parametrize("top_k", [1, 2, 3, 8])
@pytest.mark.parametrize("name", BALANCED)
def test_the_balance_loss_is_one_at_perfect_balance_whatever_k(name: str, top_k: int, over: Any) -> None:
    """Over the micro-batch, each of its two sequences, and the batch."""
    word = name.split(",")[0]
    options = {"top_k": top_k, "balance_over": None if word == "top_p" else over, **BALANCED[name]}
    ffn = moe(experts=8, router=word, **options)
    loss = routed(in_turn(8, ffn.top_k, rounds=2), ffn, batch=2).losses["balance_loss"].detach()
    assert float(loss) == pytest.approx(1.0, rel=1e-6)


def test_the_balance_loss_of_one_busy_expert_by_hand() -> None:
    """All pairs on expert 0, mean probability 0.7: 4 experts times 1 times 0.7."""
    probabilities = torch.tensor([[0.7, 0.1, 0.1, 0.1]] * 5)
    assert balance_loss(probabilities, torch.zeros(5, dtype=torch.int64)) == pytest.approx(4 * 0.7)


def test_the_balance_loss_by_hand() -> None:
    """Shares of the six pairs 3/6, 2/6, 1/6; mean probabilities 0.5, 0.3, 0.2."""
    probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]])
    pairs = torch.tensor([0, 1, 0, 1, 0, 2])
    expected = 3 * (3 / 6 * 0.5 + 2 / 6 * 0.3 + 1 / 6 * 0.2)
    assert balance_loss(probabilities, pairs) == pytest.approx(expected)


def test_the_balance_loss_pushes_down_the_busy_experts_probability() -> None:
    logits = torch.zeros(6, 4, requires_grad=True)
    balance_loss(logits.softmax(1), torch.zeros(6, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1:] < 0).all()


def test_sequences_that_are_not_balanced_each_are_told_from_a_balanced_micro_batch() -> None:
    """Two sequences of two tokens, each all on its own expert with probability 0.9: 2 x 0.9 each, 1.0 together."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    expert_TK = torch.tensor([[0], [0], [1], [1]])
    assert sequence_balance(probabilities, expert_TK, length=2) == pytest.approx(2 * 0.9)
    assert sequence_balance(probabilities, expert_TK, length=4) == pytest.approx(1.0)
    assert balance_loss(probabilities, expert_TK.reshape(-1)) == pytest.approx(1.0)
    for word, expected in (("softmax_topk", 2 * 0.9), ("sigmoid_bias", 2 * 0.9), ("noisy_topk", 2 * 0.9)):
        logits = probabilities.logit() if word == "sigmoid_bias" else probabilities.log()
        loss = routed(logits, moe(2, 1, router=word, balance_over="sequence"), batch=2).losses["balance_loss"]
        assert float(loss.detach()) == pytest.approx(expected)


@pytest.mark.parametrize("over", [None, "batch"])
@pytest.mark.parametrize("word", ["softmax_topk", "sigmoid_bias", "noisy_topk"])
def test_the_batchs_loss_uses_the_pairs_of_all_micro_batches_and_forgets_them_after_the_step(
    word: str, over: Any
) -> None:
    """Three tokens on expert 0, then one on expert 1: shares 3/4 and 1/4 in both, of its own alone after the step."""
    made = by_logits(moe(2, 1, router=word, balance_over=over))
    if isinstance(made, NoisyTopK):
        with torch.no_grad():
            made.gate.noise.zero_()
        made.gate.eval()  # the rule of the loss without the chance of the choice
    first, second = torch.tensor([[2.0, 0.0]] * 3), torch.tensor([[0.0, 2.0]])

    def loss(logits_TE: Tensor) -> float:
        return float(made(logits_TE, text(len(logits_TE))).losses["balance_loss"].detach())

    high = 0.880797 / (0.880797 + 0.5) if word == "sigmoid_bias" else 0.880797  # sigmoid(2); of softmax (2, 0)
    assert loss(first) == pytest.approx(2 * high, rel=1e-5)
    made.tally = Tally()
    with torch.no_grad():
        made(first, text(3)), made(second, text(1))
    for share, logits_TE, likely in ((3 / 4, first, high), (1 / 4, second, 1 - high)):
        made.tally.share = share
        assert loss(logits_TE) == pytest.approx(2 * (3 / 4 * likely + 1 / 4 * (1 - likely)), rel=1e-5)
    made.eval()
    assert loss(first) == pytest.approx(2 * high, rel=1e-5)  # evaluation neither sees nor leaves a trace
    made.train()
    made.after_step()
    assert loss(second) == pytest.approx(2 * high, rel=1e-5)


def test_a_sum_of_the_batch_has_the_gradient_of_the_whole_whatever_is_made_of_it() -> None:
    """f(a + b) by hand, of parts of 3 and 1 tokens: a of the first, b of the second, weighted by their shares."""
    a, b = (torch.tensor([value, 1.0], requires_grad=True) for value in (3.0, 4.0))
    tally = Tally()
    for own in (a, b):
        tally("sums", own)
    for own, share in ((a, 3 / 4), (b, 1 / 4)):
        tally.share = share
        f = tally("sums", own).prod()
        assert float(f.detach()) == 14.0
        (share * f).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == pytest.approx([2.0, 7.0], rel=1e-6)
    assert b.grad.tolist() == pytest.approx([2.0, 7.0], rel=1e-6)


def test_the_z_loss_by_hand() -> None:
    """Two tokens whose logits sum, exponentiated, to 4 and to 2 e."""
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, -100.0, -100.0]])
    expected = (math.log(4) ** 2 + (1 + math.log(2)) ** 2) / 2
    assert z_loss(logits) == pytest.approx(expected)


def test_the_losses_of_a_routing_are_those_of_its_own_logits() -> None:
    made, tokens = router("softmax_topk", z_loss=0.1), given()
    routing, logits_TE = tokens.routed_by(made), tokens.x_TD @ projection(made).T
    torch.testing.assert_close(routing.losses["z_loss"], z_loss(logits_TE))
    expected = balance_loss(logits_TE.softmax(1), routing.expert_N)
    torch.testing.assert_close(routing.losses["balance_loss"], expected)


def test_variation_and_entropy_by_hand() -> None:
    assert squared_variation(torch.tensor([1.0, 3.0])) == pytest.approx(1 / 4)  # variance 1, mean 2
    assert squared_variation(torch.full((7,), 3.0)) == 0.0
    assert entropy_loss(torch.full((5, 8), 1 / 8)) == pytest.approx(math.log(8))
    assert entropy_loss(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])) == pytest.approx(math.log(2) / 2)


def test_importance_and_load_losses_are_zero_at_perfect_balance() -> None:
    logits_TE = in_turn(8, 2)
    routing = routed(logits_TE, moe(8, 2, router="noisy_topk", importance_loss=0.1))
    assert float(routing.losses["importance_loss"].detach()) == pytest.approx(0.0, abs=1e-9)
    chances_TE = expected_load(logits_TE, logits_TE, torch.full_like(logits_TE, 0.7), 2)
    assert float(squared_variation(chances_TE.sum(0))) == pytest.approx(0.0, abs=1e-9)
    assert float(squared_variation(chances_TE[:5].sum(0))) > 0.1


# ------------------------------------------------------------------------------------------ noisy top-k


def test_noise_is_normal_with_a_deviation_of_softplus_of_its_own_projection() -> None:
    """At first log 2 everywhere, whatever the token; then what was learned."""
    gate, x_TD = Gate(6, width=4, scale=1.0).train(), torch.randn(1, 4, generator=chance(1)).expand(20_000, 4)
    gate.initialise(0, "gate")
    clear, noisy, deviation = gate(x_TD, text(20_000))
    torch.testing.assert_close(deviation, torch.full((20_000, 6), math.log(2)))
    assert (noisy - clear).std(0).tolist() == pytest.approx([math.log(2)] * 6, rel=0.03)
    assert (noisy - clear).mean(0).tolist() == pytest.approx([0.0] * 6, abs=0.02)
    with torch.no_grad():
        gate.noise.copy_(torch.randn(6, 4, generator=chance(2)))
    clear, noisy, deviation = gate(x_TD, text(20_000))
    expected = (1 + (x_TD[0] @ gate.noise.T).exp()).log()
    torch.testing.assert_close(deviation[0], expected)
    assert (noisy - clear).std(0).tolist() == pytest.approx(expected.tolist(), rel=0.03)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_load_estimator_is_the_chance_under_another_draw_of_an_experts_own_noise(top_k: int) -> None:
    """Eq. 8 of Shazeer 2017 against 20,000 draws, the others' noise held; all five chosen would be certain."""
    clear, deviation = torch.randn(3, 5, generator=chance(0)), torch.rand(3, 5, generator=chance(1)) + 0.2
    noisy = clear + deviation * torch.randn(3, 5, generator=chance(2))
    found = expected_load(clear, noisy, deviation, top_k)
    for token in range(3):
        for expert in range(5):
            draws = clear[token, expert] + deviation[token, expert] * torch.randn(20_000, generator=chance(3))
            others = torch.cat([noisy[token, :expert], noisy[token, expert + 1 :]])
            wins = (draws > others.sort(descending=True).values[top_k - 1]).float().mean()
            assert float(found[token, expert]) == pytest.approx(float(wins), abs=0.015)
    assert expected_load(clear, noisy, deviation, 5).tolist() == [[1.0] * 5] * 3


def test_noisy_losses_are_of_the_summed_weights_and_the_estimated_loads() -> None:
    made, tokens = router("noisy_topk"), given()
    routing = tokens.routed_by(made, seed=5)
    assert isinstance(made, NoisyTopK)
    clear, noisy, deviation = made.gate(tokens.x_TD, tokens.text(5))
    weights_TE = matrix(routing, num_tokens=64, experts=8)
    torch.testing.assert_close(routing.losses["importance_loss"], squared_variation(weights_TE.sum(0)))
    load_E = expected_load(clear, noisy, deviation, 2).sum(0)
    torch.testing.assert_close(routing.losses["load_loss"], squared_variation(load_E))
    chosen = noisy.topk(2, dim=1)
    assert torch.equal(routing.expert_N.view(-1, 2), chosen.indices)
    torch.testing.assert_close(routing.weight_N.view(-1, 2), chosen.values.softmax(1))


# ------------------------------------------------------------------------------------------ two levels


def two_levels(groups: Tensor, members: Tensor, **other: Any) -> tuple[Hierarchical, Tensor]:
    """A router whose tokens are the logits of the groups and of all experts, side by side."""
    num_groups, experts = groups.shape[1], members.shape[1]
    ffn = moe(experts, router="hierarchical", groups=num_groups, **other)
    made = of(ffn, width=num_groups + experts)
    assert isinstance(made, Hierarchical)
    with torch.no_grad():
        made.group_gate.weight.copy_(torch.eye(num_groups, num_groups + experts))
        made.gate.weight.copy_(torch.eye(num_groups + experts)[num_groups:])
    return made, torch.cat([groups, members], dim=1)


def test_weights_of_groups_and_of_experts_within_them_multiply() -> None:
    """Groups 0 and 2 with 0.6 and 0.4; of group 0 the experts 0.7 and 0.3, of group 2 0.2 and 0.8."""
    groups = torch.tensor([[0.6, 0.01, 0.4]]).log()
    members = torch.tensor([[0.7, 0.3, 0.001, 0.9, 0.9, 0.9, 0.001, 0.2, 0.8]]).log()
    made, x_TD = two_levels(groups, members, top_k=4, groups_chosen=2)
    found = matrix(made.eval()(x_TD, text(1)), num_tokens=1, experts=9)
    expected = torch.tensor([[0.42, 0.18, 0, 0, 0, 0, 0, 0.08, 0.32]])
    torch.testing.assert_close(found, expected)


def test_losses_of_two_levels_are_zero_at_perfect_balance() -> None:
    """Every group with every turn of its members."""
    tokens = [(torch.eye(3)[g], torch.eye(3)[[m, (m + 1) % 3, (m + 2) % 3]].flatten()) for g in range(3) for m in
              range(3)]  # fmt: skip
    groups, members = (torch.stack(part) for part in zip(*tokens, strict=True))
    made, x_TD = two_levels(groups, members, top_k=1, groups_chosen=1, importance_loss=0.1)
    assert float(made.eval()(x_TD, text(9)).losses["importance_loss"].detach()) == pytest.approx(0.0, abs=1e-9)


def test_the_load_of_two_levels_is_the_groups_times_the_mean_within_it() -> None:
    """Appendix B of Shazeer 2017, eq. 13, one expert after the other."""
    made, tokens = router("hierarchical"), given()
    assert isinstance(made, Hierarchical)
    routing, text_ = tokens.routed_by(made, seed=5), tokens.text(5)
    group_clear, group_noisy, group_deviation = made.group_gate(tokens.x_TD, text_)
    clear, noisy, deviation = (part.view(64, 3, 3) for part in made.gate(tokens.x_TD, text_))
    load_G = expected_load(group_clear, group_noisy, group_deviation, 2).sum(0)
    came_TG = torch.zeros(64, 3, dtype=torch.bool).scatter_(1, group_noisy.topk(2, dim=1).indices, True)
    loads = []
    for group in range(3):
        came = came_TG[:, group]
        within_TM = expected_load(clear[came, group], noisy[came, group], deviation[came, group], 2)
        loads.append(load_G[group] * within_TM.sum(0) / came.sum())
    torch.testing.assert_close(routing.losses["load_loss"], squared_variation(torch.cat(loads)))
    weights_E = matrix(routing, num_tokens=64).sum(0)
    torch.testing.assert_close(routing.losses["importance_loss"], squared_variation(weights_E))


# ------------------------------------------------------------------------------------------ switch and gshard


def test_switch_by_hand() -> None:
    """Eight tokens want experts 0 0 0 1 1 1 2 3; with a factor of 1 each of the four has room for two."""
    wanted = torch.tensor([0, 0, 0, 1, 1, 1, 2, 3])
    probabilities = torch.full((8, 4), 0.1).scatter_(1, wanted[:, None], 0.7)
    ffn = moe(4, 1, router="switch", capacity_factor=1.0)
    routing = routed(probabilities.log(), ffn, training=True)
    assert routing.token_N.tolist() == [0, 1, 3, 4, 6, 7]
    assert routing.expert_N.tolist() == [0, 0, 1, 1, 2, 3]
    torch.testing.assert_close(routing.weight_N, torch.full((6,), 0.7))
    assert routing.dropped == 2
    # eq. 4: the load that was wanted, refused tokens included: shares 3/8 3/8 1/8 1/8, as are the probabilities' turns
    mean = probabilities.mean(0)
    expected = 4 * (3 / 8 * mean[0] + 3 / 8 * mean[1] + 1 / 8 * mean[2] + 1 / 8 * mean[3])
    torch.testing.assert_close(routing.losses["balance_loss"].detach(), expected)
    assert routed(probabilities.log(), ffn).token_N.tolist() == list(range(8))


@pytest.mark.parametrize("second", [0.05, 0.2, 0.35, 0.5])
def test_gshards_second_expert_comes_with_twice_its_weight_as_probability(second: float) -> None:
    logits_TE = torch.tensor([[0.0, 1 - second, 0.0, second]]).add(1e-9).log().expand(20_000, 4)
    ffn = moe(4, 2, router="gshard", capacity_factor=1000.0)
    routing = routed(logits_TE, ffn, training=True)
    firsts, seconds = routing.expert_N == 1, routing.expert_N == 3
    assert routing.token_N[firsts].tolist() == list(range(20_000))
    assert float(seconds.float().sum() / 20_000) == pytest.approx(2 * second, abs=0.01)
    torch.testing.assert_close(routing.weight_N[seconds].unique(), torch.tensor([second]))
    torch.testing.assert_close(routing.weight_N[firsts].unique(), torch.tensor([1 - second]))
    evaluated = routed(logits_TE[:9], ffn)
    assert evaluated.per_token == 2
    torch.testing.assert_close(evaluated.weight_N.view(9, 2)[0], torch.tensor([1 - second, second]))


def test_gshards_balance_is_of_first_choices() -> None:
    """Every token has expert 0 second: a load of 1 on each first choice is balance all the same."""
    logits_TE = torch.zeros(3, 4)
    logits_TE[torch.arange(3), torch.tensor([1, 2, 3])], logits_TE[:, 0] = 3.0, 2.0
    routing = routed(logits_TE, moe(4, 2, router="gshard", capacity_factor=1.0))
    mean = logits_TE.softmax(1).mean(0)
    torch.testing.assert_close(routing.losses["balance_loss"].detach(), 4 * (mean[1:] / 3).sum())


# ------------------------------------------------------------------------------------------ expert choice


def test_expert_choice_by_hand() -> None:
    """Four tokens, two experts, k = 1: each expert takes the two tokens that give it most; token 2 gets none."""
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    routing = routed(probabilities.log(), moe(2, 1, router="expert_choice"))
    assert list(zip(routing.token_N.tolist(), routing.expert_N.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 1),
                                                                                          (3, 1)]  # fmt: skip
    torch.testing.assert_close(routing.weight_N, torch.tensor([0.9, 0.8, 0.4, 0.7]))


def test_every_expert_chooses_as_many_tokens_of_every_sequence() -> None:
    routing = given(4, 16).routed_by(router("expert_choice"))
    cells = routing.token_N // 16 * 8 + routing.expert_N
    assert torch.bincount(cells).tolist() == [4] * 32  # k x length / experts = 2 x 16 / 8


# ------------------------------------------------------------------------------------------ sigmoid scores


def biased(logits_TE: Tensor, bias: list[float], **other: Any) -> Routing:
    made = by_logits(moe(logits_TE.shape[1], router="sigmoid_bias", **other))
    assert isinstance(made, SigmoidBias)
    made.bias_E.copy_(torch.tensor(bias))
    routing = made(logits_TE, text(len(logits_TE)))
    assert isinstance(routing, Routing)
    return routing


def test_a_bias_selects_and_does_not_weigh() -> None:
    scores = torch.tensor([[0.8, 0.6, 0.4, 0.2]])
    assert biased(scores.logit(), [0, 0, 0, 0], top_k=2).expert_N.tolist() == [0, 1]
    moved = biased(scores.logit(), [0, -0.3, 0, 0.25], top_k=2, scale=2.0)
    assert moved.expert_N.tolist() == [0, 3]  # biased scores 0.8, 0.3, 0.4, 0.45
    torch.testing.assert_close(moved.weight_N, torch.tensor([1.6, 0.4]))
    bare = biased(scores.logit(), [0, -0.3, 0, 0.25], top_k=2, renormalise=False)
    torch.testing.assert_close(bare.weight_N, torch.tensor([0.8, 0.2]))


def test_groups_are_ranked_by_their_two_best_and_only_their_experts_can_be_chosen() -> None:
    """Three groups of three; the best expert of all stands alone in its group, whose two best come last."""
    scores = torch.tensor([[0.9, 0.1, 0.1, 0.6, 0.5, 0.1, 0.7, 0.45, 0.3]])  # two best: 1.0, 1.1, 1.15
    assert biased(scores.logit(), [0] * 9, top_k=2).expert_N.tolist() == [0, 6]
    one = biased(scores.logit(), [0] * 9, top_k=2, groups=3, groups_chosen=1)
    assert one.expert_N.tolist() == [6, 7]
    two = biased(scores.logit(), [0] * 9, top_k=4, groups=3, groups_chosen=2)
    assert two.expert_N.tolist() == [6, 3, 4, 7]
    torch.testing.assert_close(two.weight_N, torch.tensor([0.7, 0.6, 0.5, 0.45]) / 2.25)
    lifted = biased(scores.logit(), [0, 0.2, 0, 0, 0, 0, 0, 0, 0], top_k=2, groups=3, groups_chosen=1)
    assert lifted.expert_N.tolist() == [0, 1]  # two best, biased: 1.2
    sunk = biased(scores.logit(), [-2.0] * 9, top_k=2, groups=3, groups_chosen=1)
    assert sunk.expert_N.tolist() == [6, 7]  # negative biased scores are still better than those of other groups


def test_biases_move_by_their_rate_against_the_load_of_the_step() -> None:
    """Loads 4, 2, 0, 2 over two micro-batches, mean 2: down, still, up, still. The next step starts from none."""
    made = by_logits(moe(4, 1, router="sigmoid_bias", bias_rate=0.01))
    assert isinstance(made, SigmoidBias)
    for wanted in ([0, 0, 0, 1], [0, 1, 3, 3]):
        made(torch.eye(4)[wanted], text(4))
    with torch.no_grad():
        made(torch.eye(4)[[2, 2, 2, 2]], text(4))  # no training: not counted
    made.eval()(torch.eye(4)[[2, 2, 2, 2]], text(4))  # nor is evaluation
    made.after_step()
    torch.testing.assert_close(made.bias_E, torch.tensor([-0.01, 0.0, 0.01, 0.0]))
    made.train()(torch.eye(4)[[2, 3, 3, 3]], text(4))  # loads 0, 0, 1, 3, mean 1
    made.after_step()
    torch.testing.assert_close(made.bias_E, torch.tensor([0.0, 0.01, 0.01, -0.01]))
    assert "bias_E" not in dict(made.named_parameters())


def test_biases_even_the_load_in_the_end() -> None:
    made, tokens = router("sigmoid_bias", groups=None, groups_chosen=None, bias_rate=0.002), given(16, 64)
    before = torch.bincount(tokens.routed_by(made).expert_N, minlength=8)
    for _ in range(200):
        tokens.routed_by(made)
        made.after_step()
    after = torch.bincount(tokens.routed_by(made.eval()).expert_N, minlength=8)
    assert before.max() > 1.1 * 256
    assert after.max() < 1.05 * 256


def test_without_a_rate_biases_stay() -> None:
    made = router("sigmoid_bias", bias_rate=None)
    given().routed_by(made)
    made.after_step()
    assert isinstance(made, SigmoidBias)
    assert made.bias_E.abs().max() == 0


# ------------------------------------------------------------------------------------------ unlearned


def test_a_word_goes_to_the_same_experts_wherever_it_stands() -> None:
    made, tokens = router("token_hash"), given(8, 64)
    experts_TK = tokens.routed_by(made).expert_N.view(-1, 2)
    ids_T = tokens.ids_BT.view(-1)
    of_word: dict[int, list[int]] = {}
    for word, experts in zip(ids_T.tolist(), experts_TK.tolist(), strict=True):
        assert of_word.setdefault(word, experts) == experts
    assert len({tuple(experts) for experts in of_word.values()}) > 30  # of the 56 ordered pairs there are
    other = Given(torch.zeros_like(tokens.x_TD), tokens.ids_BT).routed_by(made.eval())
    assert torch.equal(other.expert_N.view(-1, 2), experts_TK)
    assert (other.weight_N == 0.5).all()


def test_every_layer_and_seed_has_a_table_of_its_own_and_the_same_one_again() -> None:
    tables = [router("token_hash", seed=seed, layer=layer).get_buffer("table_VK") for seed, layer in ((0, 0), (0, 1),
                                                                                                 (1, 0))]  # fmt: skip
    assert not any(torch.equal(one, other) for i, one in enumerate(tables) for other in tables[:i])
    assert torch.equal(tables[0], router("token_hash").get_buffer("table_VK"))
    assert "table_VK" in router("token_hash").state_dict()


@pytest.mark.parametrize(("experts", "top_k"), [(8, 1), (8, 2), (8, 3), (7, 3), (5, 5)])
def test_round_robin_is_perfectly_balanced(experts: int, top_k: int) -> None:
    """Over any run of E positions, in every sequence and layer; layers start at other experts."""
    tokens = given(3, experts * 2)
    for layer in range(3):
        made = router("round_robin", experts=experts, top_k=top_k, layer=layer)
        routing = tokens.routed_by(made)
        rows = routing.expert_N.view(3, -1)
        for row in rows:
            for first in range(experts):
                run = row[first * top_k : (first + experts) * top_k]
                assert torch.bincount(run, minlength=experts).tolist() == [top_k] * experts
        assert rows[0, :top_k].tolist() == [(layer + j) % experts for j in range(top_k)]
        torch.testing.assert_close(routing.weight_N, torch.full((3 * experts * 2 * top_k,), 1 / top_k))


def test_round_robin_goes_on_where_the_cache_ends() -> None:
    made, tokens = router("round_robin"), given(1, 1)
    assert made(tokens.x_TD, tokens.text(start=5)).expert_N.tolist() == [10 % 8, 11 % 8]


# ------------------------------------------------------------------------------------------ top-p


def test_top_p_by_hand() -> None:
    """p = 0.6: 0.7 alone; 0.5 and 0.3; 0.3, 0.25 and 0.25; and at most k = 3 of the undecided."""
    probabilities = torch.tensor([
        [0.7, 0.1, 0.1, 0.05, 0.05], [0.05, 0.5, 0.3, 0.1, 0.05], [0.26, 0.3, 0.24, 0.1, 0.1],
        [0.201, 0.2, 0.2, 0.2, 0.199],
    ])  # fmt: skip
    routing = routed(probabilities.log(), moe(5, 3, router="top_p", top_p=0.6, renormalise=False))
    assert torch.bincount(routing.token_N).tolist() == [1, 2, 3, 3]
    assert routing.expert_N[:6].tolist() == [0, 1, 2, 1, 0, 2]
    torch.testing.assert_close(routing.weight_N[:6], torch.tensor([0.7, 0.5, 0.3, 0.3, 0.26, 0.24]))
    renormalised = routed(probabilities.log(), moe(5, 3, router="top_p", top_p=0.6))
    torch.testing.assert_close(renormalised.weight_N[:3], torch.tensor([1.0, 5 / 8, 3 / 8]))


@with_(st.lists(st.floats(-4, 4), min_size=8, max_size=8), st.floats(0.05, 1.0), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_top_p_takes_the_fewest_that_reach_p(logits: list[float], p: float, top_k: int) -> None:
    given_TE = torch.tensor([logits])
    routing = routed(given_TE, moe(8, top_k, router="top_p", top_p=p, renormalise=False))
    taken = routing.weight_N.tolist()
    assert sorted(taken, reverse=True) == pytest.approx(
        given_TE.softmax(1)[0].sort(descending=True).values[: len(taken)]
    )
    assert len(taken) == top_k or sum(taken) >= p - 1e-6
    assert len(taken) == 1 or sum(taken[:-1]) < p + 1e-6


# ------------------------------------------------------------------------------------------ scales at the start


@pytest.mark.parametrize(("top_k", "renormalise", "scale"), [
    (1, True, 1.0), (4, True, 0.5), (1, False, 1 / 8), (4, False, 2 / 8),
])  # fmt: skip
def test_the_scale_of_an_average_by_hand(top_k: int, renormalise: bool, scale: float) -> None:
    """The root of k times weight squared, the weight being 1/k renormalised and 1/E otherwise."""
    undecided = moe(8, top_k, renormalise=renormalise, router_scale=1e-6)
    assert SoftmaxTopK.output_scale(undecided) == pytest.approx(scale, rel=1e-4)


def test_other_scales_by_hand() -> None:
    """sigmoid: scores of one half, times the scale; top_p 0.49 of 8: four experts, not the eight allowed."""

    def scale(router: type[Router], word: str, top_k: int, **options: Any) -> float:
        return router.output_scale(moe(8, top_k, router=word, router_scale=1e-6, **options))

    assert scale(SigmoidBias, "sigmoid_bias", 4, scale=2.5) == pytest.approx(2.5 / 2, rel=1e-4)
    assert scale(SigmoidBias, "sigmoid_bias", 4, renormalise=False) == pytest.approx(2 * 0.5, rel=1e-4)
    assert scale(TopP, "top_p", 8, top_p=0.49) == pytest.approx(0.5, rel=1e-4)
    assert scale(TopP, "top_p", 2, top_p=0.49) == pytest.approx(0.5**0.5, rel=1e-4)
    assert scale(TopP, "top_p", 8, top_p=0.49, renormalise=False) == pytest.approx(2 / 8, rel=1e-4)
    assert scale(SoftMixture, "soft_mixture", 8) == pytest.approx(8**-0.5, rel=1e-4)
    assert scale(ExpertChoice, "expert_choice", 2) == pytest.approx(2**0.5 / 8, rel=1e-4)


# ------------------------------------------------------------------------------------------ look-up


def test_an_unknown_router_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="softmax_topk"):
        router_class("softmax")


def test_installed_packages_offer_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="mine", value="moebench.models.routers:NoisyTopK", group="moebench.routers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "moebench.routers" else [])
    assert router_class("mine") is NoisyTopK
    with pytest.raises(KeyError, match="mine, noisy_topk"):
        router_class("yours")
