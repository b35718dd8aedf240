"""One attempt at one job, whatever happens in it: the folder is locked, and the end is named.

A job that is already finished is left alone after its contents were checked; a finished folder that does not fit its
manifest, or is a copy of another job's, is put aside and done again. An exception becomes a failure of a known kind,
recorded in the folder. Divergence is an outcome of training, no failure, and comes from the job itself.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from moebench.identity import job_id
from moebench.jobs import KINDS
from moebench.jobs.job import Job
from moebench.jobs.kind import Execute
from moebench.launch.events import Event, OnEvent
from moebench.store import Busy, CorruptFile, Failure, JobFolder, Results

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_NO_SPACE = ("no space left on device", "file too large", "disk quota exceeded")
_TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
"""I/O errors that may not come again; other exceptions are the program's and would."""


def finished(job: Job, root: Path) -> str | None:
    """'completed' or 'diverged' when the job's folder is whole, contents checked, its own and up to date; else None."""
    status = whole(Results(root).job(job.id))
    return None if status is None or KINDS[job.kind].is_outdated(job, root) else status


def whole(folder: JobFolder) -> str | None:
    """'completed' or 'diverged' when a folder is whole and that of the job it is named after; else None."""
    status = folder.status()
    is_whole = status in ("completed", "diverged") and not folder.verify()
    return status if is_whole and _is_its_own(folder) else None


def _is_its_own(folder: JobFolder) -> bool:
    try:
        job = folder.job_json()["job"]
        return job_id(job["kind"], job["spec"], job["inputs"]) == folder.id
    except (OSError, CorruptFile, KeyError, TypeError):
        return False


def execute_kind(job: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """The real thing: does what the job's kind does."""
    return KINDS[job.kind].execute(job, root=root, on_event=on_event, should_stop=should_stop)


def carry_out(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    execute: Execute = execute_kind,
) -> Event:
    """Makes one attempt and returns its last event: `finished`, `stopped`, `failed`, or `busy` when it is locked."""
    folder = Results(root).job(job.id)
    last_step: int | None = None

    def listen(event: Event) -> None:
        nonlocal last_step
        last_step = event.get("step", last_step)
        on_event(event)

    try:
        with folder.lock():
            if (status := finished(job, root)) is not None:
                return job.event("finished", status=status, already=True)
            if whole(folder) is not None:
                (folder.path / "DONE").unlink()
            elif folder.status() in ("completed", "diverged", "corrupt"):
                folder.quarantine()
                folder.path.mkdir()
            try:
                status = execute(job, root=root, on_event=listen, should_stop=should_stop)
                return _outcome(job, folder, status)
            except (Exception, SystemExit) as error:
                return _failure(job, folder, error, last_step)
    except Busy:
        return job.event("busy")


def _outcome(job: Job, folder: JobFolder, status: str) -> Event:
    if status == "stopped":
        return job.event("stopped")
    if folder.status() != status:
        raise RuntimeError(f"the job says {status}, its folder says {folder.status()}")
    return job.event("finished", status=status)


def _failure(job: Job, folder: JobFolder, error: BaseException, last_step: int | None) -> Event:
    status, retry = classify(error)
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    words = "".join(traceback.format_exception(error))
    with suppress(OSError):  # a full disk refuses this too; the event still tells
        folder.fail(status, reason, last_step, words)
    return job.event("failed", status=status, reason=reason, last_step=last_step, traceback=words, retry=retry)


def with_log(event: Event, text: str, *, root: Path) -> Event:
    """The event of a failure with the place of its log, which is kept under the results folder."""
    path = Results(root).keep_log(event["run"], text.lstrip("\n"))
    return event if path is None else {**event, "log": path.name}


def classify(error: BaseException) -> tuple[Failure, bool]:
    """What kind of failure an exception is, and whether trying again at once may help."""
    text = str(error).lower()
    number = error.errno if isinstance(error, OSError) else None
    # torch's class is known by name, so that naming a failure loads no torch.
    is_torch_oom = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    if isinstance(error, MemoryError) or is_torch_oom or number == errno.ENOMEM:
        return "oom", False
    if isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY):
        return "oom", False
    # safetensors reports the system's error as text in a class of its own
    if number in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT} or any(words in text for words in _NO_SPACE):
        return "disk_full", False
    return "crash", number in _TRANSIENT
