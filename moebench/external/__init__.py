"""Numbers that somebody measured elsewhere: a tidy table, or the folder that lm-eval writes.

`read` gives a table's runs with their metrics and items, or refuses it with file and line; nothing is guessed. What the
numbers mean to a suite, and what is made of them, is known to others. Standard library and numpy.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from moebench.external import lm_eval, table
from moebench.external.numbers import Read, ResultsError


@functools.lru_cache(maxsize=4)
def _read(path: Path, _changed: Any) -> Read:
    return lm_eval.read(path) if path.is_dir() else table.read(path)


def read(path: Path) -> Read:
    """Everything that a file or folder holds. Raises ResultsError, saying where and what to do."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ResultsError(path, f"cannot be read: {error.strerror}") from None
    if path.is_dir():
        stats = [(file, file.lstat()) for file in sorted((*path.glob("*"), *path.glob("*/*")))]
        return _read(path, tuple((str(file), one.st_mtime_ns, one.st_size) for file, one in stats))
    return _read(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size))  # several models and jobs read one table


__all__ = ["Read", "ResultsError", "read"]
