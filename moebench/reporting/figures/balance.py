"""How evenly experts are used along training: the busiest one's load over the mean."""

from __future__ import annotations

from moebench.format import span
from moebench.reporting.analysis import Findings, mean
from moebench.reporting.canvas import Drawn, canvas, labelled, ticks, times, widest
from moebench.reporting.figures.load import NONE
from moebench.reporting.figures.marks import by_step, course, end_labels, over_steps
from moebench.reporting.part import part
from moebench.reporting.theme import MUTED


@part("routing", order=2, asked=lambda findings: findings.trains)
def figure(findings: Findings) -> Drawn | str:
    """Busiest expert over the mean, along training; of many models a panel each."""
    rows = findings.study.of("routing.max_over_mean")
    rows = rows[rows["step"].notna()]
    if rows.empty:
        return NONE
    rows, last = by_step(rows)
    models = [m for m in findings.study.models if (rows["model"] == m).any()]
    ends = {m: mean(last[last["model"] == m]["value"]) for m in models}
    counted = "Busiest expert's load over the mean, averaged over"
    if findings.many:
        least, most = (pick(ends, key=lambda m: ends[m].centre) for pick in (min, max))
        title = f"Busiest experts end at {ends[least].text('ratio')} ({least}) to {ends[most].text('ratio')} ({most}) "
        title += "the mean load"
        subtitle = f"{counted} mixture layers, at each evaluation, log axis; 1 is an even load. Thin lines are seeds "
        subtitle += f"(n = {span(m.n for m in ends.values())}). Grey: the other models."
        drawn, panels = over_steps(findings, rows, title, subtitle, "busiest / mean")
        panels[0].set_yscale("log")
        high = float(rows["value"].max()) * 1.1
        panels[0].set_ylim(0.93, high)
        ticks(panels[0].yaxis, [t for t in (1, 1.5, 2, 3, 5, 8, 16, 32) if t <= high], times)
        return Drawn(title=title, subtitle=subtitle, figure=drawn)
    model = findings.treatment if findings.treatment in ends else models[0]
    title = f"{model}'s busiest expert ends at {ends[model].text('ratio')} the mean load"
    subtitle = f"{counted} layers, at each evaluation; thin lines are seeds (n = {ends[model].n}), band: 95% interval."
    drawn, (axes,) = canvas(title, subtitle, height=2.0, right=0.3 + widest(models, 7.5, bold=True), panel=3.0)
    at = [(*course(axes, rows[rows["model"] == m], "step", "value", findings.styles[m]), m) for m in models]
    axes.axhline(1, color=MUTED, linewidth=1)
    axes.set(xlabel="training step", ylabel="busiest / mean", ylim=(min(0.95, *axes.get_ylim()), None))
    labelled(axes.yaxis, times)
    end_labels(axes, findings, at)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)
