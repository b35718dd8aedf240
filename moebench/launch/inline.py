"""Jobs in this process, one after another, for debugging: a crash ends everything, a hang is not noticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from moebench.jobs.job import Job
from moebench.jobs.kind import Execute
from moebench.launch.attempt import carry_out, execute_kind
from moebench.launch.events import Event
from moebench.launch.options import LaunchOptions
from moebench.launch.place import Place, Worker
from moebench.store import Failure


class Here(Worker):
    """This process as a worker."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def give(self, job: Job) -> None:
        pass  # it is carried out when the place is waited for

    def ask_to_stop(self) -> None:
        self.retired = True

    def retire(self) -> None:
        self.retired = True

    def read(self) -> list[Event] | None:
        events, self.events = self.events, []
        return events or None

    def ended(self) -> bool:
        return self.retired and self.job is None

    def kill(self) -> None:
        pass

    def reap(self) -> None:
        pass

    def post_mortem(self) -> tuple[Failure, str, str]:
        return "killed", "stopped at once", ""


class InlinePlace(Place):
    """This process."""

    runs_here = True

    def __init__(
        self, options: LaunchOptions, *, is_stopping: Callable[[], bool], execute: Execute = execute_kind
    ) -> None:
        super().__init__(options, is_stopping=is_stopping)
        self._execute = execute
        self._worker = Here()

    @property
    def num_workers(self) -> int:
        return 1

    def start(self, job: Job) -> Worker:  # noqa: ARG002  any job
        self._worker = Here()
        return self._worker

    def wait(self, seconds: float) -> Iterable[Worker]:
        worker = self._worker
        if worker.job is None and not worker.retired:
            time.sleep(seconds)
        elif worker.job is not None:
            end = carry_out(
                worker.job,
                root=self.options.root,
                execute=self._execute,
                on_event=self.options.on_event,
                should_stop=self.is_stopping,
            )
            worker.events.append({**end, "retry": False} if end["event"] == "failed" else end)
        return [worker]
