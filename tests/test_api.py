"""From Python: plan, run, load; the whole path from two models to a verdict; and the instrument put to the test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moebench
from moebench import api
from moebench.claims.controls import check_controls
from moebench.claims.verdict import ControlResult
from moebench.reader.evidence import Evidence, gather
from moebench.store import Results
from tests.support import tiny_suites

TWIN = {"layers": 1, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 24}}
MARGIN = {"kind": "equivalent", "margin": "5%"}


def run(path: Path, **options: Any) -> api.Outcome:
    folder = path.parent
    return api.run(path, results=folder / "results", reports=folder / "reports", launcher="inline", **options)


def evidence_of(path: Path) -> Evidence:
    results = Results(path.parent / "results")
    return gather(results, results.plans()[0])


# ------------------------------------------------------------------------------------------ names


def test_plan_and_run_stay_functions_whatever_has_been_imported() -> None:
    """The package has modules of the same names, and importing those sets attributes."""
    code = """
import moebench, sys
assert not {"torch", "pandas", "pydantic", "numpy"} & set(sys.modules), "importing moebench only defines names"
from moebench import plan, run, load
import moebench.planning.types, moebench.jobs.train
from moebench.planning.types import Plan
assert (moebench.plan, moebench.run, moebench.load) == (plan, run, load)
assert callable(moebench.plan) and callable(moebench.run) and callable(moebench.load)
try:
    moebench.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "module 'moebench' has no attribute 'nothing'\n"


def test_a_plan_twice_from_python(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path)
    plans = [moebench.plan(path, results=tmp_path / "results") for _ in range(2)]
    assert plans[0] == plans[1]
    assert not (tmp_path / "results" / "jobs").exists()
    changed = moebench.plan(path, sets=["train.budget.steps=5"], results=tmp_path / "results")
    assert changed.models["moe"].recipe.steps == 5
    assert {run.id for run in changed.runs}.isdisjoint({run.id for run in plans[0].runs})


# ------------------------------------------------------------------------------------------ run and load


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seeds of a mixture and a dense model, done."""
    claims = {"better": tiny_suites.claim(), "active": tiny_suites.claim(
        metric="cost.active_params", test={"kind": "ratio_within", "low": 0.99, "high": 1.01}
    )}  # fmt: skip
    train = {"budget": {"steps": 4}, "evaluate": {"points": 2, "tokens": 256}}
    path = tiny_suites.write(tmp_path_factory.mktemp("api"), seeds=6, claims=claims, train=train)
    outcome = run(path)
    assert (outcome.started, outcome.failed, outcome.speed) == (12, [], None)
    assert set(outcome.statuses.values()) == {"completed"}
    assert [verdict.id for verdict in outcome.verdicts] == ["better", "active"]
    assert outcome.verdicts[1].state == "supported"
    return path


def test_a_second_run_starts_nothing(suite: Path) -> None:
    events: list[dict[str, Any]] = []
    outcome = run(suite, on_event=events.append)
    assert outcome.started == 0
    assert [event["event"] for event in events] == ["preparing", "planned", "reporting"]


def test_two_suites_share_the_runs_they_have_in_common(suite: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(suite.read_text().replace("suite: tiny", "suite: other"))
    outcome = api.run(other, results=suite.parent / "results", reports=tmp_path / "reports", launcher="inline")
    assert outcome.started == 0


def test_load_gives_every_number_in_long_form(suite: Path) -> None:
    frame = moebench.load(suite.parent / "results")
    assert list(frame.columns) == ["suite", "model", "seed", "metric", "value", "unit", "step", "run", "plan"]
    own = frame[frame["suite"] == "tiny"]
    final = own[own["metric"] == "test.bits_per_byte"]
    assert sorted(zip(final["model"], final["seed"], strict=True)) == [
        (m, s) for m in ("dense", "moe") for s in range(6)
    ]
    assert set(final["unit"]) == {"bits/byte"}
    assert np.isfinite(frame["value"]).all()


def test_pairs_saw_the_same_tokens(suite: Path) -> None:
    evidence = evidence_of(suite)
    for seed in range(6):
        moe, dense = (evidence.outcome(model, seed) for model in ("moe", "dense"))
        assert moe is not None
        assert dense is not None
        assert moe.digests == dense.digests
        assert moe.test_digest == dense.test_digest


# ------------------------------------------------------------------------------------------ the instrument


def test_one_mutated_token_makes_the_pair_and_its_verdict_invalid(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only quality: counts do not depend on what was read."""
    module = sys.modules["moebench.jobs.training"]
    honest: Callable[..., Any] = module.train_batch

    def mutated(corpus: Any, *, seed: int, step: int, **more: Any) -> Any:
        batch = honest(corpus, seed=seed, step=step, **more)
        if (seed, step) == (3, 1):
            batch[0, 0] ^= 1
        return batch

    path = tmp_path / "tiny.yaml"
    path.write_text(suite.read_text())
    planned = api.prepare_plan(path, results=tmp_path / "results")
    one = next(run for run in planned.plan.runs if (run.model, run.seed) == ("moe", 3))
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_batch", mutated)
        patch.setattr(api, "_launch", only(one.id, api._launch))
        assert run(path).started == 1
    outcome = run(path)  # all the others
    assert outcome.started == 11
    better, active = outcome.verdicts
    assert better.state == "invalid"
    assert better.reason == "data: moe and dense with seed 3 did not see the same tokens up to step 4"
    assert active.state == "supported"


def only(run_id: str, honest: Callable[..., Any]) -> Callable[..., Any]:
    """Launches the jobs of one run alone."""

    def launched(planned: Any, jobs: Any, *rest: Any, **more: Any) -> Any:
        return honest(planned, [job for job in jobs if api.run_id(job) == run_id], *rest, **more)

    return launched


def test_dense_against_dense_with_other_seeds_shows_no_difference(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, models={"dense": TWIN}, seeds=12, controls={"same_model": "dense"})
    run(path)
    (control,) = check_controls(evidence_of(path))
    assert isinstance(control, ControlResult)
    assert control.low is not None
    assert control.high is not None
    assert control.low < 0 < control.high  # a 99% interval
    assert control.state == "too_wide", "twelve runs of a few steps tell no margin worth asking for"
    assert control.resolution == pytest.approx((control.high - control.low) / 2)


def test_two_names_of_one_model_share_runs_and_differ_by_exactly_nothing(tmp_path: Path) -> None:
    """The difference has no variance, and nothing is divided by it."""
    claims = {"same": tiny_suites.claim(compare={"treatment": "twin", "baseline": "dense"}, test=MARGIN)}
    models = {"dense": TWIN, "twin": {"base": "dense"}}
    train = {"budget": {"steps": 20}, "optimizer": {"lr": 3.0e-2}}  # enough to learn something
    path = tiny_suites.write(tmp_path, models=models, seeds=6, claims=claims, train=train)
    outcome = run(path)
    assert len(outcome.statuses) == 6
    (verdict,) = outcome.verdicts
    assert (verdict.estimate, verdict.low, verdict.high) == (0.0, 0.0, 0.0)
    assert verdict.state == "supported"
    assert verdict.n == 6
