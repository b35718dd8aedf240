"""Jobs with inputs: what runs when, what is blocked, who has the machine alone; and killing all of it."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.launch.process import child_environment
from moebench.metrics import MEASUREMENTS
from moebench.store import Results
from tests.support import fake_runs, tiny_suites
from tests.support.fake_runs import after, launch_fakes, task


def began(root: Path) -> list[tuple[str, str]]:
    """(job, process) in the order in which jobs began."""
    rows = [line.split() for line in (root / "began.log").read_text().splitlines()]
    return [(job_id, pid) for job_id, _, pid in rows]


def test_inputs_come_first_and_what_can_end_soon_before_what_begins(tmp_path: Path) -> None:
    first, second = task(seed=0), task(seed=1)
    jobs = [after(second), after(first), first, second]
    assert set(launch_fakes(jobs, tmp_path, workers=1).values()) == {"completed"}
    assert [job for job, _ in began(tmp_path)] == [first.id, after(first).id, second.id, after(second).id]
    assert len({pid for _, pid in began(tmp_path)}) == 1, "one worker serves them all"


def test_what_starts_from_a_failure_is_blocked_and_says_by_which(tmp_path: Path) -> None:
    bad, good = task("eats", seed=3), task(seed=1)
    measured = after(bad)
    last = after(measured, model="last")
    events: list[dict[str, Any]] = []
    statuses = launch_fakes([bad, measured, last, good, after(good)], tmp_path, on_event=events.append)
    assert statuses == {
        bad.id: "oom", measured.id: "blocked", last.id: "blocked", good.id: "completed", after(good).id: "completed"
    }  # fmt: skip
    reasons = {event["run"]: event["reason"] for event in events if event["event"] == "blocked"}
    assert reasons[measured.id] == "train job of eats seed 3 failed: oom"
    assert reasons[last.id] == (
        "evaluate job (quality) of good seed 3 is blocked: train job of eats seed 3 failed: oom"
    )
    assert {job for job, _ in began(tmp_path)} == {bad.id, good.id, after(good).id}
    assert not Results(tmp_path).job(measured.id).path.exists(), "blocked is never stored"


def test_what_starts_from_a_diverged_run_is_not_run_and_is_no_failure(tmp_path: Path) -> None:
    one = task("diverges")
    events: list[dict[str, Any]] = []
    assert launch_fakes([one, after(one)], tmp_path, on_event=events.append) == {
        one.id: "diverged", after(one).id: "diverged"
    }  # fmt: skip
    assert [event["event"] for event in events if event["event"] in ("blocked", "skipped", "failed")] == ["skipped"]


def test_an_input_that_was_done_before_is_not_done_again(tmp_path: Path) -> None:
    one = task()
    launch_fakes([one], tmp_path)
    assert launch_fakes([after(one)], tmp_path) == {after(one).id: "completed"}
    assert launch_fakes([after(task(seed=7))], tmp_path) == {after(task(seed=7)).id: "blocked"}
    assert [job for job, _ in began(tmp_path)] == [one.id, after(one).id]


def test_an_exclusive_job_has_the_machine_alone(tmp_path: Path) -> None:
    slow = [task("slow", seed=seed) for seed in range(3)]
    alone = [task("slow", seed=seed, exclusive=True) for seed in (10, 11)]
    events: list[dict[str, Any]] = []
    launch_fakes([alone[0], *slow, alone[1]], tmp_path, workers=2, on_event=events.append)
    order = [event["seed"] for event in events if event["event"] == "progress"]
    runs = [seed for n, seed in enumerate(order) if n == 0 or order[n - 1] != seed]
    assert [seed for seed in runs if seed >= 10] == [10, 11], "none is interrupted"
    assert runs[-2:] == [10, 11], "and the others are done"


def test_a_fresh_job_has_a_process_of_its_own(tmp_path: Path) -> None:
    usual = [task(seed=seed) for seed in range(2)]
    fresh = [task(seed=seed, fresh=True, exclusive=True) for seed in (10, 11)]
    launch_fakes([*usual, *fresh, after(usual[0])], tmp_path, workers=1)
    pid = dict(began(tmp_path))
    assert pid[usual[0].id] == pid[usual[1].id] == pid[after(usual[0]).id]
    assert len({pid[usual[0].id], pid[fresh[0].id], pid[fresh[1].id]}) == 3


def test_jobs_of_a_lane_share_workers_with_nobody_else_and_come_last(tmp_path: Path) -> None:
    usual = [task(seed=seed) for seed in range(2)]
    own = [task(seed=seed, lane="own") for seed in (10, 11)]
    launch_fakes([own[0], *usual, own[1], after(usual[1])], tmp_path, workers=1)
    assert {job for job, _ in began(tmp_path)[-2:]} == {own[0].id, own[1].id}
    pid = dict(began(tmp_path))
    assert pid[own[0].id] == pid[own[1].id] != pid[usual[0].id]
    assert len(set(pid.values())) == 2


def test_a_job_may_be_silent_for_as_long_as_it_says(tmp_path: Path) -> None:
    patient, hung = task("naps", silence_s=60.0), task("hangs", seed=1)
    statuses = launch_fakes([patient, hung], tmp_path, timeout_s=1.0, retries=0)
    assert statuses == {patient.id: "completed", hung.id: "timeout"}


def graph_bits(root: Path) -> dict[str, Any]:
    folders = [Results(root).job(job.id) for job in fake_runs.graph()]
    assert [folder.verify() for folder in folders] == [[] for _ in folders]
    return {folder.id: (folder.manifest() or {})["files"] for folder in folders}


def test_a_graph_killed_at_twelve_random_moments_ends_in_the_same_bits(tmp_path: Path) -> None:
    """The whole group by SIGKILL, in training and in what starts from it."""
    launch_fakes(fake_runs.graph(), tmp_path / "calm")
    moments, root = random.Random("graph"), tmp_path / "killed"
    command = [*fake_runs.WORKER, "graph", str(root), "2"]
    for _ in range(12):
        root.mkdir(exist_ok=True)
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment(1), start_new_session=True)
        assert child.stdout is not None
        child.stdout.readline()  # it has begun
        select.select([], [], [], moments.uniform(0, 0.6))
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert set(launch_fakes(fake_runs.graph(), root).values()) == {"completed"}
    assert graph_bits(root) == graph_bits(tmp_path / "calm")
    assert list(root.rglob(".*tmp-*")) == []


def test_a_measurement_added_later_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_suites.write(tmp_path, train={"budget": {"steps": 2}})
    where: dict[str, Any] = {
        "results": tmp_path / "results", "reports": tmp_path / "reports", "launcher": "inline"
    }  # fmt: skip
    memory = MEASUREMENTS["memory"]
    monkeypatch.delitem(MEASUREMENTS, "memory")
    before = api.run(path, **where)
    assert set(before.statuses.values()) == {"completed"}
    files = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in (tmp_path / "results" / "jobs").glob("*/*")}
    monkeypatch.setitem(MEASUREMENTS, "memory", memory)
    events: list[dict[str, Any]] = []
    again = api.run(path, **where, on_event=events.append)
    done = [event for event in events if event["event"] in ("measuring", "progress")]
    assert {(event["job"], event.get("measurement")) for event in done} == {("evaluate", "memory")}
    assert again.started == 4
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files} == files, (
        "weights and all else untouched"
    )
    added = [job for job in again.plan.jobs if job.measurement == "memory"]
    results = Results(tmp_path / "results")
    assert [results.job(job.id).status() for job in added] == ["completed"] * 4
    assert {run.id for run in again.plan.runs} == {run.id for run in before.plan.runs}
