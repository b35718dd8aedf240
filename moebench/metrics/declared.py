"""Passing: the names that moved to `metrics`, `metrics.metric` and `metrics.ref`."""

from __future__ import annotations

from moebench.metrics import METRICS, impossible, metric_of, record
from moebench.metrics.metric import IMPOSSIBLE, Better, Kind, Metric, Range, Record
from moebench.metrics.ref import labelled, parse_metric

__all__ = [
    "IMPOSSIBLE", "METRICS", "Better", "Kind", "Metric", "Range", "Record", "impossible", "labelled", "metric_of",
    "parse_metric", "record",
]  # fmt: skip
