"""What anyone may read of results: a live results folder, a bundle, or several bundles side by side."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.planning.types import Plan, StoredPlan
from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.store.folder import Folder, Status


class Source(ABC):
    """Results to read."""

    root: Path

    @abstractmethod
    def job(self, name: str) -> Folder:
        """The folder of a job, whatever its state. Raises UnsafeName."""

    @abstractmethod
    def jobs(self) -> Sequence[Folder]:
        """Every job there is, in whatever state, by id; not those put aside. Raises UnsafeName for a link outside."""

    @abstractmethod
    def seen(self) -> Iterator[tuple[str, Folder]]:
        """Id and folder of every job that there is or was: those put aside come under the id they had."""

    @abstractmethod
    def tune(self, name: str) -> Folder:
        """The folder of a learning-rate sweep. Raises UnsafeName."""

    @abstractmethod
    def all_plans(self) -> list[StoredPlan | CorruptFile]:
        """Every plan stored, or what is wrong with it; of a bundle, those that are reported from it."""

    @abstractmethod
    def num_bytes(self, plan: Plan) -> int:
        """Bytes on disk of what a plan's jobs have left."""

    @abstractmethod
    def done_notes(self) -> Iterator[dict[str, Any]]:
        """What was noted of runs when they were first done, of all plans. What does not read is passed over."""

    @abstractmethod
    def timed_notes(self) -> dict[str, list[dict[str, Any]]]:
        """Speed session -> what was noted of its processes, each time one was timed."""

    def run_status(self, plan: Plan, run_id: str) -> Status:
        """The status of a run: of its training, or of the first measurement that is not there."""
        status = self.job(run_id).status()
        measured = (self.job(job.id).status() for job in plan.evaluations[run_id])
        return status if status != "completed" else next((one for one in measured if one != "completed"), status)

    def known_plans(self) -> list[StoredPlan]:
        """The plans that can be read, those that lie there as another's history too."""
        return self.plans()

    def plans(self, suite: str | None = None) -> list[StoredPlan]:
        """The plans stored that can be read, of one suite or all, newest first; `unreadable_plans` has the others."""
        plans = [plan for plan in self.all_plans() if isinstance(plan, StoredPlan)]
        return by_age(plan for plan in plans if suite is None or plan.plan.suite == suite)

    def unreadable_plans(self) -> list[CorruptFile]:
        """What is wrong with each plan that was passed over: spoilt, or of another version of moebench."""
        return [problem for problem in self.all_plans() if isinstance(problem, CorruptFile)]


def by_age(plans: Iterable[StoredPlan]) -> list[StoredPlan]:
    """Plans, newest first."""
    return sorted(plans, key=lambda plan: (-plan.stored_at, plan.plan.id))


def newest(plans: Iterable[StoredPlan]) -> list[StoredPlan]:
    """The newest stored plan of each suite, scale and set of values, by title."""
    latest: dict[str, StoredPlan] = {}
    for stored in plans:
        held = latest.get(stored.plan.title)
        if held is None or stored.stored_at > held.stored_at:
            latest[stored.plan.title] = stored
    return [latest[name] for name in sorted(latest)]


def read_plan(path: Path) -> StoredPlan:
    """A plan's file, parsed once as long as it stays the same. Raises FileNotFoundError or CorruptFile."""
    state = path.lstat()
    return _read_plan(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=1024)
def _read_plan(path: Path, _state: tuple[int, ...]) -> StoredPlan:
    stored = plan_of(path, files.read_json(path, most=files.MAX_FACTS_BYTES))
    if path.name != file_name(stored.plan):
        raise CorruptFile(path, f"what it plans is called {file_name(stored.plan)}: it was changed or renamed")
    return stored


def plan_of(path: Path, value: Any) -> StoredPlan:
    """The plan that was read from `path`. Raises CorruptFile."""
    try:
        return StoredPlan.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise CorruptFile(path, f"not a plan of this version of moebench: {error.errors()[0]['msg']}") from error


def file_name(plan: Plan) -> str:
    """The name of a plan's file."""
    return f"{plan.suite}@{plan.scale or 'default'}-{plan.id}.json"
