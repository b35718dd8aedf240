"""Muon is torch's on a matrix, each expert's on its own; its state is counted and travels; the rest is AdamW's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from moebench.counting.costs import costs_of
from moebench.counting.weights import hidden_matrices
from moebench.jobs.optimizers import Muon, make_optimizer, orthogonal, set_rate
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, Step, learning_rate, start, train
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.routers import Text
from moebench.suite.model import DenseFFN
from tests.support import small_corpora
from tests.support.small_models import architecture, built, dense, moe, recipe, run

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)
MODELS = {
    "dense": architecture(dense(24)),
    "mixture, one network dense, shared, gated": architecture(
        moe(4, 2, 24, shared_hidden=8, shared_gate=True, first_dense=1, dense_hidden=24), kv_heads=2
    ),
    "two matrices and biases": architecture(moe(3, 1, 24, activation="relu", bias=True), tied_embeddings=False),
}


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def alone(parameter: torch.nn.Parameter, matrices: int = 1, **options: Any) -> Muon:
    """Muon of one parameter, with an AdamW of something else."""
    rest = torch.nn.Parameter(torch.zeros(1))
    adamw = torch.optim.AdamW([{"params": [rest], "rate": 1.0}], lr=0.1, fused=True)
    usual = {"lr": 0.1, "momentum": 0.95, "weight_decay": 0.1}
    return Muon([(parameter, matrices)], adamw, **{**usual, **options})


def moved(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach().clone()


@pytest.mark.parametrize("shape", [(24, 32), (32, 24), (16, 16), (1, 8)])
def test_on_a_matrix_it_is_torchs_muon(shape: tuple[int, int]) -> None:
    """Which computes in bfloat16: in the same dtype to the bit, in float32 to the rounding of bfloat16."""
    gradients, first = [made(*shape, seed=seed) for seed in range(4)], made(*shape, seed=9)
    ours, exact, theirs = (torch.nn.Parameter(first.clone()) for _ in range(3))
    found = moved(alone(ours, dtype=torch.bfloat16), ours, gradients)
    precise = moved(alone(exact), exact, gradients)
    torchs = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    expected = moved(torchs, theirs, gradients)
    assert torch.equal(found, expected)
    torch.testing.assert_close(precise, expected, rtol=0, atol=0.05 * float((expected - first).abs().max()))


def test_an_update_is_nearly_orthogonal_and_as_large_as_adamws() -> None:
    """Singular values about 1, so a root mean square of 0.2 after scaling (Liu et al. 2025)."""
    update_NXY = orthogonal(made(3, 24, 64), dtype=torch.float32)
    values = torch.linalg.svdvals(update_NXY)
    assert values.min() > 0.6
    assert values.max() < 1.3
    rms = 0.2 * 64**0.5 * update_NXY.square().mean().sqrt()
    assert rms == pytest.approx(0.2, rel=0.2)


def test_each_expert_and_each_stacked_matrix_is_moved_as_if_it_were_alone() -> None:
    first, gradient = made(3, 2 * 16, 24), made(3, 2 * 16, 24, seed=1)
    stacked = torch.nn.Parameter(first.clone())
    found = moved(alone(stacked, 2), stacked, [gradient]).view(6, 16, 24)
    for n, (matrix, its) in enumerate(zip(first.view(6, 16, 24), gradient.view(6, 16, 24), strict=True)):
        one = torch.nn.Parameter(matrix.clone())
        torch.testing.assert_close(found[n], moved(alone(one), one, [its]), rtol=1e-5, atol=1e-6)


def test_another_experts_gradient_changes_no_bit_of_an_update() -> None:
    first, gradient = made(4, 16, 24), made(4, 16, 24, seed=1)
    other = gradient.clone()
    other[2] *= -7
    one, twin = (torch.nn.Parameter(first.clone()) for _ in range(2))
    found, changed = moved(alone(one), one, [gradient]), moved(alone(twin), twin, [other])
    assert [torch.equal(found[n], changed[n]) for n in range(4)] == [True, True, False, True]


def test_an_expert_without_tokens_is_decayed_and_nothing_else() -> None:
    first = made(2, 16, 24)
    gradient = torch.stack([torch.zeros(16, 24), made(16, 24)])
    parameter = torch.nn.Parameter(first.clone())
    found = moved(alone(parameter), parameter, [gradient])
    torch.testing.assert_close(found[0], first[0] * (1 - 0.1 * 0.1))


@pytest.mark.parametrize("a", MODELS.values(), ids=MODELS)
def test_it_moves_matrices_of_attention_and_networks_and_leaves_the_rest_to_adamw(a: Architecture) -> None:
    model = built(a)
    optimizer = make_optimizer(model, recipe(optimizer="muon", momentum=0.95))
    assert isinstance(optimizer, Muon)
    names = {parameter: name for name, parameter in model.named_parameters()}
    chosen = {names[parameter].split(".")[-1] for parameter in optimizer.stacked}
    assert chosen == {"query", "key", "value", "output", "gate_up", "down"}
    assert not any("router" in names[parameter] for parameter in optimizer.stacked)
    everything = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(everything) == len(names) == len(set(everything))
    assert sum(parameter.numel() for parameter in optimizer.stacked) == hidden_matrices(a.blueprint)


@pytest.mark.parametrize("a", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("word", ["adamw", "muon"])
def test_the_bytes_of_its_state_are_those_that_are_counted(a: Architecture, word: Any) -> None:
    chosen = small_run(a, optimizer=word, momentum=0.95 if word == "muon" else None, steps=1)
    state, _ = whole(chosen)
    moments = sum(
        value.numel() * value.element_size()
        for held in state.optimizer.state.values()
        for name, value in held.items()
        if name != "step"
    )
    costs = costs_of(a.blueprint, dtype="float32", optimizer=word)
    assert costs.trained_params is not None
    assert moments == costs.train_state_bytes - 4 * (costs.params.total + costs.trained_params)


def small_run(a: Architecture, **changes: Any) -> Run:
    return run(a, data_digest=CORPUS.digest, **{"steps": 6, **changes})


def whole(chosen: Run) -> tuple[State, list[Step]]:
    state = start(chosen)
    return state, list(train(state, chosen, CORPUS))


@pytest.mark.parametrize("a", MODELS.values(), ids=MODELS)
def test_a_run_with_muon_resumes_to_the_same_bits(a: Architecture) -> None:
    chosen = small_run(a, optimizer="muon", momentum=0.95)
    undisturbed, steps = whole(chosen)
    state = start(chosen)
    first = list(itertools.islice(train(state, chosen, CORPUS), 3))
    revived = start(chosen.model_copy(update={"seed": 5}))
    revived.load_bytes(state.to_bytes())
    assert [*first, *train(revived, chosen, CORPUS)] == steps
    assert revived.to_bytes() == undisturbed.to_bytes()


def test_a_mixture_learns_with_it() -> None:
    sizes = {"steps": 30, "batch_tokens": 256, "micro_batch_tokens": 256, "lr": 2e-2}
    _, steps = whole(small_run(architecture(moe(4, 2, 12)), optimizer="muon", momentum=0.95, **sizes))
    assert steps[-1].loss < steps[0].loss - 2


# ------------------------------------------------------------------------------------------ the routers' rate


def rates(model: Transformer, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("word", ["adamw", "muon"])
def test_routers_have_a_rate_of_their_own(word: str) -> None:
    model = built(MODELS["mixture, one network dense, shared, gated"])
    chosen = recipe(optimizer=word, momentum=0.95 if word == "muon" else None, router_lr=3.0, lr=0.1)
    optimizer = make_optimizer(model, chosen)
    set_rate(optimizer, learning_rate(chosen, 5))
    found = rates(model, optimizer)
    assert set(found) == dict(model.named_parameters()).keys()
    for name, rate in found.items():
        assert rate == pytest.approx(learning_rate(chosen, 5) * (3.0 if "router" in name else 1.0)), name


def test_a_dense_model_has_no_router_to_give_another_rate() -> None:
    one, other = (whole(small_run(architecture(dense(24)), router_lr=rate))[0] for rate in (1.0, 3.0))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


# ------------------------------------------------------------------------------------------ the router's initial scale


def router_deviation(**options: Any) -> float:
    model = build(architecture(moe(64, 2, 8, **options), width=64, head_dim=16), seed=0)
    return float(model.routers[0].weight.detach().std()) * 64**0.5


def test_the_routers_initial_scale_is_the_one_asked_for() -> None:
    assert router_deviation(router_scale=0.1) == pytest.approx(0.1, rel=0.1)
    assert router_deviation() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_unscaled_weights_start_at_the_dense_scale_whatever_the_routers_is(scale: float) -> None:
    a = architecture(moe(8, 2, 24, renormalise=False, router_scale=scale))
    x_TD = made(512, a.width)
    outputs = []
    for one in (a, architecture(DenseFFN(kind="dense", hidden=24))):
        ffn = build(one, seed=0).layers[0].ffn
        outputs.append(ffn(x_TD[None], _text(x_TD))[0].square().mean().sqrt().item())
    assert outputs[0] == pytest.approx(outputs[1], rel=0.15)


def _text(x_TD: Tensor) -> Text:
    return Text(ids_BT=torch.zeros(1, len(x_TD), dtype=torch.int64))
