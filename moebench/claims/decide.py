"""The rule: from effects and bounds to an interval, p values and a state.

Over seeds and processes the interval is the exact one of sign flips: it excludes just what the test of signs rejects.
A t interval would not do. With it any claim can be lost to one seed that is much better than the rest, so that making
that run worse would support the claim, and a run that diverged would need a rule of its own. A sum of subsets only
falls when an effect falls: worse data never helps, and an effect of minus infinity leaves no lower end.

What other sources of error add, documents or the step times of processes, is added to it as variances are, end by end
(MOVER: Zou and Donner, Statist. Med. 27, 2008). Below six pairs nothing is decided, since 2^-6 is the first floor
below 2.5%, and the interval shown is Student's. Where either of two bounds refutes, what lies as far beyond the other
counts as well: the p is doubled but for the width between them.

Where every model is a single run the units are its items, or their groups: Student's t over them, which `stats`
guards against rare differences, and sign flips of them must agree; twenty for any verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from moebench import stats
from moebench.claims import best, spread
from moebench.claims.best import BestOf
from moebench.claims.hypothesis import Bound, Guard, Hypothesis, as_written
from moebench.claims.items import Clusters
from moebench.claims.samples import Sample
from moebench.claims.spread import SpreadRatio
from moebench.claims.verdict import State

ALPHA = 0.025
MIN_UNITS = stats.ENOUGH
MIN_ITEMS = 20
"""Items, or groups of items, for any verdict over them alone: with fewer the interval is too narrow where groups
differ in size."""


def enough(sample: Sample) -> int:
    """The units below which a sample decides nothing."""
    return MIN_ITEMS if sample.clusters is not None else MIN_UNITS


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sample weighed against a hypothesis; effects are still oriented, on the scale of the contrast."""

    centre: float
    """The mean, or the median where effects are infinite; may be infinite or NaN."""
    interval: stats.Interval | None
    """95%, with every source of error in it."""
    narrow: stats.Interval | None
    """90%, where two one-sided tests decide."""
    items: stats.Interval | None
    """95%, over documents alone."""
    by_items: bool
    """Whether documents add more to the interval than seeds do."""
    method: str
    supports: bool
    """Whether every bound that supports is met, before other claims are looked at."""
    refutes: bool
    p_for: float | None
    """The largest over the bounds that support; None for counts and where there are too few units."""
    p_against: float | None
    """That of any bound that refutes; of two, both sides are counted."""
    sd: float | None
    """SD of the effects; None where some are infinite or there is only one."""
    beside: float = 0.0
    """Standard error of what adds to the effects' own: documents or step times."""


def weigh(sample: Sample, hypothesis: Hypothesis) -> Finding:
    """Intervals, p values and what they say, before other claims are looked at."""
    if hypothesis.exactly or sample.exact is not None:
        return _weigh_exactly(sample, hypothesis)
    scale = _scale(sample)
    items = sample.items.interval(1 - 2 * ALPHA) if sample.items is not None else None
    several = sample.n >= 2
    p_for = max(scale.p(bound) for bound in hypothesis.support) if several else None
    p_against = scale.p_any(hypothesis.refute) if several else None
    return Finding(
        centre=scale.centre,
        interval=scale.interval(1 - 2 * ALPHA),
        narrow=scale.interval(0.9) if hypothesis.level != ALPHA else None,
        items=items,
        by_items=items is not None and scale.documents_add_most,
        method=scale.method,
        supports=p_for is not None and p_for <= hypothesis.level,
        refutes=p_against is not None and p_against <= ALPHA,
        p_for=p_for,
        p_against=p_against,
        sd=scale.sd,
        beside=math.sqrt(sum(part.se**2 for part in scale.beside)),
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
        holds = "holds" if finding.supports else "does not hold"
        return "supported" if finding.supports else "refuted", f"{holds} for the exact counts"
    if sample.n < enough(sample):
        return "inconclusive", _too_few(sample)
    if finding.supports:
        state: State = "supported"
        p, level = correction.p_for, hypothesis.level
        words = f"the {'90' if level != ALPHA else '95'}% interval {_lies(hypothesis, inside=True)}"
    elif finding.refutes:
        state = "refuted"
        p, level = correction.p_against, ALPHA
        words = f"the 95% interval {_lies(hypothesis, inside=False)}"
    else:
        return "inconclusive", _undecided(sample)
    level = ALPHA if correction.in_family else level
    if correction.words and p > level:
        return "inconclusive", f"{words}, but not after {correction.words}: adjusted p = {p:.3g}, above {level:g}"
    return state, words


def stands(guard: Guard, sample: Sample) -> bool:
    """Whether what a guard asks for is so. Where it must be shown, too little shows nothing."""
    if sample.exact is not None and sample.units == "counts":
        zero = as_written(guard.zero)
        return sample.exact > zero if guard.must == "be above 0" else sample.exact >= zero
    if guard.must == "be above 0":
        return sample.n >= enough(sample) and shown_p(guard, sample) <= ALPHA
    return sample.n < enough(sample) or _scale(sample).p(Bound(side="below", value=guard.zero)) > ALPHA


def shown_p(guard: Guard, sample: Sample) -> float:
    """The p of what a guard asks to be shown; 0 where nothing must be shown. A verdict has no smaller one."""
    if guard.must == "be above 0":
        return _scale(sample).p(Bound(side="above", value=guard.zero))
    return 0.0


def _lies(hypothesis: Hypothesis, *, inside: bool) -> str:
    if len(hypothesis.support) == 2:
        return "lies within the margins" if inside else "lies outside the margins"
    return "clears the threshold" if inside else "lies on the other side of the threshold"


def _too_few(sample: Sample) -> str:
    if sample.clusters is not None:
        groups = " groups of items" if sample.clusters.grouped else " items"
        return f"{sample.n}{groups}; at least {MIN_ITEMS} for any verdict over them"
    if sample.single:
        return "one number of each model: without its scatter over seeds, or its items, it decides nothing"
    if sample.n < sample.planned:
        return f"{sample.n} of {sample.planned} {sample.units} present; at least {MIN_UNITS} for any verdict"
    return f"{sample.n} {sample.units}; at least {MIN_UNITS} for any verdict"


def _undecided(sample: Sample) -> str:
    if np.all(np.isfinite(sample.effects)):
        return "the interval crosses the threshold"
    return "the interval crosses the threshold: runs that diverged or never reached it leave the interval unbounded"


# ---------------------------------------------------------------------------------------------- intervals


def ends(sample: Sample) -> tuple[stats.Array, stats.Array]:
    """The least and the most that each effect can be; both infinite where it is unknown."""
    least = sample.effects if sample.least is None else sample.least
    most = sample.effects if sample.most is None else sample.most
    return np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most)


def _scale(sample: Sample) -> _Scale | _OverItems | _Whole:
    if sample.whole is not None:
        return _Whole(sample, sample.whole)
    return _Scale(sample) if sample.clusters is None else _OverItems(sample, sample.clusters)


class _Scale:
    """A sample's intervals and p values."""

    def __init__(self, sample: Sample) -> None:
        self.least, self.most = ends(sample)
        documents, processes = _documents(sample), _processes(sample)
        self.beside = [part for part in (documents, processes) if part is not None]
        shift = sum(part.centre for part in self.beside)
        finite = bool(np.all(np.isfinite(sample.effects)))
        self.centre = (float(np.mean(sample.effects)) if finite else stats.median(sample.effects)) + shift
        self.n = sample.n
        self.sd = stats.standard_deviation(sample.effects) if finite and self.n >= 2 else None
        self.method = _method(sample, documents)
        self.documents_add_most = (
            documents is not None and self._half(ALPHA, self.least) < -documents.interval(1 - 2 * ALPHA).low
        )

    def interval(self, level: float) -> stats.Interval | None:
        """Two-sided at `level`; None for a single value."""
        if self.n < 2:
            return None
        alpha = (1 - level) / 2
        return stats.Interval(low=self._limit(alpha, self.least), high=-self._limit(alpha, -self.most), level=level)

    def p(self, bound: Bound) -> float:
        """One-sided p of the bound's assertion, each effect at the end that speaks against it."""
        x, null = (self.least, bound.value) if bound.side == "above" else (-self.most, -bound.value)
        if not self.beside:
            return stats.sign_flip_p(x, null)
        if self._limit(0.5, x) <= null:
            return 1.0
        low, high = 0.0, 0.5
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self._limit(middle, x) > null else (middle, high)
        return float(f"{high:.9g}")

    def p_any(self, bounds: Sequence[Bound]) -> float:
        """Of "one of the bounds' assertions holds", one bound or two that face away from each other.

        What the truth at the near bound gives as extreme beyond the far one is added: with no width between them, the
        same again.
        """
        if len(bounds) < 2:
            return self.p(bounds[0]) if bounds else 1.0
        width = abs(bounds[0].value - bounds[1].value)
        return min(1.0, *(self.p(bound) + self._p_far(bound, width) for bound in bounds))

    def _p_far(self, bound: Bound, width: float) -> float:
        x, null = (self.least, bound.value) if bound.side == "above" else (-self.most, -bound.value)
        if not self.beside:
            return stats.sign_flip_p(x, null, further=width)
        if self._limit(0.5, x) <= null:
            return 1.0
        up, alpha = 1.0 if bound.side == "above" else -1.0, ALPHA
        spread = (up * self.centre - self._limit(alpha, x)) / stats.t_quantile(alpha, self.n - 1)
        return stats.Estimate(centre=up * self.centre, se=spread, df=self.n - 1).p_above(null - width)

    def _limit(self, alpha: float, x: stats.Array) -> float:
        """The lower limit of x and what adds to it, one-sided at `alpha`; x is oriented so that + is up."""
        up = 1.0 if x is self.least else -1.0
        own = stats.lower_limit(x, alpha)
        if not self.beside or math.isinf(own):
            return own
        shift = up * sum(part.centre for part in self.beside)
        spread = [part.centre - part.interval(1 - 2 * alpha).low for part in self.beside]
        centre = float(np.mean(x))
        if math.isinf(centre):
            return own + shift - math.hypot(*spread)
        return centre + shift - math.hypot(max(0.0, centre - own), *spread)

    def _half(self, alpha: float, x: stats.Array) -> float:
        return float(np.mean(x)) - stats.lower_limit(x, alpha)


class _OverItems:
    """The same of a sample over items alone: the wider of Student's t and of sign flips, end by end."""

    beside: tuple[stats.Estimate, ...] = ()
    documents_add_most = False

    def __init__(self, sample: Sample, clusters: Clusters) -> None:
        self.x = sample.effects
        self.own = stats.RareEvents.of(self.x, farthest=clusters.farthest, tied=clusters.tied, df=clusters.df)
        self.centre = self.own.centre
        self.sd = math.sqrt(self.own.variance * sample.n)
        over = f"{sample.n:,} groups of items" if clusters.grouped else f"{sample.n:,} items"
        self.method = f"t over {over} of one run each, and sign flips of them"

    def interval(self, level: float) -> stats.Interval:
        """Two-sided at `level`."""
        own, alpha = self.own.interval(level), (1 - level) / 2
        low = min(own.low, stats.many_flips_limit(self.x, alpha))
        return stats.Interval(low=low, high=max(own.high, -stats.many_flips_limit(-self.x, alpha)), level=level)

    def p(self, bound: Bound) -> float:
        """One-sided p of the bound's assertion."""
        up = 1.0 if bound.side == "above" else -1.0
        own = self.own if up > 0 else self.own.mirrored()
        return max(own.p_above(up * bound.value), stats.many_flips_p(up * self.x, up * bound.value))

    def p_any(self, bounds: Sequence[Bound]) -> float:
        """Of "one of the bounds' assertions holds", as of seeds."""
        if len(bounds) < 2:
            return self.p(bounds[0]) if bounds else 1.0
        width = abs(bounds[0].value - bounds[1].value)
        return min(1.0, *(self.p(bound) + self._p_far(bound, width) for bound in bounds))

    def _p_far(self, bound: Bound, width: float) -> float:
        up = 1.0 if bound.side == "above" else -1.0
        own = self.own if up > 0 else self.own.mirrored()
        flips = stats.many_flips_p(up * self.x, up * bound.value, further=width)
        return max(own.p_above(up * bound.value - width), flips)


class _Whole:
    """The same of what is no mean of effects: the best of several, or the ratio of two spreads."""

    beside: tuple[stats.Estimate, ...] = ()
    documents_add_most = False

    def __init__(self, sample: Sample, own: BestOf | SpreadRatio) -> None:
        self.own = own
        self.sd: float | None = None
        if isinstance(own, SpreadRatio):
            every = f"all 2^{own.n}" if own.n <= spread.EVERY else f"{spread.DRAWN:,}"
            self.centre = own.centre
            self.method = f"{every} swaps within pairs of seeds, each arm about its median"
        else:
            every = f"all 2^{own.n}" if own.n <= best.EVERY else f"{best.DRAWN:,}"
            self.centre, self.sd = float(np.mean(sample.effects)), stats.standard_deviation(sample.effects)
            self.method = f"{every} flips of the signs of seeds, the best chosen anew in each"

    def interval(self, level: float) -> stats.Interval:
        """Two-sided at `level`."""
        return self.own.interval(level)

    def p(self, bound: Bound) -> float:
        """One-sided p of the bound's assertion."""
        return self.own.p_above(bound.value) if bound.side == "above" else self.own.p_below(bound.value)

    def p_any(self, bounds: Sequence[Bound]) -> float:
        """Of the one bound that such a claim has."""
        return max(map(self.p, bounds), default=1.0)


def _documents(sample: Sample) -> stats.Estimate | None:
    """What documents add to seeds: no shift, and no scatter over seeds a second time."""
    if sample.items is None:
        return None
    own = math.sqrt(max(0.0, sample.items.se**2 - sample.item_noise**2))
    return replace(sample.items, centre=0.0, se=own) if own else None


def _processes(sample: Sample) -> stats.Estimate | None:
    return stats.paired(sample.second) if sample.second is not None else None


def _method(sample: Sample, documents: stats.Estimate | None) -> str:
    if sample.n < 2:
        return "a single value"
    over = "processes" if sample.units == "processes" else "seeds"
    own = f"paired t over {over}" if sample.n < MIN_UNITS else f"exact sign flips over {over}"
    added = [name for name, part in (("documents", documents), ("step times", sample.second)) if part is not None]
    return own + (f", variance over {' and '.join(added)} added" if added else "")


# ---------------------------------------------------------------------------------------------- exactly


def _weigh_exactly(sample: Sample, hypothesis: Hypothesis) -> Finding:
    x = sample.effects
    values = [_fraction(float(value)) for value in x] if sample.exact is None else [sample.exact]
    holds = all(value is not None and _meets(value, hypothesis.support) for value in values)
    span = stats.Interval(low=float(np.min(x)), high=float(np.max(x)), level=1.0)
    # Runs that agree to the bit are still a sample: of those that could have been, none spoke otherwise.
    alike = None if sample.units == "counts" or hypothesis.exactly else 2.0**-sample.n
    return Finding(
        centre=float(np.mean(x)),
        interval=span,
        narrow=span if hypothesis.level != ALPHA else None,
        items=None,
        by_items=False,
        method="exact count" if sample.units == "counts" else "every run, alike" if sample.exact else "every run",
        supports=holds,
        refutes=not holds,
        p_for=None if alike is None else alike if holds else 1.0,
        p_against=None if alike is None else 1.0 if holds else alike,
        sd=None if alike is None else 0.0,
    )


def _fraction(value: float) -> Fraction | None:
    return as_written(value) if math.isfinite(value) else None


def _meets(value: Fraction, bounds: Sequence[Bound]) -> bool:
    for bound in bounds:
        at = Fraction(bound.value) if bound.exact is None else bound.exact
        beyond = value - at if bound.side == "above" else at - value
        if beyond < 0 or (bound.strict and beyond == 0):
            return False
    return True
