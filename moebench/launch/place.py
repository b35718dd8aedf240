"""What the scheduler asks of a place where jobs can go: to start a worker, hear it, and stop it. It decides nothing.

A place is one file: a subclass of `Worker`, a subclass of `Place`, and a line in `LAUNCHERS`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType

from moebench.jobs.job import Job
from moebench.launch.events import Event
from moebench.launch.options import LaunchOptions
from moebench.store import Failure


class LauncherMissing(RuntimeError):  # noqa: N818  the name is read in `except LauncherMissing`
    """A place that cannot be reached, or whose package is not installed; the message says what to do."""


class Worker(ABC):
    """One worker: it carries out one job at a time, and many in turn."""

    def __init__(self) -> None:
        self.job: Job | None = None
        """What it is at, None when it waits for a job."""
        self.heard = time.monotonic()
        """When it last gave a sign of life."""
        self.last_step: int | None = None
        self.retired = False
        """It takes no more jobs and is about to end."""
        self.is_used = False
        """Whether it has had a job."""
        self.lane: str | None = None
        """That of its jobs, once it has had one."""
        self.is_hung = False
        """Whether it was killed for its silence."""

    @abstractmethod
    def give(self, job: Job) -> None:
        """Hands it a job. The scheduler has set `job`."""

    @abstractmethod
    def ask_to_stop(self) -> None:
        """Asks for a checkpoint and an end."""

    @abstractmethod
    def retire(self) -> None:
        """Lets an idle worker go."""

    @abstractmethod
    def read(self) -> list[Event] | None:
        """The events that have come, None after the last. Raises ValueError for what is no event."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether it is gone, even if nothing was heard of it."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it and everything it started, at once."""

    @abstractmethod
    def reap(self) -> None:
        """Waits for its end, which is near, and lets go of what it held."""

    @abstractmethod
    def post_mortem(self) -> tuple[Failure, str, str]:
        """What it died of: kind, reason in one line, and its last words. Called before `reap`."""

    def log(self) -> str:
        """What it wrote since it was given its job."""
        return ""


class Place(ABC):
    """Where the workers of one launch are. Entered once, before the first worker starts."""

    alarm: int = -1
    """A socket that a signal writes a byte to, so that `wait` returns; none where `wait` runs the jobs itself."""
    is_local = True
    """Whether jobs run on this machine, so that what they need must be here."""
    runs_here = False
    """Whether jobs run in this very process: the second signal then interrupts them."""

    def __init__(self, options: LaunchOptions, *, is_stopping: Callable[[], bool]) -> None:
        self.options = options
        self.is_stopping = is_stopping
        """Whether a signal has asked for an end."""

    @property
    def num_workers(self) -> int:
        """Workers at a time."""
        return self.options.num_workers

    @abstractmethod
    def start(self, job: Job) -> Worker:
        """Starts a worker that can carry out this job and others of its threads and device."""

    @abstractmethod
    def wait(self, seconds: float) -> Iterable[Worker]:
        """Workers that have something to say, after at most so long."""

    def forget(self, worker: Worker) -> None:  # noqa: B027  not every place keeps a list
        """A worker has ended: it has nothing more to say."""

    def __enter__(self) -> Place:
        return self

    def __exit__(  # noqa: B027  not every place holds something
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of what the place holds; its workers are gone."""
