"""Files that are absent, old or new, never half; and reading them back without trusting them.

A whole file is written beside its place under a unique name, flushed to the disk, and moved there in one step. Rows
are appended in one write; a reader passes over a last row that a kill tore, and nothing else. Reading refuses links,
pipes, absurd sizes, and JSON that is not JSON: NaN, Infinity and numbers of absurd size. Rows are read one by one, as
long as they are no longer and no more than they can be. Nothing here knows what the files mean. Pickle is never read.

Test hook: with `MOEBENCH_FAULT=<point>:<n>` in its environment a process kills itself (SIGKILL) the n-th time it
passes the named point, one of `FAULT_POINTS`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import signal
import stat
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from moebench.text import plain

TEMPORARY = ".tmp-"
"""Mark in the name of a file that is not yet in its place; `sweep` removes what a kill left behind."""
MAX_JSON_BYTES = 256 * 2**20
"""Larger JSON than this is refused unread: no file of a results folder comes near it."""
MAX_FACTS_BYTES = 32 * 2**20
"""The same for a file that says one thing, such as a manifest, a plan, or what one process timed."""
MAX_ROW_BYTES = 2**16
"""A longer row is refused unread: a row holds a few numbers and names."""
MOST_ROWS = 5_000_000
"""Rows of a file whose reader cannot know how many there should be."""
MOST_DIGITS = 30
"""A longer whole number counts nothing that there is."""
MOST_SHOWN = 500
"""Characters shown of what is wrong with a file, or of what it says."""
FAULT_POINTS = ("tmp_written", "replaced", "appended", "before_done")

_passed: Counter[str] = Counter()


class CorruptFile(ValueError):  # noqa: N818  the name is read in `except CorruptFile`
    """A file of a results folder that does not hold what it should."""

    def __init__(self, path: Path, reason: str) -> None:
        reason = plain(reason, most=MOST_SHOWN)  # what the file holds may be in it
        super().__init__(f"{plain(path)}: {reason}")
        self.path = path
        self.reason = reason


def words_of(error: Exception) -> str:
    """What reading unknown contents raised, as one short line."""
    why = f"no {error.args[0]} in it" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return plain(why, most=MOST_SHOWN)


def fault(point: str) -> None:
    """Kills this process here if the test hook asks for it; otherwise does nothing."""
    asked = os.environ.get("MOEBENCH_FAULT")
    if asked is None:
        return
    name, _, nth = asked.partition(":")
    _passed[point] += 1
    if name == point and _passed[point] == int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------------------------------------- writing


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces a file in one step; after return it is on the disk. Raises OSError and leaves the old file as it was."""
    with replaced(path) as file:
        file.write(data)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of another in one step, when the block has ended without an error."""
    temporary = path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fault("tmp_written")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    fault("replaced")


def write_json(path: Path, value: Any) -> None:
    """Replaces a JSON file in one step. Raises ValueError for NaN and infinity."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def append_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows as JSON Lines in one write and flushes them to the disk; cuts off a torn last row first.

    Raises ValueError for NaN and infinity, OSError when the disk refuses; then no row is added.
    """
    if not rows:
        return
    data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        end = _end_of_whole_rows(file.fileno())
        try:
            os.ftruncate(file.fileno(), end)
            written = 0
            while written < len(data):
                written += os.pwrite(file.fileno(), data[written:], end + written)
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise
    if is_new:
        _sync_folder(path.parent)
    fault("appended")


def keep_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drops the rows for which `keep` is false; the others keep their bytes. Does nothing when none is dropped."""
    if not path.exists():
        return
    data = read_bytes(path)
    lines = data.split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    kept = b"".join(line + b"\n" for line, row in zip(lines, each_row(path), strict=True) if keep(row))
    if kept != data:
        write_bytes(path, kept)


def sweep(folder: Path) -> None:
    """Removes the temporary files that killed writers left. Only for whoever holds the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}*"):
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- reading


def read_bytes(path: Path, *, most: int = MAX_JSON_BYTES) -> bytes:
    """A plain file's bytes. Raises FileNotFoundError, and CorruptFile for a link, a pipe or more than `most` bytes."""
    with open_regular(path) as descriptor:
        if os.fstat(descriptor.fileno()).st_size > most:
            raise CorruptFile(path, f"larger than {most} bytes")
        return descriptor.read(most)


def read_json(path: Path, *, most: int = MAX_JSON_BYTES) -> Any:
    """A JSON file's value. Raises FileNotFoundError, and CorruptFile when it is no JSON or larger than `most` bytes."""
    return parse_json(path, read_bytes(path, most=most))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, none when it is absent; see `each_row`."""
    try:
        return list(each_row(path))
    except FileNotFoundError:
        return []


def each_row(path: Path, *, most: int = MOST_ROWS) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file one by one; a last row without its newline was torn and is left out.

    Raises FileNotFoundError, and CorruptFile for a bad row anywhere else, one that is too long, and for more rows than
    `most`, of which it reads no more.
    """
    with open_regular(path) as file:
        number = 0
        while (line := file.readline(MAX_ROW_BYTES + 1)).endswith(b"\n"):
            number += 1
            if number > most:
                raise CorruptFile(path, f"more rows than {most:,}")
            row = parse_json(path, line, f"line {number}: ")
            if not isinstance(row, dict):
                raise CorruptFile(path, f"line {number}: a row is a JSON object")
            yield row
        if len(line) > MAX_ROW_BYTES and any(b"\n" in more for more in iter(lambda: file.read(2**20), b"")):
            raise CorruptFile(path, f"line {number + 1}: longer than {MAX_ROW_BYTES:,} bytes")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a regular file of any size."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file for reading in binary, never through a link and never waiting on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptFile(path, f"cannot be opened as a plain file: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptFile(path, "is not a plain file")
    return os.fdopen(descriptor, "rb")


def parse_json(path: Path, data: bytes, where: str = "") -> Any:
    """The value of JSON that was read from `path`. Raises CorruptFile."""
    try:
        return _JSON.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptFile(path, f"{where}not valid JSON: {error}") from error


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} overflows")
    return value


def _whole(text: str) -> int | float:
    """A whole number; one that no 64 bits hold, such as FLOPs, as the nearest double."""
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits")
    value = int(text)
    return value if abs(value) < 2**63 else float(value)


_JSON = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_whole)


def _end_of_whole_rows(descriptor: int) -> int:
    """Offset just after the last newline: where the next row belongs."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
