"""`report --all`: one page over every suite, with its question and its verdicts, whole or not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import moebench
from moebench import store
from moebench.cli import main
from moebench.reporting import Overview, build_all
from moebench.reporting.states import STATES
from tests.support import golden_results, golden_sweep
from tests.test_report import Page

HOSTILE = 'Is <script>alert(1)</script> & "$x_{1}$" | `better`?'
FAST = ("html", "json")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two suites: one whole and with a question that is hostile, one that has only begun."""
    root = tmp_path_factory.mktemp("all") / "results"
    golden_results.write(root, seeds=6, question=HOSTILE)
    plan = golden_sweep.sweep_plan()
    store.Results(root).save_plan(plan, golden_results.MACHINE)
    (root / "plans" / "spoilt@default-1.json").write_text('{"<b>": 1}')
    return root


@pytest.fixture(scope="module")
def made(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Overview:
    return build_all(results, out=tmp_path_factory.mktemp("out"), formats=FAST)


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
    for part in ("2-core x86_64 CPU", "Nov 2026", "These are nano models"):
        assert part in text


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


def test_two_builds_give_the_same_bytes(results: Path, made: Overview, tmp_path: Path) -> None:
    again = build_all(results, out=tmp_path, formats=FAST)
    for file in ("index.html", "index.md"):
        assert (again.path / file).read_bytes() == (made.path / file).read_bytes()


def test_a_suite_whose_report_fails_says_so_and_stops_no_other(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moebench.reporting.write

    def write(findings, path, wanted) -> None:  # type: ignore[no-untyped-def]
        if findings.plan.suite == "golden":
            raise ZeroDivisionError(f"in {results}/jobs: <b>")
        real(findings, path, wanted)

    monkeypatch.setattr(moebench.reporting, "write", write)
    runner = CliRunner()
    done = runner.invoke(main, ["report", "--all", "--results", str(results), "--out", str(tmp_path), "--format", "md"])
    assert done.exit_code == 3
    assert "error: no report of golden: ZeroDivisionError: in results/jobs: <b>" in done.output
    text = (tmp_path / "index.html").read_text()
    assert "No report could be made" in text
    assert "ZeroDivisionError: in results/jobs: &lt;b&gt;" in text
    assert 'href="expert_count/index.md"' in text
    with pytest.warns(UserWarning, match="no report of golden"):
        (other,) = moebench.report(results, out=tmp_path)
    assert other.suite == "expert_count"


def test_one_suite_from_python(results: Path, tmp_path: Path) -> None:
    (one,) = moebench.report(results, suite="expert_count", out=tmp_path)
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
