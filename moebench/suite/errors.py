"""What is wrong with a suite file, written so that the reader can mend it: where, in which words, and what was meant.

A `Problem` is one mistake at one place; a `SuiteError` carries all that were found. The message names the offending
words, the source line is shown with a caret, and the nearest valid word is offered. This module knows neither YAML
nor pydantic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moebench.text import plain

_SHOWN = 100
"""Characters of a source line that are printed around the caret."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A text that problems point into: a file, or one option of the command line."""

    name: str
    """As the user wrote it: a path, or the name of an option."""
    lines: tuple[str, ...] = ()
    folder: str = ""
    """Absolute folder that relative paths in this text are relative to."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place in a source; lines and columns count from 1."""

    source: Source
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{plain(self.source.name)}:{self.line}:{self.column}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake at one place."""

    position: Position
    message: str
    hint: str | None = None
    """What to do, or the nearest valid word."""

    @property
    def file(self) -> str:
        return self.position.source.name

    @property
    def line(self) -> int:
        return self.position.line

    @property
    def column(self) -> int:
        return self.position.column

    def __str__(self) -> str:
        parts = [f"{self.position}: {plain(self.message)}", *_excerpt(self.position)]
        if self.hint:
            parts.append(f"  {plain(self.hint)}")
        return "\n".join(parts)


class SuiteError(ValueError):
    """A suite that cannot be used, with every problem that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = {(problem.position, problem.message): problem for problem in problems}
        self.problems: tuple[Problem, ...] = tuple(sorted(unique.values(), key=lambda p: (p.file, p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def at(cls, position: Position, message: str, hint: str | None = None) -> SuiteError:
        """One mistake."""
        return cls([Problem(position=position, message=message, hint=hint)])


def _excerpt(position: Position) -> list[str]:
    """The source line, cut to a window around the column when it is long, and a caret under the column."""
    if position.line > len(position.source.lines):
        return []
    line = position.source.lines[position.line - 1]
    start = max(0, position.column - 1 - _SHOWN // 2) if len(line) > _SHOWN else 0
    shown = "".join(c if c.isprintable() else " " for c in line[start : start + _SHOWN])
    if not shown.strip():
        return []
    return [f"    {shown}", f"    {' ' * (position.column - 1 - start)}^"]
