"""Figures and titles: nothing is clipped or touches, many models stay legible, and no title decides what verdicts
leave undecided.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from moebench import store
from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.claims.order import order
from moebench.environment import environment
from moebench.format import MINUS
from moebench.launch import launch
from moebench.models.routers import ROUTERS
from moebench.reader.evidence import gather
from moebench.reporting import Report, build
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, apart, canvas, key_rows, lines_of, plainly, text_width
from moebench.reporting.figures import FIGURES, answer
from moebench.reporting.page import sections
from moebench.reporting.study import study
from moebench.reporting.theme import Style, settings, styles
from moebench.store import Results
from moebench.suite.claim import Claim
from tests.support import golden_results, golden_systems, tiny_suites
from tests.support.builders import BPB, claim, evidence_of


def long_names(root: Path) -> None:
    """Models whose names take a line each, and claims whose ids are a letter or a line."""
    suite = golden_systems.SWEEP
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
    golden_systems.write_sweep(root, golden_systems.sweep_plan(suite))


def gains(root: Path) -> None:
    """Claims of a gain along a sweep: that it passes a margin, and that it rises."""
    head, _, tail = golden_systems.SWEEP.partition("    over: moe_sweep\n    along: ffn.experts\n")
    compared = "    compare: {treatment: moe_sweep, baseline: dense}\n    along: ffn.experts\n"
    rest = tail[tail.index("  twelve-beat-dense:") :]
    trend = "    metric: test.bits_per_byte\n    test: {kind: trend, sign: rising}\n"
    crossing = f"  passes:\n    says: It passes.\n{compared}    metric: test.bits_per_byte\n"
    crossing += "    test: {kind: crosses, margin: 3%}\n    family: primary\n"
    golden_systems.write_sweep(root, golden_systems.sweep_plan(head + compared + trend + crossing + rest))


FOLDERS = {
    "gains": gains,
    "few": golden_results.write,
    "many": golden_systems.write,
    "sweep": golden_systems.write_sweep,
    "ladder": golden_systems.write_ladder,
    "long names": long_names,
}


@dataclass(frozen=True)
class Words:
    """One text as drawn: left, bottom, right, top in inches."""

    text: str
    box: np.ndarray


@dataclass(frozen=True)
class Study:
    """A folder of results, what was found in it, and all that is drawn of it, laid out."""

    root: Path
    found: Findings
    drawn: Mapping[str, Drawn]
    refused: Mapping[str, str]
    """Why the other figures are not drawn."""


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Study]:
    """Each of the folders, drawn once for all that look at it."""

    @functools.cache
    def studied(name: str) -> Study:
        root = tmp_path_factory.mktemp("studied") / "results"
        FOLDERS[name](root)
        found = findings_of(root)
        with settings():
            made = {name: draw(found) for name, draw in FIGURES.items()}
            drawn = {name: one for name, one in made.items() if isinstance(one, Drawn)}
            for one in drawn.values():
                one.figure.draw_without_rendering()
        refused = {name: one for name, one in made.items() if isinstance(one, str)}
        return Study(root=root, found=found, drawn=drawn, refused=refused)

    return studied


def findings_of(root: Path) -> Findings:
    results = store.Results(root)
    (stored,) = store.newest(results.plans())
    evidence = gather(results, stored)
    held, verdicts = study(evidence), tuple(judge(evidence))
    return Findings(study=held, verdicts=verdicts, controls=tuple(check_controls(evidence)))


@pytest.fixture(scope="module", params=list(FOLDERS))
def drawn(request: pytest.FixtureRequest, studied: Callable[[str], Study]) -> Mapping[str, Drawn]:
    return studied(request.param).drawn


def seen(figure: Figure) -> list[Words]:
    """Texts but for ticks outside their axes, which are not drawn."""
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
    factor = 1.0 if plain.endswith("%") else FACTORS.get(unit.removesuffix("B").removesuffix("FLOPs"), 1.0)
    try:
        return float(number.rstrip("%").replace(",", "")) * factor
    except ValueError:
        return None


def test_a_sweep_is_drawn_against_its_value_with_every_seed(studied: Callable[[str], Study]) -> None:
    found, one = studied("sweep").found, studied("sweep").drawn["sweep"]
    (axes,) = one.figure.axes
    assert axes.get_xlabel() == "ffn.experts"
    seeds = [line for line in axes.lines if len(line.get_xdata()) == 8]  # type: ignore[arg-type]
    assert len(seeds) == len(golden_systems.EXPERTS)
    assert one.title.startswith("Final loss is falling with ffn.experts")
    assert "−0.0261" in one.title
    slope = axes.lines[-1]
    x, y = (np.asarray(of, dtype=float) for of in (slope.get_xdata(), slope.get_ydata()))
    verdict = found.verdicts[0]
    assert np.diff(y) / np.diff(np.log2(x)) == pytest.approx(verdict.estimate)
    assert len({(s.colour, s.marker) for s in found.styles.values()}) == len(found.styles)


@pytest.mark.parametrize(
    ("side", "state", "word"),
    [("lower", "supported", "lower"), (None, "inconclusive", "undecided"), (None, "invalid", "not comparable")],
)
def test_a_model_of_other_data_is_not_comparable(side: str | None, state: str, word: str) -> None:
    verdict = SimpleNamespace(state=state)
    findings: Any = SimpleNamespace(order=lambda *_: SimpleNamespace(side=side, verdict=verdict))
    assert answer._side(findings, "moe", "dense") == word


def test_a_gain_along_a_sweep_is_drawn_where_claims_are_of_a_gain(studied: Callable[[str], Study]) -> None:
    """One panel for both claims: the gain at each point, the slope of the one, the margin of the other."""
    found, one = studied("gains").found, studied("gains").drawn["sweep"]
    (axes,) = one.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("ffn.experts", "gain, %")
    seeds = [line for line in axes.lines if len(line.get_xdata()) == 8]  # type: ignore[arg-type]
    means = [float(np.mean(np.asarray(line.get_ydata()))) for line in seeds]
    assert means == sorted(means), "a gain that rises is drawn rising: above 0 the treatment is better"
    assert [3.0, 3.0] in [list(line.get_ydata()) for line in axes.lines], "the margin"
    trend = next(v for v in found.verdicts if v.kind == "trend")
    x, y = (np.asarray(of, dtype=float) for of in (axes.lines[-1].get_xdata(), axes.lines[-1].get_ydata()))
    slope = np.diff(np.log1p(y / 100)) / np.diff(np.log2(x))
    assert 100 * np.expm1(slope) == pytest.approx(trend.estimate), "straight in logs, as the verdict is"
    assert one.title.startswith("Gain of moe_sweep over dense in final loss is rising with ffn.experts")


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


# ----------------------------------------------------------------------------------------------------
# A report of many models stays legible: a row or a panel for each, one look a model, nothing over anything else.


@pytest.fixture(scope="module")
def found(studied: Callable[[str], Study]) -> Findings:
    return studied("many").found


@pytest.fixture(scope="module")
def drawn_many(studied: Callable[[str], Study]) -> Mapping[str, Drawn]:
    assert studied("many").refused == {
        "sweep": "The suite has no sweep over numbers.",
        "leverage": "The suite has no ladder of dense models.",
        "tasks": "No task has a score yet.",
        "task_fronts": "No two models whose sizes are known have scores on the same tasks.",
    }
    return studied("many").drawn


@pytest.fixture(scope="module")
def report(studied: Callable[[str], Study], tmp_path_factory: pytest.TempPathFactory) -> Report:
    (made,) = build(studied("many").root, out=tmp_path_factory.mktemp("reports"), formats={"md", "csv"})
    return made


def test_a_baseline_that_stands_alone_so_far_has_no_curves_beside_it(tmp_path: Path) -> None:
    """None of the other models' runs is there, or none is whole."""
    golden_systems.write(tmp_path)
    (stored,) = store.newest(store.Results(tmp_path).plans())
    for job in stored.plan.jobs:
        if job.model != "dense":
            shutil.rmtree(tmp_path / "jobs" / job.id, ignore_errors=True)
    assert FIGURES["loss"](findings_of(tmp_path)) == "No run but those of dense has reached an evaluation point."


# ---------------------------------------------------------------------------------------------- looks


def pairs(found: Findings) -> list[tuple[Style, Style]]:
    return list(itertools.combinations(found.styles.values(), 2))


def test_no_two_models_share_colour_and_marker(found: Findings) -> None:
    assert len(found.plan.models) >= 15
    assert len({(style.colour, style.marker) for style in found.styles.values()}) == len(found.styles)


# Machado, Oliveira and Fernandes 2009, full severity, in linear RGB.
SEEN_BY = {
    "normal": np.eye(3),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def lab(colour: str, eye: str) -> np.ndarray:
    """CIE L*a*b* of a colour as an eye sees it."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)])
    seen = np.clip(SEEN_BY[eye] @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ seen / [0.9505, 1.0, 1.089], 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", SEEN_BY)
def test_models_with_one_marker_differ_in_colour_for_every_eye(found: Findings, eye: str) -> None:
    for one, other in pairs(found):
        if one.marker == other.marker:
            assert np.linalg.norm(lab(one.colour, eye) - lab(other.colour, eye)) > 15, (one, other)


def test_names_can_be_read_on_white(found: Findings) -> None:
    """Contrast of 3.8 at least: the names of models are set in their colours."""
    for style in found.styles.values():
        linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(style.colour)])
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 3.8, style


def test_dense_models_are_blue_and_unlearned_routers_grey(found: Findings) -> None:
    for name, style in found.styles.items():
        red, green, blue = to_rgb(style.colour)
        assert (name == "dense") == (style.kind == "dense")
        if style.kind == "dense":
            assert blue > max(red, green) + 0.1
        assert style.control == (max(red, green, blue) - min(red, green, blue) < 0.1), name
    routers = {name: getattr(model.architecture.ffn, "router", None) for name, model in found.plan.models.items()}
    unlearned = {name for name, word in routers.items() if word and not ROUTERS[word].learned}
    assert unlearned == {name for name, style in found.styles.items() if style.control} != set()


def test_few_models_keep_two_hues() -> None:
    plan = golden_results.golden_plan()
    assert [style.colour for style in styles(plan).values()] == ["#c9480a", "#12406f", "#3f8bd0"]


# ---------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    "name", ["answer", "costs", "latency", "quality", "loss", "fronts", "load", "balance", "domains"]
)
def test_every_model_is_named(found: Findings, drawn_many: Mapping[str, Drawn], name: str) -> None:
    said = {words.text for words in seen(drawn_many[name].figure)}
    wanted = set(found.study.models) - (
        {"dense"} if name in {"answer", "costs", "latency", "loss", "load", "balance", "domains"} else set()
    )
    assert wanted <= said


def test_models_are_ranked_by_their_difference_to_the_one_that_most_claims_compare_with(
    found: Findings, drawn_many: Mapping[str, Drawn]
) -> None:
    assert found.baseline == "dense"
    axes = drawn_many["answer"].figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    gaps = [found.final(name).mean() for name in names]
    assert gaps == sorted(gaps)
    assert len(names) == len(found.plan.models) - 1


def test_layers_are_named_by_where_they_are_and_experts_counted(
    found: Findings, drawn_many: Mapping[str, Drawn]
) -> None:
    panels = {axes.get_title(loc="left"): axes for axes in drawn_many["load"].figure.axes}
    for name, model in found.plan.models.items():
        if model.architecture.moe_layers:
            labels = [label.get_text() for label in panels[name].get_yticklabels()]
            assert labels == [str(layer) for layer in model.architecture.moe_layers]
            assert panels[name].get_xlabel().startswith(f"{model.architecture.ffn.experts} experts, to ")  # type: ignore[union-attr]
    assert {model.architecture.moe_layers for model in found.plan.models.values()} >= {(1,), (0, 1)}


def test_what_a_capacity_refused_is_drawn_for_the_models_that_have_one(
    found: Findings, drawn_many: Mapping[str, Drawn]
) -> None:
    capped = {
        n for n, m in found.plan.models.items() if getattr(m.architecture.ffn, "capacity_factor", None) is not None
    }
    assert {axes.get_title(loc="left") for axes in drawn_many["dropped"].figure.axes} == capped
    last = found.study.final("train.dropped_share").groupby("model")["value"].mean()
    refused = float(drawn_many["dropped"].title.split()[2].partition("%")[0])
    assert drawn_many["dropped"].title.split()[0] == last.idxmax()
    assert refused == pytest.approx(100 * last.max(), rel=0.01)


def test_claims_that_ask_the_same_are_on_one_scale(found: Findings, drawn_many: Mapping[str, Drawn]) -> None:
    rows = [v for v in found.verdicts if v.metric == "test.bits_per_byte" and v.asked_high == 0.0]
    axes = drawn_many["claims"].figure.axes[0]
    drawn_at = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type, index]
    at = dict(zip([v.id for v in found.verdicts if v.estimate is not None], drawn_at, strict=True))
    per_unit = [at[v.id] / float(v.estimate or 1) for v in rows]
    assert len(rows) > 10
    assert per_unit == pytest.approx([per_unit[0]] * len(rows))


# ---------------------------------------------------------------------------------------------- page and tables


def test_the_page_shows_refusals_only_where_a_model_can_refuse(found: Findings, tmp_path: Path) -> None:
    assert "dropped" in {figure for section in sections(found) for figure in section.figures}
    golden_results.write(tmp_path, seeds=2)
    assert "dropped" not in {figure for section in sections(findings_of(tmp_path)) for figure in section.figures}


@pytest.mark.parametrize("title", ["Costs as a ratio to dense", "Final bits per byte", "Routing after the last step"])
def test_a_table_has_one_row_a_model(found: Findings, report: Report, title: str) -> None:
    text = (report.path / "index.md").read_text()
    rows = text.partition(f"**{title}**")[2].strip().partition("\n\n")[0].splitlines()[2:]
    models = [row.split("|")[1].strip() for row in rows]
    assert len(models) == len(set(models)) >= len(found.plan.models) - 1
    assert "∞" not in "".join(rows)


def test_csv_keeps_every_number_in_long_form(found: Findings, report: Report) -> None:
    with (report.path / "tables" / "costs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.ratios)
    assert {row["model"] for row in rows} >= set(found.study.models)
    with (report.path / "tables" / "routing.csv").open() as file:
        metrics = {row["metric"] for row in csv.DictReader(file)}
    assert {"train.dropped_share", "routing.max_over_mean"} <= metrics


def test_quality_is_listed_best_first_with_the_change_beside_it(report: Report) -> None:
    text = (report.path / "index.md").read_text().partition("**Final bits per byte**")[2].strip()
    heads, _, *rows = text.partition("\n\n")[0].splitlines()
    assert [head.strip() for head in heads.split("|")[1:4]] == ["model", "all", "all, against dense"]
    losses = [float(row.split("|")[2].split()[0]) for row in rows]
    assert losses == sorted(losses)


def test_notes_keep_the_names_of_models(found: Findings, report: Report) -> None:
    notes = [note for note in found.plan.warnings if "its FLOPs are an upper bound" in note]
    assert notes
    assert all(f"\n{note}." in (report.path / "index.md").read_text() for note in notes)


def test_a_plan_of_many_models_without_any_run_is_reported(tmp_path: Path) -> None:
    plan = golden_systems.systems_plan()
    store.Results(tmp_path).save_plan(plan, golden_results.MACHINE)
    (made,) = build(tmp_path, out=tmp_path / "out", formats={"html", "md", "json"})
    held = json.loads((made.path / "claims.json").read_text())
    assert len(held["claims"]) == len(plan.spec.claims)
    assert "0 of" in made.page.read_text()


# ----------------------------------------------------------------------------------------------------
# No title, heading or alternative text decides what the verdicts leave undecided.


DECIDING = re.compile(
    r"\b(lower than|higher than|lowest|highest|ends lower|ends higher|best model|wins|beats?|no model|the most of)\b"
)


def at_the_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim about quality lies at its bound: inconclusive at any reasonable number of seeds."""
    truth = dict(golden_results.TRUTH)
    moe = truth["moe_8x2"].loss
    truth["dense"] = replace(truth["dense"], loss=moe / 0.995)
    truth["dense_total"] = replace(truth["dense_total"], loss=moe / 1.005)
    monkeypatch.setattr(golden_results, "TRUTH", truth)
    golden_results.write(root)


def too_few(root: Path, _: pytest.MonkeyPatch) -> None:
    golden_results.write(root, seeds=4)


def unfinished(root: Path, _: pytest.MonkeyPatch) -> None:
    plan = golden_results.write(root)
    for planned in (run for run in plan.runs if run.seed == 7):
        for file in store.Results(root).job(planned.id).path.iterdir():
            file.unlink()


def unfinished_systems(root: Path, _: pytest.MonkeyPatch) -> None:
    plan = golden_systems.write(root)
    for planned in (run for run in plan.runs if run.seed == 7):
        for file in store.Results(root).job(planned.id).path.iterdir():
            file.unlink()


def titles(report: Report) -> list[str]:
    """Headings of figures on both pages, and the titles inside the svg files."""
    page, markdown = report.page.read_text(), (report.path / "index.md").read_text()
    found = re.findall(r'<h3 id="\w+-title">(.*?)</h3>', page)
    found += re.findall(r"!\[(.*?)\]\(figures", markdown)
    for svg in (report.path / "figures").glob("*.svg"):
        found += re.findall(r"<dc:title>(.*?)</dc:title>", svg.read_text())
    return found


@pytest.mark.parametrize("spoil", [at_the_bound, too_few, unfinished, unfinished_systems])
def test_no_title_decides_what_is_undecided(
    spoil: Callable[[Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(tmp_path / "results", monkeypatch)
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md", "svg"))
    states = {v.state for v in made.verdicts if v.metric == BPB and v.kind != "recovers"}
    assert states <= {"inconclusive", "interim"}
    said = titles(made)
    assert len(said) > 20
    by_cost = "dense is on both fronts"  # counts decide that no model is as cheap
    assert [title for title in said if DECIDING.search(title) and not title.startswith(by_cost)] == []
    assert any("undecided" in title for title in said)


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        ([1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1], [1e-4, 1e-3, 1e-2, 0.1]),
        ([0.1, 1, 10], [0.1, 1, 10]),
        ([2.0, 4.0, 8.0, 16.0, 32.0, 64.0], [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
        ([3.0], [3.0]),
    ],
)
def test_labels_along_an_axis_leave_room_between_them(at: list[float], kept: list[float]) -> None:
    _, (axes, *_) = canvas("What is swept", "", height=2.5, panels=3, gap=0.75, left=0.75, panel=1.7)
    axes.set_xscale("log", base=2)
    assert apart(axes, at, plainly, logarithmic=True) == kept


def test_a_title_says_equal_tokens_only_where_they_are(tmp_path: Path) -> None:
    """A stage has read its own text beside that of what it starts from: its tokens are no whole training's."""
    stage = {"start": "moe", "train": {"budget": {"steps": 3}}}
    for name, models in (("alike", {}), ("staged", {"tuned": stage})):
        (tmp_path / name).mkdir()
        made = tiny_suites.planned(tmp_path / name, models={**tiny_suites.suite()["models"], **models})
        Results(made.results).save_plan(made.plan, environment(1))
        launch(made.graph.jobs, replace(made.options, launcher="inline"))
        (report,) = build(made.results, out=tmp_path / name / "out", formats=("html", "md", "svg"))
        said = titles(report)
        assert any("at equal tokens" in title for title in said) == (name == "alike")
        assert not any("the FLOPs of" in title for title in said)


def test_titles_decide_what_the_verdicts_decide(tmp_path: Path) -> None:
    golden_results.write(tmp_path / "results")
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md", "svg"))
    said = titles(made)
    assert any(title.startswith("moe_8x2 ends lower than dense: bits per byte −0.98%") for title in said)
    assert any(title.startswith("dense_total has the lowest final loss") for title in said)


def test_a_title_that_states_a_timing_says_when_the_machine_was_not_shown_to_be_quiet(tmp_path: Path) -> None:
    plan = golden_results.write(tmp_path / "results", seeds=6)
    assert plan.speed is not None
    golden_results.write_speed(tmp_path / "results", plan, aa=1.2)
    golden_results._fix_times(tmp_path / "results")
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md"))
    timed = [title for title in titles(made) if "as long as" in title or "the step time of" in title]
    assert timed
    assert all(title.endswith("(A/A failed)") for title in timed)


# ---------------------------------------------------------------------------------------------- of two models


def sides(moe: np.ndarray, dense: np.ndarray, *claims: dict[str, object]) -> tuple[str | None, str | None]:
    """Where moe lies against dense and dense against moe."""
    evidence = evidence_of({"moe": {BPB: moe}, "dense": {BPB: dense}}, {f"c{k}": one for k, one in enumerate(claims)})
    verdicts = judge(evidence)
    return order(evidence, verdicts, "moe", "dense", BPB).side, order(evidence, verdicts, "dense", "moe", BPB).side


NOISE = np.random.default_rng(5).normal(0, 0.001, 8)
DENSE = np.full(8, 2.0)


@pytest.mark.parametrize(
    ("change", "test", "side"),
    [
        (0.98, {"kind": "superior", "margin": "0.5%"}, "lower"),
        (0.995, {"kind": "superior", "margin": "0.5%"}, None),
        (0.999, {"kind": "superior", "margin": "0.5%"}, None),
        (1.02, {"kind": "superior"}, "higher"),
        (1.02, {"kind": "superior", "margin": "0.5%"}, None),
        (1.02, {"kind": "non_inferior", "margin": "1%"}, "higher"),
        (0.98, {"kind": "non_inferior", "margin": "1%"}, None),
        (1.02, {"kind": "equivalent", "margin": "1%"}, "higher"),
        (0.98, {"kind": "equivalent", "margin": "1%"}, "lower"),
        (1.0, {"kind": "equivalent", "margin": "1%"}, None),
        (0.5, {"kind": "ratio_at_least", "value": 1.5}, "lower"),
        (0.9, {"kind": "ratio_at_least", "value": 1.5}, None),
        (0.5, {"kind": "ratio_within", "low": 0.4, "high": 0.6}, "lower"),
        (1.2, {"kind": "ratio_within", "low": 0.9, "high": 1.1}, "higher"),
    ],
)
def test_the_verdict_of_a_claim_about_the_pair_rules(change: float, test: dict[str, object], side: str | None) -> None:
    other = {None: None, "lower": "higher", "higher": "lower"}[side]
    assert sides(DENSE * change * np.exp(NOISE), DENSE, claim(test)) == (side, other)


def test_without_a_claim_the_same_question_is_asked_at_margin_0() -> None:
    assert sides(DENSE * 0.99 * np.exp(NOISE), DENSE) == ("lower", "higher")
    assert sides(DENSE * 1.0001 * np.exp(10 * NOISE), DENSE) == (None, None)
    assert sides((DENSE * 0.99 * np.exp(NOISE))[:5], DENSE[:5]) == (None, None), "five seeds decide nothing"


def test_a_primary_claim_rules_over_an_exploratory_one() -> None:
    moe = DENSE * 0.995 * np.exp(NOISE)
    decided, undecided = claim({"kind": "superior"}), claim({"kind": "superior", "margin": "0.5%"}, family="primary")
    assert sides(moe, DENSE, decided) == ("lower", "higher")
    assert sides(moe, DENSE, decided, undecided) == (None, None)


def test_equal_counts_are_neither_lower_nor_higher() -> None:
    evidence = evidence_of(
        {"moe": {BPB: DENSE}, "dense": {BPB: DENSE}}, {}, params={"moe": (10, 10), "dense": (20, 10)}
    )
    assert order(evidence, [], "moe", "dense", "cost.active_params").side is None
    assert order(evidence, [], "moe", "dense", "cost.total_params").side == "lower"


def test_the_question_asked_for_a_title_is_no_claim_of_the_suite() -> None:
    evidence = evidence_of(
        {"moe": {BPB: DENSE}, "dense": {BPB: DENSE}}, {"c": claim({"kind": "superior"}, "tune.bits_per_byte")}
    )
    assert not order(evidence, judge(evidence), "moe", "dense", BPB).claimed
    assert isinstance(evidence.plan.spec.claims["c"], Claim)
