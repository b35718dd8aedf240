"""Kernels against the plain way: expert backends against the loop, fused norm and attention, products of few rows;
forward and gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.counting.flops import train_step_flops
from moebench.counting.kernels import executed_step_flops, keeps_scores, scores_in_blocks
from moebench.jobs.recipe import Run
from moebench.jobs.train import FUSED_FROM, backend_of, kernels_of
from moebench.jobs.training import State, start, train
from moebench.models.architecture import Architecture
from moebench.models.decoder import build, products
from moebench.models.decoder.attention import Attention
from moebench.models.decoder.experts import BACKENDS, Backend, Experts, activations, default_backend, loop
from moebench.models.decoder.experts import blocks as inside
from moebench.models.decoder.experts import sorted as sorting
from moebench.models.decoder.fused import attend, rms_norm
from moebench.models.decoder.fused import attention as fused_attention
from moebench.models.decoder.rotary import rotary_table
from moebench.models.routers import Routing
from moebench.suite.activations import ACTIVATIONS, input_matrices
from tests.support import small_corpora
from tests.support.closeness import assert_near, numbered
from tests.support.small_models import architecture, dense, moe, run, tokens

pytestmark = pytest.mark.numeric

D, TOLERANCE = 32, {torch.float32: 1e-5, torch.bfloat16: 0.04}


def routing_of(rows: list[list[int]], *, per_token: int | None = None, seed: int = 5) -> Routing:
    """The routing in which token t goes to the experts of row t, with random weights."""
    pairs = [(token, expert) for token, row in enumerate(rows) for expert in row]
    token_N, expert_N = (torch.tensor([pair[i] for pair in pairs], dtype=torch.int64) for i in (0, 1))
    weight_N = torch.rand(len(pairs), generator=torch.Generator().manual_seed(seed))
    return Routing(token_N=token_N, expert_N=expert_N, weight_N=weight_N, per_token=per_token, dropped=0, losses={})


def drawn(num_tokens: int, experts: int, top_k: int, *, skew: float = 0.0) -> list[list[int]]:
    """Distinct experts for each token; a skew makes the first experts likelier."""
    scores = torch.rand(num_tokens, experts, generator=torch.Generator().manual_seed(3))
    return (scores - skew * torch.arange(experts)).topk(top_k, dim=1).indices.tolist()


@dataclass(frozen=True, kw_only=True)
class Case:
    routing: Routing
    tokens: int
    experts: int
    hidden: int = 16


CASES = {
    "8 experts, top-2": Case(routing=routing_of(drawn(40, 8, 2), per_token=2), tokens=40, experts=8),
    "7 experts, top-3": Case(routing=routing_of(drawn(40, 7, 3), per_token=3), tokens=40, experts=7),
    "uneven": Case(routing=routing_of(drawn(64, 8, 2, skew=0.2), per_token=2), tokens=64, experts=8),
    "most experts empty": Case(routing=routing_of(drawn(3, 16, 2), per_token=2), tokens=3, experts=16),
    "first and last empty": Case(routing=routing_of([[1], [2], [1]], per_token=1), tokens=3, experts=4),
    "one token": Case(routing=routing_of([[5, 2]], per_token=2), tokens=1, experts=8),
    "all on one expert": Case(routing=routing_of([[3]] * 20, per_token=1), tokens=20, experts=8),
    "every expert": Case(routing=routing_of(drawn(10, 4, 4), per_token=4), tokens=10, experts=4),
    "one expert": Case(routing=routing_of([[0]] * 20, per_token=1), tokens=20, experts=1),
    "tokens with other numbers of pairs": Case(
        routing=routing_of([[0, 1, 2], [], [2], [1, 2], [], [0]]), tokens=6, experts=3
    ),
    "equal numbers of pairs, not promised": Case(routing=routing_of(drawn(40, 8, 2)), tokens=40, experts=8),
}
ODD_WIDTH = Case(routing=routing_of(drawn(40, 8, 2), per_token=2), tokens=40, experts=8, hidden=13)


def sized(**sizes: int) -> Backend:
    """The code path of many tokens, with its limits moved so that small cases reach every way through it."""

    def path(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            for name, size in sizes.items():
                patch.setattr(inside, name, size)
            return inside.blocks(x_TD, routing, experts)

    return path


WAYS: dict[str, Backend] = {
    "one block": sized(BLOCK_BYTES=2**30, CACHED_BYTES=2**30),
    "a block an expert": sized(BLOCK_BYTES=0),
    "blocks, added": sized(BLOCK_BYTES=2**13, SUMMED_BYTES=0),
    "cold weights": sized(CACHED_BYTES=0),
    "cold weights, many rows": sized(CACHED_BYTES=0, FEW_ROWS=0),
}
"""Ways through `blocks`, which chooses by shape."""
PATHS: dict[str, Backend] = {**BACKENDS, **WAYS}
TRIALS = [(path, name) for path in PATHS if path != "loop" for name in CASES]


def results(
    path: str, case: Case, dtype: torch.dtype, *, activation: str = "swiglu", bias: bool = False
) -> dict[str, Tensor]:
    """Output and all gradients of one backend, under the same random gradient from above."""
    generator = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    rows = input_matrices(activation) * case.hidden
    x_TD, gate_up, down = leaf(case.tokens, D), leaf(case.experts, rows, D), leaf(case.experts, D, case.hidden)
    named = {"x": x_TD, "gate_up": gate_up, "down": down}
    if bias:
        named |= {"gate_up_bias": leaf(case.experts, rows), "down_bias": leaf(case.experts, D)}
    experts = Experts(
        gate_up_EXD=gate_up,
        down_EDF=down,
        activation=activation,
        gate_up_bias_EX=named.get("gate_up_bias"),
        down_bias_ED=named.get("down_bias"),
    )
    named["weight"] = weight_N = case.routing.weight_N.clone().requires_grad_()
    out_TD = PATHS[path](x_TD, replace(case.routing, weight_N=weight_N), experts)
    out_TD.backward(torch.randn(out_TD.shape, generator=generator).to(dtype))
    return {"out": out_TD.detach(), **{name: leaf.grad for name, leaf in named.items() if leaf.grad is not None}}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys() >= {"out", "x", "gate_up", "down", "weight"}
    assert_near(found, expected, tolerance=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("path", "name"), TRIALS)
def test_output_and_every_gradient_are_the_loops(path: str, name: str, dtype: torch.dtype) -> None:
    found = results(path, CASES[name], dtype)
    assert found["out"].dtype == found["gate_up"].dtype == dtype
    assert_alike(found, results("loop", CASES[name], torch.float32), TOLERANCE[dtype])


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("path", ["sorted", "grouped_mm", "blocks, added"])
@pytest.mark.parametrize("name", ["uneven", "first and last empty", "tokens with other numbers of pairs"])
def test_every_activation_and_bias(path: str, activation: str, bias: bool, name: str) -> None:
    found, expected = (
        results(word, CASES[name], torch.float32, activation=activation, bias=bias) for word in (path, "loop")
    )
    assert_alike(found, expected, 1e-5)
    assert ("down_bias" in found) == bias


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("path", [path for path in PATHS if path != "loop"])
def test_widths_of_any_size(path: str, dtype: torch.dtype) -> None:
    assert_alike(results(path, ODD_WIDTH, dtype), results("loop", ODD_WIDTH, torch.float32), TOLERANCE[dtype])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_no_size_of_block_changes_a_bit(way: str, name: str) -> None:
    """Of a weight's gradient; and of outputs where a token has at most two experts, since two terms add up alike."""
    found, expected = (results(path, CASES[name], torch.float32) for path in (way, "one block"))
    same = {"gate_up", "down", "weight"} | ({"out", "x"} if CASES[name].routing.per_token in (1, 2) else set())
    assert [key for key in same if not torch.equal(found[key], expected[key])] == []


def test_blocks_are_whole_experts_of_few_rows_together() -> None:
    cut = [(b.start, b.stop, [tuple(part) for part in b.parts]) for b in inside.cut([3, 0, 2, 9, 0, 1], most=5)]
    assert cut == [(0, 5, [(0, 0, 3), (2, 3, 5)]), (5, 14, [(3, 0, 9)]), (14, 15, [(5, 0, 1)])]
    assert list(inside.cut([0, 0], most=5)) == []


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("per_token", [2, None])
def test_the_backward_by_hand_is_the_derivative(activation: str, bias: bool, per_token: int | None) -> None:
    """By finite differences in float64, up to beyond the clamps."""
    routing = routing_of([[0, 2], [2, 3], [0, 3]], per_token=per_token)
    generator = torch.Generator().manual_seed(0)
    rows, width, hidden = input_matrices(activation) * 3, 2, 3
    shapes = [(3, width), (6,), (4, rows, width), (4, width, hidden)] + [(4, rows), (4, width)] * bias
    leaves = [4 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def path(x_TD: Tensor, weight_N: Tensor, gate_up: Tensor, down: Tensor, *biases: Tensor) -> Tensor:
        first, second = biases or (None, None)
        experts = Experts(
            gate_up_EXD=gate_up, down_EDF=down, activation=activation, gate_up_bias_EX=first, down_bias_ED=second
        )
        return inside.blocks(x_TD, replace(routing, weight_N=weight_N), experts)

    assert torch.autograd.gradcheck(path, [leaf.requires_grad_() for leaf in leaves])


def test_nothing_routed_gives_nothing() -> None:
    """As when an expert without capacity refuses all."""
    found = results("sorted", Case(routing=routing_of([[], []]), tokens=2, experts=3), torch.float32)
    assert all(not value.any() for value in found.values())


def test_a_gradient_from_a_plain_sum() -> None:
    """Its strides are 0, which some products refuse."""
    for path in PATHS.values():
        x_TD = torch.randn(6, D, requires_grad=True)
        experts = Experts(gate_up_EXD=torch.randn(3, 32, D), down_EDF=torch.randn(3, D, 16), activation="swiglu")
        path(x_TD, routing_of([[0], [1], [2]] * 2, per_token=1), experts).sum().backward()
        assert x_TD.grad is not None


def test_every_activation_of_a_suite_is_computed() -> None:
    assert set(activations.ACTIVATIONS) == set(ACTIVATIONS)


def test_the_clamped_activation_by_hand() -> None:
    """gpt-oss: gate at most 7, up within -7 to 7, (up + 1) gate sigmoid(1.702 gate)."""
    hidden = torch.tensor([[9.0, -1.0, 10.0, -9.0]])  # gates 9, -1; ups 10, -9
    gates, ups = torch.tensor([7.0, -1.0]), torch.tensor([7.0, -7.0])
    torch.testing.assert_close(
        activations.activate("swiglu_clamped", hidden)[0], (ups + 1) * gates / (1 + torch.exp(-1.702 * gates))
    )


def test_the_bfloat16_loop_is_as_far_from_float32_as_the_others_may_be() -> None:
    case = CASES["8 experts, top-2"]
    assert_alike(results("loop", case, torch.bfloat16), results("loop", case, torch.float32), TOLERANCE[torch.bfloat16])


def test_the_loop_by_hand() -> None:
    """Two tokens of width 2, two experts of hidden 1."""
    x_TD = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    gate_up = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]]])
    down = torch.tensor([[[1.0], [2.0]], [[-1.0], [0.5]]])
    routing = replace(routing_of([[0, 1], [1]]), weight_N=torch.tensor([0.25, 0.75, 2.0]))

    def silu(value: float) -> float:
        return float(torch.nn.functional.silu(torch.tensor(value)))

    first, second, third = silu(1.0) * 2, silu(2.0) * 3, silu(-1.0) * 2  # silu(gate) * up of the three pairs
    expected = [[0.25 * first - 0.75 * second, 0.25 * 2 * first + 0.75 * 0.5 * second], [-2 * third, third]]
    experts = Experts(gate_up_EXD=gate_up, down_EDF=down, activation="swiglu")
    torch.testing.assert_close(loop(x_TD, routing, experts), torch.tensor(expected))


@pytest.mark.parametrize("word", PATHS)
def test_an_expert_without_tokens_has_a_gradient_of_zeros(word: str) -> None:
    found = results(word, CASES["first and last empty"], torch.float32)
    for name in ("gate_up", "down"):
        assert torch.equal(found[name][[0, 3]], torch.zeros_like(found[name][[0, 3]]))
        assert (found[name][[1, 2]] != 0).any()


@pytest.mark.parametrize("word", PATHS)
def test_a_token_without_experts_gives_nothing(word: str) -> None:
    found = results(word, CASES["tokens with other numbers of pairs"], torch.float32)
    for name in ("out", "x"):
        assert torch.equal(found[name][[1, 4]], torch.zeros(2, D))


@pytest.mark.parametrize("word", PATHS)
def test_every_road_gives_the_same_bits_each_time(word: str) -> None:
    first, second = (results(word, CASES["uneven"], torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_device_has_a_default() -> None:
    assert {default_backend("cpu"), default_backend("cuda")} <= set(BACKENDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("few_bytes", "single"), [(0, 0), (2**30, 0), (0, 2**30)], ids=["sorted", "gathered", "singly"]
)
@pytest.mark.parametrize("activation", ["swiglu", "swiglu_clamped", "relu"])
def test_without_gradients_few_pairs_take_a_shorter_road_to_the_same_place(
    name: str, dtype: torch.dtype, few_bytes: int, single: int, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "GATHERED_BYTES", few_bytes)
    monkeypatch.setattr(sorting, "GATHERED_EXPERT_BYTES", few_bytes)
    monkeypatch.setattr(sorting, "SINGLE_ASSIGNMENTS", single)
    case, generator = CASES[name], torch.Generator().manual_seed(1)
    rows = input_matrices(activation) * case.hidden
    shapes = ((case.tokens, D), (case.experts, rows, D), (case.experts, D, case.hidden))
    x_TD, gate_up, down = (torch.randn(shape, generator=generator) for shape in shapes)
    biases = [torch.randn(case.experts, size, generator=generator) for size in (rows, D)]

    def experts(kind: torch.dtype) -> Experts:
        bias = [None, None] if activation == "swiglu" else [b.to(kind) for b in biases]
        weights = {"gate_up_EXD": gate_up.to(kind), "down_EDF": down.to(kind), "activation": activation}
        return Experts(**weights, gate_up_bias_EX=bias[0], down_bias_ED=bias[1])  # type: ignore[arg-type]

    with torch.inference_mode():
        oracle = loop(x_TD, case.routing, experts(torch.float32))
        found = BACKENDS["sorted"](x_TD.to(dtype), case.routing, experts(dtype)).float()
    assert_near(numbered(found), numbered(oracle), tolerance=TOLERANCE[dtype])


# ----------------------------------------------------------------------------------------------------
# Fused norm and attention, and products of few rows: outputs and gradients are those of the plain way.


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(out: Tensor, *leaves: Tensor) -> list[Tensor]:
    out.backward(made(*out.shape, seed=9, dtype=out.dtype))
    found = [leaf.grad for leaf in leaves]
    assert all(grad is not None for grad in found)
    return [grad.clone() for grad in found if grad is not None]


# ------------------------------------------------------------------------------------------ the norm


def test_the_norm_is_torchs_with_its_gradients() -> None:
    x, weight = (3 * made(2, 5, 24)).requires_grad_(), made(24, seed=1).requires_grad_()
    found, expected = rms_norm(x, weight, 1e-5), F.rms_norm(x, (24,), weight, 1e-5)
    torch.testing.assert_close(found, expected)
    fused = gradients(found, x, weight)
    x.grad = weight.grad = None
    torch.testing.assert_close(fused, gradients(expected, x, weight), rtol=1e-5, atol=1e-6)


def test_the_norms_gradient_is_the_derivative() -> None:
    x, weight = (made(*shape, seed=i, dtype=torch.float64).requires_grad_() for i, shape in enumerate([(3, 6), (6,)]))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-2), (x, weight))


def test_the_norm_takes_rows_of_a_larger_tensor_and_zeros() -> None:
    x = made(4, 3, 16).transpose(0, 1).requires_grad_()
    weight = torch.ones(16, requires_grad=True)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (16,), weight, 1e-5))
    zeros = torch.zeros(2, 16, requires_grad=True)
    assert all(grad.isfinite().all() for grad in gradients(rms_norm(zeros, weight, 1e-5), zeros, weight))


# ------------------------------------------------------------------------------------------ attention

SHAPES = [
    (1, 1, 1, 1, 8), (2, 5, 1, 1, 8), (2, 63, 4, 4, 8), (1, 64, 4, 2, 16), (3, 65, 4, 1, 16), (2, 200, 6, 3, 8),
    (9, 130, 2, 2, 16),
]  # fmt: skip
"""Sequences, tokens, heads, key-value heads, head dim: around a block of queries, and several of each kind."""


def attention(a: Architecture, *, fused: bool) -> Attention:
    layer = Attention(a, kernels="fused" if fused else "unfused")
    for index, weight in enumerate(layer.parameters()):
        nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5, generator=torch.Generator().manual_seed(index))
    return layer


def shaped(shape: tuple[int, ...]) -> Architecture:
    _, length, heads, groups, dim = shape
    return architecture(dense(), context=max(16, length), width=24, heads=heads, kv_heads=groups, head_dim=dim)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_unfused_one_with_its_gradients(shape: tuple[int, ...]) -> None:
    a, found = shaped(shape), list[dict[str, Tensor]]()
    cos, sin = (table[: shape[1]] for table in rotary_table(a, device=torch.device("cpu")))
    for fused in (True, False):
        layer, x = attention(a, fused=fused), made(*shape[:2], 24).requires_grad_()
        out = layer(x, cos, sin)
        assert fused == ("_AttendBackward" in str(graph(out)))
        found.append(numbered(out, *gradients(out, x, *layer.parameters())))
    assert_near(*found, tolerance=1e-5)


def graph(out: Tensor) -> list[object]:
    """The functions behind a tensor."""
    seen, left = list[object](), [out.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.append(node)
            left += [above for above, _ in node.next_functions]
    return seen


@pytest.mark.parametrize("shape", [(2, 7, 2, 2, 4), (1, 6, 4, 2, 2)], ids=str)
def test_attentions_gradient_is_the_derivative(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_attention, "QUERIES", 3)
    monkeypatch.setattr(fused_attention, "BLOCK_BYTES", 4 * 3 * 7 * 3)  # three sequences of heads at once
    batch, length, heads, groups, dim = shape
    sizes = ((batch, length, 5), (heads * dim, 5), (groups * dim, 5), (groups * dim, 5))
    leaves = tuple(made(*size, seed=i, dtype=torch.float64).requires_grad_() for i, size in enumerate(sizes))
    cos, sin = (table[:length].double() for table in rotary_table(shaped(shape), device=torch.device("cpu")))

    def attended(*leaves: Tensor) -> Tensor:
        return attend(*leaves, cos, sin, heads=heads, kv_heads=groups)

    assert torch.autograd.gradcheck(attended, leaves)


def test_later_tokens_change_nothing_before_them() -> None:
    layer, (cos, sin) = (
        attention(shaped(SHAPES[4]), fused=True),
        rotary_table(shaped(SHAPES[4]), device=torch.device("cpu")),
    )
    x = made(3, 65, 24)
    before = layer(x, cos, sin)
    changed = layer(torch.cat((x[:, :40], made(3, 25, 24, seed=5)), dim=1), cos, sin)
    torch.testing.assert_close(before[:, :40], changed[:, :40])
    assert not torch.equal(before[:, 40:], changed[:, 40:])


def test_without_a_gradient_or_with_normed_queries_attention_is_torchs() -> None:
    a = shaped(SHAPES[2])
    cos, sin = (table[:63] for table in rotary_table(a, device=torch.device("cpu")))
    fused, unfused = attention(a, fused=True), attention(a, fused=False)
    with torch.no_grad():
        assert torch.equal(fused(made(2, 63, 24), cos, sin), unfused(made(2, 63, 24), cos, sin))
    for more in ({"qk_norm": "full"}, {"attention_sinks": True}, {"window": 9}, {"attention_bias": "qkv"}):
        other = attention(a.model_copy(update=more), fused=True)
        assert "_AttendBackward" not in str(graph(other(made(2, 63, 24), cos, sin))), more


# ------------------------------------------------------------------------------------------ whole models


@pytest.mark.parametrize(
    "a",
    [
        architecture(dense(40), context=80),
        architecture(moe(8, 2, 16, shared_hidden=8), context=80, kv_heads=2, tied_embeddings=False),
        architecture(moe(4, 1, 16, router="switch", capacity_factor=1.0), context=80),
        architecture(dense(40), context=80, qk_norm="per_head"),
        architecture(dense(40), context=80, attention_sinks=True, window=9, full_every=2),
        architecture(dense(40), context=80, rope_scaling={"kind": "yarn", "factor": 4, "original_context": 20}),
    ],
    ids=["dense", "mixture", "switch", "normed queries", "sinks", "stretched positions"],
)
def test_a_models_gradients_are_the_unfused_models(a: Architecture) -> None:
    found, losses = list[dict[str, Tensor]](), list[float]()
    for kernels, backend in (("fused", "sorted"), ("unfused", "loop")):
        model = build(a, seed=0, backend=backend, kernels=kernels)  # type: ignore[arg-type]
        output = model(tokens(3, 80), generator=torch.Generator().manual_seed(0))
        loss = F.cross_entropy(output.logits_BTV.flatten(0, 1), tokens(3, 80, seed=1).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_near(*found, tolerance=2e-5)


def test_fused_kernels_are_for_float32_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="float32 on a CPU, not for bfloat16"):
        build(architecture(dense()), seed=0, dtype="bfloat16", kernels="fused")


CORPUS = small_corpora.ordinary(context=80)


def fused(a: Architecture) -> Run:
    plain = run(a, data_digest=CORPUS.digest, steps=6, batch_tokens=320, micro_batch_tokens=160, eps=1e-4)
    backend = backend_of(a, "cpu")
    return plain.model_copy(update={"kernels": "fused", "backend": backend})


def trained(chosen: Run, state: State | None = None) -> tuple[State, list[float]]:
    state = state or start(chosen)
    return state, [step.loss for step in train(state, chosen, CORPUS)]


@pytest.mark.parametrize("ffn", [dense(), moe()], ids=["dense", "mixture"])
def test_a_fused_run_learns_as_an_unfused_one_and_resumes_in_its_own_bits(ffn: object) -> None:
    a = architecture(ffn, context=80)  # type: ignore[arg-type]
    chosen = fused(a)
    state, losses = trained(chosen)
    unfused = chosen.model_copy(update={"kernels": "unfused", "backend": backend_of(a, "cpu")})
    assert losses == pytest.approx(trained(unfused)[1], rel=1e-5)
    halfway = start(chosen)
    for _, step in zip(range(3), train(halfway, chosen, CORPUS), strict=False):
        assert step.loss == losses[step.step - 1]
    revived = start(chosen.model_copy(update={"seed": 5}))
    revived.load_bytes(halfway.to_bytes())
    assert trained(chosen, revived)[1] == losses[halfway.step :]
    assert revived.to_bytes() == state.to_bytes()


# ------------------------------------------------------------------------------------------ which runs, and their FLOPs


def test_large_micro_batches_of_float32_on_a_cpu_are_fused() -> None:
    usual = {"width": 64, "tokens": FUSED_FROM // 64, "dtype": "float32", "device": "cpu"}
    assert kernels_of(**usual) == "fused"
    for change in ({"tokens": FUSED_FROM // 64 - 1}, {"width": 63}, {"device": "cuda"}, {"dtype": "bfloat16"}):
        assert kernels_of(**{**usual, **change}) == "unfused"


def test_kernels_decide_the_bits_and_the_id() -> None:
    plain = run(architecture(dense()))
    assert plain.model_copy(update={"kernels": "fused"}).id != plain.id


def test_executed_flops_count_the_scores_of_each_block() -> None:
    assert scores_in_blocks(64) == 64 * 64
    assert scores_in_blocks(130) == 64 * 64 + 64 * 128 + 2 * 130
    assert scores_in_blocks(3) == 9
    assert sum(block.numel for block in fused_attention._blocks(6, 130)) == 6 * scores_in_blocks(130)
    a = architecture(dense(), context=256, layers=2, heads=4, kv_heads=4, head_dim=8)
    model = train_step_flops(a.blueprint, sequences=3, length=256)
    executed = executed_step_flops(a.blueprint, sequences=3, length=256, fused=True)
    # Blocks hold 64 + 128 + 192 + 256 keys for 64 queries each, the causal half 256 / 2 for 256: 2 products, 3 passes.
    extra_scores = 64 * (64 + 128 + 192 + 256) - 256 * 128
    assert executed - model == 3 * 2 * 2 * 8 * 4 * 3 * 2 * extra_scores


def test_attention_whose_probabilities_are_too_many_is_torchs() -> None:
    assert keeps_scores(heads=4, sequences=1, length=512)
    assert not keeps_scores(heads=4, sequences=1, length=4096)
    normed = architecture(dense(), qk_norm="full").blueprint
    flash = executed_step_flops(normed, sequences=1, length=512)
    assert executed_step_flops(normed, sequences=1, length=512, fused=True) == flash


def test_masked_attention_is_computed_over_the_whole_square() -> None:
    """4 heads of 8, 2 layers: 256 FLOPs a pair forward, thrice in a step; flash computes one of the products again."""
    square, causal, seen = 40 * 40, 40 * 40 // 2, 10 * 40 - 10 * 10 // 2
    plain = architecture(dense(), context=40)
    for more, layers, asked, again in (
        ({"window": 10}, 2, seen, square // 2),
        ({"attention_sinks": True}, 2, causal, 0),
        ({"window": 10, "full_every": 2}, 1, seen, square // 2),
        ({"window": 40}, 0, 0, 0),
    ):
        b = plain.model_copy(update=more).blueprint
        added = executed_step_flops(b, sequences=1, length=40) - train_step_flops(b, sequences=1, length=40)
        others = (2 - layers) * 128 * causal // 2 * 1
        assert added == layers * 128 * (3 * (square - asked) + again) + others, more


# ----------------------------------------------------------------------------------------------------
# Products of few rows: whichever way the weights are read, the numbers are those of one plain product.


ROWS = [(), (1,), (3,), (2, 1), (2, 16), (2, 40)]
SIZES = [(300, 256), (64, 64), (1000, 300), (65, 5000)]
"""Outputs and inputs: one piece, too small to read first, several pieces with a short last one, rows of 20 kB."""


def made_products(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_few_rows_give_the_product(rows: tuple[int, ...], sizes: tuple[int, int], biased: bool) -> None:
    x, weight = made_products(*rows, sizes[1], seed=0), made_products(*sizes, seed=1)
    bias = made_products(sizes[0], seed=2) if biased else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    with torch.inference_mode():
        found = products.linear(x, weight, bias)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("sizes", [(768, 256), (1408, 256), (2688, 512), (512, 1344)], ids=str)
def test_reading_first_moves_no_bit(rows: int, sizes: tuple[int, int]) -> None:
    x, weight = made_products(rows, sizes[1], seed=0), made_products(*sizes, seed=1)
    with torch.no_grad():
        found, expected = products.linear(x, weight), F.linear(x, weight)
    if weight.numel() * 4 <= products.PIECE_BYTES:
        assert torch.equal(found, expected)
    # In pieces too on the machine of the reference results; another BLAS may choose another kernel for another height.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_training_reads_nothing_first(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(Tensor, "sum", lambda weight: read.append(weight.numel()))
    x, weight = made_products(1, 256, seed=0), made_products(2000, 256, seed=1)
    products.linear(x, weight)
    assert read == []
    with torch.no_grad():
        products.linear(x.bfloat16(), weight.bfloat16())
        products.linear(made_products(33, 256, seed=0), weight)
        assert read == []
        products.linear(x, weight)
    assert sum(read) == weight.numel()
    assert max(read) * 4 <= products.PIECE_BYTES
