"""Budgets in seconds become steps once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moebench.jobs import calibrate as calibration
from moebench.jobs.recipe import Run
from moebench.launch import launch
from moebench.planning import machine as machines
from moebench.store import Results
from tests.support import tiny_suites

SECONDS = {"models": {
    "moe": {"layers": 2, "width": 16, "heads": 2, "train": {"budget": {"seconds": 3}},
            "ffn": {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}},
    "dense": {"base": "moe", "ffn": {"kind": "dense"}, "match": {"to": "moe", "on": "active_params"}},
}}  # fmt: skip


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Measuring takes no time and finds 0.25 s for a mixture, 0.1 s for a dense model."""
    asked: list[Run] = []

    def pretend(run: Run) -> float:
        asked.append(run)
        return 0.25 if run.architecture.ffn.kind == "moe" else 0.1

    monkeypatch.setattr(calibration, "time_step", pretend)
    monkeypatch.setattr(machines, "launch", lambda jobs, how: launch(jobs, replace(how, launcher="inline")))
    return asked


def test_seconds_become_steps_by_the_measured_time_of_a_step(tmp_path: Path, measured: list[Run]) -> None:
    plan = tiny_suites.planned(tmp_path, **SECONDS).plan
    assert {name: model.recipe.steps for name, model in plan.models.items()} == {"moe": 12, "dense": 30}
    assert len(measured) == 2
    assert {run.recipe.batch_tokens for run in measured} == {128}  # a step as it will be trained


def test_a_measurement_is_kept_so_that_the_plan_stays_the_same(
    tmp_path: Path, measured: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny_suites.planned(tmp_path, **SECONDS).plan
    monkeypatch.setattr(calibration, "time_step", lambda run: 99.0)
    assert tiny_suites.planned(tmp_path, **SECONDS).plan == first
    kept = [(one.job_json()["model"], one.read("step.json")["step_s"]) for one in Results(tmp_path / "results").jobs()]
    assert sorted(kept) == [("dense", 0.1), ("moe", 0.25)]


def test_another_machine_is_measured_anew(tmp_path: Path, measured: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_suites.planned(tmp_path, **SECONDS)
    usual = machines.machine()
    other = type(usual)(device="cpu", fingerprint="another")
    monkeypatch.setattr(machines, "machine", lambda **_: other)
    tiny_suites.planned(tmp_path, **SECONDS)
    assert len(measured) == 4


def test_budgets_in_other_units_need_no_measurement(tmp_path: Path, measured: list[Run]) -> None:
    tiny_suites.planned(tmp_path)
    assert measured == []
    assert not (tmp_path / "results" / "jobs").exists()


def test_seconds_too_few_for_a_step_are_one_step(tmp_path: Path, measured: list[Run]) -> None:
    changed = json.loads(json.dumps(SECONDS).replace('"seconds": 3', '"seconds": 0.001'))
    plan = tiny_suites.planned(tmp_path, **changed).plan
    assert {model.recipe.steps for model in plan.models.values()} == {1}


def test_a_step_timed_here_is_a_step_as_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The median after two warm-up steps; the clock is replaced."""
    from moebench.metrics import clock

    steps: list[Any] = []
    times = iter([9.0, 8.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.6])

    def time_call(call: Any, device: str) -> float:
        call()
        steps.append(device)
        return next(times)

    monkeypatch.setattr(clock, "time_call", time_call)
    run = tiny_suites.run_of(tiny_suites.planned(tmp_path))
    assert calibration.time_step(run) == pytest.approx(0.35)
    assert steps == ["cpu"] * calibration.TIMED_STEPS


@pytest.mark.slow
def test_measuring_happens_in_a_process_of_its_own_and_failure_is_told(tmp_path: Path) -> None:
    planned = tiny_suites.planned(tmp_path, **SECONDS)
    assert all(model.recipe.steps > 0 for model in planned.plan.models.values())
    (one, _) = Results(tmp_path / "results").jobs()
    run = Run.model_validate(one.spec()["run"]).model_copy(update={"backend": "no such"})
    job = planned.graph.jobs[0].model_copy(
        update={"kind": "calibrate", "spec": {"run": run.model_dump(mode="json"), "machine": "m"}, "inputs": ()}
    )
    with pytest.raises(machines.CalibrationFailed, match="calibration of moe failed: crash: KeyError"):
        machines._timed({"moe": job}, planned.options)


def test_the_machines_mark_changes_with_what_changes_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machines.machine() == machines.machine()
    assert machines.machine(threads=1).fingerprint != machines.machine(threads=2).fingerprint
    honest = machines.environment
    other = honest(1).model_copy(update={"cpu": "another"})
    before = machines.machine()
    monkeypatch.setattr(machines, "environment", lambda threads: other)
    assert machines.machine().fingerprint != before.fingerprint
