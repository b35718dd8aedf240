"""Tables of how sure one can be: the sweep, controls, the smallest effect, the error rates of the method."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from moebench.claims import error_rates
from moebench.format import interval, number, plural
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.states import CONTROLS, STATES, UNITS
from moebench.reporting.tables.table import Column, Row, Table, amount, text, whole


@part(None)
def tuning(findings: Findings) -> Table | None:
    """The tuning sweep, run by run."""
    if findings.study.tune is None:
        return None
    rows = [
        {
            "model": model, "lr": point["lr"], **point.get("over", {}), "seed": point["seed"],
            "bits_per_byte": point["bits_per_byte"], "reason": point["reason"],
            **({"extension": point.get("extension", False)} if "extended" in findings.study.tune else {}),
            "best_lr": held["best_lr"], "interior": held["interior"], "configured_lr": held["configured_lr"],
        }
        for model, held in findings.study.tune["models"].items()
        for point in held["curve"]
    ]  # fmt: skip
    return Table(frame=pd.DataFrame(rows).astype({"bits_per_byte": "float64"}))


@part("sure", order=1)
def controls(findings: Findings) -> Table | None:
    """Checks of the instrument and what came of them."""
    if not findings.controls:
        return None
    rows = [{**c.model_dump(), "effect": c.effect} for c in findings.controls]
    return Table(
        title="Controls",
        note="A failed control speaks against the measurement, not the models: claims that rest on it are INVALID. "
        "Intervals are 99%.",
        frame=pd.DataFrame(rows),
        columns=(
            text("id", "control"),
            Column(key="state", title="outcome", show=lambda row: CONTROLS[row.state], number=False),
            Column(key="estimate", title="effect", show=lambda row: row.effect or "–"),
            text("n", "n"),
            text("reason", "why"),
        ),
    )


@part("sure", order=2)
def looks(findings: Findings) -> Table | None:
    """What each of the planned looks said of each claim."""
    if findings.course is None or findings.course.last.stage.of == 1:
        return None
    rows = [
        {
            "look": look.stage.number, "seeds": look.stage.seeds, "level": 100 * look.stage.level, "claim": v.id,
            "state": v.state, "decided_at": v.look if v.state in ("supported", "refuted") else None, "effect": v.effect,
            "p": v.p, "p_adjusted": v.p_against_adjusted if v.state == "refuted" else v.p_adjusted,
        }
        for look in findings.course.looks
        for v in look.verdicts
        if v.units != "counts"
    ]  # fmt: skip
    return Table(
        title="Planned looks",
        note="The levels add up to 2.5%, one-sided: Bonferroni over looks, and Holm at each over the primary claims "
        "that are not decided yet. A claim keeps the verdict of the look that decided it.",
        frame=pd.DataFrame(rows).astype({"decided_at": "Int64", "p": "float64", "p_adjusted": "float64"}),
        columns=(
            amount("look", "look", whole),
            amount("seeds", "seeds", whole),
            amount("level", "level", lambda x: f"{number(x, 2)}%"),
            text("claim", "claim"),
            Column(key="state", title="state", show=lambda row: STATES[row.state], number=False),
            text("effect", "estimate [95%]"),
            amount("p_adjusted", "p, adjusted", lambda x: f"{x:.2g}"),
        ),
    )


@part("sure", order=3)
def smallest(findings: Findings) -> Table | None:
    """The smallest effect each claim could have seen."""
    fields = ("state", "detectable", "unit", "n", "units", "units_needed", "units_low", "units_high")
    seen = [v for v in findings.verdicts if v.detectable is not None]
    rows = [{"claim": v.id, **{field: getattr(v, field) for field in fields}} for v in seen]
    if not rows:
        return None
    return Table(
        title="Smallest detectable effect (80% power)",
        note="Distance from the threshold that would be detected at this n, with the spread that was seen. How many "
        "would decide, the next look counted, for effects in its 80% interval.",
        frame=pd.DataFrame(rows).astype(dict.fromkeys(("units_needed", "units_low", "units_high"), "Int64")),
        columns=(
            text("claim", "claim"),
            Column(key="state", title="state", show=lambda row: STATES[row.state], number=False),
            Column(key="detectable", title="smallest effect", show=_smallest),
            Column(key="n", title="n", show=lambda row: plural(int(row.n), *UNITS[row.units])),
            Column(key="units_low", title="needed to decide", show=_needed),
        ),
    )


def _smallest(row: Row) -> str:
    return interval(row.detectable, None, None, row.unit).lstrip("+")


def _needed(row: Row) -> str:
    if pd.isna(row.units_low):
        return "–"
    if pd.isna(row.units_high):
        return f"at least {whole(row.units_low)}"
    return f"{whole(row.units_low)} to {whole(row.units_high)}"


@part("limits")
def limits(_findings: Findings) -> Table | None:
    """How often the method errs where its assumptions hold and where they do not."""

    def percent(key: str, title: str) -> Column:
        return amount(key, title, lambda x: f"{number(100 * x, 1)}%")

    return Table(
        title="Error rates of the method, simulated",
        note=f"The truth lies at the bound, {error_rates.TRIALS:,} samples a row; the tail of the log-normal is on the "
        "side of the claim.",
        frame=pd.DataFrame([asdict(row) for row in error_rates.table()]),
        columns=(
            text("law", "effects"),
            amount("n", "pairs", whole),
            percent("covered", "95% interval holds the truth"),
            percent("supported", "falsely supported"),
            percent("refuted", "falsely refuted"),
        ),
    )
