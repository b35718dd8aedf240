"""The table of what each mixture is worth: the dense model of equal loss, and its leverage in FLOPs, time and bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from moebench.format import count, interval, quantity
from moebench.leverage.bootstrap import Reach
from moebench.reporting.analysis import Findings, Mean
from moebench.reporting.figures.leverage import leverage_text
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, amount, text
from moebench.reporting.worth import LAWS, METRICS, Worth, Worths, worths

_SHOWN = {
    "effective_params": ("parameters", "dense parameters of equal loss"),
    "leverage.flops": ("ratio", "leverage, FLOPs"),
    "leverage.seconds": ("ratio", "leverage, time"),
    "leverage.bytes": ("ratio", "leverage, weight bytes"),
}
"""Metric -> its unit, and the heading of its column."""


@part("answer", order=1, asked=lambda findings: worths(findings) is not None)
def leverage(findings: Findings) -> Table | None:
    """Each mixture, the dense model of equal loss, and how many times its cost that one has."""
    held = worths(findings)
    if held is None or not held.mixtures:
        return None
    made = held.all
    return Table(
        title=f"What dense model each mixture is worth, on the ladder {held.name}",
        note=" ".join([*_not_to_be_relied_on(findings), _note(made)]),
        frame=pd.DataFrame([_row(held, one) for one in made]),
        columns=(
            text("model", "model"),
            amount("active_params", "active parameters", count),
            amount("train_flops", "training FLOPs", lambda x: quantity(x, "FLOPs")),
            amount("tokens_per_weight", "tokens a weight", lambda x: f"{x:.3g}"),
            *(_between(_key(metric), title, unit) for metric, (unit, title) in _SHOWN.items()),
            *(text(_law_key(floor), f"leverage, FLOPs, by {LAWS[floor]}") for floor in LAWS),
        ),
    )


def _not_to_be_relied_on(findings: Findings) -> Iterator[str]:
    """That a claim on these numbers is INVALID, where one is: they rest on the same runs."""
    on_it = [v for v in findings.verdicts if v.state == "invalid" and v.metric in METRICS]
    if on_it:
        yield f"Not to be relied on: {on_it[0].id} is INVALID, as {on_it[0].reason}."


def _row(held: Worths, one: Worth) -> dict[str, object]:
    planned = held.findings.plan.decoders[one.model]
    recipe, active = planned.recipe, planned.costs.params.active
    row: dict[str, object] = {
        "model": one.model,
        "active_params": active,
        "train_flops": planned.expected_train_flops,
        "tokens_per_weight": recipe.steps * recipe.batch_tokens / planned.costs.params.total,
    }
    for metric in _SHOWN:
        value = one.values.get(metric)
        for name, number in _cells(value).items():
            row[f"{_key(metric)}{name}"] = number
    return row | {_law_key(floor): law_text(one.laws.get(floor)) for floor in LAWS}


def _key(metric: str) -> str:
    return metric.replace(".", "_")


def _law_key(floor: bool) -> str:
    return "law_with_floor" if floor else "law"


def _cells(value: Mean | None) -> dict[str, float]:
    """Estimate and ends; those that the ladder does not reach are absent."""
    numbers = (np.nan,) * 3 if value is None else (value.centre, value.low, value.high)
    known = [number if math.isfinite(number) and number > 0 else np.nan for number in numbers]
    return dict(zip(("", "_low", "_high"), known, strict=True))


def _between(key: str, title: str, unit: str) -> Column:
    def show(row: Row) -> str:
        value, low, high = (getattr(row, name) for name in (key, f"{key}_low", f"{key}_high"))
        if low is None or high is None:
            known = [(sign, end) for sign, end in (("≥", low), ("≤", high)) if end is not None]
            return f"{known[0][0]} {_plain(known[0][1], unit)}" if known else "–"
        return interval(value, low, high, unit)

    return Column(key=key, title=title, show=show)


def _plain(value: float, unit: str) -> str:
    return leverage_text(Mean(centre=value, low=value, high=value, n=1)) if unit == "ratio" else count(value)


def law_text(reach: Reach | None) -> str:
    """`1.75× [1.60, 1.92]`, with the word where it is outside the ladder."""
    if reach is None:
        return ""
    ends = [math.exp(end) if end < 700 else math.inf for end in (reach.centre, reach.low, reach.high)]
    shown = leverage_text(Mean(centre=ends[0], low=ends[1], high=ends[2], n=2))
    if reach.extrapolated:
        return f"{shown}, extrapolated"
    return f"{shown}, its interval extrapolated" if reach.ends_extrapolated else shown


def _note(made: tuple[Worth, ...]) -> str:
    """How the numbers came about, how well the laws fit, and where they disagree."""
    words = [
        "Interpolated seed by seed between rungs, with the exact interval over seeds; ≥ and ≤: beyond the ladder.",
        "Few tokens a weight leave large dense models under-trained, which flatters what is held against them.",
    ]
    laws = made[0].laws if made else {}
    for floor, reach in laws.items():
        law = reach.law
        level = f", E {float(law.floor):.3g}" if floor else ""
        words.append(
            f"Law {LAWS[floor]} of mean loss against compute: b {float(law.exponent):.3g} ({float(law.low):.3g} to "
            f"{float(law.high):.3g} fit nearly as well){level}, residual {100 * float(law.rms):.2g}%; intervals by a "
            "bootstrap of seeds, and of what the law misses."
        )
    if apart := [one.model for one in made if one.disagree]:
        words.append(f"The two laws disagree, beyond their intervals, on {', '.join(apart)}.")
    elif len(laws) > 1:
        words.append("The two laws agree within their intervals on every mixture.")
    return " ".join(words)
