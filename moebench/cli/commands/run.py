"""`run` and `plan`: what is done with a suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from moebench.cli.commands.options import (
    checked_device,
    device_option,
    launch_options,
    out_option,
    results_option,
    smoke_option,
    strict_option,
    suite_options,
    tuned_option,
)
from moebench.cli.errors import EXIT_CLAIM_FAILED, EXIT_RUNS_FAILED, input_errors, warn_unreadable

if TYPE_CHECKING:
    from moebench.api import Outcome


@click.command()
@suite_options
@launch_options
@results_option
@out_option
@smoke_option
@click.option("--tune", is_flag=True, help="Only sweep the suite's learning rates, on the tune split.")
@tuned_option
@click.option("--pilot", type=click.IntRange(1, 100), metavar="N", help="N other seeds, no verdicts: for `plan`.")
@strict_option
@click.option("--quiet", is_flag=True, help="No progress.")
def run(*, out: Path, tune: bool, strict: bool, quiet: bool, device: str, **asked: Any) -> None:
    """Run what is missing of SUITE, then report and judge its claims.

    SUITE is a file, or the name of a bundled suite. What is already in the results folder is not done again; Ctrl-C
    writes checkpoints, and the same command goes on from them.

    \b
    Examples:
      moebench run quickstart
      moebench run my_suite.yaml --workers 2 --results results
      moebench run efficiency_per_token --scale small_data --set seeds=10
      moebench run my_suite.yaml --smoke           does it work? a minute
      moebench run quickstart --tune               learning rates, on the tune split
      moebench run my_suite.yaml --pilot 3         then `plan` tells how many seeds it needs
      moebench run quickstart --tuned              trained at the best of them
      moebench run systems --launcher ray --ray-address 10.0.0.1:6379
    """
    if tune and (asked["smoke"] or asked["tuned"]):
        other = "--smoke" if asked["smoke"] else "--tuned"
        raise click.UsageError(f"--tune only sweeps learning rates: leave out {other}")
    if asked["smoke"] and strict:
        raise click.UsageError("--strict asks for verdicts, and a smoke run has none")
    if asked["pilot"] and (tune or strict or asked["smoke"]):
        raise click.UsageError("--pilot judges nothing: leave out --tune, --strict and --smoke")
    from moebench.cli.console.outcome import failures_text, outcome_text

    device = checked_device(device, launcher=asked["launcher"])
    outcome = _carry_out(reports=out, tune=tune, strict=strict, quiet=quiet, device=device, **asked)
    if outcome.failures:
        click.echo(failures_text(outcome), err=True)
    click.echo(outcome_text(outcome))
    sys.exit(_exit_code(outcome, strict=strict))


def _carry_out(suite: str, *, reports: Path, tune: bool, strict: bool, quiet: bool, **asked: Any) -> Outcome:
    """Plans and runs; ends the command where it is stopped. While jobs run the launcher catches signals itself."""
    from moebench import api
    from moebench.cli.progress import watching
    from moebench.launch import Stopped
    from moebench.launch.events import catching
    from moebench.text import plain

    def stop_here(signum: int) -> None:
        raise Stopped(signum, {}, at_once=False)

    with input_errors(), catching(stop_here):
        try:
            with watching(quiet=quiet) as on_event:
                planned = api.prepare_plan(suite, on_event=on_event, **asked)
                for text in planned.plan.warnings:
                    click.echo(f"note: {plain(text)}", err=True)
                warn_unreadable(planned.results, strict=strict, suites=[planned.plan.suite])
                return api.run_planned(planned, reports=reports, tune=tune)
        except Stopped as stop:
            click.echo(f"{stop}; the same command goes on from the checkpoints", err=True)
            sys.exit(stop.exit_code)


def _exit_code(outcome: Outcome, *, strict: bool) -> int:
    from moebench.claims.judge import strict_ok

    if outcome.failed or outcome.speed not in (None, "completed", "already"):
        return EXIT_RUNS_FAILED
    return EXIT_CLAIM_FAILED if strict and not strict_ok(list(outcome.verdicts)) else 0


@click.command()
@suite_options
@results_option
@smoke_option
@tuned_option
@device_option
@click.option(
    "--pilot",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="RESULTS",
    help="Results with runs of other seeds, to tell how many are needed.  [default: the results folder]",
)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON on standard output.")
@click.option("--resolved", is_flag=True, help="The suite with everything merged and solved, as YAML.")
def plan(suite: str, *, device: str, as_json: bool, resolved: bool, pilot: Path | None, **asked: Any) -> None:
    """Show what SUITE would run: sizes, matches and their residuals, FLOPs, memory, time. Trains nothing.

    \b
    Examples:
      moebench plan quickstart
      moebench plan my_suite.yaml --json | jq '.matches'
      moebench plan quickstart --resolved
      moebench plan quickstart --pilot elsewhere/results     what it can decide, from runs of other seeds
    """
    from moebench import api
    from moebench.cli.console.plan import plan_json, plan_text

    with input_errors():
        planned = api.prepare_plan(suite, device=checked_device(device), **asked)
        if resolved:
            from moebench.suite.write import resolved_yaml
            from moebench.text import visible

            click.echo(visible(resolved_yaml(planned.plan.solved_spec(), losses=planned.plan.router_losses)), nl=False)
        else:
            click.echo(
                json.dumps(plan_json(planned, pilot=pilot), indent=1) if as_json else plan_text(planned, pilot=pilot)
            )
