"""Where runs can go, by name. Another place is one more function and one more line in `LAUNCHERS`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from moebench.jobs.task import Task
from moebench.launch.attempt import carry_out, with_log
from moebench.launch.coordinator import WORKER, Coordinator
from moebench.launch.task import Execute, OnEvent, Stopped, catching, train_run


class Launcher(Protocol):
    """Sees every run to its end; returns run id -> status. Raises Stopped after SIGINT or SIGTERM."""

    def __call__(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        results_root: Path,
        on_event: OnEvent,
        timeout_s: float,
        retries: int,
    ) -> dict[str, str]: ...


def launch(
    tasks: Sequence[Task],
    *,
    workers: int,
    results_root: Path,
    on_event: OnEvent,
    launcher: str = "process",
    timeout_s: float = 600.0,
    retries: int = 1,
) -> dict[str, str]:
    """Carries out the runs that are missing; returns run id -> status, a word of `Outcome` or `Failure`.

    `timeout_s` is how long a run may show no progress before it is killed; `retries` is how often a killed run is
    tried again now. Raises KeyError for an unknown launcher, Stopped after SIGINT or SIGTERM.
    """
    if launcher not in LAUNCHERS:
        raise KeyError(f"unknown launcher {launcher!r}; known: {', '.join(LAUNCHERS)}")
    if len({task.threads for task in tasks}) > 1:
        raise ValueError("runs launched together have the same number of threads")
    once = list({task.id: task for task in tasks}.values())
    root = Path(results_root).resolve()
    start = LAUNCHERS[launcher]
    return start(once, workers=workers, results_root=root, on_event=on_event, timeout_s=timeout_s, retries=retries)


def process(
    tasks: Sequence[Task],
    *,
    workers: int,
    results_root: Path,
    on_event: OnEvent,
    timeout_s: float,
    retries: int,
    command: Sequence[str] = WORKER,
) -> dict[str, str]:
    """In worker processes, which may crash or be killed one at a time."""
    return Coordinator(
        tasks,
        workers=workers,
        results_root=results_root,
        on_event=on_event,
        timeout_s=timeout_s,
        retries=retries,
        command=command,
    ).run()


def inline(
    tasks: Sequence[Task],
    *,
    workers: int,  # noqa: ARG001  this process is the only one
    results_root: Path,
    on_event: OnEvent,
    timeout_s: float,  # noqa: ARG001  nobody watches
    retries: int,  # noqa: ARG001  nothing kills a run and leaves this process
    execute: Execute = train_run,
) -> dict[str, str]:
    """In this process, one after another, for debugging: a crash ends everything, a hang is not noticed."""
    signals: list[int] = []
    statuses: dict[str, str] = {}

    def on_signal(signum: int) -> None:
        signals.append(signum)
        if len(signals) > 1:
            raise KeyboardInterrupt

    with catching(on_signal):
        try:
            for task in tasks:
                end = carry_out(
                    task, root=results_root, execute=execute, on_event=on_event, should_stop=lambda: bool(signals)
                )
                if end["event"] == "failed":
                    end = {**with_log(end, end["traceback"], root=results_root), "retry": False}
                on_event(end)
                if "status" in end:
                    statuses[task.id] = end["status"]
                if signals:
                    break
        except KeyboardInterrupt:
            signals = signals or [2]
    if signals:
        raise Stopped(signals[0], statuses, at_once=len(signals) > 1)
    return statuses


LAUNCHERS: dict[str, Launcher] = {"process": process, "inline": inline}
