"""Controls: comparisons whose answer is known, which test the instrument instead of a model.

A model against itself with other seeds must show no difference, and a timing raced against itself (A/A) must come out
equal. That is an equivalence: only an interval narrow enough to exclude what would matter passes. One that holds both
no difference and too much of one is too wide to tell, and says how many seeds or processes would tell. Controls that
train runs of their own are in `control_runs`. One that failed makes the claims that rest on it INVALID (`gated`); one
that is too wide to tell is printed beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats as distributions

from moebench import stats
from moebench.claims.control_runs import check_runs
from moebench.claims.hypothesis import Contrast, Term, Withheld
from moebench.claims.samples import draw
from moebench.claims.verdict import ControlResult, ControlState
from moebench.format import TIMES, significant
from moebench.metrics import metric_of
from moebench.metrics.speed import AGAIN
from moebench.reader.evidence import Evidence
from moebench.suite.model import DenseFFN

QUALITY = "test.bits_per_byte"
AA_RANGE = (0.98, 1.02)
"""Where the 99% interval of a timing against itself lies wholly outside, claims about the timing are INVALID."""
LEVEL = 0.99
EQUAL_TIMES = 0.05
"""The most by which a timing may differ from itself, unless a claim asks about less: 0.952x to 1.05x."""
EQUAL_QUALITY = 0.01
"""The same for a model's quality with other seeds, where no claim states a margin."""
_MOST = 10_000
"""Seeds or processes beyond which none is named."""


def check_controls(evidence: Evidence) -> list[ControlResult]:
    """Every control the suite asks for, and the races of its speed session against itself."""
    model = evidence.plan.spec.controls.same_model
    same = [same_model(evidence, model)] if model is not None else []
    return same + check_runs(evidence) + _races(evidence)


def gated(evidence: Evidence, models: Sequence[str]) -> str | None:
    """Why no loss of these models is to be trusted: the first control that failed on which a claim about them rests."""
    asked = evidence.plan.spec.controls
    same = [same_model(evidence, asked.same_model)] if asked.same_model is not None else []
    trained = [evidence.plan.decoders[name] for name in models if name in evidence.plan.trained]
    dense = [isinstance(one.architecture.ffn, DenseFFN) for one in trained]
    rests = {"same_model": bool(dense), "shuffled": bool(dense), "handicap": not all(dense)}
    rests["one_expert"] = any(dense) and not all(dense)
    for control in (*same, *check_runs(evidence)):
        if control.state == "failed" and rests.get(control.id.partition("[")[0], False):
            return f"control {control.id} failed: {control.reason}"
    return None


def same_model(evidence: Evidence, model: str) -> ControlResult:
    """One half of a model's seeds against the other half, unpaired, with a 99% interval (Welch)."""
    facts: dict[str, Any] = {
        "id": "same_model",
        "says": f"{model} does not differ from itself with other seeds",
        "model": model,
        "metric": QUALITY,
        "unit": "%",
    }
    runs = sorted(evidence.outcomes_of([model]), key=lambda run: run.seed)  # whatever the suite's order of seeds
    finals = [run.values.get(QUALITY) for run in runs if run.status == "completed"]
    values = [value for value in finals if value is not None]
    half = len(values) // 2
    if half < 2:
        why = f"{len(values)} runs of {model} are done: two halves of at least 2 are needed"
        return ControlResult(**facts, state="not_tested", reason=why)
    logs = np.log(np.array(values))
    estimate = stats.welch(logs[0::2], logs[1::2])
    ends = estimate.interval(LEVEL)
    asked = _margins(evidence, lambda asked: metric_of(asked).rests_on_loss, float(np.mean(values)))
    reach = min(asked, default=EQUAL_QUALITY)

    def needs() -> str:
        wanted = _units(lambda n: 2 * (n - 1), estimate.se * math.sqrt(half), reach)
        return f"about {2 * wanted} seeds would tell" if wanted else f"{2 * _MOST:,} seeds would not tell"

    return _result(
        estimate,
        reach=reach,
        within=f"±{significant(100 * reach, figures=2)}%" + (", the margin that a claim asks about" if asked else ""),
        fault=None if ends.low <= 0 <= ends.high else "excludes 0",
        needs=needs,
        shown=(100 * math.expm1(value) for value in (estimate.centre, ends.low, ends.high)),
        n=f"{len(logs[0::2])} seeds against {len(logs[1::2])}",
        **facts,
    )


def race(evidence: Evidence, metric: str) -> ControlResult | None:
    """The baseline's second copy in the speed session against its first, in one timing; None when it was not raced.

    It fails where `is_off`, which makes claims about that timing INVALID.
    """
    estimate = against_itself(evidence, metric)
    if estimate is None or evidence.plan.speed is None:
        return None
    n, baseline = int(estimate.df) + 1, evidence.plan.speed.baseline
    reach = min([EQUAL_TIMES, *_margins(evidence, lambda asked: asked == metric, None)])
    low, high = AA_RANGE

    def needs() -> str:
        wanted = _units(lambda n: n - 1, estimate.se * math.sqrt(n), reach)
        enough = f"about {wanted} processes would tell" if wanted else f"{_MOST:,} processes would not tell"
        return f"{enough}, or a quieter machine"

    return _result(
        estimate,
        reach=reach,
        within=f"{significant(1 / (1 + reach))}{TIMES} to {significant(1 + reach)}{TIMES}",
        fault=f"lies wholly outside {low} to {high}" if is_off(estimate) else None,
        needs=needs,
        shown=ratio(estimate),
        n=f"{n} processes",
        id=f"against_itself[{metric}]",
        says=f"{baseline} is as fast as itself",
        model=baseline,
        metric=metric,
        unit="ratio",
    )


def _result(
    estimate: stats.Estimate,
    *,
    reach: float,
    within: str,
    fault: str | None,
    needs: Callable[[], str],
    shown: Iterable[float],
    **facts: Any,
) -> ControlResult:
    """The outcome for a log-ratio whose interval should lie within `reach`, a share, of no difference.

    `within` says how far that is, `fault` what else is wrong with it, and `needs` what would tell where it is too wide.
    """
    ends, (middle, low, high) = estimate.interval(LEVEL), shown
    state: ControlState
    if fault is not None:
        state, reason = "failed", fault
    elif -math.log1p(reach) <= ends.low and ends.high <= math.log1p(reach):
        state, reason = "passed", f"lies within {within}"
    else:
        state, reason = "too_wide", f"is not within {within}; {needs()}"
    return ControlResult(
        **facts,
        state=state,
        estimate=middle,
        low=low,
        high=high,
        resolution=(high - low) / 2,
        reason=f"the 99% interval {reason}",
    )


def _races(evidence: Evidence) -> list[ControlResult]:
    """Each timing of the baseline against its second copy."""
    if evidence.plan.speed is None or not evidence.processes:
        return []
    again = f"{evidence.plan.speed.baseline}{AGAIN}"
    raced = {metric for process in evidence.processes for metric in process.values.get(again, {})}
    controls = (race(evidence, metric) for metric in sorted(raced) if metric_of(metric).unit == "s")
    return [one for one in controls if one is not None]


def _margins(evidence: Evidence, about: Callable[[str], bool], usual: float | None) -> list[float]:
    """Differences, as shares, that claims about these metrics turn on; one in the metric's unit is over `usual`."""
    claims = evidence.plan.spec.claims.values()
    return [
        margin for claim in claims if claim.metric and about(claim.metric) for margin in claim.test.equal_within(usual)
    ]


def _units(df: Callable[[int], int], sd: float, reach: float) -> int | None:
    """Smallest n whose 99% interval lies within the reach of no difference with 80% chance, when there is none."""
    inside = float(distributions.norm.ppf(0.9))
    low, high = 2, _MOST
    allowed = math.log1p(reach)

    def fits(n: int) -> bool:
        return (float(distributions.t.ppf((1 + LEVEL) / 2, df(n))) + inside) * sd / math.sqrt(n) <= allowed

    if not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low


def against_itself(evidence: Evidence, metric: str) -> stats.Estimate | None:
    """Log-ratio of the baseline's second copy to its first; None when it was not raced.

    For a figure that is computed from a timing, the race of that timing stands.
    """
    if evidence.plan.speed is None:
        return None
    baseline = evidence.plan.speed.baseline
    base, bracket, labels = metric.partition("[")
    for name in (metric, (metric_of(base).timed_by or base) + bracket + labels):
        again = Term(model=f"{baseline}{AGAIN}", metric=name, weight=1.0)
        first = Term(model=baseline, metric=name, weight=-1.0)
        try:
            sample = draw(evidence, Contrast(terms=(again, first), log=True))
        except Withheld:
            continue
        if sample.n >= 2:
            return stats.paired(sample.effects)
    return None


def ratio(race: stats.Estimate) -> tuple[float, float, float]:
    """The second copy's time over the first's, and the ends of its 99% interval."""
    ends = race.interval(LEVEL)
    return math.exp(race.centre), math.exp(ends.low), math.exp(ends.high)


def is_off(race: stats.Estimate) -> bool:
    """Whether the interval lies wholly outside `AA_RANGE`."""
    _, low, high = ratio(race)
    return low > AA_RANGE[1] or high < AA_RANGE[0]
