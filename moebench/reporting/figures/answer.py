"""The figure that answers the question: loss against training FLOPs; of many models, their final differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moebench import stats
from moebench.format import MINUS, NBSP, TIMES, listed, plural, significant, span
from moebench.reporting.analysis import Findings, difference
from moebench.reporting.canvas import Drawn, canvas, labelled, plainly, widest
from moebench.reporting.figures import loss
from moebench.reporting.figures.marks import NOTE, ROW, course, end_labels, in_row, margin, means_of, name_rows
from moebench.reporting.part import part
from moebench.reporting.states import STATES, effect
from moebench.reporting.theme import GREY, INK, MUTED


@part("answer", leading=True, asked=lambda findings: findings.trains)
def figure(findings: Findings) -> Drawn | str:
    """Loss against training FLOPs, and beside it the paired difference to the baseline at equal tokens.

    Of many models, the final difference of each.
    """
    if findings.many:
        return _ranked(findings)
    curves, baseline = findings.curves, findings.baseline
    if curves.empty:
        return loss.NO_CURVES
    shown = [m for m in findings.study.models if m in set(curves["model"])]
    others = [m for m in shown if m != baseline]
    paired = baseline in shown and bool(others)
    title = _title(findings)
    subtitle = (
        "Left: bits per byte at the evaluation points against training model FLOPs; thin lines are seeds "
        f"(n = {span(curves.groupby('model')['seed'].nunique())}), thick lines their mean with its 95% interval. "
    )
    if _budgets(findings).empty:
        subtitle += "A bracket compares FLOPs at equal loss, where a curve is not yet decayed."
    else:
        subtitle += "Rings: decayed losses of smaller budgets. A bracket compares FLOPs at equal loss between them."
    if paired:
        subtitle += f" Right: each seed's difference to {baseline} at equal tokens, in percent."
    names = 0.2 + widest(shown, 7.5, bold=True)
    drawn, panels = canvas(
        title, subtitle, height=3.0, panels=2 if paired else 1, widths=[1.35, 1] if paired else [1], gap=0.7 + names,
        right=0.1 + names, panel=1.7,
    )  # fmt: skip
    loss.curves(panels[0], findings, "flops", labels=True)
    panels[0].set_ylabel("bits per byte (lower is better)")
    _bracket(panels[0], findings)
    if paired:
        _differences(panels[1], findings, others)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(findings: Findings) -> str:
    """What the verdicts decide about the pair that the suite compares, with the estimate."""
    treatment, baseline = findings.pair
    here = baseline is not None and {treatment, baseline} <= set(findings.plan.trained)
    gap = difference(findings.final(treatment), findings.final(baseline)) if here and baseline else None
    if gap is None or baseline is None:
        return f"Loss of {listed(findings.plan.trained)} against training compute"
    order = findings.order(treatment, baseline)
    size = gap.text("%")
    if order.claimed and order.verdict is not None and order.verdict.estimate is not None:
        size = effect(order.verdict)
    after = f"bits per byte {size}, {plural(gap.n, 'seed')}"
    if order.side is not None:
        return f"{treatment} ends {order.side} than {baseline}: {after}"
    if order.verdict is not None and order.verdict.state in ("supported", "refuted"):
        state = STATES[order.verdict.state].lower()
        return f"{treatment} against {baseline}, {order.verdict.asked} {state}: {after}"
    return f"{treatment} against {baseline}, undecided: {after}"


def _budgets(findings: Findings) -> pd.DataFrame:
    """The final loss of every budget, by decay branches: model, seed, step, loss, flops; empty where there are none."""
    losses, spent = (
        findings.study.of(metric)[["model", "seed", "step", "value"]].rename(columns={"value": name})
        for metric, name in (("decayed.bits_per_byte", "loss"), ("decayed.model_flops", "flops"))
    )
    return losses.merge(spent, on=["model", "seed", "step"])


def _bracket(axes: Axes, findings: Findings) -> None:
    """How many times fewer FLOPs the treatment needs for the baseline's final loss, where its curve gets there."""
    treatment, baseline = findings.pair
    budgets = _budgets(findings)
    over = "undecayed curve" if budgets.empty else "decayed budgets"
    every = findings.curves if budgets.empty else budgets
    rows = {m: every[every["model"] == m] for m in (treatment, baseline)}
    for model, ours in rows.items():
        if len(ours) and not budgets.empty:
            at, ends = means_of(ours, "flops", "loss")
            centres = [end.centre for end in ends]
            colour = findings.styles[str(model)].colour
            axes.plot(at, centres, "o", markersize=6, markerfacecolor="none", markeredgecolor=colour, zorder=4)
    if baseline is None or any(part.empty for part in rows.values()):
        return
    x, means = means_of(rows[treatment], "flops", "loss")
    x_base, means_base = means_of(rows[baseline], "flops", "loss")
    target, spent = means_base[-1].centre, float(x_base[-1])
    reached = stats.crossing(x, np.array([m.centre for m in means]), target)
    if not math.isfinite(reached) or reached >= spent:
        return
    asked = [v for v in findings.verdicts if v.metric == "flops_to_quality" and v.estimate]
    verdict = next((v for v in asked if (v.treatment, v.baseline) == findings.pair), None)
    if verdict is None and findings.order(treatment, baseline).side != "lower":
        return
    size = effect(verdict) if verdict else f"{significant(spent / reached)}{TIMES}"
    axes.annotate(
        "", (reached, target), (spent, target), zorder=5,
        arrowprops={"arrowstyle": "|-|,widthA=.25,widthB=.25", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0},  # noqa: E501
    )  # fmt: skip
    # Below and left of a falling curve there is always room.
    axes.annotate(
        f"{size.replace(f'{NBSP}[', f'{chr(10)}[')}\nfewer FLOPs to the\nbaseline's final loss\n({over})",
        (reached, target), (-12, -6), textcoords="offset points", ha="right", va="top", fontsize=7, color=INK,
        linespacing=1.3, zorder=5,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 2, "relpos": (1, 1)},
    )  # fmt: skip


def _differences(axes: Axes, findings: Findings, others: Sequence[str]) -> None:
    wide = findings.curves.pivot_table(index=["seed", "step"], columns="model", values="loss")
    axes.axhline(0, color=GREY, linewidth=1)
    ends = []
    for model in others:
        both = wide[[model, findings.baseline]].dropna().reset_index()
        if both.empty:
            continue
        both["change"] = 100 * (both[model] / both[findings.baseline] - 1)
        both["tokens"] = both["step"].astype("float64") * findings.plan.decoders[model].recipe.batch_tokens
        ends.append((*course(axes, both, "tokens", "change", findings.styles[model]), model))
    axes.set_xscale("log")
    loss.log_axis(axes, "tokens")
    axes.set_xlabel("training tokens")
    axes.set_ylabel("difference to the baseline, %")
    labelled(axes.yaxis, plainly)
    if ends:
        end_labels(axes, findings, ends)


# ---------------------------------------------------------------------------------------------- many models


_SIDES = ("lower", "higher", "undecided", "not comparable")


def _side(findings: Findings, model: str, baseline: str) -> str:
    """Where a verdict puts a model; one that was trained on other data, say, is not comparable."""
    order = findings.order(model, baseline)
    invalid = order.verdict is not None and order.verdict.state == "invalid"
    return order.side or ("not comparable" if invalid else "undecided")


def _ranked(findings: Findings) -> Drawn | str:
    """Final loss of every model against the baseline's, best first: the paired difference with every seed."""
    baseline = findings.baseline
    below = findings.final(baseline) if baseline else pd.Series(dtype=float)
    finals = {m: findings.final(m) for m in findings.study.models if m != baseline}
    gaps = {m: findings.change(m) for m, final in finals.items() if len(final) and len(below)}
    shown = sorted(((m, gap) for m, gap in gaps.items() if gap is not None), key=lambda one: one[1].centre)
    if not shown:
        return "No model has a run that can be paired with the baseline's yet."
    models = [m for m, _ in shown]
    sides = [_side(findings, model, str(baseline)) for model in models]
    counts = [f"{sides.count(side)} {side}" for side in _SIDES if side in sides]
    title = f"Against {baseline}, of {plural(len(models), 'model')}: {listed(counts)} in final loss"
    subtitle = (
        f"Final bits per byte against {baseline}, in percent, paired by seed (n = {span(gap.n for _, gap in shown)}). "
        f"Small: seeds; large: mean with its 95% interval, unadjusted for the other models. {NOTE}"
    )
    if "not comparable" in sides:
        subtitle += " Not comparable: what a verdict takes is not met, as where models were trained on different data."
    drawn, (axes,) = canvas(
        title, subtitle, height=1.2 * ROW * len(models), left=margin(models), right=1.7, headroom=0.1, panel=2.2
    )
    name_rows(axes, findings, models)
    for place, (model, gap) in enumerate(shown):
        both = pd.concat([finals[model], below], axis=1, join="inner").to_numpy(dtype=float)
        in_row(axes, place, gap, findings.styles[model], 100 * (both[:, 0] / both[:, 1] - 1))
        axes.annotate(
            gap.text("%"), (1, place), (8, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=7.5, color=INK,
        )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    labelled(axes.xaxis, lambda x: f"{x:+g}%".replace("-", MINUS) if x else "0")
    axes.set_xlabel(f"lower than {baseline}  ←   difference in bits per byte   →  higher")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)
