"""Options that several commands take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., None]


def _folder(name: str, default: str, help_: str) -> Callable[[Command], Command]:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option(name, type=kind, default=Path(default), show_default=True, help=help_)


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator; help lists them in this order."""
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


results_option = _folder("--results", "results", "Results folder.")
out_option = _folder("--out", "reports", "Reports folder.")
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
smoke_option = click.option(
    "--smoke", is_flag=True, help="Two seeds, a twentieth of the budget, no verdicts: does the suite work?"
)
tuned_option = click.option("--tuned", is_flag=True, help="Train at the best rates that `run --tune` found.")
device_option = click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
strict_option = click.option(
    "--strict", is_flag=True, help="Exit 1 unless every primary claim is supported; 2 if a plan does not read."
)


suite_options = _together(
    click.argument("suite"),
    click.option("--scale", metavar="NAME", help="Use a named scale of the suite."),
    click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
                 help="Override one value, such as train.budget.tokens=2e6."),
)  # fmt: skip
"""SUITE and the options that choose its values."""


def _known_launcher(_context: click.Context, _parameter: click.Parameter, word: str) -> str:
    """A word of `LAUNCHERS`, looked up when a command is called: `--help` answers at once."""
    from moebench.launch import LAUNCHERS
    from moebench.text import nearest

    if word not in LAUNCHERS:
        hint = nearest(word, LAUNCHERS)
        known = ", ".join(map(repr, LAUNCHERS))
        raise click.BadParameter(f"{word!r} is not one of {known}" + (f": {hint}" if hint else ""))
    return word


launch_options = _together(
    click.option("--workers", type=click.IntRange(1, 256), help="Runs at a time.  [default: one per core]"),
    click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of each run."),
    device_option,
    click.option("--launcher", default="process", show_default=True, metavar="NAME", callback=_known_launcher,
                 help="Where jobs go: process, inline, or ray (a cluster that shares the results folder)."),
    click.option("--ray-address", "address", metavar="HOST:PORT",
                 help="Ray cluster.  [default: RAY_ADDRESS, the one running here, or one of this machine alone]"),
    click.option("--timeout", "timeout_s", type=float, default=600.0, show_default=True,
                 help="Seconds without progress before a run is killed."),
)  # fmt: skip
"""Where and how jobs run: the options of `launch`."""


def checked_device(word: str, *, launcher: str = "process") -> Any:
    """The device, if jobs find it. Raises UsageError where they run here and torch sees no CUDA device."""
    from moebench.launch import LAUNCHERS

    if word == "cuda" and LAUNCHERS[launcher].is_local:
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError("--device cuda: torch sees no CUDA device here")
    return word
