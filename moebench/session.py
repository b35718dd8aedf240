"""The speed session: fresh processes, one after the other, each racing all models of a suite with trained weights.

The parent starts `python -m moebench.session` once per process and seed; the child reads what to do as JSON on its
standard input and writes `speed/<id>/process-<i>.json`. A session that was interrupted goes on with the processes that
are missing. Nothing else of ours runs meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moebench.launch.child import child_environment
from moebench.launch.coordinator import STOP_S
from moebench.plan import Plan
from moebench.records import Frozen
from moebench.spec.types import DataSpec
from moebench.store import Results, write_json

OnEvent = Callable[[dict[str, Any]], None]


class SpeedTask(Frozen):
    """One process of a session."""

    results: Path
    speed: str
    """Id of the session."""
    process: int
    runs: dict[str, str]
    """Model -> id of the trained run it loads."""
    data: DataSpec
    base: Path
    threads: int


class SessionFailed(RuntimeError):  # noqa: N818  reads as what happened
    """A process of the session ended without its measurements; the message holds its last words."""


def measure_speed(plan: Plan, *, results_root: Path, base: Path, threads: int, on_event: OnEvent) -> str:
    """Carries out what is missing of a plan's speed session; returns 'completed' or 'already'.

    Raises SessionFailed when a process fails, Busy when another moebench is at it, and FileNotFoundError with the
    missing runs when not one model of a process has been trained.
    """
    assert plan.speed is not None
    folder = Results(results_root).speed(plan.speed.id)
    if folder.status() == "completed":
        return "already"
    with folder.lock():
        write_json(folder.path / "speed.json", {"plan": plan.speed.model_dump(mode="json")})
        for index, seed in enumerate(plan.speed.processes):
            on_event({"event": "speed", "process": index, "processes": len(plan.speed.processes)})
            if (folder.path / f"process-{index}.json").exists():
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
        folder.finish("completed")
    return "completed"


def _run_process(task: SpeedTask, *, timeout_s: float) -> None:
    command = [sys.executable, "-P", "-m", "moebench.session"]
    environment = child_environment(task.threads)
    # The child dies with this process: it notices the end of its standard input, which stays open till it is done.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True
    ) as child:
        try:
            _, words = child.communicate(task.model_dump_json(), timeout=timeout_s)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        last = words.strip().splitlines()[-1] if words.strip() else "no last words"
        raise SessionFailed(f"speed process {task.process} ended with {child.returncode}: {last}")


# ------------------------------------------------------------------------------------------------ the child


def race_here(task: SpeedTask) -> None:
    """Loads every model, races them, and writes the process's file. Imports torch."""
    import psutil
    import torch

    from moebench.data import prepare
    from moebench.environment import environment
    from moebench.metrics import speed

    torch.set_num_threads(task.threads)
    results = Results(task.results)
    folder = results.speed(task.speed)
    plan = _speed_plan(folder.path / "speed.json")
    corpus = prepare(task.data, base=task.base, cache=task.results / "data")
    this_process, racers, growth, missing = psutil.Process(), [], {}, {}
    for name in (*plan.models, plan.baseline + speed.AGAIN):
        before = this_process.memory_info().rss
        run_folder = results.run(task.runs[name.removesuffix(speed.AGAIN)])
        if run_folder.status() != "completed":
            missing[name] = f"run {run_folder.id} is {run_folder.status()}"
            continue
        racers.append(speed.load_racer(name, run_folder))
        growth[name] = this_process.memory_info().rss - before
    if not racers:
        raise FileNotFoundError(f"no model has been trained: {missing}")
    load = [os.getloadavg()[0]]
    share = plan.seconds / len(plan.processes)
    found = speed.race(racers, plan, corpus, process=task.process, seconds=share)
    about = {
        "process": task.process,
        "seed": plan.processes[task.process],
        "environment": environment(task.threads).model_dump(mode="json"),
        "load": [*load, os.getloadavg()[0]],
        "resident_growth_bytes": growth,
        "missing": missing,
    }
    write_json(folder.path / f"process-{task.process}.json", {**about, **vars(found)})


def _speed_plan(path: Path) -> Any:
    from moebench.plan import SpeedPlan

    return SpeedPlan.model_validate(json.loads(path.read_text())["plan"])


if __name__ == "__main__":
    race_here(SpeedTask.model_validate_json(sys.stdin.read()))
