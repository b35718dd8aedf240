"""Every backend of expert compute against the loop, the oracle, forward and every gradient.

Tolerances are relative to the largest value of the tensor compared. float32: 1e-5. bfloat16: each backend rounds at
other places, so 4% against the float32 loop, as the bfloat16 loop itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from moebench.models.decoder.experts import BACKENDS, Backend, Experts, activations, default_backend, loop
from moebench.models.decoder.experts import blocks as inside
from moebench.models.decoder.experts import sorted as sorting
from moebench.models.routers import Routing
from moebench.planning.matching import match_all
from moebench.suite.activations import ACTIVATIONS, input_matrices
from moebench.suite.load import load_suite
from moebench.suite.model import MoEFFN
from moebench.suite.words import bundled_names
from tests.support.closeness import assert_near, numbered

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


def test_bundled_suites_stay_on_the_road_of_their_committed_results() -> None:
    """Another code path gives other bits in the last place: `nox -s bench` may move the limits, but not below these."""
    for name in bundled_names():
        spec = load_suite(name).spec
        for model, a in match_all(spec, vocab=256)[0].items():
            train = spec.models[model].train
            if not isinstance(a.ffn, MoEFFN) or train is None:
                continue
            tokens = max(train.batch_tokens, 16 * a.context)
            assert tokens * a.ffn.top_k * a.width * 4 < sorting.PLAIN_ROWS_BYTES
            matrices = input_matrices(a.ffn.activation) + 1
            assert a.ffn.experts * matrices * a.ffn_hidden * a.width * 4 <= sorting.PLAIN_WEIGHTS_BYTES
