"""Training: the schedule, the optimizer, what the loss is, what a step says, and a state that travels without loss."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moebench import api
from moebench.counting.flops import train_flops_per_token
from moebench.counting.kernels import tally_flops
from moebench.data.batches import evaluation_windows, train_batch
from moebench.data.corpus import Corpus
from moebench.jobs import calibrate, training
from moebench.jobs.measuring import racer
from moebench.jobs.recipe import TRAINING_VERSION, Recipe, Run
from moebench.jobs.train import backend_of, losses_over
from moebench.jobs.training import (
    Diverged,
    State,
    Step,
    TrainingStep,
    chance,
    learning_rate,
    make_optimizer,
    start,
    train,
    training_loss,
)
from moebench.metrics import speed
from moebench.metrics.quality import evaluate
from moebench.models import lazy
from moebench.models.architecture import Architecture, Kernels
from moebench.models.decoder import Transformer
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.routers import ROUTERS, Text
from tests.support import small_corpora, small_models, tiny_suites
from tests.support.counted_flops import attention_square_flops
from tests.support.small_models import architecture, dense, moe, run
from tests.support.small_routers import CAPPED, LEARNED, mixture, model_of
from tests.support.small_routers import single as single_of

pytestmark = pytest.mark.numeric

STEPS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    return tiny_suites.planned(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def corpus(made: api.Planned) -> Corpus:
    return tiny_suites.corpus(made)


def run_of(made: api.Planned, model: str = "moe", seed: int = 0, **recipe: Any) -> Run:
    return tiny_suites.run_of(made, model, seed, **{"steps": STEPS, "warmup_steps": 2, **recipe})


def whole(run: Run, corpus: Corpus) -> tuple[State, list[Step]]:
    state = start(run)
    return state, list(train(state, run, corpus))


def same_weights(one: State, other: State) -> bool:
    pairs = zip(one.model.state_dict().items(), other.model.state_dict().items(), strict=True)
    return all(name == twin and torch.equal(a, b) for (name, a), (twin, b) in pairs)


# ------------------------------------------------------------------------------------------ learning rate


def recipe(**changes: Any) -> Recipe:
    usual: dict[str, Any] = {
        "steps": 11, "batch_tokens": 64, "micro_batch_tokens": 64, "lr": 1.0, "betas": (0.9, 0.95), "eps": 1e-8,
        "weight_decay": 0.5, "clip": 1.0, "warmup_steps": 2, "decay": "cosine", "final_lr_share": 0.1,
        "dtype": "float32", "evaluate_at": (11,), "eval_tokens": 16, "final_eval_tokens": 16, "split": "test",
    }  # fmt: skip
    return Recipe(**{**usual, **changes})


def test_the_rate_warms_up_in_a_line_and_falls_to_its_last_share_at_the_last_step() -> None:
    rates = [learning_rate(recipe(), step) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.1 + 0.9 * 0.5)  # half way down
    assert rates[4] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rates[10] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[2:]))


def test_a_linear_decay_is_a_line_and_no_decay_stays_at_the_peak() -> None:
    falling = [learning_rate(recipe(decay="linear"), step) for step in range(2, 11)]
    assert falling == pytest.approx([1 - 0.9 * i / 8 for i in range(9)])
    assert {learning_rate(recipe(decay="none"), step) for step in range(2, 11)} == {1.0}


def test_schedules_at_the_edge() -> None:
    assert learning_rate(recipe(warmup_steps=0), 0) == 1.0
    assert learning_rate(recipe(steps=1, warmup_steps=0), 0) == 1.0
    assert [learning_rate(recipe(steps=3, warmup_steps=3), step) for step in range(3)] == pytest.approx(
        [1 / 3, 2 / 3, 1]
    )
    assert learning_rate(recipe(steps=3, warmup_steps=2), 2) == 1.0


def test_the_rate_in_use_is_the_schedules(made: api.Planned, corpus: Corpus) -> None:
    run = run_of(made)
    state = start(run)
    rates = [{group["lr"] for group in state.optimizer.param_groups} for _ in train(state, run, corpus)]
    assert rates == [{learning_rate(run.recipe, step)} for step in range(STEPS)]


# ------------------------------------------------------------------------------------------ the optimizer


def test_decay_shrinks_matrices_by_rate_times_decay_and_leaves_vectors(made: api.Planned) -> None:
    run = run_of(made)
    model = start(run).model
    optimizer = make_optimizer(model, run.recipe.model_copy(update={"lr": 0.1, "weight_decay": 0.5}))
    before = {name: value.clone() for name, value in model.named_parameters()}
    for value in model.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    assert {value.ndim for value in before.values()} == {1, 2, 3}
    for name, value in model.named_parameters():
        share = 1 - 0.1 * 0.5 if value.ndim >= 2 else 1.0
        torch.testing.assert_close(value, before[name] * share, msg=name)


def test_the_recipe_reaches_the_optimizer(made: api.Planned) -> None:
    run = run_of(made, betas=(0.8, 0.7), eps=1e-6, weight_decay=0.25)
    for group in start(run).optimizer.param_groups:
        assert (group["betas"], group["eps"]) == ((0.8, 0.7), 1e-6)
    assert [group["weight_decay"] for group in start(run).optimizer.param_groups] == [0.25, 0.0]


def test_gradients_are_clipped_to_the_norm_asked_for_and_the_norm_told_is_that_before(
    made: api.Planned, corpus: Corpus
) -> None:
    _, free = whole(run_of(made, clip=None, steps=1), corpus)
    _, clipped = whole(run_of(made, clip=1e-3, steps=1), corpus)
    assert free[0].grad_norm == clipped[0].grad_norm > 1e-3
    one, _ = whole(run_of(made, clip=1e-3), corpus)
    other, _ = whole(run_of(made, clip=None), corpus)
    assert not same_weights(one, other)


# ------------------------------------------------------------------------------------------ loss and facts


def test_the_loss_told_is_cross_entropy_and_the_loss_minimised_adds_the_routers_own(
    made: api.Planned, corpus: Corpus
) -> None:
    run = run_of(made)
    ffn = run.architecture.ffn.model_copy(update={"balance_loss": 0.5, "z_loss": 0.25})
    run = run.model_copy(update={"architecture": run.architecture.model_copy(update={"ffn": ffn})})
    batch = torch.from_numpy(train_batch(corpus, seed=0, step=0, batch_tokens=run.recipe.batch_tokens))
    output = start(run).model(batch[:, :-1])
    loss, bits = training_loss(run, output, batch[:, 1:])
    nats = torch.nn.functional.cross_entropy(output.logits_BTV.flatten(0, 1), batch[:, 1:].flatten())
    auxiliary = [
        sum(routing.losses[name].item() for routing in output.routings) / 2 for name in ("balance_loss", "z_loss")
    ]
    assert bits.item() == pytest.approx(nats.item() / math.log(2), rel=1e-6)
    assert loss.item() == pytest.approx(nats.item() + 0.5 * auxiliary[0] + 0.25 * auxiliary[1], rel=1e-6)
    assert min(auxiliary) > 0.1
    first = next(train(start(run), run, corpus))
    assert first.loss == pytest.approx(bits.item(), rel=1e-6)


def test_digests_are_a_chain_over_the_tokens_and_the_same_for_every_model_of_a_seed(
    made: api.Planned, corpus: Corpus
) -> None:
    chain, expected = b"", []
    for step in range(STEPS):
        batch = train_batch(corpus, seed=0, step=step, batch_tokens=128).astype("<i8")
        chain = hashlib.sha256(chain + repr(batch.shape).encode() + batch.tobytes()).digest()
        expected.append(chain.hex()[:16])
    for model in ("moe", "dense"):
        _, steps = whole(run_of(made, model), corpus)
        assert [facts.digest for facts in steps] == expected
        assert [facts.step for facts in steps] == list(range(1, STEPS + 1))
    _, others = whole(run_of(made, seed=1), corpus)
    assert {facts.digest for facts in others}.isdisjoint(expected)


def test_flops_spent_are_steps_times_the_formula(made: api.Planned, corpus: Corpus) -> None:
    for model in ("moe", "dense"):
        run = run_of(made, model)
        state, _ = whole(run, corpus)
        per_token = made.plan.models[model].costs.train_flops_per_token
        assert state.model_flops == per_token * STEPS * run.recipe.batch_tokens
        assert state.executed_flops > state.model_flops


# ------------------------------------------------------------------------------------------ routers in training

SMALL = small_corpora.ordinary(context=16)


def small_run(a: Architecture, **changes: Any) -> Run:
    return small_models.run(a, data_digest=SMALL.digest, **{"steps": 6, **changes})


def test_pairs_computed_and_refused_are_counted_and_the_flops_are_those_of_the_computed() -> None:
    run = small_run(model_of("switch", capacity_factor=0.5))
    state, _ = whole(run, SMALL)
    free, _ = whole(small_run(model_of("switch", capacity_factor=100.0)), SMALL)
    wanted = 6 * 2 * 64  # steps, layers, tokens; one expert each
    assert state.pairs_computed + state.pairs_dropped == wanted
    assert state.pairs_computed <= wanted // 2
    assert (free.pairs_computed, free.pairs_dropped) == (wanted, 0)
    a = run.architecture
    assert a.ffn.expert_hidden is not None  # type: ignore[union-attr]
    assert free.model_flops - state.model_flops == 3 * 2 * 3 * a.width * 8 * state.pairs_dropped
    assert free.model_flops == 6 * 64 * train_flops_per_token(a.blueprint)


@pytest.mark.parametrize("word", LEARNED)
def test_training_moves_the_routers_weights(word: str) -> None:
    run = small_run(model_of(word))
    state, fresh = whole(run, SMALL)[0].model.state_dict(), start(run).model.state_dict()
    moved = [name for name in fresh if ".router." in name and not torch.equal(state[name], fresh[name])]
    assert moved == [name for name in fresh if ".router." in name]


@pytest.mark.parametrize("word", ["frozen_random", "token_hash"])
def test_training_leaves_an_unlearned_router_as_it_was(word: str) -> None:
    """Weight decay and clipping too."""
    run = small_run(model_of(word), weight_decay=0.5)
    state, fresh = whole(run, SMALL)[0].model.state_dict(), start(run).model.state_dict()
    still = [name for name in fresh if torch.equal(state[name], fresh[name])]
    assert still == [name for name in fresh if ".router." in name]
    assert len(still) == 2


OVER = ("batch", "sequence")
LOSSES_OF = {
    "top_p": {"entropy_loss": 0.1}, "hierarchical": {"balance_loss": 0.0}, "switch": {"capacity_factor": 100.0},
    "gshard": {"capacity_factor": 100.0},
}  # fmt: skip
"""Beside a balance loss and a z-loss; nothing is dropped, as a capacity is a micro-batch's."""


def gradients(a: Architecture, run: Run) -> tuple[dict[str, torch.Tensor], State]:
    """Of the first batch of a run, whose routers are spread out so that loads are uneven; and the state after."""
    state = start(run)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in state.model.named_parameters():
            if ".router." in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 2 * a.width**-0.5)
    batch = train_batch(SMALL, seed=0, step=0, batch_tokens=run.recipe.batch_tokens)
    training._accumulate(state, run, torch.from_numpy(batch))
    return {name: value.grad for name, value in state.model.named_parameters() if value.grad is not None}, state


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Within the rounding of float32, on the scale of each weight's largest gradient."""
    assert set(one) == set(other)
    for name, value in one.items():
        assert float((value - other[name]).abs().max()) <= 1e-5 * float(value.abs().max()), name


@pytest.fixture
def drawn_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """What routers draw for a token is a function of its word and position: noise does not depend on the batch."""

    def uniform(text: Text, shape: Any) -> torch.Tensor:
        keys_TX = text.ids_T.double()[:, None] + 300 * text.position_T.double()[:, None]
        spread_TX = torch.sin(keys_TX * 12.9898 + torch.arange(math.prod(shape) // len(keys_TX)) * 78.233) * 43758.5453
        return (spread_TX - spread_TX.floor()).float().view(shape)

    def instead(usual: Callable[..., Any], drawn: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*args: Any, generator: Any, **how: Any) -> Any:
            return drawn(*args, generator) if isinstance(generator, Text) else usual(*args, generator=generator, **how)

        return draw

    monkeypatch.setattr(Text, "rng", lambda self: self)
    monkeypatch.setattr(lazy.torch, "randn", instead(torch.randn, lambda shape, text: 2 * uniform(text, shape) - 1))
    monkeypatch.setattr(lazy.torch, "rand", instead(torch.rand, lambda size, text: uniform(text, (size,))))
    jittered = instead(
        torch.Tensor.uniform_, lambda x, low, high, text: x.copy_(low + (high - low) * uniform(text, x.shape))
    )
    monkeypatch.setattr(torch.Tensor, "uniform_", jittered)


@pytest.mark.parametrize(
    ("word", "over"),
    [
        (None, None),
        *((word, None) for word in ROUTERS),
        *((word, over) for word, made in ROUTERS.items() if "balance_over" in made.options for over in OVER),
    ],
)
@pytest.mark.usefixtures("drawn_by_token")
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(word: str | None, over: str | None) -> None:
    """Every loss that a router has, in 1, 2, 4 and uneven parts (6 and 2 rows); expert_choice too, by its sequence."""
    changes: dict[str, Any] = {"balance_over": over} if over else {}
    if word is not None and "balance_loss" in map(str, ROUTERS[word].auxiliary):
        changes["balance_loss"] = 1.0
    ffn = dense() if word is None else mixture(word, **{"z_loss": 0.1, **LOSSES_OF.get(word, {}), **changes})
    a = small_models.architecture(ffn)
    sizes = {size: gradients(a, small_run(a, batch_tokens=128, micro_batch_tokens=size)) for size in (128, 64, 32, 96)}
    at_once, state = sizes[128]
    for in_parts, other in (sizes[64], sizes[32], sizes[96]):
        assert_same(at_once, in_parts)
        if word == "sigmoid_bias":
            loads = [router.load_E for model in (state.model, other.model) for router in model.routers]
            assert torch.equal(loads[0], loads[2])


@pytest.mark.parametrize("losses", [{"balance_loss": 1.0}, {"importance_loss": 1.0}, {"load_loss": 1.0}], ids=str)
@pytest.mark.usefixtures("drawn_by_token")
def test_losses_of_each_micro_batch_do_not_add_up(losses: dict[str, float]) -> None:
    """What the pass before is for; without it the gradients are others."""
    a = small_models.architecture(
        mixture("noisy_topk", **{**dict.fromkeys(("balance_loss", "importance_loss", "load_loss"), 0.0), **losses})
    )
    run = small_run(a, batch_tokens=128, micro_batch_tokens=32)
    assert run.losses_over == "batch"
    exact, averaged = gradients(a, run)[0], gradients(a, run.model_copy(update={"losses_over": "micro_batch"}))[0]
    gates = [name for name in exact if name.endswith("gate.weight")]
    assert len(gates) == 2
    for name in gates:
        assert float((exact[name] - averaged[name]).abs().max()) > 0.01 * float(exact[name].abs().max())


def test_a_balance_asked_of_each_micro_batch_is_that_of_each() -> None:
    of_each, absent = (
        model_of("softmax_topk", balance_loss=1.0, **over) for over in ({"balance_over": "micro_batch"}, {})
    )
    runs = {a: small_run(a, batch_tokens=128, micro_batch_tokens=32) for a in (of_each, absent)}
    assert [run.losses_over for run in runs.values()] == ["micro_batch", "batch"]
    plain = runs[absent].model_copy(update={"losses_over": "micro_batch"})
    assert_same(gradients(of_each, runs[of_each])[0], gradients(absent, plain)[0])


def test_weights_after_four_steps_in_micro_batches_are_those_of_steps_at_once() -> None:
    """With what is carried from step to step: biases that count the whole step, and sums that are forgotten."""
    a = small_models.architecture(mixture("sigmoid_bias", balance_loss=1.0))
    (one, at_once), (other, in_parts) = (
        whole(small_run(a, steps=4, clip=None, eps=1e-3, micro_batch_tokens=size), SMALL) for size in (64, 32)
    )
    assert [facts.loss for facts in in_parts] == pytest.approx([facts.loss for facts in at_once], rel=1e-5)
    assert [facts.grad_norm for facts in in_parts] == pytest.approx([f.grad_norm for f in at_once], rel=1e-4)
    for (name, value), twin in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, twin, rtol=1e-4, atol=1e-5, msg=name)
    assert all(router.tally is None for router in other.model.routers)


def test_only_a_run_whose_micro_batches_do_not_add_up_has_another_id() -> None:
    """The field decides the bits; where both ways give the same, it is the same."""
    a, plain = model_of("softmax_topk"), model_of("softmax_topk", balance_loss=0.0, z_loss=0.1)
    each = model_of("softmax_topk", balance_over="sequence")
    whole_batch = small_run(a)
    in_parts = [small_run(one, micro_batch_tokens=32) for one in (a, plain, each, architecture(dense()))]
    assert whole_batch.losses_over == "micro_batch"
    assert [run.losses_over for run in in_parts] == ["batch", "micro_batch", "micro_batch", "micro_batch"]
    assert in_parts[0].id != in_parts[0].model_copy(update={"losses_over": "micro_batch"}).id


@pytest.mark.parametrize("variant", ["plain", "everything"])
@pytest.mark.parametrize("word", ["softmax_topk", "hierarchical", "top_p"])
def test_the_pass_before_is_counted_as_torch_counts_it(word: str, variant: str) -> None:
    """It ends at the last router: neither the last experts nor the head are computed, nor a dense layer behind."""
    a = model_of(word, variant, layers=4)
    run = small_run(a, batch_tokens=64, micro_batch_tokens=32)
    state = start(run)
    step = TrainingStep(state, run)
    batch = torch.from_numpy(train_batch(SMALL, seed=0, step=0, batch_tokens=64))
    with step.countable(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        tallied = step.tally((part, chance(run, step=0, part=i)) for i, part in enumerate(batch.split(2)))
    assert a.router is not None
    before, rows = a.up_to_last_router, {"sequences": 4, "length": 16}
    square = 4 * attention_square_flops(before, length=16) // 2
    expected = tally_flops(before, a.router.counts, assignments=tallied, **rows)
    assert counter.get_total_flops() == expected + square
    one, other = whole(run, SMALL)[0], whole(run.model_copy(update={"losses_over": "micro_batch"}), SMALL)[0]
    assert one.executed_flops - one.model_flops > other.executed_flops - other.model_flops + 5 * expected


def test_what_times_a_step_times_the_pass_before_too() -> None:
    """In a speed session, and when a budget in seconds is made steps."""
    a = model_of("softmax_topk")
    run = small_run(a, batch_tokens=128, micro_batch_tokens=32)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        route = Transformer.route
        patch.setattr(Transformer, "route", lambda *args, **draws: (seen.append(1), route(*args, **draws))[1])
        whole(run.model_copy(update={"recipe": run.recipe.model_copy(update={"steps": 1})}), SMALL)
        assert len(seen) == 4
        calibrate.time_step(run)
        assert len(seen) == 4 + 4 * calibrate.TIMED_STEPS
        timed = speed._train_step(
            racer("moe", run, start(run)), lambda rows: train_batch(SMALL, seed=0, step=0, batch_tokens=rows * 16)
        )
        timed(), timed()
        assert len(seen) == 4 + 4 * calibrate.TIMED_STEPS + 2


@pytest.mark.parametrize("model", ["moe", "dense"])
def test_micro_batches_add_up_to_the_batch(made: api.Planned, corpus: Corpus, model: str) -> None:
    run = run_of(made, model, clip=None)
    recipe = run.recipe.model_copy(update={"micro_batch_tokens": 48})
    over = losses_over(run.architecture, recipe)
    assert over == ("batch" if model == "moe" else "micro_batch")
    parts = run.model_copy(update={"recipe": recipe, "losses_over": over})
    one, at_once = whole(run, corpus)
    other, in_parts = whole(parts, corpus)  # 8 rows as 3 + 3 + 2: the last part weighs less
    assert [facts.loss for facts in in_parts] == pytest.approx([facts.loss for facts in at_once], rel=1e-5)
    assert [facts.grad_norm for facts in in_parts] == pytest.approx([f.grad_norm for f in at_once], rel=1e-4)
    assert one.model_flops == other.model_flops
    assert one.digest == other.digest


def test_bfloat16_learns_with_float32_weights(made: api.Planned, corpus: Corpus) -> None:
    state, steps = whole(run_of(made, dtype="bfloat16", steps=40, lr=1e-2), corpus)
    assert {value.dtype for value in state.model.parameters()} == {torch.float32}
    assert steps[-1].loss < 0.7 * steps[0].loss
    _, exact = whole(run_of(made, steps=1), corpus)
    assert steps[0].loss == pytest.approx(exact[0].loss, rel=1e-2)
    assert steps[0].loss != exact[0].loss


# ------------------------------------------------------------------------------------------ divergence


def test_a_loss_that_is_no_number_diverges_before_the_weights_move(made: api.Planned, corpus: Corpus) -> None:
    state = start(run_of(made))
    steps = train(state, run_of(made), corpus)
    next(steps), next(steps)
    with torch.no_grad():
        state.model.norm.weight[0] = math.nan
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with pytest.raises(Diverged, match="step 3: loss nan"):
        next(steps)
    assert state.step == 2
    after = state.model.state_dict()
    assert all(torch.equal(value.nan_to_num(), before[name].nan_to_num()) for name, value in after.items())


def test_a_loss_three_times_that_of_guessing_diverges(made: api.Planned, corpus: Corpus) -> None:
    state = start(run_of(made))
    with torch.no_grad():
        state.model.embedding.mul_(1000)
    with pytest.raises(Diverged, match="over 3 times a uniform guess"):
        next(train(state, run_of(made), corpus))


def test_an_infinite_gradient_of_a_finite_loss_diverges(made: api.Planned, corpus: Corpus) -> None:
    state = start(run_of(made))
    state.model.norm.weight.register_hook(lambda grad: grad * math.inf)
    with pytest.raises(Diverged, match=r"gradient norm (inf|nan)"):
        next(train(state, run_of(made), corpus))


# ------------------------------------------------------------------------------------------ the state travels


@pytest.mark.parametrize(("model", "dtype"), [("moe", "float32"), ("dense", "float32"), ("moe", "bfloat16")])
def test_a_state_goes_to_bytes_and_back_and_on_to_the_same_bits(
    made: api.Planned, corpus: Corpus, model: str, dtype: str
) -> None:
    run = run_of(made, model, dtype=dtype)
    undisturbed, all_steps = whole(run, corpus)
    state = start(run)
    first = list(itertools.islice(train(state, run, corpus), 3))
    data = state.to_bytes()
    revived = start(run.model_copy(update={"seed": 5}))  # whatever was there is replaced
    revived.load_bytes(data)
    assert revived.to_bytes() == data
    assert [*first, *train(revived, run, corpus)] == all_steps
    assert revived.to_bytes() == undisturbed.to_bytes()


@pytest.mark.parametrize("word", ROUTERS)
def test_with_every_router_the_state_travels_too(word: str) -> None:
    """Chance of a step is drawn anew from the seed and the step; biases, tables and frozen weights are in the state."""
    tight = {"capacity_factor": 0.7} if word in CAPPED else {}
    run = small_run(model_of(word, "everything", **tight), micro_batch_tokens=32)
    undisturbed, all_steps = whole(run, SMALL)
    state = start(run)
    first = list(itertools.islice(train(state, run, SMALL), 3))
    revived = start(run.model_copy(update={"seed": 5}))
    revived.load_bytes(state.to_bytes())
    assert [*first, *train(revived, run, SMALL)] == all_steps
    assert revived.to_bytes() == undisturbed.to_bytes()
    assert (revived.pairs_dropped > 0) == (word in CAPPED)


def test_a_state_from_before_the_first_step_travels_too(made: api.Planned, corpus: Corpus) -> None:
    run = run_of(made)
    revived = start(run)
    revived.load_bytes(start(run).to_bytes())
    undisturbed, steps = whole(run, corpus)
    assert list(train(revived, run, corpus)) == steps
    assert same_weights(revived, undisturbed)


def test_another_models_state_is_refused(made: api.Planned) -> None:
    with pytest.raises(RuntimeError, match="state_dict"):
        start(run_of(made, "dense")).load_bytes(start(run_of(made, "moe")).to_bytes())


# ------------------------------------------------------------------------------------------ the same bits


def test_the_same_run_twice_is_the_same_bits(made: api.Planned, corpus: Corpus) -> None:
    one, steps = whole(run_of(made), corpus)
    other, again = whole(run_of(made), corpus)
    assert steps == again
    assert one.to_bytes() == other.to_bytes()


GOLDEN = {"moe": (4.5515060, 2368.837900), "dense": (4.5186992, 1734.843152)}
"""Model -> training loss of the last step in bits per token, and the sum of all weights' magnitudes."""
GOLDEN_VERSION, GOLDEN_TOKENS = 2, "bd3c84dc1ed805b1"


@pytest.mark.parametrize("kernels", ["unfused", "fused"])
@pytest.mark.parametrize("model", ["moe", "dense"])
def test_golden_loss(made: api.Planned, corpus: Corpus, model: str, kernels: Kernels) -> None:
    """Training is what it was. An eps of 1e-4 keeps rounding from being blown up where a gradient is nearly zero."""
    run = run_of(made, model, eps=1e-4)
    backend = backend_of(run.architecture, "cpu")
    state, steps = whole(run.model_copy(update={"kernels": kernels, "backend": backend}), corpus)
    seen = (steps[-1].loss, sum(value.double().abs().sum().item() for value in state.model.parameters()))
    advice = (
        "the same run now ends in other bits: if that is meant, raise TRAINING_VERSION in moebench/jobs/recipe.py, so "
        f"that stored results are not mixed with new ones, and put the new values here: {seen}"
    )
    loss, magnitude = GOLDEN[model]
    assert GOLDEN_VERSION == TRAINING_VERSION, advice
    assert steps[-1].digest == GOLDEN_TOKENS, f"other tokens ({steps[-1].digest}): {advice}"
    assert seen[0] == pytest.approx(loss, rel=1e-6), advice  # two units in the last place of float32
    assert seen[1] == pytest.approx(magnitude, rel=1e-7), advice


# ----------------------------------------------------------------------------------------------------
# The control of all controls: a mixture of one expert is the dense network of its width, step for step.
#
# Weights renormalised, no noise, no auxiliary losses, expert 0 initialised as the dense network. Losses are compared to
# 1e-5 relative: the products are the same, summed in another order, and training carries the rounding on.


STEPS_TWINS = 12
CORPUS = small_corpora.ordinary(context=16)


@functools.cache
def trained(a: Architecture, *, backend: str | None = None, **recipe: int) -> tuple[State, list[float]]:
    chosen = run(
        a,
        data_digest=CORPUS.digest,
        seed=3,
        steps=STEPS_TWINS,
        batch_tokens=256,
        **{"micro_batch_tokens": 256, **recipe},
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
