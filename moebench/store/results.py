"""A results folder: jobs, sweeps and plans, and the promise that no name leads outside it.

Names come from command lines and from files that others wrote, so each is matched against a safe pattern and each path
is resolved and checked before it is used. A plan is stored once; storing it again changes nothing, and when a claim was
first stored, by its text and with the models it had, is remembered over all plans. A plan that does not read is passed
over: it is no reason to lose the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moebench.environment import Environment
from moebench.planning.types import Plan, StoredPlan
from moebench.store import files
from moebench.store.bundle import Bundles, bundles_of
from moebench.store.files import CorruptFile
from moebench.store.folder import Folder, UnsafeName, is_safe_id
from moebench.store.live import ASIDE, JobFolder
from moebench.store.source import Source, file_name, read_plan
from moebench.text import quoted


class Results(Source):
    """A results folder, which need not exist yet. Raises CorruptFile for bundles: nothing is run into them."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()
        if bundles_of(self.root):
            raise CorruptFile(self.root, "holds bundles, which are only read: choose another folder with --results")

    def make_room(self) -> None:
        """Makes the folder that runs go to. Raises OSError where that cannot be, or nothing can be written in it."""
        runs = self._inside("jobs")
        JobFolder(runs / "any").locks.mkdir(parents=True, exist_ok=True)
        if not os.access(runs, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(runs))

    def job(self, job_id: str) -> JobFolder:
        return JobFolder(self._inside("jobs", job_id))

    def tune(self, tune_id: str) -> JobFolder:
        return JobFolder(self._inside("tune", tune_id))

    def log(self, name: str) -> Path:
        """Where the log of what failed is kept, by the id of its run or session. Raises UnsafeName."""
        return self._inside("logs", f"{name}.log")

    def keep_log(self, name: str, text: str) -> Path | None:
        """Keeps the log of what failed; None when even that cannot be written."""
        path = self.log(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, text.encode(errors="replace"))
        except OSError:
            return None
        return path

    def jobs(self) -> list[JobFolder]:
        names = [path.name for path in sorted(self._inside("jobs").glob("*")) if path.is_dir()]
        return [self.job(name) for name in names if is_safe_id(name)]

    def seen(self) -> Iterator[tuple[str, Folder]]:
        paths = [path for path in self._inside("jobs").glob("[!.]*") if path.is_dir() and not path.is_symlink()]
        for name, path in sorted((path.name.partition(ASIDE)[0], path) for path in paths):
            if is_safe_id(name):
                yield name, JobFolder(path, aside=True)

    def all_plans(self) -> list[StoredPlan | CorruptFile]:
        plans: list[StoredPlan | CorruptFile] = []
        for path in sorted(self._inside("plans").glob("[!.]*.json")):
            try:
                plans.append(read_plan(path))
            except CorruptFile as problem:
                plans.append(problem)
        return plans

    def num_bytes(self, plan: Plan) -> int:
        return sum(self.job(job.id).num_bytes() for job in plan.every_job)

    def done_notes(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._inside("plans").glob("done-*.jsonl")):
            yield from _rows(path)

    def timed_notes(self) -> dict[str, list[dict[str, Any]]]:
        paths = sorted(self._inside("plans").glob("timed-*.jsonl"))
        return {path.stem.removeprefix("timed-"): _rows(path) for path in paths}

    def plan_path(self, plan: Plan) -> Path:
        """Where a plan is stored. Raises UnsafeName."""
        return self._inside("plans", file_name(plan))

    def done_path(self, plan: Plan) -> Path:
        """Where the runs of a plan are noted, one row when each was first done. Raises UnsafeName."""
        return self._inside("plans", f"done-{plan.id}.jsonl")

    def note_done(self, plan: Plan) -> None:
        """Notes, beside the plans, which of a plan's runs are done: one that is removed and done again was seen before.

        A note that cannot be written is left out: where nothing can be written, nothing is run either.
        """
        path = self.done_path(plan)
        with contextlib.suppress(OSError, ValueError):  # a CorruptFile is a ValueError
            known = {row.get("run") for row in files.read_lines(path)}
            rows = []
            for run in (run for run in plan.runs if run.id not in known):
                manifest = self.job(run.id).manifest()
                if manifest is not None:
                    about = {"run": run.id, "seed": run.seed, "training": plan.training(run.model)}
                    rows.append({**about, "at": manifest["finished"]})
            files.append_lines(path, rows)

    def timed_path(self, speed_id: str) -> Path:
        """Where the processes of a speed session are noted, one row each time one is timed. Raises UnsafeName."""
        return self._inside("plans", f"timed-{self.job(speed_id).id}.jsonl")

    def save_plan(self, plan: Plan, environment: Environment) -> StoredPlan:
        """Stores a plan, or returns what is already stored when the plan is the same; then no file is touched.

        The times at which the plan and each of its claims were first stored are kept. A file in its place that does not
        read is renamed to end in `.unreadable`. Raises OSError.
        """
        path = self.plan_path(plan)
        try:
            earlier = read_plan(path) if path.exists() else None
        except CorruptFile:
            path.rename(path.with_name(f"{path.name}.unreadable"))
            earlier = None
        if earlier is not None and earlier.plan == plan:
            return earlier
        now = time.time()
        first: dict[str, float] = {}
        sealed: dict[str, float] = {}
        for other in self.plans():
            for claim, at in other.claims_first_stored.items():
                first[claim] = min(at, first.get(claim, at))
            for name in other.plan.claim_hashes:
                seal, at = other.plan.seal(name), other.first_stored(name)
                sealed[seal] = min(at, sealed.get(seal, at))
        seals = sorted(plan.seal(name) for name in plan.claim_hashes)
        stored = StoredPlan(
            plan=plan,
            stored_at=earlier.stored_at if earlier else now,
            claims_first_stored={claim: first.get(claim, now) for claim in sorted(plan.claim_hashes.values())},
            seals_first_stored={seal: sealed.get(seal, now) for seal in seals},
            environment=environment,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, stored.model_dump(mode="json"))
        return stored

    def _inside(self, *parts: str) -> Path:
        """A path under the root, links resolved. Raises UnsafeName when it leads elsewhere."""
        if any("/" in part or "\0" in part or part in ("", ".", "..") for part in parts):
            raise UnsafeName(f"{quoted(parts[-1])} is not a name in a results folder")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root):
            raise UnsafeName(f"{path} leads outside {self.root}")
        return path


def open_results(root: Path | str) -> Source:
    """Results to read: a results folder, a bundle, or a folder of bundles."""
    path = Path(root).resolve()
    bundles = bundles_of(path)
    return Bundles(path, bundles) if bundles else Results(path)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of notes; none when it does not read."""
    try:
        return files.read_lines(path)
    except (OSError, CorruptFile):
        return []
