"""Tables of cost: ratios and absolutes, percentiles of timings, memory by part."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moebench.claims.preconditions.timing import PER_STEP
from moebench.format import interval, quantity, seconds
from moebench.metrics.speed import AGAIN
from moebench.reporting.analysis import Findings, cost_label
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, across, amount, ends, text, whole

_P99_SAMPLES = 1000
"""Samples from which a 99th percentile means something."""


@part("cost", order=1)
def costs(findings: Findings) -> Table | None:
    """Every cost, absolute and as a ratio to the baseline."""
    rows = [
        {
            "cost": r.label, "metric": r.metric, "model": r.model.replace(AGAIN, " vs itself (A/A)"),
            "value": r.absolute, "unit": r.unit,
            "ratio": r.ratio.centre, **ends(r.ratio), "n": r.ratio.n, "n_counts": r.units,
        }
        for r in findings.ratios
    ]  # fmt: skip
    rows += [
        {
            "cost": cost_label(metric), "metric": metric, "model": model, "value": seconds, "unit": "s",
            "ratio": np.nan, "low": np.nan, "high": np.nan, "n": len(findings.timed(model, metric)),
            "n_counts": "processes",
        }
        for metric in findings.timed_metrics if metric in PER_STEP
        for model in findings.other_steps if (seconds := findings.usual_time(model, metric)) is not None
    ]  # fmt: skip
    if not rows:
        return None

    def ratio(row: Row) -> str:
        if row.model == findings.baseline:
            return "baseline"
        if np.isnan(row.ratio):
            return "another micro-batch"
        return interval(row.ratio, row.low, row.high, "ratio")

    if findings.many:
        frame = pd.DataFrame(rows)
        shown, columns = across(frame, by="cost", value="ratio", show=ratio)
        return Table(
            title=f"Costs as a ratio to {findings.baseline}",
            note="Paired by process or seed, 95% interval; without one: counted. Absolute values: tables/costs.csv.",
            frame=frame, columns=columns, shown=shown,
        )  # fmt: skip
    return Table(
        title=f"Costs, absolute and as a ratio to {findings.baseline}",
        note="Absolute: exact, or the geometric mean over seeds or over processes (each its median), as in the ratios. "
        "Ratios: paired by process or seed, 95% interval.",
        frame=pd.DataFrame(rows),
        columns=(
            text("cost", "cost"),
            text("model", "model"),
            Column(key="value", title="absolute", show=lambda row: quantity(row.value, row.unit)),
            Column(key="ratio", title=f"ratio to {findings.baseline}", show=ratio),
            Column(key="n", title="n", show=_n),
        ),
    )


def _n(row: Row) -> str:
    if row.n_counts == "counted":
        return "exact"
    return "1 run" if (row.n, row.n_counts) == (1, "seeds") else f"{row.n} {row.n_counts}"


@part("cost", order=2)
def timings(findings: Findings) -> Table | None:
    """Percentiles of the speed session's raw samples."""
    rows = []
    for metric in findings.timed_metrics:
        for model in findings.study.models:
            samples = findings.study.samples.get((model, metric))
            if samples is None:
                continue
            mine = findings.study.processes_of(model, metric)
            p50, p90 = np.quantile(samples, [0.5, 0.9])
            p99 = float(np.quantile(samples, 0.99)) if len(samples) >= _P99_SAMPLES else np.nan
            rows.append(
                {
                    "timing": cost_label(metric), "metric": metric, "model": model, "p50_s": p50, "p90_s": p90,
                    "p99_s": p99, "samples": len(samples), "processes": len(mine),
                    "unsteady_processes": int((~mine["steady"].astype(bool)).sum()),
                }
            )  # fmt: skip
    if not rows:
        return None
    return Table(
        title="Timing percentiles, samples of all processes pooled",
        note=f"p99 needs {_P99_SAMPLES:,} samples. Unsteady: processes whose times had not settled after the warm-up.",
        frame=pd.DataFrame(rows),
        columns=(
            text("timing", "timing"),
            text("model", "model"),
            amount("p50_s", "p50", seconds),
            amount("p90_s", "p90", seconds),
            amount("p99_s", "p99", seconds),
            amount("samples", "samples", whole),
            amount("processes", "processes", whole),
            amount("unsteady_processes", "unsteady", whole),
        ),
    )


@part("cost", order=3)
def memory(findings: Findings) -> Table | None:
    """Peaks of live tensor bytes, split into what they hold."""
    rows = []
    for metric, phase in (("memory.train_peak_bytes", "training"), ("memory.inference_peak_bytes", "inference")):
        peaks = pd.concat([findings.study.final(metric), findings.study.final(metric, part="*")])
        wide = peaks.assign(part=peaks["part"].fillna("peak")).pivot_table(
            index="model", columns="part", values="value"
        )
        seeds = peaks.groupby("model")["seed"].nunique()
        rows += [
            {"phase": phase, "model": model, **wide.loc[model].to_dict(), "n": int(seeds[model])}
            for model in findings.study.models
            if model in wide.index
        ]
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    parts = [column for column in frame.columns if column not in {"phase", "model", "peak", "n"}]
    parts = [*(["peak"] if "peak" in frame else []), *parts]
    frame = frame[["phase", "model", *parts, "n"]]
    return Table(
        title="Peak memory by part",
        note="Live tensor bytes at the peak of one untimed step, by what they held then; mean over seeds.",
        frame=frame,
        columns=(
            text("phase", "phase"),
            text("model", "model"),
            *(amount(name, name.replace("_", " "), lambda x: quantity(x, "bytes")) for name in parts),
            amount("n", "seeds", whole),
        ),
    )
