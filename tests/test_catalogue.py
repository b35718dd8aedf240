"""The catalogue of claims and its page: no row without an answer, no verdict that its suite's report does not have."""

from __future__ import annotations

import csv
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

import moebench
from moebench.catalogue import Catalogue, Row, catalogue
from moebench.claims.verdict import Verdict
from moebench.cli import main
from moebench.reporting import build_claims
from moebench.reporting.answers import AGREEMENTS, ANSWERS, NUMBERS, Answer, Answers, Told, answers, as_json
from moebench.store import UnsafeName
from moebench.suite.load import load_suite
from moebench.suite.words import bundled_names

ROOT = Path(moebench.__file__).parents[1]
REPORTS = ROOT / "reports" / "reference"


@functools.cache
def claims_of(suite: str) -> frozenset[str]:
    """The claims of a bundled suite; none where there is no such suite."""
    return frozenset(load_suite(suite).spec.claims) if suite in bundled_names() else frozenset()


def is_there(name: str) -> bool:
    suite, _, claim = name.partition("/")
    return claim in claims_of(suite)


# ------------------------------------------------------------------------------------------------ the catalogue


def test_the_catalogue_has_every_claim_once() -> None:
    rows = catalogue().claims
    assert [row.number for row in rows] == list(range(1, 109))
    assert len({row.id for row in rows}) == 108
    assert len({row.says for row in rows}) == 108
    assert set(catalogue().documents) == {number for row in rows for number in row.documents}


def test_no_row_is_without_an_answer() -> None:
    """A claim of a suite that is there, a citation or a sentence."""
    for row in catalogue().claims:
        deciding = (*row.tests, *row.contrary)
        answered = bool(row.cited or row.not_tested) if not deciding else all(map(is_there, deciding))
        assert answered, row.id


def test_no_claim_of_a_suite_is_named_that_is_not_there() -> None:
    named = {name for row in catalogue().claims for name in row.named}
    assert [name for name in sorted(named) if not is_there(name)] == []


def test_what_is_not_tested_says_why_and_what_is_cited_names_its_source() -> None:
    rows = catalogue().claims
    tested = [row for row in rows if row.tests or row.contrary]
    assert len(tested) >= 89
    assert [row.id for row in rows if not (row.tests or row.contrary or row.cited or row.not_tested)] == []
    for row in rows:
        assert row.says.endswith("."), row.id
        assert row.literature.says.endswith("."), row.id


def test_nothing_of_a_workplace_is_named() -> None:
    text = (ROOT / "moebench" / "claims_catalogue.yaml").read_text()
    assert not re.search(r"/work|shared/|\.txt|https?://(?!arxiv)", text)


RIGHT: dict[str, Any] = {
    "id": "better", "number": 1, "theme": "quality", "says": "It is better.", "documents": (1,),
    "literature": {"answer": "holds", "says": "Everybody says so.", "source": "Somebody 2020"},
    "tested": "Loss against loss.", "tests": ("golden/better",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tests": (), "tested": None}, "every row needs an answer"),
        ({"tested": None}, "both or none"),
        (
            {"tests": (), "contrary": (), "cited": {"holds": True, "says": "It is.", "source": "Us 2020"}},
            "both or none",
        ),
        ({"tests": (), "tested": None, "not_tested": "No.", "beside": ("golden/other",)}, "stands beside tests or"),
        ({"beside": ("golden/better",)}, "named twice"),
        ({"tests": ("no suite and claim",)}, "should match pattern"),
        ({"id": "Not An Id"}, "should match pattern"),
        ({"verdict": "supported"}, "Extra inputs"),
        ({"literature": {"answer": "true", "says": "Yes it does.", "source": "Us"}}, "'holds', 'fails'"),
        ({"says": ""}, "at least 3"),
    ],
)
def test_a_row_that_is_wrong_is_refused(change: dict[str, Any], words: str) -> None:
    assert Row.model_validate(RIGHT)
    with pytest.raises(ValidationError, match=re.escape(words)):
        Row.model_validate({**RIGHT, **change})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**RIGHT, "number": 2}], "not numbered from 1"),
        ([RIGHT, {**RIGHT, "number": 2}], "two rows of this id"),
        ([{**RIGHT, "theme": "speed"}], "no theme speed"),
        ([{**RIGHT, "documents": (1, 7)}], "no document 7"),
    ],
)
def test_a_catalogue_that_is_wrong_is_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        of(*rows)


# ------------------------------------------------------------------------------------------------ its answers


def of(*rows: dict[str, Any]) -> Catalogue:
    value = {"documents": {1: "A text"}, "themes": {"quality": "Quality"}, "claims": rows}
    return Catalogue.model_validate(value)


def verdict(name: str, state: str = "supported", **fields: Any) -> dict[str, Any]:
    """A claim of a report, as `claims.json` has it."""
    fixed = {
        "id": name, "says": f"{name} <b>says</b> it.", "state": state, "kind": "superior", "family": "primary",
        "metric": "test.bits_per_byte", "treatment": "moe", "baseline": "dense", "unit": "%", "estimate": -2.0,
        "low": -3.0, "high": -1.0, "asked": "lower", "n": 8, "reason": "it is clear", "scope": "nano <i>models",
    }  # fmt: skip
    made = Verdict.model_validate({**fixed, **fields})
    return {**made.model_dump(mode="json"), "label": made.standing}


def reported(folder: Path, suite: str, *claims: dict[str, Any], **fields: Any) -> Path:
    """A report on disk."""
    path = folder / suite
    path.mkdir(parents=True)
    (path / "claims.json").write_text(json.dumps({"suite": suite, "scale": None, "claims": claims, **fields}))
    (path / "index.html").write_text("a page")
    return path


def joined(folder: Path, **change: Any) -> Answer:
    (row,) = answers(of({**RIGHT, **change}), folder).rows
    return row


def told(part: str, state: str | None) -> Told:
    value = verdict("one", state) if state else None
    made = Verdict.model_validate({k: v for k, v in value.items() if k != "label"}) if value else None
    return Told(suite="golden", claim="one", part=part, verdict=made, missing="" if state else "not yet run")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claims", "state"),
    [
        ([("test", "supported")], "supported"),
        ([("test", "supported"), ("test", "supported")], "supported"),
        ([("test", "refuted"), ("contrary", "supported")], "refuted"),
        ([("contrary", "refuted")], "supported"),
        ([("test", "supported"), ("test", "refuted")], "depends"),
        ([("test", "supported"), ("contrary", "supported")], "depends"),
        ([("test", "supported"), ("test", "inconclusive")], "inconclusive"),
        ([("test", "supported"), ("test", "invalid")], "invalid"),
        ([("test", "supported"), ("test", "interim")], "interim"),
        ([("test", "not_tested")], "inconclusive"),
        ([("test", "supported"), ("test", None)], "not_run"),
        ([("test", None)], "not_run"),
        ([("test", None), ("beside", "supported")], "not_run"),
        ([("test", "refuted"), ("beside", "supported")], "refuted"),
        ([("test", "supported"), ("beside", None)], "supported"),
        ([("test", "cited")], "cited"),
        ([("test", "cited"), ("test", "refuted")], "refuted"),
    ],
)
def test_a_row_is_no_louder_than_its_tests(claims: list[tuple[str, str | None]], state: str) -> None:
    row = Row.model_validate(RIGHT)
    named = tuple(told(part, found) for part, found in claims)
    assert Answer(row=row, told=named).state == state
    assert {one.speaks for one in named if one.part == "beside"} <= {None}


@pytest.mark.parametrize(("state", "holds", "together"), [
    ("supported", True, "supported"), ("supported", False, "depends"), ("refuted", False, "refuted"),
    ("inconclusive", False, "inconclusive"), (None, False, "not_run"),
])  # fmt: skip
def test_a_cited_part_that_does_not_hold_counts_against_the_row(state: str | None, holds: bool, together: str) -> None:
    cited = {"holds": holds, "says": "A part of it.", "source": "Us 2020"}
    assert Answer(row=Row.model_validate({**RIGHT, "cited": cited}), told=(told("test", state),)).state == together


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [
        ("supported", "holds", "agrees"), ("supported", "fails", "contradicts"), ("supported", "depends", "in part"),
        ("refuted", "fails", "agrees"), ("refuted", "holds", "contradicts"), ("supported", "unknown", "new"),
        ("inconclusive", "holds", "open"), (None, "holds", "open"), ("invalid", "fails", "open"),
    ],
)  # fmt: skip
def test_agreement_with_the_literature(ours: str | None, theirs: str, word: str) -> None:
    literature = {**RIGHT["literature"], "answer": theirs}
    row = Row.model_validate({**RIGHT, "literature": literature})
    assert Answer(row=row, told=(told("test", ours),)).agreement == word
    cited = {**RIGHT, "tests": (), "tested": None, "cited": {"holds": True, "says": "So it is.", "source": "Us 2020"}}
    assert Answer(row=Row.model_validate(cited), told=()).agreement == "untested"


def test_a_suite_that_is_missing_is_not_yet_run_and_never_a_verdict(tmp_path: Path) -> None:
    found = joined(tmp_path)
    assert (found.state, found.told[0].verdict, found.told[0].missing) == ("not_run", None, "not yet run")
    reported(tmp_path, "golden", verdict("another"))
    assert joined(tmp_path).state == "not_run"
    assert "without it" in joined(tmp_path).told[0].missing


@pytest.mark.parametrize(
    "text",
    [
        "no json", "[]", "{}", '{"suite": "other", "scale": null, "claims": []}',
        '{"suite": "golden", "scale": "small", "claims": []}', '{"suite": "golden", "scale": null, "claims": [7]}',
        json.dumps({"suite": "golden", "scale": None, "claims": [{**verdict("better"), "kind": "of nothing"}]}),
        json.dumps({"suite": "golden", "scale": None, "claims": [{**verdict("better"), "state": "true"}]}),
    ],
)  # fmt: skip
def test_a_report_that_does_not_read_says_so_and_gives_no_verdict(tmp_path: Path, text: str) -> None:
    reported(tmp_path, "golden")
    (tmp_path / "golden" / "claims.json").write_text(text)
    found = answers(of(RIGHT), tmp_path)
    assert set(found.unreadable) == {"golden"}
    assert found.rows[0].state == "not_run"
    assert "does not read" in found.rows[0].told[0].missing


# ------------------------------------------------------------------------------------------------ its page


class Shown(HTMLParser):
    """Ids, addresses that a browser would fetch, and the rows with their data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.rows: dict[str, dict[str, str | None]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.ids += [held["id"]] if held.get("id") else []
        self.links += [held["href"]] if tag == "a" and held.get("href") else []
        self.fetched += [value for name, value in attrs if name == "src" or (name == "href" and tag != "a")]
        if tag == "article":
            self.rows[str(held["id"])] = held


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the shipped catalogue over two made-up reports."""
    out = tmp_path_factory.mktemp("reports")
    hostile = {"estimate": 2.5, "low": 2.0, "high": 3.0}
    reported(
        out, "efficiency_per_token", verdict("better-per-token"), verdict("as-good-as-total", "refuted", **hostile)
    )
    reported(out, "quickstart", verdict("better-per-token", "inconclusive", needs="40 seeds would decide"))
    return build_claims(out).path


def test_every_row_can_be_linked_to_and_every_link_leads_somewhere(page: Path) -> None:
    shown = Shown((page / "index.html").read_text())
    assert list(shown.rows) == [row.id for row in catalogue().claims]
    assert len(shown.ids) == len(set(shown.ids))
    for link in shown.links:
        if link.startswith("#"):
            assert link[1:] in shown.ids
        else:
            file, _, anchor = link.partition("#")
            assert (page / file).is_file()
            assert anchor.startswith("claim-")


def test_all_rows_are_visible_without_the_script_and_filters_know_every_row(page: Path) -> None:
    text = (page / "index.html").read_text()
    shown = Shown(text)
    assert not [row for row, held in shown.rows.items() if "hidden" in held]
    assert re.search(r'<form class="filters"[^>]* hidden>', text)
    for group in ("theme", "state", "agreement"):
        buttons = set(re.findall(rf'data-group="{group}" value="([^"]+)"', text))
        assert {held[f"data-{group}"] for held in shown.rows.values()} == buttons
    assert {held["data-state"] for held in shown.rows.values()} <= set(ANSWERS)
    assert {held["data-agreement"] for held in shown.rows.values()} <= set(AGREEMENTS)


def test_the_page_fetches_nothing_prints_and_escapes_what_came_from_outside(page: Path) -> None:
    text = (page / "index.html").read_text()
    assert [one for one in Shown(text).fetched if not one.startswith("data:")] == []
    assert "@import" not in text
    assert "url(" not in text
    assert "<b>says</b>" not in text
    assert "&lt;b&gt;says&lt;/b&gt;" in text
    assert "nano <i>models" not in text
    assert "<b>says" not in (page / "index.md").read_text()
    for words in ("@media print", "prefers-color-scheme: dark", "max-width: 44rem"):
        assert words in text


def test_what_would_decide_stands_with_what_is_undecided(page: Path) -> None:
    for file in ("index.html", "index.md"):
        assert "40 seeds would decide" in (page / file).read_text()


def test_html_markdown_csv_and_json_say_the_same(page: Path) -> None:
    shown = Shown((page / "index.html").read_text()).rows
    rows = json.loads((page / "claims.json").read_text())["claims"]
    assert {row["id"]: row["answer"] for row in rows} == {name: held["data-state"] for name, held in shown.items()}
    lines = list(csv.DictReader((page / "claims.csv").read_text().splitlines()))
    assert {line["id"]: line["answer"] for line in lines} == {row["id"]: row["answer"] for row in rows}
    markdown = (page / "index.md").read_text()
    for row in rows:
        assert f"### {row['number']} {row['id']}" in markdown
    for words in ("−2.0% [−3.0, −1.0]", "+2.50% [+2.00, +3.00]"):
        for file in ("index.html", "index.md", "claims.csv", "claims.json"):
            assert (
                words.replace(" ", "\N{NO-BREAK SPACE}") in (page / file).read_text()
                or words in (page / file).read_text()
            )


def test_two_pages_of_the_same_reports_are_the_same_bytes(page: Path, tmp_path: Path) -> None:
    before = {file: (page / file).read_bytes() for file in ("index.html", "index.md", "claims.csv", "claims.json")}
    build_claims(page.parent)
    assert before == {file: (page / file).read_bytes() for file in before}


def test_from_the_command_line(page: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["report", "--claims", "--out", str(tmp_path), "--format", "md,json"])
    assert done.exit_code == 0, done.output
    assert "108 claims: " in done.output
    assert sorted(path.name for path in (tmp_path / "claims").iterdir()) == ["claims.json", "index.md"]
    for wrong in (["quickstart"], ["--all"]):
        refused = CliRunner().invoke(main, ["report", "--claims", *wrong, "--out", str(tmp_path)])
        assert refused.exit_code == 2
        assert "it goes alone" in refused.output


def test_a_page_that_would_be_written_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "claims").symlink_to(tmp_path)
    with pytest.raises(UnsafeName):
        build_claims(tmp_path / "out")


# ------------------------------------------------------------------------------------------------ the committed page


@functools.cache
def committed() -> Answers:
    return answers(catalogue(), REPORTS)


def test_every_number_of_the_committed_page_is_that_of_its_suites_report() -> None:
    """`moebench report --claims --out reports/reference` after a suite's report has changed."""
    rows = json.loads((REPORTS / "claims" / "claims.json").read_text())["claims"]
    seen = 0
    for row in rows:
        for one in row["verdicts"]:
            file = REPORTS / one["suite"] / "claims.json"
            claims = json.loads(file.read_text())["claims"] if file.is_file() else []
            same = [claim for claim in claims if claim["id"] == one["claim"]]
            if "missing" in one:
                assert same == [], (row["id"], one)
                continue
            (claim,) = same
            assert {name: one[name] for name in NUMBERS} == {name: claim[name] for name in NUMBERS}
            seen += 1
    assert seen > 40


def test_the_committed_page_is_that_of_the_catalogue_and_the_reports() -> None:
    made = json.loads((REPORTS / "claims" / "claims.json").read_text())
    assert made == json.loads(json.dumps(as_json(committed())))
    shown = Shown((REPORTS / "claims" / "index.html").read_text()).rows
    assert [(name, held["data-state"]) for name, held in shown.items()] == [
        (row["id"], row["answer"]) for row in made["claims"]
    ]


def test_nothing_committed_is_unreadable_or_invalid() -> None:
    assert committed().unreadable == {}
    assert committed().tally["invalid"] == 0
