"""A claim at the second-best rate of each model: what is shown, what makes it INVALID, and why there may be nothing.

Results folders are written by hand; the claims' own runs are those of `golden_results`, in which the mixture's loss is
1% below that of its dense twin and 1.1% above that of the dense model of equal total size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import reporting, stats
from moebench.claims.decide import weigh
from moebench.claims.judge import judge
from moebench.claims.samples import draw
from moebench.claims.sensitivity import flipped
from moebench.claims.verdict import Verdict
from moebench.planning.grid import TunePlan, best_point
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, gather, read_sweep, tuned_models
from moebench.store import Results, write_json
from tests.support import golden_results

RATES = (1e-3, 3e-3, 6e-3, 12e-3)
BEST, SECOND = 6e-3, 3e-3
MODELS = ("moe_8x2", "dense", "dense_total")
TWIN = {"treatment": "moe_8x2", "baseline": "dense"}
Loss = Callable[[str, float, int], float | None]
"""Model, rate, which seed -> its loss."""


def claim(kind: Mapping[str, Any], compare: Mapping[str, str] = TWIN, **more: Any) -> dict[str, Any]:
    return {"says": "It is.", "compare": compare, "metric": "test.bits_per_byte", "test": kind, **more}


SUPERIOR = claim({"kind": "superior", "margin": "0.5%"})
WORSE = claim({"kind": "superior", "margin": "0%"}, {"treatment": "moe_8x2", "baseline": "dense_total"})


def at(second: Mapping[str, float], best: Mapping[str, float] | None = None, noise: float = 0.001) -> Loss:
    """Losses at the best rate and at the one below it; all other rates are far worse. Noise is each model's own."""
    at_best = {"moe_8x2": 2.20, "dense": 2.22, "dense_total": 2.18, **(best or {})}
    at_second = {"moe_8x2": 2.23, "dense": 2.25, "dense_total": 2.21, **second}

    def loss(model: str, lr: float, seed: int) -> float:
        draw = np.random.default_rng([ord(model[-1]), seed, round(lr * 1e6)])
        centre = at_best[model] if lr == BEST else at_second[model] if lr == SECOND else 3.0
        return centre + noise * float(draw.normal())

    return loss


CLAIMS = {
    "better": SUPERIOR,
    "no-worse": claim({"kind": "non_inferior", "margin": "0.5%"}),
    "turned": claim({"kind": "superior", "margin": "0.5%"}, {"treatment": "dense", "baseline": "moe_8x2"}),
    "worse": WORSE,
    "flops": {**claim({"kind": "ratio_within", "low": 0.9, "high": 1.1}), "metric": "cost.train_flops_per_token"},
}


def swept_plan(seeds: int = 3, swept: tuple[str, ...] = MODELS) -> Plan:
    """The golden plan, with a sweep of three tuning seeds."""
    tuning = tuple(range(1000, 1000 + seeds))
    runs = tuple((m, lr, s, f"{m}-{lr}-{s}") for m in swept for lr in RATES for s in tuning)
    tune = TunePlan(id="sweep", lrs=RATES, seeds=tuning, runs=runs)
    return golden_results.golden_plan(claims=CLAIMS).model_copy(update={"tune": tune})


def write_sweep(root: Path, plan: Plan, loss: Loss, *, interior: bool = True) -> Results:
    """The summary of the sweep, by hand."""
    models: dict[str, Any] = {}
    assert plan.tune is not None
    for name in plan.tune.models:
        curve = []
        for cell, _ in plan.tune.cells(name):
            value = loss(name, cell.lr, cell.seed - 1000)
            reason = None if value is not None else "run is diverged"
            curve.append({"lr": cell.lr, "seed": cell.seed, "bits_per_byte": value, "reason": reason})
        best = best_point(curve)
        assert best is not None
        about = {"identity": name, "best_lr": best["lr"], "interior": interior, "configured_lr": BEST}
        models[name] = {**about, "curve": curve}
    folder = Results(root).tune("sweep")
    folder.path.mkdir(parents=True, exist_ok=True)
    summary = {"plan": plan.tune.model_dump(mode="json"), "models": models, "finished": 1.0}
    write_json(folder.path / "tune.json", summary)
    folder.finish("completed")
    return Results(root)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which the mixture falls behind its twin at the second-best rates."""
    root = tmp_path_factory.mktemp("sensitivity") / "results"
    golden_results.write(root, plan=swept_plan())
    write_sweep(root, swept_plan(), at({"moe_8x2": 2.29}))
    return root


@pytest.fixture(scope="module")
def read(whole: Path) -> Evidence:
    results = Results(whole)
    (stored,) = results.plans()
    return gather(results, stored)


Judged = Callable[..., dict[str, Verdict]]


@pytest.fixture
def judged(read: Evidence, tmp_path: Path) -> Judged:
    """Judges the same runs with another sweep beside them."""

    def judged(loss: Loss, *, seeds: int = 3, swept: tuple[str, ...] = MODELS, **summary: Any) -> dict[str, Verdict]:
        plan = swept_plan(seeds, swept)
        sweep = read_sweep(write_sweep(tmp_path, plan, loss, **summary), plan)
        stored = read.stored.model_copy(update={"plan": plan})
        found = judge(replace(read, stored=stored, sweep=sweep, tuned=tuned_models(sweep)))
        return {verdict.id: verdict for verdict in found}

    return judged


# ----------------------------------------------------------------------------------------------------
# What is shown.


def test_the_effect_is_that_of_the_models_one_step_beside_their_best(judged: Judged) -> None:
    verdict = judged(at({}))["better"]
    assert verdict.state == "supported"
    found = verdict.sensitivity
    assert found is not None
    assert found.rates == {"moe_8x2": SECOND, "dense": SECOND}
    assert (found.seeds, found.reason) == (3, None)
    loss = at({})
    losses = {(m, lr): np.log([loss(m, lr, s) for s in range(3)]) for m in TWIN.values() for lr in (BEST, SECOND)}
    for effect, (moe, dense) in (
        (found.at_best, (BEST, BEST)),
        (found.at_second, (SECOND, SECOND)),
        (found.alone["moe_8x2"], (SECOND, BEST)),
        (found.alone["dense"], (BEST, SECOND)),
    ):
        assert effect is not None
        mean = stats.paired(losses["moe_8x2", moe] - losses["dense", dense])
        across = mean.interval(0.95)
        expected = [100 * np.expm1(x) for x in (mean.centre, across.low, across.high)]
        assert [effect.estimate, effect.low, effect.high] == pytest.approx(expected)


def test_of_two_rates_beside_the_best_the_better_is_taken(judged: Judged) -> None:
    def loss(model: str, lr: float, seed: int) -> float:
        above = {"dense": 2.23, "moe_8x2": 2.4}[model] if model != "dense_total" else 2.4
        return above if lr == 12e-3 else at({})(model, lr, seed) or 0.0

    found = judged(loss)["better"].sensitivity
    assert found is not None
    assert found.rates == {"moe_8x2": SECOND, "dense": 12e-3}


def test_at_the_end_of_the_range_there_is_one_rate_beside_it(judged: Judged) -> None:
    """That the best is at the end is said as before, and the step inwards is shown."""

    def loss(model: str, lr: float, seed: int) -> float | None:
        return at({})(model, lr, seed) if lr <= BEST else None

    verdict = judged(loss, interior=False)["better"]
    assert verdict.state == "supported"
    assert any("is at the end of its range" in note for note in verdict.notes)
    assert verdict.sensitivity is not None
    assert verdict.sensitivity.rates["dense"] == SECOND


def test_report_and_claims_json_say_it(whole: Path, tmp_path: Path) -> None:
    (made,) = reporting.build(whole, suite="golden", out=tmp_path)
    page = (made.path / "index.md").read_text()
    assert "At the second-best rate" in page
    assert "moe_8x2 0.003, dense 0.003" in page
    assert "which is ahead depends on the learning rate" in page
    told = {one["id"]: one for one in json.loads((made.path / "claims.json").read_text())["claims"]}
    assert told["better"]["state"] == "invalid"
    assert told["better"]["sensitivity"]["seeds"] == 3
    assert told["better"]["sensitivity"]["at_second"]["low"] > 0
    assert "sensitivity" not in told["flops"]


# ----------------------------------------------------------------------------------------------------
# What makes it INVALID: another sign, both intervals clear of zero.


@pytest.mark.parametrize("name", ["better", "no-worse"])
def test_a_sign_that_flips_is_invalid(name: str, judged: Judged) -> None:
    verdict = judged(at({"moe_8x2": 2.29}))[name]
    assert verdict.state == "invalid"
    assert verdict.reason.startswith("tuning: −")
    assert "at each model's second-best rate (moe_8x2 0.003, dense 0.003; 3 tuning seeds)" in verdict.reason
    assert verdict.reason.endswith("which is ahead depends on the learning rate")
    assert verdict.sensitivity is not None


def test_a_flip_in_the_treatments_favour_is_invalid_too(judged: Judged) -> None:
    verdict = judged(at({"dense_total": 2.29}))["worse"]
    assert verdict.state == "invalid"
    assert verdict.reason.startswith("tuning: +")


def test_of_a_claim_turned_round_the_flip_is_the_same(judged: Judged) -> None:
    verdict = judged(at({"moe_8x2": 2.29}))["turned"]
    assert verdict.state == "invalid"
    assert verdict.reason.startswith("tuning: +")


@pytest.mark.parametrize(
    ("loss", "seeds"),
    [
        (at({}), 3),  # the same sign
        (at({"moe_8x2": 2.2505}, noise=0.01), 3),  # another sign, its interval not clear of zero
        (at({"moe_8x2": 2.29}), 1),  # another sign, without an interval
        (at({"moe_8x2": 2.29}, noise=0.02), 2),  # two seeds that scatter
    ],
    ids=["same sign", "not clear of zero", "one seed", "two seeds"],
)
def test_what_is_not_shown_to_flip_stands(loss: Loss, seeds: int, judged: Judged) -> None:
    verdict = judged(loss, seeds=seeds)["better"]
    assert verdict.state == "supported"
    assert verdict.sensitivity is not None
    assert (verdict.sensitivity.reason == "1 tuning seed: no interval") == (seeds == 1)


def test_a_claim_whose_own_interval_holds_zero_is_not_flipped(judged: Judged, read: Evidence) -> None:
    found = judged(at({"moe_8x2": 2.29}))["better"].sensitivity
    asked = read.plan.spec.claims["better"]
    hypothesis = asked.test.hypothesis(asked, {})
    finding = weigh(draw(read, hypothesis.contrast, asked), hypothesis)
    assert flipped(found, finding, hypothesis) is not None
    assert (
        flipped(found, replace(finding, interval=stats.Interval(low=-0.001, high=0.02, level=0.95)), hypothesis) is None
    )


def test_one_model_moved_alone_decides_nothing(judged: Judged) -> None:
    """Both lose 4% at a step, so each alone is far behind; together they stand as before."""
    verdict = judged(at({"moe_8x2": 2.29, "dense": 2.31}))["better"]
    assert verdict.state == "supported"
    assert verdict.sensitivity is not None
    alone = verdict.sensitivity.alone["moe_8x2"]
    assert alone.low is not None
    assert alone.low > 0


# ----------------------------------------------------------------------------------------------------
# Why there may be nothing.


def no_second(model: str, lr: float, seed: int) -> float | None:
    return None if model == "dense" and lr != BEST else at({})(model, lr, seed)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"swept": ("moe_8x2",)}, "no sweep of dense"),
        ({"loss": at({"moe_8x2": 2.1})}, "moe_8x2 was trained with 0.006, its best was 0.003"),
        ({"loss": no_second}, "no rate next to the best of dense completed"),
    ],
)
def test_without_what_it_takes_the_reason_is_told(change: dict[str, Any], why: str, judged: Judged) -> None:
    verdict = judged(**{"loss": at({"moe_8x2": 2.29}), **change})["better"]
    assert verdict.state == "supported"
    assert verdict.sensitivity is not None
    assert verdict.sensitivity.reason == why
    assert verdict.sensitivity.at_second is None


def test_a_sweep_that_was_not_run_tells_nothing(read: Evidence) -> None:
    verdict = judge(replace(read, sweep=None, tuned={}))[0]
    assert verdict.sensitivity is not None
    command = f"moebench run {read.plan.suite} --tune"
    assert verdict.sensitivity.reason == f"the sweep that the suite asks for is not there ({command})"


def test_other_metrics_and_suites_without_a_sweep_have_none(judged: Judged, read: Evidence) -> None:
    assert judged(at({}))["flops"].sensitivity is None
    stored = read.stored.model_copy(update={"plan": read.plan.model_copy(update={"tune": None})})
    assert {verdict.sensitivity for verdict in judge(replace(read, stored=stored, sweep=None, tuned={}))} == {None}
