"""What is done of each suite, what runs, what failed and why, and what `run` would do next.

Cheap: sizes are compared and, but for suites with planned looks, no contents read, so a folder of thousands of jobs
takes a second or two. Nothing here raises for what a folder holds; a job that does not read is told as corrupt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from moebench.planning.types import Plan, PlannedJob, StoredPlan
from moebench.reader.checks import UNREADABLE
from moebench.store import Folder, Source, newest
from moebench.store.files import MOST_SHOWN, words_of
from moebench.text import plain

AsTaken = Callable[[Source, StoredPlan], tuple[Plan, str]]
"""The part of a plan that its looks ask for, and which of them is taken, in words. It reads results and judges them."""
State = Literal["done", "running", "failed", "blocked", "to do"]
STATES: tuple[State, ...] = ("done", "running", "failed", "blocked", "to do")


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """One planned job."""

    kind: str
    """`train`, or what it measures: `quality`."""
    model: str
    seed: int
    id: str
    state: State
    reason: str | None = None
    """Why it failed, or which input it waits for in vain."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.model}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class SuiteStatus:
    """The newest plan of one suite."""

    suite: str
    """`suite`, or `suite@scale`, as its report is called."""
    plan: str
    jobs: tuple[JobStatus, ...]
    command: str
    """What goes on with it."""
    num_bytes: int
    """On disk."""
    looks: str = ""
    """Which of the planned looks was taken, or is under way; nothing where one is planned."""

    @property
    def counts(self) -> dict[State, int]:
        """State -> jobs."""
        counts = Counter(job.state for job in self.jobs)
        return {state: counts[state] for state in STATES}

    @property
    def next(self) -> dict[str, int]:
        """Kind -> jobs that `command` would do."""
        return dict(Counter(job.kind for job in self.jobs if job.state not in ("done", "running")))


def statuses(source: Source, as_taken: AsTaken | None = None) -> list[SuiteStatus]:
    """The status of every suite, by name.

    `as_taken` tells of a suite with planned looks how far it is carried out: without it all of its seeds are awaited.
    """
    return [_status(source, stored, as_taken) for stored in newest(source.plans())]


def _status(source: Source, stored: StoredPlan, as_taken: AsTaken | None) -> SuiteStatus:
    plan, looks = stored.plan, ""
    if plan.spec.looks and as_taken is not None:
        try:
            plan, looks = as_taken(source, stored)
        except UNREADABLE as error:
            looks = f"looks not read: {words_of(error)}"
    return SuiteStatus(
        suite=plan.title,
        plan=plan.id,
        jobs=tuple(_jobs(source, plan)),
        command=plan.command,
        num_bytes=source.num_bytes(stored.plan),
        looks=looks,
    )


def _jobs(source: Source, plan: Plan) -> Iterator[JobStatus]:
    """Each job, inputs before what is made of them."""
    known: dict[str, JobStatus] = {}
    for job in plan.every_job:
        known[job.id] = status = _job(source, job, known)
        yield status


def _job(source: Source, job: PlannedJob, inputs: Mapping[str, JobStatus]) -> JobStatus:
    state: State = "to do"
    reason = None
    try:
        state, reason = _state(source.job(job.id))
    except UNREADABLE as error:
        state, reason = "failed", f"corrupt: {words_of(error)}"
    if state == "to do":
        needed = [one for name in job.inputs if (one := inputs.get(name)) is not None]
        lost = next((one for one in needed if one.state in ("failed", "blocked")), None)
        if lost is not None:
            state, reason = "blocked", f"{lost.name} {lost.state}"
        elif any(one.state == "done" and one.reason for one in needed):
            state = "done"  # what diverged leaves nothing to measure
    kind = job.measurement or job.kind
    return JobStatus(kind=kind, model=job.model, seed=job.seed, id=job.id, state=state, reason=reason)


def _state(folder: Folder) -> tuple[State, str | None]:
    status = folder.status()
    if status in ("completed", "diverged"):
        reason = (folder.manifest() or {}).get("reason")
        return "done", None if status == "completed" else plain(f"diverged: {reason}", most=MOST_SHOWN)
    if folder.is_locked():
        return "running", None
    if status == "failed":
        failure = folder.failure() or {}
        return "failed", plain(f"{failure.get('status')}: {failure.get('reason')}", most=MOST_SHOWN)
    return ("failed", "corrupt: it is done again") if status == "corrupt" else ("to do", None)
