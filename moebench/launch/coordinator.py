"""Shares runs out among worker processes and outlives whatever happens to them.

One loop waits on the workers' pipes and on signals; it never spins. A worker that dies, or is silent for too long and
is therefore killed, costs its run one attempt and nobody else anything. A run that was killed is tried again from its
checkpoint; one that crashed of itself would crash again and is left for another day. The first SIGINT or SIGTERM asks
every worker for a checkpoint, the second kills them.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from moebench.jobs.task import Task
from moebench.launch.attempt import finished, with_log
from moebench.launch.child import Child
from moebench.launch.task import Event, OnEvent, Stopped, catching
from moebench.store import Busy, Failure, Results

WORKER = (sys.executable, "-P", "-m", "moebench.launch")
"""Command of a worker. `-P`: a file in the user's folder must not stand in for a module."""
STOP_S = 60.0
"""How long workers may take to write a checkpoint when asked to stop."""
_BUSY_S = 1.0
"""How soon a run that another moebench holds is asked for again."""
_LOOK_S = 5.0
"""Longest wait before looking whether a worker is gone that left its pipe open to something it had started."""


class Coordinator:
    """One launch over worker processes."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        workers: int,
        results_root: Path,
        on_event: OnEvent,
        timeout_s: float,
        retries: int,
        command: Sequence[str] = WORKER,
    ) -> None:
        self._queue: deque[tuple[float, Task]] = deque((0.0, task) for task in tasks)
        self._workers, self._root, self._on_event = workers, results_root, on_event
        self._timeout_s, self._retries, self._command = timeout_s, retries, command
        self._children: list[Child] = []
        self._attempts: Counter[str] = Counter()
        self._waiting: set[str] = set()
        self._signals: list[int] = []
        self._stop_by: float | None = None
        self._selector = selectors.DefaultSelector()
        self.statuses: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Sees every run to its end and returns run id -> status. Raises Stopped after a signal."""
        awake, alarm = socket.socketpair()
        awake.setblocking(False)
        alarm.setblocking(False)
        self._selector.register(awake, selectors.EVENT_READ, None)
        with awake, alarm, self._selector, catching(self._signals.append, alarm=alarm.fileno()):
            try:
                self._loop(awake)
            finally:
                for child in self._children:
                    child.kill()
                    child.bury()
        if self._signals:
            raise Stopped(self._signals[0], self.statuses, at_once=len(self._signals) > 1)
        return self.statuses

    # ------------------------------------------------------------------------------------------ the loop

    def _loop(self, awake: socket.socket) -> None:
        while len(self._signals) < 2:
            if self._signals and self._stop_by is None:
                self._ask_all_to_stop()
            if not self._signals:
                self._share_out()
            if not self._children and (self._signals or not self._queue):
                return
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    with suppress(BlockingIOError):
                        awake.recv(4096)
                else:
                    self._hear(key.data)
            self._look_after()

    def _share_out(self) -> None:
        """Gives runs to idle workers, starts workers while there are too few, and lets go those without work."""
        while True:
            idle = next((child for child in self._children if child.task is None and not child.retired), None)
            if idle is None and len(self._children) >= self._workers:
                return
            task = self._next_task()
            if task is None:
                break
            if idle is None:
                idle = Child(self._command, threads=task.threads)
                self._children.append(idle)
                self._selector.register(idle, selectors.EVENT_READ, idle)
            idle.give(task, self._root)
        if not self._queue:
            for child in self._children:
                if child.task is None and not child.retired:
                    child.retire()

    def _next_task(self) -> Task | None:
        """The first run whose time has come; those that turn out to be done meanwhile are crossed off."""
        now = time.monotonic()
        for _ in range(len(self._queue)):
            ready_at, task = self._queue.popleft()
            if ready_at > now:
                self._queue.append((ready_at, task))
                continue
            if (status := finished(Results(self._root).job(task.id))) is None:
                return task
            self._settle(task, task.event("finished", status=status, already=True))
        return None

    def _patience(self) -> float:
        """Seconds until something is due that no pipe will tell of."""
        now = time.monotonic()
        due = [now + _LOOK_S, *(child.heard + self._timeout_s for child in self._children if child.task is not None)]
        if self._stop_by is not None:
            due.append(self._stop_by)
        elif any(child.task is None for child in self._children) or len(self._children) < self._workers:
            due += [ready_at for ready_at, _ in self._queue]
        return max(0.0, min(due) - now)

    def _look_after(self) -> None:
        """Kills workers that are silent for too long, and notices those that are gone."""
        now = time.monotonic()
        for child in list(self._children):
            if child.ended():
                self._hear(child)
            elif self._stop_by is not None and now >= self._stop_by:
                child.kill()
            elif child.task is not None and now - child.heard >= self._timeout_s and not child.is_hung:
                child.is_hung = True
                child.kill()

    def _ask_all_to_stop(self) -> None:
        self._stop_by = time.monotonic() + STOP_S
        for child in self._children:
            if child.task is None:
                child.retire()
            else:
                child.ask_to_stop()

    # ------------------------------------------------------------------------------------------ what workers say

    def _hear(self, child: Child) -> None:
        try:
            events = child.read()
        except ValueError:
            child.kill()
            return
        if events is None:
            self._selector.unregister(child)
            self._children.remove(child)
            self._mourn(child)
            child.bury()
            return
        for event in events:
            self._heed(child, event)

    def _heed(self, child: Child, event: Event) -> None:
        task, name = child.task, event.get("event")
        if task is None or name not in ("finished", "failed", "stopped", "busy"):
            child.last_step = event.get("step", child.last_step)
            self._on_event(event)
            return
        child.task = None
        if name == "busy":
            self._queue.append((time.monotonic() + _BUSY_S, task))
            if task.id not in self._waiting:
                self._waiting.add(task.id)
                self._on_event(task.event("waiting"))
        elif name == "finished":
            self._settle(task, event)
        else:
            child.retire()
            if name == "failed":
                text = f"{child.log()}\n{event.get('traceback') or ''}"
                self._failed(task, event, may_retry=bool(event["retry"]), log=text)
            elif self._signals:
                self._on_event(event)
            else:  # somebody else's SIGTERM: its checkpoint is good
                self._failed(
                    task, task.event("failed", status="killed", reason="told to stop from outside"), may_retry=True
                )

    def _mourn(self, child: Child) -> None:
        """A worker is gone; if it was at a run, says why and decides what becomes of the run."""
        task = child.task
        if task is None:
            return
        status, reason, words = child.post_mortem()
        if self._signals and status == "killed":
            return
        if status == "timeout":
            reason = f"no progress for {self._timeout_s:g} s"
        self._record(task, status, reason, child.last_step, words)
        event = task.event("failed", status=status, reason=reason, last_step=child.last_step, traceback=words or None)
        self._failed(task, event, may_retry=status in ("killed", "oom"), log=f"{child.log()}\n{reason}\n")

    def _record(self, task: Task, status: Failure, reason: str, last_step: int | None, words: str) -> None:
        folder = Results(self._root).job(task.id)
        with suppress(Busy, OSError), folder.lock():  # another moebench may have taken the run over already
            if finished(folder) is None:
                folder.fail(status, reason, last_step, words or None)

    def _failed(self, task: Task, event: Event, *, may_retry: bool, log: str = "") -> None:
        if log.strip():
            event = with_log(event, log, root=self._root)
        self._attempts[task.id] += 1
        retry = may_retry and self._attempts[task.id] <= self._retries and not self._signals
        if retry:
            self._queue.append((0.0, task))
            self._on_event({**event, "retry": True})
        else:
            self._settle(task, {**event, "retry": False})

    def _settle(self, task: Task, event: Event) -> None:
        self.statuses[task.id] = event["status"]
        self._on_event(event)
