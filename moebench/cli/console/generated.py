"""Text as models write it: side by side where the terminal is wide enough, else one after the other.

Streams are told apart by nothing but their place, so each is decoded on its own, and what would act on a terminal is
escaped. Each step's time counts for the model that made it.
"""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from moebench.models.subject import Subject
from moebench.text import plain, visible

WIDE = 100
"""Columns of a terminal from which two models write side by side."""
REFRESH_PER_S = 8


@dataclass(kw_only=True)
class Writing:
    """What one model has written so far."""

    name: str
    pieces: Iterator[bytes]
    bits_per_byte: float | None
    """Of the prompt."""
    text: str
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    tokens: int = 0
    seconds: float = 0.0

    def step(self) -> str | None:
        """Writes a token and gives what can be shown of it; None at the end."""
        began = time.perf_counter()
        piece = next(self.pieces, None)
        self.seconds += time.perf_counter() - began
        shown = visible(self.decoder.decode(piece or b"", final=piece is None))
        self.text += shown
        self.tokens += piece is not None
        return None if piece is None and not shown else shown

    @property
    def facts(self) -> dict[str, Any]:
        rate = self.tokens / self.seconds if self.tokens else None
        found = {"tokens_per_s": rate, "prompt_bits_per_byte": self.bits_per_byte}
        known = {name: value for name, value in found.items() if value is not None}
        return {"model": self.name, "text": self.text, "tokens": self.tokens, "seconds": self.seconds, **known}

    @property
    def title(self) -> str:
        """`3fa9: 812 tokens/s, prompt 2.31 bits/byte`, as far as it is known."""
        rate = f"{self.tokens / self.seconds:,.0f} tokens/s" if self.tokens else ""
        bits = f"prompt {self.bits_per_byte:.3f} bits/byte" if self.bits_per_byte is not None else ""
        told = ", ".join(filter(None, (rate, bits)))
        return plain(self.name) + (f": {told}" if told else "")


def show(subjects: Mapping[str, Subject], prompt: bytes, *, as_json: bool, **how: Any) -> None:
    """Writes with one model, or with several, to standard output; `how` is that of `generation.stream`."""
    from moebench.models.generation import bits_per_byte, stream

    writings = [
        Writing(
            name=name,
            pieces=stream(subject, prompt, **how),
            bits_per_byte=bits_per_byte(subject, prompt) if as_json or len(subjects) > 1 else None,
            text=visible(prompt.decode(errors="replace")),
        )
        for name, subject in subjects.items()
    ]
    if as_json:
        for writing in writings:
            _finish(writing)
        click.echo(json.dumps([writing.facts for writing in writings], indent=1))
    elif len(writings) > 1 and _is_wide():
        _in_columns(writings)
    else:
        for index, writing in enumerate(writings):
            _below(writing, titled=len(writings) > 1, first=index == 0)


def _finish(writing: Writing) -> None:
    while writing.step() is not None:
        pass


def _is_wide() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and console.width >= WIDE


def _below(writing: Writing, *, titled: bool, first: bool) -> None:
    """One text as it comes; where there are several, under its model's name and over how fast it was."""
    if titled:
        click.echo(("" if first else "\n") + f"--- {plain(writing.name)}")
    click.echo(writing.text, nl=False)
    while (piece := writing.step()) is not None:
        click.echo(piece, nl=False)
    click.echo()
    if titled:
        click.echo(f"--- {writing.title}", err=True)


def _in_columns(writings: list[Writing]) -> None:
    """Texts side by side, each a token at a time in turn."""
    from rich.live import Live

    with Live(_columns(writings), refresh_per_second=REFRESH_PER_S) as live:
        going = list(writings)
        while going:
            going = [writing for writing in going if writing.step() is not None]
            live.update(_columns(writings))


def _columns(writings: list[Writing]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True, show_lines=False)
    for writing in writings:
        table.add_column(Text(writing.title), ratio=1, overflow="fold", vertical="top")
    table.add_row(*(Text(writing.text) for writing in writings))
    return table
