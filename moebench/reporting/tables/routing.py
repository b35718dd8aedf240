"""Summary numbers of routing after the last step."""

from __future__ import annotations

import pandas as pd

from moebench.metrics import metric_of
from moebench.reporting.analysis import Findings, mean
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Table, across, amount, ends, text, whole, with_interval

_ROUTING = {
    "routing.max_over_mean": "busiest / mean",
    "routing.entropy": "entropy of load",
    "routing.dead_experts": "idle experts",
    "routing.idle_by_chance": "idle by chance",
    "evaluation.dropped_share": "dropped in evaluation",
    "train.dropped_share": "dropped in training",
}
"""Metrics of the table, and their headings where each is a column."""


@part("routing")
def routing(findings: Findings) -> Table | None:
    """A row a metric and model; of many models a row a model and a column a metric."""
    rows = []
    for metric in _ROUTING:
        for model, group in findings.study.final(metric).groupby("model", sort=False):
            m, values = mean(group["value"]), group["value"]
            # Of counts: a t interval of a few small ones would reach below 0.
            counts = metric_of(metric).unit == "experts"
            sides = {"low": float(values.min()), "high": float(values.max())} if counts else ends(m)
            says = metric_of(metric).says
            rows.append({"metric": metric, "says": says, "model": model, "value": m.centre, **sides, "n": m.n})
    if not rows:
        return None
    frame, value = pd.DataFrame(rows), with_interval("value", "value")
    columns: tuple[Column, ...] = (text("says", "measure"), text("model", "model"), value, amount("n", "seeds", whole))
    shown = None
    if findings.many:
        order = {name: place for place, name in enumerate(findings.study.models)}
        titled = frame.assign(short=frame["metric"].map(_ROUTING))
        shown, columns = across(titled, by="short", value="value", show=value.show)
        shown = shown.sort_values("model", key=lambda names: names.map(order), ignore_index=True)
    return Table(
        title="Routing after the last step",
        note="Mean over seeds with its 95% interval; of numbers of experts, with the least and the most of any seed.",
        frame=frame,
        columns=columns,
        shown=shown,
    )
