"""The rows of many jobs as text of few, even lines: what a bundle's `.txt` files hold.

A file is sections, each `@ <group>` and lines of cells with tabs between them. A group is the jobs of one kind and
model in order of seeds, so that what changes is few cells of few lines. Every number reads back exactly (`packing`).

    records.txt  metric (or that of the line before), step, and a value of each job, or `=` and that of all; a vector
                 where the metric has `expert=*`
    items.txt    a line a job: which list of documents (`% <n>`), and their bits; or of each metric with items which
                 list of items, `of=` the metric, and their values
    steps.txt    a line a job: which list of digests (a line of `%`)
    timed.txt    a line a job: `segment:first step-last step:seconds` of training
    samples.txt  number of the job, model, metric, and seconds in the order they were timed
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from moebench.store.packing import number_of, number_text, pack, unpack

Row = Mapping[str, Any]
Groups = Mapping[str, Sequence[Sequence[Row]]]
"""Group -> the rows of each of its jobs."""
Sections = dict[str, list[list[str]]]
Reader = Callable[[Sections, str, int], Iterator[dict[str, Any]]]
"""The rows of one job, by its group and its number in it. Raises ValueError, LookupError or TypeError."""

LISTS = "%"
_EXPERT = re.compile(r"(?<=[\[,]expert=)(0|[1-9][0-9]{0,5})(?=[\],])")
_STEP = re.compile(r"([0-9]{0,18})(?:v([0-9]{1,9}))?")
_TIMED = re.compile(r"([0-9]{1,18}):([0-9]{1,18})-([0-9]{1,18}):(\S+)")


def text_of(sections: Sections) -> str:
    """A file of these sections."""
    lines = [line for name, rows in sections.items() for line in (f"@ {name}", *map("\t".join, rows))]
    return "".join(line + "\n" for line in lines)


def sections_of(text: str) -> Sections:
    """The sections of a file. Raises ValueError."""
    sections: Sections = {}
    rows: list[list[str]] | None = None
    for line in text.split("\n")[:-1]:
        if line.startswith("@ "):
            if line[2:] in sections:
                raise ValueError(f"has the section {line[2:60]!r} twice")
            rows = sections[line[2:]] = []
        elif rows is None:
            raise ValueError("does not begin with a section")
        else:
            rows.append(line.split("\t"))
    return sections


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def _unescaped(text: str) -> str:
    return str(json.loads(f'"{text}"'))


# ---------------------------------------------------------------------------------------------- records


def records_written(groups: Groups) -> Sections:
    """Records as sections. Raises ValueError for rows that are no records, or are there twice."""
    sections: Sections = {}
    for group, jobs in groups.items():
        lines: dict[tuple[str, str], list[str]] = {}
        for number, rows in enumerate(jobs):
            for key, cell in _record_cells(rows):
                cells = lines.setdefault(key, [""] * len(jobs))
                if cells[number]:
                    raise ValueError(f"{key[0]} is recorded twice")
                cells[number] = cell
        sections[group] = _by_metric(lines)
    return sections


def _by_metric(lines: Mapping[tuple[str, str], list[str]]) -> list[list[str]]:
    """Lines of one metric one after the other; all but the first leave out its name."""
    steps: dict[str, list[list[str]]] = {}
    for (metric, step), cells in lines.items():
        steps.setdefault(metric, []).append([step, *_alike(cells)])
    return [[metric if n == 0 else "", *line] for metric, many in steps.items() for n, line in enumerate(many)]


def _alike(cells: list[str]) -> list[str]:
    return [f"={cells[0]}"] if len(cells) > 1 and len({*cells}) == 1 else cells


def _record_cells(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], str]]:
    """(metric, step) and cell of each record; the experts of one layer and step share a cell."""
    for (pattern, step), same in groupby(rows, _key):
        run = list(same)
        values = [row["value"] for row in run if isinstance(row.get("value"), int) and row["value"] >= 0]
        numbers = [_EXPERT.findall(row["metric"]) for row in run]
        if "expert=*" in pattern and len(values) == len(run) and numbers == [[str(n)] for n in range(len(run))]:
            yield (_escaped(pattern), step), pack(values)
            continue
        for row in run:
            cell = number_text(row["value"]) if "value" in row else f"!{json.dumps(row['reason'])}"
            yield (_escaped(row["metric"]), step), cell


def _key(row: Row) -> tuple[str, str]:
    if not row.keys() <= {"metric", "value", "reason", "step", "version"} or ("value" in row) == ("reason" in row):
        raise ValueError(f"{dict(row)} is no record")
    version = row.get("version", 1)
    step = f"{row.get('step', '')}" + (f"v{version}" if version != 1 else "")
    if not _STEP.fullmatch(step):
        raise ValueError(f"{row['metric']}: step {step}")
    return _EXPERT.sub("*", row["metric"]), step


def records_read(sections: Sections, group: str, number: int) -> Iterator[dict[str, Any]]:
    """The records of one job."""
    name = ""
    for name_text, step_text, *cells in sections[group]:
        name = name_text or name
        cell = cells[0][1:] if cells[0].startswith("=") else cells[number]
        if not cell:
            continue
        metric, step = _unescaped(name), _STEP.fullmatch(step_text)
        if step is None:
            raise ValueError(f"{metric}: step {step_text[:40]!r}")
        rest = ({"step": int(step[1])} if step[1] else {}) | {"version": int(step[2] or 1)}
        if cell.startswith("!"):
            yield {"metric": metric, "reason": json.loads(cell[1:]), **rest}
        elif "expert=*" in metric:
            for expert, value in enumerate(unpack(cell)):
                yield {"metric": metric.replace("expert=*", f"expert={expert}"), "value": value, **rest}
        else:
            yield {"metric": metric, "value": number_of(cell), **rest}


# ---------------------------------------------------------------------------------------------- items


SIZES = ("bytes", "tokens")
"""What a document has whatever model reads it: written with its name."""
Lists = dict[tuple[tuple[str, ...], ...], int]
"""Names of what was scored, each list once -> its number."""
_OF = "of="


def items_written(groups: Groups) -> Sections:
    """What was scored as sections. Raises ValueError for rows that are none."""
    lists: Lists = {}
    sections: Sections = {}
    for group, jobs in groups.items():
        lines = sections[group] = []
        for rows in jobs:
            named = bool(rows) and "metric" in rows[0]
            lines.append([*_by_metric_cells(rows, lists)] if named else _document_cells(rows, lists))
    return {f"{LISTS} {n}": [list(line) for line in names] for names, n in lists.items()} | sections


def _document_cells(rows: Sequence[Row], lists: Lists) -> list[str]:
    names = tuple(
        (_escaped(row["document"]), _escaped(row["domain"]), *(f"{key}={row[key]}" for key in SIZES if key in row))
        for row in rows
    )
    keys = sorted({key for row in rows for key in row} - {"document", "domain", *SIZES})
    return [str(lists.setdefault(names, len(lists))), *(f"{key}={pack([row[key] for row in rows])}" for key in keys)]


def _by_metric_cells(rows: Sequence[Row], lists: Lists) -> Iterator[str]:
    """Three cells a metric: its list of items, its name, its values."""
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        if row.keys() != {"metric", "item", "group", "size", "value"}:
            raise ValueError(f"{dict(row)} is no item")
        by_metric.setdefault(row["metric"], []).append(row)
    for metric, same in by_metric.items():
        names = tuple((_first(row["item"]), _escaped(row["group"]), f"size={number_text(row['size'])}") for row in same)
        yield str(lists.setdefault(names, len(lists)))
        yield f"{_OF}{_escaped(metric)}"
        yield f"value={pack([row['value'] for row in same])}"


def _first(text: str) -> str:
    """A word that begins a line, which must not look like a section."""
    return _escaped(text).replace("@", "\\u0040")


def items_read(sections: Sections, group: str, number: int) -> Iterator[dict[str, Any]]:
    """What one job scored."""
    which, *cells = sections[group][number]
    if not cells or not cells[0].startswith(_OF):
        yield from _documents_read(sections[f"{LISTS} {which}"], cells)
        return
    parts = sections[group][number]
    for which, of, cell in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        names, values = sections[f"{LISTS} {which}"], unpack(cell.removeprefix("value="))
        if len(values) != len(names):
            raise ValueError("has not one value for each item")
        metric = _unescaped(of.removeprefix(_OF))
        for (item, cluster, size), value in zip(names, values, strict=True):
            about = {"metric": metric, "item": _unescaped(item), "group": _unescaped(cluster)}
            yield {**about, "size": number_of(size.removeprefix("size=")), "value": value}


def _documents_read(documents: list[list[str]], cells: list[str]) -> Iterator[dict[str, Any]]:
    columns = {key: unpack(word) for key, _, word in (cell.partition("=") for cell in cells)}
    if any(len(values) != len(documents) for values in columns.values()):
        raise ValueError("has not one value for each document")
    for n, (document, domain, *sizes) in enumerate(documents):
        about = {"document": _unescaped(document), "domain": _unescaped(domain)}
        known = {key: number_of(size) for key, _, size in (cell.partition("=") for cell in sizes)}
        yield {**about, **known, **{key: values[n] for key, values in columns.items()}}


# ---------------------------------------------------------------------------------------------- steps and times


def steps_written(groups: Groups) -> Sections:
    """The digests of steps as sections; what else a step says is left out."""
    lists: dict[tuple[str, ...], int] = {}
    sections: Sections = {}
    for group, jobs in groups.items():
        steps_of = [tuple(f"{row['step']}:{row.get('digest', '')}" for row in rows) for rows in jobs]
        sections[group] = [[str(lists.setdefault(steps, len(lists)))] for steps in steps_of]
    return {LISTS: [list(steps) for steps in lists]} | sections


def steps_read(sections: Sections, group: str, number: int) -> Iterator[dict[str, Any]]:
    """The steps of one job."""
    for cell in sections[LISTS][int(sections[group][number][0])]:
        step, _, digest = cell.partition(":")
        if cell:
            yield {"step": int(step), **({"digest": digest} if digest else {})}


def timed_written(groups: Groups) -> Sections:
    """The seconds of training as sections; those of other work are left out."""
    return {
        group: [
            [
                f"{row['segment']}:{row['step_from']}-{row['step_to']}:{number_text(row['seconds'])}"
                for row in rows
                if row["what"] == "train"
            ]
            for rows in jobs
        ]
        for group, jobs in groups.items()
    }


def timed_read(sections: Sections, group: str, number: int) -> Iterator[dict[str, Any]]:
    """The times of one job."""
    for cell in filter(None, sections[group][number]):
        parts = _TIMED.fullmatch(cell)
        if parts is None:
            raise ValueError(f"{cell[:60]!r} is no time of training")
        segment, first, last = (int(parts[n]) for n in (1, 2, 3))
        seconds = number_of(parts[4])
        yield {"segment": segment, "step_from": first, "step_to": last, "what": "train", "seconds": seconds}


def samples_written(
    groups: Mapping[str, Mapping[int, Mapping[str, Mapping[str, Sequence[float]]]]], *, ordered: bool = True
) -> Sections:
    """Timed samples, of each job by model and metric, as sections; shorter when they need not keep their order."""
    return {
        group: [
            [str(number), _escaped(model), _escaped(metric), pack(seconds if ordered else sorted(seconds))]
            for number, models in jobs.items()
            for model, metrics in models.items()
            for metric, seconds in metrics.items()
        ]
        for group, jobs in groups.items()
    }


def samples_read(sections: Sections, group: str, number: int) -> dict[str, dict[str, list[Any]]]:
    """The samples of one job, by model and metric."""
    samples: dict[str, dict[str, list[Any]]] = {}
    for of, model, metric, word in sections.get(group, ()):
        if of == str(number):
            samples.setdefault(_unescaped(model), {})[_unescaped(metric)] = list(unpack(word))
    return samples


TABLES: dict[str, tuple[str, Callable[[Groups], Sections], Reader]] = {
    "records.jsonl": ("records.txt", records_written, records_read),
    "items.jsonl": ("items.txt", items_written, items_read),
    "steps.jsonl": ("steps.txt", steps_written, steps_read),
    "timed.jsonl": ("timed.txt", timed_written, timed_read),
}
"""File of rows in a job's folder -> file of the bundle, and how it is written and read."""
