"""One attempt at one run, whatever happens in it: the folder is locked, and the end is named.

A run that is already finished is left alone after its contents were checked; a finished folder that does not fit its
manifest, or is a copy of another run's, is put aside and done again. An exception becomes a failure of a known kind,
recorded in the folder. Divergence is an outcome of training, no failure, and comes from the run itself.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from moebench.identity import digest_of
from moebench.jobs.task import Task
from moebench.launch.task import Event, Execute, OnEvent
from moebench.store import Busy, CorruptFile, Failure, JobFolder, Results

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
_NO_SPACE = ("no space left on device", "file too large", "disk quota exceeded")
_TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
"""I/O errors that may not come again; other exceptions are the program's and would."""


def finished(folder: JobFolder) -> str | None:
    """'completed' or 'diverged' when the folder is whole, contents checked, and its own; else None."""
    status = folder.status()
    whole = status in ("completed", "diverged") and not folder.verify()
    return status if whole and _is_its_own(folder) else None


def _is_its_own(folder: JobFolder) -> bool:
    """Whether the run in the folder is the one that the folder is named after, and not a copy of another."""
    try:
        return digest_of(folder.job_json()["run"], length=len(folder.id)) == folder.id
    except (OSError, CorruptFile, KeyError):
        return False


def carry_out(task: Task, *, root: Path, execute: Execute, on_event: OnEvent, should_stop: Callable[[], bool]) -> Event:
    """Makes one attempt and returns its last event: `finished`, `stopped`, `failed`, or `busy` when it is locked."""
    folder = Results(root).job(task.id)
    last_step: int | None = None

    def listen(event: Event) -> None:
        nonlocal last_step
        last_step = event.get("step", last_step)
        on_event(event)

    try:
        with folder.lock():
            if (status := finished(folder)) is not None:
                return task.event("finished", status=status, already=True)
            if folder.status() in ("completed", "diverged", "corrupt"):
                folder.quarantine()
                folder.path.mkdir()
            try:
                status = execute(task, root=root, on_event=listen, should_stop=should_stop)
                return _outcome(task, folder, status)
            except (Exception, SystemExit) as error:
                return _failure(task, folder, error, last_step)
    except Busy:
        return task.event("busy")


def _outcome(task: Task, folder: JobFolder, status: str) -> Event:
    if status == "stopped":
        return task.event("stopped")
    if folder.status() != status:
        raise RuntimeError(f"the run says {status}, its folder says {folder.status()}")
    return task.event("finished", status=status)


def _failure(task: Task, folder: JobFolder, error: BaseException, last_step: int | None) -> Event:
    status, retry = classify(error)
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    words = "".join(traceback.format_exception(error))
    with suppress(OSError):  # a full disk refuses this too; the event still tells
        folder.fail(status, reason, last_step, words)
    return task.event("failed", status=status, reason=reason, last_step=last_step, traceback=words, retry=retry)


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
