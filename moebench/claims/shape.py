"""What the effects look like where that makes a verdict less sure than its interval says.

The interval is exact for effects that are independent and symmetric about their centre. A pair that lies far from all
others, a skew, and successive seeds that follow each other are looked for at 1% each, so that a note is no noise; with
few pairs much of each goes unseen. What they do to the error rates stands in `calibration`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moebench import stats
from moebench.claims.decide import MIN_UNITS
from moebench.claims.samples import Sample

OUTLIER_LEVEL = 0.01
SKEW_LIMIT, CORRELATION_LIMIT = 2.75, 2.28
"""Standard errors beyond which 1% of normal samples lie, skewness both ways and lag-1 correlation upwards (simulated
at n = 8 to 30)."""


def doubts(sample: Sample, show: Callable[[float], str]) -> tuple[str, ...]:
    """Notes on the effects of a verdict; `show` writes an effect as the metric reads."""
    x = sample.effects
    if sample.n < MIN_UNITS or not np.all(np.isfinite(x)) or stats.standard_deviation(x) == 0:
        return ()
    unit, units = ("process", "processes") if sample.units == "processes" else ("seed", "seeds")
    found: list[str] = []
    index = stats.outlier(x, OUTLIER_LEVEL)
    skew, from_0 = stats.skewness(x)
    if index is not None:
        name = sample.seeds[index] if len(sample.seeds) == sample.n else index
        rest = show(float(np.mean(np.delete(x, index))))
        found.append(f"one {unit} rules: {unit} {name} is at {show(float(x[index]))}, the mean without it at {rest}")
    elif abs(from_0) > SKEW_LIMIT:
        found.append(f"skewed effects (skewness {skew:+.1f}): the interval covers less than it says")
    follows, from_chance = stats.autocorrelation(x)
    if from_chance > CORRELATION_LIMIT:
        words = f"successive {units} follow each other (correlation {follows:.2f})"
        found.append(f"{words}: the interval covers less than it says")
    return tuple(found)
