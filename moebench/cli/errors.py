"""How a command ends that cannot go on: a message on standard error and an exit code, never a traceback.

What the user gave may be wrong, and so may a results folder that came from elsewhere. What each error is about is
imported when a command is called, so that `moebench --help` answers at once.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

EXIT_CLAIM_FAILED, EXIT_INPUT, EXIT_RUNS_FAILED = 1, 2, 3


@contextmanager
def input_errors() -> Iterator[None]:
    """Turns mistakes in what the user gave, stored results among it, into a message and exit code 2."""
    from pydantic import ValidationError

    from moebench.checkpoints.located import CheckpointError
    from moebench.data import DataError
    from moebench.external import ResultsError
    from moebench.launch import LauncherMissing
    from moebench.planning.machine import CalibrationFailed
    from moebench.planning.matching import PlanError
    from moebench.store import CorruptFile, UnsafeName
    from moebench.suite.errors import SuiteError
    from moebench.text import plain

    try:
        yield
    except (
        SuiteError,
        CheckpointError,
        DataError,
        PlanError,
        ResultsError,
        CorruptFile,
        UnsafeName,
        LauncherMissing,
    ) as error:
        click.echo(str(error) if isinstance(error, SuiteError) else f"error: {plain(error)}", err=True)
        sys.exit(EXIT_INPUT)
    except CalibrationFailed as error:
        click.echo(f"error: {plain(error)}", err=True)
        sys.exit(EXIT_RUNS_FAILED)
    except OSError as error:
        if error.errno in (None, errno.EPIPE):  # nobody reads on, or it is not about a file
            raise
        click.echo(f"error: {plain(_of_the_disk(error), most=500)}", err=True)
        sys.exit(EXIT_INPUT)
    except ValidationError as error:
        wrong = plain(error.errors()[0]["msg"], most=500)
        click.echo(f"error: what was stored is no {error.title} of this version: {wrong}", err=True)
        sys.exit(EXIT_INPUT)


_ELSEWHERE = "choose another folder with --results or --out"
_ADVICE = {
    errno.EACCES: f"this user may not: change its permissions, or {_ELSEWHERE}",
    errno.EPERM: f"this user may not: change its permissions, or {_ELSEWHERE}",
    errno.EROFS: f"nothing can be written there: {_ELSEWHERE}",
    errno.EEXIST: f"a file stands where a folder is needed: move it away, or {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder is needed: move it away, or {_ELSEWHERE}",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
    errno.ENOENT: "it was moved or removed meanwhile: put it back, or run the command again",
    errno.ENOSPC: "free some space: the same command goes on with what is there",
    errno.EDQUOT: "free some space: the same command goes on with what is there",
}


def _of_the_disk(error: OSError) -> str:
    """What the system refused, where, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror or type(error).__name__}" + (f" ({advice})" if advice else "")


def warn_unreadable(results: Path, *, strict: bool = False, suites: Iterable[str] = ()) -> None:
    """Tells of every stored plan that was passed over.

    With `strict` one of these suites, or of any when none is named, ends the command: it may be the newest, and without
    it what was claimed, looked at or left out before cannot be known. A name without a suite may be of any.
    """
    from moebench.store import open_results

    wanted = {re.split("[@+]", title)[0] for title in suites}
    refused = False
    for problem in open_results(results).unreadable_plans():
        suite, named, _ = problem.path.name.partition("@")
        concerns = strict and (not wanted or not named or suite in wanted)
        refused |= concerns
        click.echo(f"{'error' if concerns else 'note: passed over'}: {problem}", err=True)
    if refused:
        click.echo("error: --strict needs every plan of the suite: read it with the moebench that wrote it", err=True)
        sys.exit(EXIT_INPUT)
