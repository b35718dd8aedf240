"""Every road of expert compute against the loop, the oracle, forward and every gradient.

Tolerances are relative to the largest value of the tensor compared. float32: 1e-5. bfloat16: each road rounds at other
places, so 4% against the float32 loop, as the bfloat16 loop itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from moebench.model.experts import BACKENDS, default_backend, loop
from moebench.model.routers import Routing

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
ROADS = [(word, name) for word in BACKENDS if word != "loop" for name in CASES]


def results(word: str, case: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """Output and all gradients of one road, under the same random gradient from above."""
    generator = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    x_TD, gate_up, down = (
        leaf(case.tokens, D),
        leaf(case.experts, 2 * case.hidden, D),
        leaf(case.experts, D, case.hidden),
    )
    weight_N = case.routing.weight_N.clone().requires_grad_()
    out_TD = BACKENDS[word](x_TD, replace(case.routing, weight_N=weight_N), gate_up, down)
    out_TD.backward(torch.randn(out_TD.shape, generator=generator).to(dtype))
    named = {"x": x_TD, "gate_up": gate_up, "down": down, "weight": weight_N}
    return {"out": out_TD.detach(), **{name: leaf.grad for name, leaf in named.items() if leaf.grad is not None}}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys() == {"out", "x", "gate_up", "down", "weight"}
    for name, value in expected.items():
        error = (found[name].float() - value.float()).abs().max() / value.float().abs().max()
        assert error <= tolerance, f"{name}: off by {error:.1e} of its largest value"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("word", "name"), ROADS)
def test_output_and_every_gradient_are_the_loops(word: str, name: str, dtype: torch.dtype) -> None:
    found = results(word, CASES[name], dtype)
    assert found["out"].dtype == found["gate_up"].dtype == dtype
    assert_alike(found, results("loop", CASES[name], torch.float32), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_sorted_takes_widths_of_any_size(dtype: torch.dtype) -> None:
    assert_alike(results("sorted", ODD_WIDTH, dtype), results("loop", ODD_WIDTH, torch.float32), TOLERANCE[dtype])


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
    torch.testing.assert_close(loop(x_TD, routing, gate_up, down), torch.tensor(expected))


@pytest.mark.parametrize("word", BACKENDS)
def test_an_expert_without_tokens_has_a_gradient_of_zeros(word: str) -> None:
    found = results(word, CASES["first and last empty"], torch.float32)
    for name in ("gate_up", "down"):
        assert torch.equal(found[name][[0, 3]], torch.zeros_like(found[name][[0, 3]]))
        assert (found[name][[1, 2]] != 0).any()


@pytest.mark.parametrize("word", BACKENDS)
def test_a_token_without_experts_gives_nothing(word: str) -> None:
    found = results(word, CASES["tokens with other numbers of pairs"], torch.float32)
    for name in ("out", "x"):
        assert torch.equal(found[name][[1, 4]], torch.zeros(2, D))


@pytest.mark.parametrize("word", BACKENDS)
def test_every_road_gives_the_same_bits_each_time(word: str) -> None:
    first, second = (results(word, CASES["uneven"], torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_device_has_a_default() -> None:
    assert {default_backend("cpu"), default_backend("cuda")} <= set(BACKENDS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("few_bytes", [0, 2**30])
def test_without_gradients_few_pairs_take_a_shorter_road_to_the_same_place(
    name: str, dtype: torch.dtype, few_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moebench.model.experts.GATHERED_BYTES", few_bytes)
    case, generator = CASES[name], torch.Generator().manual_seed(1)
    shapes = ((case.tokens, D), (case.experts, 2 * case.hidden, D), (case.experts, D, case.hidden))
    x_TD, gate_up, down = (torch.randn(shape, generator=generator) for shape in shapes)
    with torch.inference_mode():
        oracle = loop(x_TD, case.routing, gate_up, down)
        found = BACKENDS["sorted"](x_TD.to(dtype), case.routing, gate_up.to(dtype), down.to(dtype)).float()
    assert float((found - oracle).abs().max()) <= TOLERANCE[dtype] * float(oracle.abs().max())
