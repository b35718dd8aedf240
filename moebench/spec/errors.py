"""What is wrong with a suite file, said so that the reader can mend it: where, in which words, and what was meant.

A `Problem` is one mistake at one place; a `SuiteError` carries all that were found. The message names the offending
words, the source line is shown with a caret, and the nearest valid word is offered. This module knows neither YAML
nor pydantic.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def plain(value: object, *, most: int | None = None) -> str:
    """Words that may come from anyone as one line: cut after `most` characters, what does not print escaped.

    So that no file can clear a screen, turn text round or forge a line of its own.
    """
    text = re.sub(r"\s*\n\s*", " ", str(value).strip())
    if most is not None and len(text) > most:
        text = text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(value: object) -> str:
    """A value as it is shown in advice: what is beyond 60 characters is left out."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, line and paragraph separators, and marks that turn the direction of text."""


def visible(text: str) -> str:
    """Text of several lines in which what acts on a screen or page instead of being seen is escaped as `\\u202e`.

    The escapes are also those of JSON, so that a JSON text still says the same.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def quoted(value: object) -> str:
    """A value as it is shown in a message: in quotes, and cut when long."""
    return repr(cut(value))


def listed(words: Sequence[str], *, last: str = "or") -> str:
    """`a, b or c`; a long list is cut and says how many more there are."""
    if len(words) > 20:
        return f"{', '.join(words[:20])} and {len(words) - 20} more"
    if len(words) < 2:
        return "".join(words) or "none"
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when none is like it.

    A word that holds all of it (`topk` in `softmax_topk`) is nearer than one that differs by some letters (`top_p`).
    """
    by_lower = {name.lower(): name for name in known}
    asked = str(word)[:100].lower()
    if asked in by_lower:
        return by_lower[asked]
    parts = [name for name in by_lower if len(asked) >= 3 and asked in _endings(name)]
    likely = parts or difflib.get_close_matches(asked, by_lower, n=1, cutoff=0.6)
    if not likely and len(asked) >= 3:
        likely = [name for name in by_lower if name.startswith(asked)]
    return by_lower[likely[0]] if likely else None


def _endings(name: str) -> set[str]:
    """What follows a dot or an underscore: `bits_per_byte`, `per_byte` and `byte` of `test.bits_per_byte`."""
    return {name[mark.end() :] for mark in re.finditer(r"[._]", name)}


def nearest(word: object, known: Iterable[str]) -> str | None:
    """A hint that names the known word most like `word`, or None when none is like it."""
    found = closest(word, known)
    return f"did you mean {found!r}?" if found is not None else None
