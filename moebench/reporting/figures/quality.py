"""Final loss over all text and by domain, every seed a point."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from moebench.format import plural, span
from moebench.metrics.ref import labelled
from moebench.reporting.analysis import QUALITY, Findings
from moebench.reporting.canvas import Drawn, canvas, fitted_title, widest
from moebench.reporting.figures import marks
from moebench.reporting.part import part


@part("quality", order=1)
def figure(findings: Findings) -> Drawn | str:
    """A row a model, a panel a domain."""
    models = [m for m in findings.study.models if len(findings.final(m))]
    if not models:
        return "No run is complete yet."
    if findings.many:
        models.sort(key=lambda m: findings.final(m).mean())
    domains = [None, *sorted(findings.quality["domain"].dropna().unique())][:6]
    title = _title(findings, models, [str(domain) for domain in domains[1:]])
    counts = [len(findings.final(m)) for m in models if not findings.plan.is_single(m)]
    subtitle = f"{QUALITY} after the last step, lower is better. "
    subtitle += f"Small: seeds (n = {span(counts)}); large: mean with its 95% interval." if counts else ""
    if len(counts) < len(models):
        subtitle += f"{' ' if counts else ''}Of models of one run: with the 95% interval over documents."
    drawn, panels = canvas(
        title, subtitle, height=0.28 * len(models) + 0.3, panels=len(domains), gap=0.2,
        left=0.25 + widest(models, 7.5), share="y", headroom=0.25, panel=0.9,
    )  # fmt: skip
    for axes, domain in zip(panels, domains, strict=True):
        _strip(axes, findings, models, domain)
        fitted_title(axes, "all domains" if domain is None else str(domain))
    panels[len(panels) // 2].set_xlabel("bits per byte")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(findings: Findings, models: Sequence[str], domains: Sequence[str]) -> str:
    """Which model has the lowest final loss, over all text and by domain, where that is decided."""
    means = {m: float(findings.final(m).mean()) for m in models}
    lowest = findings.lowest(means)
    size = f"{findings.level(lowest[0]).text()} bits per byte"
    if len(models) == 1:
        return f"{models[0]} ends at {size}"
    if len(lowest) > 1:
        return f"Final loss: undecided between {findings.several(lowest, means)}"
    title = f"{lowest[0]} has the lowest final loss, {size}"
    if not domains:
        return title
    by = {d: {m: float(findings.final(m, d).mean()) for m in models if len(findings.final(m, d))} for d in domains}
    wins = [d for d in domains if findings.lowest(by[d], labelled(QUALITY, domain=d)) == lowest]
    return f"{title}; lowest in {len(wins)} of {plural(len(domains), 'domain')}"


def _strip(axes: Axes, findings: Findings, models: Sequence[str], domain: str | None) -> None:
    size, rim = (4.4, 0.0) if findings.many else (6.0, 0.7)
    for place, model in enumerate(models):
        values = findings.final(model, domain)
        if len(values):
            style = findings.styles[model]
            single = findings.plan.is_single(model)
            if not single:
                marks.dots(axes, values, place + 0.16 + marks.jitter(len(values), 0.22), style)
            marks.interval(
                axes,
                place if single else place - 0.16,
                findings.level(model, domain),
                style,
                width=2,
                size=size,
                rim=rim,
            )
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.45, -0.55))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(2 if len(findings.quality["domain"].unique()) > 4 else 3, prune="both"))
    axes.margins(x=0.12)
