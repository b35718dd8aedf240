"""The arithmetic of FLOPs against torch's own counter on the built model, the full attention square put back in."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moebench.counting.flops import forward_flops, linear_flops
from moebench.counting.kernels import attention_square_flops, counted_step_flops
from moebench.jobs.recipe import Run
from moebench.jobs.training import chance
from moebench.metrics.flops import counted_flops
from moebench.models.decoder import Transformer
from moebench.models.decoder.experts import BACKENDS
from moebench.models.routers import ROUTERS
from tests.support.small_models import SHAPES, architecture, built, moe, odd, run, step_of, tokens
from tests.support.small_routers import CAPPED, VARIANTS, model_of

pytestmark = pytest.mark.numeric

B, T = 3, 16

# (multiply-adds of all matrix products but attention's own for one token, head dims of all layers)
BY_HAND = {
    "dense": (2 * (4 * 32 * 32 + 3 * 32 * 40) + 256 * 32, 2 * 4 * 8),
    "dense, grouped-query, untied": (3 * (2 * 32 * 24 + 2 * 32 * 12 + 3 * 32 * 40) + 256 * 32, 3 * 4 * 6),
    "8 experts, top-2": (2 * (4 * 32 * 32 + 32 * 8 + 2 * 3 * 32 * 16) + 256 * 32, 2 * 4 * 8),
    "7 experts, top-3, grouped-query, untied": (
        3 * (2 * 32 * 24 + 2 * 32 * 12 + 32 * 7 + 3 * 3 * 32 * 16) + 256 * 32,
        3 * 4 * 6,
    ),
    "1 expert": (2 * (4 * 32 * 32 + 32 * 1 + 3 * 32 * 24) + 256 * 32, 2 * 4 * 8),
    "normed queries and keys": (3 * (2 * 32 * 24 + 2 * 32 * 12 + 3 * 32 * 40) + 256 * 32, 3 * 4 * 6),
    "normed queries and keys, each head": (
        3 * (2 * 32 * 24 + 2 * 32 * 12 + 32 * 4 + 2 * 3 * 32 * 8) + 256 * 32,
        3 * 4 * 6,
    ),
}


def forward_by_hand(shape: str) -> int:
    linear, heads = BY_HAND[shape]
    return 2 * B * T * linear + B * (2 * T * T * heads + 2 * T * T * heads)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_flops_equal_torchs_count(shape: str) -> None:
    model = built(SHAPES[shape], backend="loop")
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens(B, T))
    assert counter.get_total_flops() == forward_by_hand(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_flops_equal_torchs_count(shape: str) -> None:
    counted = counted_flops(step_of(built(SHAPES[shape]), run(SHAPES[shape])), tokens(B, T + 1))
    assert counted == 3 * forward_by_hand(shape)
    assert counted == counted_step_flops(SHAPES[shape].blueprint, sequences=B, length=T)


def routed_pairs(model: Transformer, chosen: Run) -> int:
    """Pairs over all layers of the very pass that is counted."""
    output = model(tokens(B, T + 1)[:, :-1], generator=chance(chosen, step=0))
    return sum(routing.token_N.numel() for routing in output.routings)


CASES = [(word, variant) for word in ROUTERS for variant in ("plain", "everything")]
CASES += [("softmax_topk", variant) for variant in VARIANTS]


@pytest.mark.parametrize(("word", "variant"), dict.fromkeys(CASES))
def test_the_formula_equals_torchs_count_for_every_router_and_variant(word: str, variant: str) -> None:
    """Forward and backward, with the pairs really routed: fewer than k a token where some are refused or not asked for.

    Forward alone as it is evaluated: without what routers compute in training only.
    """
    tight = {"capacity_factor": 0.5} if word in CAPPED else {}
    a = model_of(word, variant, **tight)
    model, chosen = built(a), run(a)
    pairs = routed_pairs(model, chosen)
    counted = counted_flops(step_of(model, chosen), tokens(B, T + 1))
    assert counted == counted_step_flops(a.blueprint, sequences=B, length=T, assignments=pairs)
    assert (pairs < len(a.moe_layers) * B * T * a.ffn.top_k) == (word in CAPPED)
    model.eval()
    for mixture in (layer.ffn for layer in model.layers):
        mixture.compute = BACKENDS["loop"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = model(tokens(B, T))
    evaluated = sum(routing.token_N.numel() for routing in output.routings)
    linear = linear_flops(a.blueprint, tokens=B * T, assignments=evaluated, training=False)
    assert counter.get_total_flops() == linear + B * attention_square_flops(a.blueprint, length=T)


def test_model_flops_are_the_count_with_half_the_square() -> None:
    a = SHAPES["8 experts, top-2"]
    _, heads = BY_HAND["8 experts, top-2"]
    half_square = B * (2 * T * T * heads + 2 * T * T * heads) // 2
    assert forward_flops(a.blueprint, sequences=B, length=T) == forward_by_hand("8 experts, top-2") - half_square


def test_an_expert_that_no_token_chose_changes_no_count() -> None:
    a = odd(moe(7, 3, 16))
    model = built(a)
    with torch.no_grad():
        for layer in model.layers:
            layer.ffn.router.weight.zero_()  # every token to the same three
    counted = counted_flops(step_of(model, run(a)), tokens(B, T + 1))
    assert counted == counted_step_flops(a.blueprint, sequences=B, length=T)


def test_counting_leaves_the_model_as_it_was() -> None:
    a = architecture(moe())
    model = built(a, backend="sorted")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counted_flops(step_of(model, run(a)), tokens(B, T + 1))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(layer.ffn.compute is BACKENDS["sorted"] for layer in model.layers)
