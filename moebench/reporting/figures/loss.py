"""Loss against tokens, FLOPs and seconds; of many models, each before the baseline in a panel of its own."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from moebench.format import TIMES, count, seconds, short, significant
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, canvas, key, key_height, log_ticks, ticks
from moebench.reporting.figures.marks import course, edge_labels, end_labels, heading, sheet
from moebench.reporting.part import part
from moebench.reporting.theme import GREY, MUTED

NO_CURVES = "No run has reached an evaluation point yet."
_CURRENCIES = {"tokens": "training tokens", "flops": "training FLOPs (model)", "seconds": "training seconds"}


@part("quality", order=2, asked=lambda findings: findings.trains)
def figure(findings: Findings) -> Drawn | str:
    """Three panels that share the axis of loss."""
    every = findings.curves
    if every.empty:
        return NO_CURVES
    shown = [currency for currency in _CURRENCIES if every[currency].notna().any()]
    title = _title(findings)
    if findings.many:
        return _each(findings, title)
    how = f"Seconds: {findings.step_seconds[1]}." if "seconds" in shown else "No times were recorded."
    subtitle = f"Bits per byte at the evaluation points; thin lines are seeds, band: 95% interval. {how}"
    looks = {m: findings.styles[m] for m in findings.study.models if m in set(every["model"])}
    drawn, panels = canvas(
        title, subtitle, height=2.5, panels=len(shown), gap=0.18, share="y", headroom=key_height(list(looks))
    )
    for axes, currency in zip(panels, shown, strict=True):
        curves(axes, findings, currency)
    panels[0].set_ylabel("bits per byte")
    key(panels[0], looks)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(findings: Findings) -> str:
    """Which model ends lowest, where that is decided, and how far apart the FLOPs are of those trained from scratch."""
    every = findings.curves
    ends = {m: float(findings.final(m).mean()) for m in findings.plan.decoders if len(findings.final(m))}
    ends = ends or every[every["step"] == every["step"].max()].groupby("model")["loss"].mean().to_dict()
    lowest = findings.lowest(ends)
    decoders = findings.plan.decoders
    scratch = {m: model for m, model in decoders.items() if model.derived is None}
    even = scratch == decoders and len({model.train_tokens for model in decoders.values()}) == 1
    at = " at equal tokens" if even else ""
    size = f"{significant(ends[lowest[0]], figures=4)} bits per byte"
    if len(ends) == 1:
        title = f"{lowest[0]} ends at {size}"
    elif len(lowest) == 1:
        title = f"{lowest[0]} ends lowest{at} ({size})"
    else:
        title = f"Final loss{at}: undecided between {findings.several(lowest, ends)}"
    spent = {m: model.expected_train_flops for m, model in scratch.items()}
    most, least = (pick(spent, key=lambda m: spent[m]) for pick in (max, min))
    if spent[most] > 1.1 * spent[least]:
        title += f"; {most} spends {spent[most] / spent[least]:.1f}{TIMES} the FLOPs of {least}"
    return title


def curves(axes: Axes, findings: Findings, currency: str, *, labels: bool = False) -> None:
    """Every model's course against a currency on a log axis."""
    ends: list[tuple[float, float, str]] = []
    for model in findings.study.models:
        rows = findings.curves[(findings.curves["model"] == model) & findings.curves[currency].notna()]
        if len(rows):
            ends.append((*course(axes, rows, currency, "loss", findings.styles[model]), model))
    if not ends:
        return
    axes.set_xscale("log")
    log_axis(axes, currency)
    axes.set_xlabel(_CURRENCIES[currency])
    low, high = _decayed(findings)
    below = 0.34 if labels else 0.12  # room for the words of a bracket
    axes.set_ylim(low - below * (high - low), high + 0.04 * (high - low))
    if labels:
        end_labels(axes, findings, ends)


def log_axis(axes: Axes, currency: str) -> None:
    """A few round numbers on a log axis of a currency."""
    form = seconds if currency == "seconds" else count
    ticks(axes.xaxis, log_ticks(*axes.get_xlim(), most=4), lambda x: short(form(x)))
    axes.tick_params(axis="x", labelsize=7)


def _decayed(findings: Findings) -> tuple[float, float]:
    """The least and the most loss after the first quarter of training, which the axis shows."""
    tail = findings.curves[findings.curves["step"] >= findings.curves["step"].max() / 4]["loss"]
    return tail.min(), tail.max()


# ---------------------------------------------------------------------------------------------- many models


def _each(findings: Findings, title: str) -> Drawn | str:
    """Loss against tokens, each model before the baseline; what its tokens cost in FLOPs and time is in the corner."""
    every, baseline = findings.curves, findings.baseline
    models = [m for m in findings.study.models if m != baseline and (every["model"] == m).any()]
    if not models:
        return f"No run but those of {baseline} has reached an evaluation point."
    step_s, how = findings.step_seconds
    subtitle = (
        f"Bits per byte at the evaluation points against training tokens; thin lines are seeds, marked: their mean. "
        f"Dashed: {baseline}. In the corner: the cost per token relative to {baseline}; at equal FLOPs or time a curve "
        "shifts right by that factor."
    )
    if step_s:
        subtitle += f" Time: {how}."
    drawn, panels = sheet(title, subtitle, len(models))
    behind = every[every["model"] == baseline].groupby("tokens")["loss"].mean()
    for axes, model in zip(panels, models, strict=True):
        if len(behind):
            axes.plot(behind.index, behind, color=GREY, linewidth=1.4, linestyle=(0, (3, 1.2)), zorder=1)
        course(axes, every[every["model"] == model], "tokens", "loss", findings.styles[model], small=True)
        heading(axes, findings, model)
        axes.text(
            0.04, 0.06, _corner(findings, model, step_s), transform=axes.transAxes, fontsize=6, color=MUTED,
            va="bottom", linespacing=1.25,
        )  # fmt: skip
    low, high = _decayed(findings)
    panels[0].set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    panels[0].set_xscale("log")
    ticks(panels[0].xaxis, log_ticks(*panels[0].get_xlim(), most=3), lambda x: short(count(x)))
    edge_labels(panels, "training tokens", "bits per byte")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _corner(findings: Findings, model: str, step_s: Mapping[str, float]) -> str:
    mine, below = findings.plan.decoders[model], findings.plan.decoders.get(findings.baseline or "")
    if below is None or findings.baseline is None:
        return ""
    lines = [f"FLOPs {mine.costs.train_flops_per_token / below.costs.train_flops_per_token:.2f}{TIMES}"]
    if {model, findings.baseline} <= set(step_s):
        tokens = below.recipe.batch_tokens / mine.recipe.batch_tokens
        lines.append(f"time {step_s[model] / step_s[findings.baseline] * tokens:.2f}{TIMES}")
    return "\n".join(lines)
