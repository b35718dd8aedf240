"""`generate` and `export`: what is done with a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from moebench.cli.commands.options import results_option
from moebench.cli.errors import input_errors


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--prompt", default="def ", show_default=True, help="Text to go on from.")
@click.option("--tokens", type=click.IntRange(1, 4096), default=120, show_default=True, help="Bytes to write.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 takes the likeliest byte."
)
@click.option("--seed", type=int, default=0, show_default=True)
@results_option
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


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@results_option
def export(run_id: str, folder: Path, *, results: Path) -> None:
    """Write a trained model as a transformers checkpoint: Llama, Mixtral, or another class that computes the same.

    Its tokenizer is written too: tokens are bytes.

    \b
    Example:
      moebench export 3fa9 checkpoints/moe
    """
    from moebench.models.convert.config import family_of
    from moebench.models.convert.export import export_checkpoint
    from moebench.models.convert.tokenizer import TOKENS
    from moebench.models.generation import load_trained

    with input_errors():
        model = load_trained(results, run_id)
        export_checkpoint(model, folder)
    click.echo(f"written to {folder}: {family_of(model.architecture).architecture} and its tokenizer ({TOKENS})")
