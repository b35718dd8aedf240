"""`validate`, `schema`, `list`, `inspect`: questions answered without running anything."""

from __future__ import annotations

import json
from pathlib import Path

import click

from moebench.cli.commands.options import json_option, suite_options
from moebench.cli.errors import input_errors


@click.command()
@suite_options
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


@click.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors.

    \b
    Example:
      moebench schema > moebench.schema.json
    """
    from moebench.suite.schema import schema as suite_schema

    click.echo(json.dumps(suite_schema(), indent=2))


@click.command(name="list")
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
    from moebench.cli.console.lists import listing

    click.echo(listing(what))


@click.command()
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
@json_option
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

    counted = inspect_model(model, context=context, ignore_keys=ignore_keys)
    return json.dumps(counted, indent=1) if as_json else visible(inspection_text(counted))


def _inspect_all(context: int | None, plot: Path | None, *, as_json: bool) -> str:
    from moebench.cli.console.systems import systems_text
    from moebench.systems.inspection import inspect_all

    counted = inspect_all(context=context)
    if plot is not None:
        from moebench.reporting.systems import systems_file

        try:
            plot.write_bytes(systems_file(counted, suffix=plot.suffix))
        except OSError as error:
            raise click.UsageError(f"--plot {plot}: {error.strerror}") from None
        click.echo(f"drawn to {plot}", err=True)
    return json.dumps(counted, indent=1) if as_json else systems_text(counted)
