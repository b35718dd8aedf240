"""What was read: runs of models, the metrics of each, their points in training and the items they are sums over.

A column keeps numbers in arrays and a name once, so that millions of rows take tens of bytes each.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from moebench.metrics.metric import Better
from moebench.text import plain

CLOSE = 1e-6
"""How far items may be from adding up to a number that stands beside them, relative."""


class ResultsError(ValueError):
    """Results that cannot be taken as they are; the message has file, line and what to do."""

    def __init__(self, path: Path | str, reason: str, *, line: int | None = None) -> None:
        where = plain(path, most=200) if line is None else f"{plain(path, most=200)}:{line}"
        super().__init__(f"{where}: {plain(reason, most=500)}")
        self.reason = plain(reason, most=500)


@dataclass(kw_only=True)
class Names:
    """Words by number, each kept once."""

    words: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, word: str) -> int:
        """The number of a word, a new one where it was not seen."""
        known = self.numbers.get(word)
        if known is None:
            known = self.numbers[word] = len(self.words)
            self.words.append(word)
        return known


@dataclass(kw_only=True)
class Column:
    """One metric of one run."""

    line: int | None = None
    """Where it begins in a table."""
    unit: str | None = None
    """As the file says it; None where it does not."""
    better: Better | None = None
    """Which direction is better, where what was read says so."""
    condition: str | None = None
    """How it was measured, where what was read says so."""
    chance: float | None = None
    """What guessing gets, where its items say so."""
    value: float | None = None
    """A number without a step; None where there is none."""
    steps: array[int] = field(default_factory=lambda: array("q"))
    """Steps of `points`."""
    points: array[float] = field(default_factory=lambda: array("d"))
    items: array[int] = field(default_factory=lambda: array("q"))
    """Numbers of the items' names in `Read.names`."""
    groups: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    """Of the items: the metric is sum(values) / sum(sizes)."""

    @property
    def final(self) -> float:
        """The number itself: of its items, of its last step, or as it stands; infinite where items add up to none."""
        if self.items:
            try:
                return math.fsum(self.values) / math.fsum(self.sizes)
            except OverflowError:
                return math.inf
        if self.steps:
            return self.points[max(range(len(self.steps)), key=self.steps.__getitem__)]
        assert self.value is not None
        return self.value


@dataclass(kw_only=True)
class Run:
    """The numbers of one model and seed."""

    columns: dict[str, Column] = field(default_factory=dict)
    """Metric with its labels -> its numbers."""
    diverged: bool = False
    """Whether the file says so in place of a number."""


@dataclass(kw_only=True)
class Read:
    """What a file or folder holds."""

    path: Path
    form: Literal["table", "lm_eval"]
    sha256: str
    """Of what was read."""
    models: dict[str, dict[int | None, Run]] = field(default_factory=dict)
    """Model -> seed -> its run; None where no seed is given."""
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    """Model -> counted metric -> its value, which has no seed."""
    names: Names = field(default_factory=Names)
    """Of items and groups."""
    units: dict[str, str] = field(default_factory=dict)
    """Metric -> its unit, where a table says one."""
    notes: list[str] = field(default_factory=list)
    """What of it was left out, and why."""

    def runs(self) -> Iterator[tuple[str, int | None, Run]]:
        for model, by_seed in self.models.items():
            for seed, run in by_seed.items():
                yield model, seed, run


def items_of(read: Read, column: Column) -> Mapping[str, tuple[str, float, float]]:
    """Item -> its group, size and value."""
    words = read.names.words
    each = zip(column.items, column.groups, column.sizes, column.values, strict=True)
    return {words[item]: (words[group], size, value) for item, group, size, value in each}
