"""Two results folders, run by run: what changed from A to B, and whether it got worse by more than a threshold.

Runs of one suite, model and seed are pairs, so a change in quality is a paired t interval over seeds, on log-ratios.
Timings of two sessions are no pairs: theirs is Welch's interval over processes; on a machine that is shared, sessions
drift by tens of percent, so a threshold on them wants a quiet one. Counts are exact and have no interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moebench import stats
from moebench.claims import coverage
from moebench.claims.preconditions.timing import PER_STEP
from moebench.format import interval
from moebench.metrics import metric_of
from moebench.reader.evidence import Evidence, gather
from moebench.store import CorruptFile, newest, open_results
from moebench.text import visible

QUALITY = "test.bits_per_byte"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of one model of one suite, in both folders."""

    suite: str
    """`suite`, or `suite@scale`."""
    model: str
    metric: str
    unit: str
    better: str
    """Which direction is good: 'lower' or 'higher'."""
    a: float | None = None
    """Mean over the seeds in both folders, or geometric mean over processes, in `unit`; None where there is nothing."""
    b: float | None = None
    change: float | None = None
    """From A to B in %."""
    low: float | None = None
    """95% interval of the change; None for counts, which are exact, and for a single pair."""
    high: float | None = None
    n: int = 0
    """Pairs of seeds, or processes of the smaller session; 0 for counts."""
    note: str = ""
    """What is missing or not comparable."""
    lost: bool = False
    """Whether B lacks what A has, so that less can be said than should be."""
    failed: bool = False
    """Set by a threshold: worse by more, interval and all, or lost."""

    def worse_by(self) -> float | None:
        """The least that it got worse by, in %: the interval's better end. None for what is uncertain without one."""
        if self.low is not None and self.high is not None:
            return self.low if self.better == "lower" else -self.high
        if self.change is None or metric_of(self.metric).kind != "counted":
            return None
        return self.change if self.better == "lower" else -self.change


def compare_folders(a: Path, b: Path, *, fail_above: float | None = None) -> list[Row]:
    """Compares the newest plans of every suite of A; one that B does not hold is a lost row for each of its models.

    With `fail_above`, in %, a row fails when the whole interval is worse than that, and when B lacks what A has: a gate
    that cannot judge stays shut. Raises CorruptFile when the folders have no suite in common.
    """
    in_a, in_b = _suites(a), _suites(b)
    if not set(in_a) & set(in_b):
        raise CorruptFile(b, f"no suite in common: {a} holds {_names(in_a)}, {b} holds {_names(in_b)}")
    rows = [row for title in in_a for row in _compare(title, in_a[title], in_b.get(title))]
    return rows if fail_above is None else [replace(row, failed=_fails(row, fail_above)) for row in rows]


def comparison_text(rows: list[Row]) -> str:
    """The comparison for a reader: a table in plain columns, and how many figures changed."""
    cells = [["suite", "model", "metric", "A", "B", "change [95%]", "n", ""]]
    for row in rows:
        note = " ".join(filter(None, ["FAILED" if row.failed else "", row.note]))
        cells.append([row.suite, row.model, row.metric, _number(row.a), _number(row.b), _change(row), _n(row), note])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    changed = sum(row.change not in (None, 0.0) for row in rows)
    failed = sum(row.failed for row in rows)
    summary = f"{len(rows)} values, {f'{changed} changed' if changed else 'none changed'}"
    return visible("\n".join([*lines, "", summary + (f", {failed} FAILED" if failed else "")]))


def _suites(root: Path) -> dict[str, Evidence]:
    results = open_results(root)
    return {stored.plan.title: gather(results, stored) for stored in newest(results.plans())}


def _names(suites: dict[str, Evidence]) -> str:
    return ", ".join(suites) or "none"


def _compare(title: str, a: Evidence, b: Evidence | None) -> Iterator[Row]:
    for model, planned in a.plan.decoders.items():
        if b is None:
            yield replace(_row(title, model, QUALITY), note="no such suite in B", lost=True)
            continue
        if model not in b.plan.decoders:
            yield replace(_row(title, model, QUALITY), note="no such model in B", lost=True)
            continue
        yield _quality(title, model, a, b)
        other = b.plan.decoders[model].costs.metrics
        for metric, value in planned.costs.metrics.items():
            row = replace(_row(title, model, metric), a=value, b=other[metric])
            yield replace(row, change=0.0 if value == other[metric] else 100 * (other[metric] / value - 1))
        yield from _timed(title, model, a, b)


def _row(title: str, model: str, metric: str) -> Row:
    entry = metric_of(metric)
    return Row(suite=title, model=model, metric=metric, unit=entry.unit, better=entry.better)


def _quality(title: str, model: str, a: Evidence, b: Evidence) -> Row:
    """Final quality over the seeds that both folders have."""
    row = _row(title, model, QUALITY)
    in_a, in_b = ({run.seed: run for run in one.outcomes_of([model]) if QUALITY in run.values} for one in (a, b))
    both = sorted(set(in_a) & set(in_b))
    if len(both) < len(in_a):
        row = replace(row, note=f"{len(in_a) - len(both)} of A's {len(in_a)} runs are not completed in B", lost=True)
    if not both:
        return row if row.note else replace(row, note="no run completed in A")
    runs = (*in_a.values(), *in_b.values())
    if len({run.test_digest for run in runs}) > 1 or any(run.test_digest is None for run in runs):
        return replace(row, note="tested on different text", lost=True)
    if len({coverage.documents_of(run, "test") for run in runs}) > 1:
        return replace(row, note="scored on other parts of the test text", lost=True)
    one, other = (np.array([runs[seed].values[QUALITY] for seed in both]) for runs in (in_a, in_b))
    row = replace(row, a=float(np.mean(one)), b=float(np.mean(other)), n=len(both))
    if min(*one, *other) <= 0:
        return replace(row, note="a loss of 0 has no ratio", lost=True)
    return _with_interval(row, np.log(other) - np.log(one))


def _timed(title: str, model: str, a: Evidence, b: Evidence) -> Iterator[Row]:
    """Medians of the speed session's processes."""
    in_a, in_b = ([process.values.get(model, {}) for process in one.processes] for one in (a, b))
    machines = {process.setup or process.machine for one in (a, b) for process in one.processes}
    micro_batches = {one.plan.decoders[model].recipe.micro_batch_tokens for one in (a, b)}
    for metric in dict.fromkeys(name for values in in_a for name in values if name.startswith("speed.")):
        one, other = (np.array([values[metric] for values in side if metric in values]) for side in (in_a, in_b))
        row = replace(_row(title, model, metric), a=_centre(one))
        if len(other) == 0:
            yield replace(row, note="not timed in B", lost=True)
            continue
        row = replace(row, b=_centre(other), n=min(len(one), len(other)))
        if len(machines) > 1:
            yield replace(row, note="timed on different machines")
        elif len(micro_batches) > 1 and metric in PER_STEP:
            yield replace(row, note="timed over steps of other micro-batches", lost=True)
        else:
            yield _with_interval(row, np.log(other), np.log(one))


def _with_interval(row: Row, logs: stats.Array, minus: stats.Array | None = None) -> Row:
    """The change from log-ratios of pairs, or from the logs of two independent samples."""
    if row.n < 2:
        change = float(np.mean(logs)) - (0.0 if minus is None else float(np.mean(minus)))
        return replace(row, change=_percent(change), note=row.note or "one run each: no interval")
    estimate = stats.paired(logs) if minus is None else stats.welch(logs, minus)
    ends = estimate.interval(0.95)
    return replace(row, change=_percent(estimate.centre), low=_percent(ends.low), high=_percent(ends.high))


def _centre(seconds: stats.Array) -> float:
    """Geometric mean over processes of each one's median, as in the report: the change is the ratio of two of these."""
    return float(np.exp(np.mean(np.log(seconds))))


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)


def _fails(row: Row, fail_above: float) -> bool:
    worse = row.worse_by()
    return row.lost or (worse is not None and worse > fail_above)


def _n(row: Row) -> str:
    return str(row.n) if row.n else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.5g}"


def _change(row: Row) -> str:
    if row.change is None:
        return ""
    if row.low is None or row.high is None:
        return interval(row.change, None, None, "%")
    return interval(row.change, row.low, row.high, "%")
