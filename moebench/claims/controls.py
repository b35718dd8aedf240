"""Controls: comparisons whose answer is known, which test the instrument instead of a model.

A model against itself with other seeds must show no difference; how wide that interval is, is what the suite cannot
see below. A timing raced against itself must come out equal. A failed control makes no verdict INVALID by itself (the
A/A gate of timed claims does): it is printed beside them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moebench import stats
from moebench.claims.preconditions import AA_RANGE, against_itself, is_time
from moebench.claims.types import ControlResult
from moebench.evidence import Evidence

QUALITY = "test.bits_per_byte"


def check_controls(evidence: Evidence) -> list[ControlResult]:
    """Every control the suite asks for, and the races of its speed session against itself."""
    model = evidence.plan.spec.controls.same_model
    same = [same_model(evidence, model)] if model is not None else []
    return same + _races(evidence)


def same_model(evidence: Evidence, model: str) -> ControlResult:
    """One half of a model's seeds against the other half, unpaired, with a 99% interval (Welch)."""
    facts: dict[str, Any] = {
        "id": "same_model",
        "says": f"{model} does not differ from itself with other seeds",
        "model": model,
        "metric": QUALITY,
        "unit": "%",
    }
    finals = [run.values.get(QUALITY) for run in evidence.outcomes_of([model]) if run.status == "completed"]
    values = [value for value in finals if value is not None]
    half = len(values) // 2
    if half < 2:
        why = f"{len(values)} runs of {model} are done: two halves of at least 2 are needed"
        return ControlResult(**facts, state="not_tested", reason=why)
    logs = np.log(np.array(values))
    estimate = stats.welch(logs[0::2], logs[1::2])
    ends = estimate.interval(0.99)
    middle, low, high = (100 * math.expm1(value) for value in (estimate.centre, ends.low, ends.high))
    holds = ends.low <= 0 <= ends.high
    seen = f"an unpaired difference below {(high - low) / 2:.2g}% goes unseen"
    reason = f"the 99% interval {'holds' if holds else 'excludes'} 0; {seen}"
    return ControlResult(
        **facts,
        state="passed" if holds else "failed",
        estimate=middle,
        low=low,
        high=high,
        resolution=(high - low) / 2,
        n=f"{len(logs[0::2])} seeds against {len(logs[1::2])}",
        reason=reason,
    )


def _races(evidence: Evidence) -> list[ControlResult]:
    """Each timing of the baseline against its second copy; fails wholly outside `AA_RANGE`."""
    if evidence.plan.speed is None or not evidence.processes:
        return []
    baseline = evidence.plan.speed.baseline
    again = f"{baseline}~again"
    raced = {metric for process in evidence.processes for metric in process.values.get(again, {})}
    found: list[ControlResult] = []
    for metric in sorted(filter(is_time, raced)):
        race = against_itself(evidence, metric)
        if race is None:
            continue
        ends = race.interval(0.99)
        low, high = math.exp(ends.low), math.exp(ends.high)
        holds = low <= AA_RANGE[1] and high >= AA_RANGE[0]
        where = "meets" if holds else "lies wholly outside"
        found.append(
            ControlResult(
                id=f"against_itself[{metric}]",
                says=f"{baseline} is as fast as itself",
                model=baseline,
                state="passed" if holds else "failed",
                metric=metric,
                unit="ratio",
                estimate=math.exp(race.centre),
                low=low,
                high=high,
                resolution=(high - low) / 2,
                n=f"{len(evidence.processes)} processes",
                reason=f"the 99% interval {where} {AA_RANGE[0]} to {AA_RANGE[1]}",
            )
        )
    return found
