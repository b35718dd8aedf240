"""Claims about what it takes to reach a quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.samples import Sample
from moebench.claims.verdict import Verdict
from tests.support.builders import claim, evidence_of, judged
from tests.support.simulated import decided_of, hypothesis_of


def falling(final: float, start: float = 3.0) -> list[float]:
    """Bits per byte at the five evaluation points, linear in the log of the step, from `start` to `final`."""
    logs = np.log(np.array([50, 100, 150, 200, 250]) / 50) / math.log(5)
    return list(start + (final - start) * logs)


def to_quality(moe: Sequence[float], dense: Sequence[float], **other: Any) -> Verdict:
    test = other.pop("test", {"kind": "ratio_at_least", "value": 1.2})
    metric, reach = other.pop("metric", "flops_to_quality"), other.pop("reach", "dense")
    block = claim(test, metric, target={"reach": reach})
    curves = {"moe": [falling(f) for f in moe], "dense": [falling(f) for f in dense]}
    curves |= {"big": [falling(f) for f in other.pop("big")]} if "big" in other else {}
    return judged(evidence_of({}, {"c": block}, curves=curves, **other))


def test_flops_to_the_baselines_final_quality_by_hand() -> None:
    # The MoE falls twice as fast in log steps: it is at the dense model's final 2.0 after 50 * sqrt(5) steps.
    verdict = to_quality([1.0] * 8, [2.0] * 8)
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(math.sqrt(5))
    assert any("undecayed curve" in note for note in verdict.notes)
    dearer = to_quality([1.0] * 8, [2.0] * 8, params={"moe": (300_000, 220_000), "dense": (110_000, 110_000)})
    assert dearer.estimate == pytest.approx(math.sqrt(5) / 2)
    assert to_quality([1.0] * 8, [2.0] * 8, test={"kind": "ratio_at_least", "value": 2.5}).state == "refuted"
    assert to_quality([1.0] * 8, [2.0] * 8, metric="tokens_to_quality").estimate == pytest.approx(math.sqrt(5))


def test_the_target_is_the_baselines_own_final_value_of_each_seed() -> None:
    dense = [2.0 + 0.01 * s for s in range(8)]
    assert to_quality(dense, dense).estimate == pytest.approx(1.0), "no pair is censored by the other seeds' luck"


def test_a_fixed_target_and_another_models_mean() -> None:
    assert to_quality([1.0] * 8, [2.0] * 8, reach=2.0).estimate == pytest.approx(math.sqrt(5))
    mean = to_quality([1.9, 2.1] * 4, [1.5] * 8, reach="big", big=[2.0] * 8)
    assert any("mean final quality of big, 2 bits/byte" in note for note in mean.notes)


def test_the_treatment_may_set_the_target_seed_by_seed() -> None:
    """The dense model falls short with all it spends: a ratio of at least what it spent, without an upper end."""
    verdict = to_quality([1.0] * 8, [2.0] * 8, reach="moe", test={"kind": "ratio_at_least", "value": 1.0})
    assert verdict.state == "supported"
    assert (verdict.estimate, verdict.low, verdict.unbounded) == (None, pytest.approx(1.0), ("estimate", "high"))
    more = to_quality([1.0] * 8, [2.0] * 8, reach="moe", test={"kind": "ratio_at_least", "value": 1.2})
    assert more.state == "inconclusive", "a budget of 1.0x shows no 1.2x"
    assert more.needs is not None
    assert "longer budget" in more.needs
    moe = [1.0 + 0.01 * s for s in range(8)]
    both = to_quality(moe, moe, reach="moe", test={"kind": "equivalent", "margin": "1%"})
    assert (both.state, both.estimate) == ("supported", pytest.approx(0.0)), "each seed has its own target"


def test_a_model_that_never_gets_there_is_censored_not_left_out() -> None:
    verdict = to_quality([1.0] * 7 + [2.5], [2.0] * 8)
    assert verdict.n == 8
    assert verdict.state == "inconclusive"
    assert verdict.low == pytest.approx(0.0), "the ratio of the run that never got there"
    assert any("1 of 8 seeds unbounded" in note for note in verdict.notes)


def test_never_reached_by_any_is_refuted() -> None:
    verdict = to_quality([2.5] * 8, [2.0] * 8)
    assert verdict.state == "refuted"
    assert (verdict.estimate, verdict.high) == (0.0, pytest.approx(1.0)), "it spent as much and is not there"


def test_no_finished_run_sets_the_target() -> None:
    verdict = to_quality([1.0] * 8, [2.0] * 8, missing=[("dense", s) for s in range(8)])
    assert verdict.state == "not_tested"


def test_seconds_add_the_variance_of_step_times() -> None:
    rng = np.random.default_rng(0)
    finals = 1.0 + rng.normal(0, 0.02, 8)
    step = {"moe": 0.02 * np.exp(rng.normal(0, 0.05, 10)), "dense": np.full(10, 0.01), "dense~again": np.full(10, 0.01)}
    times = {name: {"speed.train_step_s": column} for name, column in step.items()}
    verdict = to_quality(finals, [2.0] * 8, metric="seconds_to_quality", times=times)
    steps = to_quality(finals, [2.0] * 8, metric="tokens_to_quality")
    assert verdict.estimate is not None
    assert steps.estimate is not None
    slower = math.exp(float(np.mean(np.log(step["moe"] / step["dense"]))))
    assert verdict.estimate == pytest.approx(steps.estimate / slower)
    width = [math.log(v.high / v.low) for v in (verdict, steps)]
    assert width[0] > width[1]
    assert to_quality(finals, [2.0] * 8, metric="seconds_to_quality").state == "not_tested"


def test_censoring_supports_no_more_than_nominal_when_the_truth_lies_at_the_bound() -> None:
    rng, trials = np.random.default_rng(1), 1500
    at_one = ratio_hypothesis(1.0)
    states = []
    for _ in range(trials):
        baseline, treatment = rng.normal(0, 0.3, (2, 8))
        budget = 0.15
        least = np.minimum(baseline, budget) - np.where(treatment < budget, treatment, np.inf)
        most = np.where(baseline < budget, baseline, np.inf) - np.minimum(treatment, budget)
        sample = Sample(effects=baseline - treatment, least=least, most=most, units="seeds", planned=8)
        states.append(decided_of(sample, at_one))
    assert states.count("supported") + states.count("refuted") > 0
    assert states.count("supported") <= trials * at_most(0.025, trials)
    assert states.count("refuted") <= trials * at_most(0.025, trials)


def ratio_hypothesis(ratio: float) -> Hypothesis:
    bound = math.log(ratio)
    return hypothesis_of((Bound(side="above", value=bound),), (Bound(side="below", value=bound),))


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)
