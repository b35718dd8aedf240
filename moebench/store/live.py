"""One folder of results, such as a run: what state it is in, who may write it, and whether it is whole.

`DONE`, the manifest with every file's SHA-256 and size, is written last; its presence means complete. A folder has one
writer at a time: the holder of its lock, which the kernel takes back when the holder dies. What a folder's files mean
is known to those who write them; only records are checked here, because their definitions carry versions.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.store.folder import WEIGHTS, Folder, Outcome, Status, UnsafeName, is_safe_id
from moebench.text import quoted

Failure = Literal["oom", "timeout", "killed", "crash", "disk_full"]

_SAFE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
ASIDE = ".corrupt-"
"""Stands in the name of what was put aside, after the name it had."""
_PASSING = re.compile(r"checkpoint.*|.*\.corrupt-\d+|FAILED\.json|DONE")
"""Files that are no part of a finished folder's contents."""


class Busy(RuntimeError):  # noqa: N818  the name is read in `except Busy`
    """Another process holds the folder."""


class JobFolder(Folder):
    """A folder of results whose `DONE` is written last. Holds no state of its own: the disk is the truth."""

    def __init__(self, path: Path, *, aside: bool = False) -> None:
        if not is_safe_id(path.name.partition(ASIDE)[0] if aside else path.name):
            raise UnsafeName(f"{quoted(path.name)} is not the name of a run")
        self.path = path
        self.id = path.name

    @property
    def locks(self) -> Path:
        """Where the locks of this folder and those beside it lie."""
        return self.path.parent / ".locks"

    # ------------------------------------------------------------------------------------------ state

    def status(self) -> Status:
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

    def unchanged(self, names: Iterable[str]) -> None:
        listed = (self.manifest() or {"files": {}})["files"]
        for name in names:
            if name not in listed:
                if self.has(name):
                    raise CorruptFile(self.path / name, "is not in the manifest of this run")
            elif files.sha256_of(self.path / name) != listed[name]["sha256"]:
                raise CorruptFile(self.path / name, "contents differ from what was written")

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

    def is_locked(self) -> bool:
        try:
            with (self.locks / self.id).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go of at once, and no other reader is in its way
        except BlockingIOError:
            return True
        except OSError:
            pass  # never locked, or on a disk that knows no locks
        return False

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
        try:
            failure = files.read_json(self.path / "FAILED.json", most=files.MAX_FACTS_BYTES)
        except (FileNotFoundError, NotADirectoryError, CorruptFile):
            return None
        return failure if isinstance(failure, dict) and {"status", "reason"} <= failure.keys() else None

    def quarantine(self) -> Path:
        """Puts the folder aside as `<id>.corrupt-<n>`, so that its work is done again. The caller holds the lock."""
        return put_aside(self.path)

    # ------------------------------------------------------------------------------------------ reading

    def names(self) -> set[str]:
        return {path.name for path in self.path.glob("*")}

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> Any:
        return files.read_json(self.path / name, most=files.MAX_FACTS_BYTES)

    def each_row(self, name: str, *, most: int = files.MOST_ROWS) -> Iterator[dict[str, Any]]:
        try:
            yield from files.each_row(self.path / name, most=most)
        except FileNotFoundError:
            return

    def num_bytes(self) -> int:
        """Bytes of its files."""
        return sum(path.lstat().st_size for path in self.path.glob("*"))


def put_aside(path: Path) -> Path:
    """Renames a file or folder to `<name>.corrupt-<n>`, the first n that is free, and returns the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}{ASIDE}{number}")).exists():
        number += 1
    return path.rename(aside)
