"""What every reader of one job holds against what was written: its own id, labels, numbers and words."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from moebench.identity import job_id
from moebench.metrics.ref import MetricRef
from moebench.store import CorruptFile, Folder

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a file of unknown content can raise; CorruptFile, StaleRecord and UnsafeName are ValueErrors."""


def is_own(folder: Folder, job: Mapping[str, Any]) -> None:
    """The folder is that of the job it is named after, by the hash of what is written: a truth value is no seed."""
    if (own := job_id(job["kind"], job["spec"], job["inputs"])) != folder.id:
        raise CorruptFile(folder.path / "job.json", f"has the id {own}, not {folder.id}: a copy of another run")


Labels = tuple[tuple[str, range | tuple[int, ...] | tuple[str, ...] | frozenset[str]], ...]
"""Label -> what there is of it: layers, experts, domains, parts, or what was timed."""


@functools.lru_cache(maxsize=2**16)
def misfit(metric: str, known: Labels) -> str | None:
    """The first label of a metric that names nothing there is; None when all do."""
    there_are = dict(known)
    for label, value in MetricRef.parse(metric).labels:
        number = int(value) if re.fullmatch("[0-9]{1,9}", value) else None
        wanted = there_are.get(label, ())
        if value not in wanted and number not in wanted:
            return label
    return None


def number(value: Any, what: str) -> Any:
    """A number as JSON has it. Raises TypeError for a truth value, a word, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what} is {value!r}, not a number")
    return value


def word(value: Any, what: str) -> str:
    """A string as JSON has it. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {value!r}, not a word")
    return value


def wrong(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
