"""What transforms do to weights: laws first, then the ways in which they would mislead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given as holds
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moebench.counting.costs import costs_of
from moebench.counting.flops import train_step_flops
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.subject import DecoderSubject, experts_one_by_one
from moebench.models.routers import ROUTERS
from moebench.models.transforms import Given, Transform
from moebench.models.transforms.packing import pack, row_bytes, unpack
from moebench.models.transforms.prune import Prune
from moebench.models.transforms.quantise import Quantise, every_matrix
from moebench.models.transforms.route import Route
from moebench.planning.matching import transformed
from tests.support.counted_flops import counted_step_flops
from tests.support.small_models import SHAPES, architecture, awake, built, dense, moe, run, step_of, tokens
from tests.support.small_routers import mixture, model_of

pytestmark = pytest.mark.numeric

MIXTURE = SHAPES["8 experts, top-2"]
SHARED = architecture(moe(8, 2, 16, shared_hidden=24, shared_gate=True), width=48, heads=3, head_dim=16, kv_heads=3)
PACKED = [Quantise(bits=bits, symmetric=symmetric) for bits in (8, 4, 3) for symmetric in (True, False)]  # type: ignore[arg-type]


def no_loads() -> Tensor:
    raise AssertionError("it asks for the load of experts")


def given(model: Transformer, *, seed: int = 0, loads: Callable[[], Tensor] = no_loads) -> Given:
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return Given(weights=weights, architecture=model.architecture, seed=seed, loads=loads)


def made(transform: Transform, model: Transformer, **facts: Any) -> Transformer:
    """The model that a transform makes of another, through what is stored."""
    stored = safetensors.torch.load(safetensors.torch.save(transform.applied(given(model, **facts))))
    a = transformed(model.architecture, transform)
    other = build(a, seed=None)
    other.load_state_dict(transform.unpacked(stored, a))
    return other.eval()


def logits(model: Transformer, *, seed: int = 1) -> Tensor:
    with torch.no_grad():
        out: Tensor = model.eval()(tokens(3, 16, seed=seed)).logits_BTV
    return out


# ------------------------------------------------------------------------------------------ packing


@settings(max_examples=40, deadline=None)
@holds(bits=st.sampled_from([3, 4, 8]), numbers=st.integers(1, 70), seed=st.integers(0, 99))
def test_what_is_packed_is_unpacked(bits: int, numbers: int, seed: int) -> None:
    codes = torch.randint(0, 2**bits, (2, 3, numbers), generator=torch.Generator().manual_seed(seed))
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (2, 3, row_bytes(numbers, bits))
    assert torch.equal(unpack(packed, bits, numbers=numbers).long(), codes)


def test_eight_numbers_of_three_bits_take_three_bytes() -> None:
    """By hand: 1, 2, 7 from the lowest bit on are 0b111_010_001 = 0x1d1."""
    packed = pack(torch.tensor([1, 2, 7, 0, 0, 0, 0, 5]), 3)
    assert packed.tolist() == [0xD1, 0x01, 0b10100000]


# ------------------------------------------------------------------------------------------ quantise


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("of", ["all", "ffn"])
def test_sixteen_bits_change_nothing(shape: str, of: Any) -> None:
    model, sixteen = built(SHAPES[shape]), Quantise(bits=16, of=of)
    stored = sixteen.applied(given(model))
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert torch.equal(logits(made(sixteen, model)), logits(model))
    whole = costs_of(SHAPES[shape].blueprint, dtype="float32")
    assert sixteen.costs(whole, SHAPES[shape], dtype="float32").weight_bytes == whole.weight_bytes


@pytest.mark.parametrize("one", PACKED, ids=str)
def test_no_weight_is_off_by_more_than_half_a_step(one: Quantise) -> None:
    model = built(SHARED)
    stored = one.applied(given(model))
    whole, weights = model.state_dict(), one.unpacked(stored, SHARED)
    assert weights.keys() == whole.keys()
    for matrix in every_matrix(SHARED):
        scale = stored[matrix.name + ".scale"].float().repeat_interleave(one.group, -1)[..., : matrix.columns]
        off = (weights[matrix.name] - whole[matrix.name]).abs()
        # The scale is rounded to float16, and so is where the last step lies; with a zero point, which is rounded
        # too, the ends of the range may lie a step away.
        most = 0.5 if one.symmetric else 1.0
        assert bool((off <= scale * most + whole[matrix.name].abs() * 2**-10 + 1e-8).all())
        assert float((off / scale).mean()) < 0.26
        assert float(off.max()) > 0


def test_more_bits_are_nearer_and_a_zero_point_is_nearer_still() -> None:
    model = built(MIXTURE)
    errors = {}
    for one in PACKED:
        weights = one.unpacked(one.applied(given(model)), MIXTURE)
        off = [(weights[m.name] - model.state_dict()[m.name]).square().sum() for m in every_matrix(MIXTURE)]
        errors[one.bits, one.symmetric] = float(torch.stack(off).sum())
    for bits in (8, 4, 3):
        assert errors[bits, False] < errors[bits, True]
    assert errors[8, True] < errors[4, False] < errors[4, True] < errors[3, False]


@pytest.mark.parametrize("one", PACKED, ids=str)
def test_weights_on_the_grid_stay_where_they_are(one: Quantise) -> None:
    """What was quantised is quantised to itself, and zeros to zeros."""
    weights = torch.randn(4, 70, generator=torch.Generator().manual_seed(0))
    weights[2] = 0
    only = architecture(dense(8)).model_copy(update={"layers": 0})

    def once(values: Tensor) -> Tensor:
        stored = one.packed("embedding", values)
        sizes = only.model_copy(update={"vocab": 4, "width": 70})
        return one.unpacked(stored, sizes)["embedding"]

    twice = once(once(weights))
    assert not twice[2].any()
    if one.symmetric:
        assert torch.allclose(twice, once(weights), rtol=2e-3, atol=1e-6)


def test_a_scale_is_of_its_group_alone() -> None:
    """A single scale for a matrix would let one weight spoil all, and wide matrices have more weights to do so."""
    one = Quantise(bits=4)
    weights = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    spoilt = weights.clone()
    spoilt[1, 40] = 50.0

    def off(values: Tensor) -> Tensor:
        sizes = architecture(dense(8)).model_copy(update={"layers": 0, "vocab": 4, "width": 128})
        return (one.unpacked(one.packed("embedding", values), sizes)["embedding"] - values).abs()

    same = torch.ones(4, 128, dtype=torch.bool)
    same[1, 32:64] = False
    assert torch.equal(off(weights)[same], off(spoilt)[same])
    assert float(off(spoilt)[~same].mean()) > 3 * float(off(weights)[~same].mean())


def test_wide_matrices_lose_no_more_than_narrow_ones() -> None:
    one, errors = Quantise(bits=4), []
    for columns in (32, 64, 1024):
        weights = torch.randn(4096 // columns * 16, columns, generator=torch.Generator().manual_seed(1))
        sizes = architecture(dense(8)).model_copy(update={"layers": 0, "vocab": len(weights), "width": columns})
        back = one.unpacked(one.packed("embedding", weights), sizes)["embedding"]
        errors.append(float((back - weights).square().mean().sqrt()))
    assert max(errors) < 1.02 * min(errors)


@pytest.mark.parametrize("of", ["all", "ffn", "experts"])
def test_only_what_is_named_is_packed(of: Any) -> None:
    stored = Quantise(bits=4, of=of).applied(given(built(SHARED)))
    packed = {name.removesuffix(".packed") for name in stored if name.endswith(".packed")}
    inner = {name.split(".", 2)[-1] for name in packed}
    experts, ffn = {"ffn.gate_up", "ffn.down"}, {"ffn.shared.gate_up", "ffn.shared.down"}
    attention = {f"attention.{name}" for name in ("query", "key", "value", "output")}
    assert inner == {"experts": experts, "ffn": experts | ffn, "all": experts | ffn | attention | {"embedding"}}[of]
    assert {name for name in stored if "router" in name or "norm" in name or "shared_gate" in name} <= set(
        stored
    ) - packed


SHAPES_OF_BYTES = {**SHAPES, "shared": SHARED, "all": model_of("softmax_topk", "everything", layers=6)}


@pytest.mark.parametrize("shape", SHAPES_OF_BYTES)
@pytest.mark.parametrize("one", [*PACKED, Quantise(bits=3, group=8, of="ffn"), Quantise(bits=4, group=64)], ids=str)
def test_the_bytes_that_are_counted_are_those_on_the_disk(tmp_path: Path, shape: str, one: Quantise) -> None:
    a = SHAPES_OF_BYTES[shape]
    stored = one.applied(given(build(a, seed=0)))
    safetensors.torch.save_file(stored, tmp_path / "model.safetensors")
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little") + 8
    counted = one.costs(costs_of(a.blueprint, dtype="float32"), a, dtype="float32")
    assert (tmp_path / "model.safetensors").stat().st_size - header == counted.weight_bytes
    assert counted.params == costs_of(a.blueprint, dtype="float32").params  # as many weights, in fewer bits
    assert (counted.trained_params, counted.train_state_bytes) == (0, counted.weight_bytes)


def test_what_is_saved_differs_with_the_experts_share_of_the_weights() -> None:
    """Experts are more of a mixture's weights than its network is of a dense model's: bits saved go with bits lost."""
    small, saved = Quantise(bits=4, of="ffn"), {}
    for name, a in {"moe": MIXTURE, "dense": architecture(dense(32))}.items():
        whole = costs_of(a.blueprint, dtype="float32")
        saved[name] = 1 - small.costs(whole, a, dtype="float32").weight_bytes / whole.weight_bytes
    assert saved["moe"] > 1.3 * saved["dense"] > 0.3


def test_it_says_what_becomes_of_a_tied_table() -> None:
    for tied in (True, False):
        said = Quantise(bits=4).says(MIXTURE.ffn, tied=tied)
        assert ("the token table that is the output head too" in said) == tied
    assert "the token table as it is" in Quantise(bits=4, of="ffn").says(MIXTURE.ffn, tied=True)


@pytest.mark.parametrize("spoilt", ["gone", "short", "zero"])
def test_what_is_not_as_it_was_packed_is_refused(spoilt: str) -> None:
    one = Quantise(bits=4)
    stored = one.applied(given(built(MIXTURE)))
    if spoilt == "gone":
        del stored["embedding.scale"]
    elif spoilt == "short":
        stored["embedding.packed"] = stored["embedding.packed"][:, :-1]
    else:
        stored["embedding.zero"] = stored["embedding.scale"].to(torch.uint8)
    with pytest.raises((ValueError, RuntimeError)):
        one.unpacked(stored, MIXTURE)


def test_a_weight_that_float16_cannot_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        Quantise(bits=3).packed("w", torch.full((1, 32), 1e9))


# ------------------------------------------------------------------------------------------ prune


@pytest.mark.parametrize("by", ["load", "norm", "chance"])
@pytest.mark.parametrize("shape", ["8 experts, top-2", "7 experts, top-3, grouped-query, untied", "1 expert"])
def test_to_prune_nothing_changes_nothing(shape: str, by: Any) -> None:
    model = built(SHAPES[shape])
    none = Prune(experts="0%", by=by)  # type: ignore[arg-type]
    assert transformed(SHAPES[shape], none) == SHAPES[shape]
    stored = none.applied(given(model))
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert torch.equal(logits(made(none, model)), logits(model))
    all_of_them = Prune(keep=SHAPES[shape].ffn.experts, by=by)  # type: ignore[union-attr]
    assert torch.equal(logits(made(all_of_them, model)), logits(model))


def _masked(model: Transformer, keep_LK: list[Tensor]) -> Tensor:
    """The whole model's logits where its routers may choose no expert but those."""

    def only(router: Any, chosen_K: Tensor) -> None:
        gate = router if hasattr(router, "logits") else router.gate
        inner = gate.logits if hasattr(router, "logits") else gate.forward

        def masked(*arguments: Any) -> Any:
            out = inner(*arguments)
            logits_TE = out[0] if isinstance(out, tuple) else out
            gone = torch.full_like(logits_TE, float("-inf"))
            gone[:, chosen_K] = logits_TE[:, chosen_K]
            return (gone, gone, None) if isinstance(out, tuple) else gone

        setattr(gate, "logits" if hasattr(router, "logits") else "forward", masked)

    for router, chosen_K in zip(model.routers, keep_LK, strict=True):
        only(router, chosen_K)
    return logits(model)


PRUNABLE = [word for word, router in ROUTERS.items() if router.by_expert is not None and word != "soft_mixture"]
UNGROUPED = {"groups": None, "groups_chosen": None}


@pytest.mark.parametrize("variant", ["plain", "shared expert with a gate"])
@pytest.mark.parametrize("word", PRUNABLE)
def test_a_pruned_model_is_one_whose_router_never_chooses_what_is_gone(word: str, variant: str) -> None:
    """The rows of the router, its biases and its balance go with the experts."""
    changes = UNGROUPED if word == "sigmoid_bias" else {}
    a = model_of(word, variant, layers=3, bias=ROUTERS[word].can_bias, **changes)
    model, pruning = built(a), Prune(keep=5, by="chance")
    for router in model.routers:
        if hasattr(router, "bias_E"):
            router.bias_E.copy_(torch.randn(8, generator=torch.Generator().manual_seed(4)) * 0.1)
    pruned = made(pruning, model, seed=3)
    chosen = pruning.chosen(given(model, seed=3))
    assert [len(one) for one in chosen] == [5, 5, 5]
    assert pruned.layers[0].ffn.gate_up.shape[0] == 5
    assert torch.allclose(logits(pruned), _masked(model, chosen), atol=1e-5)
    assert not torch.allclose(logits(pruned), logits(built(a)), atol=1e-3)


@pytest.mark.parametrize("word", [*(word for word in ROUTERS if word not in PRUNABLE), "sigmoid_bias"])
def test_other_routers_and_groups_of_experts_are_not_pruned(word: str) -> None:
    assert Prune(keep=6).misfit(mixture(word)) is not None


def test_what_is_in_every_part_of_a_mixture_is_pruned_and_packed() -> None:
    """Biases an expert, shared experts, dense layers at the start and between: nothing is forgotten."""
    a = model_of("softmax_topk", "everything", layers=6)
    model = built(a)
    pruning = Prune(keep=6, by="norm")
    assert torch.allclose(logits(made(pruning, model)), _masked(model, pruning.chosen(given(model))), atol=1e-5)
    after = transformed(a, pruning)
    packed = Quantise(bits=8).applied(given(built(after)))
    assert {name for name in packed if name.endswith(".packed")} == {m.name + ".packed" for m in every_matrix(after)}
    left = {name for name in packed if not name.endswith((".packed", ".scale"))}
    assert all(value.ndim == 1 or "router" in name or "bias" in name or "shared_gate" in name
               for name, value in packed.items() if name in left)  # fmt: skip


def test_the_busiest_stay_and_what_nobody_uses_is_not_missed() -> None:
    a = architecture(moe(8, 2, 16))
    model = built(a)
    loads = torch.tensor([[5, 0, 9, 9, 1, 7, 0, 8], [0, 1, 2, 3, 4, 5, 6, 7]])
    chosen = Prune(experts="25%").chosen(given(model, loads=lambda: loads))  # type: ignore[arg-type]
    assert [one.tolist() for one in chosen] == [[0, 2, 3, 4, 5, 7], [2, 3, 4, 5, 6, 7]]
    with torch.no_grad():
        for router in model.routers:
            router.weight[1::4] = -9 * model.layers[0].ffn_norm.weight.abs().mean()  # type: ignore[index, operator]
    used = DecoderSubject(model).routings(tokens(8, 16))
    loads = torch.stack([layer.expert_N.bincount(minlength=8) for layer in used])
    keep = int((loads > 0).sum(1).max())
    pruned = made(Prune(keep=max(keep, 2)), model, loads=lambda: loads)
    unused = max(keep, 2) < 8
    assert not unused or torch.allclose(
        pruned.eval()(tokens(8, 16)).logits_BTV, model.eval()(tokens(8, 16)).logits_BTV, atol=1e-5
    )


def test_the_heaviest_stay_by_norm() -> None:
    model = built(architecture(moe(4, 2, 16)))
    with torch.no_grad():
        for layer in model.layers:
            layer.ffn.down[2] *= 0.01
            layer.ffn.gate_up[2] *= 0.01
    assert [one.tolist() for one in Prune(keep=3, by="norm").chosen(given(model))] == [[0, 1, 3]] * 2


def test_chance_is_of_the_seed_and_of_the_layer() -> None:
    model, chance = built(architecture(moe(8, 2, 16), layers=4)), Prune(keep=4, by="chance")
    drawn = [
        tuple(map(tuple, (one.tolist() for one in chance.chosen(given(model, seed=seed))))) for seed in (0, 0, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert len(set(drawn[0])) > 1


# ------------------------------------------------------------------------------------------ route


def test_asked_for_what_it_has_nothing_changes() -> None:
    """Not even weights that never added up to 1."""
    a = architecture(moe(8, 2, 16, renormalise=False))
    assert transformed(a, Route(top_k=2)) == a
    assert torch.equal(logits(made(Route(top_k=2), built(a))), logits(built(a)))


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("top_k", [1, 3])
def test_its_experts_weights_add_up_to_one(renormalise: bool, top_k: int) -> None:
    a = architecture(moe(8, 2, 16, renormalise=renormalise))
    asked = made(Route(top_k=top_k), built(a))
    routing = asked.route(tokens(2, 16))[0]
    weights = torch.zeros(32).index_add(0, routing.token_N, routing.weight_N.detach())
    assert torch.allclose(weights, torch.ones(32), atol=1e-6)
    assert routing.per_token == top_k
    first = built(a).route(tokens(2, 16))[0]
    order = zip(routing.expert_N.view(32, top_k).tolist(), first.expert_N.view(32, 2).tolist(), strict=True)
    assert all(set(one) <= set(two) or set(two) <= set(one) for one, two in order)


def test_it_says_that_it_is_out_of_its_training() -> None:
    assert Route(top_k=1).says(moe(8, 2, 16), tied=True) == (
        "asked for 1 expert a token, which weighs 1, though trained with 2"
    )
    assert "their weights made to add up to 1, though trained with 2" in Route(top_k=3).says(moe(8, 2, 16), tied=True)
    assert Route(top_k=2).says(moe(8, 2, 16), tied=True) == "asked for top-2, as it was trained"


FIXED = ["switch", "gshard", "hierarchical", "token_hash", "round_robin", "soft_mixture", "expert_choice"]


@pytest.mark.parametrize("word", FIXED)
def test_routers_with_a_number_of_their_own_are_not_asked_for_another(word: str) -> None:
    assert Route(top_k=3).misfit(mixture(word)) is not None


@pytest.mark.parametrize("word", [word for word in ROUTERS if word not in FIXED])
def test_the_others_are(word: str) -> None:
    changes = UNGROUPED if word == "sigmoid_bias" else {}
    ffn = mixture(word, **changes)
    assert Route(top_k=3).misfit(ffn) is None
    a = architecture(ffn)
    asked = made(Route(top_k=3), built(a))
    assert max(len(one.expert_N) for one in asked.route(tokens(2, 16))) <= 3 * 32
    assert not torch.allclose(logits(asked), logits(built(a)), atol=1e-4)


# ------------------------------------------------------------------------------------------ counts

CHANGES: dict[str, Transform] = {
    "pruned": Prune(keep=5, by="chance"),
    "top-1": Route(top_k=1),
    "top-4": Route(top_k=4),
    "4 bits": Quantise(bits=4),
}


@pytest.mark.parametrize("named", CHANGES)
@pytest.mark.parametrize("a", [MIXTURE, SHARED], ids=["plain", "shared"])
def test_counts_are_those_of_the_model_that_is_built(a: Architecture, named: str) -> None:
    """Parameters one by one, and FLOPs as torch counts them."""
    change = CHANGES[named]
    after = transformed(a, change)
    model, costs = made(change, awake(build(a, seed=0))), costs_of(after.blueprint, dtype="float32")
    assert sum(value.numel() for value in model.parameters()) == costs.params.total
    chosen = run(after)
    step, batch = step_of(model, chosen), tokens(2, after.context + 1)
    with experts_one_by_one(model), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        done = step.backward(batch, step.draws())
    assert counter.get_total_flops() == counted_step_flops(
        after.blueprint, sequences=2, length=after.context, assignments=done.computed
    )
    assert train_step_flops(after.blueprint, sequences=2, length=after.context, assignments=done.computed) == (
        2 * after.context * costs.train_flops_per_token
    )
