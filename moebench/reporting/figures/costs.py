"""Every cost of every model over the baseline's, on a log axis with 1 marked; of many models a panel a cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from moebench.format import TIMES, listed
from moebench.metrics.speed import AGAIN
from moebench.reporting.analysis import Findings, Ratio
from moebench.reporting.canvas import Drawn, canvas, key, key_height, lines_of, panel_width, ratio_ticks, widest
from moebench.reporting.figures.marks import NOTE, ROW, in_row, interval, margin, name_rows, row_name, style_of
from moebench.reporting.part import part
from moebench.reporting.theme import INK, MUTED

_PHRASES = {
    "cost.active_params": "active parameters",
    "cost.train_flops_per_token": "training FLOPs", "cost.weight_bytes": "weight bytes",
    "speed.train_step_s": "step time",
}  # fmt: skip
"""Costs that the title states."""


@part("cost", order=1)
def figure(findings: Findings) -> Drawn | str:
    """A row a cost, in it a line a model."""
    baseline = findings.baseline
    shown = [r for r in findings.ratios if r.model != baseline]
    if baseline is None or not shown:
        return "There is no second model to compare costs with."
    if findings.many:
        return _panels(findings, baseline)
    labels = list(dict.fromkeys(r.label for r in shown))
    title = _title(findings, shown)
    subtitle = f"Ratio to {baseline}, log axis. Counted costs are exact; peaks: over seeds{_timed(findings)}."
    subtitle += f" Grey: {baseline} vs itself (A/A)." if findings.timed_metrics else ""
    models = [m for m in findings.study.models if m != baseline]
    lanes = [*models, f"{baseline}{AGAIN}"]
    looks = {row_name(m): style_of(findings, m) for m in lanes if any(r.model == m for r in shown)}
    left = 0.25 + widest(labels, 7.5)
    drawn, (axes,) = canvas(
        title, subtitle, height=len(labels) * (0.16 + 0.13 * len(models)), left=left, right=0.3, bottom=0.45,
        headroom=key_height(list(looks), 7 - left),
    )  # fmt: skip
    for ratio in shown:
        lane = (lanes.index(ratio.model) - (len(lanes) - 1) / 2) * 0.74 / max(1, len(lanes))
        interval(axes, labels.index(ratio.label) + lane, ratio.ratio, style_of(findings, ratio.model))
    axes.axvline(1, color=MUTED, linewidth=1, zorder=1)
    axes.set_xscale("log")
    axes.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    axes.set(xlabel="ratio to the baseline (1 = equal)")
    axes.set_yticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.grid(visible=False, axis="y", which="major")
    axes.grid(visible=True, axis="y", which="minor")
    axes.tick_params(axis="y", which="both", length=0)
    axes.spines["left"].set_visible(False)
    ratio_ticks(axes.xaxis, least=0.1, apart=0.09)
    key(axes, looks, line=False, inches=7 - left)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(findings: Findings, shown: Sequence[Ratio]) -> str:
    """The treatment's costs; of many models how their costs spread, least to most."""
    parts = []
    for metric, phrase in _PHRASES.items():
        rows = [r.ratio for r in shown if r.metric == metric and not r.model.endswith(AGAIN)]
        mine = [r.ratio for r in shown if r.metric == metric and r.model == findings.treatment]
        if findings.many and rows:
            least, most = (pick(ratio.centre for ratio in rows) for pick in (min, max))
            parts.append(f"{least:.2f} to {most:.2f}{TIMES} the {phrase}")
        elif not findings.many and mine:
            parts.append(f"{mine[0].text('ratio')} the {phrase}")
    if not parts:
        return f"Costs against {findings.baseline}"
    who = "The models have" if findings.many else f"{findings.treatment} has"
    return f"{who} {listed(parts)} of {findings.baseline}{findings.quiet('speed.train_step_s')}"


def _timed(findings: Findings) -> str:
    """How ratios of times were made, where there are any."""
    return "; times: paired log ratios over processes, 95% interval" if findings.timed_metrics else ""


# ---------------------------------------------------------------------------------------------- many models


def _panels(findings: Findings, baseline: str) -> Drawn | str:
    """A panel a cost and a row a model; decoding by batch has a figure of its own."""
    batches = [m for m in findings.timed_metrics if m.startswith("speed.decode_step_s")]
    shown = [r for r in findings.ratios if r.model != baseline and r.metric not in batches[1:]]
    labels = list(dict.fromkeys(r.label for r in shown))
    title = _title(findings, shown)
    subtitle = f"Ratio to {baseline} on a log axis, 1 marked. Counted costs are exact; peaks: over seeds"
    subtitle += f"{_timed(findings)}. {last_row(findings)}"
    again = f"{baseline}{AGAIN}"
    models = [m for m in findings.study.models if m != baseline]
    lanes = [*models, *([again] if any(r.model == again for r in shown) else [])]
    drawn, panels = canvas(
        title, subtitle, panels=len(labels), columns=len(labels) if len(labels) <= 5 else -(-len(labels) // 2),
        height=0.85 * ROW * len(lanes), left=margin(lanes), headroom=0.42, gap=(0.26, 0.75), share="y",
    )  # fmt: skip
    for axes, label in zip(panels, labels, strict=True):
        ratio_panel(axes, findings, lanes, [r for r in shown if r.label == label], heading=label)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def last_row(findings: Findings) -> str:
    """What the last row of a ratio panel is, or else what grey means."""
    raced = any(r.model.endswith(AGAIN) for r in findings.ratios)
    return f"Last row: {findings.baseline} vs itself (A/A)." if raced else NOTE


def ratio_panel(axes: Axes, findings: Findings, lanes: Sequence[str], rows: Sequence[Ratio], *, heading: str) -> None:
    """One cost, a row a model."""
    name_rows(axes, findings, lanes)
    axes.set_xscale("log")
    for ratio in rows:
        in_row(axes, lanes.index(ratio.model), ratio.ratio, style_of(findings, ratio.model))
    axes.axvline(1, color=MUTED, linewidth=1, zorder=1)
    ratio_ticks(axes.xaxis, least=0.05, apart=0.27)
    wide = panel_width(axes) + 0.1
    lines = [line for text in heading.split("\n") for line in lines_of(text, wide, 7, bold=True)]
    axes.set_title("\n".join(lines), fontsize=7, weight="bold", loc="left", pad=3, color=INK)
