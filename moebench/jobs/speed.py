"""The speed session: fresh processes, one after the other, each racing all models of a suite with trained weights.

The parent starts `python -m moebench.jobs.speed` once per process and seed; the child reads what to do as a line of
JSON on its standard input and writes `speed/<id>/process-<i>.json`. A session that was interrupted goes on with the
processes that are missing, and one that lacked a model goes back to those processes once that model has been trained.
Nothing else of ours runs meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from moebench.data.sources import DataSpec
from moebench.frozen import Frozen
from moebench.launch.process import child_environment
from moebench.launch.scheduler import STOP_S
from moebench.planning.types import Plan, SpeedPlan
from moebench.store import JobFolder, Results, append_lines, read_json, write_json

OnEvent = Callable[[dict[str, Any]], None]


class SpeedTask(Frozen):
    """One process of a session."""

    results: Path
    speed: str
    """Id of the session."""
    process: int
    runs: dict[str, str]
    """Model -> id of the trained run it loads; those at initial values are the session's."""
    data: DataSpec
    base: Path
    threads: int


class SessionFailed(RuntimeError):  # noqa: N818  reads as what happened
    """A process of the session ended without its measurements; the message holds its last words."""


def measure_speed(plan: Plan, *, results_root: Path, base: Path, threads: int, on_event: OnEvent) -> str:
    """Carries out what is missing of a plan's speed session; returns 'completed' or 'already'.

    Raises SessionFailed when a process fails, as it does when not one of its models has been trained, and Busy when
    another moebench is at it.
    """
    assert plan.speed is not None
    results = Results(results_root)
    folder = results.speed(plan.speed.id)
    if not _changed(folder) and folder.status() == "completed" and not _outdated(folder, results):
        return "already"
    with folder.lock():
        if _changed(folder):
            folder.quarantine()
            folder.path.mkdir()
        outdated = _outdated(folder, results)
        for path in (folder.path / "DONE", *outdated):
            path.unlink(missing_ok=True)
        write_json(folder.path / "speed.json", {"plan": plan.speed.model_dump(mode="json")})
        for index, seed in enumerate(plan.speed.processes):
            on_event({"event": "speed", "process": index, "processes": len(plan.speed.processes)})
            path = folder.path / f"process-{index}.json"
            if path.exists():
                continue
            task = SpeedTask(
                results=results_root,
                speed=plan.speed.id,
                process=index,
                runs={run.model: run.id for run in plan.runs if run.seed == seed},
                data=plan.spec.data,
                base=base,
                threads=threads,
            )
            _run_process(task, timeout_s=STOP_S * 4 + 20 * plan.speed.seconds)
            _note(plan, path, results.timed_path(plan.speed.id))
        folder.finish("completed")
    return "completed"


def _note(plan: Plan, process: Path, kept: Path) -> None:
    """Writes down, beside the plans, that a process was timed: a session that is made again was seen before."""
    value = read_json(process)
    timed = {plan.training(name): sorted(value["samples"][name]) for name in plan.models if name in value["samples"]}
    row = {"process": value["process"], "at": time.time(), "machine": value["environment"]["machine"], "timed": timed}
    kept.parent.mkdir(parents=True, exist_ok=True)
    append_lines(kept, [row])


def _changed(folder: JobFolder) -> bool:
    """Whether a finished session is not what was written: its times are then nobody's."""
    return (folder.path / "DONE").exists() and bool(folder.verify())


def _outdated(folder: JobFolder, results: Results) -> list[Path]:
    """Files of processes that are to be run again."""
    return [path for path in sorted(folder.path.glob("process-*.json")) if _lacks(path, results)]


def _lacks(path: Path, results: Results) -> bool:
    """Whether a process's file does not read, or went without a model that has been trained since."""
    try:
        value = read_json(path)
        samples = [seconds for metrics in value["samples"].values() for many in metrics.values() for seconds in many]
        reads = bool(samples) and all(isinstance(seconds, float) for seconds in samples)
        lacking: dict[str, str] = dict(value["missing"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    return not reads or any(results.job(run_id).status() == "completed" for run_id in lacking.values())


def _run_process(task: SpeedTask, *, timeout_s: float) -> None:
    command = [sys.executable, "-P", "-m", "moebench.jobs.speed"]
    environment = child_environment(task.threads)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=environment, bufsize=0
        ) as child,
    ):
        assert child.stdin is not None
        try:
            # Standard input stays open until the child is done: its end tells the child that this process is gone.
            child.stdin.write(task.model_dump_json().encode() + b"\n")
            child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            raise SessionFailed(f"speed process {task.process} was not done after {timeout_s:.0f} s") from None
        except BaseException:
            child.kill()
            raise
        log.seek(0)
        words = log.read().decode(errors="replace").strip()
    if child.returncode != 0:
        last = words.splitlines()[-1] if words else "no last words"
        kept = Results(task.results).keep_log(f"speed-{task.speed}", words + "\n") if words else None
        where = f" (log: {task.results / 'logs' / kept.name})" if kept else ""
        raise SessionFailed(f"speed process {task.process} ended with {child.returncode}: {last}{where}")


# ------------------------------------------------------------------------------------------------ the child


def race_here(task: SpeedTask) -> None:
    """Loads every model, races them, and writes the process's file. Imports torch."""
    import torch

    from moebench.data.prepare import prepare
    from moebench.environment import environment
    from moebench.jobs.measuring import enter, text_of
    from moebench.metrics import speed

    torch.set_num_threads(task.threads)
    results = Results(task.results)
    folder = results.speed(task.speed)
    plan = _speed_plan(folder.path / "speed.json")
    corpus = prepare(task.data, base=task.base, cache=task.results / "data")
    trained = {name: results.job(run) for name, run in task.runs.items()}
    missing = {name: folder.id for name, folder in trained.items() if folder.status() != "completed"}
    if plan.baseline in missing:
        missing[plan.baseline + speed.AGAIN] = missing[plan.baseline]
    seed = plan.processes[task.process]
    names = [name for name in (*plan.models, plan.baseline + speed.AGAIN) if name not in missing]
    if not names:
        raise FileNotFoundError(f"no model has been trained: {', '.join(missing)} with seed {seed}")
    load = [os.getloadavg()[0]]
    share = plan.seconds / len(plan.processes)
    heats = rotated(names, task.process) if plan.apart else [names]
    races = []
    for heat in heats:
        racers = [enter(name, plan, trained, seed=seed) for name in heat]
        seconds = share * len(heat) / len(names)
        races.append(speed.race(racers, plan, text_of(corpus), process=task.process, seconds=seconds))
        device = racers[0].subject.device.type
        del racers
    found = speed.together(races)
    result = {
        "process": task.process,
        "seed": seed,
        "runs": task.runs,
        "environment": environment(task.threads, device).model_dump(mode="json"),
        "load": [*load, os.getloadavg()[0]],
        "missing": missing,
    }
    write_json(folder.path / f"process-{task.process}.json", {**result, **vars(found)})


def rotated(names: list[str], shift: int) -> list[list[str]]:
    """Each name alone, another one first in each process."""
    first = shift % len(names)
    return [[name] for name in names[first:] + names[:first]]


def _speed_plan(path: Path) -> SpeedPlan:
    return SpeedPlan.model_validate(json.loads(path.read_text())["plan"])


def end_with_parent() -> None:
    """Ends this process at once when its standard input ends: whoever was to read its file is gone."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    line = sys.stdin.readline()
    end_with_parent()
    race_here(SpeedTask.model_validate_json(line))
