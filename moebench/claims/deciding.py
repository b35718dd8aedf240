"""The rule: from effects and bounds to an interval, p values and a state.

An interval beyond its bound decides only when an exact test of signs agrees, and when it still does so after Holm over
the primary family; then at least six pairs are needed, because 2^-6 is the first floor below 2.5%. Where documents
are known, the wider of the interval over seeds and the one over documents decides. With any infinite effect the
interval is the order-statistic one of the median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moebench import stats
from moebench.claims.contrasts import Sample
from moebench.claims.kinds import Bound, Hypothesis
from moebench.claims.types import State

ALPHA = 0.025
MIN_UNITS = 6


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sample weighed against a hypothesis; effects are still oriented, on the scale of the contrast."""

    centre: float
    """The mean, or the median where effects are infinite; may be infinite or NaN."""
    interval: stats.Interval | None
    """95%, over seeds or processes."""
    narrow: stats.Interval | None
    """90%, where two one-sided tests decide."""
    items: stats.Interval | None
    """95%, over documents."""
    by_items: bool
    """Whether the interval over documents is the wider, and decides."""
    method: str
    supports: bool
    """Whether the deciding interval meets every bound that supports."""
    refutes: bool
    p_for: float | None
    """The larger of the interval's and the exact test's; None for counts and where there are too few units."""
    p_against: float | None
    exact_for: float | None
    exact_against: float | None
    sd: float | None
    """SD of the effects that stands behind the deciding interval; None where it is not a t interval."""


@dataclass(frozen=True, kw_only=True)
class _Ruler:
    """One way of making intervals and p values from a sample."""

    method: str
    centre: float
    interval: Callable[[float], stats.Interval | None]
    p_beyond: Callable[[Bound], float]
    """One-sided p of the bound's assertion, from the interval's own distribution."""
    exact: Callable[[Bound], float]
    """The same from signs alone."""
    se: float | None = None


def weigh(sample: Sample, hypothesis: Hypothesis) -> Finding:
    """Intervals, p values and what they say, before other claims are looked at."""
    if hypothesis.exactly or sample.units == "counts":
        return _weigh_exactly(sample, hypothesis)
    ruler = _ruler(sample)
    wide = ruler.interval(1 - 2 * ALPHA)
    items = sample.items.interval(1 - 2 * ALPHA) if sample.items is not None else None
    by_items = items is not None and wide is not None and items.width > wide.width
    deciding = _item_ruler(sample.items, ruler) if by_items and sample.items is not None else ruler
    support_at, refute_at = deciding.interval(1 - 2 * hypothesis.level), deciding.interval(1 - 2 * ALPHA)
    enough = sample.n >= 2
    return Finding(
        centre=ruler.centre,
        interval=wide,
        narrow=ruler.interval(0.9) if hypothesis.level != ALPHA else None,
        items=items,
        by_items=by_items,
        method=deciding.method,
        supports=support_at is not None and all(_beyond(support_at, bound) for bound in hypothesis.support),
        refutes=refute_at is not None and any(_beyond(refute_at, bound) for bound in hypothesis.refute),
        p_for=max(_p(deciding, bound) for bound in hypothesis.support) if enough else None,
        p_against=min(_p(deciding, bound) for bound in hypothesis.refute) if enough else None,
        exact_for=max(deciding.exact(bound) for bound in hypothesis.support) if enough else None,
        exact_against=min(deciding.exact(bound) for bound in hypothesis.refute) if enough else None,
        sd=deciding.se * math.sqrt(sample.n) if deciding.se is not None else None,
    )


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What other claims and earlier looks do to a claim's p values."""

    p_for: float
    p_against: float
    words: str
    """What was corrected for, such as 'Holm over 3 primary claims'; empty for nothing."""
    in_family: bool


def settle(finding: Finding, hypothesis: Hypothesis, sample: Sample, correction: Correction) -> tuple[State, str]:
    """The state and why."""
    if finding.p_for is None and (sample.units == "counts" or hypothesis.exactly):
        return ("supported", "exactly so") if finding.supports else ("refuted", "exactly not so")
    if sample.n < MIN_UNITS:
        return "inconclusive", _too_few(sample)
    where = " over documents" if finding.by_items else ""
    if finding.supports:
        state: State = "supported"
        exact, p, level = finding.exact_for, correction.p_for, hypothesis.level
        words = f"the {'90' if level != ALPHA else '95'}% interval{where} meets what is asked"
    elif finding.refutes:
        state = "refuted"
        exact, p, level = finding.exact_against, correction.p_against, ALPHA
        words = f"the 95% interval{where} excludes what is asked"
    else:
        return "inconclusive", f"the interval{where} holds both what is asked and its opposite"
    if exact is None or exact > level:
        return "inconclusive", f"fragile: {words}, but the exact test of signs gives p = {exact:.3g}, above {level:g}"
    level = ALPHA if correction.in_family else level
    if correction.words and p > level:
        return "inconclusive", f"{words}, but not after {correction.words}: adjusted p = {p:.3g}, above {level:g}"
    return state, words


def _too_few(sample: Sample) -> str:
    if sample.n < sample.planned:
        return f"{sample.n} of {sample.planned} {sample.units} present; at least {MIN_UNITS} for any verdict"
    return f"{sample.n} {sample.units}; at least {MIN_UNITS} for any verdict"


# ---------------------------------------------------------------------------------------------- rulers


def _ruler(sample: Sample) -> _Ruler:
    x, second = sample.effects, sample.second
    if not np.all(np.isfinite(x)):
        return _median_ruler(x, second)
    if second is not None:
        return _sum_ruler(x, second)
    if len(x) < 2:
        return _Ruler(
            method="a single value",
            centre=float(x[0]),
            interval=lambda _: None,
            p_beyond=lambda _: 1.0,
            exact=lambda _: 1.0,
        )
    estimate = stats.paired(x)
    over = "processes" if sample.units == "processes" else "seeds"
    return _Ruler(
        method=f"paired t over {over}",
        centre=estimate.centre,
        interval=estimate.interval,
        p_beyond=_t(estimate),
        exact=_signs(x),
        se=estimate.se,
    )


def _item_ruler(items: stats.Estimate, over_seeds: _Ruler) -> _Ruler:
    return _Ruler(
        method="t over documents, wider than over seeds",
        centre=over_seeds.centre,
        interval=items.interval,
        p_beyond=_t(items),
        exact=over_seeds.exact,
        se=items.se,
    )


def _sum_ruler(x: stats.Array, second: stats.Array) -> _Ruler:
    """Effects over seeds plus effects over processes; the signs are those over seeds, step time at its mean."""
    estimate = stats.sum_of_means(x, second) if len(x) >= 2 else None
    centre = float(np.mean(x) + np.mean(second))
    return _Ruler(
        method="t, variances over seeds and processes added",
        centre=centre,
        interval=estimate.interval if estimate else (lambda _: None),
        p_beyond=_t(estimate) if estimate else (lambda _: 1.0),
        exact=_signs(x + np.mean(second)),
        se=estimate.se if estimate else None,
    )


def _median_ruler(x: stats.Array, second: stats.Array | None) -> _Ruler:
    """Order statistics over seeds; step time, where it counts, at the worst end of its 99% interval."""
    times = stats.paired(second).interval(0.99) if second is not None else None
    low, high, spent = (times.low, times.high, 0.005) if times else (0.0, 0.0, 0.0)

    def interval(level: float) -> stats.Interval | None:
        found = stats.median_interval(x, level + 2 * spent)
        if found is None:
            return None
        return stats.Interval(low=found.low + low, high=found.high + high, level=found.level - 2 * spent)

    def p_beyond(bound: Bound) -> float:
        if bound.side == "above":
            return min(1.0, stats.sign_test_p(x + low, bound.value) + spent)
        return min(1.0, stats.sign_test_p(-x - high, -bound.value) + spent)

    middle = stats.median(x) + (float(np.mean(second)) if second is not None else 0.0)
    return _Ruler(
        method="order statistics of the median over seeds",
        centre=middle,
        interval=interval,
        p_beyond=p_beyond,
        exact=p_beyond,
    )


def _t(estimate: stats.Estimate) -> Callable[[Bound], float]:
    return lambda bound: estimate.p_above(bound.value) if bound.side == "above" else estimate.p_below(bound.value)


def _signs(x: stats.Array) -> Callable[[Bound], float]:
    return lambda bound: (
        stats.sign_flip_p(x, bound.value) if bound.side == "above" else stats.sign_flip_p(-x, -bound.value)
    )


def _p(ruler: _Ruler, bound: Bound) -> float:
    return max(ruler.p_beyond(bound), ruler.exact(bound))


# ---------------------------------------------------------------------------------------------- exactly


def _weigh_exactly(sample: Sample, hypothesis: Hypothesis) -> Finding:
    x = sample.effects
    holds = bool(np.all(np.isfinite(x))) and all(_meets(float(value), hypothesis.support) for value in x)
    span = stats.Interval(low=float(np.min(x)), high=float(np.max(x)), level=1.0)
    return Finding(
        centre=float(np.mean(x)),
        interval=span,
        narrow=span if hypothesis.level != ALPHA else None,
        items=None,
        by_items=False,
        method="exact count" if sample.units == "counts" else "every run",
        supports=holds,
        refutes=not holds,
        p_for=None,
        p_against=None,
        exact_for=None,
        exact_against=None,
        sd=None,
    )


def _meets(value: float, bounds: Sequence[Bound]) -> bool:
    for bound in bounds:
        beyond = value - bound.value if bound.side == "above" else bound.value - value
        if beyond < 0 or (bound.strict and beyond == 0):
            return False
    return True


def _beyond(interval: stats.Interval, bound: Bound) -> bool:
    return interval.low > bound.value if bound.side == "above" else interval.high < bound.value
