"""One folder of results, such as a run: what state it is in, who may write it, and whether it is whole.

`DONE`, the manifest with every file's SHA-256 and size, is written last; its presence means complete. A folder has one
writer at a time: the holder of its lock, which the kernel takes back when the holder dies. What a folder's files mean
is known to those who write them; only records are checked here, because their definitions carry versions.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from moebench.metrics.declared import Record, metric_of
from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.text import quoted

Status = Literal["missing", "partial", "completed", "diverged", "failed", "corrupt"]
Outcome = Literal["completed", "diverged"]
Failure = Literal["oom", "timeout", "killed", "crash", "disk_full"]

WEIGHTS = "model.safetensors"
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SAFE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PASSING = re.compile(r"checkpoint.*|.*\.corrupt-\d+|FAILED\.json|DONE")
"""Files that are no part of a finished folder's contents."""


class UnsafeName(ValueError):  # noqa: N818  the name is read in `except UnsafeName`
    """A name that could lead outside the results folder."""


class Busy(RuntimeError):  # noqa: N818  the name is read in `except Busy`
    """Another process holds the folder."""


class StaleRecord(CorruptFile):
    """A record of another version of its metric's definition: refused, not mixed."""


class JobFolder:
    """A folder of results whose `DONE` is written last. Holds no state of its own: the disk is the truth."""

    def __init__(self, path: Path) -> None:
        if not is_safe_id(path.name):
            raise UnsafeName(f"{quoted(path.name)} is not the name of a run")
        self.path = path
        self.id = path.name

    @property
    def locks(self) -> Path:
        """Where the locks of this folder and those beside it lie."""
        return self.path.parent / ".locks"

    # ------------------------------------------------------------------------------------------ state

    def status(self) -> Status:
        """What state the folder is in, cheaply: sizes are compared, contents are not (`verify` does that).

        `missing`: nothing is there. `partial`: begun. `failed`: `FAILED.json` says why. `corrupt`: `DONE` does not
        fit the files.
        """
        try:
            manifest = self.manifest()
            if manifest is not None:
                return "corrupt" if self._misfits(manifest) else manifest["status"]
        except CorruptFile:
            return "corrupt"
        if self.failure() is not None:
            return "failed"
        return "partial" if self.path.is_dir() and any(self.path.iterdir()) else "missing"

    def manifest(self) -> dict[str, Any] | None:
        """What `DONE` says, None before it is written. Raises CorruptFile when it does not read as a manifest."""
        path = self.path / "DONE"
        try:
            manifest = files.read_json(path, most=files.MAX_FACTS_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not isinstance(manifest, dict) or manifest.get("status") not in ("completed", "diverged"):
            raise CorruptFile(path, "not a manifest")
        listed = manifest.get("files")
        if not isinstance(listed, dict) or manifest.get("weights") not in ("kept", "omitted"):
            raise CorruptFile(path, "not a manifest")
        for name, entry in listed.items():
            if not _SAFE_FILE.fullmatch(name) or not isinstance(entry, dict):
                raise CorruptFile(path, f"{quoted(name)} is not a file of a run")
            if not isinstance(entry.get("bytes"), int) or not isinstance(entry.get("sha256"), str):
                raise CorruptFile(path, f"{quoted(name)} has no size or hash")
        return manifest

    def verify(self) -> list[str]:
        """What is wrong with a finished folder, file by file, contents hashed; empty when it is whole."""
        try:
            manifest = self.manifest()
        except CorruptFile as error:
            return [str(error)]
        if manifest is None:
            return [f"{self.path}: not finished"]
        wrong = self._misfits(manifest)
        if wrong:
            return wrong
        for name, entry in self._present(manifest).items():
            if files.sha256_of(self.path / name) != entry["sha256"]:
                wrong.append(f"{self.path / name}: contents differ from what was written")
        return wrong

    def _misfits(self, manifest: dict[str, Any]) -> list[str]:
        wrong: list[str] = []
        for name, entry in self._present(manifest).items():
            path = self.path / name
            if path.is_symlink() or not path.is_file():
                wrong.append(f"{path}: missing")
            elif path.stat().st_size != entry["bytes"]:
                wrong.append(f"{path}: {path.stat().st_size} bytes, not {entry['bytes']}")
        return wrong

    @staticmethod
    def _present(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
        listed: dict[str, dict[str, Any]] = manifest["files"]
        return {name: entry for name, entry in listed.items() if manifest["weights"] == "kept" or name != WEIGHTS}

    # ------------------------------------------------------------------------------------------ writing

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        """Makes this process the folder's only writer, makes the folder, and sweeps what a killed writer left.

        The lock file lies beside the folder, so that a folder can be put aside while it is held. A thread that holds
        it may take it again. Raises Busy when somebody else holds it for longer than `timeout` seconds.
        """
        self.locks.mkdir(parents=True, exist_ok=True)
        held = FileLock(self.locks / self.id, is_singleton=True)
        try:
            held.acquire(timeout=timeout)
        except Timeout:
            raise Busy(f"{self.path} is being written by another process") from None
        try:
            self.path.mkdir(exist_ok=True)
            self.sweep()
            yield
        finally:
            held.release()

    def sweep(self) -> None:
        """Removes killed writers' temporary files and, in a finished folder, what `finish` did not come to remove."""
        files.sweep(self.path)
        if (self.path / "DONE").exists():
            self._drop_passing()

    def finish(self, status: Outcome, reason: str | None = None, weights: Literal["kept", "omitted"] = "kept") -> None:
        """Writes `DONE` over every file there is, then drops checkpoints and an earlier failure."""
        listed = {
            path.name: {"sha256": files.sha256_of(path), "bytes": path.stat().st_size}
            for path in sorted(self.path.iterdir())
            if _SAFE_FILE.fullmatch(path.name) and not _PASSING.fullmatch(path.name)
        }
        files.fault("before_done")
        manifest = {"status": status, "reason": reason, "finished": time.time(), "files": listed, "weights": weights}
        files.write_json(self.path / "DONE", manifest)
        self._drop_passing()

    def _drop_passing(self) -> None:
        for path in self.path.iterdir():
            if _PASSING.fullmatch(path.name) and path.name != "DONE":
                path.unlink(missing_ok=True)

    def fail(self, status: Failure, reason: str, last_step: int | None = None, traceback: str | None = None) -> None:
        """Records a failure of the machine or the program, not of training; the next attempt may succeed."""
        earlier = self.failure() or {}
        attempts = earlier.get("attempts")
        failure = {
            "status": status,
            "reason": reason,
            "attempts": attempts + 1 if isinstance(attempts, int) else 1,
            "last_step": last_step,
            "traceback": traceback,
            "at": time.time(),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path / "FAILED.json", failure)

    def failure(self) -> dict[str, Any] | None:
        """The last failure recorded; None when there is none, or none that reads: it only informs."""
        try:
            failure = files.read_json(self.path / "FAILED.json", most=files.MAX_FACTS_BYTES)
        except (FileNotFoundError, NotADirectoryError, CorruptFile):
            return None
        return failure if isinstance(failure, dict) and {"status", "reason"} <= failure.keys() else None

    def quarantine(self) -> Path:
        """Puts the folder aside as `<id>.corrupt-<n>`, so that its work is done again. The caller holds the lock."""
        return put_aside(self.path)

    # ------------------------------------------------------------------------------------------ reading

    def job_json(self) -> dict[str, Any]:
        """What was run, where and on what data. Raises FileNotFoundError or CorruptFile."""
        value = files.read_json(self.path / "job.json", most=files.MAX_FACTS_BYTES)
        if not isinstance(value, dict):
            raise CorruptFile(self.path / "job.json", "not a JSON object")
        return value

    def each_record(self, *, most: int = files.MOST_ROWS) -> Iterator[Record]:
        """All records, in the order written, none when there is no file.

        Raises StaleRecord for another version of a metric, and CorruptFile, for more records than `most` too.
        """
        path = self.path / "records.jsonl"
        for row in self.each_row(path.name, most=most):
            try:
                item = Record.model_validate(row)
                current = _version(item.metric)
            except (ValidationError, ValueError, KeyError) as error:
                raise CorruptFile(path, f"not a record: {error}") from error
            if item.version != current:
                raise StaleRecord(path, f"{item.metric} has version {item.version}, this moebench has {current}")
            yield item

    def each_row(self, name: str, *, most: int = files.MOST_ROWS) -> Iterator[dict[str, Any]]:
        """The rows of one of its JSON Lines files, none when there is no file. Raises CorruptFile."""
        try:
            yield from files.each_row(self.path / name, most=most)
        except FileNotFoundError:
            return

    def records(self) -> list[Record]:
        """All records. Raises what `each_record` raises."""
        return list(self.each_record())

    def steps(self) -> list[dict[str, Any]]:
        """One row per optimizer step so far. Raises CorruptFile."""
        return list(self.each_row("steps.jsonl"))

    def items(self) -> list[dict[str, Any]]:
        """One row per document evaluated after the last step. Raises CorruptFile."""
        return list(self.each_row("items.jsonl"))


def put_aside(path: Path) -> Path:
    """Renames a file or folder to `<name>.corrupt-<n>`, the first n that is free, and returns the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    return path.rename(aside)


def is_safe_id(name: str) -> bool:
    """Whether a name is safe as that of a run's folder."""
    return _SAFE_ID.fullmatch(name) is not None


@functools.lru_cache(maxsize=4096)
def _version(metric: str) -> int:
    return metric_of(metric).version
