"""Nothing is clipped, nothing touches, ticks are true: as drawn, for few models, many, a sweep and long names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from moebench import store
from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.format import MINUS
from moebench.reader.evidence import gather
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, key_rows, lines_of, text_width
from moebench.reporting.figures import FIGURES
from moebench.reporting.study import study
from moebench.reporting.theme import settings
from tests.support import golden_results, golden_sweep, golden_systems


def long_names(root: Path) -> None:
    """Models whose names take a line each, and claims whose ids are a letter or a line."""
    suite = golden_sweep.SUITE
    for short, long in (
        ("[2, 4, 8, 16, 32, 64]", "[2, 8, 64]"),
        ("moe_sweep", "mixture_with_a_long_name_for_a_sweep_of"),
        ("  dense:", "  the_dense_model_of_equal_active_parameters:"),
        ("baseline: dense", "baseline: the_dense_model_of_equal_active_parameters"),
        ("more-experts-lower-loss:", "a:"),
        ("twelve-beat-dense:", f"{'long-' * 10}id:"),
    ):
        assert short in suite
        suite = suite.replace(short, long)
    golden_sweep.write(root, golden_sweep.sweep_plan(suite))


FOLDERS = {
    "few": golden_results.write,
    "many": golden_systems.write,
    "sweep": golden_sweep.write,
    "long names": long_names,
}


@dataclass(frozen=True)
class Words:
    """One text as drawn: left, bottom, right, top in inches."""

    text: str
    box: np.ndarray


@pytest.fixture(scope="module", params=list(FOLDERS))
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Drawn]:
    root = tmp_path_factory.mktemp("layout")
    FOLDERS[request.param](root)
    results = store.Results(root)
    (stored,) = store.newest(results.plans())
    evidence = gather(results, stored)
    found = Findings(study=study(evidence), verdicts=tuple(judge(evidence)), controls=tuple(check_controls(evidence)))
    with settings():
        made = {name: draw(found) for name, draw in FIGURES.items()}
    return {name: one for name, one in made.items() if isinstance(one, Drawn)}


def seen(figure: Figure) -> list[Words]:
    """Texts but for ticks outside their axes, which are not drawn."""
    with settings():
        figure.draw_without_rendering()
    unseen = set()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                inside = min(limits) - 1e-9 <= tick.get_loc() <= max(limits) + 1e-9
                unseen |= {id(label) for label in (tick.label1, tick.label2) if not inside or not label.get_visible()}
    held = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
            box = Text.get_window_extent(text)  # of the words alone, without an annotation's arrow
            held.append(Words(text.get_text(), np.array([box.x0, box.y0, box.x1, box.y1]) / figure.dpi))
    return held


def test_no_words_leave_a_figure(drawn: Mapping[str, Drawn]) -> None:
    outside = []
    for name, one in drawn.items():
        width, height = one.figure.get_size_inches()
        outside += [
            (name, words.text, words.box.round(2).tolist())
            for words in seen(one.figure)
            if min(words.box[:2]) < -0.01 or words.box[2] > width + 0.01 or words.box[3] > height + 0.01
        ]
    assert outside == []


def test_the_words_of_a_bracket_stand_inside_their_panel(drawn: Mapping[str, Drawn]) -> None:
    axes = drawn["answer"].figure.axes[0]
    bottom = axes.get_window_extent().y0 / drawn["answer"].figure.dpi
    told = [words for words in seen(drawn["answer"].figure) if "undecayed" in words.text]
    assert all(words.box[1] > bottom + 0.02 for words in told)


def test_no_words_touch(drawn: Mapping[str, Drawn]) -> None:
    touching = []
    for name, one in drawn.items():
        for a, b in itertools.combinations(seen(one.figure), 2):
            wide = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
            high = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
            if wide > 0.0 and high > 0.025:
                touching.append((name, a.text, b.text, round(wide, 3), round(high, 3)))
    assert touching == []


def test_no_axes_leave_a_figure(drawn: Mapping[str, Drawn]) -> None:
    for name, one in drawn.items():
        for axes in one.figure.axes:
            box = axes.get_position()
            assert min(box.x0, box.y0) >= 0, name
            assert max(box.x1, box.y1) <= 1, name
            assert box.width * one.figure.get_figwidth() > 0.25 or axes.get_ylabel() == "load / mean", name


FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "%": 0.01}


def test_ticks_stand_where_their_labels_say(drawn: Mapping[str, Drawn]) -> None:
    """0, 2, 5, 8 would stand for 0, 2.5, 5 and 7.5."""
    untrue = []
    for name, one in drawn.items():
        with settings():
            one.figure.draw_without_rendering()
        for axes in one.figure.axes:
            for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                for tick in axis.get_major_ticks():
                    said, at = tick.label1.get_text(), tick.get_loc()
                    if not said or not min(limits) <= at <= max(limits):
                        continue
                    value = read(said)
                    scales = (1.0, 1e-3, 0.01) if value is not None else ()
                    if value is not None and not any(abs(value * s - at) <= 0.006 * abs(at) + 1e-9 for s in scales):
                        untrue.append((name, said, at))
    named = {"load", "domains", "quality"}  # rows, experts and layers stand at half numbers or places
    assert [one for one in untrue if one[0] not in named] == []


def read(label: str) -> float | None:
    plain = label.replace(MINUS, "-").replace("×", "").replace("+", "").replace("≥", "").strip()
    number, _, unit = plain.partition(" ")
    factor = 1.0 if plain.endswith("%") else FACTORS.get(unit.removesuffix("B"), 1.0)
    try:
        return float(number.rstrip("%").replace(",", "")) * factor
    except ValueError:
        return None


def test_a_sweep_is_drawn_against_its_value_with_every_seed(tmp_path: Path) -> None:
    golden_sweep.write(tmp_path)
    results = store.Results(tmp_path)
    evidence = gather(results, results.plans()[0])
    found = Findings(study=study(evidence), verdicts=tuple(judge(evidence)), controls=())
    with settings():
        one = FIGURES["sweep"](found)
    assert isinstance(one, Drawn)
    (axes,) = one.figure.axes
    assert axes.get_xlabel() == "ffn.experts"
    seeds = [line for line in axes.lines if len(line.get_xdata()) == 8]  # type: ignore[arg-type]
    assert len(seeds) == len(golden_sweep.EXPERTS)
    assert one.title.startswith("Final loss is falling with ffn.experts")
    assert "−0.0261" in one.title
    slope = axes.lines[-1]
    (x0, x1), (y0, y1) = slope.get_xdata(), slope.get_ydata()
    verdict = found.verdicts[0]
    assert (y1 - y0) / (np.log2(x1) - np.log2(x0)) == pytest.approx(verdict.estimate)
    assert len({(s.colour, s.marker) for s in found.styles.values()}) == len(found.styles)


def test_text_is_measured_as_it_is_drawn() -> None:
    with settings(), mpl.rc_context({"figure.dpi": 72}):
        figure = Figure(figsize=(7, 1))
        text = figure.text(0, 0.5, "INCONCLUSIVE", fontsize=7, weight="bold")
        figure.draw_without_rendering()
        assert text_width("INCONCLUSIVE", 7, bold=True) == pytest.approx(text.get_window_extent().width / 72, rel=0.05)


def test_lines_are_broken_where_they_may_be() -> None:
    assert lines_of("one two three", text_width("one two", 8), 8) == ["one two", "three"]
    assert lines_of("moe-sweep.experts-16", text_width("moe-sweep.", 8), 8, at=" ._-") == ["moe-sweep.", "experts-16"]
    assert "".join(lines_of("x" * 50, 0.5, 8)) == "x" * 50
    assert key_rows(["a" * 30, "b" * 30, "c"], 3.0) == [["a" * 30], ["b" * 30, "c"]]
