"""What `moebench plan` prints of looks and power: what each claim could see, and the seeds it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moebench.cli.console import table
from moebench.cli.progress import duration
from moebench.format import interval

if TYPE_CHECKING:
    from rich.table import Table

    from moebench.api import Planned
    from moebench.claims.pilot import Foreseen
    from moebench.planning.rehearsal import Estimate


def looks_json(planned: Planned, expected: Estimate) -> list[dict[str, Any]]:
    """Each planned look: its seeds, its level and the time of its runs alone."""
    from moebench.planning.rehearsal import side_by_side
    from moebench.suite.looks import levels_of

    spec, looks, before = planned.plan.spec, [], 0
    for size, level in zip(spec.looks, levels_of(spec), strict=False):
        new = set(spec.seeds[before:size])
        runs = [expected.run_s.get(run.model, 0.0) for run in planned.plan.runs if run.seed in new]
        seconds = side_by_side(runs, workers=expected.workers, start_s=expected.start_s)
        looks.append({"seeds": size, "level": level, "runs_s": seconds})
        before = size
    return looks


def power_json(planned: Planned, every: list[Foreseen], run_s: Mapping[str, float]) -> list[dict[str, Any]]:
    """What is foreseen of each claim, with what the seeds that it needs cost."""
    plan, rows = planned.plan, []
    for one in every:
        row = asdict(one)
        units = one.foresight.units if one.foresight is not None else None
        models = plan.models_of(plan.spec.claims[one.claim])
        each = sum(run_s.get(model, 0.0) for model in models if not plan.is_single(model)) * planned.options.threads
        row["core_hours"] = None if units is None else units * each / 3600
        rows.append(row)
    return rows


def power_lines(facts: Mapping[str, Any]) -> list[str | Table]:
    """The table of what can be seen, and a line for each look."""
    lines: list[str | Table] = []
    if facts["power"]:
        piloted = max(row["pilot"] for row in facts["power"])
        how = f"from {piloted} other seeds" if piloted else "no runs of other seeds: `run --pilot 3` makes some"
        cells = (_sizes, _smallest, _seen, _chance, _needed)
        rows = [[row["claim"], *(cell(row) for cell in cells)] for row in facts["power"]]
        headings = ["claim", "n", "smallest effect seen", "pilot saw", "then decided in", "it needs"]
        lines += [table(f"what each claim could see (80% power; {how})", headings, rows, left=1), ""]
    for number, look in enumerate(facts["looks"], 1):
        of = f"look {number} of {len(facts['looks'])}: {look['seeds']} seeds, level {100 * look['level']:.2g}% of 2.5%"
        lines.append(f"{of}, runs about {duration(look['runs_s'])}{' more' if number > 1 else ''}")
    return lines


def _sizes(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row["sizes"])) + ("" if row["units"] == "seeds" else f" {row['units']}")


def _smallest(row: Mapping[str, Any]) -> str:
    """Beyond the threshold, at each look; in SDs where no pilot says how large these are."""
    found = row["foresight"]
    values = row["in_sds"] if found is None else found["detectable"]
    return ", ".join("none" if x is None else _distance(x, row, in_sds=found is None) for x in values)


def _distance(value: float, row: Mapping[str, Any], *, in_sds: bool) -> str:
    if in_sds:
        return f"{value:.2g} SD"
    if row["unit"] == "ratio":
        return f"a factor of {value:.3g}"
    return f"{value:.2g}%" if row["unit"] == "%" else interval(value, None, None, row["unit"], signed=False)


def _seen(row: Mapping[str, Any]) -> str:
    return row["seen"] or (row["why"] and f"nothing: {row['why']}") or "–"


def _chance(row: Mapping[str, Any]) -> str:
    found = row["foresight"]
    return "–" if found is None else ", ".join(f"{chance:.0%}" for chance in found["chance"])


def _needed(row: Mapping[str, Any]) -> str:
    """`9 seeds (6 to 30), 0.4 core-hours`."""
    found = row["foresight"]
    if found is None:
        return "–"
    if found["units"] is None:
        return f"at least {found['low']} seeds, maybe any number" if found["low"] else "more than 10,000 seeds"
    high = found["high"] if found["high"] is not None else "any number"
    span = f"{found['low'] or found['units']} to {high}"
    return f"{found['units']} seeds ({span}), {row['core_hours']:.2g} core-hours"
