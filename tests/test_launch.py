"""Launching: whatever happens to one run, the others finish, and it goes on to the same bits later."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from moebench.launch import LAUNCHERS, Job, LaunchOptions, Stopped, launch
from moebench.launch.attempt import classify
from moebench.launch.inline import InlinePlace
from moebench.launch.process import ProcessPlace, child_environment
from moebench.launch.scheduler import Scheduler
from moebench.store import Checkpoints, JobFolder, Results
from tests.support import fake_runs
from tests.support.fake_runs import CHECKPOINT_EVERY, WORKER, launch_fakes, task


class Ear:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def steps(self, of: Job) -> list[int]:
        return [event["step"] for event in self.named("progress") if event["run"] == of.id]


class Killer(Ear):
    """Kills the worker of a doomed run at every step where it waits for that; lets it pass the next time, or never."""

    def __init__(self, root: Path, *, spares: bool = True) -> None:
        super().__init__()
        self._root, self._spares = root, spares

    def __call__(self, event: dict[str, Any]) -> None:
        super().__call__(event)
        if event["event"] == "progress" and event["model"] == "doomed" and event["step"] % 6 == 2:
            spared = fake_runs.spared(self._root / "jobs" / event["run"], event["step"])
            if not spared.exists():
                os.kill(event["pid"], signal.SIGKILL)
                if self._spares:
                    spared.touch()


def run_folder(root: Path, of: Job) -> JobFolder:
    return Results(root).job(of.id)


def bits(root: Path, of: Job) -> Any:
    """What must not depend on what happened on the way: every file's hash."""
    folder = run_folder(root, of)
    assert folder.verify() == []
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(["DONE", *folder.manifest()["files"]])
    return folder.manifest()["files"]


def undisturbed(tmp_path: Path, tasks: Sequence[Job]) -> list[Any]:
    """What the same runs give when nothing happens to them: how they misbehave is no part of their identity."""
    root, calm = tmp_path / "undisturbed", [one.model_copy(update={"model": "good"}) for one in tasks]
    launch_inline(calm, root, Ear())
    return [bits(root, one) for one in tasks]


def touched(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


def alive(process: psutil.Process) -> bool:
    """Zombies are dead: only their new parent has not looked yet."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True)
def _no_worker_outlives_its_launch() -> Iterator[None]:
    yield
    assert [child for child in psutil.Process().children(recursive=True) if alive(child)] == []


# ------------------------------------------------------------------------------------------ all is well


def test_every_run_finishes_and_few_workers_serve_many_runs(tmp_path: Path) -> None:
    tasks = [task(seed=seed) for seed in range(6)]
    ear = Ear()
    statuses = launch_fakes(tasks, tmp_path, on_event=ear)
    assert statuses == {one.id: "completed" for one in tasks}
    assert len({event["pid"] for event in ear.named("progress")}) <= 2
    assert Counter(event["run"] for event in ear.named("finished")) == {one.id: 1 for one in tasks}
    assert [bits(tmp_path, one) for one in tasks] == undisturbed(tmp_path, tasks)


def test_a_second_launch_starts_nothing_and_touches_nothing(tmp_path: Path) -> None:
    tasks = [task(), task("diverges")]
    launch_fakes(tasks, tmp_path)
    before = touched(tmp_path)
    statuses = launch_fakes(tasks, tmp_path, command=["no-such-program"])
    assert statuses == {tasks[0].id: "completed", tasks[1].id: "diverged"}
    assert touched(tmp_path) == before


def test_two_names_of_one_run_are_one_run(tmp_path: Path) -> None:
    one = task()
    twin = one.model_copy(update={"model": "twin"})
    statuses = launch([one, twin], LaunchOptions(workers=1, results=tmp_path, on_event=Ear(), launcher="fake"))
    assert statuses == {one.id: "completed"}


@pytest.fixture(autouse=True)
def _fake_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAUNCHERS, "fake", partial(ProcessPlace, command=WORKER))


def test_unknown_launchers_and_mixed_thread_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="known: process, inline"):
        launch([], LaunchOptions(results=tmp_path, launcher="cluster"))
    with pytest.raises(ValueError, match="same number of threads"):
        launch([task(), task(seed=1, threads=2)], LaunchOptions(results=tmp_path))


def test_threads_are_pinned_before_anything_is_imported(tmp_path: Path) -> None:
    one = task("env:OMP_NUM_THREADS,MKL_NUM_THREADS", threads=3)
    launch_fakes([one], tmp_path)
    seen = json.loads((run_folder(tmp_path, one).path / "seen.json").read_text())
    assert seen == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}
    assert child_environment(2)["OPENBLAS_NUM_THREADS"] == "2"


def test_what_a_library_prints_is_no_event(tmp_path: Path) -> None:
    ear = Ear()
    assert launch_fakes([task("chatty")], tmp_path, on_event=ear) == {task("chatty").id: "completed"}
    assert {event["event"] for event in ear.events} == {"progress", "finished"}


def test_neither_coordinator_nor_idle_worker_loads_torch() -> None:
    code = "import sys, moebench.launch, moebench.launch.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=child_environment(1)).returncode == 0


# ------------------------------------------------------------------------------------------ one run goes wrong


@pytest.mark.parametrize(
    ("model", "status", "reason"),
    [
        ("exits", "crash", "exit code 3; its last words: I have had enough"),
        ("sysexits", "crash", "SystemExit: 4"),
        ("segfaults", "crash", "died of SIGSEGV"),
        ("raises", "crash", "RuntimeError: a wrong turn"),
        ("eats", "oom", "MemoryError"),
        ("eats_gpu", "oom", "OutOfMemoryError: CUDA out of memory"),
        ("fills", "disk_full", "File too large"),
        ("lies", "crash", "RuntimeError: the job says completed"),
    ],
)
def test_a_bad_run_is_recorded_and_the_good_ones_finish(tmp_path: Path, model: str, status: str, reason: str) -> None:
    bad, good = task(model), [task(seed=seed) for seed in range(2)]
    ear = Ear()
    statuses = launch_fakes([good[0], bad, good[1]], tmp_path, workers=1, on_event=ear)
    assert statuses == {bad.id: status, **{one.id: "completed" for one in good}}
    [failed] = ear.named("failed")
    assert failed["status"] == status
    assert reason in failed["reason"]
    assert failed["retry"] is False
    failure = run_folder(tmp_path, bad).failure()
    assert failure is not None
    assert (failure["status"], failure["reason"], failure["attempts"]) == (status, failed["reason"], 1)
    assert failure["last_step"] == (20 if model == "lies" else 7)
    assert run_folder(tmp_path, bad).status() == "failed"
    assert reason.split("; its last words: ")[-1] in (tmp_path / "logs" / failed["log"]).read_text()
    found = Checkpoints(run_folder(tmp_path, bad)).load()
    assert found is not None
    assert found[0] == (20 if model == "lies" else 5)


def test_hung_and_suspended_runs_are_killed_with_what_they_started(tmp_path: Path) -> None:
    hung, suspended, good = task("hangs"), task("suspends"), task()
    statuses = launch_fakes([hung, suspended, good], tmp_path, timeout_s=5.0)
    assert statuses == {hung.id: "timeout", suspended.id: "timeout", good.id: "completed"}
    failure = run_folder(tmp_path, hung).failure()
    assert failure is not None
    assert failure["reason"] == "no progress for 5 s"
    offspring = int((tmp_path / "offspring.pid").read_text())
    assert not psutil.pid_exists(offspring) or not alive(psutil.Process(offspring))


def test_divergence_is_an_outcome_and_not_tried_again(tmp_path: Path) -> None:
    ear = Ear()
    one = task("diverges")
    assert launch_fakes([one], tmp_path, on_event=ear) == {one.id: "diverged"}
    assert ear.named("failed") == []
    assert ear.steps(one) == list(range(1, 21))


@pytest.mark.parametrize("model", ["fails_once", "terminated_once"])
def test_an_io_error_and_a_foreign_sigterm_are_tried_again_from_the_checkpoint(tmp_path: Path, model: str) -> None:
    one, ear = task(model), Ear()
    assert launch_fakes([one], tmp_path, on_event=ear) == {one.id: "completed"}
    assert [event["retry"] for event in ear.named("failed")] == [True]
    resumed = 5 if model == "fails_once" else 7
    assert ear.steps(one) == [*range(1, 8), *range(resumed + 1, 21)]
    assert run_folder(tmp_path, one).failure() is None


@pytest.mark.parametrize(
    ("error", "kind", "retry"),
    [
        (MemoryError(), "oom", False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "oom", False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom", False),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full", False),
        (Exception("I/O error: File too large (os error 27)"), "disk_full", False),
        (OSError(errno.EIO, "Input/output error"), "crash", True),
        (FileNotFoundError(errno.ENOENT, "No such file"), "crash", False),
        (ValueError("out of memory is only a phrase here"), "crash", False),
    ],
)
def test_failures_have_names(error: Exception, kind: str, retry: bool) -> None:
    assert classify(error) == (kind, retry)


# ------------------------------------------------------------------------------------------ kills


def test_runs_killed_again_and_again_end_in_the_same_bits(tmp_path: Path) -> None:
    tasks = [task("doomed", seed=seed, steps=40) for seed in range(3)]
    ear, kills = Killer(tmp_path), 3 * len(range(2, 40, 6))
    assert kills >= 20
    assert launch_fakes(tasks, tmp_path, on_event=ear, retries=kills) == {one.id: "completed" for one in tasks}
    assert [event["status"] for event in ear.named("failed")] == ["killed"] * kills
    assert [bits(tmp_path, one) for one in tasks] == undisturbed(tmp_path, tasks)
    for one in tasks:
        redone = [before + 1 - after for before, after in itertools.pairwise(ear.steps(one))]
        assert max(redone) <= CHECKPOINT_EVERY


def test_a_run_killed_more_often_than_it_may_is_given_up_and_taken_up_next_time(tmp_path: Path) -> None:
    one, other = task("doomed", steps=10), task()
    ear = Killer(tmp_path, spares=False)
    fake_runs.spared(run_folder(tmp_path, one).path, 2).touch()
    assert launch_fakes([one, other], tmp_path, on_event=ear, retries=2) == {one.id: "killed", other.id: "completed"}
    assert [event["retry"] for event in ear.named("failed")] == [True, True, False]
    failure = run_folder(tmp_path, one).failure()
    assert failure is not None
    assert (failure["status"], failure["attempts"], failure["last_step"]) == ("killed", 3, 8)
    fake_runs.spared(run_folder(tmp_path, one).path, 8).touch()
    again = Ear()
    assert launch_fakes([one, other], tmp_path, on_event=again) == {one.id: "completed", other.id: "completed"}
    assert again.steps(one) == list(range(6, 11))


@pytest.mark.parametrize(
    "fault",
    [
        *(f"tmp_written:{nth}" for nth in (1, 2, 3, 10, 11)),
        *(f"replaced:{nth}" for nth in (1, 2, 10, 11)),
        *("appended:1", "appended:6", "before_done:1"),
    ],
)
def test_killed_between_a_temporary_file_and_its_place_it_ends_in_the_same_bits(tmp_path: Path, fault: str) -> None:
    one = task()
    faulty = ["env", f"MOEBENCH_FAULT={fault}", *WORKER]
    assert launch_fakes([one], tmp_path, retries=0, command=faulty) == {one.id: "killed"}
    assert launch_fakes([one], tmp_path) == {one.id: "completed"}
    assert [bits(tmp_path, one)] == undisturbed(tmp_path, [one])


def test_a_spoilt_finished_run_is_put_aside_and_done_again(tmp_path: Path) -> None:
    one = task()
    launch_fakes([one], tmp_path)
    weights = run_folder(tmp_path, one).path / "model.safetensors"
    weights.write_bytes(bytes(reversed(weights.read_bytes())))  # the size fits, the contents do not
    ear = Ear()
    assert launch_fakes([one], tmp_path, on_event=ear) == {one.id: "completed"}
    assert ear.steps(one) == list(range(1, 21))
    assert [bits(tmp_path, one)] == undisturbed(tmp_path, [one])
    assert (tmp_path / "jobs" / f"{one.id}.corrupt-1" / "model.safetensors").exists()


def test_a_copy_of_another_run_is_put_aside_and_the_run_is_done(tmp_path: Path) -> None:
    one, other = task("good"), task("good", seed=1)
    launch_fakes([one, other], tmp_path)
    runs = tmp_path / "jobs"
    shutil.rmtree(runs / other.id)
    shutil.copytree(runs / one.id, runs / other.id)
    assert launch_fakes([one, other], tmp_path) == {one.id: "completed", other.id: "completed"}
    assert (runs / f"{other.id}.corrupt-1" / "model.safetensors").exists()
    assert not (runs / f"{one.id}.corrupt-1").exists()
    assert Results(tmp_path).job(other.id).spec()["seed"] == 1


# ------------------------------------------------------------------------------------------ coordinators


class Coordinator:
    """A coordinator in a process group of its own, as a terminal would start it."""

    def __init__(self, root: Path, *models: str, workers: int = 2) -> None:
        command = [*WORKER, "launch", str(root), str(workers), *models]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=child_environment(1), start_new_session=True
        )
        self.events: list[dict[str, Any]] = []
        self.family: list[psutil.Process] = []

    def until(self, name: str, *, runs: int = 1, step: int = 0) -> None:
        """Reads on until that many runs have told of such an event, at that step or later."""
        assert self.process.stdout is not None
        told: set[str] = set()
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == name and event.get("step", step) >= step:
                told.add(event["run"])
            if len(told) >= runs:
                self.family = psutil.Process(self.process.pid).children(recursive=True)
                return
        raise AssertionError(f"it ended before {name}: {self.events[-3:]}")

    def end(self) -> int:
        """Reads the rest, checks that nothing is left of it, and returns its exit code."""
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout if line.endswith("}\n")]
        self.process.stdout.close()
        code = self.process.wait(timeout=30)
        deadline = time.monotonic() + 10
        while (left := [one for one in self.family if alive(one)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert left == []
        return code


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_checkpoints_and_the_next_launch_goes_on(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    tasks = [task("slow", seed=0, steps=100), task("slow", seed=1, steps=100)]
    coordinator = Coordinator(tmp_path, "slow", "slow")
    coordinator.until("progress", runs=2, step=7)
    os.killpg(coordinator.process.pid, signum)
    assert coordinator.end() == code
    assert {event["run"] for event in coordinator.events if event["event"] == "stopped"} == {one.id for one in tasks}
    for one in tasks:
        folder = run_folder(tmp_path, one)
        last = max(event["step"] for event in coordinator.events if event["run"] == one.id and "step" in event)
        found = Checkpoints(folder).load()
        assert found is not None
        assert found[0] == last
        assert folder.failure() is None
        assert folder.status() == "partial"


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path, "deaf")
    coordinator.until("progress", step=7)
    os.killpg(coordinator.process.pid, signal.SIGINT)
    os.killpg(coordinator.process.pid, signal.SIGTERM)  # another one: two alike might be delivered as one
    assert coordinator.end() == 130


@pytest.mark.parametrize("model", ["deaf", "suspends", "slow"])
def test_workers_do_not_outlive_a_killed_coordinator(tmp_path: Path, model: str) -> None:
    coordinator = Coordinator(tmp_path, model, workers=1)
    coordinator.until("progress", step=7)
    coordinator.process.kill()
    assert coordinator.end() == -signal.SIGKILL


def test_a_whole_group_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    tasks = [task("slow", seed=seed, steps=100) for seed in range(2)]
    for step in (2, 12, 13, 25, 40):
        coordinator = Coordinator(tmp_path, "slow", "slow")
        coordinator.until("progress", step=step)
        os.killpg(coordinator.process.pid, signal.SIGKILL)
        assert coordinator.end() == -signal.SIGKILL
    coordinator = Coordinator(tmp_path, "slow", "slow")
    assert coordinator.end() == 0
    assert [bits(tmp_path, one) for one in tasks] == undisturbed(tmp_path, tasks)


def test_two_coordinators_never_do_one_run_twice(tmp_path: Path) -> None:
    models = ["good"] * 8
    tasks = [task("good", seed=seed) for seed in range(8)]
    both = [Coordinator(tmp_path, *models), Coordinator(tmp_path, *models)]
    assert [coordinator.end() for coordinator in both] == [0, 0]
    began = [line.split()[0] for line in (tmp_path / "began.log").read_text().splitlines()]
    assert Counter(began) == {one.id: 1 for one in tasks}
    for coordinator in both:
        assert {event["run"] for event in coordinator.events if event["event"] == "finished"} == {t.id for t in tasks}


def test_an_error_in_the_listener_takes_the_workers_down(tmp_path: Path) -> None:
    def listen(event: dict[str, Any]) -> None:
        raise LookupError(event["event"])

    with pytest.raises(LookupError, match="progress"):
        launch_fakes([task("slow")], tmp_path, on_event=listen)
    assert [child for child in psutil.Process().children() if alive(child)] == []


# ------------------------------------------------------------------------------------------ inline


def launch_inline(tasks: Sequence[Job], root: Path, ear: Any) -> dict[str, str]:
    how = LaunchOptions(workers=1, results=root, on_event=ear, timeout_s=1, retries=0)
    return Scheduler(tasks, how, partial(InlinePlace, execute=fake_runs.execute)).run()


def test_inline_does_the_same_in_this_process(tmp_path: Path) -> None:
    tasks, ear = [task(), task("raises"), task(seed=1)], Ear()
    assert list(launch_inline(tasks, tmp_path, ear).values()) == ["completed", "crash", "completed"]
    assert {event["pid"] for event in ear.named("progress")} == {os.getpid()}
    assert launch_fakes([tasks[0]], tmp_path / "other") == {tasks[0].id: "completed"}
    assert bits(tmp_path, tasks[0]) == bits(tmp_path / "other", tasks[0])
    again = Ear()
    assert launch_inline([tasks[0]], tmp_path, again) == {tasks[0].id: "completed"}
    assert [(event["event"], event.get("already")) for event in again.events] == [("finished", True)]


def test_inline_ctrl_c_checkpoints_and_a_second_one_ends_it_at_once(tmp_path: Path) -> None:
    one = task()

    def interrupt(event: dict[str, Any]) -> None:
        if event.get("step") == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stop:
        launch_inline([one, task(seed=1)], tmp_path, interrupt)
    assert (stop.value.exit_code, stop.value.at_once, stop.value.statuses) == (130, False, {})
    found = Checkpoints(run_folder(tmp_path, one)).load()
    assert found is not None
    assert found[0] == 7

    def interrupt_twice(event: dict[str, Any]) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stop:
        launch_inline([one], tmp_path, interrupt_twice)
    assert (stop.value.exit_code, stop.value.at_once) == (143, True)
    assert launch_inline([one], tmp_path, Ear()) == {one.id: "completed"}
