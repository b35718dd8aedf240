"""Final bits per byte by model and domain, with the paired change against the baseline."""

from __future__ import annotations

import pandas as pd

from moebench.format import interval
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, across, amount, ends, text, whole, with_interval


@part("quality")
def quality(findings: Findings) -> Table | None:
    """A row a domain and model; of many models a row a model and a column a domain."""
    rows = []
    for domain in (None, *sorted(findings.quality["domain"].dropna().unique())):
        for model in findings.study.models:
            values = findings.final(model, domain)
            if values.empty:
                continue
            m, change = findings.level(model, domain), findings.change(model, domain)
            rows.append(
                {
                    "domain": domain or "all", "model": model, "bits_per_byte": m.centre, **ends(m), "n": len(values),
                    "change_percent": None if change is None else change.centre,
                    "change_low": None if change is None else change.low,
                    "change_high": None if change is None else change.high,
                    "pairs": 0 if change is None else change.n,
                }
            )  # fmt: skip
    if not rows:
        return None
    frame = pd.DataFrame(rows).astype(dict.fromkeys(("change_percent", "change_low", "change_high"), "float64"))
    loss, seeds = with_interval("bits_per_byte", "bits per byte"), amount("n", "seeds", whole)
    columns: tuple[Column, ...] = (
        text("domain", "domain"),
        text("model", "model"),
        loss,
        seeds,
        Column(key="change_percent", title=f"against {findings.baseline}", show=_changed),
    )
    columns = columns if findings.baseline is not None else columns[:-1]
    shown = None
    if findings.many:
        shown, wide = across(frame, by="domain", value="bits_per_byte", show=loss.show)
        every = frame[frame["domain"] == "all"].set_index("model").loc[shown["model"]]
        shown = shown.assign(**{column: list(every[column]) for column in ("change_percent", "n")})
        shown["change"] = [_changed(row) for row in every.itertuples(index=False)]
        shown = shown.sort_values("v0", ignore_index=True)
        title = f"all, against {findings.baseline}"
        beside = Column(key="change_percent", title=title, show=lambda row: row.change)
        columns = (*wide[:2], beside, *wide[2:], seeds)
    return Table(
        title="Final bits per byte",
        note="Mean over seeds with its 95% interval; the change is paired by seed. Lower is better."
        + (
            " Of models of one run both are over documents."
            if any(map(findings.plan.is_single, frame["model"]))
            else ""
        ),
        frame=frame,
        columns=columns,
        shown=shown,
    )


def _changed(row: Row) -> str:
    if pd.isna(row.change_percent):
        return "–"
    return interval(row.change_percent, row.change_low, row.change_high, "%")
