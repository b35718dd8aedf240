"""The catalogue joined with the verdicts of a reports folder: what became of every claim that is told of mixtures.

Verdicts are read from each suite's `claims.json` and never computed again, so a row says what its suite's report says.
A suite without a report, and a claim that its report lacks, is not yet run; a report that does not read says so. The
answer of a row is that of its tests together, and no louder than they are: one that is not decided leaves it open.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ValidationError

from moebench.catalogue import Catalogue, Holds, Row
from moebench.claims.kinds import KINDS
from moebench.claims.verdict import Verdict
from moebench.store import MAX_FACTS_BYTES, CorruptFile, read_json
from moebench.store.files import words_of

Answered = Literal[
    "supported", "refuted", "depends", "inconclusive", "interim", "invalid", "not_run", "cited", "not_tested"
]
ANSWERS: dict[Answered, tuple[str, str, str]] = {
    "supported": ("SUPPORTED", "▲", "every test of it was supported"),
    "refuted": ("REFUTED", "▼", "every test of it was refuted"),
    "depends": (
        "DEPENDS",
        "◧",
        "a part of it was supported and another refuted, or is cited as not so: on what, they say",
    ),
    "inconclusive": ("INCONCLUSIVE", "◆", "its tests do not all decide; what would is told with each"),
    "interim": ("INTERIM", "◇", "not all of its runs are done"),
    "invalid": ("INVALID", "✕", "a precondition of a test failed"),
    "not_run": ("NOT YET RUN", "·", "a suite that tests it has no results here"),
    "cited": ("CITED", "❝", "a fact that is cited, not measured"),
    "not_tested": ("NOT TESTED", "○", "it says why"),
}
"""State of a row -> its word, its sign and what it means, in the order in which they are told."""
HOLDS: dict[Holds, str] = {
    "holds": "it holds", "fails": "it does not hold", "depends": "it depends", "unknown": "no answer",
}  # fmt: skip
Agreement = Literal["agrees", "contradicts", "in part", "new", "open", "untested"]
AGREEMENTS: dict[Agreement, str] = {
    "agrees": "ours agrees",
    "contradicts": "ours contradicts it, at this scale",
    "in part": "ours agrees in part",
    "new": "ours stands alone",
    "open": "ours is open",
    "untested": "none of ours",
}
Part = Literal["test", "contrary", "beside"]
PARTS: dict[Part, str] = {"test": "", "contrary": "says the contrary", "beside": "beside it"}


@dataclass(frozen=True, kw_only=True)
class Told:
    """A claim of a suite as a row names it, with its verdict where there is one."""

    suite: str
    claim: str
    part: Part
    verdict: Verdict | None = None
    link: str | None = None
    """Address of the verdict from the page; None where there is no page of it."""
    missing: str = ""
    """Why there is no verdict."""

    @property
    def name(self) -> str:
        return f"{self.suite}/{self.claim}"

    @property
    def speaks(self) -> Literal["for", "against"] | None:
        """For or against the row; None where it does not decide."""
        if self.verdict is None or self.part == "beside" or self.verdict.state not in ("supported", "refuted"):
            return None
        return "for" if (self.verdict.state == "supported") == (self.part == "test") else "against"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One row of the page."""

    row: Row
    told: tuple[Told, ...]

    @property
    def state(self) -> Answered:
        told = [one for one in self.told if one.part != "beside"]
        deciding = [one for one in told if one.verdict is None or one.verdict.state != "cited"]
        if not deciding:
            return "cited" if self.row.cited or told else "not_tested"
        spoken = {one.speaks for one in deciding} | (
            {"against"} if self.row.cited and not self.row.cited.holds else set()
        )
        if {"for", "against"} <= spoken:
            return "depends"
        if any(one.verdict is None for one in deciding):
            return "not_run"
        if len(spoken) == 1 and None not in spoken:
            return "supported" if "for" in spoken else "refuted"
        states = {one.verdict.state for one in deciding if one.verdict}
        return next((state for state in ("invalid", "interim") if state in states), "inconclusive")

    @property
    def agreement(self) -> Agreement:
        """Our answer beside the literature's."""
        ours, theirs = self.state, self.row.literature.answer
        if ours in ("cited", "not_tested"):
            return "untested"
        if ours not in ("supported", "refuted", "depends"):
            return "open"
        if theirs == "unknown":
            return "new"
        same = {"supported": "holds", "refuted": "fails", "depends": "depends"}[ours] == theirs
        return "agrees" if same else "in part" if "depends" in (ours, theirs) else "contradicts"

    @property
    def suites(self) -> tuple[str, ...]:
        """Suites that decide it, each once."""
        return tuple(dict.fromkeys(one.suite for one in self.told if one.part != "beside"))


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The whole page."""

    catalogue: Catalogue
    rows: tuple[Answer, ...]
    unreadable: Mapping[str, str]
    """Suite -> why its report does not read."""

    @property
    def tally(self) -> dict[Answered, int]:
        """Rows by state, every state named."""
        found = Counter(one.state for one in self.rows)
        return {state: found[state] for state in ANSWERS}

    @property
    def agreements(self) -> dict[Agreement, int]:
        """Rows by how our answer stands to the literature's."""
        found = Counter(one.agreement for one in self.rows)
        return {word: found[word] for word in AGREEMENTS}

    def of(self, theme: str) -> tuple[Answer, ...]:
        """Rows of a theme, in order."""
        return tuple(one for one in self.rows if one.row.theme == theme)


NUMBERS = (
    "state", "label", "post_hoc", "metric", "treatment", "baseline", "estimate", "low", "high", "unit", "unbounded",
    "asked", "n", "units", "p", "p_adjusted", "scope", "reason", "needs", "caveats",
)  # fmt: skip
"""Fields of a verdict that the page's files repeat, as its suite's `claims.json` has them."""
COLUMNS = (
    "number", "id", "theme", "says", "documents", "answer", "agreement", "literature", "literature_says",
    "literature_source", "suite", "claim", "part", "state", "estimate", "low", "high", "unit", "effect", "asked", "n",
    "units", "scope", "note",
)  # fmt: skip


def as_json(found: Answers) -> dict[str, Any]:
    """The page for machines."""
    return {
        "counts": found.tally,
        "agreements": found.agreements,
        "documents": {str(number): about for number, about in found.catalogue.documents.items()},
        "unreadable": dict(found.unreadable),
        "claims": [
            {
                **one.row.model_dump(mode="json", exclude={"tests", "contrary", "beside"}),
                "answer": one.state,
                "agreement": one.agreement,
                "verdicts": [
                    {"suite": told.suite, "claim": told.claim, "part": told.part, **_numbers(told)} for told in one.told
                ],
            }
            for one in found.rows
        ],
    }


def _numbers(told: Told) -> dict[str, Any]:
    if told.verdict is None:
        return {"missing": told.missing}
    value = {**told.verdict.model_dump(mode="json"), "label": told.verdict.standing}
    return {**{name: value[name] for name in NUMBERS}, "effect": told.verdict.effect}


def as_csv(found: Answers) -> str:
    """A line for each verdict of each row, and one for a row that has none."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for one in found.rows:
        row, literature = one.row, one.row.literature
        fixed = {
            "number": row.number, "id": row.id, "theme": row.theme, "says": row.says,
            "documents": " ".join(map(str, row.documents)), "answer": one.state, "agreement": one.agreement,
            "literature": literature.answer, "literature_says": literature.says, "literature_source": literature.source,
            "note": (row.cited.says if row.cited else None) or row.not_tested,
        }  # fmt: skip
        for told in one.told or (None,):
            own = {"suite": told.suite, "claim": told.claim, "part": told.part, **_numbers(told)} if told else {}
            writer.writerow({**fixed, **own})
    return out.getvalue()


@dataclass(frozen=True, kw_only=True)
class _Reported:
    """One suite's report."""

    verdicts: Mapping[str, Verdict]
    """Claim -> its verdict."""
    page: str | None
    """The file of its page, if there is one."""


def answers(catalogue: Catalogue, reports: Path) -> Answers:
    """Every row with the verdicts that the reports of a folder hold."""
    suites = sorted({name.partition("/")[0] for row in catalogue.claims for name in row.named})
    read: dict[str, _Reported] = {}
    unreadable: dict[str, str] = {}
    for suite in suites:
        if (reports / suite / "claims.json").is_file():
            try:
                read[suite] = _reported(reports, suite)
            except CorruptFile as error:
                unreadable[suite] = error.reason
    rows = tuple(
        Answer(row=row, told=tuple(_told(name, part, read, unreadable) for name, part in _named(row)))
        for row in catalogue.claims
    )
    return Answers(catalogue=catalogue, rows=rows, unreadable=unreadable)


def _named(row: Row) -> list[tuple[str, Part]]:
    named: dict[Part, tuple[str, ...]] = {"test": row.tests, "contrary": row.contrary, "beside": row.beside}
    return [(name, part) for part, names in named.items() for name in names]


def _told(name: str, part: Part, read: Mapping[str, _Reported], unreadable: Mapping[str, str]) -> Told:
    suite, _, claim = name.partition("/")
    if suite not in read:
        missing = f"its report does not read: {unreadable[suite]}" if suite in unreadable else "not yet run"
        return Told(suite=suite, claim=claim, part=part, missing=missing)
    report = read[suite]
    if claim not in report.verdicts:
        return Told(suite=suite, claim=claim, part=part, missing="not yet run: the report of its suite is without it")
    link = f"../{quote(suite)}/{report.page}#claim-{quote(claim)}" if report.page else None
    return Told(suite=suite, claim=claim, part=part, verdict=report.verdicts[claim], link=link)


def _reported(reports: Path, suite: str) -> _Reported:
    """A suite's verdicts as its report has them. Raises CorruptFile."""
    path = reports / suite / "claims.json"
    value = read_json(path, most=MAX_FACTS_BYTES)
    try:
        if (value["suite"], value["scale"]) != (suite, None):
            raise CorruptFile(path, f"it is of {value['suite']}@{value['scale']}")
        verdicts = [_verdict(dict(one)) for one in value["claims"]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CorruptFile):
            raise
        short = error.errors()[0]["msg"] if isinstance(error, ValidationError) else words_of(error)
        raise CorruptFile(path, short) from None
    pages = (name for name in ("index.html", "index.md") if (reports / suite / name).is_file())
    return _Reported(verdicts={verdict.id: verdict for verdict in verdicts}, page=next(pages, None))


def _verdict(value: dict[str, Any]) -> Verdict:
    """A verdict from the form that a report writes it in, where two fields repeat what others say."""
    verdict = Verdict.model_validate({key: kept for key, kept in value.items() if key not in ("label", "finding")})
    if {verdict.kind, *(part.kind for part in verdict.parts)} - set(KINDS):
        raise ValueError(f"no kind of test {verdict.kind}")
    return verdict
