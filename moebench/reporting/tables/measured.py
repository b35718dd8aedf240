"""Tables of what was measured: sizes and matches, costs, timings, memory, quality, routing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from moebench.claims.preconditions import PER_STEP
from moebench.format import interval, number, quantity, seconds
from moebench.metrics.declared import METRICS
from moebench.reader.runs import AGAIN
from moebench.reporting.analysis import Findings, Mean, cost_label, difference, mean
from moebench.reporting.tables.table import Column, Row, Table, across, amount, text, whole, with_interval

_ROUTING = {
    "routing.max_over_mean": "busiest / mean",
    "routing.entropy": "entropy of load",
    "routing.dead_experts": "idle experts",
    "routing.idle_by_chance": "idle by chance",
    "evaluation.dropped_share": "dropped in evaluation",
    "train.dropped_share": "dropped in training",
}
"""Metrics of the routing table, and their headings where each is a column."""
_ON = {
    "active_params": "active params", "total_params": "total params", "train_flops": "training FLOPs/token",
    "decode_flops": "decode FLOPs/token", "weight_bytes": "weight bytes",
}  # fmt: skip
_P99_SAMPLES = 1000
"""Samples from which a 99th percentile means something."""


# ---------------------------------------------------------------------------------------------- what was equal


def match(found: Findings) -> Table | None:
    """What was made equal between the models, with residuals."""
    matches = {m.model: m for m in found.plan.matches}
    rows = []
    for name, model in found.plan.models.items():
        params, made = model.costs.params, matches.get(name)
        rows.append(
            {
                "model": name, "kind": model.architecture.ffn.kind, "active_params": params.active,
                "total_params": params.total,
                "active_params_no_embedding": params.active_no_embedding,
                "total_params_no_embedding": params.total_no_embedding,
                "train_flops_per_token": model.costs.train_flops_per_token,
                "tokens": model.recipe.steps * model.recipe.batch_tokens,
                "matched_on": made.on if made else None, "matched_to": made.to if made else None,
                "solved": f"{made.by} = {made.size}" if made else None, "residual": made.residual if made else np.nan,
                "tolerance": made.tolerance if made else np.nan, "data_digest": found.plan.data.digest,
            }
        )  # fmt: skip

    def matched(row: Row) -> str:
        return f"{_ON[row.matched_on]} of {row.matched_to}, by {row.solved}" if row.matched_on else "–"

    def bare(row: Row) -> str:
        return f"{row.active_params_no_embedding:,} / {row.total_params_no_embedding:,}"

    return Table(
        title="Sizes, matches and data",
        note="Parameters include embeddings (tied tables once) and the router, which counts as active; without "
        "embeddings: active / total. FLOPs: model FLOPs of forward and backward.",
        frame=pd.DataFrame(rows),
        columns=(
            text("model", "model"),
            amount("active_params", "active params", whole),
            amount("total_params", "total params", whole),
            Column(key="active_params_no_embedding", title="without embeddings", show=bare),
            amount("train_flops_per_token", "FLOPs/token", whole),
            Column(key="matched_on", title="matched on", show=matched, number=False),
            amount("residual", "residual", lambda x: f"{'+' if x > 0 else ''}{number(100 * x, 2)}%"),
            Column(key="tokens", title="tokens (digest)", show=lambda row: f"{row.tokens:,} ({row.data_digest[:6]})"),
        ),
    )


# ---------------------------------------------------------------------------------------------- what it cost


def costs(found: Findings) -> Table | None:
    """Every cost, absolute and as a ratio to the baseline."""
    rows = [
        {
            "cost": r.label, "metric": r.metric, "model": r.model.replace(AGAIN, " vs itself (A/A)"),
            "value": r.absolute, "unit": r.unit,
            "ratio": r.ratio.centre, "low": r.ratio.low if r.ratio.bounded else np.nan,
            "high": r.ratio.high if r.ratio.bounded else np.nan, "n": r.ratio.n, "n_counts": r.units,
        }
        for r in found.ratios
    ]  # fmt: skip
    rows += [
        {
            "cost": cost_label(metric), "metric": metric, "model": model, "value": seconds, "unit": "s",
            "ratio": np.nan, "low": np.nan, "high": np.nan, "n": len(found.timed(model, metric)),
            "n_counts": "processes",
        }
        for metric in found.timed_metrics if metric in PER_STEP
        for model in found.other_steps if (seconds := found.usual_time(model, metric)) is not None
    ]  # fmt: skip
    if not rows:
        return None

    def ratio(row: Row) -> str:
        if row.model == found.baseline:
            return "baseline"
        if np.isnan(row.ratio):
            return "another micro-batch"
        return interval(row.ratio, row.low, row.high, "ratio")

    if found.many:
        frame = pd.DataFrame(rows)
        shown, columns = across(frame, by="cost", value="ratio", show=ratio)
        return Table(
            title=f"Costs as a ratio to {found.baseline}",
            note="Paired by process or seed, 95% interval; without one: counted. Absolute values: tables/costs.csv.",
            frame=frame, columns=columns, shown=shown,
        )  # fmt: skip
    return Table(
        title=f"Costs, absolute and as a ratio to {found.baseline}",
        note="Absolute: exact, or the geometric mean over seeds or over processes (each its median), as in the ratios. "
        "Ratios: paired by process or seed, 95% interval.",
        frame=pd.DataFrame(rows),
        columns=(
            text("cost", "cost"),
            text("model", "model"),
            Column(key="value", title="absolute", show=lambda row: quantity(row.value, row.unit)),
            Column(key="ratio", title=f"ratio to {found.baseline}", show=ratio),
            Column(
                key="n", title="n", show=lambda row: "exact" if row.n_counts == "counted" else f"{row.n} {row.n_counts}"
            ),
        ),
    )


def timings(found: Findings) -> Table | None:
    """Percentiles of the speed session's raw samples."""
    rows = []
    for metric in found.timed_metrics:
        for model in found.held.models:
            samples = found.held.samples.get((model, metric))
            if samples is None:
                continue
            mine = found.held.speed[(found.held.speed["model"] == model) & (found.held.speed["metric"] == metric)]
            p50, p90 = np.quantile(samples, [0.5, 0.9])
            p99 = float(np.quantile(samples, 0.99)) if len(samples) >= _P99_SAMPLES else np.nan
            rows.append(
                {
                    "timing": cost_label(metric), "metric": metric, "model": model, "p50_s": p50, "p90_s": p90,
                    "p99_s": p99,
                    "samples": len(samples), "processes": len(mine),
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


def memory(found: Findings) -> Table | None:
    """Peaks of live tensor bytes, split into what they hold."""
    rows = []
    for metric, phase in (("memory.train_peak_bytes", "training"), ("memory.inference_peak_bytes", "inference")):
        held = pd.concat([found.held.final(metric), found.held.final(metric, part="*")])
        wide = held.assign(part=held["part"].fillna("peak")).pivot_table(index="model", columns="part", values="value")
        seeds = held.groupby("model")["seed"].nunique()
        rows += [
            {"phase": phase, "model": model, **wide.loc[model].to_dict(), "n": int(seeds[model])}
            for model in found.held.models
            if model in wide.index
        ]
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    parts = [part for part in frame.columns if part not in {"phase", "model", "peak", "n"}]
    frame = frame[["phase", "model", *(["peak"] if "peak" in frame else []), *parts, "n"]]
    return Table(
        title="Peak memory by part",
        note="Live tensor bytes at the peak of one untimed step, by what they held then; mean over seeds.",
        frame=frame,
        columns=(
            text("phase", "phase"),
            text("model", "model"),
            *(amount(part, part.replace("_", " "), lambda x: quantity(x, "bytes")) for part in frame.columns[2:-1]),
            amount("n", "seeds", whole),
        ),
    )


# ---------------------------------------------------------------------------------------------- quality and routing


def quality(found: Findings) -> Table | None:
    """Final bits per byte by model and domain, with the paired change against the baseline."""
    domains = [None, *sorted(found.quality["domain"].dropna().unique())]
    rows = []
    for domain in domains:
        below = found.final(found.baseline, domain) if found.baseline else None
        for model in found.held.models:
            values = found.final(model, domain)
            if values.empty:
                continue
            m = mean(values)
            change = None if below is None or model == found.baseline else difference(values, below)
            rows.append(
                {
                    "domain": domain or "all",
                    "model": model,
                    "bits_per_byte": m.centre,
                    **_ends(m),
                    "n": m.n,
                    **_change(change),
                }
            )
    if not rows:
        return None

    def changed(row: Row) -> str:
        if pd.isna(row.change_percent):
            return "–"
        return interval(
            row.change_percent,
            row.change_low if row.pairs > 1 else None,
            row.change_high if row.pairs > 1 else None,
            "%",
        )

    if found.many:
        return _quality_of_many(found, pd.DataFrame(rows), changed)
    return Table(
        title="Final bits per byte",
        note="Mean over seeds with its 95% interval; the change is paired by seed. Lower is better.",
        frame=pd.DataFrame(rows),
        columns=(
            text("domain", "domain"),
            text("model", "model"),
            with_interval("bits_per_byte", "bits per byte"),
            amount("n", "seeds", whole),
            Column(key="change_percent", title=f"against {found.baseline}", show=changed),
        ),
    )


def _quality_of_many(found: Findings, frame: pd.DataFrame, changed: Callable[[Row], str]) -> Table:
    whole_text = frame[frame["domain"] == "all"].set_index("model")
    shown, columns = across(frame, by="domain", value="bits_per_byte", show=with_interval("bits_per_byte", "").show)
    shown = shown.assign(**{c: list(whole_text.loc[shown["model"], c]) for c in ("change_percent", "n")})
    shown["change"] = [changed(row) for row in whole_text.loc[shown["model"]].itertuples(index=False)]
    change = Column(key="change_percent", title=f"all, against {found.baseline}", show=lambda row: row.change)
    return Table(
        title="Final bits per byte",
        note="Mean over seeds with its 95% interval; the change is paired by seed. Lower is better.",
        frame=frame,
        columns=(columns[0], columns[1], change, *columns[2:], amount("n", "seeds", whole)),
        shown=shown.sort_values("v0", ignore_index=True),
    )


def _ends(m: Mean) -> dict[str, float]:
    return {"low": m.low, "high": m.high} if m.bounded else {"low": np.nan, "high": np.nan}


def _range(values: pd.Series) -> dict[str, float]:
    """Of counts: a t interval of a few small ones would reach below 0."""
    return {"low": float(values.min()), "high": float(values.max())}


def _change(m: Mean | None) -> dict[str, float]:
    if m is None:
        return {"change_percent": np.nan, "change_low": np.nan, "change_high": np.nan, "pairs": 0}
    return {"change_percent": m.centre, "change_low": m.low, "change_high": m.high, "pairs": m.n}


def routing(found: Findings) -> Table | None:
    """Summary numbers of routing after the last step."""
    rows: list[dict[str, object]] = []
    for metric in _ROUTING:
        for model, group in found.held.final(metric).groupby("model", sort=False):
            m = mean(group["value"])
            rows.append(
                {
                    "metric": metric,
                    "says": METRICS[metric].says,
                    "model": model,
                    "value": m.centre,
                    **(_ends(m) if METRICS[metric].unit != "experts" else _range(group["value"])),
                    "n": m.n,
                }
            )
    if not rows:
        return None
    note = "Mean over seeds with its 95% interval; of numbers of experts, with the least and the most of any seed."
    if found.many:
        frame = pd.DataFrame(rows)
        frame["short"] = frame["metric"].map(_ROUTING)
        order = {name: place for place, name in enumerate(found.held.models)}
        shown, columns = across(frame, by="short", value="value", show=with_interval("value", "").show)
        shown = shown.sort_values("model", key=lambda names: names.map(order), ignore_index=True)
        frame = frame.drop(columns="short")
        return Table(title="Routing after the last step", note=note, frame=frame, columns=columns, shown=shown)
    return Table(
        title="Routing after the last step",
        note=note,
        frame=pd.DataFrame(rows),
        columns=(
            text("says", "measure"),
            text("model", "model"),
            with_interval("value", "value"),
            amount("n", "seeds", whole),
        ),
    )
