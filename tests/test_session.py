"""The speed session: one job a process, alone on the machine, redone for a model it lacked."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from moebench import api
from moebench.environment import environment
from moebench.jobs import KINDS, speed
from moebench.jobs.job import Job, OnEvent
from moebench.launch import launch
from moebench.reader.evidence import gather
from moebench.store import JobFolder, Results, read_lines
from tests.support import tiny_suites

SPEED = {"speed": {"train_step": True, "prefill": [8], "decode": {"batch": [2]}, "processes": 3, "seconds": 0.2}}


@pytest.fixture
def made(tmp_path: Path) -> api.Planned:
    return tiny_suites.planned(tmp_path, measure={**SPEED, "memory": False}, train={"budget": {"steps": 2}})


def train(made: api.Planned, *models: str) -> None:
    run(made, [job for job in made.graph.jobs if job.kind == "train" and job.model in models])


def run(made: api.Planned, jobs: Sequence[Job], on_event: OnEvent = lambda _: None) -> dict[str, str]:
    return launch(jobs, replace(made.options, launcher="inline", on_event=on_event))


def measure(made: api.Planned, on_event: OnEvent = lambda _: None) -> list[str]:
    """Carries out the session: the status of each process."""
    jobs = [job for job in made.graph.jobs if job.kind == "speed"]
    statuses = run(made, jobs, on_event)
    return [statuses[job.id] for job in jobs]


def folders_of(made: api.Planned) -> list[JobFolder]:
    return [Results(made.results).job(job.id) for job in made.plan.sessions]


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the processes that were carried out."""
    began: list[int] = []

    def counting(job: Job, **kw: Any) -> str:
        began.append(job.spec["process"])
        return speed.execute(job, **kw)

    monkeypatch.setitem(KINDS, "speed", replace(speed.SPEED, execute=counting))
    return began


def test_a_session_is_a_job_for_each_process(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    events: list[dict[str, Any]] = []
    assert measure(made, events.append) == ["completed"] * 3
    assert raced == [0, 1, 2]
    begun = [event for event in events if event["event"] == "speed"]
    assert [(event["process"], event["processes"]) for event in begun] == [(0, 3), (1, 3), (2, 3)]
    for index, seed in enumerate((0, 1, 0)):  # process i takes the i-th seed, and begins anew when they run out
        folder = folders_of(made)[index]
        assert (folder.status(), folder.verify(), folder.kind) == ("completed", [], "speed")
        value = folder.read("process.json")
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


def test_a_process_has_the_machine_and_a_process_of_its_own(made: api.Planned) -> None:
    jobs = [job for job in made.graph.jobs if job.kind == "speed"]
    assert all(job.exclusive and job.fresh for job in jobs)
    trained = {(job.model, job.seed): job.id for job in made.graph.jobs if job.kind == "train"}
    assert [set(job.inputs) for job in jobs] == [{trained["moe", seed], trained["dense", seed]} for seed in (0, 1, 0)]


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
    before = {path: path.stat().st_mtime_ns for path in made.results.rglob("*") if path.parent.name != ".locks"}
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 1, 2]
    after = {path: path.stat().st_mtime_ns for path in made.results.rglob("*") if path.parent.name != ".locks"}
    assert after == before


def test_every_process_is_noted_beside_the_plans_and_stays_so(made: api.Planned, raced: list[int]) -> None:
    """A session that is removed and made again has been seen before."""
    train(made, "moe", "dense")
    measure(made)
    for folder in folders_of(made):
        shutil.rmtree(folder.path)
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
    willing = KINDS["speed"]

    def failing(job: Job, **kw: Any) -> str:
        if job.spec["process"] == 1:
            raise RuntimeError("no luck")
        return willing.execute(job, **kw)

    monkeypatch.setitem(KINDS, "speed", replace(willing, execute=failing))
    assert measure(made) == ["completed", "crash", "completed"]
    first = (folders_of(made)[0].path / "process.json").read_bytes()
    monkeypatch.setitem(KINDS, "speed", willing)
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 2, 1]
    assert (folders_of(made)[0].path / "process.json").read_bytes() == first


def test_a_model_without_weights_is_left_out_and_raced_once_it_has_them(made: api.Planned, raced: list[int]) -> None:
    train(made, "dense")
    assert measure(made) == ["completed"] * 3
    value = folders_of(made)[0].read("process.json")
    assert set(value["samples"]) == {"dense", "dense~again"}
    ids = {(run.model, run.seed): run.id for run in made.plan.runs}
    assert value["missing"] == {"moe": ids["moe", 0]}
    measure(made)
    assert raced == [0, 1, 2]
    train(made, "moe")
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 1, 2, 0, 1, 2]
    value = folders_of(made)[0].read("process.json")
    assert (set(value["samples"]), value["missing"]) == ({"moe", "dense", "dense~again"}, {})
    assert [folder.verify() for folder in folders_of(made)] == [[], [], []]


def test_a_harmed_process_is_put_aside_and_measured_again(made: api.Planned, raced: list[int]) -> None:
    train(made, "moe", "dense")
    measure(made)
    folder = folders_of(made)[1]
    path = folder.path / "process.json"
    harmed = path.read_text().replace("0", "1", 1)
    path.write_text(harmed)
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 1, 2, 1]
    assert folder.verify() == []
    assert (folder.path.with_name(f"{folder.id}.corrupt-1") / "process.json").read_text() == harmed


@pytest.mark.parametrize("content", ["{", "[]", '{"missing": {}}'])
def test_a_file_of_an_unfinished_process_that_does_not_read_is_made_again(
    made: api.Planned, raced: list[int], content: str
) -> None:
    train(made, "moe", "dense")
    measure(made)
    (folders_of(made)[1].path / "DONE").unlink()
    (folders_of(made)[1].path / "process.json").write_text(content)
    assert measure(made) == ["completed"] * 3
    assert raced == [0, 1, 2, 1]


def test_with_nothing_trained_it_is_blocked_and_says_by_what(made: api.Planned, raced: list[int]) -> None:
    events: list[dict[str, Any]] = []
    assert measure(made, events.append) == ["blocked"] * 3
    assert raced == []
    assert "failed: missing" in events[0]["reason"]
    (job, *_) = [job for job in made.graph.jobs if job.kind == "speed"]
    with pytest.raises(FileNotFoundError, match=r"no model has been trained: moe, dense, dense~again with seed 0"):
        speed.execute(job, root=made.results, on_event=lambda _: None, should_stop=lambda: False)


# ------------------------------------------------------------------------------------------ the process


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_of_its_own_for_each_after_all_else_has_ended(tmp_path: Path) -> None:
    made = tiny_suites.planned(
        tmp_path, seeds=1, measure={"speed": {**SPEED["speed"], "processes": 2}}, train={"budget": {"steps": 2}}
    )
    events: list[dict[str, Any]] = []
    outcome = api.run_planned(
        replace(made, options=replace(made.options, on_event=events.append)), reports=tmp_path / "reports"
    )
    assert (outcome.speed, outcome.failures) == ("completed", ())
    names = [event["event"] for event in events if event["event"] in ("speed", "progress", "measuring")]
    assert names[-2:] == ["speed", "speed"], "nothing else begins after the first"
    assert psutil.Process().children() == []


def test_orders_end_with_their_parent() -> None:
    """A helper's standard input ends when its parent does, however that was."""
    code = "from moebench.launch.spawn import read_order; read_order(); import threading; threading.Event().wait()"
    child = psutil.Popen([sys.executable, "-c", code], stdin=-1, bufsize=0)
    child.stdin.write(b'"an order"\n')
    child.stdin.close()
    assert child.wait(timeout=60) == 1
