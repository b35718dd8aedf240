"""No verdict is reached more often than it may be (simulated), and the table of these rates is of the code in use."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moebench import stats
from moebench.claims.error_rates import Rates, table
from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.judge import judge
from moebench.claims.samples import Sample
from tests.support import error_rates
from tests.support.builders import BPB, claim, decided_of, evidence_of, hypothesis_of, judged, lower_by, pair


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


# ----------------------------------------------------------------------------------------------------
# The simulated error rates of the method are those of the code in use.


def test_the_simulated_method_is_the_one_in_use() -> None:
    rng = np.random.default_rng(2)
    x = error_rates.heavy_tails(rng, 40, 8)
    low = error_rates.limits(x)
    for row, end in zip(x, low, strict=True):
        verdict = lower_by(row, {"kind": "superior", "margin": 0.0})
        assert -verdict.high == pytest.approx(end)
        assert (verdict.state == "supported") == (end > 0)


def test_the_simulated_documents_are_added_as_in_use() -> None:
    x_SI = np.random.default_rng(3).normal(0.01, 0.02, (8, 30)) + np.random.default_rng(4).normal(0, 0.05, 30)
    items = {"moe": [[(1000, 1000 * (2 - x)) for x in row] for row in x_SI], "dense": [[(1000, 2000.0)] * 30] * 8}
    verdict = judged(pair(list(2 - np.mean(x_SI, axis=1)), [2.0] * 8, {"kind": "superior", "margin": 0.0}, items=items))
    error = np.sqrt(np.var(np.mean(x_SI, axis=0), ddof=1) / 30)
    within = x_SI - np.mean(x_SI, axis=1, keepdims=True)
    scatter = np.sqrt(np.sum(np.var(within, axis=0, ddof=1)) / (8 * 30 * 29))
    low, high = error_rates.limits_of_both(np.mean(x_SI, axis=1)[None], np.array([error]), np.array([scatter]))
    assert (-verdict.high, -verdict.low) == (pytest.approx(low[0]), pytest.approx(high[0]))


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row.law}-{row.n}")
def test_the_shipped_table_is_what_simulation_gives(row: Rates) -> None:
    trials = 1500
    again = error_rates.rates(row.law, row.n, trials=trials, rng=np.random.default_rng(row.n))
    for name in ("covered", "supported", "refuted"):
        expected = getattr(row, name)
        assert getattr(again, name) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / trials))


def test_the_table_has_every_law_and_errs_no_more_than_it_may_where_assumptions_hold() -> None:
    rows = {(row.law, row.n): row for row in table()}
    assert set(rows) == {(law, n) for law in (*error_rates.LAWS, error_rates.BOTH) for n in error_rates.SIZES}
    for (law, _), row in rows.items():
        if law.startswith(("normal", "heavy")):
            assert row.covered >= 0.95
            assert max(row.supported, row.refuted) <= 0.025


@pytest.mark.parametrize("n", error_rates.SIZES)
def test_adding_documents_covers_where_the_wider_of_both_did_not(n: int) -> None:
    x, error, scatter = error_rates.both(np.random.default_rng(n), 3000, n)
    centre = np.mean(x, axis=1)
    over_seeds = np.minimum(error_rates.limits(x), centre)
    wider = np.minimum(over_seeds, centre - stats.t_quantile(0.025, 29) * error)
    added, _ = error_rates.limits_of_both(x, error, scatter)
    assert np.mean(added > 0) <= 0.025
    assert np.mean(wider > 0) > np.mean(added > 0)
    assert n == 6 or np.mean(wider > 0) > 0.03
