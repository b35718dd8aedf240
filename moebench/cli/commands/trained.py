"""`generate` and `export`: what is done with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from moebench.cli.commands.options import json_option, results_option
from moebench.cli.errors import input_errors

PROMPT = "def "


@click.command()
@click.argument("words", metavar="MODEL [MODEL] [PROMPT]", nargs=-1, required=True)
@click.option("--prompt", help=f"Text to go on from, instead of the last word.  [default: {PROMPT!r}]")
@click.option("--tokens", type=click.IntRange(1, 4096), default=120, show_default=True, help="Tokens to write.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 takes the likeliest token."
)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
@results_option
def generate(words: Sequence[str], *, prompt: str | None, as_json: bool, results: Path, **how: float) -> None:
    """Write text with a model, or with two side by side.

    MODEL is a run's id, or the beginning of one, or the folder of a checkpoint.

    \b
    Examples:
      moebench generate 3fa9 --prompt "import "
      moebench generate 3fa9 checkpoints/olmoe "The capital of France is"
    """
    from moebench.cli.console.generated import show
    from moebench.models.generation import load_subject

    with input_errors():
        names, text = _models(words, prompt, results)
        subjects = {name: load_subject(results, name) for name in names}
        show(subjects, text.encode(), as_json=as_json, **how)


def _models(words: Sequence[str], prompt: str | None, results: Path) -> tuple[list[str], str]:
    """One or two models, and what they go on from. Raises UsageError for more."""
    names = list(words)
    if prompt is None and (len(names) == 3 or (len(names) == 2 and not _is_model(names[1], results))):
        prompt = names.pop()
    if len(names) > 2:
        raise click.UsageError("give one model or two, and one prompt: quote a prompt of several words")
    return names, PROMPT if prompt is None else prompt


def _is_model(word: str, results: Path) -> bool:
    """Whether a word names a model: a folder, or a run of these results."""
    from moebench.store import open_results

    if Path(word).expanduser().is_dir():
        return True
    is_id = word.isalnum() and (results / "jobs").is_dir()
    return is_id and any(folder.id.startswith(word) for folder in open_results(results).jobs())


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@results_option
def export(run_id: str, folder: Path, *, results: Path) -> None:
    """Write a trained model as a transformers checkpoint: Llama, Mixtral, or another class that computes the same.

    Its tokenizer is written too, whatever it is: bytes or words.

    \b
    Example:
      moebench export 3fa9 checkpoints/moe
    """
    from moebench.models.convert.config import family_of
    from moebench.models.convert.export import export_checkpoint
    from moebench.models.convert.tokenizer import tokens_in_words
    from moebench.models.generation import trained

    with input_errors():
        model, tokenizer = trained(results, run_id)
        export_checkpoint(model, folder, tokenizer)
        family = family_of(model.architecture)
    click.echo(f"written to {folder}: {family.architecture} and its tokenizer. {tokens_in_words(tokenizer)}")
