"""The folder that `lm_eval --output_path --log_samples` writes: a file of results, and one of samples for each task.

Every metric of a task becomes `lm_eval.<metric>[task=NAME]`, with direction, version and shots as lm-eval wrote them.
Its samples are its items, named by the hash of their document, so that two folders pair whatever order they were read
in. A metric that is no mean over its samples, such as a perplexity, has a number and no items. lm-eval is not needed;
files are read and never trusted.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moebench.external.numbers import CLOSE, Column, Read, ResultsError, Run
from moebench.metrics.metric import MOST, Better
from moebench.metrics.ref import labelled
from moebench.metrics.tasks import CLUSTERED_BY

_DATED = re.compile(r".*_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
_TASK = re.compile(r"[^\[\],=/\\\x00-\x1f\x7f\ud800-\udfff]{1,200}")
"""Names that can be a label, and part of a file's name."""
MOST_RESULT_BYTES = 1 << 28
MOST_SAMPLE_BYTES = 1 << 24
MOST_SAMPLES = 5_000_000
GUESSED = frozenset({"acc", "acc_norm", "acc_bytes"})
"""Metrics of choices, of which guessing gets its share."""
NO_ITEMS = frozenset({"perplexity", "word_perplexity", "byte_perplexity"})
"""Metrics that are known to be no mean over samples."""


def read(folder: Path) -> Read:
    """Everything in the folder, its newest results of each task. Raises ResultsError."""
    files = sorted(_results(folder), key=lambda pair: pair[1])
    if not files:
        wanted = "lm_eval --output_path writes results_<time>.json and, with --log_samples, samples_<task>_<time>.jsonl"
        raise ResultsError(folder, f"holds no results of lm-eval: {wanted}")
    into = Read(path=folder, form="lm_eval", sha256="")
    digests: list[str] = []
    newest: dict[tuple[str, str], tuple[Path, str, dict[str, Any]]] = {}
    for path, date in files:
        written = _json(path, digests)
        model = _word(written.get("model_name") or path.parent.name)
        for task in _mapping(path, written, "results"):
            if (older := newest.get((model, task))) is not None:
                into.notes.append(f"{task} of {model}: the newest results, of {date}; left out are those of {older[1]}")
            newest[model, task] = path, date, written
    for (model, task), (path, date, written) in newest.items():
        _task(into, path, model, task, date=date, written=written, digests=digests)
    for (model, task), (path, _, written) in newest.items():
        _group(into, path, model, task, written)
    into.sha256 = hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
    if not into.models:
        raise ResultsError(folder, "its results hold no numbers")
    return into


def _results(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files of results in it and in the folders in it, each with its time; links inside it are not followed."""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.is_symlink()]
    for place in (folder, *inner):
        for path in sorted(place.glob("*.json")):
            if (match := _DATED.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
                yield path, match["date"]


def _json(path: Path, digests: list[str]) -> dict[str, Any]:
    if path.stat().st_size > MOST_RESULT_BYTES:
        raise ResultsError(path, f"larger than {MOST_RESULT_BYTES:,} bytes")
    data = path.read_bytes()
    digests.append(f"{path.name} {hashlib.sha256(data).hexdigest()}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ResultsError(path, f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ResultsError(path, "is no file of lm-eval's results: not a JSON object")
    return value


def _mapping(path: Path, written: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = written.get(key, {})
    if not isinstance(value, dict):
        raise ResultsError(path, f"is no file of lm-eval's results: its {key} are no object")
    return value


# ---------------------------------------------------------------------------------------------- one task


def _task(
    into: Read, path: Path, model: str, task: str, *, date: str, written: Mapping[str, Any], digests: list[str]
) -> None:
    """The numbers of a task, and its samples."""
    if not _TASK.fullmatch(task):
        into.notes.append(f"task {task!r}: its name cannot be written as a label")
        return
    columns: dict[tuple[str, str], Column] = {}
    numbers = _numbers(_mapping(path, written, "results")[task])
    directions = _mapping(path, written, "higher_is_better").get(task)
    shots, version = (_mapping(path, written, key).get(task) for key in ("n-shot", "versions"))
    for (metric, filter_), value in numbers.items():
        several = sum(name == metric for name, _ in numbers) > 1
        name = _name(metric, task, filter_ if several else None)
        if name is None or not abs(value) <= MOST:
            no_number = f"{value:.3g} is beyond any measurement" if math.isfinite(value) else "no number"
            into.notes.append(f"{metric} of {task}: {no_number if name else 'its name cannot be written'}")
            continue
        higher = directions.get(metric) if isinstance(directions, dict) else None
        better: Better | None = None if higher is None else "higher" if higher else "lower"
        unit = "bits/byte" if metric == "bits_per_byte" else "1"
        column = Column(unit=unit, better=better, condition=_condition(shots, version), value=value)
        into.models.setdefault(model, {}).setdefault(None, Run()).columns[name] = columns[metric, filter_] = column
    samples = path.with_name(f"samples_{task}_{date}.jsonl")
    if not columns:
        return
    if not samples.is_file() or samples.is_symlink():
        if task not in _mapping(path, written, "group_subtasks"):
            into.notes.append(f"{task} of {model}: no samples (--log_samples), so no items")
        return
    configs = _mapping(path, written, "configs").get(task)
    of_choices = isinstance(configs, dict) and configs.get("output_type") == "multiple_choice"
    _samples(into, samples, columns, digests, of_choices=of_choices)
    for (metric, _), column in columns.items():
        _keep_if_mean(into, f"{metric} of {task}", column, metric)


def _condition(shots: object, version: object) -> str | None:
    return None if shots is None and version is None else condition(shots, version)


def condition(shots: object, version: object) -> str:
    """How a task was asked, in the words that its results are held to."""
    return f"{shots}-shot, version {version}"


def _numbers(row: object) -> dict[tuple[str, str], float]:
    """(metric, filter) -> its value, of one task's results."""
    found: dict[tuple[str, str], float] = {}
    for key, value in row.items() if isinstance(row, dict) else ():
        metric, comma, filter_ = str(key).partition(",")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if comma and number and not metric.endswith("_stderr"):
            found[metric, filter_] = _number(value)
    return found


def _number(value: float) -> float:
    """As a float; infinite where a whole number of JSON is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _word(value: object) -> str:
    """As text that can be written: JSON may hold halves of letters."""
    return str(value).encode(errors="backslashreplace").decode()


def _name(metric: str, task: str, filter_: str | None) -> str | None:
    """`lm_eval.acc[task=arc_easy]`; None where it cannot be written so."""
    word, task = re.sub(r"[^a-z0-9_]", "_", metric.lower()), task if filter_ is None else f"{task}:{filter_}"
    return labelled(f"lm_eval.{word}", task=task) if word[:1].isalpha() and _TASK.fullmatch(task) else None


# ---------------------------------------------------------------------------------------------- samples


def _samples(
    into: Read, path: Path, columns: Mapping[tuple[str, str], Column], digests: list[str], *, of_choices: bool
) -> None:
    """The items of a task's metrics, each named by its document's hash, the second of two equal ones by `hash#1`.

    They are grouped as those of tasks that are carried out here. Where they are `of_choices`, guessing gets one in as
    many as were scored.
    """
    guessed: list[float] = []
    docs: list[tuple[str, str]] = []
    fields: dict[str, list[str]] = {field: [] for field in CLUSTERED_BY}
    rows: dict[int, array[int]] = {id(column): array("q") for column in columns.values()}
    digest, seen = hashlib.sha256(), dict[tuple[str, str], int]()
    ids: set[tuple[str, str]] = set()
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_SAMPLE_BYTES + 1), b""), start=1):
            if len(line) > MOST_SAMPLE_BYTES or number > MOST_SAMPLES:
                raise ResultsError(path, "a line is too long" if len(line) > MOST_SAMPLE_BYTES else "too many lines")
            digest.update(line)
            row = _sample(path, line, number)
            filter_, doc = str(row.get("filter", "none")), _word(row["doc_hash"])
            doc_id = str(row.get("doc_id"))
            if (filter_, doc_id) in ids:
                raise ResultsError(path, f"document {doc_id} is there twice", line=number)
            ids.add((filter_, doc_id))
            if of_choices and isinstance(row.get("arguments"), dict) and row["arguments"]:
                guessed.append(1 / len(row["arguments"]))
            docs.append(key := (filter_, doc))
            _note_fields(fields, row.get("doc"), rows=number)
            again = seen[key] = seen.get(key, -1) + 1
            item = into.names.number(doc if not again else f"{doc}#{again}")
            for (metric, of), column in columns.items():
                if of == filter_ and (part := _part(metric, row.get(metric))) is not None:
                    column.items.append(item)
                    rows[id(column)].append(number - 1)
                    column.sizes.append(part[0])
                    column.values.append(part[1])
    digests.append(f"{path.name} {digest.hexdigest()}")
    of_field = next((values for values in fields.values() if len(values) == len(docs) and len(set(values)) > 1), None)
    for (metric, _), column in columns.items():
        for at in rows[id(column)]:
            alone = "" if not seen[docs[at]] else docs[at][1]
            column.groups.append(into.names.number(of_field[at] if of_field is not None else alone))
        if guessed and metric in GUESSED:
            column.chance = math.fsum(guessed) / len(guessed)


def _note_fields(fields: dict[str, list[str]], doc: object, *, rows: int) -> None:
    """Notes what says of a document which others it belongs to; a field that one of them lacks is given up."""
    for field, values in fields.items():
        value = doc.get(field) if isinstance(doc, dict) else None
        if len(values) == rows - 1 and isinstance(value, str | int) and value != "":
            values.append(_word(value))


def _sample(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else " (the file ends in the middle of a row)"
        raise ResultsError(path, f"is no JSON: {error}{cut}", line=number) from None
    if not isinstance(row, dict) or "doc_hash" not in row:
        raise ResultsError(path, "is no sample of lm-eval: it has no doc_hash", line=number)
    return row


def _part(metric: str, value: Any) -> tuple[float, float] | None:
    """Size and value of a sample; None where it has no part in a mean."""
    if isinstance(value, int | float) and math.isfinite(number := _number(value)):
        return 1.0, number
    if metric == "bits_per_byte" and isinstance(value, list) and len(value) == 2:
        logprob, num_bytes = (_number(x) if isinstance(x, int | float) else math.nan for x in value)
        if math.isfinite(logprob) and 0 < num_bytes < math.inf:
            return num_bytes, -logprob / math.log(2)
    return None


def _keep_if_mean(into: Read, what: str, column: Column, metric: str) -> None:
    """Items stay where the number is their mean; what lm-eval aggregates otherwise has none."""
    if not column.items or (column.value is not None and _is_close(column.final, column.value)):
        return
    for part in (column.items, column.groups, column.sizes, column.values):
        del part[:]
    if metric not in NO_ITEMS:
        into.notes.append(f"{what} is no mean over its samples: it has no items")


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)


def _group(into: Read, path: Path, model: str, group: str, written: Mapping[str, Any]) -> None:
    """The samples of a group's tasks as the group's own, where its number is their mean over all of them."""
    subtasks = _mapping(path, written, "group_subtasks")
    tasks = list(_leaves(subtasks, group))
    run = into.models.get(model, {}).get(None)
    if run is None or not tasks or tasks == [group]:
        return
    words = into.names
    for metric, _ in _numbers(_mapping(path, written, "results")[group]):
        name = _name(metric, group, None)
        column = run.columns.get(name or "")
        parts = [run.columns.get(_name(metric, task, None) or "") for task in tasks]
        if column is None or column.items or not all(part is not None and part.items for part in parts):
            continue
        for task, part in zip(tasks, parts, strict=True):
            assert part is not None
            column.items.extend(words.number(f"{task}:{words.words[item]}") for item in part.items)
            column.groups.extend(part.groups)
            column.sizes.extend(part.sizes)
            column.values.extend(part.values)
        _keep_if_mean(into, f"{metric} of {group}", column, metric)


def _leaves(subtasks: Mapping[str, Any], group: str) -> Iterator[str]:
    """The tasks of a group, groups in it followed."""
    left, seen = [group], set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        inner = subtasks.get(name)
        if isinstance(inner, list) and inner:
            left += map(str, reversed(inner))
        else:
            yield name
