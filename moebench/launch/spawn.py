"""Short-lived processes that are told what to do in one line and answer in lines: a rehearsal, not a job.

Nothing of theirs is kept. Those that are not done in time are killed, and each ends at once when this process does.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

from moebench.launch.process import child_environment


def answers(
    module: str, orders: Sequence[Any], *, threads: int, most_s: float
) -> Iterator[tuple[int, float, dict[str, Any]]]:
    """Starts `python -m module` for each order; gives (index of the order, seconds since the start, answer)."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector, tempfile.TemporaryFile() as nowhere:
        children = [_start(module, order, threads=threads, log=nowhere) for order in orders]
        for index, child in enumerate(children):
            selector.register(child.stdout, selectors.EVENT_READ, index)  # type: ignore[arg-type]
        try:
            while selector.get_map() and (left := began + most_s - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    line = children[key.data].stdout.readline()
                    if not line:
                        selector.unregister(key.fileobj)
                        continue
                    with suppress(ValueError):  # what libraries print is no answer
                        yield key.data, time.monotonic() - began, dict(json.loads(line))
        finally:
            for child in children:
                child.kill()
                child.wait()
                for pipe in (child.stdin, child.stdout):
                    pipe.close()  # type: ignore[union-attr]


def _start(module: str, order: Any, *, threads: int, log: Any) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=child_environment(threads),
        bufsize=0,
    )
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.write(json.dumps(order).encode() + b"\n")
    return child


def read_order() -> Any:
    """In the child: what it is told. From then on it ends when its standard input does: its parent is gone."""
    order = json.loads(sys.stdin.readline())

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    Thread(target=wait, daemon=True).start()
    return order
