"""Published findings beside what came of them here."""

from __future__ import annotations

import pandas as pd

from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.states import STATES
from moebench.reporting.tables.table import Column, Table, text


@part("published")
def published(findings: Findings) -> Table | None:
    """Every claim with a source: where it was published, and whether it was reproduced at this scale."""
    rows = [
        {
            "claim": v.id,
            "says": v.says,
            "published": v.source.cited,
            "finding": v.finding,
            "state": v.state,
            "label": v.standing,
            "effect": v.effect,
            "quote": v.source.quote,
        }
        for v in findings.verdicts
        if v.source is not None and v.finding
    ]
    if not rows:
        return None
    return Table(
        title="Published findings, at this scale",
        note="Reproduced: the claim is SUPPORTED here; contradicted: REFUTED; undecided: INCONCLUSIVE. What is "
        "asked is the direction, at this size and on these data, and no published number.",
        frame=pd.DataFrame(rows),
        columns=(
            text("says", "finding"),
            text("published", "published in"),
            text("finding", "at this scale"),
            Column(key="effect", title="effect with 95% interval", show=lambda row: row.effect or "–"),
            Column(key="state", title="verdict", show=lambda row: f"{STATES[row.state]} ({row.label})", number=False),
        ),
    )
