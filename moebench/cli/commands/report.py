"""`report`, `compare`, `reference`, `status`: what is done with results. No torch."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from moebench.cli.commands.options import json_option, out_option, results_option, strict_option
from moebench.cli.errors import EXIT_CLAIM_FAILED, EXIT_INPUT, EXIT_RUNS_FAILED, input_errors, warn_unreadable

if TYPE_CHECKING:
    from moebench.amounts import Amount
    from moebench.claims.verdict import Verdict
    from moebench.planning.types import Plan

FORMATS = ("html", "md", "csv", "json", "svg", "png")


@click.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@results_option
@out_option
@click.option("--format", "formats", metavar="LIST", help=f"Comma-separated, of {', '.join(FORMATS)}.")
@click.option("--all", "overview", is_flag=True, help="Every suite, and OUT/index.html over them.")
@click.option(
    "--claims", is_flag=True, help="OUT/claims/: what is said of mixtures, with the verdicts of the reports in OUT."
)
@strict_option
def report(
    suites: tuple[str, ...],
    *,
    results: Path,
    out: Path,
    formats: str | None,
    overview: bool,
    claims: bool,
    strict: bool,
) -> None:
    """Build reports from results, whole or partial; all suites when none is named. Loads no torch.

    \b
    Examples:
      moebench report
      moebench report quickstart --results results --out reports
      moebench report quickstart --format html,png
      moebench report --all
      moebench report --claims
    """
    from moebench.claims.judge import strict_ok
    from moebench.cli.console.outcome import verdict_text
    from moebench.reporting import build, build_all
    from moebench.text import plain

    chosen = None if formats is None else frozenset(word.strip() for word in formats.split(","))
    if chosen is not None and (unknown := chosen - set(FORMATS)):
        raise click.UsageError(f"--format: unknown {', '.join(sorted(unknown))}; known: {', '.join(FORMATS)}")
    if overview and suites:
        raise click.UsageError("--all reports every suite: name none beside it")
    if claims and (overview or suites):
        raise click.UsageError("--claims reads the reports that are made: it goes alone")
    options: dict[str, Any] = {} if chosen is None else {"formats": chosen}
    if claims:
        _claims(out, options)
        return
    verdicts: list[Verdict] = []
    with input_errors():
        warn_unreadable(results, strict=strict, suites=suites)
        for suite in suites or (None,):
            try:
                whole = build_all(results, out=out, **options) if overview else None
                built = whole.reports if whole else build(results, suite=suite, out=out, **options)
            except KeyError as error:
                click.echo(f"error: {plain(error.args[0])}", err=True)
                sys.exit(EXIT_INPUT)
            for one in built:
                click.echo(f"note: {one.suite}: the newest plan, {one.plan}", err=True)
                click.echo(verdict_text(one.verdicts, path=one.path))
                verdicts += () if one.smoke else one.verdicts
            if whole is not None:
                click.echo(f"\nall suites: {whole.page}")
                for title, why in whole.failures.items():
                    click.echo(f"error: no report of {plain(title)}: {why}", err=True)
                if whole.failures:
                    sys.exit(EXIT_RUNS_FAILED)
    sys.exit(EXIT_CLAIM_FAILED if strict and not strict_ok(verdicts) else 0)


def _claims(out: Path, options: dict[str, Any]) -> None:
    """The page of the catalogue, from the reports in a folder."""
    from moebench.reporting import build_claims
    from moebench.reporting.answers import ANSWERS
    from moebench.text import plain

    with input_errors():
        made = build_claims(out, **options)
    for suite, why in made.found.unreadable.items():
        click.echo(f"note: the report of {plain(suite)} does not read: {plain(why)}", err=True)
    told = ", ".join(f"{n} {ANSWERS[state][0].lower()}" for state, n in made.found.tally.items() if n)
    click.echo(f"{len(made.found.rows)} claims: {told}\n{made.path}")


def _share(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 <= value < math.inf:
        raise click.BadParameter(f"{value:g} is no percentage from 0")
    return value


@click.command()
@click.argument("results_a", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("results_b", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--fail-above",
    type=float,
    callback=_share,
    metavar="PERCENT",
    help="Exit 1 when a metric got worse by more, interval and all.",
)
@json_option
def compare(results_a: Path, results_b: Path, *, fail_above: float | None, as_json: bool) -> None:
    """Compare two results folders, run by run: what changed from A to B, with intervals over seeds.

    \b
    Examples:
      moebench compare results.main results
      moebench compare results.main results --fail-above 1
    """
    from moebench.reporting.compare import compare_folders, comparison_text

    with input_errors():
        rows = compare_folders(results_a, results_b, fail_above=fail_above)
    click.echo(json.dumps([vars(row) for row in rows], indent=1) if as_json else comparison_text(rows))
    sys.exit(EXIT_CLAIM_FAILED if any(row.failed for row in rows) else 0)


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...")
@results_option
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the bundles, such as results/reference/my-machine.",
)
def reference(suites: tuple[str, ...], *, results: Path, to: Path) -> None:
    """Write the results of suites as bundles: small enough to commit, whole enough to report from, without weights.

    Each suite becomes a folder of a few text files. `report`, `compare` and `status` read it, or the folder that holds
    several; `run` never takes a job from it. A SUITE brings all its scales; what was run with --set or --tuned is named
    as its report is, such as mine+tuned.

    \b
    Example:
      moebench reference quickstart --to results/reference/my-machine
    """
    from moebench.store import newest, open_results
    from moebench.store.reference import MOST_BYTES, write_bundle

    with input_errors():
        source = open_results(results)
        plans = [stored for stored in newest(source.plans()) if set(suites) & _names(stored.plan)]
        if not plans:
            raise click.UsageError(f"no results of {', '.join(suites)} in {results}")
        for stored in plans:
            folder = to / stored.plan.title
            written = write_bundle(source, stored, folder)
            size = sum(path.stat().st_size for path in folder.iterdir())
            click.echo(f"{folder}: {size / 1024:,.0f} KiB, {len(written)} files written")
            if size > MOST_BYTES:
                click.echo(f"note: more than the {MOST_BYTES // 1024} KiB that a bundle should be within", err=True)


def _names(plan: Plan) -> set[str]:
    """What the results of a plan can be called: its title, or the suite's name when it is the suite as it stands."""
    as_it_stands = not plan.asked.variant and not plan.asked.smoke
    return {plan.title, plan.suite} if as_it_stands else {plan.title}


@click.command()
@click.argument("results", type=click.Path(path_type=Path, file_okay=False), default=Path("results"))
@json_option
def status(results: Path, *, as_json: bool) -> None:
    """Show what RESULTS holds of each suite: jobs done, running, failed and blocked, and what `run` would do next.

    RESULTS is a results folder, a bundle or a folder of bundles.  [default: results]

    \b
    Examples:
      moebench status
      moebench status results/reference/2-core-x86_64-cpu
      moebench status --json | jq '.[].next'
    """
    from moebench.claims.judge import as_taken
    from moebench.cli.console.status import status_json, status_text
    from moebench.reader.status import statuses
    from moebench.store import open_results

    with input_errors():
        warn_unreadable(results, strict=False, suites=())
        told = statuses(open_results(results), as_taken)
    click.echo(json.dumps(status_json(told), indent=1) if as_json else status_text(told, results))


@click.command()
@click.argument("path_a", metavar="PATH_A")
@click.argument("path_b", metavar="PATH_B")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric, such as acc; repeatable.")
@click.option("--margin", metavar="AMOUNT", help="What B must be better by: 0.5% of A's, or in the metric's unit.")
@click.option(
    "--better", type=click.Choice(["lower", "higher"]), help="Which direction is better where nobody says so."
)
@click.option(
    "--fail-above",
    type=float,
    callback=_share,
    metavar="PERCENT",
    help="Exit 1 when B is worse by more, interval and all.",
)
@json_option
def judge(
    path_a: str,
    path_b: str,
    *,
    metrics: tuple[str, ...],
    margin: str | None,
    better: Literal["lower", "higher"] | None,
    fail_above: float | None,
    as_json: bool,
) -> None:
    """Judge whether PATH_B is better than PATH_A: results from elsewhere, without any suite.

    Each is a csv or jsonl table with columns model, metric, value (seed, step, unit, item, group where there are), or
    the folder that lm_eval --output_path --log_samples wrote; PATH:MODEL names one of several models. Runs are paired
    by seed, single runs by their items. Neither torch nor lm-eval is needed.

    \b
    Examples:
      moebench judge out/dense out/moe
      moebench judge out/dense out/moe --metric acc --margin 1%
      moebench judge ours.csv:dense ours.csv:moe --fail-above 2
    """
    from moebench.reporting.sides import compare_sides, side, sides_text

    with input_errors():
        asked = None if margin is None else _amount(margin)
        a, b = side(path_a), side(path_b)
        rows = compare_sides(a, b, metrics=metrics, margin=asked, better=better, fail_above=fail_above)
    click.echo(json.dumps([vars(row) for row in rows], indent=1) if as_json else sides_text(rows, a, b, margin=asked))
    sys.exit(EXIT_CLAIM_FAILED if any(row.failed for row in rows) else 0)


def _amount(text: str) -> Amount:
    """A margin as it is typed. Raises click.UsageError."""
    from pydantic import TypeAdapter, ValidationError

    from moebench.amounts import Amount

    try:
        amount = TypeAdapter(Amount).validate_python(text if text.endswith("%") else float(text))
    except (ValidationError, ValueError):
        raise click.UsageError(f"--margin {text}: write a percentage such as 0.5%, or a number") from None
    if amount.value < 0:
        raise click.UsageError(f"--margin {text} is below 0")
    return amount
