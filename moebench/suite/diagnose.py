"""What is wrong with a text that is not YAML, in the words of the person who wrote it.

A scanner says where it gave up and what it expected; the mistake often stands before that, and its remedy is a space, a
quote or a colon. This module guesses from the lines around: it knows neither the scanner nor suites, and what it cannot
place keeps the scanner's own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from moebench.text import cut, quoted

_ENTRY = re.compile(r"""\s*(?:-\s+)*(?P<key>'[^']*'|"[^"]*"|[^\s#'"{\[:][^#:]*?)\s*:(?:\s+(?P<value>\S.*?))?\s*$""")
_UNSPACED = re.compile(r"\s*(?P<key>[\w.-]+):(?P<value>[^\s:].*?)\s*$")
_EQUALS = re.compile(r"\s*(?P<key>[\w.-]+)\s*=\s*(?P<value>.+?)\s*$")
_PAIR = re.compile(r"\s*(?P<key>[\w.-]+)\s+(?P<value>\S+)\s*$")
_WORD = re.compile(r"\s*(?P<key>[\w.-]+)\s*$")
_NO_BREAK_SPACE = "\u00a0"
_CLOSING = {"{": "}", "[": "]"}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Where the mistake stands (from 1), what it is, and what to do."""

    line: int
    column: int
    message: str
    hint: str | None = None


def diagnose(
    lines: Sequence[str], expected: str, *, line: int, column: int, opened: tuple[int, int] | None
) -> Diagnosis:
    """The mistake behind a scanner's complaint at a line and column.

    `expected` is the complaint; `opened` is where the key, quote or bracket begins that it was reading.
    """
    text = _line(lines, line)
    for number in (line, _before(lines, line)):
        if (blank := re.search(f"(?:^ *|:){_NO_BREAK_SPACE}", _line(lines, number))) is not None:
            message = "a no-break space (U+00A0), which looks like a space and is none to YAML"
            return Diagnosis(line=number, column=blank.end(), message=message, hint="replace it with a plain space")
    diagnosis = None
    if "mapping values are not allowed" in expected:
        diagnosis = (
            _second_colon(text, line, column) or _no_colon(lines, _before(lines, line)) or _too_deep(lines, line)
        )
    elif "could not find expected ':'" in expected and opened is not None:
        diagnosis = _no_colon(lines, opened[0])
    elif "expected <block end>" in expected:
        diagnosis = _inner_quote(text, line, column) or _mixed(expected, line, column)
        diagnosis = diagnosis or _after_bracket(expected, text, line, column)
        if diagnosis is None and column == _indent(text) + 1:
            diagnosis = _unaligned(lines, line)
    elif re.match(r"expected ',' or '[}\]]'", expected) and opened is not None:
        diagnosis = _flow(lines, expected, line, column, opened)
    elif re.search("cannot start any token|sequence entries are not allowed|node content, but found ','", expected):
        diagnosis = _cannot_start(text, line, column)
    elif "chomping" in expected or "expected a comment or a line break" in expected:
        start = max(text.rfind("|", 0, column), text.rfind(">", 0, column)) + 1
        diagnosis = _cannot_start(text, line, start) if start else None
    elif "unexpected end of stream" in expected and opened is not None:
        message = "the quote that is opened here is not closed"
        diagnosis = Diagnosis(line=opened[0], column=opened[1], message=message, hint="close it at the end of the text")
    elif "unknown escape character" in expected:
        hint = "within double quotes a backslash is special: use single quotes, or '/' in paths"
        diagnosis = Diagnosis(line=line, column=column, message="an unknown escape after a backslash", hint=hint)
    return diagnosis or Diagnosis(line=line, column=column, message=f"this is not valid YAML: {expected}")


def _line(lines: Sequence[str], number: int) -> str:
    return lines[number - 1] if 1 <= number <= len(lines) else ""


def _before(lines: Sequence[str], number: int) -> int:
    """The nearest line above that is neither empty nor a comment; 0 when there is none."""
    above = range(number - 1, 0, -1)
    return next((n for n in above if (bare := lines[n - 1].strip()) and not bare.startswith("#")), 0)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _second_colon(text: str, line: int, column: int) -> Diagnosis | None:
    """`says: The mixture: better`, where the text after the first colon holds another."""
    head = re.match(r"\s*(?:-\s+)*(?P<key>[^\s:#][^:#]*):\s+(?P<value>\S.*?)\s*$", text)
    if head is None or column <= head.start("value"):
        key = re.match(r"\s*(?P<value>\w+\s+\S.*?)\s*$", text)  # a second line of a text
        if key is None or ": " not in text or not re.search(r"\s", key["value"][: column - _indent(text)].strip()):
            return None
        hint = "quote the whole text, from its first line to its last"
        return Diagnosis(line=line, column=column, message="a ':' within a text that is not quoted", hint=hint)
    if label := re.search(r"\[\s*(\w+):\s*([^\]]*)\]", head["value"]):
        hint = f"write labels as [{cut(label[1])}={cut(label[2].strip())}]"
        return Diagnosis(line=line, column=column, message="a ':' within a metric's label", hint=hint)
    value = head["value"]
    if value.startswith("(") and value.endswith(")"):
        hint = f"write braces: {{{cut(value[1:-1])}}}"
        return Diagnosis(line=line, column=column, message="a mapping in one line stands in braces", hint=hint)
    quoted_value = f'"{value}"' if '"' not in value else "'" + value.replace("'", "''") + "'"
    hint = f"quote it: {cut(head['key'])}: {quoted_value}" if len(value) <= 80 else "put the text into double quotes"
    return Diagnosis(line=line, column=column, message="a second ':' in a text that is not quoted", hint=hint)


def _no_colon(lines: Sequence[str], number: int) -> Diagnosis | None:
    """A line such as `seeds 8`, `layers:2` or `moe`, which is to be a key."""
    text = _line(lines, number)
    if _ENTRY.match(text):
        return None
    at = _indent(text) + 1
    if "\uff1a" in text:
        message = "a full-width colon (U+FF1A), which is none to YAML"
        return Diagnosis(line=number, column=text.index("\uff1a") + 1, message=message, hint="write ': '")
    if unspaced := _UNSPACED.match(text):
        message, hint = "no space after the ':'", f"write {cut(unspaced['key'])}: {cut(unspaced['value'])}"
        return Diagnosis(line=number, column=at, message=message, hint=hint)
    if (pair := _EQUALS.match(text) or _PAIR.match(text)) is not None:
        message, hint = f"a key without its ':': {cut(pair['key'])}", f"write {cut(pair['key'])}: {cut(pair['value'])}"
        return Diagnosis(line=number, column=at, message=message, hint=hint)
    if word := _WORD.match(text):
        return Diagnosis(line=number, column=at, message="a key without its ':'", hint=f"write {cut(word['key'])}:")
    if not text.strip() or text.strip().endswith((",", "[", "{", "]", "}")):
        return None
    return Diagnosis(line=number, column=at, message="a key without its ':' (or a line that continues nothing)")


def _too_deep(lines: Sequence[str], line: int) -> Diagnosis | None:
    """A line that stands deeper than a line above whose value is complete."""
    text, above = _line(lines, line), _before(lines, line)
    before = _line(lines, above)
    if not above or _indent(text) <= _indent(before):
        return None
    at = _indent(text) + 1
    key = (_ENTRY.match(before) or {"key": ""})["key"]
    message = f"this line starts in column {at}, deeper than line {above}, whose value is complete"
    indent = f"indent it by {_indent(before)} spaces" if _indent(before) else "do not indent it"
    hint = f"{indent}, as {quoted(key)}: siblings start in one column"
    return Diagnosis(line=line, column=at, message=message, hint=hint)


def _inner_quote(text: str, line: int, column: int) -> Diagnosis | None:
    """`'The mixture's loss'`, which ends at the second quote."""
    before = text[: column - 1].rstrip()
    quote = before[-1:]
    if quote not in {"'", '"'}:
        return None
    other = '"' if quote == "'" else "'"
    hint = (
        f"put {other} around the text, or write {quote * 2 if quote == chr(39) else chr(92) + quote} for a quote inside"
    )
    return Diagnosis(line=line, column=len(before), message="the quoted text ends here, and more follows", hint=hint)


def _after_bracket(expected: str, text: str, line: int, column: int) -> Diagnosis | None:
    """A bracket too many, or a text that begins with one and so ends at the other."""
    if expected.endswith(("found '}'", "found ']'")):
        message = f"a {text[column - 1 : column]!r} that closes nothing"
        return Diagnosis(line=line, column=column, message=message, hint="take it out")
    last = text[: column - 1].rstrip()[-1:]
    if last not in _CLOSING.values():
        return None
    message = f"more follows the {last!r}"
    hint = "put a text that begins with a bracket into double quotes"
    return Diagnosis(line=line, column=column, message=message, hint=hint)


def _mixed(expected: str, line: int, column: int) -> Diagnosis | None:
    if not expected.endswith(("found '-'", "found '?'")):
        return None
    message = "keys and list entries ('- ') are mixed at one level"
    hint = "indent a list below its key; models and claims have names: write `name:` rather than `- name:`"
    return Diagnosis(line=line, column=column, message=message, hint=hint)


def _unaligned(lines: Sequence[str], line: int) -> Diagnosis | None:
    """A line that starts in a column where none of those it could belong to does."""
    here = _indent(_line(lines, line))
    levels: list[tuple[int, int]] = []  # (indent, the last line there), of every level still open
    deeper: list[tuple[int, int]] = []
    for number in range(1, line + 1):
        text = _line(lines, number)
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        if number == line and any(level[0] == here for level in levels):
            return None
        gone = [level for level in levels if level[0] > _indent(text)]
        levels = [level for level in levels if level[0] < _indent(text)]
        if number == line:
            deeper = gone[:1]
        else:
            levels.append((_indent(text), number))
    near = sorted([*levels[-1:], *deeper], key=lambda level: abs(level[0] - here))
    if not near:
        return None
    columns = [f"in column {indent + 1} (line {number})" for indent, number in near]
    message = f"this line starts in column {here + 1}, but those it can belong to start {' or '.join(columns)}"
    hint = f"indent it by {near[0][0]} spaces" + (f", or by {near[1][0]}" if len(near) > 1 else "")
    return Diagnosis(line=line, column=here + 1, message=message, hint=f"{hint}: siblings start in one column")


def _flow(lines: Sequence[str], expected: str, line: int, column: int, opened: tuple[int, int]) -> Diagnosis | None:
    """A `{` or `[` that is not closed, is closed by the other, or whose entries lack a comma."""
    bracket = _line(lines, opened[0])[opened[1] - 1 : opened[1]]
    if bracket not in _CLOSING:
        return None
    got = expected.rpartition("got ")[2].strip("'")
    if got in _CLOSING.values():
        message = f"{got!r} does not close the {bracket!r} of line {opened[0]}, column {opened[1]}"
        return Diagnosis(line=line, column=column, message=message, hint=f"write {_CLOSING[bracket]!r}")
    if got == "<stream end>" or (line > opened[0] and _indent(_line(lines, line)) < opened[1]):
        message = f"the {bracket!r} that is opened here is not closed"
        hint = f"close it with {_CLOSING[bracket]!r}"
        return Diagnosis(line=opened[0], column=opened[1], message=message, hint=hint)
    before = _line(lines, line)[: column - 1].rstrip()
    start = len(before) - len(re.search(r"[\w.-]*$", before)[0])  # type: ignore[index]  # matches the empty text too
    word = before[start:]
    message = f"a comma is missing before {quoted(word)}" if word else "a comma is missing here"
    return Diagnosis(line=line, column=start + 1, message=message, hint="entries in one line are separated by commas")


def _cannot_start(text: str, line: int, column: int) -> Diagnosis:
    bad = text[column - 1 : column]
    if bad == ",":
        return Diagnosis(line=line, column=column, message="nothing stands before this ','", hint="take it out")
    share = re.match(r"%\s*([0-9.]+)", text[column - 1 :])
    hint = f"write {share[1]}%" if share else "put the text into double quotes"
    return Diagnosis(line=line, column=column, message=f"a text cannot begin with {bad!r}", hint=hint)
