"""Jobs in worker processes of this machine, which may crash, hang or be killed one at a time.

A worker is a process, two pipes, and a log whose last lines explain its death. It stays in this process group, so that
killing the group kills it too. The log is an unnamed temporary file: nothing is left behind, however either side ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

import moebench
from moebench.environment import oom_kills
from moebench.jobs.job import Job
from moebench.launch.events import Event
from moebench.launch.options import LaunchOptions
from moebench.launch.place import Place, Worker
from moebench.launch.worker import STOP
from moebench.store import Failure

WORKER = (sys.executable, "-P", "-m", "moebench.launch")
"""Command of a worker. `-P`: a file in the user's folder must not stand in for a module."""
_TAIL_BYTES, _LOG_BYTES = 4000, 2**20
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class ProcessPlace(Place):
    """This machine: its pipes and the alarm of signals are waited for together, so nothing spins."""

    def __init__(
        self, options: LaunchOptions, *, is_stopping: Callable[[], bool], command: Sequence[str] = WORKER
    ) -> None:
        super().__init__(options, is_stopping=is_stopping)
        self._command = command
        self._selector = selectors.DefaultSelector()
        self._awake, self._alarm = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm.setblocking(False)
        self.alarm = self._alarm.fileno()
        self._selector.register(self._awake, selectors.EVENT_READ, None)

    def start(self, job: Job) -> Worker:
        worker = ProcessWorker(self._command, threads=job.threads, root=self.options.root)
        self._selector.register(worker, selectors.EVENT_READ, worker)
        return worker

    def wait(self, seconds: float) -> Iterable[Worker]:
        heard = []
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                heard.append(key.data)
                continue
            with suppress(BlockingIOError):
                self._awake.recv(4096)
        return heard

    def forget(self, worker: Worker) -> None:
        assert isinstance(worker, ProcessWorker)
        self._selector.unregister(worker)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._selector, self._awake, self._alarm):
            one.close()


class ProcessWorker(Worker):
    """One worker process."""

    def __init__(self, command: Sequence[str], *, threads: int, root: Path) -> None:
        super().__init__()
        self._root = root
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

    def fileno(self) -> int:
        """Of the pipe its events come through, for a selector."""
        return self._stdout.fileno()

    def give(self, job: Job) -> None:
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._oom_kills = oom_kills()
        self._send((json.dumps({**job.model_dump(mode="json"), "results": str(self._root)}) + "\n").encode())

    def ask_to_stop(self) -> None:
        self.retired = True
        self._send(STOP)

    def retire(self) -> None:
        self.retired = True
        with suppress(OSError):
            self._stdin.close()  # the end of its standard input is its signal to go

    def read(self) -> list[Event] | None:
        data = os.read(self.fileno(), 65536)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            self.heard = time.monotonic()
        return [json.loads(line) for line in lines]

    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        with suppress(psutil.NoSuchProcess):
            for offspring in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    offspring.kill()
        with suppress(ProcessLookupError):
            self._process.kill()

    def reap(self) -> None:
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        for pipe in (self._stdin, self._stdout, self._log):
            with suppress(OSError):
                pipe.close()

    def post_mortem(self) -> tuple[Failure, str, str]:
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
    return {**os.environ, **worker_variables(threads)}


def worker_variables(threads: int) -> dict[str, str]:
    """What of it is the worker's own."""
    variables = {**dict.fromkeys(_THREAD_VARIABLES, str(threads)), "PYTHONUNBUFFERED": "1"}
    home = Path(moebench.__file__).resolve().parents[1]
    if home.name not in {"site-packages", "dist-packages"}:
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), os.environ.get("PYTHONPATH")]))
    return variables
