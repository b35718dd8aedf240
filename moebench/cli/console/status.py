"""What `status` prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.cli.console import printed, table
from moebench.format import plural
from moebench.text import plain

if TYPE_CHECKING:
    from moebench.reader.status import SuiteStatus

MOST_TOLD = 20
"""Jobs named one by one in each state; the others are counted."""


def status_json(suites: list[SuiteStatus]) -> list[dict[str, Any]]:
    """Everything, for machines."""
    return [{**asdict(one), "counts": one.counts, "next": one.next} for one in suites]


def status_text(suites: list[SuiteStatus], root: Path) -> str:
    """A line a suite, then what is not as it should be, then what goes on with it."""
    if not suites:
        return f"{plain(root)} holds no plan of a suite"
    states = tuple(suites[0].counts)
    rows = [
        (one.suite, one.plan, *(n or "" for n in one.counts.values()), f"{one.num_bytes / 1e6:,.1f} MB")
        for one in suites
    ]
    return printed(table(f"{plain(root)}", ("suite", "plan", *states, "on disk"), rows, left=2), *_told(suites))


def _told(suites: list[SuiteStatus]) -> list[str]:
    lines: list[str] = []
    for one in suites:
        if one.looks:
            lines.append(f"{one.suite}: {one.looks}")
        for state in ("running", "failed", "blocked"):
            jobs = [job for job in one.jobs if job.state == state]
            lines += [
                f"{one.suite}: {state}: {job.name}" + (f": {job.reason}" if job.reason else "")
                for job in jobs[:MOST_TOLD]
            ]
            if len(jobs) > MOST_TOLD:
                lines.append(f"{one.suite}: {state}: {len(jobs) - MOST_TOLD} more")
        if one.next:
            kinds = ", ".join(f"{n} {kind}" for kind, n in one.next.items())
            lines.append(f"{one.suite}: {plural(sum(one.next.values()), 'job')} to do ({kinds}): {one.command}")
    return ["", *lines] if lines else []
