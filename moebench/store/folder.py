"""What anyone may read of one job: the same from a live folder and from a bundle.

What a folder's files mean is known to those who write them; only records are checked here, because their definitions
carry versions.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from moebench.metrics import metric_of
from moebench.metrics.metric import Record
from moebench.store import files
from moebench.store.files import CorruptFile

Status = Literal["missing", "partial", "completed", "diverged", "failed", "corrupt"]
Outcome = Literal["completed", "diverged"]

WEIGHTS = "model.safetensors"
DONE, JOB, RECORDS, PROCESS = "DONE", "job.json", "records.jsonl", "process.json"
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class UnsafeName(ValueError):  # noqa: N818  the name is read in `except UnsafeName`
    """A name that could lead outside the results folder."""


class StaleRecord(CorruptFile):
    """A record of another version of its metric's definition: refused, not mixed."""


class Folder(ABC):
    """The files of one job, to read."""

    id: str
    path: Path
    """Where it lies; in a bundle, where it would."""

    @abstractmethod
    def status(self) -> Status:
        """What state it is in, cheaply: sizes are compared, contents are not (`verify` does that).

        `missing`: nothing is there. `partial`: begun. `failed`: `failure` says why. `corrupt`: its manifest does not
        fit the files.
        """

    @abstractmethod
    def manifest(self) -> dict[str, Any] | None:
        """What was written last: status, reason, time, files. None before that; CorruptFile when it does not read."""

    @abstractmethod
    def verify(self) -> list[str]:
        """What is wrong with a finished folder, file by file, contents hashed; empty when it is whole."""

    def unchanged(self, names: Iterable[str]) -> None:  # noqa: B027  what a bundle holds was hashed when it was opened
        """Raises CorruptFile unless each of these files that is there is in the manifest, with its hash."""

    @abstractmethod
    def failure(self) -> dict[str, Any] | None:
        """The last failure recorded; None when there is none, or none that reads: it only informs."""

    @abstractmethod
    def names(self) -> set[str]:
        """The names of its files."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether it has a file of this name."""

    @abstractmethod
    def read(self, name: str) -> Any:
        """The value of one of its JSON files, or of its manifest as it is. Raises FileNotFoundError or CorruptFile."""

    @abstractmethod
    def each_row(self, name: str, *, most: int = files.MOST_ROWS) -> Iterator[dict[str, Any]]:
        """The rows of one of its JSON Lines files, none when there is no file. Raises CorruptFile."""

    def is_locked(self) -> bool:
        """Whether somebody is writing it at this moment."""
        return False

    def job_json(self) -> dict[str, Any]:
        """What was done, where and on what data. Raises FileNotFoundError or CorruptFile."""
        value = self.read(JOB)
        if not isinstance(value, dict):
            raise CorruptFile(self.path / JOB, "not a JSON object")
        return value

    @property
    def kind(self) -> str | None:
        """What kind of job it is; None when it does not say."""
        kind = self._job().get("kind")
        return kind if isinstance(kind, str) else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Ids of the jobs that it started from; none when it does not say."""
        inputs = self._job().get("inputs")
        return tuple(map(str, inputs)) if isinstance(inputs, list) else ()

    def spec(self) -> dict[str, Any]:
        """What decided its result, beside its inputs. Raises FileNotFoundError or CorruptFile."""
        spec = self.job_json().get("job", {}).get("spec")
        if not isinstance(spec, dict):
            raise CorruptFile(self.path / JOB, "has no spec")
        return spec

    def _job(self) -> dict[str, Any]:
        try:
            job = self.job_json().get("job")
        except (OSError, CorruptFile):
            return {}
        return job if isinstance(job, dict) else {}

    def each_record(self, *, most: int = files.MOST_ROWS) -> Iterator[Record]:
        """All records, in the order written, none when there is no file.

        Raises StaleRecord for another version of a metric, and CorruptFile, for more records than `most` too.
        """
        path = self.path / RECORDS
        for row in self.each_row(RECORDS, most=most):
            try:
                item = Record.model_validate(row)
                current = _version(item.metric)
            except (ValidationError, ValueError, KeyError) as error:
                raise CorruptFile(path, f"not a record: {error}") from error
            if item.version != current:
                raise StaleRecord(path, f"{item.metric} has version {item.version}, this moebench has {current}")
            yield item

    def records(self) -> list[Record]:
        """All records. Raises what `each_record` raises."""
        return list(self.each_record())

    def steps(self) -> list[dict[str, Any]]:
        """One row per optimizer step so far. Raises CorruptFile."""
        return list(self.each_row("steps.jsonl"))

    def items(self) -> list[dict[str, Any]]:
        """One row per document evaluated after the last step. Raises CorruptFile."""
        return list(self.each_row("items.jsonl"))


def is_safe_id(name: str) -> bool:
    """Whether a name is safe as that of a job's folder."""
    return _SAFE_ID.fullmatch(name) is not None


def _version(metric: str) -> int:
    return metric_of(metric).version
