"""What an undecided claim could have detected, and what it would take."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moebench import stats
from moebench.claims.judge import judge
from tests.support.builders import BPB, claim, evidence_of, judged, lower_by, pair, with_outcome


def test_inconclusive_says_what_it_could_have_seen_and_what_it_needs() -> None:
    gains_seen = np.arange(1.0, 9.0) / 100
    verdict = lower_by(gains_seen, {"kind": "superior", "margin": 0.03})
    sd = 0.01 * math.sqrt(6)
    assert verdict.detectable == pytest.approx(stats.detectable(8, 0.025) * sd)
    assert verdict.units_needed == stats.smallest(lambda n: stats.power(n, 0.015 / sd, 0.0125)), "the next look counts"
    assert verdict.needs is not None
    assert verdict.needs.startswith("smallest detectable effect 0.0287 bits/byte beyond the threshold (80% power)")
    assert verdict.units_low is not None
    assert verdict.units_low < verdict.units_needed < (verdict.units_high or math.inf)
    assert f"more seeds are needed: {verdict.units_low} to {verdict.units_high}," in verdict.needs
    assert lower_by(gains_seen, {"kind": "superior"}).needs is None


def test_an_effect_just_at_the_bound_has_no_upper_end() -> None:
    verdict = lower_by([0.03, -0.02, 0.01, -0.03, 0.02, -0.01, 0.02, -0.01], {"kind": "superior"})
    assert verdict.units_high is None
    assert verdict.needs is not None
    assert "8 give no upper estimate" in verdict.needs


def test_equal_models_need_no_more_seeds() -> None:
    verdict = lower_by([0.0] * 8, {"kind": "superior", "margin": 0.0})
    assert verdict.state == "inconclusive"
    assert verdict.needs == "identical in all 8 seeds, exactly at the threshold: more seeds will not decide"


def test_too_few_seeds_for_the_family() -> None:
    block = {f"c{i}": claim({"kind": "superior", "margin": 0.0}, family="primary") for i in range(3)}
    first, *_ = judge(evidence_of({"moe": {BPB: [1.9 + s / 99 for s in range(6)]}, "dense": {BPB: [2.0] * 6}}, block))
    assert first.state == "inconclusive"
    assert first.units_needed is not None
    assert first.units_needed >= 8, "2^-7 is above 2.5% / 3 / 2"


def test_divergence_is_not_answered_with_more_training() -> None:
    verdict = lower_by([0.02] * 8, {"kind": "superior"}, diverged=[("moe", 3)])
    assert verdict.needs is not None
    assert "diverged (1 of moe)" in verdict.needs
    assert "learning rate" in verdict.needs


def test_memory_is_no_worse_for_a_run_that_diverged() -> None:
    metric = "memory.train_peak_bytes"
    test = {"kind": "superior", "margin": "1%"}
    evidence = pair([1e6] * 8, [2e6] * 8, test, metric=metric, diverged=[("moe", 3)])
    measured = with_outcome(evidence, "moe", 3, values={metric: 1e6})
    assert judged(measured).state == "supported"
    verdict = judged(evidence)
    assert (verdict.state, verdict.unbounded) == ("interim", ())
    assert "not measured before it diverged" in verdict.reason


@pytest.mark.parametrize("kind", ["equivalent", "superior"])
def test_the_number_that_would_decide_decides(kind: str) -> None:
    """New samples of that size, from what was seen, are decided four times in five."""
    rng = np.random.default_rng(3)
    shift = 0.0 if kind == "equivalent" else 0.0078
    x = rng.normal(0, 1, 8)
    x = 0.01 * (x - x.mean()) / x.std(ddof=1) + shift
    test = {"kind": kind, "margin": 0.006 if kind == "equivalent" else 0.0}
    verdict = lower_by(x, test)
    assert verdict.state == "inconclusive"
    n, trials = verdict.units_needed, 100
    assert n is not None
    level = (0.05 if kind == "equivalent" else 0.025) / 2
    draws = rng.normal(shift, 0.01, (trials, n))
    bounds = [(-0.006, 1), (0.006, -1)] if kind == "equivalent" else [(0.0, 1)]
    decided = np.mean([all(stats.sign_flip_p(s * row, s * bound) <= level for bound, s in bounds) for row in draws])
    assert 0.7 <= decided <= 0.95
