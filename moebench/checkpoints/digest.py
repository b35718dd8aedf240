"""SHA-256 of a checkpoint's files, so that one that changed later is told from the one that was planned.

Hashing 100 GB takes minutes, so a file's hash is kept with its size and times of change, and taken anew when any of
them differs. A bit that flips changes the time; so does a file that is written over with its old time put back, by the
time of the change of its entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from moebench.identity import digest_of
from moebench.store.files import read_json, write_json


def digest(folder: Path, names: Iterable[str], *, cache: Path | None) -> str:
    """Hash over the names and contents of files of a folder."""
    known = _known(folder, cache)
    found = {name: _sha256(folder / name, known.get(name)) for name in sorted(names)}
    if cache is not None and found != known:
        cache.mkdir(parents=True, exist_ok=True)
        write_json(_file(folder, cache), {"files": found})
    return digest_of({name: row["sha256"] for name, row in found.items()}, length=64)


def _sha256(path: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    is_now = path.stat()
    now = {"size": is_now.st_size, "mtime_ns": is_now.st_mtime_ns, "ctime_ns": is_now.st_ctime_ns}
    if known is not None and known | now == known and isinstance(known.get("sha256"), str):
        return known
    with path.open("rb") as stream:
        return {**now, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _file(folder: Path, cache: Path) -> Path:
    return cache / f"{digest_of(str(folder), length=20)}.json"


def _known(folder: Path, cache: Path | None) -> dict[str, dict[str, Any]]:
    """What was hashed before; nothing where that does not read."""
    if cache is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            rows = read_json(_file(folder, cache))["files"]
            return {str(name): dict(row) for name, row in rows.items()}
    return {}
