"""A report says what the results say: in every format, whatever is missing, and nothing that was not measured."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import moebench
from moebench import store
from moebench.cli import main
from moebench.cli.console.outcome import verdict_text
from moebench.reader.evidence import Evidence, gather
from moebench.reporting import FORMATS, Overview, Report, build, build_all
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, canvas
from moebench.reporting.figures import FIGURES
from moebench.reporting.page import sections
from moebench.reporting.part import part
from moebench.reporting.sections import SECTIONS as SECTIONS_MADE
from moebench.reporting.states import STATES
from moebench.reporting.study import study
from moebench.reporting.svg import svg_file
from moebench.reporting.tables import TABLES, Table
from moebench.reporting.tables.table import text
from moebench.reporting.theme import settings
from tests.support import golden_results, golden_systems
from tests.support.builders import with_outcome

SECTIONS = ["answer", "equal", "cost", "quality", "place", "routing", "sure", "untested", "provenance"]
DRAWN = {
    "claims", "answer", "costs", "latency", "quality", "loss", "fronts", "load", "balance", "domains", "tuning",
}  # fmt: skip
VOID = {"meta", "link", "br", "hr", "img", "input", "use", "path", "rect"}


class Page(HTMLParser):
    """What a browser would make of a page: ids, attributes that fetch, text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetches: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if held.get("id"):
            self.ids.append(str(held["id"]))
        self.fetches += [
            str(held[name]) for name in ("src", "href", "srcset", "data", "action", "poster") if name in held
        ]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("golden") / "results"
    golden_results.write(root)
    return root


@pytest.fixture(scope="module")
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    (made,) = build(results, out=tmp_path_factory.mktemp("reports"), formats=FORMATS)
    return made


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.page.read_text())


def made_findings(root: Path) -> Findings:
    held = store.Results(root)
    return Findings(study=study(gather(held, held.plans()[0])), verdicts=(), controls=())


def build_one(root: Path, out: Path, formats: str = "html,md,csv,json") -> Report:
    (made,) = build(root, out=out, formats=formats.split(","))
    return made


# ---------------------------------------------------------------------------------------------- what is written


def test_every_format_is_written(report: Report) -> None:
    assert report.path.name == "golden"
    assert {p.stem for p in (report.path / "figures").glob("*.svg")} == DRAWN
    assert {p.stem for p in (report.path / "figures").glob("*.png")} == DRAWN
    assert {"claims", "match", "costs", "quality", "runs", "curves"} <= {
        p.stem for p in (report.path / "tables").glob("*.csv")
    }
    assert {p.name for p in report.path.iterdir()} == {"index.html", "index.md", "claims.json", "figures", "tables"}


def test_only_what_is_asked_for_is_written(results: Path, tmp_path: Path) -> None:
    made = build_one(results, tmp_path, "json")
    assert [p.name for p in made.path.iterdir()] == ["claims.json"]


def test_both_pages_without_svg_bring_the_leading_figures_and_the_page_has_the_others(
    results: Path, tmp_path: Path
) -> None:
    made = build_one(results, tmp_path, "html,md")
    leading = {name for name in DRAWN if FIGURES[name].leading}
    assert leading == {"answer", "claims", "fronts"}
    assert {path.name for path in (made.path / "figures").iterdir()} == {f"{name}.svg" for name in leading}
    markdown, text = (made.path / "index.md").read_text(), made.page.read_text()
    assert set(re.findall(r"\]\(figures/(\w+)\.svg\)", markdown)) == leading
    assert set(re.findall(r"\]\(index\.html#fig-(\w+)\)", markdown)) == DRAWN - leading
    assert all(f'id="fig-{name}"' in text for name in DRAWN)


def test_an_unknown_format_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown format pdf; known: html, md"):
        build(results, out=tmp_path, formats=["pdf"])


def test_an_unknown_suite_is_refused_with_the_known_ones(results: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="none: no such folder"):
        build(tmp_path / "none", suite="quick", out=tmp_path)
    with pytest.raises(KeyError, match=r"no plan of quick; it has: golden"):
        build(results, suite="quick", out=tmp_path)


def test_two_builds_give_the_same_bytes(results: Path, report: Report, tmp_path: Path) -> None:
    (again,) = build(results, out=tmp_path, formats=FORMATS)
    files = sorted(p.relative_to(report.path) for p in report.path.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.path) for p in again.path.rglob("*") if p.is_file())
    assert [f for f in files if (report.path / f).read_bytes() != (again.path / f).read_bytes()] == []


def test_a_later_build_leaves_no_figure_of_an_earlier_one(results: Path, tmp_path: Path) -> None:
    stale = tmp_path / "golden" / "figures" / "latency.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    build_one(results, tmp_path, "md")
    assert not stale.exists()


def test_the_newest_plan_of_a_suite_counts(results: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    golden_results.write(root, seeds=2)
    later = golden_results.golden_plan(seeds=8)
    stored = store.Results(root).save_plan(later, golden_results.MACHINE)
    assert stored.stored_at > golden_results.STARTED - 60
    made = build_one(root, tmp_path / "out", "json")
    assert json.loads((made.path / "claims.json").read_text())["plan"] == later.id


def test_a_plan_that_is_named_is_judged_and_not_the_newest(tmp_path: Path) -> None:
    root = tmp_path / "results"
    first = golden_results.write(root, seeds=2)
    store.Results(root).save_plan(golden_results.golden_plan(seeds=8), golden_results.MACHINE)
    (made,) = build(root, suite="golden", plan_id=first.id, out=tmp_path / "out", formats={"json"})
    assert made.plan == first.id
    assert json.loads((made.path / "claims.json").read_text())["plan"] == first.id
    with pytest.raises(KeyError, match="with id 0123"):
        build(root, plan_id="0123", out=tmp_path / "out")


# ---------------------------------------------------------------------------------------------- where it writes


@pytest.mark.parametrize("word", ["../outside", "/tmp/outside", "..", "a/b", ""])
@pytest.mark.parametrize("key", ["suite", "scale"])
def test_a_plan_whose_name_is_a_path_is_not_read_and_nothing_is_written(tmp_path: Path, key: str, word: str) -> None:
    root, out = tmp_path / "results", tmp_path / "deep" / "out"
    golden_results.write(root, seeds=2)
    (path,) = (root / "plans").iterdir()
    stored = json.loads(path.read_text())
    stored["plan"][key] = word
    stored["plan"]["spec"][key] = word
    path.write_text(json.dumps(stored))
    with pytest.raises(KeyError, match="holds no plan"):
        build(root, out=out)
    assert [one.name for one in tmp_path.iterdir()] == ["results"]


def test_a_plan_named_otherwise_than_its_suite_is_not_read(tmp_path: Path) -> None:
    golden_results.write(tmp_path, seeds=2)
    (path,) = (tmp_path / "plans").iterdir()
    stored = json.loads(path.read_text())
    stored["plan"]["suite"] = "other"
    path.write_text(json.dumps(stored))
    (problem,) = store.Results(tmp_path).unreadable_plans()
    assert "holds another suite or scale" in str(problem)


@pytest.mark.parametrize("link", ["golden", "golden/figures", "golden/tables"])
def test_no_report_is_written_through_a_link_that_leads_outside(results: Path, tmp_path: Path, link: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "out" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(store.UnsafeName, match="outside"):
        build_one(results, tmp_path / "out")
    assert not any((tmp_path / "elsewhere").iterdir())


# ---------------------------------------------------------------------------------------------- what it says


def test_claims_json_has_every_claim_with_its_numbers(report: Report) -> None:
    held = json.loads((report.path / "claims.json").read_text())
    assert held["suite"] == "golden"
    by_id = {claim["id"]: claim for claim in held["claims"]}
    assert list(by_id) == list(golden_results.golden_claims())
    wanted = {
        "id",
        "says",
        "state",
        "estimate",
        "low",
        "high",
        "unit",
        "n",
        "p",
        "p_adjusted",
        "reason",
        "scope",
        "family",
        "post_hoc",
        "notes",
    }
    assert all(wanted <= set(claim) for claim in by_id.values())
    assert by_id["better-per-token"]["state"] == "supported"
    assert by_id["as-good-as-total"]["state"] == "refuted"
    assert by_id["flops-follow-active"]["estimate"] == pytest.approx(702 / 704)


def test_the_first_screen_counts_the_verdicts(report: Report) -> None:
    held = json.loads((report.path / "claims.json").read_text())
    text = report.page.read_text()
    for state, n in held["counts"].items():
        assert n == sum(claim["state"] == state for claim in held["claims"])
        assert n == held["primary"][state] + held["exploratory"][state]
        for kind in ("primary", "exploratory"):
            if part := held[kind][state]:
                line = text[text.index(f'<span class="of">{kind.capitalize()}') :].partition("</p>")[0]
                assert re.search(rf"<b>{part}</b> {state.replace('_', ' ')}", line)
    assert '<span class="of">Exploratory, uncorrected</span>' in text
    assert "8 seeds × 3 models" in text
    assert "24 of 24 runs done" in text


def test_each_verdict_shows_state_interval_asked_n_and_scope(report: Report) -> None:
    text = report.page.read_text()
    for verdict in report.verdicts:
        row = text[text.index(f'id="claim-{verdict.id}"') :].partition("</li>")[0]
        assert {"supported": "▲", "refuted": "▼", "inconclusive": "◆"}[verdict.state] in row
        assert verdict.state.upper() in row
        assert verdict.says.replace("'", "&#39;") in row
        assert f"<small>{verdict.standing}</small>" in row
        assert "asked" in row
        assert verdict.scope in row


def test_a_refuted_claim_is_printed_as_large_as_a_supported_one(report: Report) -> None:
    text = report.page.read_text()
    shapes = {}
    for verdict in report.verdicts:
        row = text[text.index(f'id="claim-{verdict.id}"') :].partition("</li>")[0]
        shapes[verdict.state] = re.findall(r'class="(says|number|evidence|state)"', row)
    assert shapes["supported"] == shapes["refuted"]


def test_a_caveat_stands_in_every_view(report: Report) -> None:
    caveat = "crossing on an undecayed curve"
    verdict = next(v for v in report.verdicts if v.id == "flops-to-quality")
    assert caveat in verdict.caveats
    text, markdown = report.page.read_text(), (report.path / "index.md").read_text()
    row = text[text.index('id="claim-flops-to-quality"') :].partition("<details")[0]
    assert caveat in row, "beside the number, not in the fold"
    (line,) = [line for line in markdown.splitlines() if line.startswith("| ") and verdict.says in line]
    assert caveat in line
    drawn = re.sub(r"<[^>]+>", " ", (report.path / "figures" / "claims.svg").read_text())
    assert "undecayed" in drawn
    assert caveat in " ".join(verdict_text(report.verdicts, path=report.path).split()).replace(" curve", " curve")
    assert caveat in (report.path / "tables" / "claims.csv").read_text()


def test_exploratory_claims_are_quieter_than_primary_ones(report: Report) -> None:
    text = report.page.read_text()
    for verdict in report.verdicts:
        classes = re.search(rf'<li class="([^"]+)" id="claim-{verdict.id}"', text)
        assert classes
        assert ("quiet" in classes[1].split()) == (verdict.label != "primary")


def test_what_is_wider_than_the_page_says_that_it_scrolls(report: Report) -> None:
    text = report.page.read_text()
    assert text.count('class="hint"') == text.count('class="scroll"') + text.count('class="plot"')


def test_figures_and_tables_stand_in_a_section_that_there_is() -> None:
    for name, one in {**FIGURES, **TABLES}.items():
        assert one.section in {None, "verdicts", *SECTIONS_MADE}, name
    assert {one.section for one in FIGURES.values()} <= {"verdicts", *SECTIONS_MADE}


def test_a_figure_and_a_table_of_one_line_each_stand_where_they_say(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the dicts' lines is needed: the page asks what is declared, in the order that is declared."""

    @part("quality", order=0)
    def spread(findings: Findings) -> str:
        return f"No spread is known of {findings.study.models[0]}."

    @part("quality", order=5)
    def seeds(findings: Findings) -> Table:
        frame = findings.study.runs[["model", "seed"]]
        return Table(title="Seeds by model", note="", frame=frame, columns=(text("model", "model"),))

    @part("quality", asked=lambda findings: findings.many)
    def unasked(_findings: Findings) -> str:
        raise AssertionError("drawn for a csv alone")

    monkeypatch.setitem(FIGURES, "spread", spread)
    monkeypatch.setitem(TABLES, "seeds", seeds)
    made = build_one(results, tmp_path, formats="html,md,csv")
    page = (made.path / "index.md").read_text()
    quality = page[page.index("## Quality") : page.index("## Where it sits")]
    assert quality.index("No spread") < quality.index("Small: seeds") < quality.index("Seeds by model")
    assert (made.path / "tables" / "seeds.csv").read_text().startswith("model,seed\n")
    assert "tab-seeds" in made.page.read_text()
    monkeypatch.setitem(FIGURES, "unasked", unasked)
    assert "unasked" not in str(sections(made_findings(results)))


def test_every_section_is_there_in_order(page: Page) -> None:
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS


def test_markdown_and_html_say_the_same(report: Report) -> None:
    markdown, text = (report.path / "index.md").read_text(), report.page.read_text()
    for figure in DRAWN:
        assert f"(figures/{figure}.svg)" in markdown
        assert f'id="fig-{figure}"' in text
    assert markdown.count("SUPPORTED") == sum(v.state == "supported" for v in report.verdicts)


def test_a_figures_title_is_its_alternative_text(report: Report) -> None:
    text = report.page.read_text()
    assert text.count('role="img"') == len(DRAWN)
    for figure in DRAWN:
        assert f'aria-labelledby="{figure}-title"' in text
        assert f'<h3 id="{figure}-title">' in text


def test_tables_hold_raw_numbers(report: Report) -> None:
    with (report.path / "tables" / "costs.csv").open() as file:
        rows = {(row["metric"], row["model"]): row for row in csv.DictReader(file)}
    row = rows["cost.weight_bytes", "moe_8x2"]
    assert float(row["value"]) == 4 * 321_000
    assert float(row["ratio"]) == pytest.approx(321_000 / 117_200)
    assert row["low"] == ""
    timed = rows["speed.train_step_s", "moe_8x2"]
    assert float(timed["low"]) < float(timed["ratio"]) < float(timed["high"])
    assert ("speed.train_step_s", "dense vs itself (A/A)") in rows


def test_the_number_of_seeds_drawn_is_the_number_in_the_table(report: Report) -> None:
    with (report.path / "tables" / "curves.csv").open() as file:
        seeds = {(row["model"], row["seed"]) for row in csv.DictReader(file)}
    assert len(seeds) == 24
    assert "thin lines are seeds (n = 8)" in report.page.read_text()


# ---------------------------------------------------------------------------------------------- how it is made


def test_the_page_fetches_nothing(page: Page, report: Report) -> None:
    assert all(target.startswith(("#", "data:")) for target in page.fetches)
    text = report.page.read_text()
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", text)) - {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert outside == set()
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_unique_and_references_lead_somewhere(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {target[1:] for target in page.fetches if target.startswith("#")} <= set(page.ids)


def test_tables_can_be_sorted_by_raw_numbers(report: Report) -> None:
    text = report.page.read_text()
    assert text.count('<table class="sortable">') >= 6
    assert '<th scope="col" class="num"><button type="button">' in text
    assert 'data-v="1284000' in text
    assert "aria-sort" in text


def test_dark_and_print_are_styled(report: Report) -> None:
    text = report.page.read_text()
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert "var(--ink)" in text.partition('role="img"')[2]


def test_figures_carry_no_date(report: Report) -> None:
    for path in (report.path / "figures").glob("*.svg"):
        assert "<dc:date>" not in path.read_text()


def test_torch_is_never_imported(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from moebench.reporting import build, study;"
        f"build({str(results)!r}, out={str(tmp_path)!r}, formats=['html', 'md', 'csv', 'json']);"
        f"study.load({str(results)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_path_of_this_machine_is_not_in_the_report(results: Path, report: Report) -> None:
    for path in report.path.rglob("*"):
        if path.is_file() and path.suffix != ".png":
            assert str(results.parent) not in path.read_text()


# ---------------------------------------------------------------------------------------------- text from outside


HOSTILE = 'Is <script>alert(1)</script> & "$x_{1}$" | `better` [here](javascript:x)?'


def test_that_tokens_were_the_same_is_read_from_digests(results: Path, report: Report) -> None:
    held = store.Results(results)
    evidence = gather(held, held.plans()[0])

    def says(evidence: Evidence) -> str:
        found = Findings(study=study(evidence), verdicts=(), controls=())
        (equal,) = [section for section in sections(found) if section.anchor == "equal"]
        return " ".join(equal.words)

    assert "All 24 runs read identical data" in says(evidence)
    changed = with_outcome(evidence, "dense", 3, digests={1: "f" * 16})
    assert "All 24 runs" not in says(changed)
    assert says(changed).count("with seed 3 did not see the same tokens up to step 1") == 2
    assert "not known" in says(replace(evidence, outcomes=()))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp("hostile")
    claims = golden_results.golden_claims()
    claims["better-per-token"]["says"] = HOSTILE
    plan = golden_results.golden_plan(question=HOSTILE, claims=claims)
    golden_results.write(root / "results", plan=plan)
    return build_one(root / "results", root / "out")


def test_text_from_outside_is_escaped_in_html(hostile: Report) -> None:
    text = hostile.page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;" in text
    assert text.count("<script>") == 1


def test_text_from_outside_is_inert_in_markdown(hostile: Report) -> None:
    prose = (hostile.path / "index.md").read_text().partition("<details>")[0]
    assert "<script>" not in prose.replace(r"\<script\>", "")
    assert not re.search(r"[^\\]\]\(javascript", prose)
    rows = [line for line in prose.splitlines() if line.startswith("| ▲") or line.startswith("| ▼")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_text_from_outside_is_quoted_in_csv(hostile: Report) -> None:
    with (hostile.path / "tables" / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["says"] == HOSTILE


def test_dollars_in_a_failure_are_not_mathematics(results: Path, tmp_path: Path) -> None:

    with settings():
        figure, (axes,) = canvas("title", "subtitle", height=1)
        axes.set_title("costs $a_{2}$ and <b> & more")
        svg = svg_file(Drawn(title="title", subtitle="subtitle", figure=figure)).decode()
    assert ">costs $a_{2}$ and &lt;b&gt; &amp; more<" in svg


# ---------------------------------------------------------------------------------------------- missing parts


def spoil(root: Path) -> None:
    """One run each that is missing, begun, failed, diverged and corrupt; no speed session; no sweep."""
    plan = golden_results.write(root)
    held = store.Results(root)
    paths = [held.job(run.id).path for run in plan.runs[:5]]
    for path in (paths[0], paths[1], paths[2], paths[3]):
        for file in path.iterdir():
            file.unlink()
    paths[1].joinpath("job.json").write_text("{}")
    held.job(paths[2].name).fail("oom", "killed by the kernel at step 7", 7, None)
    golden_results.write_run(root, plan, plan.runs[3], status="diverged")
    (paths[4] / "records.jsonl").write_text("torn")
    assert plan.tune is not None
    timed = [folder.path for folder in golden_results.process_folders(root, plan)]
    for folder in (*timed, held.tune(plan.tune.id).path):
        for file in folder.iterdir():
            file.unlink()


def test_partial_results_say_what_is_missing(tmp_path: Path) -> None:
    spoil(tmp_path / "results")
    made = build_one(tmp_path / "results", tmp_path / "out")
    text = made.page.read_text()
    assert "Of 24 planned runs: 1 missing, 1 partial, 1 failed, 1 corrupt, 1 diverged." in text
    assert "INTERIM: not all planned runs are done" in text
    assert "oom: killed by the kernel at step 7" in text
    assert "loss is not finite at step 120" in text
    assert "No timings: the speed session has not been run." in text
    assert "The learning-rate sweep has not been run" in text
    assert [i for i in Page(text).ids if i in SECTIONS] == SECTIONS


def test_no_run_at_all_still_makes_a_page(tmp_path: Path) -> None:
    plan = golden_results.golden_plan()
    store.Results(tmp_path / "results").save_plan(plan, golden_results.MACHINE)
    made = build_one(tmp_path / "results", tmp_path / "out")
    text = made.page.read_text()
    assert "0 of 24 runs done" in text
    assert "No run is complete yet." in text
    assert [i for i in Page(text).ids if i in SECTIONS] == SECTIONS
    assert {v.state for v in made.verdicts} & {"not_tested", "invalid", "inconclusive"}


def test_one_seed_makes_a_page_without_intervals(tmp_path: Path) -> None:
    golden_results.write(tmp_path / "results", seeds=1)
    text = build_one(tmp_path / "results", tmp_path / "out").page.read_text()
    assert "1 seed × 3 models" in text
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+", "", text.lower().replace("nano", ""))


def test_a_suite_without_claims_only_measures(tmp_path: Path) -> None:
    golden_results.write(tmp_path / "results", plan=golden_results.golden_plan(claims={}))
    made = build_one(tmp_path / "results", tmp_path / "out")
    assert made.verdicts == ()
    assert "This suite makes no claims: it only measures." in made.page.read_text()


# ----------------------------------------------------------------------------------------------------
# `report --all`: one page over every suite, with its question and its verdicts, whole or not.


HOSTILE_ALL = 'Is <script>alert(1)</script> & "$x_{1}$" | `better`?'
FAST = ("html", "json")


@pytest.fixture(scope="module")
def results_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two suites: one whole and with a question that is hostile, one that has only begun."""
    root = tmp_path_factory.mktemp("all") / "results"
    golden_results.write(root, seeds=6, question=HOSTILE_ALL)
    plan = golden_systems.sweep_plan()
    store.Results(root).save_plan(plan, golden_results.MACHINE)
    (root / "plans" / "spoilt@default-1.json").write_text('{"<b>": 1}')
    return root


@pytest.fixture(scope="module")
def made(results_all: Path, tmp_path_factory: pytest.TempPathFactory) -> Overview:
    return build_all(results_all, out=tmp_path_factory.mktemp("out"), formats=FAST)


def test_every_suite_stands_there_with_its_question_and_every_verdict(made: Overview) -> None:
    text = made.page.read_text()
    assert [report.suite for report in made.reports] == ["expert_count", "golden"]
    for report in made.reports:
        claims = json.loads((report.path / "claims.json").read_text())
        for claim in claims["claims"]:
            row = text[text.index(f'id="{report.suite}-claim-{claim["id"]}"') :].partition("</li>")[0]
            assert STATES[claim["state"]] in row
            assert claim["scope"].partition(" (")[0] in row
            assert f'href="{report.suite}/index.html#claim-{claim["id"]}"' in row
            assert f'id="claim-{claim["id"]}"' in report.page.read_text()
    for words in ("2-core x86_64 CPU", "Nov 2026", "These are nano models"):
        assert words in text


def test_a_refuted_claim_is_as_large_as_a_supported_one(made: Overview) -> None:
    rows = re.findall(r'<li class="verdict (\S+?)( quiet)?"', made.page.read_text())
    assert {"supported", "refuted"} <= {state for state, _ in rows}
    sizes = re.findall(r"\n([^\n{]*)\{[^}]*font-size", made.page.read_text())
    assert not [rule for rule in sizes if any(state in rule for state in ("supported", "refuted"))]


def test_what_is_unfinished_or_does_not_read_says_so(made: Overview) -> None:
    text = made.page.read_text()
    begun = text[text.index('<section id="expert_count">') :].partition("</section>")[0]
    assert "Unfinished. Of" in begun
    assert "missing" in begun
    golden = text[text.index('<section id="golden">') :].partition("</section>")[0]
    assert "Unfinished" not in golden
    assert "A plan does not read: spoilt@default-1.json" in text
    for file in ("index.html", "index.md"):
        assert str(made.path) not in (made.path / file).read_text()


def test_the_page_fetches_nothing_and_escapes_what_came_from_outside(made: Overview) -> None:
    text = made.page.read_text()
    page = Page(text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert "@import" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert page
    plain = (made.path / "index.md").read_text()
    assert "<script>" not in plain.replace("\\<script\\>", "")
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text


def test_the_overview_leads_to_the_claims_where_there_is_a_page_of_them(results_all: Path, tmp_path: Path) -> None:
    for link in (False, True):
        built = build_all(results_all, out=tmp_path, formats=("json",))
        for file, words in (("index.html", 'href="claims/index.html"'), ("index.md", "](claims/index.html)")):
            assert (words in (built.path / file).read_text()) is link
        moebench.reporting.build_claims(tmp_path)


def test_two_builds_give_the_same_bytes_all(results_all: Path, made: Overview, tmp_path: Path) -> None:
    again = build_all(results_all, out=tmp_path, formats=FAST)
    for file in ("index.html", "index.md"):
        assert (again.path / file).read_bytes() == (made.path / file).read_bytes()


def test_a_suite_whose_report_fails_says_so_and_stops_no_other(
    results_all: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moebench.reporting.write

    def write(findings, path, wanted) -> None:  # type: ignore[no-untyped-def]
        if findings.plan.suite == "golden":
            raise ZeroDivisionError(f"in {results_all}/jobs: <b>")
        real(findings, path, wanted)

    monkeypatch.setattr(moebench.reporting, "write", write)
    runner = CliRunner()
    done = runner.invoke(
        main, ["report", "--all", "--results", str(results_all), "--out", str(tmp_path), "--format", "md"]
    )
    assert done.exit_code == 3
    assert "error: no report of golden: ZeroDivisionError: in results/jobs: <b>" in done.output
    text = (tmp_path / "index.html").read_text()
    assert "No report could be made" in text
    assert "ZeroDivisionError: in results/jobs: &lt;b&gt;" in text
    assert 'href="expert_count/index.md"' in text
    with pytest.warns(UserWarning, match="no report of golden"):
        (other,) = moebench.report(results_all, out=tmp_path)
    assert other.suite == "expert_count"


def test_one_suite_from_python(results_all: Path, tmp_path: Path) -> None:
    (one,) = moebench.report(results_all, suite="expert_count", out=tmp_path)
    assert one.page.is_file()
    assert not (tmp_path / "index.html").exists()


def test_all_and_a_name_or_a_folder_without_plans_are_errors(tmp_path: Path) -> None:
    named = CliRunner().invoke(main, ["report", "quickstart", "--all", "--results", str(tmp_path)])
    assert named.exit_code == 2
    assert "--all reports every suite" in named.output
    empty = CliRunner().invoke(main, ["report", "--all", "--results", str(tmp_path)])
    assert empty.exit_code == 2
    assert "holds no plan" in empty.output


def test_what_a_report_knows_of_routers_comes_from_the_plan() -> None:
    """No registry is asked: results of a plug-in router are reported where the plug-in is not installed."""
    package = Path(moebench.__file__).parent
    files = [file for wing in ("reporting", "claims", "reader") for file in (package / wing).rglob("*.py")]
    registry = re.compile(r"import.*ROUTERS|moebench\.models\.routers|moebench\.plugins")
    asking = [file.name for file in files if registry.search(file.read_text())]
    assert len(files) > 40
    assert asking == []
