"""The sheet that figures are drawn on: panels under a heading, text that is measured before it is set, keys and ticks.

Lengths are inches. Margins are given rather than solved for, because a layout engine would draw every figure several
times. Figures are built on `matplotlib.figure.Figure`, never on pyplot's global state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moebench.format import MINUS, TIMES
from moebench.reporting.theme import INK, MUTED, SMALL_PT, Style

WIDTH = 7.0
_TITLE_PT = 10
_LINE_IN = 1.32 / 72
"""Inches of line height for each point of type."""
_BETWEEN_LABELS = 0.06


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure and the words around it."""

    title: str
    """The finding, with its numbers: also the alternative text."""
    subtitle: str
    """What is plotted, its unit, and n."""
    figure: Figure


# ---------------------------------------------------------------------------------------------- text


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Inches that one line of text takes in a figure; the page's own typefaces are narrower."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
    font.set_size(16 * size, 72)  # large, so that hinting rounds nothing
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 72 / 16


def widest(texts: Iterable[str], size: float, *, bold: bool = False) -> float:
    """Inches that the longest of some texts takes."""
    return max((text_width(text, size, bold=bold) for text in texts), default=0.0)


def lines_of(text: str, inches: float, size: float, *, bold: bool = False, at: str = " ") -> list[str]:
    """A text in lines no wider than `inches`, broken after the characters `at`, and inside a word that is wider."""

    def wide(line: str) -> bool:
        return len(line) > 1 and text_width(line.rstrip(" "), size, bold=bold) > inches

    lines = [""]
    for part in re.findall(f"[^{re.escape(at)}]*[{re.escape(at)}]|[^{re.escape(at)}]+", text):
        if lines[-1] and wide(lines[-1] + part):
            lines.append("")
        lines[-1] += part
        while wide(lines[-1]):
            fits = max(1, next(k for k in range(len(lines[-1]) - 1, 0, -1) if not wide(lines[-1][:k])))
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return [line.rstrip(" ") for line in lines]


def fitted_title(axes: Axes, text: str, *, colour: str = INK, size: float = 7.5) -> None:
    """A heading over one panel, no wider than it: smaller down to 5 points, then cut in the middle."""
    room = panel_width(axes) + 0.06
    while size > 5 and text_width(text, size, bold=True) > room:
        size -= 0.25
    shown, kept = text, len(text)
    while text_width(shown, size, bold=True) > room and kept > 4:
        kept -= 1  # the end tells apart what a sweep or a numbering made
        shown = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    axes.set_title(shown, fontsize=size, weight="bold", loc="left", pad=2.5, color=colour)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the same order and near the wanted ones: so that labels do not overlap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [wanted[i] for i in order]
    for _ in range(50):
        for k in range(len(placed) - 1):
            lack = gap - (placed[k + 1] - placed[k])
            if lack > 1e-12:
                placed[k] -= lack / 2
                placed[k + 1] += lack / 2
    back = {i: place for place, i in enumerate(order)}
    return [placed[back[i]] for i in range(len(wanted))]


# ---------------------------------------------------------------------------------------------- panels


def canvas(
    title: str,
    subtitle: str,
    *,
    height: float,
    panels: int = 1,
    columns: int | None = None,
    widths: Sequence[float] | None = None,
    left: float = 0.62,
    right: float = 0.15,
    bottom: float = 0.5,
    headroom: float = 0.12,
    gap: float | tuple[float, float] = 0.5,
    share: str = "",
    panel: float = 0.85,
) -> tuple[Figure, list[Axes]]:
    """A figure with its finding as title, and `panels` row by row, `columns` (or all) in a row, each `height` high.

    `widths` are the columns' relative ones, `gap` lies between columns and rows. Panels share the axes named in
    `share`; ticks of a shared axis are labelled at the figure's edge alone. The figure is wider where the margins leave
    a panel less than `panel`.
    """
    columns = columns or panels
    rows = -(-panels // columns)
    beside, below = gap if isinstance(gap, tuple) else (gap, 0.0)
    margins = left + right + beside * (columns - 1)
    wide = max(WIDTH, margins + columns * panel)
    figure, total = _sheet(title, subtitle, wide, headroom, rows * height + (rows - 1) * below, bottom)
    shares = np.asarray(widths or [1.0] * columns) / sum(widths or [1.0] * columns)
    made: list[Axes] = []
    for place in range(panels):
        row, column = divmod(place, columns)
        x = left + sum(shares[:column]) * (wide - margins) + column * beside
        y = bottom + (rows - 1 - row) * (height + below)
        box = (x / wide, y / total, (wide - margins) * shares[column] / wide, height / total)
        first = made[0] if made else None
        axes = figure.add_axes(box, sharex=first if "x" in share else None, sharey=first if "y" in share else None)
        if "y" in share and column:
            axes.tick_params(axis="y", labelleft=False)
        if "x" in share and place + columns < panels:
            axes.tick_params(axis="x", labelbottom=False)
        made.append(axes)
    return figure, made


def _sheet(title: str, subtitle: str, wide: float, *parts: float) -> tuple[Figure, float]:
    """A figure with its heading over room for the parts below each other, and its height."""
    lines, below = _heading(title, subtitle, wide)
    total = sum(parts, start=heading_height(title, subtitle, wide))
    figure = Figure(figsize=(wide, total))
    heading = figure.text(0.1 / wide, 1 - 0.08 / total, "\n".join(lines), fontsize=_TITLE_PT, weight="bold", va="top")
    y = 1 - (0.08 + _LINE_IN * _TITLE_PT * len(lines) + 0.03) / total
    under = figure.text(0.1 / wide, y, "\n".join(below), fontsize=SMALL_PT, color=MUTED, va="top")
    heading.set_gid("heading")
    under.set_gid("subheading")
    return figure, total


def _heading(title: str, subtitle: str, wide: float) -> tuple[list[str], list[str]]:
    room = wide - 0.25
    return lines_of(title, room, _TITLE_PT, bold=True), lines_of(subtitle, room, SMALL_PT)


def heading_height(title: str, subtitle: str, wide: float) -> float:
    """Inches that title and subtitle take at the top of a figure of that width."""
    lines, below = _heading(title, subtitle, wide)
    return 0.12 + _LINE_IN * (_TITLE_PT * len(lines) + SMALL_PT * len(below))


def panel_width(axes: Axes) -> float:
    """Inches that a panel is wide."""
    return axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------- keys


_KEY_PT, _KEY_GAP, _KEY_MARK = 7.5, 0.22, 0.26


def key_rows(names: Sequence[str], inches: float) -> list[list[str]]:
    """Names of a key in rows no wider than `inches`."""
    rows: list[list[str]] = [[]]
    used = 0.0
    for name in names:
        wide = _KEY_MARK + text_width(name, _KEY_PT) + _KEY_GAP
        if rows[-1] and used + wide - _KEY_GAP > inches:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += wide
    return rows


def key_height(names: Sequence[str], inches: float = 6.2) -> float:
    """Inches that a key takes over the panels."""
    return 0.12 + 0.165 * len(key_rows(names, inches))


def key(axes: Axes, looks: Mapping[str, Style], *, line: bool = True, inches: float = 6.2) -> None:
    """Names with marker and colour, in rows over a panel from its left edge."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    box = axes.get_position()
    rows = key_rows(list(looks), inches)
    for row, names in enumerate(rows):
        x = box.x0 * width
        y = box.y1 * height + 0.12 + 0.165 * (len(rows) - 1 - row)
        for name in names:
            look, middle = looks[name], [y / height] * 3
            ends = [x / width, (x + 0.09) / width, (x + 0.18) / width]
            drawn = Line2D(ends, middle, color=look.colour, linewidth=1.6 if line else 0)
            drawn.set(marker=look.marker, markersize=4.2, markevery=[1])
            figure.add_artist(drawn)
            figure.text((x + _KEY_MARK) / width, y / height, name, fontsize=_KEY_PT, va="center_baseline", color=INK)
            x += _KEY_MARK + text_width(name, _KEY_PT) + _KEY_GAP


# ---------------------------------------------------------------------------------------------- ticks


def ticks(axis: Axis, at: Iterable[float], form: Callable[[float], str] | None = None) -> None:
    """Ticks at just these values and none between, labelled by `form`."""
    axis.set_major_locator(FixedLocator(list(at)))
    axis.set_minor_locator(NullLocator())
    if form is not None:
        labelled(axis, form)


def labelled(axis: Axis, form: Callable[[float], str]) -> None:
    """Ticks where they are, labelled by `form`."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: form(x)))


def apart(axes: Axes, at: Sequence[float], form: Callable[[float], str], *, logarithmic: bool) -> list[float]:
    """Of values in order along the x axis, the ends and those whose labels leave room between them."""
    across = np.log(at) if logarithmic else np.asarray(at, dtype=float)
    inches = axes.bbox.width / axes.figure.dpi * (across - across[0]) / max(across[-1] - across[0], 1e-12)
    size = axes.xaxis.get_major_ticks()[0].label1.get_fontsize()
    wide = [text_width(form(value), float(size)) for value in at]
    kept: list[int] = []
    for index in dict.fromkeys((0, len(at) - 1, *range(len(at)))):
        if all(
            abs(inches[index] - inches[other]) > (wide[index] + wide[other]) / 2 + _BETWEEN_LABELS for other in kept
        ):
            kept.append(index)
    return [at[index] for index in sorted(kept)]


def plainly(x: float) -> str:
    """Just the value at which a tick stands: never rounded to another."""
    whole = abs(x) >= 1e4 and x == round(x)
    return (f"{x:,.0f}" if whole else f"{x:g}").replace("-", MINUS)


def percent(x: float) -> str:
    """A share as `20%`."""
    return f"{100 * x:g}%"


def times(x: float) -> str:
    """A ratio as `1.5×`."""
    return f"{x:g}{TIMES}"


_FINENESS: tuple[tuple[float, ...], ...] = (
    (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,),
)  # fmt: skip


def log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers in [low, high], low > 0, as many as fit without exceeding `most`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _FINENESS:
        chosen = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(chosen) <= most:
            break
    return chosen


_RATIOS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.96, 1.0, 1.04, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)


def ratio_ticks(axis: Axis, *, least: float, apart: float) -> None:
    """A log axis of ratios that reaches `least` to both sides of 1, with 1 and other round ratios as ticks.

    They are `apart` of the axis from each other, so that their labels do not touch.
    """
    low, high = axis.get_view_interval()
    low, high = min(low, 1 - least), max(high, 1 + least)
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})  # type: ignore[attr-defined]
    span = math.log(high / low)
    gap, edge = span * apart, span * 0.35 * apart  # a label at an edge would touch that of the next panel
    chosen = [1.0] if low <= 1 <= high else []
    for tick in sorted(_RATIOS, key=lambda t: -abs(math.log(t))):
        inside = edge <= math.log(tick / low) <= span - edge
        if inside and all(abs(math.log(tick / other)) >= gap for other in chosen):
            chosen.append(tick)
    ticks(axis, sorted(chosen), times)
