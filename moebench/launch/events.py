"""What comes back from a job, and how a stop is told.

A job and its events travel as JSON lines. Events of a job carry its id as `run`, its kind as `job`, `model`, `seed`:

- `progress`: of training, with `step`, `steps`, `loss`, `tokens_per_s`, `phase`; `measuring`, `speed`: of others
- `finished` with `status` completed or diverged; `already` when there was nothing left to do
- `failed` with `status`, `reason`, `last_step`, `traceback`, `log` (a file under `logs/` of the results folder), and
  `retry`: whether it is tried again now
- `blocked` with `reason`: a job that it starts from failed; `skipped`: one diverged
- `waiting`: another moebench is at it; `stopped`: it kept a checkpoint and can go on
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

from moebench.jobs.job import Event as Event
from moebench.jobs.job import OnEvent as OnEvent


class Stopped(Exception):  # noqa: N818  it is no error: the user asked for it
    """SIGINT or SIGTERM ended the launch; what was running kept a checkpoint unless `at_once`."""

    def __init__(self, signum: int, statuses: dict[str, str], *, at_once: bool) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.statuses = statuses
        """Job id -> status of the jobs that had ended."""
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
