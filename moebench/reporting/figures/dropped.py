"""The share of assignments dropped over capacity, along training."""

from __future__ import annotations

from moebench.format import span
from moebench.reporting.analysis import Findings, mean
from moebench.reporting.canvas import Drawn, labelled, percent
from moebench.reporting.figures.marks import by_step, over_steps
from moebench.reporting.part import part

_METRIC = "train.dropped_share"


def _capped(findings: Findings) -> bool:
    ffns = [model.architecture.ffn for model in findings.plan.decoders.values()]
    return any(getattr(ffn, "capacity_factor", None) is not None for ffn in ffns)


@part("routing", order=3, asked=_capped)
def figure(findings: Findings) -> Drawn | str:
    """A panel a model that has a capacity."""
    rows = findings.study.of(_METRIC)
    if rows.empty:
        return "No run of a model with a capacity has recorded what it dropped."
    rows, last = by_step(rows)
    models = [m for m in findings.study.models if (last["model"] == m).any()]
    ends = {m: mean(100 * last[last["model"] == m]["value"]) for m in models}
    most = max(ends, key=lambda m: ends[m].centre)
    title = f"{most} drops {ends[most].text('%', signed=False)} of its assignments in training"
    if len(ends) > 1 and all(findings.order(most, m, _METRIC).side == "higher" for m in ends if m != most):
        title += f", the most of {len(ends)} models with a capacity"
    subtitle = (
        "Share of (token, expert) assignments dropped over capacity, over training so far; evaluation drops none. "
        f"Thin lines are seeds (n = {span(m.n for m in ends.values())})."
    )
    drawn, panels = over_steps(findings, rows, title, subtitle, "dropped")
    panels[0].set_ylim(0, None)
    labelled(panels[0].yaxis, percent)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)
