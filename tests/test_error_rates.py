"""No verdict is reached more often than it may be (simulated)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moebench import stats
from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.judge import judge
from moebench.claims.samples import Sample
from tests.support.builders import BPB, claim, evidence_of
from tests.support.simulated import decided_of, hypothesis_of


def decided(effects: stats.Array, hypothesis: Hypothesis) -> str:
    return decided_of(Sample(effects=effects, units="seeds", planned=len(effects)), hypothesis)


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_false_support_and_refutation_are_no_more_than_nominal(n: int) -> None:
    """The truth lies on the bound: each wrong decision is made at most one time in forty."""
    above = hypothesis_of((Bound(side="above", value=0.5),), (Bound(side="below", value=0.5),))
    x = np.random.default_rng(n).normal(0.5, 1.0, (1000, n))
    states = [decided(row, above) for row in x]
    assert states.count("supported") <= 1000 * at_most(0.025, 1000)
    assert states.count("refuted") <= 1000 * at_most(0.025, 1000)


def test_skewed_effects_do_not_inflate_support() -> None:
    above = hypothesis_of((Bound(side="above", value=0.0),), (Bound(side="below", value=0.0),))
    x = np.random.default_rng(5).standard_t(3, (1000, 8))
    assert [decided(row, above) for row in x].count("supported") <= 1000 * at_most(0.025, 1000)


def test_false_equivalence_is_no_more_than_nominal() -> None:
    inside = (Bound(side="above", value=-1.0), Bound(side="below", value=1.0))
    outside = (Bound(side="below", value=-1.0), Bound(side="above", value=1.0))
    x = np.random.default_rng(6).normal(1.0, 0.5, (1000, 8))
    states = [decided(row, hypothesis_of(inside, outside, level=0.05)) for row in x]
    assert states.count("supported") <= 1000 * at_most(0.05, 1000)
    assert states.count("refuted") <= 1000 * at_most(0.025, 1000)


def test_real_effects_are_found() -> None:
    above = hypothesis_of((Bound(side="above", value=0.0),), (Bound(side="below", value=0.0),))
    x = np.random.default_rng(7).normal(2.0, 1.0, (300, 8))
    assert [decided(row, above) for row in x].count("supported") >= 285


def test_the_family_makes_few_errors_through_judge() -> None:
    """Three true nulls beside one real effect: the chance of any false support stays at 2.5%."""
    rng = np.random.default_rng(8)
    domains = [f"{BPB}[domain={d}]" for d in ("a", "b", "c", "d")]
    claims = {f"c{i}": claim({"kind": "superior", "margin": 0.0}, m, family="primary") for i, m in enumerate(domains)}
    wrong = 0
    for _ in range(200):
        shift = {m: (3.0 if i == 3 else 0.0) for i, m in enumerate(domains)}
        values = {
            "moe": {m: 20 - shift[m] + rng.normal(0, 1, 8) for m in domains},
            "dense": {m: [20.0] * 8 for m in domains},
        }
        wrong += any(v.state == "supported" for v in judge(evidence_of(values, claims))[:3])
    assert wrong / 200 <= at_most(0.025, 200)
