"""How a command ends that cannot go on: a message on standard error and an exit code, never a traceback.

What the user gave may be wrong, and so may a results folder that came from elsewhere. What each error is about is
imported when a command is called, so that `moebench --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

EXIT_CLAIM_FAILED, EXIT_INPUT, EXIT_RUNS_FAILED = 1, 2, 3


@contextmanager
def input_errors() -> Iterator[None]:
    """Turns mistakes in what the user gave, stored results among it, into a message and exit code 2."""
    from pydantic import ValidationError

    from moebench.calibration import CalibrationFailed
    from moebench.data import DataError
    from moebench.matching import PlanError
    from moebench.spec.errors import SuiteError, plain
    from moebench.store import CorruptFile, UnsafeName

    try:
        yield
    except (SuiteError, DataError, PlanError, CorruptFile, UnsafeName) as error:
        click.echo(str(error) if isinstance(error, SuiteError) else f"error: {plain(error)}", err=True)
        sys.exit(EXIT_INPUT)
    except CalibrationFailed as error:
        click.echo(f"error: {plain(error)}", err=True)
        sys.exit(EXIT_RUNS_FAILED)
    except ValidationError as error:
        wrong = plain(error.errors()[0]["msg"], most=500)
        click.echo(f"error: what was stored is no {error.title} of this version: {wrong}", err=True)
        sys.exit(EXIT_INPUT)


def warn_unreadable(results: Path) -> None:
    """Tells of every stored plan that was passed over."""
    from moebench.store import Results

    for problem in Results(results).unreadable_plans():
        click.echo(f"note: passed over: {problem}", err=True)
