"""A bundle: the results of one suite in a handful of text files, to commit and to read like the folders they are of.

    MANIFEST     written last: SHA-256 and size of each other file, and what was left out
    facts.json   plans, those akin to them, jobs by group without their rows, sweeps, notes; folded (see `packing`)
    *.txt        the rows of all jobs (see `columns`)

It is read without trusting it: a file that does not fit MANIFEST spoils the bundle, a row that is none its job, and the
id of a job is the hash of what it says it did.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moebench.identity import digest_of
from moebench.planning.types import Plan, StoredPlan
from moebench.store import columns, files
from moebench.store.files import CorruptFile
from moebench.store.folder import DONE, JOB, PROCESS, Folder, Status, UnsafeName, is_safe_id
from moebench.store.packing import unfold
from moebench.store.source import Source, by_age, plan_of
from moebench.text import quoted

MANIFEST, FACTS, SAMPLES = "MANIFEST", "facts.json", "samples.txt"
VERSION = 1
FILES = (FACTS, *(name for name, *_ in columns.TABLES.values()), SAMPLES)
"""Every file of a bundle but MANIFEST."""
NOTHING: dict[str, Any] = {"files": {}, "rows": [], "done": None, "failed": None}
"""What is held of a job that is not there."""
UNFIT = (ValueError, LookupError, TypeError, AttributeError)
"""What comes of reading a text that no bundle holds."""


class Bundle:
    """One suite's bundle. Raises CorruptFile when it does not fit its MANIFEST."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = _whole(path)
        with _reading(path / FACTS):
            facts = unfold(files.parse_json(path / FACTS, self._data[FACTS]))
            self.plans = [plan_of(path / FACTS, plan) for plan in facts["plans"]]
            self.akin = [plan_of(path / FACTS, plan) for plan in facts["akin"]]
            self.done: list[dict[str, Any]] = facts["done"]
            self.timed: dict[str, list[dict[str, Any]]] = facts["timed"]
            numbers: Counter[str] = Counter()
            self.jobs: dict[str, Member] = {}
            for entry in (entry for entries in facts["jobs"].values() for entry in entries):
                job = Member(self, _id(entry), entry["group"], numbers[entry["group"]], entry)
                numbers[entry["group"]] += 1
                self.jobs[job.id] = job
            self.sweeps = {name: Member(self, name, "", 0, entry) for name, entry in facts["sweeps"].items()}

    def num_bytes(self) -> int:
        """Bytes of its files."""
        return (self.path / MANIFEST).stat().st_size + sum(map(len, self._data.values()))

    @functools.cache  # noqa: B019  as long as the bundle, which is as long as its command
    def sections(self, name: str) -> columns.Sections:
        """The sections of one of its texts, none where it has no such file. Raises CorruptFile."""
        with _reading(self.path / name):
            return columns.sections_of(self._data.get(name, b"").decode())


class Member(Folder):
    """One job of a bundle, or one sweep."""

    def __init__(self, bundle: Bundle, name: str, group: str, number: int, entry: dict[str, Any]) -> None:
        self.id = name
        self.path = bundle.path / self.id
        self._bundle, self._group, self._number = bundle, group, number
        self._files: dict[str, Any] = entry["files"]
        self._rows: list[str] = entry["rows"]
        self._done: dict[str, Any] | None = entry["done"]
        self._failed: Any = entry["failed"]
        if self._done is not None and self._done["status"] not in ("completed", "diverged"):
            raise ValueError(f"{self.id} is {quoted(self._done['status'])}")

    def status(self) -> Status:
        if self._done is not None:
            status: Status = self._done["status"]
            return status
        return "failed" if self._failed is not None else "partial" if self._files else "missing"

    def manifest(self) -> dict[str, Any] | None:
        return self._done

    def verify(self) -> list[str]:
        return [] if self._done is not None else [f"{self.path}: not finished"]

    def failure(self) -> dict[str, Any] | None:
        known = isinstance(self._failed, dict) and {"status", "reason"} <= self._failed.keys()
        return self._failed if known else None

    def names(self) -> set[str]:
        return {*self._files, *self._rows}

    def has(self, name: str) -> bool:
        return name in self._files or name in self._rows or (name == DONE and self._done is not None)

    def read(self, name: str) -> Any:
        if name == DONE and self._done is not None:
            return self._done
        if name not in self._files:
            raise FileNotFoundError(self.path / name)
        value = self._files[name]
        if name != PROCESS:
            return value
        with _reading(self._bundle.path / SAMPLES, self.id):
            samples = columns.samples_read(self._bundle.sections(SAMPLES), self._group, self._number)
        return {**value, "samples": samples}

    def each_row(self, name: str, *, most: int = files.MOST_ROWS) -> Iterator[dict[str, Any]]:
        if name not in self._rows:
            return
        text, _, read = columns.TABLES[name]
        with _reading(self._bundle.path / text, self.id):
            for number, row in enumerate(read(self._bundle.sections(text), self._group, self._number), start=1):
                if number > most:
                    raise ValueError(f"more rows than {most:,}")
                yield row


class Bundles(Source):
    """Bundles side by side, such as those of one machine."""

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root = root
        self._bundles: list[Bundle] = []
        self._problems: list[CorruptFile] = []
        for path in paths:
            try:
                self._bundles.append(Bundle(path))
            except CorruptFile as problem:
                self._problems.append(problem)

    def job(self, name: str) -> Folder:
        held = (bundle.jobs[name] for bundle in self._bundles if name in bundle.jobs)
        return next(held, None) or self._missing(name)

    def _missing(self, name: str) -> Member:
        if not is_safe_id(name):
            raise UnsafeName(f"{quoted(name)} is not the name of a job")
        if not self._bundles:
            raise FileNotFoundError(f"{self.root} holds no bundle that reads")
        return Member(self._bundles[0], name, "", 0, NOTHING)

    def jobs(self) -> list[Folder]:
        return [folder for _, folder in self.seen()]

    def seen(self) -> Iterator[tuple[str, Folder]]:
        yield from sorted({name: job for bundle in self._bundles for name, job in bundle.jobs.items()}.items())

    def tune(self, name: str) -> Folder:
        held = (bundle.sweeps[name] for bundle in self._bundles if name in bundle.sweeps)
        return next(held, None) or self._missing(name)

    def all_plans(self) -> list[StoredPlan | CorruptFile]:
        return [*(plan for bundle in self._bundles for plan in bundle.plans), *self._problems]

    def known_plans(self) -> list[StoredPlan]:
        every = [plan for bundle in self._bundles for plan in (*bundle.plans, *bundle.akin)]
        return by_age({(plan.plan.suite, plan.plan.id): plan for plan in reversed(every)}.values())

    def num_bytes(self, plan: Plan) -> int:
        return sum(one.num_bytes() for one in self._bundles if any(stored.plan == plan for stored in one.plans))

    def done_notes(self) -> Iterator[dict[str, Any]]:
        for bundle in self._bundles:
            yield from bundle.done

    def timed_notes(self) -> dict[str, list[dict[str, Any]]]:
        return {name: rows for bundle in self._bundles for name, rows in bundle.timed.items()}


def _id(entry: dict[str, Any]) -> str:
    """The hash of what a job says it did; one that failed before it said so has the id that it is said to have."""
    if JOB in entry["files"]:
        return digest_of(entry["files"][JOB]["job"], length=20)
    if entry["done"] is not None or not is_safe_id(entry["id"]):
        raise ValueError(f"a job has no {JOB}")
    return str(entry["id"])


def bundles_of(root: Path) -> list[Path]:
    """A folder that is a bundle, whole or not, or the bundles that lie in it; none in a results folder."""
    if (root / MANIFEST).is_file():
        return [root]
    return [] if (root / "plans").exists() else sorted(path.parent for path in root.glob(f"*/{MANIFEST}"))


def _whole(path: Path) -> dict[str, bytes]:
    """The bundle's files as MANIFEST lists them. Raises CorruptFile for one that is missing, changed or unlisted."""
    where = path / MANIFEST
    manifest = files.read_json(where, most=files.MAX_FACTS_BYTES)
    with _reading(where):
        if manifest["bundle"] != VERSION:
            raise ValueError(f"is of version {manifest['bundle']!r} of bundles; this moebench reads {VERSION}")
        listed = {name: (entry["sha256"], entry["bytes"]) for name, entry in manifest["files"].items()}
        if unknown := listed.keys() - {*FILES}:
            raise ValueError(f"{quoted(min(unknown))} is not a file of a bundle")
    data: dict[str, bytes] = {}
    for name in FILES:
        if name not in listed:
            if name == FACTS or (path / name).exists():
                raise CorruptFile(path / name, "is not in the MANIFEST of this bundle")
            continue
        try:
            data[name] = files.read_bytes(path / name, most=files.MAX_FACTS_BYTES)
        except FileNotFoundError:
            raise CorruptFile(path / name, "missing") from None
        if (hashlib.sha256(data[name]).hexdigest(), len(data[name])) != listed[name]:
            raise CorruptFile(path / name, "contents differ from what was written")
    return data


@contextmanager
def _reading(path: Path, job: str = "") -> Iterator[None]:
    """Says of what comes up in reading a text where it is."""
    try:
        yield
    except CorruptFile:
        raise
    except UNFIT as error:
        raise CorruptFile(path, f"{job}: {files.words_of(error)}" if job else files.words_of(error)) from error
