"""A tidy table, csv or JSON Lines: a row a number, with `model`, `metric`, `value`, and `seed` where there are several.

`step` makes a number one point of a curve, whose last counts; `item` makes it a part of a metric, which is then the sum
of its values over that of their sizes, and `group` names the cluster that an item belongs to. What `moebench.load`
gives, written with `to_csv`, is such a table: a count without a seed is a fact of its model. Rows are read one by one;
a number that is none, is there twice, or lacks what others have is refused with its line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import stat
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moebench.external.numbers import CLOSE, Column, Read, ResultsError, Run
from moebench.metrics import METRICS
from moebench.metrics.ref import MetricRef
from moebench.text import closest, listed, nearest, quoted

NEEDED = ("model", "metric", "value")
KNOWN = (*NEEDED, "seed", "step", "unit", "item", "group", "size")
OF_LOAD = ("suite", "run", "plan")
"""Columns of `moebench.load` that say where its rows are from."""
ABSENT = frozenset({"", "NA", "<NA>", "NaN", "nan", "None", "null"})
"""Cells of seed, step, unit, item and group that stand for nothing."""
DIVERGED = "diverged"
"""What stands in the place of a value that a run did not live to give."""
TIMED = "timings of the table are left out: only a speed session here judges them"
MOST_LINE_BYTES = 1 << 20
MOST_ROWS = 20_000_000
MOST_RUNS = 100_000
_RECORDS = (".jsonl", ".ndjson")
Row = tuple[int, str, str, str, str, str, str, str, str, str]
"""Line, then cells in the order of `KNOWN`: model, metric, value, seed, step, unit, item, group, size."""


def read(path: Path) -> Read:
    """The whole table. Raises ResultsError."""
    digest = hashlib.sha256()
    with _opened(path) as file:
        lines = _lines(path, file, digest)
        if path.suffix.lower() in _RECORDS:
            found: list[str] = []
            rows = _of_records(path, lines)
        else:
            found, rows = _of_csv(path, lines)
        into = Read(path=path, form="table", sha256="", notes=found)
        _take(path, into, rows)
        for _ in lines:  # what a csv reader left
            pass
    into.sha256 = digest.hexdigest()
    if not into.models:
        raise ResultsError(path, f"holds no numbers: a row needs {listed(NEEDED, last='and')}")
    return into


# ---------------------------------------------------------------------------------------------- rows to runs


def _take(path: Path, into: Read, rows: Iterator[Row]) -> None:
    """Sorts rows into runs and metrics."""
    places: dict[tuple[str, str, str, str], Column] = {}
    lines: dict[int, array[int]] = {}
    number_of_word, first = into.names.number, 0
    for line, model, metric, value, seed, step, unit, item, group, size in rows:
        first = first or line
        column = places.get((model, metric, seed, unit))
        if column is None:
            if value == DIVERGED:
                _run(path, into, model, seed, line).diverged = True
                continue
            column = _place(path, into, model, metric, seed, unit, line)
            if column is None:
                _fact(path, into, model, metric, value, line)
                continue
            places[model, metric, seed, unit] = column
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or "_" in value:
            if value == DIVERGED:
                _run(path, into, model, seed, line).diverged = True
                continue
            raise ResultsError(path, _no_number(value), line=line)
        if item not in ABSENT:
            column.items.append(number_of_word(item))
            column.groups.append(number_of_word("" if group in ABSENT else group))
            column.sizes.append(1.0 if size in ABSENT else _positive(path, size, line))
            column.values.append(number)
        elif step not in ABSENT:
            column.steps.append(_whole(path, step, "step", line))
            column.points.append(number)
        elif column.value is not None:
            raise ResultsError(path, f"{_which(model, metric, seed)} is there twice", line=line)
        else:
            column.value = number
            continue
        lines.setdefault(id(column), array("q")).append(line)
    _whole_runs(path, into, lines)


def _no_number(value: str) -> str:
    if value in ABSENT - {"nan", "NaN"}:
        return "there is no value: leave the row out"
    if value.lower().strip("+-") in ("nan", "inf", "infinity"):
        return f"{value} is no measurement: write {DIVERGED} where a run diverged, else leave the row out"
    hint = " (with a point, not a comma)" if "," in value else ""
    return f"{quoted(value)} is not a number{hint}"


def _run(path: Path, into: Read, model: str, seed: str, line: int) -> Run:
    if not model:
        raise ResultsError(path, "there is no model", line=line)
    by_seed = into.models.setdefault(model, {})
    key = None if seed in ABSENT else _whole(path, seed, "seed", line)
    if key not in by_seed and sum(map(len, into.models.values())) >= MOST_RUNS:
        raise ResultsError(path, f"more than {MOST_RUNS:,} runs", line=line)
    return by_seed.setdefault(key, Run())


def _place(path: Path, into: Read, model: str, metric: str, seed: str, unit: str, line: int) -> Column | None:
    """Where numbers of a metric and run go; None for a count, which is of the model, and for a timing, which is of a
    process and not judged here."""
    try:
        known = METRICS.get(MetricRef.parse(metric).base)
    except ValueError as error:
        raise ResultsError(path, f"{error}", line=line) from None
    if known is not None and (known.kind == "timed" or (known.kind == "counted" and seed in ABSENT)):
        return None
    column = _run(path, into, model, seed, line).columns.setdefault(metric, Column(line=line))
    said = None if unit in ABSENT else unit
    if said is not None and said != (known_unit := into.units.setdefault(metric, said)):
        raise ResultsError(path, f"{metric} in {quoted(said)}, above it is in {quoted(known_unit)}", line=line)
    column.unit = said or column.unit
    return column


def _fact(path: Path, into: Read, model: str, metric: str, value: str, line: int) -> None:
    if METRICS[MetricRef.parse(metric).base].kind == "timed":
        if TIMED not in into.notes:
            into.notes.append(TIMED)
        return
    facts = into.facts.setdefault(model, {})
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in value:
        raise ResultsError(path, _no_number(value), line=line)
    if facts.setdefault(metric, number) != number:
        raise ResultsError(path, f"{metric} of {model} is {number:g} here and {facts[metric]:g} above", line=line)


def _whole_runs(path: Path, into: Read, lines: dict[int, array[int]]) -> None:
    """Nothing is there twice, or in two forms that do not agree, or without the seed that others have."""
    for model, by_seed in into.models.items():
        if None in by_seed and len(by_seed) > 1:
            metric = next(iter(by_seed[None].columns), "a number")
            raise ResultsError(path, f"{metric} of {model} has no seed, though other rows of {model} have one")
    for model, seed, run in into.runs():
        for metric, column in run.columns.items():
            where, at = _which(model, metric, "" if seed is None else str(seed)), lines.get(id(column))
            if column.items and column.steps:
                raise ResultsError(path, f"{where} has items and steps: give the items of the last step alone")
            if column.value is not None and column.steps:
                raise ResultsError(path, f"{where} has rows with a step and one without")
            if not math.isfinite(column.final):
                raise ResultsError(path, f"the items of {where} add up to no number")
            ids = column.items or column.steps
            if (twice := _twice(np.frombuffer(ids, dtype=np.int64))) is not None:
                what = f"item {quoted(into.names.words[ids[twice]])}" if column.items else f"step {ids[twice]}"
                raise ResultsError(
                    path, f"{what} of {where} is there twice", line=at[twice] if at is not None else None
                )
            if column.items and column.value is not None and not _close(column.final, column.value):
                mean = f"its items give {column.final:.6g}"
                raise ResultsError(path, f"{where} is {column.value:.6g} in the row without an item, but {mean}")


def _twice(numbers: Any) -> int | None:
    """The place of the first number that stands there a second time; None without one."""
    if len(numbers) < 2:
        return None
    order = np.argsort(numbers, kind="stable")
    again = order[1:][numbers[order][1:] == numbers[order][:-1]]
    return int(again.min()) if len(again) else None


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)


def _which(model: str, metric: str, seed: str) -> str:
    return f"{metric} of {model}" + (f" with seed {seed}" if seed not in ABSENT else "")


def _whole(path: Path, text: str, what: str, line: int) -> int:
    """A whole number that is not below 0; `3.0` is one, as pandas writes a column with gaps."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number.is_integer() or not 0 <= number < 2**53 or "_" in text:
        raise ResultsError(path, f"{what} {quoted(text)} is no whole number from 0", line=line)
    return int(number)


def _positive(path: Path, text: str, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ResultsError(path, f"size {quoted(text)} is no number above 0", line=line)
    return number


# ---------------------------------------------------------------------------------------------- files to rows


def _opened(path: Path) -> io.BufferedReader:
    """A plain file, read through the user's own links and never waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ResultsError(path, f"cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ResultsError(path, "is no plain file")
    return os.fdopen(descriptor, "rb")


def _lines(path: Path, file: io.BufferedReader, digest: Any) -> Iterator[str]:
    """Its lines as text, each hashed as it is read."""
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(line) > MOST_LINE_BYTES:
            raise ResultsError(path, f"longer than {MOST_LINE_BYTES:,} bytes", line=number)
        if number > MOST_ROWS:
            raise ResultsError(path, f"more than {MOST_ROWS:,} lines")
        digest.update(line)
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise ResultsError(path, "is no UTF-8 text: save it as UTF-8", line=number) from None


def _of_csv(path: Path, lines: Iterator[str]) -> tuple[list[str], Iterator[Row]]:
    """What is left out, and the rows."""
    header = next(lines, "")
    if not header.strip():
        raise ResultsError(path, "is empty" if not header else "has no header in its first line")
    delimiter = max((",", ";", "\t"), key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    notes, at = _columns(path, names)
    return notes, _csv_rows(path, csv.reader(lines, delimiter=delimiter, strict=True), len(names), at)


def _csv_rows(path: Path, rows: Any, width: int, at: list[int | None]) -> Iterator[Row]:
    take = _picked(at)
    line = 1
    try:
        for cells in rows:
            if len(cells) != width:
                if not cells:
                    continue
                wrong = f"{len(cells)} cells, the header has {width} columns"
                raise ResultsError(path, wrong, line=rows.line_num + 1)
            line = rows.line_num + 1
            yield take(line, cells)
    except csv.Error as error:
        raise ResultsError(path, f"is no csv: {error}", line=rows.line_num + 1) from None


def _picked(at: list[int | None]) -> Callable[[int, list[str]], Row]:
    """Cells in the order of `KNOWN`, empty where the table has no such column."""
    model, metric, value, seed, step, unit, item, group, size = (-1 if place is None else place for place in at)

    def take(line: int, cells: list[str]) -> Row:
        cells.append("")  # what place -1 gives
        return (
            line, cells[model].strip(), cells[metric].strip(), cells[value].strip(), cells[seed].strip(),
            cells[step].strip(), cells[unit].strip(), cells[item].strip(), cells[group].strip(), cells[size].strip(),
        )  # fmt: skip

    return take


def _columns(path: Path, names: list[str]) -> tuple[list[str], list[int | None]]:
    """What is left out of a header, and the place of each known column. Raises ResultsError for what is missing."""
    if missing := [name for name in NEEDED if name not in names]:
        near = nearest(missing[0], [name for name in names if name and name not in KNOWN])
        lacks = f"has no column {listed(missing, last='and')}: its header has {listed(names, last='and')}"
        raise ResultsError(path, lacks + (f" ({near})" if near else ""), line=1)
    if twice := next((name for name in names if name in KNOWN and names.count(name) > 1), None):
        raise ResultsError(path, f"has the column {twice} twice", line=1)
    others = [name for name in names if name and name not in KNOWN and name not in OF_LOAD and "." not in name]
    for name in others:
        if (meant := closest(name.lower(), KNOWN)) is not None and meant not in names:
            raise ResultsError(path, f"column {quoted(name)} is not known: did you mean {meant}?", line=1)
    others = [name for name in others if not name.startswith("Unnamed")]
    notes = [f"columns that are not read: {listed(others, last='and')}"] if others else []
    return notes, [names.index(name) if name in names else None for name in KNOWN]


def _of_records(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    checked: set[frozenset[str]] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ResultsError(path, f"is no JSON: {error}", line=number) from None
        if not isinstance(row, dict):
            raise ResultsError(path, "a row is a JSON object", line=number)
        keys = frozenset(row)
        if keys not in checked:
            try:
                _columns(path, list(row))
            except ResultsError as error:
                raise ResultsError(path, error.reason, line=number) from None
            checked.add(keys)
        yield (number, *(_cell(path, row.get(name), name, number) for name in KNOWN))  # type: ignore[misc]


def _cell(path: Path, value: Any, name: str, line: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict) or (isinstance(value, str) and name in ("value", "size", "step", "seed")):
        if value == DIVERGED:
            return DIVERGED
        raise ResultsError(path, f"{name} is {quoted(value)}, not a number" if name in ("value", "size", "step", "seed")
                           else f"{name} is {quoted(value)}, not a word", line=line)  # fmt: skip
    if not isinstance(value, str):
        return repr(value)
    if not value.isascii() and value != value.encode(errors="replace").decode():
        raise ResultsError(path, f"{name} is {quoted(value)}, which holds half a letter", line=line)
    return value.strip()
