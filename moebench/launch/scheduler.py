"""Shares jobs out among workers, inputs first, and outlives whatever happens to them.

One loop waits for workers and signals; it never spins. A worker that dies, or is silent for too long and is therefore
killed, costs its job one attempt and nobody else anything. A job that was killed is tried again from its checkpoint;
one that crashed of itself would crash again and is left for another day. What starts from a job that failed is blocked.
An exclusive job runs when nothing else of ours does. The first SIGINT or SIGTERM asks every worker for a checkpoint,
the second kills them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from moebench.jobs import KINDS
from moebench.jobs.job import Job
from moebench.launch.attempt import finished, whole, with_log
from moebench.launch.events import Event, Stopped, catching
from moebench.launch.options import LaunchOptions
from moebench.launch.place import Place, Worker
from moebench.store import Busy, Failure, Results

STOP_S = 60.0
"""How long workers may take to write a checkpoint when asked to stop."""
_BUSY_S = 1.0
"""How soon a job that another moebench holds is asked for again."""
_LOOK_S = 5.0
"""Longest wait before looking whether a worker is gone without a word."""

MakePlace = type[Place]
"""Called with options and `is_stopping`."""


class Scheduler:
    """One launch."""

    def __init__(self, jobs: Sequence[Job], options: LaunchOptions, place: MakePlace) -> None:
        self._root, self._options, self._on_event = options.root, options, options.on_event
        self._results = Results(options.root)
        self._pending: dict[str, Job] = {job.id: job for job in jobs}
        self._names = {job.id: name_of(job) for job in jobs}
        self._not_before: dict[str, float] = {}
        self._earlier: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._workers: list[Worker] = []
        self._attempts: Counter[str] = Counter()
        self._waiting: set[str] = set()
        self._signals: list[int] = []
        self._stop_by: float | None = None
        self._place = place(options, is_stopping=lambda: bool(self._signals))
        self.statuses: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Sees every job to its end and returns job id -> status. Raises Stopped after a signal."""
        with self._place, catching(self._on_signal, alarm=self._place.alarm):
            try:
                self._loop()
            except KeyboardInterrupt:
                self._signals = self._signals or [2]
            finally:
                for worker in self._workers:
                    worker.kill()
                    worker.reap()
        if self._signals:
            raise Stopped(self._signals[0], self.statuses, at_once=len(self._signals) > 1)
        return self.statuses

    def _on_signal(self, signum: int) -> None:
        self._signals.append(signum)
        if len(self._signals) > 1 and self._place.runs_here:
            raise KeyboardInterrupt

    # ------------------------------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        while len(self._signals) < 2:
            if self._signals and self._stop_by is None:
                self._ask_all_to_stop()
            if not self._signals:
                self._share_out()
            if not self._workers and (self._signals or not self._pending):
                return
            for worker in self._place.wait(self._patience()):
                self._hear(worker)
            self._look_after()

    def _share_out(self) -> None:
        """Gives jobs to idle workers, starts workers while there are too few, and lets go those without work."""
        while len(self._at_work()) < self._place.num_workers and (job := self._next_job()) is not None:
            free = [worker for worker in self._workers if worker.job is None and not worker.retired]
            idle = [worker for worker in free if not worker.is_used or worker.lane == job.lane]
            if job.exclusive or job.fresh:
                used = [worker for worker in self._workers if worker.is_used and worker.job is None]
                for worker in used:
                    self._retire(worker)
                if used:  # it starts when they are gone
                    return
            elif not idle and len(self._workers) >= self._place.num_workers:
                for worker in free[:1]:  # of another lane: it makes room
                    self._retire(worker)
                return
            if not idle:
                idle = [self._place.start(job)]
                self._workers += idle
            self._give(idle[0], job)
        if not self._pending:
            for worker in self._workers:
                if worker.job is None:
                    self._retire(worker)

    def _at_work(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _give(self, worker: Worker, job: Job) -> None:
        del self._pending[job.id]
        worker.job, worker.last_step, worker.heard, worker.is_used = job, None, time.monotonic(), True
        worker.lane = job.lane
        worker.give(job)

    def _retire(self, worker: Worker) -> None:
        if not worker.retired:
            worker.retire()

    def _next_job(self) -> Job | None:
        """The first job that can start now, what has inputs before what begins anew; those of a lane when no other can,
        so that few workers change, and exclusive ones when all is still.

        Those that turn out to be done or blocked are crossed off.
        """
        at_work = self._at_work()
        if any(worker.job is not None and worker.job.exclusive for worker in at_work):
            return None
        ready = [job for job in list(self._pending.values()) if self._is_ready(job)]
        while ready:
            job = min(ready, key=lambda job: (job.exclusive, job.lane is not None, not job.inputs))
            if job.exclusive and at_work:
                return None
            if (status := finished(job, self._root)) is None:
                return job
            ready.remove(job)
            self._settle(job, job.event("finished", status=status, already=True))
        # A job that was crossed off may have freed others.
        return self._next_job() if any(self._is_ready(job) for job in list(self._pending.values())) else None

    def _is_ready(self, job: Job) -> bool:
        """Whether its time has come and its inputs are there; a job whose inputs cannot be is settled here."""
        if self._not_before.get(job.id, 0.0) > time.monotonic() or job.id not in self._pending:
            return False
        statuses = {input_id: self._status(input_id) for input_id in job.inputs}
        bad = next((input_id for input_id, status in statuses.items() if status not in (None, "completed")), None)
        if KINDS[job.kind].needs_all:
            if bad is not None:
                self._block(job, bad, statuses[bad] or "missing")
                return False
        elif None not in statuses.values() and bad is not None and "completed" not in statuses.values():
            self._block(job, bad, statuses[bad] or "missing")
            return False
        return None not in statuses.values()

    def _status(self, job_id: str) -> str | None:
        """How an input ended; None while it has not."""
        if job_id not in self._names and job_id not in self._earlier:  # another launch's
            self._earlier[job_id] = whole(self._results.job(job_id)) or "missing"
        return self.statuses.get(job_id, self._earlier.get(job_id))

    def _block(self, job: Job, input_id: str, status: str) -> None:
        if status == "diverged":
            self._settle(job, job.event("skipped", status="diverged", reason="its training diverged"))
            return
        name, why = self._names.get(input_id, f"job {input_id}"), self._reasons.get(input_id, "")
        reason = f"{name} failed: {status}" if status != "blocked" else f"{name} is {why}"
        self._settle(job, job.event("blocked", status="blocked", reason=reason))

    def _patience(self) -> float:
        """Seconds until something is due that no worker will tell of."""
        now = time.monotonic()
        due = [now + _LOOK_S, *(worker.heard + self._may_be_silent(worker.job) for worker in self._at_work())]
        if self._stop_by is not None:
            due.append(self._stop_by)
        elif len(self._at_work()) < self._place.num_workers:
            due += [self._not_before[job_id] for job_id in self._pending if job_id in self._not_before]
        return max(0.0, min(due) - now)

    def _may_be_silent(self, job: Job | None) -> float:
        return max(self._options.timeout_s, 0.0 if job is None else job.silence_s)

    def _look_after(self) -> None:
        """Kills workers that are silent for too long, and notices those that are gone."""
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.ended():
                self._hear(worker)
            elif self._stop_by is not None and now >= self._stop_by:
                worker.kill()
            elif (
                worker.job is not None and now - worker.heard >= self._may_be_silent(worker.job) and not worker.is_hung
            ):
                worker.is_hung = True
                worker.kill()

    def _ask_all_to_stop(self) -> None:
        self._stop_by = time.monotonic() + STOP_S
        for worker in self._workers:
            if worker.job is None:
                self._retire(worker)
            else:
                worker.ask_to_stop()

    # ------------------------------------------------------------------------------------------ what workers say

    def _hear(self, worker: Worker) -> None:
        if worker not in self._workers:
            return
        try:
            events = worker.read()
        except ValueError:
            worker.kill()
            return
        if events is None:
            self._place.forget(worker)
            self._workers.remove(worker)
            self._on_exit(worker)
            worker.reap()
            return
        for event in events:
            self._on_worker_event(worker, event)

    def _on_worker_event(self, worker: Worker, event: Event) -> None:
        job, name = worker.job, event.get("event")
        if job is None or name not in ("finished", "failed", "stopped", "busy"):
            worker.last_step = event.get("step", worker.last_step)
            self._on_event(event)
            return
        worker.job = None
        if job.fresh:
            self._retire(worker)
        if name == "busy":
            self._again(job, time.monotonic() + _BUSY_S)
            if job.id not in self._waiting:
                self._waiting.add(job.id)
                self._on_event(job.event("waiting"))
        elif name == "finished":
            self._settle(job, event)
        else:
            self._retire(worker)
            if name == "failed":
                text = f"{worker.log()}\n{event.get('traceback') or ''}"
                self._failed(job, event, may_retry=bool(event["retry"]), log=text)
            elif self._signals:
                self._on_event(event)
            else:  # somebody else's SIGTERM: its checkpoint is good
                self._failed(
                    job, job.event("failed", status="killed", reason="told to stop from outside"), may_retry=True
                )

    def _on_exit(self, worker: Worker) -> None:
        """A worker is gone; if it was at a job, says why and decides what becomes of the job."""
        job = worker.job
        if job is None:
            return
        status, reason, words = worker.post_mortem()
        if self._signals and status == "killed":
            return
        if status == "timeout":
            reason = f"no progress for {self._may_be_silent(job):g} s"
        self._record(job, status, reason, worker.last_step, words)
        event = job.event("failed", status=status, reason=reason, last_step=worker.last_step, traceback=words or None)
        self._failed(job, event, may_retry=status in ("killed", "oom"), log=f"{worker.log()}\n{reason}\n")

    def _record(self, job: Job, status: Failure, reason: str, last_step: int | None, words: str) -> None:
        folder = self._results.job(job.id)
        with suppress(Busy, OSError), folder.lock():  # another moebench may have taken the job over already
            if finished(job, self._root) is None:
                folder.fail(status, reason, last_step, words or None)

    def _failed(self, job: Job, event: Event, *, may_retry: bool, log: str = "") -> None:
        if log.strip():
            event = with_log(event, log, root=self._root)
        self._attempts[job.id] += 1
        if may_retry and self._attempts[job.id] <= self._options.retries and not self._signals:
            self._again(job, 0.0)
            self._on_event({**event, "retry": True})
        else:
            self._settle(job, {**event, "retry": False})

    def _again(self, job: Job, at: float) -> None:
        self._pending[job.id], self._not_before[job.id] = job, at

    def _settle(self, job: Job, event: Event) -> None:
        self._pending.pop(job.id, None)
        self.statuses[job.id] = event["status"]
        self._reasons[job.id] = f"{event['event']}: {event['reason']}" if "reason" in event else event["status"]
        self._on_event(event)


def name_of(job: Job) -> str:
    """A job in words: `train job of moe seed 3`."""
    measurement = job.spec.get("measurement")
    what = f" ({job.spec.get('options', {}).get('task', measurement)})" if measurement else ""
    return f"{job.kind} job{what} of {job.model} seed {job.seed}"
