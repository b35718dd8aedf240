"""A worker process: carries out one job after another, so that torch is loaded once.

Jobs come as JSON lines on standard input, events leave as JSON lines on what was standard output; whatever libraries
print goes to standard error, whose last lines explain a crash. The end of standard input means that the scheduler is
gone or done: the process ends at once. SIGINT is ignored, because a terminal sends it to the whole group and the
scheduler decides; SIGTERM and the message `{"do": "stop"}` ask for a checkpoint and an end.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Any, BinaryIO

from moebench.jobs.job import Job
from moebench.jobs.kind import Execute
from moebench.launch.attempt import carry_out, execute_kind
from moebench.launch.events import Event

STOP = b'{"do": "stop"}\n'
_PR_SET_PDEATHSIG = 1


def serve(execute: Execute = execute_kind) -> int:
    """Serves until told to stop, or until a job has failed: what an exception leaves in memory is not trusted."""
    die_with_parent()
    faulthandler.enable()
    inbox: SimpleQueue[str | None] = SimpleQueue()
    stop = Flag()

    def ask_to_stop(*_: Any) -> None:
        stop.set()
        inbox.put(None)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ask_to_stop)
    orders, events = _private_pipes()
    Thread(target=_listen, args=(orders, inbox, ask_to_stop), daemon=True).start()

    def tell(event: Event) -> None:
        try:
            events.write((json.dumps(event) + "\n").encode())
            events.flush()
        except BrokenPipeError:
            os._exit(1)  # nobody is left to tell

    while (line := inbox.get()) is not None:
        message = json.loads(line)
        root = Path(message.pop("results"))
        job = Job.model_validate(message)
        if stop.is_set():
            tell(job.event("stopped"))
            break
        end = carry_out(job, root=root, execute=execute, on_event=tell, should_stop=stop.is_set)
        tell(end)
        if end["event"] in ("failed", "stopped"):
            break
    return 0


def _listen(orders: BinaryIO, inbox: SimpleQueue[str | None], ask_to_stop: Any) -> None:
    """Reads messages in a thread of its own, which also notices the death of the launcher in mid-job."""
    for line in orders:
        if line == STOP:
            ask_to_stop()
        else:
            inbox.put(line.decode())
    os._exit(0)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes of jobs and events; standard input is emptied and standard output joins standard error."""
    orders, events = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return orders, events


def die_with_parent() -> None:
    """Has Linux kill this process when its parent dies, even while it is suspended or stuck in native code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
