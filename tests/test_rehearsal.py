"""How long a plan will take, and budgets in seconds that become steps once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from moebench import api
from moebench.jobs import calibrate as calibration
from moebench.jobs.job import Job
from moebench.jobs.recipe import Run
from moebench.launch import launch
from moebench.launch.attempt import carry_out
from moebench.planning import machine as machines
from moebench.planning import rehearsal
from moebench.planning.rehearsal import GUESSED_FLOPS_PER_S, GUESSED_START_S, side_by_side
from moebench.store import Results, write_json
from tests.support import tiny_suites

in_children = rehearsal._in_children  # before any test replaces it


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Rehearsals take no time and find 2 s for a mixture, 1 s for a dense model, 3 s to start; who was rehearsed."""
    asked: list[list[str]] = []

    def pretend(tasks: list[Job], **kw: Any) -> list[dict[str, Any]]:
        asked.append([task.model for task in tasks])
        return [{"model": one.model, "run_s": 2.0 if one.model == "moe" else 1.0, "start_s": 3.0} for one in tasks]

    monkeypatch.setattr(rehearsal, "_in_children", pretend)
    return asked


def estimate(made: api.Planned, workers: int = 2) -> rehearsal.Estimate:
    return api.estimate(replace(made, options=replace(made.options, workers=workers)))


def finish(made: api.Planned, model: str, seconds: float) -> None:
    """One run of a model, done in so many seconds."""
    run = tiny_suites.run_of(made, model)
    jobs = tiny_suites.jobs_of(made, run)
    for job in jobs:
        carry_out(job, root=made.results, on_event=lambda _: None, should_stop=lambda: False)
        folder = Results(made.results).job(job.id)
        manifest = json.loads((folder.path / "DONE").read_text())
        about = folder.job_json()
        write_json(folder.path / "job.json", {**about, "started": manifest["finished"] - seconds / len(jobs)})
        (folder.path / "DONE").unlink()
        folder.finish("completed")
        again = json.loads((folder.path / "DONE").read_text())
        write_json(folder.path / "DONE", {**again, "finished": manifest["finished"]})


# ------------------------------------------------------------------------------------------ the sum of its parts


@pytest.mark.parametrize(
    ("seconds", "workers", "whole"),
    [([], 2, 0.0), ([5.0], 2, 6.0), ([5.0, 5.0], 1, 11.0), ([5.0, 1.0, 1.0, 1.0], 2, 6.0), ([1.0] * 5, 2, 4.0)],
)
def test_runs_side_by_side_take_as_long_as_the_busiest_worker(seconds: list[float], workers: int, whole: float) -> None:
    """Each worker needs a second to start; one without work is not started."""
    assert side_by_side(seconds, workers=workers, start_s=1.0) == whole


def test_start_up_speed_session_and_report_are_part_of_it(tmp_path: Path, told: list[list[str]]) -> None:
    speed = {"processes": 4, "seconds": 20, "train_step": True}
    made = tiny_suites.planned(tmp_path, seeds=2, measure={"speed": speed}, tune={"lr": [1e-3, 1e-2, 1e-1]})
    found = estimate(made)
    assert told == [["moe", "dense"]]
    assert (found.run_s, found.start_s) == ({"moe": 2.0, "dense": 1.0}, 3.0)
    assert set(found.basis.values()) == {"rehearsed"}
    assert found.runs_s == 3.0 + 2.0 + 1.0  # moe, dense | dense, moe: the first worker's moe, the second's after dense
    assert found.speed_s == pytest.approx(4 * 3.0 + 20)
    assert found.report_s == pytest.approx(3.0 * 0.72)
    assert found.tune_s == pytest.approx(3.0 + 5.0)
    assert found.total_s == pytest.approx(found.runs_s + found.speed_s + found.report_s)


@pytest.mark.parametrize(("at", "share"), [({"share": "25%"}, 0.25), ({"reach": "dense"}, 1.0)])
def test_a_run_that_is_taken_again_takes_its_share(
    tmp_path: Path, told: list[list[str]], at: dict[str, Any], share: float
) -> None:
    """From a quarter of the mixture's run: 2 s of it again with each seed, by steps; by loss perhaps all of it."""
    stage = {"on": {"start": {"model": "moe", "at": at}, "train": {"budget": {"steps": 3}}}}
    models = {**tiny_suites.suite()["models"], **stage}
    before = estimate(tiny_suites.planned(tmp_path), workers=1)
    found = estimate(tiny_suites.planned(tmp_path, models=models), workers=1)
    assert told == [["moe", "dense"], ["on"]]
    assert found.runs_s == pytest.approx(before.runs_s + 2 * (found.run_s["on"] + share * found.run_s["moe"]))


def test_a_rehearsal_is_kept_for_the_machine_and_the_workers(tmp_path: Path, told: list[list[str]]) -> None:
    made = tiny_suites.planned(tmp_path)
    first = estimate(made)
    assert estimate(made) == first
    assert told == [["moe", "dense"], []]
    estimate(made, workers=1)
    assert told[2] == ["moe", "dense"]
    for path in (made.results / "calibration").glob("rehearsal-*.json"):
        path.write_text('{"model": "moe"}')
    assert estimate(made) == first  # what does not read is rehearsed again


# ------------------------------------------------------------------------------------------ what it rests on


def test_finished_runs_tell_more_than_a_rehearsal(tmp_path: Path, told: list[list[str]]) -> None:
    made = tiny_suites.planned(tmp_path, seeds=3)
    finish(made, "moe", 7.0)
    found = estimate(made)
    assert told == [["dense"]]
    assert found.run_s["moe"] == pytest.approx(7.0)
    assert found.basis == {"moe": "finished runs", "dense": "rehearsed"}
    assert found.runs_s == pytest.approx(3.0 + 1.0 + 7.0 + 1.0)  # dense moe dense | moe dense: five are left


def test_what_cannot_be_rehearsed_is_guessed_by_its_flops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_suites.planned(tmp_path)
    flops = {name: model.expected_train_flops for name, model in made.plan.models.items()}
    found = estimate(made)
    assert found.run_s == {name: flops[name] / GUESSED_FLOPS_PER_S for name in flops}
    assert (set(found.basis.values()), found.start_s) == ({"guessed"}, GUESSED_START_S)
    one = {"model": "moe", "run_s": 8.0, "start_s": 1.0}
    monkeypatch.setattr(rehearsal, "_in_children", lambda *_, **__: [one])
    found = estimate(made)
    assert found.basis == {"moe": "rehearsed", "dense": "guessed"}
    assert found.run_s["dense"] == pytest.approx(8.0 * flops["dense"] / flops["moe"])


def test_a_folder_that_is_not_for_writing_can_be_planned_in(
    tmp_path: Path, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(rehearsal, "write_json", refuse)
    assert set(estimate(tiny_suites.planned(tmp_path)).basis.values()) == {"rehearsed"}


# ------------------------------------------------------------------------------------------ the rehearsal itself


@pytest.mark.slow
def test_every_model_is_rehearsed_in_processes_that_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_in_children", in_children)
    made = tiny_suites.planned(tmp_path)
    found = estimate(made)
    assert set(found.basis.values()) == {"rehearsed"}
    assert all(0 < seconds < 60 for seconds in (*found.run_s.values(), found.start_s))
    assert not (made.results / "jobs").exists()
    assert psutil.Process().children() == []


@pytest.mark.slow
def test_models_that_fail_or_take_too_long_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_suites.planned(tmp_path, seeds=1)
    good, bad = (job for job in made.graph.jobs if job.kind == "train")
    spoilt = {**bad.spec, "kernels": "fused", "backend": "no such", "architecture": good.spec["architecture"]}
    bad = bad.model_copy(update={"spec": spoilt})
    told = in_children([good, bad], root=made.results, threads=1, workers=1)
    assert [one["model"] for one in told] == [good.model]
    monkeypatch.setattr(rehearsal, "AT_MOST_S", 0.01)
    assert in_children([good], root=made.results, threads=1, workers=1) == []
    assert psutil.Process().children() == []


# ----------------------------------------------------------------------------------------------------
# Budgets in seconds become steps once.


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
    planned = tiny_suites.planned(tmp_path, models={"moe": SECONDS["models"]["moe"]})
    assert planned.plan.decoders["moe"].recipe.steps > 0
    (one,) = Results(tmp_path / "results").jobs()
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
