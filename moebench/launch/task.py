"""What is handed to a worker, what comes back, and how a stop is told.

A task and its events travel as JSON lines. Events of one run carry its `run` id, `model` and `seed`:

- `progress`: from the run itself, with `step`, `steps`, `loss`, `tokens_per_s`, `phase`
- `finished` with `status` completed or diverged; `already` when there was nothing left to do
- `failed` with `status`, `reason`, `last_step`, `traceback`, `log` (a file under `logs/` of the results folder), and
  `retry`: whether it is tried again now
- `waiting`: another moebench is at it; `stopped`: it kept a checkpoint and can go on
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Protocol

from moebench.jobs.task import Task

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


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
    from moebench.jobs.train import execute

    return execute(task, root=root, on_event=on_event, should_stop=should_stop)
