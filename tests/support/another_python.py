"""Commands in a Python of their own, where what is tested must be there when it starts: one start for many commands.

`python another_python.py` reads a JSON list of arguments a line, and answers with the exit code and what was printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from click.testing import CliRunner


def call(*commands: Sequence[str], folder: Path, first: Path) -> list[tuple[int, str]]:
    """Exit code of each, and what it said on either stream; modules are looked for in `first` before anywhere else."""
    path = os.pathsep.join([str(first), *filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[2])])
    variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    lines = "".join(f"{json.dumps(list(one))}\n" for one in commands)
    python = [sys.executable, __file__]
    done = subprocess.run(python, cwd=folder, env=variables, input=lines, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(told) == len(commands)
    return told


def serve() -> None:
    sys.path.pop(0)  # this folder
    from moebench.cli import main
    from moebench.planning import rehearsal

    rehearsal._in_children = lambda *_, **__: []  # showing a plan tries its models in processes: what others test
    for line in sys.stdin:
        done = CliRunner().invoke(main, json.loads(line))
        print(json.dumps([done.exit_code, done.stdout + done.stderr]))


if __name__ == "__main__":
    serve()
