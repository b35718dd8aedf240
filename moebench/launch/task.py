"""What is handed to a worker, what comes back, and how a stop is told.

A task and its events travel as JSON lines. Events of one run carry its `run` id, `model` and `seed`:

- `progress`: from the run itself, with `step`, `steps`, `loss`, `tokens_per_s`, `phase`
- `finished` with `status` completed or diverged; `already` when there was nothing left to do
- `failed` with `status`, `reason`, `last_step`, and `retry`: whether it is tried again now
- `waiting`: another moebench is at it; `stopped`: it kept a checkpoint and can go on
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Protocol

from moebench.plan import Run
from moebench.records import Frozen
from moebench.spec.types import DataSpec

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class Task(Frozen):
    """One run, and what carrying it out needs beyond its identity."""

    run: Run
    model: str
    """Display name."""
    suite: str
    threads: int
    checkpoint_seconds: float
    data: DataSpec
    base: Path
    """Folder that the data's relative paths start from."""
    routing: bool = True
    """Whether expert load is recorded."""
    memory: bool = True
    """Whether memory is measured."""

    @property
    def id(self) -> str:
        return self.run.id

    def event(self, name: str, **facts: Any) -> Event:
        """An event of this run."""
        return {"event": name, "run": self.id, "model": self.model, "seed": self.run.seed, **facts}


class Execute(Protocol):
    """Carries out one run in its locked folder: 'completed', 'diverged', or 'stopped' when it was asked to."""

    def __call__(self, task: Task, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str: ...


class Stopped(Exception):  # noqa: N818  it is no error: the user asked for it
    """SIGINT or SIGTERM ended the launch; what was running kept a checkpoint unless `at_once`."""

    def __init__(self, signum: int, statuses: dict[str, str], *, at_once: bool) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.statuses = statuses
        """Run id -> status of the runs that had ended."""
        self.at_once = at_once

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signum


@contextmanager
def catching(on_signal: Callable[[int], object], *, alarm: int = -1) -> Iterator[None]:
    """Calls `on_signal` for SIGINT and SIGTERM instead of what they did before, and writes a byte to `alarm`, a socket.

    Signals reach the main thread alone; in another thread this has no effect.
    """
    if current_thread() is not main_thread():
        yield
        return
    caught = (signal.SIGINT, signal.SIGTERM)
    before = {signum: signal.signal(signum, lambda got, _: on_signal(got)) for signum in caught}
    woken = signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def train_run(task: Task, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """The real thing: trains and measures. Imports torch."""
    # not `from moebench import run`: the package offers a function of that name
    from moebench.run import Task as Handed
    from moebench.run import execute

    handed = Handed(
        run=task.run,
        results=root,
        data=task.data,
        base=task.base,
        model=task.model,
        suite=task.suite,
        threads=task.threads,
        checkpoint_seconds=task.checkpoint_seconds,
        routing=task.routing,
        memory=task.memory,
    )
    return execute(handed, on_event=on_event, should_stop=should_stop)
