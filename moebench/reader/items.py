"""What was scored, item by item: read from a job's `items.jsonl` without trusting it.

An item is a document, a question, a prompt: whatever a metric is a sum over. For every metric that keeps items, its
value is sum(value) / sum(size) over them; items that do not add up to the record are refused. Rows of quality and of
accuracy are of documents (`{document, domain, bytes, bits}`), all others name their metric
(`{metric, item, group, size, value}`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moebench.metrics.ref import labelled
from moebench.reader.checks import number, word
from moebench.store import CorruptFile, Folder
from moebench.store.files import MOST_ROWS, words_of

CLOSE = 1e-6
"""How far items may be from adding up to a record, relative: rounding."""
FILE = "items.jsonl"
OF_DOCUMENTS = {"quality": ("bits_per_byte", "bytes", "bits"), "accuracy": ("accuracy", "tokens", "greedy")}
"""Measurement -> its metric without the split, and the keys of size and value in its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that was scored after the last step."""

    name: str
    """What it is, the same whatever model was scored on it."""
    group: str
    """The cluster that it comes from, such as a paragraph with several questions, or a document's domain; empty where
    it stands alone."""
    size: float
    """Its share in the denominator: bytes of a document, 1 of a question."""
    value: float
    """Its part of the numerator: bits of a document, 1 of a question answered rightly."""


Items = Mapping[str, tuple[Item, ...]]
"""Metric with its labels -> its items."""


def read_items(
    folders: Iterable[Folder], values: Mapping[str, float], *, split: str, documents: int
) -> dict[str, tuple[Item, ...]]:
    """The items of a run from the folders of its measurements, held against the records' `values`.

    `documents` is the most that a file about documents can hold. Raises CorruptFile.
    """
    found: dict[str, tuple[Item, ...]] = {}
    for folder in folders:
        measurement = folder.spec().get("measurement")
        try:
            if measurement in OF_DOCUMENTS:
                found |= _documents(folder, str(measurement), values, split=split, most=documents)
            else:
                found |= _named(folder, values)
        except (KeyError, TypeError) as error:
            raise CorruptFile(folder.path / FILE, words_of(error)) from error
    return found


# ---------------------------------------------------------------------------------------------- documents


def _documents(
    folder: Folder, measurement: str, values: Mapping[str, float], *, split: str, most: int
) -> dict[str, tuple[Item, ...]]:
    name, size, value = OF_DOCUMENTS[measurement]
    path, items = folder.path / FILE, dict[str, Item]()
    for row in folder.each_row(FILE, most=most):
        item = Item(
            name=word(row["document"], "document"),
            group=sys.intern(word(row["domain"], "domain")),
            size=number(row[size], size),
            value=float(number(row[value], value)),
        )
        if item.size < 1 or item.size != int(item.size) or item.value < 0:
            raise CorruptFile(path, f"{item.name}: {item.value} {value} of {item.size} {size}: impossible")
        if item.name in items:
            raise CorruptFile(path, f"{item.name} is there twice")
        items[item.name] = item
    if not items:
        return {}
    _documents_add_up(folder, items.values(), values, split=split, name=name, size=size)
    return {f"{split}.{name}": tuple(items.values())}


def _documents_add_up(
    folder: Folder, items: Collection[Item], values: Mapping[str, float], *, split: str, name: str, size: str
) -> None:
    """The documents are those that the records were made from, over all and by domain."""
    domains = sorted({item.group for item in items})
    for labels in ({}, *({"domain": domain} for domain in domains)):
        chosen = [item for item in items if not labels or item.group == labels["domain"]]
        total = sum(item.size for item in chosen)
        totals = {name: math.fsum(item.value for item in chosen) / total}
        if size == "bytes":
            totals |= {"scored_bytes": total, "scored_documents": len(chosen)}
        for what, is_total in totals.items():
            _adds_up(folder, labelled(f"{split}.{what}", **labels), is_total, values)


# ---------------------------------------------------------------------------------------------- named items


def _named(folder: Folder, values: Mapping[str, float]) -> dict[str, tuple[Item, ...]]:
    path = folder.path / FILE
    by_metric: dict[str, dict[str, Item]] = {}
    for row in folder.each_row(FILE, most=MOST_ROWS):
        if "metric" not in row:  # what an installed package keeps in its own way
            return {}
        items = by_metric.setdefault(word(row["metric"], "metric"), {})
        item = Item(
            name=word(row["item"], "item"),
            group=sys.intern(word(row["group"], "group")),
            size=float(number(row["size"], "size")),
            value=float(number(row["value"], "value")),
        )
        if item.size <= 0:
            raise CorruptFile(path, f"{item.name}: of size {item.size:g}: impossible")
        if item.name in items:
            raise CorruptFile(path, f"{item.name} is there twice")
        items[item.name] = item
    for metric, items in by_metric.items():
        total = math.fsum(item.size for item in items.values())
        _adds_up(folder, metric, math.fsum(item.value for item in items.values()) / total, values)
    return {metric: tuple(items.values()) for metric, items in by_metric.items()}


def _adds_up(folder: Folder, metric: str, total: float, values: Mapping[str, Any]) -> None:
    value = values.get(metric)
    if value is not None and not math.isclose(value, total, rel_tol=CLOSE, abs_tol=CLOSE):
        raise CorruptFile(folder.path / FILE, f"its items give {metric} {total:.6g}, the records {value:.6g}")
