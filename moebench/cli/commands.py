"""The `moebench` command: click, and no logic of its own.

Each command imports what it needs when it is called, so that `moebench --help` answers at once. Results go to standard
output, progress and warnings to standard error. Exit codes: 0 done, 1 a claim failed under `--strict`, 2 the input is
wrong, 3 some runs failed, 130/143 stopped after a checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import moebench
from moebench.cli.errors import EXIT_CLAIM_FAILED, EXIT_INPUT, EXIT_RUNS_FAILED, input_errors, warn_unreadable

if TYPE_CHECKING:
    from moebench.api import Outcome, Planned
    from moebench.claims.verdict import Verdict
    from moebench.planning.types import Plan

Command = Callable[..., None]
FORMATS = ("html", "md", "csv", "json", "svg", "png")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(moebench.__version__, prog_name="moebench")
def main() -> None:
    """Settle arguments about Mixture-of-Experts versus dense models.

    A suite file goes in: matched models, identical data, claims. A report comes out that says supported, refuted or
    inconclusive, each with an interval.

    \b
    Examples:
      moebench run quickstart            a verdict in minutes on a laptop
      moebench plan quickstart           what would run, and what was matched
      moebench report                    rebuild reports from results
    """


_smoke_option = click.option(
    "--smoke", is_flag=True, help="Two seeds, a twentieth of the budget, no verdicts: does the suite work?"
)
_tuned_option = click.option("--tuned", is_flag=True, help="Train at the best rates that `run --tune` found.")


def _suite_options(command: Command) -> Command:
    """The options that choose a suite's values."""
    for option in (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override one value, such as train.budget.tokens=2e6.",
        ),
        click.option("--scale", metavar="NAME", help="Use a named scale of the suite."),
        click.argument("suite"),
    ):
        command = option(command)
    return command


_results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Results folder.",
)


# ------------------------------------------------------------------------------------------------ run and plan


@main.command()
@_suite_options
@click.option("--workers", type=click.IntRange(1, 256), help="Runs at a time.  [default: one per core]")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of each run.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@_results_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Reports folder.",
)
@_smoke_option
@click.option("--tune", is_flag=True, help="Only sweep the suite's learning rates, on the tune split.")
@_tuned_option
@click.option(
    "--launcher", type=click.Choice(["process", "inline"]), default="process", show_default=True, help="Where runs go."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=600.0,
    show_default=True,
    help="Seconds without progress before a run is killed.",
)
@click.option(
    "--strict", is_flag=True, help="Exit 1 unless every primary claim is supported; 2 if a plan does not read."
)
@click.option("--quiet", is_flag=True, help="No progress.")
def run(
    suite: str,
    scale: str | None,
    sets: tuple[str, ...],
    *,
    workers: int | None,
    threads: int,
    device: str,
    results: Path,
    out: Path,
    smoke: bool,
    tune: bool,
    tuned: bool,
    launcher: str,
    timeout_s: float,
    strict: bool,
    quiet: bool,
) -> None:
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
      moebench run quickstart --tuned              trained at the best of them
    """
    if tune and (smoke or tuned):
        raise click.UsageError(f"--tune only sweeps learning rates: leave out {'--smoke' if smoke else '--tuned'}")
    if smoke and strict:
        raise click.UsageError("--strict asks for verdicts, and a smoke run has none")
    from moebench import api
    from moebench.cli.console import failures_text, outcome_text
    from moebench.cli.progress import watching
    from moebench.launch import Stopped
    from moebench.launch.task import catching

    def stop_here(signum: int) -> None:
        raise Stopped(signum, {}, at_once=False)

    # While runs are under way the launcher catches signals itself, for their checkpoints.
    with input_errors(), catching(stop_here):
        try:
            with watching(quiet=quiet) as on_event:
                planned = api.prepare_plan(
                    suite,
                    scale=scale,
                    sets=sets,
                    results=results,
                    device=_device(device),
                    threads=threads,
                    smoke=smoke,
                    tuned=tuned,
                    on_event=on_event,
                )
                _warn(planned)
                warn_unreadable(results, strict=strict, suites=[planned.plan.suite])
                outcome = api.run_planned(
                    planned,
                    reports=out,
                    workers=workers,
                    threads=threads,
                    tune=tune,
                    launcher=launcher,
                    timeout_s=timeout_s,
                    on_event=on_event,
                )
        except Stopped as stop:
            click.echo(f"{stop}; the same command goes on from the checkpoints", err=True)
            sys.exit(stop.exit_code)
    if outcome.failures:
        click.echo(failures_text(outcome), err=True)
    click.echo(outcome_text(outcome))
    sys.exit(_exit_code(outcome, strict=strict))


def _device(word: str) -> Any:
    if word == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise click.UsageError("--device cuda: torch sees no CUDA device here")
    return word


def _warn(planned: Planned) -> None:
    from moebench.text import plain

    for text in planned.plan.warnings:
        click.echo(f"note: {plain(text)}", err=True)


def _exit_code(outcome: Outcome, *, strict: bool) -> int:
    from moebench.claims.judge import strict_ok

    if outcome.failed or outcome.speed not in (None, "completed", "already"):
        return EXIT_RUNS_FAILED
    return EXIT_CLAIM_FAILED if strict and not strict_ok(list(outcome.verdicts)) else 0


@main.command()
@_suite_options
@_results_option
@_smoke_option
@_tuned_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON on standard output.")
@click.option("--resolved", is_flag=True, help="The suite with everything merged and solved, as YAML.")
def plan(
    suite: str,
    scale: str | None,
    sets: tuple[str, ...],
    *,
    results: Path,
    smoke: bool,
    tuned: bool,
    device: str,
    as_json: bool,
    resolved: bool,
) -> None:
    """Show what SUITE would run: sizes, matches and their residuals, FLOPs, memory, time. Trains nothing.

    \b
    Examples:
      moebench plan quickstart
      moebench plan my_suite.yaml --json | jq '.matches'
      moebench plan quickstart --resolved
    """
    from moebench import api
    from moebench.cli.console import plan_json, plan_text

    with input_errors():
        planned = api.prepare_plan(
            suite, scale=scale, sets=sets, results=results, device=_device(device), smoke=smoke, tuned=tuned
        )
        if resolved:
            from moebench.suite.write import resolved_yaml
            from moebench.text import visible

            click.echo(visible(resolved_yaml(planned.plan.solved_spec(), losses=planned.plan.router_losses)), nl=False)
        else:
            click.echo(json.dumps(plan_json(planned), indent=1) if as_json else plan_text(planned))


# ------------------------------------------------------------------------------------------------ report


@main.command()
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@_results_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Reports folder.",
)
@click.option("--format", "formats", metavar="LIST", help=f"Comma-separated, of {', '.join(FORMATS)}.")
@click.option(
    "--strict", is_flag=True, help="Exit 1 unless every primary claim is supported; 2 if a plan does not read."
)
def report(suites: tuple[str, ...], *, results: Path, out: Path, formats: str | None, strict: bool) -> None:
    """Build reports from results, whole or partial; all suites when none is named. Loads no torch.

    \b
    Examples:
      moebench report
      moebench report quickstart --results results --out reports
      moebench report quickstart --format html,png
    """
    from moebench.claims.judge import strict_ok
    from moebench.cli.console import verdict_text
    from moebench.reporting import build
    from moebench.text import plain

    chosen = None if formats is None else frozenset(word.strip() for word in formats.split(","))
    if chosen is not None and (unknown := chosen - set(FORMATS)):
        raise click.UsageError(f"--format: unknown {', '.join(sorted(unknown))}; known: {', '.join(FORMATS)}")
    options: dict[str, Any] = {} if chosen is None else {"formats": chosen}
    verdicts: list[Verdict] = []
    with input_errors():
        warn_unreadable(results, strict=strict, suites=suites)
        for suite in suites or (None,):
            try:
                built = build(results, suite=suite, out=out, **options)
            except KeyError as error:
                click.echo(f"error: {plain(error.args[0])}", err=True)
                sys.exit(EXIT_INPUT)
            for one in built:
                click.echo(f"note: {one.suite}: the newest plan, {one.plan}", err=True)
                click.echo(verdict_text(one.verdicts, path=one.path))
                verdicts += () if one.smoke else one.verdicts
    sys.exit(EXIT_CLAIM_FAILED if strict and not strict_ok(verdicts) else 0)


@main.command()
@click.argument("results_a", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("results_b", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--fail-above", type=float, metavar="PERCENT", help="Exit 1 when a metric got worse by more, interval and all."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def compare(results_a: Path, results_b: Path, *, fail_above: float | None, as_json: bool) -> None:
    """Compare two results folders, run by run: what changed from A to B, with intervals over seeds.

    \b
    Examples:
      moebench compare results.main results
      moebench compare results.main results --fail-above 1
    """
    from moebench.reporting.compare import compare_folders, comparison_text

    with input_errors():
        found = compare_folders(results_a, results_b, fail_above=fail_above)
    click.echo(json.dumps([vars(row) for row in found], indent=1) if as_json else comparison_text(found))
    sys.exit(EXIT_CLAIM_FAILED if any(row.failed for row in found) else 0)


@main.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...")
@_results_option
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Results root to write, such as results/reference/my-machine.",
)
def reference(suites: tuple[str, ...], *, results: Path, to: Path) -> None:
    """Copy the results of suites without weights: small enough to commit, whole enough to report from.

    A SUITE brings all its scales; what was run with --set or --tuned is named as its report is, such as mine+tuned.

    \b
    Example:
      moebench reference quickstart --to results/reference/my-machine
    """
    from moebench.reporting.study import newest
    from moebench.store import Results, export_reference

    with input_errors():
        plans = [stored for stored in newest(Results(results).plans()) if set(suites) & _names(stored.plan)]
        if not plans:
            raise click.UsageError(f"no results of {', '.join(suites)} in {results}")
        written = export_reference(results, plans, to)
    click.echo(f"{len(written)} files written to {to}")


def _names(plan: Plan) -> set[str]:
    """What the results of a plan can be called: its title, or the suite's name when it is the suite as it stands."""
    as_it_stands = not plan.asked.variant and not plan.asked.smoke
    return {plan.title, plan.suite} if as_it_stands else {plan.title}


# ------------------------------------------------------------------------------------------------ looking things up


@main.command()
@_suite_options
def validate(suite: str, scale: str | None, sets: tuple[str, ...]) -> None:
    """Check SUITE, at all its scales, and what it plans; say what is wrong with file, line and column.

    What is unusual and not wrong is noted. Nothing is read but the suite: `moebench plan` looks at its data too.

    \b
    Example:
      moebench validate suites/quickstart.yaml
    """
    from moebench import api
    from moebench.format import plural
    from moebench.suite.errors import SuiteError
    from moebench.text import plain

    with input_errors():
        loaded, notes = api.validate(suite, scale=scale, sets=sets)
        for other in loaded.scales if scale is None else ():
            try:
                api.validate(suite, scale=other, sets=sets)
            except SuiteError:
                click.echo(f"with --scale {plain(other)}:", err=True)
                raise
    for text in notes:
        click.echo(f"note: {plain(text)}", err=True)
    spec = loaded.spec
    counts = [plural(len(spec.models), "model"), plural(len(spec.seeds), "seed"), plural(len(spec.claims), "claim")]
    click.echo(f"{loaded.path}: valid; {', '.join(counts)}")


@main.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors.

    \b
    Example:
      moebench schema > moebench.schema.json
    """
    from moebench.suite.schema import schema as suite_schema

    click.echo(json.dumps(suite_schema(), indent=2))


@main.command(name="list")
@click.argument(
    "what",
    type=click.Choice(["suites", "models", "systems", "routers", "metrics", "claims", "sources"]),
    required=False,
)
def list_(what: str | None) -> None:
    """List what there is: suites, models, systems, routers, metrics, claims, sources.

    `models` are the published systems, with their sizes; `systems` says which words of a suite stand for which
    published design, and what they leave out.

    \b
    Examples:
      moebench list
      moebench list systems
      moebench list metrics
    """
    from moebench.cli.console import listing

    click.echo(listing(what))


@main.command()
@click.argument("model", required=False)
@click.option("--all", "everything", is_flag=True, help="Every published system, in one table.")
@click.option(
    "--context",
    type=click.IntRange(1, 2**31),
    help="Tokens of context for FLOPs and cache.  [default: the model's; 2048 with --all]",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --all: draw active against total parameters into a .svg or .png.",
)
@click.option("--ignore-keys", is_flag=True, help="Count a config.json without the keys its family does not know.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def inspect(
    model: str | None, *, everything: bool, context: int | None, plot: Path | None, ignore_keys: bool, as_json: bool
) -> None:
    """Count MODEL: total, active, FLOPs per token, bytes, cache, experts touched.

    MODEL is a published system (moebench list models), a transformers config.json or the folder that holds one, or a
    model of a suite as SUITE:MODEL. A configuration of a family that is not counted exactly is refused by name.

    \b
    Examples:
      moebench inspect mixtral-8x7b
      moebench inspect path/to/config.json --context 4096
      moebench inspect quickstart:moe_8x2 --json | jq .params
      moebench inspect --all --plot systems.svg
    """
    if everything == (model is not None):
        raise click.UsageError("give one MODEL, or --all for every published system")
    if plot is not None and not (everything and plot.suffix in (".svg", ".png")):
        raise click.UsageError("--plot goes with --all, and takes a file that ends in .svg or .png")
    with input_errors():
        text = (
            _inspect_all(context, plot, as_json=as_json)
            if model is None
            else _inspect(model, context, ignore_keys=ignore_keys, as_json=as_json)
        )
    click.echo(text)


def _inspect(model: str, context: int | None, *, ignore_keys: bool, as_json: bool) -> str:
    from moebench.systems.inspection import inspect_model, inspection_text
    from moebench.text import visible

    found = inspect_model(model, context=context, ignore_keys=ignore_keys)
    return json.dumps(found, indent=1) if as_json else visible(inspection_text(found))


def _inspect_all(context: int | None, plot: Path | None, *, as_json: bool) -> str:
    from moebench.cli.console import systems_text
    from moebench.systems.inspection import inspect_all

    found = inspect_all(context=context)
    if plot is not None:
        from moebench.reporting.systems import systems_file

        try:
            plot.write_bytes(systems_file(found, suffix=plot.suffix))
        except OSError as error:
            raise click.UsageError(f"--plot {plot}: {error.strerror}") from None
        click.echo(f"drawn to {plot}", err=True)
    return json.dumps(found, indent=1) if as_json else systems_text(found)


# ------------------------------------------------------------------------------------------------ trained models


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--prompt", default="def ", show_default=True, help="Text to go on from.")
@click.option("--tokens", type=click.IntRange(1, 4096), default=120, show_default=True, help="Bytes to write.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 takes the likeliest byte."
)
@click.option("--seed", type=int, default=0, show_default=True)
@_results_option
def generate(run_id: str, *, prompt: str, tokens: int, temperature: float, seed: int, results: Path) -> None:
    """Write text with a trained model. RUN is a run's id, or the beginning of one.

    \b
    Example:
      moebench generate 3fa9 --prompt "import "
    """
    from moebench.models.decoder.subject import DecoderSubject
    from moebench.models.generation import generate as generate_text
    from moebench.models.generation import load_trained
    from moebench.text import visible

    with input_errors():
        model = load_trained(results, run_id)
        text = generate_text(DecoderSubject(model), prompt.encode(), tokens=tokens, temperature=temperature, seed=seed)
    click.echo(visible(text.decode(errors="replace")))


@main.command()
@click.argument("run_id", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_results_option
def export(run_id: str, folder: Path, *, results: Path) -> None:
    """Write a trained model as a transformers checkpoint: Llama, Mixtral, or another class that computes the same.

    Its tokenizer is written too: tokens are bytes.

    \b
    Example:
      moebench export 3fa9 checkpoints/moe
    """
    from moebench.models.export import TOKENS, export_checkpoint, family_of
    from moebench.models.generation import load_trained

    with input_errors():
        model = load_trained(results, run_id)
        export_checkpoint(model, folder)
    click.echo(f"written to {folder}: {family_of(model.architecture).architecture} and its tokenizer ({TOKENS})")


if __name__ == "__main__":
    main()
