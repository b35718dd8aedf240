"""Tables of bookkeeping: the verdicts, every run, what is not complete, the curves; mostly files alone."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moebench.claims.verdict import Verdict
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.states import SHAPES, STATES
from moebench.reporting.tables.table import Column, Table, amount, text


@part(None)
def claims(findings: Findings) -> Table | None:
    """The verdicts, every field."""
    if not findings.verdicts:
        return None
    frame = pd.DataFrame([_claim_row(v) for v in findings.verdicts])
    return Table(
        title="Verdicts",
        note="The interval is 95%, not adjusted for other claims; p is one-sided in the asserted direction.",
        frame=frame,
        columns=(
            Column(
                key="state",
                title="state",
                show=lambda row: f"{SHAPES[row.state]} {STATES[row.state]}",
                number=False,
            ),
            text("label", "counts as"),
            text("id", "claim"),
            text("says", "says"),
        ),
    )


def _claim_row(v: Verdict) -> dict[str, Any]:
    """A verdict as cells: what it holds several of is one text."""
    several = ("scored", "beside", "matched_on", "unbounded", "caveats", "notes")
    text = v.scored
    return {
        "label": v.standing,
        **v.model_dump(exclude=set(several)),
        "unbounded": "; ".join(v.unbounded),
        "scored_bytes": None if text is None else text.scored_bytes,
        "scored_documents": None if text is None else text.documents,
        "asked_bytes": None if text is None else text.asked_bytes,
        **{f"{row.what} (treatment over baseline)": row.ratio for row in v.beside if row.ratio is not None},
        "matched_on": "; ".join(v.matched_on),
        "caveats": "; ".join(v.caveats),
        "notes": "; ".join(v.notes),
    }


@part(None)
def runs(findings: Findings) -> Table | None:
    """Every planned run and what became of it."""
    frame = findings.study.runs
    return Table(
        title="Runs",
        note="",
        frame=frame,
        columns=(
            text("model", "model"),
            amount("seed", "seed", lambda x: f"{x:g}"),
            text("id", "run"),
            text("status", "status"),
        ),
    )


@part("untested")
def unfinished(findings: Findings) -> Table | None:
    """Planned runs that are not complete, with the reason."""
    frame = findings.study.runs[findings.study.runs["status"] != "completed"]
    if frame.empty:
        return None
    return Table(
        title="Runs that are not complete",
        note="",
        frame=frame,
        columns=(
            text("model", "model"),
            amount("seed", "seed", lambda x: f"{x:g}"),
            text("status", "status"),
            text("reason", "reason"),
            text("id", "run"),
        ),
    )


@part(None)
def curves(findings: Findings) -> Table | None:
    """Loss at every evaluation point, the numbers behind the curves."""
    if findings.curves.empty:
        return None
    return Table(
        title="Loss at the evaluation points", note="", frame=findings.curves, columns=(text("model", "model"),)
    )
