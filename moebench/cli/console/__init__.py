"""What commands print, as text for a terminal or a pipe. Words only; nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moebench.text import visible


def printed(*parts: Any, plain_width: int = 160) -> str:
    """Rich renderables as text: with colours on a terminal, plain and `plain_width` wide elsewhere, never cut."""
    terminal = Console()
    width = max(terminal.width, 100) if terminal.is_terminal else plain_width
    console = Console(file=StringIO(), width=width, force_terminal=terminal.is_terminal, highlight=False)
    for part in parts:
        console.print(visible(part), markup=False) if isinstance(part, str) else console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip("\n").splitlines())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and the rest numbers."""
    made = Table(title=visible(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
    return made
