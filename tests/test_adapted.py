"""Training a part of a model: what has gradients and moments, what that costs, and what adapters change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from moebench.counting.blueprint import Experts
from moebench.counting.costs import Costs, costs_of
from moebench.counting.flops import train_step_flops
from moebench.counting.kernels import executed_step_flops
from moebench.counting.trained import Lora, Part, Routed, Trained, adapter_parameters, step_flops
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, TrainingStep, begin, model_of, train
from moebench.metrics.flops import counted_flops
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.adapters import Adapter
from moebench.models.decoder.moe import MoE
from moebench.models.decoder.trained import adapt, adapter_state, own_state
from tests.support import small_corpora, small_routers
from tests.support.small_models import SHAPES, architecture, built, dense, moe, run, tokens

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)
ALL: tuple[Part, ...] = ("attention", "dense", "embedding", "experts", "norms", "router")
LORA = Lora(rank=3, on=("attention", "dense", "experts"), alpha=6.0)

SOME: dict[str, Trained] = {
    "router": Trained(parts=("router",)),
    "experts": Trained(parts=("experts",)),
    "attention": Trained(parts=("attention",)),
    "networks": Trained(parts=("dense", "experts")),
    "norms": Trained(parts=("norms",)),
    "embedding": Trained(parts=("embedding",)),
    "all but the router": Trained(parts=("attention", "dense", "embedding", "experts", "norms")),
    "two experts": Trained(parts=("experts",), experts=2, by="load"),
    "two experts and routers": Trained(parts=("experts", "router"), experts=2, by="load"),
    "adapters": Trained(parts=(), lora=LORA),
    "adapters of attention": Trained(parts=(), lora=LORA.model_copy(update={"on": ("attention",)})),
    "adapters of experts": Trained(parts=(), lora=LORA.model_copy(update={"on": ("experts",)})),
    "adapters and norms": Trained(parts=("norms",), lora=LORA),
}
MODELS: dict[str, Architecture] = {
    **SHAPES,
    **{variant: small_routers.model_of("softmax_topk", variant, layers=3) for variant in small_routers.VARIANTS},
    "frozen random": small_routers.model_of("frozen_random"),
    "noisy": small_routers.model_of("noisy_topk"),
    "capped": small_routers.model_of("gshard", layers=3),
}
del MODELS["1 expert"]  # of which no part can be trained


def costs(a: Architecture, trained: Trained, **more: Any) -> Costs:
    return costs_of(a.blueprint, dtype="float32", trained=trained, layers=a.in_order, **more)


EVERY = [
    pytest.param(a, trained, id=f"{name}: {word}")
    for (name, a), (word, trained) in itertools.product(MODELS.items(), SOME.items())
    if costs(a, trained).trained_params
]
"""Every part of every model that has it."""
FEW = EVERY[::11]
MANY = EVERY[::4]


def chosen(a: Architecture, trained: Trained) -> dict[int, list[int]] | None:
    return None if trained.experts is None else {layer: [0, 2] for layer in a.moe_layers}


def of_run(a: Architecture, trained: Trained | None, **changes: Any) -> Run:
    backend = {} if trained is None else {"backend": "loop" if a.moe_layers else "none"}
    return run(a, data_digest=CORPUS.digest, trained=trained, **changes).model_copy(update=backend)


def begun(a: Architecture, trained: Trained, **changes: Any) -> tuple[State, Run]:
    """A model whose every weight is off its initial value, about to be trained in part."""
    one = of_run(a, trained, **changes)
    return begin(built(a, backend="loop"), one, chosen=chosen(a, trained)), one


def stepped(state: State, one: Run) -> State:
    for _ in train(state, one, CORPUS):
        pass
    return state


# ------------------------------------------------------------------------------------------ counts


@pytest.mark.parametrize(("a", "trained"), MANY)
def test_flops_are_those_that_torch_counts(a: Architecture, trained: Trained) -> None:
    """Forward, and of the backward what some weight needs: nothing below the first that is trained."""
    state, one = begun(a, trained)
    step = TrainingStep(state, one)
    seen = step.backward(tokens(3, a.context + 1), step.draws())
    counted = step_flops(
        a.blueprint, a.in_order, trained, sequences=3, length=a.context, routed=list(seen.routed)
    ).counted
    assert counted_flops(step, tokens(3, a.context + 1)) == counted


@pytest.mark.parametrize("name", MODELS)
def test_flops_of_all_of_a_model_are_those_of_training(name: str) -> None:
    a, sizes = MODELS[name], {"sequences": 3, "length": 11}
    step = step_flops(a.blueprint, a.in_order, Trained(parts=ALL), **sizes)
    assert step.model == train_step_flops(a.blueprint, **sizes)
    assert step.executed == executed_step_flops(a.blueprint, **sizes)
    whole = costs_of(a.blueprint, dtype="float32")
    assert costs(a, Trained(parts=ALL)) == whole
    assert costs(a, Trained(parts=ALL), optimizer="muon") == costs_of(a.blueprint, dtype="float32", optimizer="muon")


@pytest.mark.parametrize("word", ["adamw", "muon"])
@pytest.mark.parametrize(("a", "trained"), FEW)
def test_gradients_and_moments_are_those_that_are_counted(a: Architecture, trained: Trained, word: Any) -> None:
    """Frozen weights have neither, so their bytes are in no count and in no memory."""
    state, one = begun(a, trained, optimizer=word, momentum=0.95 if word == "muon" else None, steps=1)
    step, counted = TrainingStep(state, one), costs(a, trained, optimizer=word)
    step.backward(tokens(3, a.context + 1), step.draws())
    held = {p for group in state.optimizer.param_groups for p in group["params"]}
    assert held == {p for p in state.model.parameters() if p.requires_grad}
    with_gradients = [p for p in state.model.parameters() if p.grad is not None]
    assert all(p.requires_grad for p in with_gradients)
    assert sum(p.numel() for p in state.model.parameters() if p.requires_grad) == counted.trained_params
    state.optimizer.step()
    kept = (held.items() for held in state.optimizer.state.values())
    moments = sum(4 * value.numel() for name, value in itertools.chain(*kept) if name != "step")
    gradients, beside = 4 * (counted.trained_params or 0), 4 * adapter_parameters(a.blueprint, trained)
    idle = sum(4 * p.numel() for p in state.model.parameters() if p.requires_grad and p.grad is None)
    assert idle == 0
    assert counted.train_state_bytes == 4 * counted.params.total + beside + gradients + moments


def test_only_weights_that_are_trained_are_in_a_checkpoint_with_moments() -> None:
    state, one = begun(MODELS["plain"], SOME["router"], steps=2)
    stepped(state, one)
    found = {name for name in _names(state) if name.startswith("optimizer.")}
    assert found
    assert all(".router." in name for name in found)


def _names(state: State) -> list[str]:
    import safetensors.torch

    return list(safetensors.torch.load(state.to_bytes()))


def test_adapters_of_experts_have_as_many_times_the_weights_as_there_are_experts() -> None:
    """So that arms of equal rank are not arms of equal size: what is trained is counted, and told."""
    on = Trained(parts=(), lora=Lora(rank=4, on=("dense", "experts"), alpha=4))
    of_one = costs(architecture(dense(24)), on).trained_params
    assert costs(architecture(moe(8, 2, 24)), on).trained_params == 8 * (of_one or 0)
    assert of_one == 2 * 4 * ((32 + 48) + (24 + 32))


def test_routed_pairs_are_those_of_the_chosen_experts() -> None:
    a = MODELS["plain"]
    state, one = begun(a, SOME["two experts"])
    step = TrainingStep(state, one)
    batch_BX = tokens(3, a.context + 1)
    routings = state.model(batch_BX[:, :-1]).routings
    by_hand = [
        Routed(routing.expert_N.numel(), sum(int(e) in (0, 2) for e in routing.expert_N)) for routing in routings
    ]
    assert list(step.backward(batch_BX, None).routed) == by_hand
    assert all(0 < to_trained < computed for computed, to_trained in by_hand)


def test_a_run_counts_what_it_spent_from_the_pairs_that_were_routed() -> None:
    a = MODELS["plain"]
    state, one = begun(a, SOME["two experts"], steps=3)
    stepped(state, one)
    assert isinstance(a.blueprint.layers[0].ffn, Experts)
    tokens_read = 3 * one.recipe.batch_tokens
    bounds = [
        step_flops(a.blueprint, a.in_order, one.recipe.trained, sequences=tokens_read // 16, length=16, routed=routed)
        for routed in ([Routed(tokens_read * 2, 0)] * 3, None)
    ]
    assert bounds[0].model < state.model_flops < bounds[1].model
    assert bounds[0].executed < state.executed_flops < bounds[1].executed


# ------------------------------------------------------------------------------------------ what stays


@pytest.mark.parametrize(("a", "trained"), FEW)
def test_what_is_frozen_stays_bit_for_bit_and_what_is_trained_moves(a: Architecture, trained: Trained) -> None:
    state, one = begun(a, trained, steps=2)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    moving = {name for name, p in state.model.named_parameters() if p.requires_grad}
    stepped(state, one)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in moving), name


def test_experts_that_are_not_chosen_stay_bit_for_bit() -> None:
    a = MODELS["biases"]
    state, one = begun(a, SOME["two experts"], steps=2)
    before = built(a, backend="loop").state_dict()
    after = own_state(stepped(state, one).model)
    for layer, name in itertools.product(a.moe_layers, ("gate_up", "down", "gate_up_bias", "down_bias")):
        key = f"layers.{layer}.ffn.{name}"
        same = [torch.equal(old, new) for old, new in zip(before[key], after[key], strict=True)]
        assert same == [expert not in (0, 2) for expert in range(len(same))]


def test_a_router_that_is_frozen_is_not_moved_by_load_either() -> None:
    a = small_routers.model_of("sigmoid_bias")
    state, one = begun(a, SOME["experts"], steps=2)
    assert not any(value.any() for name, value in stepped(state, one).model.state_dict().items() if "bias_E" in name)
    state, one = begun(a, SOME["router"], steps=2)
    assert any(value.any() for name, value in stepped(state, one).model.state_dict().items() if "bias_E" in name)


def test_a_rate_of_nothing_changes_nothing() -> None:
    for word in ("adapters and norms", "two experts and routers"):
        a = MODELS["plain"]
        state, one = begun(a, SOME[word], lr=0.0, steps=2)
        before = built(a, backend="loop").state_dict()
        after = own_state(stepped(state, one).model)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], value) for name, value in before.items())


def test_training_all_parts_is_training_as_ever() -> None:
    """To the bit, on the backend that the parts need."""
    a = MODELS["shared expert"]
    whole = begin(built(a, backend="loop"), of_run(a, None, steps=3).model_copy(update={"backend": "loop"}))
    parts, one = begun(a, Trained(parts=ALL), steps=3)
    stepped(whole, of_run(a, None, steps=3))
    stepped(parts, one)
    assert all(torch.equal(v, parts.model.state_dict()[k]) for k, v in whole.model.state_dict().items())


def test_the_balance_loss_pulls_at_a_router_that_alone_is_trained() -> None:
    """It is the loss that the suite writes, no less in a stage: with it weights come out otherwise than without."""
    ends = []
    for coefficient in (0.0, 1.0):
        a = architecture(moe(4, 2, 8, balance_loss=coefficient))
        state, one = begun(a, SOME["router"], steps=3)
        ends.append(torch.cat([r.weight.flatten() for r in stepped(state, one).model.routers]))  # type: ignore[arg-type]
    assert not torch.equal(*ends)


# ------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("word", ["router", "two experts", "adapters and norms"])
def test_a_state_that_was_put_down_goes_on_to_the_same_bits(word: str) -> None:
    a, trained = MODELS["plain"], SOME[word]
    state, one = begun(a, trained, steps=6)
    half, kept = list[Any](), b""
    for facts in train(state, one, CORPUS):
        half.append(facts)
        if facts.step == 3:
            kept = state.to_bytes()
    again = begin(model_of(one, is_loaded=True), one, chosen=chosen(a, trained))
    again.load_bytes(kept)
    assert list(train(again, one, CORPUS)) == half[3:]
    assert again.to_bytes() == state.to_bytes()


# ------------------------------------------------------------------------------------------ adapters


def adapters_of(model: Transformer) -> Iterator[tuple[str, Adapter]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Adapter))


@pytest.mark.parametrize("name", MODELS)
def test_adapters_change_nothing_before_the_first_step(name: str) -> None:
    a = MODELS[name]
    plain, with_adapters = built(a, backend="loop").eval(), built(a, backend="loop").eval()
    adapt(with_adapters, SOME["adapters"], seed=0)
    assert list(adapters_of(with_adapters))
    text = tokens(2, a.context)
    assert torch.equal(plain(text).logits_BTV, with_adapters(text).logits_BTV)


def test_adapters_are_filled_as_peft_fills_them() -> None:
    """A uniform within 1 / sqrt(in), B zero, the product scaled by alpha / rank; each expert's its own."""
    model = build(MODELS["plain"], seed=0, backend="loop")
    adapt(model, Trained(parts=(), lora=Lora(rank=12, on=("attention", "experts"), alpha=6)), seed=5)
    for name, adapter in adapters_of(model):
        bound = adapter.lora_A.shape[-1] ** -0.5
        assert adapter.scale == 0.5
        assert not adapter.lora_B.any()
        assert 0.95 * bound < float(adapter.lora_A.detach().abs().max()) <= bound, name
        assert abs(float(adapter.lora_A.detach().mean())) < 0.2 * bound
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.rsplit(".", 1)[1] for name in names} == {"lora_A", "lora_B"}
    experts = model.layers[0].ffn.lora["gate_up"].lora_A  # type: ignore[index,union-attr]
    assert not torch.equal(experts[0], experts[1])
    again = build(MODELS["plain"], seed=0, backend="loop")
    adapt(again, Trained(parts=(), lora=Lora(rank=12, on=("attention", "experts"), alpha=6)), seed=6)
    assert not torch.equal(again.layers[0].ffn.lora["gate_up"].lora_A, experts)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("name", MODELS)
def test_merged_weights_give_the_same_logits(name: str) -> None:
    a = MODELS[name]
    model = built(a, backend="loop").eval()
    adapt(model, SOME["adapters"], seed=0)
    with torch.no_grad():
        for _, adapter in adapters_of(model):
            adapter.lora_B.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    merged = build(a, seed=None).eval()
    merged.load_state_dict(own_state(model))
    text = tokens(2, a.context)
    unmerged_BTV = model(text).logits_BTV
    assert not torch.allclose(built(a).eval()(text).logits_BTV, unmerged_BTV, atol=1e-3)
    torch.testing.assert_close(merged(text).logits_BTV, unmerged_BTV, atol=2e-5, rtol=1e-5)
    losses = [_loss(model, text), _loss(merged, text)]
    assert abs(losses[0] - losses[1]) < 1e-6


def _loss(model: Transformer, text: Tensor) -> float:
    with torch.no_grad():
        logits_BTV = model(text).logits_BTV.double()
    return float(torch.nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), text[:, 1:].flatten()))


@pytest.mark.parametrize("name", ["dense, grouped-query, untied", "shared expert", "first layer dense"])
def test_at_full_rank_the_first_update_has_the_direction_of_full_tuning(name: str) -> None:
    """With A orthogonal, a step along the gradient of B changes W as one along W's own; as A is drawn, it goes down
    the same slope."""
    a = MODELS[name]
    full = built(a, backend="loop")
    _backward(full)
    wanted = {n: p.grad for n, p in full.named_parameters() if p.grad is not None}
    model = built(a, backend="loop")
    adapt(model, Trained(parts=(), lora=Lora(rank=32, on=("attention", "dense", "experts"), alpha=32)), seed=0)
    for orthogonal in (False, True):
        model.zero_grad()
        seen = 0
        for _, adapter in adapters_of(model) if orthogonal else ():
            for one_RI in adapter.lora_A.view(-1, *adapter.lora_A.shape[-2:]):
                torch.nn.init.orthogonal_(one_RI)
        _backward(model)
        for path, adapter in adapters_of(model):
            gradient = wanted[path.replace(".lora.", ".")]
            assert gradient is not None
            assert adapter.lora_B.grad is not None
            assert adapter.lora_A.grad is not None
            assert not adapter.lora_A.grad.any()  # as B is zero
            change = adapter.scale * adapter.lora_B.grad @ adapter.lora_A
            if orthogonal and adapter.lora_A.shape[-1] <= 32:
                torch.testing.assert_close(change, gradient, atol=1e-6, rtol=1e-4)
                seen += 1
            used = gradient.flatten(-2).norm(dim=-1) > 0
            cosine = torch.cosine_similarity(change.flatten(-2), gradient.flatten(-2), dim=-1)
            assert bool((cosine[used] > 0.5).all())
        assert seen > 0 or not orthogonal


def _backward(model: Transformer) -> None:
    text = tokens(4, model.architecture.context + 1)
    logits_BTV = model(text[:, :-1]).logits_BTV
    torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), text[:, 1:].flatten()).backward()


def test_what_is_stored_beside_merged_weights_are_the_adapters_alone() -> None:
    model = built(MODELS["shared expert"], backend="loop")
    adapt(model, SOME["adapters and norms"], seed=0)
    held = adapter_state(model)
    assert sum(value.numel() for value in held.values()) == adapter_parameters(
        MODELS["shared expert"].blueprint, SOME["adapters and norms"]
    )
    assert {"layers.0.attention.query.lora_A", "layers.0.ffn.gate_up.lora_B", "layers.0.ffn.shared.down.lora_A"} <= set(
        held
    )
    assert not any("lora" in name for name in own_state(model))


def test_experts_compute_as_before_where_some_stand_apart() -> None:
    a = MODELS["biases"]
    plain, apart = built(a, backend="loop").eval(), built(a, backend="loop").eval()
    adapt(apart, SOME["two experts"], seed=0, chosen={layer: [1, 3] for layer in a.moe_layers})
    mixture = apart.layers[0].ffn
    assert isinstance(mixture, MoE)
    assert mixture.gate_up.shape[0] == 6
    text = tokens(2, a.context)
    assert torch.equal(plain(text).logits_BTV, apart(text).logits_BTV)
    assert all(torch.equal(value, own_state(apart)[name]) for name, value in plain.state_dict().items())
