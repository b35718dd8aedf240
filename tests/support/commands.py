"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from moebench.cli.commands import main


def call(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def call_run(suite: Path, *options: str) -> Result:
    """`moebench run` in this process, results and reports beside the suite."""
    where = ["--results", suite.parent / "results", "--out", suite.parent / "reports"]
    return call("run", suite, *where, "--launcher", "inline", *options)
