"""The control of all controls: a mixture of one expert is the dense network of its width, step for step.

Weights renormalised, no noise, no auxiliary losses, expert 0 initialised as the dense network. Losses are compared to
1e-5 relative: the products are the same, summed in another order, and training carries the rounding on.
"""

from __future__ import annotations

import functools

import pytest
import torch

from moebench.data.batches import evaluation_windows
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, start, train
from moebench.metrics.quality import evaluate
from moebench.models.architecture import Architecture
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.routers import ROUTERS
from tests.support import small_corpora
from tests.support.small_models import architecture, dense, moe, run
from tests.support.small_routers import single as single_of

pytestmark = pytest.mark.numeric

STEPS = 12
CORPUS = small_corpora.ordinary(context=16)


@functools.cache
def trained(a: Architecture, *, backend: str | None = None, **recipe: int) -> tuple[State, list[float]]:
    chosen = run(
        a, data_digest=CORPUS.digest, seed=3, steps=STEPS, batch_tokens=256, **{"micro_batch_tokens": 256, **recipe}
    )
    if backend is not None:
        chosen = Run.model_validate({**chosen.model_dump(), "backend": backend})
    state = start(chosen)
    return state, [step.loss for step in train(state, chosen, CORPUS)]


def single() -> Architecture:
    return architecture(moe(1, 1, 24, balance_loss=0.0))


@pytest.mark.parametrize("backend", ["loop", "sorted", "grouped_mm"])
def test_one_expert_is_the_dense_model_step_for_step(backend: str) -> None:
    plain, dense_losses = trained(architecture(dense(24)))
    mixture, losses = trained(single(), backend=backend)
    assert losses == pytest.approx(dense_losses, rel=1e-5)
    assert dense_losses[-1] < dense_losses[0] - 1  # they learn, so equality is not that of two models that stand still
    windows = evaluation_windows(CORPUS, "test", tokens=512)
    quality = [evaluate(DecoderSubject(state.model), windows).bits_per_byte() for state in (plain, mixture)]
    assert quality[1] == pytest.approx(quality[0], rel=1e-5)


@pytest.mark.parametrize("word", [word for word in ROUTERS if word != "gshard"])
def test_one_expert_of_any_router_is_the_dense_model_step_for_step(word: str) -> None:
    """Noise, capacity and auxiliary losses left out where they can be, and what is left changes nothing.

    gshard sends tokens to two experts, so it has no such form.
    """
    _, dense_losses = trained(architecture(dense(24)))
    _, losses = trained(architecture(single_of(word)))
    assert losses == pytest.approx(dense_losses, rel=1e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu", "geglu", "swiglu_clamped"])
def test_with_any_activation_too(activation: str) -> None:
    plain = dense(24).model_copy(update={"activation": activation})
    _, dense_losses = trained(architecture(plain))
    _, losses = trained(architecture(moe(1, 1, 24, balance_loss=0.0, activation=activation)))
    assert losses == pytest.approx(dense_losses, rel=1e-5)
    assert losses != pytest.approx(trained(architecture(dense(24)))[1], rel=1e-3)


def test_in_every_other_layer_too() -> None:
    _, dense_losses = trained(architecture(dense(24)))
    _, losses = trained(architecture(moe(1, 1, 24, balance_loss=0.0, every=2, dense_hidden=24)))
    assert losses == pytest.approx(dense_losses, rel=1e-5)


def test_with_micro_batches_too() -> None:
    _, dense_losses = trained(architecture(dense(24)), micro_batch_tokens=64)
    _, losses = trained(single(), micro_batch_tokens=64)
    assert losses == pytest.approx(dense_losses, rel=1e-5)


def test_their_weights_stay_together() -> None:
    plain, _ = trained(architecture(dense(24)))
    mixture, _ = trained(single())
    twins = dict(mixture.model.named_parameters())
    for name, value in plain.model.named_parameters():
        torch.testing.assert_close(twins[name].view_as(value), value, rtol=1e-3, atol=1e-4)


def test_their_gradients_and_tokens_are_the_same() -> None:
    states, norms = {}, {}
    for name, a in (("dense", architecture(dense(24))), ("single", single())):
        chosen = run(a, data_digest=CORPUS.digest, steps=3)
        states[name] = start(chosen)
        norms[name] = [step.grad_norm for step in train(states[name], chosen, CORPUS)]
    assert norms["single"] == pytest.approx(norms["dense"], rel=1e-4)
    assert states["single"].digest == states["dense"].digest


def test_another_width_would_be_noticed() -> None:
    _, dense_losses = trained(architecture(dense(24)))
    _, losses = trained(architecture(moe(1, 1, 32, balance_loss=0.0)))
    assert losses != pytest.approx(dense_losses, rel=1e-4)


def test_the_balance_loss_of_one_expert_is_constant_and_moves_nothing() -> None:
    _, without = trained(single())
    _, held = trained(architecture(moe(1, 1, 24, balance_loss=0.5)))
    assert held == pytest.approx(without, rel=1e-5)
