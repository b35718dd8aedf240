"""Names at the ends of lines: direct labels, which need no key."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from moebench.reporting.analysis import Findings
from moebench.reporting.theme import spread


def end_labels(axes: Axes, found: Findings, ends: Sequence[tuple[float, float, str]]) -> None:
    """Names right of the panel at the heights of the lines' ends, moved apart where lines end together."""
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    heights = spread([min(max(y, low), high) for _, y, _ in ends], 0.135 * (high - low) / inches)
    for (x, y, model), height in zip(ends, heights, strict=True):
        colour = found.styles[model].colour
        axes.annotate(
            model, (x, y), (1.03, height), textcoords=axes.get_yaxis_transform(), va="center", ha="left", fontsize=7.5,
            weight="bold", color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip
