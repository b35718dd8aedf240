"""YAML text to a tree that remembers where every key and value stood.

The tree is built from ruamel.yaml's event stream, so nothing is ever constructed from a tag and nothing is shared:
anchors, aliases, tags and merge keys are refused, which leaves no room for alias bombs or code. Size, depth and
number of values are bounded. Plain scalars follow YAML 1.2's core schema (`1.0e6` and `3e-3` are numbers, `yes` is a
word); numbers that are not finite are refused. This module knows nothing of suites.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moebench.suite.diagnose import diagnose
from moebench.suite.errors import Position, Source, SuiteError
from moebench.text import quoted

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 20_000

_FORBIDDEN = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

_INSTEAD = "use `base:` between models, `extends:` between files; quote a text that begins with '&' or '*'"

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value and where it stands. A mapping's values are entries, which know where their keys stand."""

    value: Scalar | list[Node] | dict[str, Entry]
    at: Position

    def plain(self) -> Any:
        """The value as ordinary Python data."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *path: str | int) -> Node | None:
        """The value at a path of keys and list indices, or None when there is none."""
        node: Node = self
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                node = node.value[str(part)].node
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node

    def mapping(self) -> dict[str, Entry]:
        """The entries, none when this is no mapping."""
        return self.value if isinstance(self.value, dict) else {}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value under a key, and where the key stands."""

    key_at: Position
    node: Node


def kind_of(value: object) -> str:
    """The plain word for what a YAML value is."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"the number {value}" if isinstance(value, int | float) else f"the word {quoted(value)}"


def decode(raw: bytes, *, name: str, folder: str) -> tuple[str, Source]:
    """File bytes to text with plain line ends. Raises SuiteError when it is too long, or no text, saying where."""
    bare = Source(name=name, folder=folder)
    if len(raw) > MAX_BYTES:
        raise SuiteError.at(
            Position(source=bare), f"the file has more than {MAX_BYTES:,} bytes: a suite file is far smaller"
        )
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise SuiteError.at(
            Position(source=bare, line=line, column=column), "this is not UTF-8 text", _other_text(raw)
        ) from None
    source = Source(name=name, folder=folder, lines=tuple(text.split("\n")))
    bad = _FORBIDDEN.search(text)
    if bad:
        before_text = text[: bad.start()]
        at = Position(source=source, line=before_text.count("\n") + 1, column=bad.start() - before_text.rfind("\n"))
        if bad[0] == "\t":
            raise SuiteError.at(at, "a tab: YAML does not indent with tabs, use spaces")
        raise SuiteError.at(at, f"the character U+{ord(bad[0]):04X} is not text: is this a YAML file?")
    return text, source


def _other_text(raw: bytes) -> str:
    """What to do with bytes that are not UTF-8."""
    if raw.startswith(b"\x1f\x8b"):
        return "it is compressed: unpack it with gunzip"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it looks like UTF-16: save it as UTF-8"
    return "a suite is text: save it as UTF-8, in an editor or with `iconv -f latin1 -t utf-8`"


def parse(text: str, source: Source) -> Node:
    """One YAML document to a tree. Raises SuiteError for anything outside the plain subset described above."""
    events = _Events(text, source)
    event, at = events.take()
    if event != "DocumentStart":
        raise SuiteError.at(at, "the file is empty")
    event, at = events.take()
    node = _node(events, event, at, depth=0)
    events.take()
    event, at = events.take()
    if event != "StreamEnd":
        raise SuiteError.at(at, "a second YAML document starts here: a suite is one document")
    return node


class _Events:
    """ruamel.yaml's events as a word and a position, everything refused that is refused whatever the place."""

    def __init__(self, text: str, source: Source) -> None:
        from ruamel.yaml import YAML  # here, so that `moebench --help` does not pay for it

        self.source = source
        self.count = 0
        self.raw: Any = None
        """The event taken last."""
        self._line, self._column = 1, 1
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self.take()  # the start of the stream

    def take(self) -> tuple[str, Position]:
        try:
            self.raw = next(self._events)
        except Exception as error:  # the scanner lets ValueError and others through for odd escapes
            raise self._unreadable(error) from None
        self._line, self._column = self.raw.start_mark.line + 1, self.raw.start_mark.column + 1
        at = Position(source=self.source, line=self._line, column=self._column)
        self.count += 1
        if self.count > MAX_VALUES:
            raise SuiteError.at(at, f"more than {MAX_VALUES:,} values: a suite file is far smaller")
        word = type(self.raw).__name__.removesuffix("Event")
        if word == "Alias" or (word in {"Scalar", "MappingStart", "SequenceStart"} and self.raw.anchor):
            raise SuiteError.at(at, "anchors and aliases are not allowed", _INSTEAD)
        if word in {"Scalar", "MappingStart", "SequenceStart"} and self.raw.tag:
            raise SuiteError.at(
                at,
                "tags such as !!str or !!python/object are not allowed",
                "write the value without a tag; quote a text that begins with '!'",
            )
        return word, at

    def _unreadable(self, error: Exception) -> SuiteError:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (self._line, self._column)
        start = getattr(error, "context_mark", None)
        diagnosis = diagnose(
            self.source.lines,
            getattr(error, "problem", None) or "it cannot be read beyond this point",
            line=line,
            column=column,
            opened=(start.line + 1, start.column + 1) if start is not None else None,
        )
        at = Position(source=self.source, line=diagnosis.line, column=diagnosis.column)
        return SuiteError.at(at, diagnosis.message, diagnosis.hint)


def _node(events: _Events, event: str, at: Position, *, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise SuiteError.at(at, f"nested more than {MAX_DEPTH} deep")
    if event == "MappingStart":
        return Node(value=_mapping(events, depth=depth), at=at)
    if event == "SequenceStart":
        items = []
        while (step := events.take())[0] != "SequenceEnd":
            items.append(_node(events, *step, depth=depth + 1))
        return Node(value=items, at=at)
    plain = events.raw.style is None and events.raw.implicit[0]
    return Node(value=_scalar(events.raw.value, at, plain=plain), at=at)


def _mapping(events: _Events, *, depth: int) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    while (step := events.take())[0] != "MappingEnd":
        word, at = step
        if word != "Scalar":
            braces = "templates such as {{ x }} are not filled in: write the value, or set it with --set"
            raise SuiteError.at(at, "a key must be a word", braces if word == "MappingStart" else None)
        key = _text(events.raw.value, at)
        end = events.raw.end_mark
        empty_at = Position(source=events.source, line=end.line + 1, column=end.column + 2)
        if not key:
            raise SuiteError.at(at, "a key is missing before the ':'")
        if key == "<<":
            raise SuiteError.at(at, "merge keys (<<) are not allowed", _INSTEAD)
        if key in entries:
            first = f"it is first given at line {entries[key].key_at.line}, column {entries[key].key_at.column}"
            raise SuiteError.at(at, f"duplicate key {quoted(key)}", first)
        word, at_value = events.take()
        if word == "Scalar" and events.raw.value == "" and events.raw.style is None:
            at_value = empty_at  # the scanner places an absent value at whatever comes next
        entries[key] = Entry(key_at=at, node=_node(events, word, at_value, depth=depth + 1))
    return entries


def _scalar(text: str, at: Position, *, plain: bool) -> Scalar:
    if not plain:
        return _text(text, at)
    if text in _WORDS:
        return _WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        raise SuiteError.at(at, f"{text} is not a finite number", "to leave a value out, leave out its key")
    if _INT.fullmatch(text) and len(text) <= 30:
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        number = float(text) if len(text) <= 100 and text[:2] not in {"0o", "0x"} else math.inf
        if not math.isfinite(number):
            raise SuiteError.at(at, f"{quoted(text)} is too large a number")
        return number
    return _text(text, at)


def _text(text: str, at: Position) -> str:
    """The text itself; escapes such as `\\0` may smuggle in what the file may not hold."""
    bad = _FORBIDDEN.search(text)
    if bad:
        raise SuiteError.at(at, f"the character U+{ord(bad[0]):04X} is not allowed in a text")
    return text
