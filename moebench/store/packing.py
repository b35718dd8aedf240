"""Numbers and JSON as short text that reads back exactly.

`pack` writes many numbers as one word of base-64 digits: whole numbers, doubles as multiples of a power of two, and
times as whole nanoseconds, each as its difference from the one before (the variable-length digits of source maps).
What fits none of these is written out. `fold` writes JSON whose parts repeat: what is there twice stands once, in a
table. Reading refuses what `pack` and `fold` do not write, and what would unfold to more than it could have been.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby, islice, pairwise
from typing import Any

from moebench.identity import canonical

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_VALUE = {digit: value for value, digit in enumerate(DIGITS)}
_MORE = 32
"""Bit of a variable-length digit that says that another follows."""
NANOSECOND = 1e9
MOST_BITS = 60
"""Doubles on a finer grid than 2^-60 are written out."""
MOST_UNFOLDED = 5_000_000
"""Values that a folded JSON may unfold to."""
SHORT_TEXT, SHORT = 20, 120
"""Characters below which a word, or an object or list, is written again where it repeats."""
LONG = 2000
"""Characters from which a part of a row that is there twice stands once, whatever that does to the row's column."""
MOST_HEXADECIMAL = 64
"""Digits of a hash."""
FEW_ROWS = 8
"""Objects in a list below which they are no rows."""


# ---------------------------------------------------------------------------------------------- one number


def number_text(value: float) -> str:
    """The shortest text of a number; `f` ends one that a 32-bit float holds, whose digits are those of that float."""
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    if len(text) > 11 and abs(value) < 3e38 and _single(value) == value:
        text = min(
            (text, *(f"{value:.{n}g}f" for n in range(6, 10) if _single(float(f"{value:.{n}g}")) == value)), key=len
        )
    return text


def number_of(text: str) -> int | float:
    """What `number_text` wrote. Raises ValueError."""
    if text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 20 and abs(int(text)) < 2**63:
        return int(text)
    value = _single(float(text[:-1])) if text.endswith("f") else float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(f"{text[:40]!r} is not a number")
    return value


def _single(value: float) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError as error:
        raise ValueError(f"{value} is no 32-bit float") from error
    return rounded


# ---------------------------------------------------------------------------------------------- many numbers


def pack(values: Sequence[float]) -> str:
    """Numbers as one word; whole numbers come back as int, all others as float. Raises ValueError for NaN, infinity."""
    if not all(map(math.isfinite, values)):
        raise ValueError("not finite")
    whole = [value for value in values if isinstance(value, int)]
    plain = all(math.copysign(1, value) > 0 and value < 2.0**53 for value in values)
    if plain and len(whole) == len(values):
        return "i" + _fixed(whole)
    bits = max(value.as_integer_ratio()[1].bit_length() - 1 for value in values)
    if plain and not whole:
        counts = [round(value * NANOSECOND) for value in values]
        if all(n / NANOSECOND == value for n, value in zip(counts, values, strict=True)):
            return "n" + "".join(_varying(b - a) for a, b in pairwise([0, *counts]))
        if bits <= MOST_BITS:
            return f"g{bits}:" + _fixed([int(math.ldexp(value, bits)) for value in values])
    return "w" + ",".join(map(number_text, values))


def unpack(word: str) -> list[int] | list[float] | list[int | float]:
    """What `pack` wrote. Raises ValueError."""
    kind, rest = word[:1], word[1:]
    if kind == "i":
        return _of_fixed(rest)
    if kind == "n":
        counts, at = [], 0
        for step in _of_varying(rest):
            at += step
            counts.append(at / NANOSECOND)
        return counts
    if kind == "g":
        bits, _, digits = rest.partition(":")
        if not bits.isdecimal() or int(bits) > MOST_BITS:
            raise ValueError(f"{bits[:40]!r} is no power of two")
        return [math.ldexp(value, -int(bits)) for value in _of_fixed(digits)]
    if kind == "w":
        return [number_of(text) for text in rest.split(",")] if rest else []
    raise ValueError(f"{word[:40]!r} are no numbers")


def _fixed(values: Sequence[int]) -> str:
    """Digits a number, then that many for each, the most significant first."""
    width = 1
    while max(values, default=0) >= 64**width:
        width += 1
    return DIGITS[width] + "".join(DIGITS[value >> 6 * n & 63] for value in values for n in reversed(range(width)))


def _of_fixed(text: str) -> list[int]:
    width = _digit(text[:1])
    if not width or (len(text) - 1) % width:
        raise ValueError(f"{text[:40]!r} are no numbers")
    values = []
    for start in range(1, len(text), width):
        value = 0
        for digit in text[start : start + width]:
            value = value << 6 | _digit(digit)
        values.append(value)
    return values


def _varying(value: int) -> str:
    """5 bits a digit, the least significant first; the lowest bit of all is the sign."""
    rest, text = abs(value) << 1 | (value < 0), ""
    while rest >= _MORE:
        text += DIGITS[rest & 31 | _MORE]
        rest >>= 5
    return text + DIGITS[rest]


def _of_varying(text: str) -> Iterator[int]:
    value = shift = 0
    for char in text:
        digit = _digit(char)
        value |= (digit & 31) << shift
        shift += 5
        if shift > 100:
            raise ValueError("a number of too many digits")
        if not digit & _MORE:
            yield -(value >> 1) if value & 1 else value >> 1
            value = shift = 0
    if shift:
        raise ValueError("its last number is cut off")


def _digit(char: str) -> int:
    if char not in _VALUE:
        raise ValueError(f"{char!r} is no digit")
    return _VALUE[char]


# ---------------------------------------------------------------------------------------------- JSON that repeats

_PART, _LISTS, _ROWS, _EACH, _ONE, _TIMES, _RUNS = "$", "$lists", "$rows", "$each", "$one", "$times", "$runs"
_NUMBERS, _HASHES, _CHOICE, _KINDS = "$numbers", "$hashes", "$choice", "$kinds"
_HASH = re.compile("[0-9a-f]{12,}")


def fold(value: Any) -> dict[str, Any]:
    """JSON whose repetitions stand once; see `unfold` for how it is written. Raises ValueError where it would not read.

    `{"$": n}` is the n-th of `shared`. `{"$rows": n, "of": column}` is a list of n objects with the same keys, and
    `{"$lists": [list, ...]}` one list after another. A column is `{"$each": {key: column}}` of objects, `{"$one":
    column}` of lists of one value, `{"$times": n, "of": column}` n times over, `{"$runs": [[value, n], ...]}`,
    `{"$numbers": word}` as `pack` writes them, `{"$hashes": digits, "of": word}` of hexadecimal numbers, `{"$choice":
    [value, ...], "at": word}` of few values, `{"$kinds": column, "of": [list, ...]}` of objects with other keys each,
    those with the same keys in one list and in the column which list is next, or the list of its values.
    """
    seen: Counter[str] = Counter()
    _count(value, seen)
    # Of rows that are there twice, sharing the one spoils the columns of the other.
    folded = min((_shared(value, seen, times) for times in (2, 3)), key=lambda one: len(canonical(one)))
    try:
        same = unfold(folded) == value
    except (ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise ValueError("has keys that only folded JSON has")
    return folded


def _shared(value: Any, seen: Mapping[str, int], times: int) -> dict[str, Any]:
    """The value folded, with what is there so many times in a table."""
    places: dict[str, int] = {}
    shared: list[Any] = []

    def once(part: Any, *, in_rows: bool = False) -> Any:
        text = canonical(part) if isinstance(part, str | dict | list) else ""
        if text in places:
            return {_PART: places[text]}
        if isinstance(part, dict):
            part = {key: once(inner, in_rows=in_rows) for key, inner in part.items()}
        elif isinstance(part, list):
            part = [once(inner, in_rows=in_rows or len(part) >= FEW_ROWS) for inner in part]
        enough = times if in_rows and len(text) < LONG else 2
        if len(text) < (SHORT_TEXT if isinstance(part, str) else SHORT) or seen[text] < enough:
            return part
        places[text] = len(shared)
        shared.append(_tabled(part))
        return {_PART: places[text]}

    return {"value": _tabled(once(value)), "shared": shared}


def unfold(folded: Any) -> Any:
    """What `fold` was given. Raises ValueError, LookupError or TypeError for anything else."""
    return _Unfolding(folded["shared"]).whole(folded["value"])


class _Unfolding:
    """Counts what is unfolded, each part as often as it is used."""

    def __init__(self, shared: Sequence[Any]) -> None:
        self.left = MOST_UNFOLDED
        self.parts: list[tuple[Any, int]] = []
        for part in shared:
            before = self.left
            value = self.whole(part)
            self.parts.append((value, before - self.left))

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"unfolds to more than {MOST_UNFOLDED:,} values")

    def whole(self, part: Any) -> Any:
        self.spend(1)
        if isinstance(part, list):
            return [self.whole(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if part.keys() == {_PART}:
            value, size = self.parts[part[_PART]]
            self.spend(size)
            return value
        if part.keys() == {_ROWS, "of"}:
            return [self.whole(row) for row in self.column(part["of"], part[_ROWS])]
        if part.keys() == {_LISTS}:
            return [row for inner in part[_LISTS] for row in self.whole(inner)]
        return {key: self.whole(inner) for key, inner in part.items()}

    def column(self, of: Any, rows: int) -> list[Any]:
        """The values of a column, whose parts are still folded."""
        self.spend(rows)
        keys = of.keys() if isinstance(of, dict) else None
        if keys == {_EACH}:
            columns = {key: self.column(inner, rows) for key, inner in of[_EACH].items()}
            return [{key: values[row] for key, values in columns.items()} for row in range(rows)]
        if keys == {_ONE}:
            return [[value] for value in self.column(of[_ONE], rows)]
        if keys == {_TIMES, "of"}:
            values = self.column(of["of"], rows // of[_TIMES]) * of[_TIMES]
        elif keys == {_RUNS}:
            values = [value for value, times in of[_RUNS] for _ in range(min(times, rows + 1))]
        elif keys == {_NUMBERS}:
            values = unpack(of[_NUMBERS])
        elif keys == {_HASHES, "of"}:
            if not 0 < int(of[_HASHES]) <= MOST_HEXADECIMAL:
                raise ValueError(f"{str(of[_HASHES])[:40]} digits are no hash")
            values = [f"{number:0{int(of[_HASHES])}x}" for number in _of_fixed(of["of"])]
        elif keys == {_CHOICE, "at"}:
            values = [of[_CHOICE][int(at)] for at in unpack(of["at"])]
        elif keys == {_KINDS, "of"}:
            kinds = [iter(self.whole(part)) for part in of["of"]]
            values = [row for kind in self.column(of[_KINDS], rows) for row in islice(kinds[kind], 1)]
        else:
            values = of
        if not isinstance(values, list) or len(values) != rows:
            raise ValueError(f"a column of {rows} rows has another number of values")
        return values


def _tabled(value: Any) -> Any:
    """Lists of objects with the same keys as columns, at any depth."""
    if isinstance(value, dict):
        return {key: _tabled(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    runs = [list(run) for _, run in groupby(value, lambda row: sorted(row) if isinstance(row, dict) else None)]
    kinds = {tuple(sorted(row)) for row in value} if all(isinstance(row, dict) for row in value) else set()
    if 1 < len(kinds) < len(runs):
        return {_ROWS: len(value), "of": _column(value)}
    if not any(len(run) > 1 and isinstance(run[0], dict) for run in runs):
        return [_tabled(inner) for inner in value]
    lists = [
        {_ROWS: len(run), "of": _column(run)} if isinstance(run[0], dict) else [_tabled(inner) for inner in run]
        for run in runs
    ]
    return lists[0] if len(lists) == 1 else {_LISTS: lists}


def _column(values: list[Any]) -> Any:
    texts = list(map(canonical, values))
    period = next(n for n in range(1, len(texts) + 1) if len(texts) % n == 0 and texts[n:] == texts[:-n])
    if 1 < period < len(texts):
        return {_TIMES: len(texts) // period, "of": _column(values[:period])}
    if period > 1 and all(isinstance(row, dict) and row.keys() == values[0].keys() for row in values):
        return {_EACH: {key: _column([row[key] for row in values]) for key in values[0]}}
    if period > 1 and all(isinstance(row, dict) for row in values):
        kinds: dict[tuple[str, ...], list[Any]] = {}
        for row in values:
            kinds.setdefault(tuple(sorted(row)), []).append(row)
        if 2 * len(kinds) <= len(values):
            order = {keys: number for number, keys in enumerate(kinds)}
            return {
                _KINDS: _column([order[tuple(sorted(row))] for row in values]),
                "of": list(map(_tabled, kinds.values())),
            }
    if period > 1 and all(isinstance(row, list) and len(row) == 1 for row in values):
        return {_ONE: _column([row[0] for row in values])}
    runs = [len(list(same)) for _, same in groupby(texts)]
    if len(runs) > len(values) / 2:
        word = pack(values) if all(isinstance(value, float) and math.isfinite(value) for value in values) else None
        if word is not None and len(word) < sum(map(len, texts)):
            return {_NUMBERS: word}
        few = dict(zip(texts, values, strict=True))
        if 4 * len(few) <= len(values):
            places = {text: number for number, text in enumerate(few)}
            return {_CHOICE: [_tabled(value) for value in few.values()], "at": pack([places[text] for text in texts])}
        hashes = all(isinstance(value, str) and _HASH.fullmatch(value) for value in values)
        if hashes and len(set(map(len, values))) == 1 and len(values[0]) <= MOST_HEXADECIMAL:
            return {_HASHES: len(values[0]), "of": _fixed([int(value, 16) for value in values])}
        return [_tabled(value) for value in values]
    return {_RUNS: [[_tabled(values[end - n]), n] for n, end in zip(runs, accumulate(runs), strict=True)]}


def _count(value: Any, seen: Counter[str]) -> None:
    if isinstance(value, str | dict | list):
        text = canonical(value)
        seen[text] += 1
        if seen[text] > 1:
            return  # its parts are written with it
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            _count(inner, seen)
