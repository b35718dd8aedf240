"""The figure of `moebench inspect --all`: active against total parameters of every published system.

It takes what `inspection.inspect_all` gives, as plain data. Dense models lie on the diagonal, and how far below it a
mixture lies is what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from moebench.reporting.canvas import Drawn, canvas
from moebench.reporting.svg import png_file, svg_file
from moebench.reporting.theme import GRID, INK, MUTED, PAPER, settings

_TYPE_PT = 6.3
_CHARACTER = 0.56
"""Width of a character, in sizes of type."""
_MARKERS = {"dense": "s", "moe": "o"}
_YEARS = ("#2b3a8c", "#2a9d8f", "#e0a11b", "#c8324f")
"""Colours from the oldest to the newest."""


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A rectangle of the figure, in points."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: _Box) -> float:
        """Area in common."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        up = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, across) * max(0.0, up)


def systems_file(inspected: dict[str, Any], *, suffix: str) -> bytes:
    """The figure as the bytes of a .svg or .png file."""
    with settings():
        drawn = systems_figure(inspected)
        return svg_file(drawn) if suffix == ".svg" else png_file(drawn)


def systems_figure(inspected: dict[str, Any]) -> Drawn:
    """Total across, active upwards, both logarithmic; colour is the year, squares are dense and circles mixtures."""
    shown = [one for one in inspected["systems"] if one["params"] is not None]
    moe = [one for one in shown if one["kind"] == "moe"]
    shares = sorted(one["params"]["active"] / one["params"]["total"] for one in moe)
    title = (
        f"{len(moe)} published mixtures use {_percent(shares[0])} to {_percent(shares[-1])} of their parameters on a "
        f"token, half of them at most {_percent(shares[(len(shares) - 1) // 2])}"
    )
    subtitle = (
        f"Active against total parameters of {len(shown)} published systems, counted from their published sizes; input "
        "and output embeddings count in both, except in 2017, as published. On the line everything is active."
    )
    figure, (axes,) = canvas(title, subtitle, height=6.2, left=0.72, bottom=0.55)
    years = sorted({one["year"] for one in shown})
    colours = dict(zip(years, map(to_hex, sns.blend_palette(list(_YEARS), len(years))), strict=True))
    _scales(axes, shown)
    for one in shown:
        x, y = _point(one)
        axes.plot(x, y, _MARKERS[one["kind"]], color=colours[one["year"]], markersize=5, markeredgecolor=PAPER,
                  markeredgewidth=0.6, zorder=3)  # fmt: skip
    _label(axes, shown, colours)
    _legend(axes, colours)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _point(one: dict[str, Any]) -> tuple[float, float]:
    return one["params"]["total"], one["params"]["active"]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _scales(axes: Axes, shown: Sequence[dict[str, Any]]) -> None:
    totals, actives = zip(*map(_point, shown), strict=True)
    low, high = min(totals) / 2.2, max(totals) * 2.2
    floor, top = min(actives) / 1.9, max(actives) * 2.2
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top))
    for share, name in ((1.0, "all active"), (0.1, "10%"), (0.01, "1%"), (0.001, "0.1%")):
        axes.plot([low, high], [share * low, share * high], color=GRID if share < 1 else MUTED, linewidth=0.8, zorder=1,
                  linestyle="-" if share == 1 else (0, (4, 3)))  # fmt: skip
        x = min(high, top / share) / 1.12
        axes.text(x, share * x, name, color=MUTED, fontsize=_TYPE_PT, ha="right", va="bottom", rotation=0)
    axes.set_xlabel("total parameters")
    axes.set_ylabel("active parameters per token")
    names = {10**6: "1M", 10**7: "10M", 10**8: "100M", 10**9: "1B", 10**10: "10B", 10**11: "100B", 10**12: "1T"}
    for axis, (start, end) in ((axes.xaxis, (low, high)), (axes.yaxis, (floor, top))):
        ticks = [tick for tick in names if start <= tick <= end]
        axis.set_ticks(ticks, [names[tick] for tick in ticks])


def _label(axes: Axes, shown: Sequence[dict[str, Any]], colours: dict[int, str]) -> None:
    """A name at each point, where it covers the least of points and other names; a hair leads to it from afar."""
    transform = axes.transData
    scale = 72 / axes.figure.dpi
    points = [tuple(scale * value for value in transform.transform(_point(one))) for one in shown]
    window = axes.get_window_extent()
    frame = _Box(x=scale * window.x0, y=scale * window.y0, width=scale * window.width, height=scale * window.height)
    taken = [_Box(x=x - 3.2, y=y - 3.2, width=6.4, height=6.4) for x, y in points]
    order = sorted(range(len(shown)), key=lambda i: (shown[i]["kind"] == "moe", -points[i][1]))
    for i in order:
        (x, y), name = points[i], shown[i]["model"]
        size = (len(name) * _CHARACTER * _TYPE_PT, 1.06 * _TYPE_PT)
        left = shown[i]["kind"] == "dense"
        best = min(_candidates(x, y, size, left=left), key=lambda c: _cost(c, taken, frame))
        box = best[0]
        before = box.x < x
        taken.append(box)
        axes.annotate(
            name,
            xy=_point(shown[i]),
            xytext=(box.x + box.width * before - x, box.y + 0.24 * _TYPE_PT - y),
            textcoords="offset points",
            fontsize=_TYPE_PT,
            color=INK,
            ha="right" if before else "left",
            va="baseline",
            zorder=4,
            arrowprops=None
            if best[1] < 12
            else {"arrowstyle": "-", "linewidth": 0.4, "color": colours[shown[i]["year"]], "shrinkA": 0, "shrinkB": 2.5,
                  "relpos": (float(before), 0.5)},
        )  # fmt: skip


def _candidates(x: float, y: float, size: tuple[float, float], *, left: bool) -> list[tuple[_Box, float]]:
    """Places for a name beside its point, nearest first: right of it, or left of it for dense models."""
    width, height = size
    places = []
    for away in (5.0, 11.0, 18.0, 26.0, 36.0, 48.0, 62.0):
        for lift in (0.0, 0.55, -0.55, 1.0, -1.0, 1.6, -1.6):
            for side in (-1, 1) if left else (1, -1):
                corner = x + away if side > 0 else x - away - width
                wrong = 6.0 if (side > 0) == left else 0.0
                box = _Box(x=corner, y=y + lift * away - height / 2, width=width, height=height)
                places.append((box, away + wrong + 3 * abs(lift)))
    return places


def _cost(candidate: tuple[_Box, float], taken: Sequence[_Box], frame: _Box) -> float:
    box, away = candidate
    outside = box.width * box.height - box.overlap(frame)
    return 10 * sum(box.overlap(other) for other in taken) + 20 * outside + away


def _legend(axes: Axes, colours: dict[int, str]) -> None:
    def key(marker: str, colour: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=label)

    kinds = [key(_MARKERS["moe"], MUTED, "mixture"), key(_MARKERS["dense"], MUTED, "dense")]
    rows = kinds + [key("D", colour, str(year)) for year, colour in colours.items()]
    axes.legend(handles=rows, loc="lower left", frameon=False, fontsize=7, handletextpad=0.3, labelspacing=0.35)
