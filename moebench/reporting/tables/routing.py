"""Summary numbers of routing after the last step, and of its probes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef
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

_PROBES = {
    "specialisation.excess": "told by the domain",
    "specialisation.given_token_excess": "by the domain given the token",
    "specialisation.by_token": "by the token",
    "effort.easy_over_mean": "experts of easy tokens / mean",
    "locality.gain[cache=half]": "hits above chance",
    "simulated.straggler_factor[devices=8]": "waiting on 8 devices, simulated",
    "simulated.straggler_by_chance[devices=8]": "by chance",
    "regret.best": "less at the best experts",
    "regret.held_out": "at those of the token",
    "swap.turned": "more with experts swapped",
    "similarity.cka": "CKA of experts",
    "similarity.untrained": "untrained",
    "agreement.same_experts": "same experts with other noise",
}
"""Metrics of the table of probes, and their headings."""


@part("routing")
def routing(findings: Findings) -> Table | None:
    """A row a metric and model; of many models a row a model and a column a metric."""
    note = "Mean over seeds with its 95% interval; of numbers of experts, with the least and the most of any seed."
    return _summed(findings, _ROUTING, title="Routing after the last step", note=note)


@part("routing", order=1)
def probes(findings: Findings) -> Table | None:
    """The same of probes; what chance gives is subtracted, or stands beside it."""
    note = "Mean over seeds with its 95% interval. All that was measured, by layer too, is in the results."
    return _summed(findings, _PROBES, title="Probes of routing", note=note)


def _summed(findings: Findings, headings: Mapping[str, str], *, title: str, note: str) -> Table | None:
    """A row a metric and model; of many models a row a model and a column a metric."""
    rows = []
    for metric in headings:
        ref = MetricRef.parse(metric)
        for model, group in findings.study.final(ref.base, **dict(ref.labels)).groupby("model", sort=False):
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
        titled = frame.assign(short=frame["metric"].map(headings))
        shown, columns = across(titled, by="short", value="value", show=value.show)
        shown = shown.sort_values("model", key=lambda names: names.map(order), ignore_index=True)
    return Table(title=title, note=note, frame=frame, columns=columns, shown=shown)
