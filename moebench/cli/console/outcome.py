"""What `run` and `report` print: what was done, failures, sweeps, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from moebench.cli.console import printed, table
from moebench.format import plural
from moebench.text import plain

if TYPE_CHECKING:
    from moebench.api import Failed, Outcome
    from moebench.claims.verdict import Verdict
    from moebench.planning.types import Plan

STYLES = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "interim": "blue",
    "invalid": "magenta",
    "not_tested": "dim",
    "cited": "cyan",
}


def outcome_text(outcome: Outcome) -> str:
    """What `run` prints at the end: what was done, the verdicts, where the report is."""
    kinds: dict[str, int] = {}
    for status in outcome.statuses.values():
        kinds[status] = kinds.get(status, 0) + 1
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    done = f"{plural(len(outcome.statuses), 'run')}: {counts}"
    if outcome.started == 0 and outcome.speed in (None, "already"):
        done = f"nothing to do: {done}" + (", speed session there" if outcome.speed else "")
    if outcome.sweep is not None:
        return f"{done}\n{sweep_text(outcome.sweep, plan=outcome.plan)}"
    if outcome.plan.asked.pilot:
        return f"{done}\nwhat the pilot tells: {outcome.plan.command_of_plan}"
    assert outcome.report is not None
    return f"{done}\n{verdict_text(outcome.verdicts, path=outcome.report)}"


def failures_text(outcome: Outcome) -> str:
    """What went wrong, each reason once: the last lines of a log and where it is."""
    by_reason: dict[tuple[str, str], list[Failed]] = {}
    for one in outcome.failures:
        by_reason.setdefault((one.status, one.reason), []).append(one)
    lines = []
    for (status, reason), alike in by_reason.items():
        first = alike[0]
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        lines.append(f"failed: {first.model} seed {first.seed}{more}: {status}: {plain(reason, most=500)}")
        lines += [f"  | {plain(line, most=200)}" for line in first.last_lines]
        lines += [f"  log: {plain(first.log)}"] if first.log else []
    return "\n".join(lines)


def sweep_text(sweep: dict[str, Any], *, plan: Plan) -> str:
    """What a sweep found at each point, and how to train at the best."""
    from moebench.planning.sweep import block_to_paste, edges

    rates = sorted({point["lr"] for model in sweep.values() for point in model["curve"]})
    rows = []
    for name, model in sweep.items():
        for over in _combinations(model):
            at = [point for point in model["curve"] if point.get("over", {}) == over]
            cells = [_mean([point["bits_per_byte"] for point in at if point["lr"] == rate]) for rate in rates]
            best = "none: no rate completed" if model["best_lr"] is None else f"{model['best_lr']:g}"
            best = best if over == model.get("best", {}) or model["best_lr"] is None else ""
            edge = " (at the edge)" if best and not model["interior"] and model["best_lr"] is not None else ""
            own = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in over.items())
            rows.append([f"{name}: {own}" if own else name, best + edge, f"{model['configured_lr']:g}", *cells])
    of = "" if plan.tune is None or plan.tune.domain is None else f"[domain={plan.tune.domain}]"
    title = f"tune.bits_per_byte{of} by learning rate, mean over seeds"
    rates_tried = table(title, ["model", "best", "configured", *(f"{rate:g}" for rate in rates)], rows, left=2)
    late = any(point.get("extension") for model in sweep.values() for point in model["curve"])
    inside = all(model["interior"] for model in sweep.values())
    told = [f"extended once; every best point lies inside now: {'yes' if inside else 'no'}"] if late else []
    lines = ["", *told, *(f"note: {text}" for text in edges(sweep))]
    lines += [f"to train at the best rates: {plan.command} --tuned"]
    expanded = {name for made in plan.spec.sweeps.values() for name in made}
    if block := block_to_paste(sweep, declared=set(plan.spec.models) - expanded):
        lines += ["or put them into the suite:", "models:", block.rstrip("\n")]
    return printed(rates_tried, *lines)


def _combinations(model: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of the fields besides the rate that were tried of a model, each once."""
    found: list[dict[str, Any]] = []
    found += [over for point in model["curve"] if (over := point.get("over", {})) not in found]
    return [over for index, over in enumerate(found) if over not in found[:index]]


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.4f}" if known and len(known) == len(values) else "-"


def _beside(verdict: Verdict) -> str:
    """What must stand beside a claim: how it counts unless it is primary, and its caveats."""
    notes = [*([] if verdict.label == "primary" else [verdict.standing]), *verdict.caveats]
    return f" ({'; '.join(notes)})" if notes else ""


def verdict_text(verdicts: Sequence[Verdict], *, path: Path) -> str:
    """A table of verdicts with their intervals, the reasons of those that are not clear, and the report's place."""
    from moebench.reporting.states import MOST_PARTS, counted, decisive_p, effect

    if not verdicts:
        return f"no claims, so no verdicts\n\nreport: {path / 'index.html'}"
    judged = table(
        "",
        ["verdict", "claim", "estimate [95%]", "asked", "n", "p"],
        (
            [
                Text(one.state.upper().replace("_", " ") if one is verdict else "", style=STYLES[one.state]),
                verdict.says + _beside(verdict) if one is verdict else f"  ↳ {one.id}: {one.state.replace('_', ' ')}",
                effect(one),
                one.asked,
                counted(one),
                decisive_p(one).removeprefix("p "),
            ]
            for verdict in verdicts
            for one in (verdict, *verdict.parts[:MOST_PARTS])
        ),
        left=4,
    )
    reasons = [
        f"  {v.id}: {'; '.join(filter(None, (v.reason, v.needs)))}"
        for v in verdicts
        if v.state not in ("supported", "refuted", "cited")
    ]
    return printed(judged, *(["", "not decided:", *reasons] if reasons else []), "", f"report: {path / 'index.html'}")
