"""A report of many models stays legible: a row or a panel for each, one look a model, nothing over anything else."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from moebench import store
from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.models.routers import ROUTERS
from moebench.reader.evidence import gather
from moebench.reporting import Report, build
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn
from moebench.reporting.figures import FIGURES
from moebench.reporting.page import sections
from moebench.reporting.study import study
from moebench.reporting.theme import Style, settings, styles
from tests.support import golden_results, golden_systems


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("systems") / "results"
    golden_systems.write(root)
    return root


def findings_of(root: Path) -> Findings:
    results = store.Results(root)
    (stored,) = store.newest(results.plans())
    evidence = gather(results, stored)
    held, verdicts = study(evidence), tuple(judge(evidence))
    return Findings(study=held, verdicts=verdicts, controls=tuple(check_controls(evidence)))


@pytest.fixture(scope="module")
def found(results: Path) -> Findings:
    return findings_of(results)


@pytest.fixture(scope="module")
def drawn(found: Findings) -> dict[str, Drawn]:
    with settings():
        made = {name: draw(found) for name, draw in FIGURES.items()}
    assert {name: one for name, one in made.items() if isinstance(one, str)} == {
        "sweep": "The suite has no sweep over numbers."
    }
    return {name: one for name, one in made.items() if isinstance(one, Drawn)}


@pytest.fixture(scope="module")
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    (made,) = build(results, out=tmp_path_factory.mktemp("reports"), formats={"md", "csv"})
    return made


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


def shown(one: Drawn) -> list[tuple[str, np.ndarray]]:
    """Texts but for ticks that lie outside their axes, which are not drawn."""
    one.figure.draw_without_rendering()
    unseen = set()
    for axes in one.figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                inside = min(limits) - 1e-9 <= tick.get_loc() <= max(limits) + 1e-9
                unseen |= {id(label) for label in (tick.label1, tick.label2) if not inside or not label.get_visible()}
    held = []
    for text in one.figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
            box = Text.get_window_extent(text)  # of the words alone, without an annotation's arrow
            held.append((text.get_text(), np.array([box.x0, box.y0, box.x1, box.y1]) / one.figure.dpi))
    return held


@pytest.mark.parametrize(
    "name", ["answer", "costs", "latency", "quality", "loss", "fronts", "load", "balance", "domains"]
)
def test_every_model_is_named(found: Findings, drawn: dict[str, Drawn], name: str) -> None:
    said = {text for text, _ in shown(drawn[name])}
    wanted = set(found.study.models) - (
        {"dense"} if name in {"answer", "costs", "latency", "loss", "load", "balance", "domains"} else set()
    )
    assert wanted <= said


def test_models_are_ranked_by_their_difference_to_the_one_that_most_claims_compare_with(
    found: Findings, drawn: dict[str, Drawn]
) -> None:
    assert found.baseline == "dense"
    axes = drawn["answer"].figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    gaps = [found.final(name).mean() for name in names]
    assert gaps == sorted(gaps)
    assert len(names) == len(found.plan.models) - 1


def test_layers_are_named_by_where_they_are_and_experts_counted(found: Findings, drawn: dict[str, Drawn]) -> None:
    panels = {axes.get_title(loc="left"): axes for axes in drawn["load"].figure.axes}
    for name, model in found.plan.models.items():
        if model.architecture.moe_layers:
            labels = [label.get_text() for label in panels[name].get_yticklabels()]
            assert labels == [str(layer) for layer in model.architecture.moe_layers]
            assert panels[name].get_xlabel().startswith(f"{model.architecture.ffn.experts} experts, to ")  # type: ignore[union-attr]
    assert {model.architecture.moe_layers for model in found.plan.models.values()} >= {(1, 3), (0, 1, 2, 3)}


def test_what_a_capacity_refused_is_drawn_for_the_models_that_have_one(
    found: Findings, drawn: dict[str, Drawn]
) -> None:
    capped = {
        n for n, m in found.plan.models.items() if getattr(m.architecture.ffn, "capacity_factor", None) is not None
    }
    assert {axes.get_title(loc="left") for axes in drawn["dropped"].figure.axes} == capped
    last = found.study.final("train.dropped_share").groupby("model")["value"].mean()
    refused = float(drawn["dropped"].title.split()[2].partition("%")[0])
    assert drawn["dropped"].title.split()[0] == last.idxmax()
    assert refused == pytest.approx(100 * last.max(), rel=0.01)


def test_claims_that_ask_the_same_are_on_one_scale(found: Findings, drawn: dict[str, Drawn]) -> None:
    rows = [v for v in found.verdicts if v.metric == "test.bits_per_byte" and v.asked_high == 0.0]
    axes = drawn["claims"].figure.axes[0]
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
