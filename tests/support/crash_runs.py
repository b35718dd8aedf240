"""Real runs in processes that are killed. `python crash_runs.py` is a forge: it loads torch once, with what torch's
optimizers and counters load when they are first used, and forks a child for each order, so that dozens of killings do
not cost dozens of imports, and fall in the run itself.

An order is a line of JSON: `jobs`, done in turn, and `root` as for a worker; `kill_after_s`, when the child is killed;
`fault`, a value for MOEBENCH_FAULT; `die_in`, the name of a measurement or a function as `module:name`, and the call
after which the child kills itself. The answers are JSON lines: the child's events, and last its exit code, negative for
a signal.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any


class Forge:
    """The forge as a test sees it."""

    def __init__(self) -> None:
        variables = {**os.environ, "OMP_NUM_THREADS": "1"}
        variables.pop("MOEBENCH_FAULT", None)
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            text=True,
            bufsize=1,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.hear()  # torch is loaded

    def hear(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._stdout.readline())
        return answer

    def carry_out(self, jobs: Any, root: Path, **order: Any) -> tuple[int, list[dict[str, Any]]]:
        """Carries out jobs in a child, one after another; returns its exit code, negative for a signal, and events."""
        told = [job.model_dump(mode="json") for job in jobs]
        self._stdin.write(json.dumps({"jobs": told, "root": str(root), **order}) + "\n")
        events: list[dict[str, Any]] = []
        while "ended" not in (answer := self.hear()):
            events.append(answer)
        return int(answer["ended"]), events

    def close(self) -> None:
        self._stdin.close()
        self._process.wait()
        self._stdout.close()


LOADED = ("moebench.jobs.loop", "moebench.launch.attempt", "torch", "torch._dynamo", "torch.utils.flop_counter")


def serve() -> None:
    for name in LOADED:
        importlib.import_module(name)
    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
            os._exit(0)
        say({"ended": await_end(pid, order.get("kill_after_s"))})


def await_end(pid: int, kill_after_s: float | None) -> int:
    """The child's exit code. Only its parent may kill it: until it is waited for its pid is nobody else's."""
    deadline = None if kill_after_s is None else time.monotonic() + kill_after_s
    while deadline is not None:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child(order: dict[str, Any]) -> None:
    from moebench.jobs.job import Job
    from moebench.launch.attempt import carry_out

    if order.get("fault"):
        os.environ["MOEBENCH_FAULT"] = order["fault"]
    if order.get("die_in"):
        die_in(*order["die_in"])
    for one in order["jobs"]:
        job = Job.model_validate(one)
        say(carry_out(job, root=Path(order["root"]), on_event=say, should_stop=lambda: False))


def die_in(place: str, nth: int) -> None:
    """Kills this process when the n-th call of a measurement, or of a function `module:name`, has done its work."""
    from moebench.metrics import MEASUREMENTS

    name, measurement = place.partition(":")[2], MEASUREMENTS.get(place)
    module = importlib.import_module(place.partition(":")[0]) if name else None
    honest, calls = measurement.measure if measurement else getattr(module, name), iter(range(1, 10**6))

    def dying(*args: Any, **kw: Any) -> Any:
        value = honest(*args, **kw)
        if next(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    if measurement:
        MEASUREMENTS[place] = replace(measurement, measure=dying)
    else:
        setattr(module, name, dying)


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve()
