"""Tables of bookkeeping: the verdicts, every run, what is not complete, the curves; mostly files alone."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moebench.claims.verdict import Verdict
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Table, amount, text


@part(None)
def claims(findings: Findings) -> Table | None:
    """The verdicts, every field."""
    rows = [_claim_row(verdict) for verdict in findings.verdicts]
    return Table(frame=pd.DataFrame(rows)) if rows else None


def _claim_row(v: Verdict) -> dict[str, Any]:
    """A verdict as cells: what it holds several of is one text."""
    several = ("source", "scored", "beside", "matched_on", "unbounded", "caveats", "notes")
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
    return Table(frame=findings.study.runs)


@part("untested")
def unfinished(findings: Findings) -> Table | None:
    """Planned runs that are not complete, with the reason."""
    frame = findings.study.runs[findings.study.runs["status"] != "completed"]
    if frame.empty:
        return None
    seed = amount("seed", "seed", lambda x: f"{x:g}")
    others = [text(key, title) for key, title in (("status", "status"), ("reason", "reason"), ("id", "run"))]
    return Table(title="Runs that are not complete", frame=frame, columns=(text("model", "model"), seed, *others))


@part(None)
def curves(findings: Findings) -> Table | None:
    """Loss at every evaluation point, the numbers behind the curves."""
    return None if findings.curves.empty else Table(frame=findings.curves)
