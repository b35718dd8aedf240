"""Figures of expert load by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.metrics.routing import domain_records, normalised_entropy, routing_records

pytestmark = pytest.mark.numeric


def figures(loads: list[list[int]], *, dropped: int | None = None) -> dict[str, float]:
    rows = np.array(loads)
    found = routing_records(rows, layers=tuple(range(len(rows))), dropped=dropped, step=5)
    return {r.metric: r.value for r in found if r.value is not None}


def test_uniform_load() -> None:
    found = figures([[10, 10, 10, 10], [5, 5, 5, 5]])
    assert found["routing.entropy"] == pytest.approx(1.0)
    assert found["routing.max_over_mean"] == 1.0
    assert found["routing.dead_experts"] == 0
    assert "evaluation.dropped_share" not in found


def test_all_on_one_expert() -> None:
    found = figures([[0, 40, 0, 0]])
    assert found["routing.entropy"] == 0.0
    assert found["routing.max_over_mean"] == 4.0
    assert found["routing.dead_experts"] == 3


def test_two_of_four_experts_alike_is_half_the_entropy() -> None:
    assert normalised_entropy(np.array([7, 7, 0, 0])) == pytest.approx(math.log(2) / math.log(4))


def test_figures_are_means_over_layers_and_dead_experts_a_sum() -> None:
    found = figures([[10, 10, 10, 10], [0, 40, 0, 0]])
    assert found["routing.entropy"] == pytest.approx(0.5)
    assert found["routing.max_over_mean"] == 2.5
    assert found["routing.dead_experts"] == 3


def test_the_dropped_share_is_of_all_pairs_wanted() -> None:
    assert figures([[10, 20], [5, 25]], dropped=20)["evaluation.dropped_share"] == pytest.approx(20 / 80)
    assert figures([[10, 20], [5, 25]], dropped=0)["evaluation.dropped_share"] == 0.0


def test_the_experts_that_chance_alone_leaves_idle_stand_beside_the_dead_ones() -> None:
    """256 tokens, each to one of 256 experts at random, leave 256 (255/256)^256 = 94 of them without a token."""
    load = np.zeros(256, dtype=np.int64)
    load[:26] = [*[10] * 25, 6]
    found = figures([load.tolist()])
    assert found["routing.dead_experts"] == 230
    assert found["routing.idle_by_chance"] == pytest.approx(94.0, abs=0.05)
    assert found["routing.idle_by_chance"] == pytest.approx(256 * (255 / 256) ** 256)
    two = figures([[4, 4], [1, 1]])["routing.idle_by_chance"]
    assert two == pytest.approx(2 * 0.5**8 + 2 * 0.5**2)


def test_each_load_is_a_record_of_its_layer_and_expert_at_its_step() -> None:
    """Layers are told by their index in the model, in which some may be dense."""
    found = list(routing_records(np.array([[1, 2], [3, 4]]), layers=(1, 3), dropped=None, step=5))
    loads = {r.metric: r.value for r in found if r.metric.startswith("routing.tokens[")}
    assert loads == {f"routing.tokens[layer={1 + 2 * i},expert={j}]": 1 + 2 * i + j for i in (0, 1) for j in (0, 1)}
    assert {r.step for r in found} == {5}


def test_one_expert_is_always_balanced() -> None:
    found = figures([[40]])
    assert (found["routing.entropy"], found["routing.max_over_mean"], found["routing.dead_experts"]) == (1.0, 1.0, 0)


def test_a_dense_model_has_no_figures() -> None:
    assert list(routing_records(np.zeros((0, 0), dtype=np.int64), layers=(), dropped=None, step=5)) == []


def test_domains_are_told_apart() -> None:
    by_domain = {"code": np.array([[1, 2]]), "prose": np.array([[3, 4]])}
    found = {r.metric: r.value for r in domain_records(by_domain, layers=(1,), step=9)}
    assert found == {
        "routing.domain_tokens[layer=1,expert=0,domain=code]": 1,
        "routing.domain_tokens[layer=1,expert=1,domain=code]": 2,
        "routing.domain_tokens[layer=1,expert=0,domain=prose]": 3,
        "routing.domain_tokens[layer=1,expert=1,domain=prose]": 4,
    }


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=64).filter(any))
def test_entropy_lies_between_0_and_1_and_ignores_order_and_scale(load: list[int]) -> None:
    entropy = normalised_entropy(np.array(load))
    assert -1e-12 <= entropy <= 1 + 1e-12
    assert normalised_entropy(np.array(load[::-1])) == pytest.approx(entropy)
    assert normalised_entropy(np.array(load) * 3) == pytest.approx(entropy)
