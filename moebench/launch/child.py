"""A worker as the coordinator sees it: a process, two pipes, and a log whose last lines explain its death.

The process stays in the coordinator's process group, so that killing the group kills it too. The log is an unnamed
temporary file: nothing is left behind, however either side ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

import moebench
from moebench.environment import oom_kills
from moebench.jobs.task import Task
from moebench.launch.task import Event
from moebench.launch.worker import STOP
from moebench.store import Failure

_TAIL_BYTES, _LOG_BYTES = 4000, 2**20
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Child:
    """One worker process."""

    def __init__(self, command: Sequence[str], *, threads: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the worker
        # Blocked here, SIGINT is blocked in the child from its first instruction: a terminal's Ctrl-C goes to the
        # whole group, and Python's start-up would die of it before the worker could ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=child_environment(threads),
                bufsize=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._unread = b""
        self._log_start = 0
        self._oom_kills: int | None = None
        self.task: Task | None = None
        """The run it is at, None when it waits for one."""
        self.heard = time.monotonic()
        """When it last gave a sign of life."""
        self.last_step: int | None = None
        self.retired = False
        """It takes no more runs and is about to end."""
        self.is_hung = False

    def fileno(self) -> int:
        """Of the pipe its events come through, for a selector."""
        return self._stdout.fileno()

    def give(self, task: Task, root: Path) -> None:
        """Hands it a run."""
        self.task, self.last_step, self.heard = task, None, time.monotonic()
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._oom_kills = oom_kills()
        self._send((json.dumps({**task.model_dump(mode="json"), "results": str(root)}) + "\n").encode())

    def ask_to_stop(self) -> None:
        """Asks for a checkpoint and an end."""
        self.retired = True
        self._send(STOP)

    def retire(self) -> None:
        """Ends an idle worker: the end of its standard input is its signal to go."""
        self.retired = True
        with suppress(OSError):
            self._stdin.close()

    def read(self) -> list[Event] | None:
        """The events that have come, None after the last. Raises ValueError for a line that is no event."""
        data = os.read(self.fileno(), 65536)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            self.heard = time.monotonic()
        return [json.loads(line) for line in lines]

    def ended(self) -> bool:
        """Whether the process is gone, even if something it started keeps the pipe open."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kills it and everything it started, at once."""
        with suppress(psutil.NoSuchProcess):
            for offspring in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    offspring.kill()
        with suppress(ProcessLookupError):
            self._process.kill()

    def bury(self) -> None:
        """Waits for its end, which is near, and lets go of its pipes."""
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        for pipe in (self._stdin, self._stdout, self._log):
            with suppress(OSError):
                pipe.close()

    def post_mortem(self) -> tuple[Failure, str, str]:
        """What it died of: kind, reason in one line, and its last words. Call before `bury` lets go of the log."""
        code = self._process.wait()
        words = self.log(_TAIL_BYTES)
        last = f"; its last words: {words.splitlines()[-1].strip()}" if words else ""
        if self.is_hung:
            return "timeout", "no progress for too long", words
        if code == -signal.SIGKILL:
            now = oom_kills()
            if now is not None and self._oom_kills is not None and now > self._oom_kills:
                return "oom", "killed by the kernel for want of memory", words
            return "killed", "killed by SIGKILL", words
        if code == -signal.SIGTERM:
            return "killed", "killed by SIGTERM", words
        if code < 0:
            return "crash", f"died of {signal.Signals(-code).name}{last}", words
        return "crash", f"ended with exit code {code}{last}", words

    def log(self, most: int = _LOG_BYTES) -> str:
        """What it wrote to standard error since it was given its run, the last `most` bytes of it."""
        end = os.fstat(self._log.fileno()).st_size
        start = max(self._log_start, end - most)
        return os.pread(self._log.fileno(), end - start, start).decode(errors="replace").strip()

    def _send(self, message: bytes) -> None:
        with suppress(OSError, ValueError):  # a dead worker is noticed by its silence
            self._stdin.write(message)


def child_environment(threads: int) -> dict[str, str]:
    """Environment of a worker: threads pinned before torch loads, and this moebench importable as it is here."""
    variables = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads)), "PYTHONUNBUFFERED": "1"}
    home = Path(moebench.__file__).resolve().parents[1]
    if home.name not in {"site-packages", "dist-packages"}:
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), variables.get("PYTHONPATH")]))
    return variables
