"""The table of what becomes of each claim on loss one step beside the best learning rates."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moebench.claims.verdict import Effect, Sensitivity, Verdict
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, text


@part("sure", order=3)
def sensitivity(findings: Findings) -> Table | None:
    """Every claim on loss at the second-best rate of each of its models."""
    rows = [_row(verdict, found) for verdict in findings.verdicts if (found := verdict.sensitivity) is not None]
    if not rows:
        return None
    return Table(
        title="At the second-best rate",
        note="From the runs of the tuning sweep, on the tune split, with t intervals over tuning seeds: every model at "
        "its best rate, and every model at the better of the two rates next to it. Where the sign there is another, "
        "and that interval and the claim's own are clear of zero, the claim is invalid. One model moved alone is "
        "handicapped by that: it is shown, and held against nothing.",
        frame=pd.DataFrame(rows),
        columns=(
            text("claim", "claim"),
            text("effect", "measured"),
            text("at_best", "at the best rates"),
            text("at_second", "at the second-best"),
            text("alone", "one model there alone"),
            text("rates", "second-best rates"),
            Column(key="seeds", title="tuning seeds", show=_seeds),
            text("reason", "why not"),
        ),
    )


def _row(verdict: Verdict, found: Sensitivity) -> dict[str, Any]:
    def words(effect: Effect | None) -> str:
        return "–" if effect is None else effect.words(verdict.unit)

    def number(effect: Effect | None, end: str) -> float | None:
        return None if effect is None else getattr(effect, end)

    return {
        "claim": verdict.id,
        "state": verdict.state,
        "effect": verdict.effect or "–",
        "at_best": words(found.at_best),
        "at_second": words(found.at_second),
        "second_estimate": number(found.at_second, "estimate"),
        "second_low": number(found.at_second, "low"),
        "second_high": number(found.at_second, "high"),
        "unit": verdict.unit,
        "alone": "; ".join(f"{name} {words(effect)}" for name, effect in found.alone.items()) or "–",
        "rates": ", ".join(f"{name} {rate:g}" for name, rate in found.rates.items()) or "–",
        "seeds": found.seeds,
        "reason": found.reason or "",
    }


def _seeds(row: Row) -> str:
    return str(row.seeds) if row.seeds else "–"
