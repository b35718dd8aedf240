"""The simulated error rates of the method are those of the code in use."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moebench import stats
from moebench.claims.error_rates import Rates, table
from tests.support import error_rates
from tests.support.builders import judged, lower_by, pair


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
