"""Timings raced against themselves (A/A): how well the machine times, as the speed session shows it.

The baseline runs in each process a second time, as another model. A timing of it against that copy must come out equal:
where its 99% interval lies wholly outside `AA_RANGE`, claims about the timing are INVALID.
"""

from __future__ import annotations

import math

from moebench import stats
from moebench.claims.hypothesis import Contrast, Term, Withheld
from moebench.claims.samples import draw
from moebench.metrics import METRICS
from moebench.metrics.speed import AGAIN
from moebench.reader.evidence import Evidence

AA_RANGE = (0.98, 1.02)
LEVEL = 0.99


def against_itself(evidence: Evidence, metric: str) -> stats.Estimate | None:
    """Log-ratio of the baseline's second copy to its first; None when it was not raced.

    For a figure that is computed from a timing, the race of that timing stands.
    """
    if evidence.plan.speed is None:
        return None
    baseline = evidence.plan.speed.baseline
    base, bracket, labels = metric.partition("[")
    for name in (metric, (METRICS[base].timed_by or base) + bracket + labels):
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
