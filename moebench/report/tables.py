"""Every table of a report, once: a frame of raw numbers for csv, and columns that say how a reader sees them.

A table is a function of the `Findings` and one line in `TABLES`; it returns None when there is nothing to put in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from moebench.records import METRICS
from moebench.report import words
from moebench.report.findings import Findings, Mean, cost_label, difference, mean
from moebench.report.frames import AGAIN

Row = Any
"""A row as `itertuples` gives it: fields by column name."""
_P99_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column is shown."""

    key: str
    """The frame's column that it sorts by."""
    title: str
    """Heading, with the unit."""
    show: Callable[[Row], str]
    number: bool = True
    """Right-aligned, and sorted as a number."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw numbers, and how to show them."""

    title: str
    note: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]

    def rows(self) -> Iterator[list[tuple[str, Any, bool, str]]]:
        """Cells of each row as (text, value to sort by, whether it is a number, column title)."""
        plain = self.frame.astype(object)
        for row in plain.where(plain.notna(), None).itertuples(index=False):
            yield [(c.show(row), _sortable(getattr(row, c.key)), c.number, c.title) for c in self.columns]

    def csv(self) -> str:
        """The raw numbers, full precision, absent values empty."""
        return self.frame.to_csv(index=False, lineterminator="\n")


def _sortable(value: Any) -> Any:
    return "" if value is None else value


def _text(key: str, title: str) -> Column:
    return Column(key=key, title=title, show=lambda row: str(_sortable(getattr(row, key))) or "–", number=False)


def _amount(key: str, title: str, show: Callable[[float], str]) -> Column:
    return Column(key=key, title=title, show=lambda row: "–" if pd.isna(getattr(row, key)) else show(float(getattr(row, key))))


def _with_interval(key: str, title: str, unit: str = "") -> Column:
    def show(row: Row) -> str:
        value, low, high = getattr(row, key), row.low, row.high
        if pd.isna(value):
            return "–"
        return words.interval(value, None if pd.isna(low) else low, None if pd.isna(high) else high, unit)

    return Column(key=key, title=title, show=show)


def _whole(value: float) -> str:
    return words.number(value, 0)


# ---------------------------------------------------------------------------------------------- what was equal


def match(found: Findings) -> Table | None:
    """What was made equal between the models, with residuals."""
    matches = {m.model: m for m in found.plan.matches}
    rows = []
    for name, model in found.plan.models.items():
        params, made = model.costs.params, matches.get(name)
        rows.append(
            {
                "model": name, "kind": model.architecture.ffn.kind, "active_params": params.active, "total_params": params.total,
                "active_params_no_embedding": params.active_no_embedding, "total_params_no_embedding": params.total_no_embedding,
                "train_flops_per_token": model.costs.train_flops_per_token, "tokens": model.recipe.steps * model.recipe.batch_tokens,
                "matched_on": made.on if made else None, "matched_to": made.to if made else None,
                "solved": f"{made.by} = {made.size}" if made else None, "residual": made.residual if made else np.nan,
                "tolerance": made.tolerance if made else np.nan, "data_digest": found.plan.data.digest,
            }
        )  # fmt: skip

    def matched(row: Row) -> str:
        return f"{row.matched_on.replace('_', ' ')} of {row.matched_to}" if row.matched_on else "–"

    return Table(
        title="Sizes, matches and data",
        note="Parameters with embeddings, tied tables once; the router counts as active. FLOPs: model FLOPs, forward and backward.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("model", "model"),
            _amount("active_params", "active params", _whole),
            _amount("total_params", "total params", _whole),
            _amount("active_params_no_embedding", "active, no embedding", _whole),
            _amount("train_flops_per_token", "FLOPs/token", _whole),
            Column(key="matched_on", title="matched on", show=matched, number=False),
            _text("solved", "solved for"),
            _amount("residual", "residual", lambda x: words.interval(100 * x, None, None, "%")),
            _amount("tokens", "tokens", _whole),
            Column(key="data_digest", title="data digest", show=lambda row: row.data_digest[:10], number=False),
        ),
    )


# ---------------------------------------------------------------------------------------------- what it cost


def costs(found: Findings) -> Table | None:
    """Every cost, absolute and as a ratio to the baseline."""
    rows = [
        {
            "cost": r.label, "metric": r.metric, "model": r.model.replace(AGAIN, " again (A/A)"), "value": r.absolute, "unit": r.unit,
            "ratio": r.ratio.centre, "low": r.ratio.low if r.ratio.bounded else np.nan,
            "high": r.ratio.high if r.ratio.bounded else np.nan, "n": r.ratio.n, "n_counts": r.units,
        }
        for r in found.ratios
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        title=f"Costs, absolute and as a ratio to {found.baseline}",
        note="Times: median over processes, each process its own median; ratios are paired within a process or seed, with a 95% t interval.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("cost", "cost"),
            _text("model", "model"),
            Column(key="value", title="absolute", show=lambda row: words.quantity(row.value, row.unit)),
            _with_interval("ratio", f"ratio to {found.baseline}", "ratio"),
            Column(key="n", title="n", show=lambda row: "exact" if row.n_counts == "counted" else f"{row.n} {row.n_counts}"),
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
                    "timing": cost_label(metric), "metric": metric, "model": model, "p50_s": p50, "p90_s": p90, "p99_s": p99,
                    "samples": len(samples), "processes": len(mine), "unsteady_processes": int((~mine["steady"].astype(bool)).sum()),
                }
            )  # fmt: skip
    if not rows:
        return None
    return Table(
        title="Timings, all samples of all processes",
        note=f"p99 is given from {_P99_SAMPLES:,} samples on. Unsteady: processes whose timings had not settled after the warm-up.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("timing", "timing"),
            _text("model", "model"),
            _amount("p50_s", "p50", words.seconds),
            _amount("p90_s", "p90", words.seconds),
            _amount("p99_s", "p99", words.seconds),
            _amount("samples", "samples", _whole),
            _amount("processes", "processes", _whole),
            _amount("unsteady_processes", "unsteady", _whole),
        ),
    )


def memory(found: Findings) -> Table | None:
    """Peaks of live tensor bytes, split into what they hold."""
    rows = []
    for metric, phase in (("memory.train_peak_bytes", "training"), ("memory.inference_peak_bytes", "inference")):
        held = pd.concat([found.held.final(metric), found.held.final(metric, part="*")])
        for (model, part), group in held.groupby(["model", held["part"].fillna("all")], sort=False):
            rows.append({"phase": phase, "model": model, "part": part, "bytes": float(group["value"].mean()), "n": len(group)})
    if not rows:
        return None
    return Table(
        title="Peak memory by part",
        note="Live tensor bytes at the peak of one untimed step; mean over seeds. Parts are those at the moment of the peak.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("phase", "phase"),
            _text("model", "model"),
            _text("part", "part"),
            _amount("bytes", "peak", lambda x: words.quantity(x, "bytes")),
            _amount("n", "seeds", _whole),
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
            rows.append({"domain": domain or "all", "model": model, "bits_per_byte": m.centre, **_ends(m), "n": m.n, **_change(change)})
    if not rows:
        return None

    def changed(row: Row) -> str:
        if pd.isna(row.change_percent):
            return "–"
        return words.interval(row.change_percent, row.change_low if row.pairs > 1 else None, row.change_high if row.pairs > 1 else None, "%")

    return Table(
        title="Final bits per byte",
        note="Mean over seeds with its 95% t interval; the change is paired by seed. Lower is better.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("domain", "domain"),
            _text("model", "model"),
            _with_interval("bits_per_byte", "bits per byte"),
            _amount("n", "seeds", _whole),
            Column(key="change_percent", title=f"against {found.baseline}", show=changed),
        ),
    )


def _ends(m: Mean) -> dict[str, float]:
    return {"low": m.low, "high": m.high} if m.bounded else {"low": np.nan, "high": np.nan}


def _change(m: Mean | None) -> dict[str, float]:
    if m is None:
        return {"change_percent": np.nan, "change_low": np.nan, "change_high": np.nan, "pairs": 0}
    return {"change_percent": m.centre, "change_low": m.low, "change_high": m.high, "pairs": m.n}


def routing(found: Findings) -> Table | None:
    """Summary numbers of routing after the last step."""
    rows = []
    for metric in ("routing.max_over_mean", "routing.entropy", "routing.dead_experts", "routing.dropped_share"):
        for model, group in found.held.final(metric).groupby("model", sort=False):
            m = mean(group["value"])
            rows.append({"metric": metric, "says": METRICS[metric].says, "model": model, "value": m.centre, **_ends(m), "n": m.n})
    if not rows:
        return None
    return Table(
        title="Routing after the last step",
        note="Mean over seeds with its 95% t interval.",
        frame=pd.DataFrame(rows),
        columns=(_text("says", "measure"), _text("model", "model"), _with_interval("value", "value"), _amount("n", "seeds", _whole)),
    )


# ---------------------------------------------------------------------------------------------- how sure


def tuning(found: Findings) -> Table | None:
    """The learning-rate sweep, run by run."""
    if found.held.tune is None:
        return None
    rows = [
        {
            "model": model, "lr": point["lr"], "seed": point["seed"], "bits_per_byte": point["bits_per_byte"], "reason": point["reason"],
            "best_lr": held["best_lr"], "interior": held["interior"], "configured_lr": held["configured_lr"],
        }
        for model, held in found.held.tune["models"].items()
        for point in held["curve"]
    ]  # fmt: skip
    return Table(
        title="Learning-rate sweep",
        note="Bits per byte on the tune split.",
        frame=pd.DataFrame(rows).astype({"bits_per_byte": "float64"}),
        columns=(
            _text("model", "model"),
            _amount("lr", "peak rate", lambda x: f"{x:g}"),
            _amount("seed", "seed", lambda x: f"{x:g}"),
            _amount("bits_per_byte", "bits per byte", lambda x: f"{x:.4f}"),
            _text("reason", "why there is none"),
        ),
    )


def controls(found: Findings) -> Table | None:
    """Checks of the instrument and what came of them."""
    if not found.controls:
        return None
    rows = [{**c.model_dump(), "effect": words.pretty(c.effect)} for c in found.controls]
    return Table(
        title="Controls",
        note="A control that fails speaks against the instrument, not the models. Intervals are 99%.",
        frame=pd.DataFrame(rows),
        columns=(
            _text("id", "control"),
            _text("state", "outcome"),
            Column(key="estimate", title="effect", show=lambda row: row.effect or "–"),
            _text("n", "n"),
            _text("reason", "in words"),
        ),
    )


def smallest(found: Findings) -> Table | None:
    """The smallest effect each claim could have seen."""
    rows = [
        {"claim": v.id, "state": v.state, "detectable": v.detectable, "unit": v.unit, "n": v.n, "units": v.units, "units_needed": v.units_needed}
        for v in found.verdicts
        if v.detectable is not None
    ]
    if not rows:
        return None
    return Table(
        title="Smallest distance from the asked bound that would be seen",
        note="With 80% power at this n and the spread that was measured.",
        frame=pd.DataFrame(rows).astype({"units_needed": "Int64"}),
        columns=(
            _text("claim", "claim"),
            Column(key="state", title="state", show=lambda row: words.STATES[row.state], number=False),
            Column(
                key="detectable",
                title="smallest effect",
                show=lambda row: words.interval(row.detectable, None, None, row.unit).lstrip("+"),
            ),
            Column(key="n", title="n", show=lambda row: f"{row.n} {row.units}"),
            _amount("units_needed", "needed to decide", _whole),
        ),
    )


# ---------------------------------------------------------------------------------------------- everything else


def claims(found: Findings) -> Table | None:
    """The verdicts, every field."""
    if not found.verdicts:
        return None
    frame = pd.DataFrame([{**v.model_dump(exclude={"notes"}), "notes": "; ".join(v.notes)} for v in found.verdicts])
    return Table(
        title="Verdicts",
        note="The interval is 95%, unadjusted for the other claims; p is one-sided in the asserted direction.",
        frame=frame,
        columns=(
            Column(key="state", title="state", show=lambda row: f"{words.SHAPES[row.state]} {words.STATES[row.state]}", number=False),
            _text("id", "claim"),
            _text("says", "says"),
        ),
    )


def runs(found: Findings) -> Table | None:
    """Every planned run and what became of it."""
    frame = found.held.runs
    return Table(
        title="Runs",
        note="",
        frame=frame,
        columns=(_text("model", "model"), _amount("seed", "seed", lambda x: f"{x:g}"), _text("id", "run"), _text("status", "status")),
    )


def unfinished(found: Findings) -> Table | None:
    """Planned runs that are not complete, with the reason."""
    frame = found.held.runs[found.held.runs["status"] != "completed"]
    if frame.empty:
        return None
    return Table(
        title="Runs that are not complete",
        note="",
        frame=frame,
        columns=(
            _text("model", "model"),
            _amount("seed", "seed", lambda x: f"{x:g}"),
            _text("status", "status"),
            _text("reason", "reason"),
            _text("id", "run"),
        ),
    )


def curves(found: Findings) -> Table | None:
    """Loss at every evaluation point, the numbers behind the curves."""
    if found.curves.empty:
        return None
    return Table(title="Loss at the evaluation points", note="", frame=found.curves, columns=(_text("model", "model"),))


TABLES: dict[str, Callable[[Findings], Table | None]] = {
    "claims": claims,
    "match": match,
    "costs": costs,
    "timings": timings,
    "memory": memory,
    "quality": quality,
    "curves": curves,
    "routing": routing,
    "tuning": tuning,
    "controls": controls,
    "smallest": smallest,
    "runs": runs,
    "unfinished": unfinished,
}


def made(found: Findings, names: Sequence[str] = tuple(TABLES)) -> dict[str, Table]:
    """The tables that have something in them, by name."""
    held = {name: TABLES[name](found) for name in names}
    return {name: table for name, table in held.items() if table is not None}


