"""`reports/index.html`: every suite of a results folder with its question, its verdicts and the way to its page.

A refuted claim stands as large as a supported one. A suite whose report failed, whose plan does not read or whose runs
are not all there says so in its place: nothing is left out for looking bad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from moebench.claims.verdict import Verdict
from moebench.format import plural
from moebench.reporting import page
from moebench.reporting.analysis import Findings
from moebench.reporting.sections import left_over


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One suite as it stands in the overview."""

    title: str
    """`suite` or `suite@scale`."""
    question: str
    answer: str
    """What became of its primary claims, in a sentence."""
    glance: tuple[str, ...] = ()
    """Seeds, models, machine, tokens and date."""
    scope: str = ""
    """Sizes, data and hardware for which its verdicts hold."""
    unfinished: str | None = None
    """How many planned runs are not complete, and why; None when all are."""
    verdicts: tuple[Verdict, ...] = ()
    link: str | None = None
    """Relative address of its page; None where none was made."""
    failed: str | None = None
    """Why it has no report."""

    @property
    def tallies(self) -> list[tuple[str, Mapping[str, int]]]:
        """How many claims of each state, primary and exploratory apart."""
        return [*page.tallies(self.verdicts)]


def entry(findings: Findings, *, link: str | None) -> Entry:
    """A suite whose report was made."""
    return Entry(
        title=findings.plan.title,
        question=findings.plan.spec.question,
        answer=page.answer(findings),
        glance=tuple(page.at_a_glance(findings)),
        scope=page.scope(findings),
        unfinished=_unfinished(findings),
        verdicts=findings.verdicts,
        link=link,
    )


def _unfinished(findings: Findings) -> str | None:
    missing = None if set(findings.study.runs["status"]) <= {"completed", "diverged"} else left_over(findings)
    untimed = findings.plan.speed is not None and findings.study.speed_reason
    return " ".join([*([missing] if missing else []), *([f"No timings: {untimed}."] if untimed else [])]) or None


def failed(title: str, question: str, why: str) -> Entry:
    """A suite that has no report."""
    return Entry(title=title, question=question, answer="No report could be made.", failed=why)


def link_to(title: str, formats: frozenset[str]) -> str | None:
    """Where a suite's page lies from the overview."""
    name = next((f"index.{kind}" for kind in ("html", "md") if kind in formats), None)
    return f"{quote(title)}/{name}" if name else None


def summary(entries: Sequence[Entry], unreadable: Sequence[str]) -> list[str]:
    """The overview's first lines: how many suites and claims, and what is not whole."""
    claims = [verdict for one in entries for verdict in one.verdicts]
    primary = sum(verdict.label == "primary" for verdict in claims)
    lines = [f"{plural(len(entries), 'suite')}, {plural(len(claims), 'claim')}, {primary} of them primary."]
    broken = [one.title for one in entries if one.failed]
    unfinished = [one.title for one in entries if one.unfinished]
    lines += [f"Without a report: {', '.join(broken)}."] if broken else []
    lines += [f"Unfinished: {', '.join(unfinished)}."] if unfinished else []
    lines += [f"A plan does not read: {problem}." for problem in unreadable]
    return lines
