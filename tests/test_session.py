"""The speed session: one file a process, taken up where it was left, and nothing left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from moebench import api
from moebench.environment import environment
from moebench.jobs import speed as session
from moebench.jobs.loop import execute
from moebench.jobs.speed import SessionFailed, SpeedTask, measure_speed, race_here
from moebench.reader.evidence import gather
from moebench.store import JobFolder, Results, read_json, read_lines
from tests.support import tiny_suites

SPEED = {"speed": {"train_step": True, "prefill": [8], "decode": {"batch": [2]}, "processes": 3, "seconds": 0.2}}


@pytest.fixture
def made(tmp_path: Path) -> api.Planned:
    return tiny_suites.planned(tmp_path, measure={**SPEED, "memory": False}, train={"budget": {"steps": 2}})


def train(made: api.Planned, *models: str) -> None:
    for planned in made.plan.runs:
        if planned.model in models:
            run = tiny_suites.run_of(made, planned.model, planned.seed)
            execute(
                tiny_suites.job_of(made, run), root=made.results, on_event=lambda _: None, should_stop=lambda: False
            )


def measure(made: api.Planned, on_event: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
    base = made.loaded.base
    return measure_speed(made.plan, results_root=made.results, base=base, threads=1, on_event=on_event)


def folder_of(made: api.Planned) -> JobFolder:
    assert made.plan.speed is not None
    return Results(made.results).speed(made.plan.speed.id)


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes run here instead of in a process of their own; the numbers of those that were."""
    began: list[int] = []

    def here(task: SpeedTask, *, timeout_s: float) -> None:
        began.append(task.process)
        race_here(task)

    monkeypatch.setattr(session, "_run_process", here)
    return began


def test_a_session_is_a_file_for_each_process_and_done_last(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    events: list[dict[str, Any]] = []
    assert measure(made, events.append) == "completed"
    assert raced == [0, 1, 2]
    assert [(event["process"], event["processes"]) for event in events] == [(0, 3), (1, 3), (2, 3)]
    folder = folder_of(made)
    assert (folder.status(), folder.verify()) == ("completed", [])
    for index, seed in enumerate((0, 1, 0)):  # process i takes the i-th seed, and begins anew when they run out
        value = read_json(folder.path / f"process-{index}.json")
        assert (value["process"], value["seed"], value["missing"]) == (index, seed, {})
        assert set(value["samples"]) == {"moe", "dense", "dense~again"} == set(value["derived"])
        assert set(value["samples"]["moe"]) == {
            "speed.train_step_s",
            "speed.prefill_s[tokens=8]",
            "speed.decode_step_s[batch=2]",
        }
        first = ["moe", "dense", "dense~again"][index:] + ["moe", "dense", "dense~again"][:index]
        assert value["order"][:6] == first + first[::-1]
        assert len(value["load"]) == 2
        assert "resident_growth_bytes" not in value, "it would measure the order of loading"
        assert value["environment"]["threads"] == 1
        assert min(value["peak_flops"], value["peak_bandwidth"]) > 0


def test_the_evidence_reads_what_the_session_wrote(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    measure(made)
    again = api.prepare_plan(made.loaded.path, results=made.results)
    stored = Results(made.results).save_plan(again.plan, environment(1))
    evidence = gather(Results(made.results), stored)
    assert (len(evidence.processes), evidence.speed_reason) == (3, None)
    assert evidence.processes[0].values["dense~again"]["speed.train_step_s"] > 0


def test_a_session_is_not_repeated(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    measure(made)
    before = {path: path.stat().st_mtime_ns for path in folder_of(made).path.parent.rglob("*")}
    assert measure(made) == "already"
    assert raced == [0, 1, 2]
    assert {path: path.stat().st_mtime_ns for path in folder_of(made).path.parent.rglob("*")} == before


def test_every_process_is_noted_beside_the_plans_and_stays_so(made: api.Planned, raced: list[int]) -> None:
    """A session that is removed and made again has been seen before."""
    train(made, "moe", "dense")
    measure(made)
    shutil.rmtree(folder_of(made).path)
    measure(made)
    assert made.plan.speed is not None
    rows = read_lines(Results(made.results).timed_path(made.plan.speed.id))
    assert [row["process"] for row in rows] == [0, 1, 2, 0, 1, 2]
    assert all("speed.train_step_s" in rows[0]["timed"][made.plan.training(name)] for name in ("moe", "dense"))
    stored = Results(made.results).save_plan(made.plan, environment(1))
    assert len(gather(Results(made.results), stored).history.sessions) == 1


def test_an_interrupted_session_goes_on_with_what_is_missing(
    made: api.Planned, raced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(made, "moe", "dense")
    willing = session._run_process

    def failing(task: SpeedTask, *, timeout_s: float) -> None:
        if task.process == 1:
            raise SessionFailed("no luck")
        willing(task, timeout_s=timeout_s)

    monkeypatch.setattr(session, "_run_process", failing)
    with pytest.raises(SessionFailed, match="no luck"):
        measure(made)
    assert folder_of(made).status() == "partial"
    first = (folder_of(made).path / "process-0.json").read_bytes()
    monkeypatch.setattr(session, "_run_process", willing)
    assert measure(made) == "completed"
    assert raced == [0, 1, 2]
    assert (folder_of(made).path / "process-0.json").read_bytes() == first


def test_a_model_without_weights_is_left_out_and_raced_once_it_has_them(made: api.Planned, raced: list[int]) -> None:
    train(made, "dense")
    assert measure(made) == "completed"
    value = read_json(folder_of(made).path / "process-0.json")
    assert set(value["samples"]) == {"dense", "dense~again"}
    ids = {(run.model, run.seed): run.id for run in made.plan.runs}
    assert value["missing"] == {"moe": ids["moe", 0]}
    assert measure(made) == "already"
    train(made, "moe")
    assert measure(made) == "completed"
    assert raced == [0, 1, 2, 0, 1, 2]
    value = read_json(folder_of(made).path / "process-0.json")
    assert (set(value["samples"]), value["missing"]) == ({"moe", "dense", "dense~again"}, {})
    assert folder_of(made).verify() == []


def test_a_harmed_session_is_put_aside_and_measured_again(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    measure(made)
    path = folder_of(made).path / "process-1.json"
    harmed = path.read_text().replace("0", "1", 1)
    path.write_text(harmed)
    assert measure(made) == "completed"
    assert raced == [0, 1, 2, 0, 1, 2]
    assert folder_of(made).verify() == []
    aside = folder_of(made).path.with_name(f"{folder_of(made).id}.corrupt-1")
    assert (aside / "process-1.json").read_text() == harmed


@pytest.mark.parametrize("content", ["{", "[]", '{"missing": {}}'])
def test_a_file_of_an_unfinished_session_that_does_not_read_is_made_again(
    made: api.Planned, raced: list[int], content: str
) -> None:
    train(made, "moe", "dense")
    measure(made)
    (folder_of(made).path / "DONE").unlink()
    (folder_of(made).path / "process-1.json").write_text(content)
    assert measure(made) == "completed"
    assert raced == [0, 1, 2, 1]


def test_nothing_trained_fails_with_the_models_named(made: api.Planned, raced: list[int]) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model has been trained: moe, dense, dense~again with seed 0"):
        measure(made)


# ------------------------------------------------------------------------------------------ the process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_of_its_own_writes_its_file_and_tells_why_it_failed(tmp_path: Path) -> None:
    speed = {**SPEED["speed"], "processes": 2}
    made = tiny_suites.planned(tmp_path, measure={"speed": speed, "memory": False}, train={"budget": {"steps": 2}})
    with pytest.raises(SessionFailed, match=r"speed process 0 ended with 1: .*no model has been trained"):
        measure(made)
    train(made, "moe", "dense")
    assert measure(made) == "completed"
    assert folder_of(made).verify() == []


def test_a_process_that_takes_too_long_is_killed(made: api.Planned) -> None:
    folder_of(made).path.mkdir(parents=True)
    with pytest.raises(SessionFailed, match="not done after 0 s"):
        session._run_process(_task(made), timeout_s=0.001)
    assert psutil.Process().children() == []


def test_a_process_ends_with_its_parent() -> None:
    """Its standard input ends when its parent does, however that was."""
    waiting = "import os, sys; from moebench.jobs.speed import end_with_parent; sys.stdin.readline(); end_with_parent()"
    code = f"{waiting}; import threading; threading.Event().wait()"
    child = psutil.Popen([sys.executable, "-c", code], stdin=-1, bufsize=0)
    child.stdin.write(b"a task\n")
    child.stdin.close()
    assert child.wait(timeout=60) == 1


def _task(made: api.Planned) -> SpeedTask:
    assert made.plan.speed is not None
    return SpeedTask(
        results=made.results, speed=made.plan.speed.id, process=0, runs={}, data=made.loaded.spec.data,
        base=made.loaded.base, threads=1,
    )  # fmt: skip
