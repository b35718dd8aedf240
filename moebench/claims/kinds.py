"""The kinds of claim: what each asks, as a contrast and bounds on it.

A kind is one function from a claim to a `Hypothesis` and one line in `KINDS` at the foot; the words of its `test:`
block are a type in `spec.types`. With the effect oriented so that + favours the claim, it is supported when all bounds
in `support` hold and refuted when any in `refute` does. A relative margin bounds the percentage that is printed: 0.5%
lower means a ratio below 0.995. A `Guard` is a further contrast without which a verdict does not stand.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from moebench import stats
from moebench.amounts import Amount
from moebench.claims.errors import Withheld
from moebench.claims.samples import Contrast, Term, as_written, orientation
from moebench.metrics.declared import metric_of
from moebench.planning.types import Plan
from moebench.suite.claim import Claim, Compare


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The effect is above, or below, a value."""

    side: Literal["above", "below"]
    value: float
    strict: bool = False
    """Whether an exact count at the bound fails it: "lower" is not met by equal, "at least twice" is met by twice."""
    exact: Fraction | None = None
    """The same for counts, without rounding: of log-ratios the ratio itself. None where `value` is not rounded."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an oriented effect reads as a printed number."""

    form: Literal["percent", "ratio", "difference"]
    sign: int
    """-1 when the printed number falls as the claim is favoured."""
    unit: str

    def show(self, effect: float) -> float:
        """The printed number; may be infinite."""
        value = self.sign * effect
        if self.form == "difference":
            return value
        grown = math.inf if value > 700 else math.exp(value)
        return grown if self.form == "ratio" else 100 * (grown - 1)

    def show_distance(self, distance: float) -> float:
        """A distance > 0 between two effects, in the printed unit: a percentage, a factor or a difference."""
        return Reading(form=self.form, sign=1, unit=self.unit).show(distance)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What else must be so, or must not be, before a verdict stands."""

    contrast: Contrast
    must: Literal["be above 0", "not be below 0"]
    """Shown to be above 0, or not shown to be below it; each one-sided at the level of a verdict."""
    blocks: tuple[Literal["supported", "refuted"], ...]
    """The verdicts that do not stand without it."""
    otherwise: str
    """Why the claim is then inconclusive."""


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """What a claim asks of its contrast."""

    contrast: Contrast
    support: tuple[Bound, ...]
    refute: tuple[Bound, ...]
    reading: Reading
    asked: str
    level: float = 0.025
    """One-sided level of each bound in `support`; 0.05 for two one-sided tests (a 90% interval)."""
    exactly: bool = False
    """Whether every single value must lie within the bounds, without any interval."""
    guards: tuple[Guard, ...] = ()
    share_of: Contrast | None = None
    """The gain of which a share is asked."""
    gain: Contrast | None = None
    """The gain that is to be such a share."""


# ---------------------------------------------------------------------------------------------- kinds


def superior(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    sign = _direction(claim.metric)
    bound = _at(test.margin, sign, better=True)
    return Hypothesis(
        contrast=_difference(claim, sign, log=test.margin.relative),
        support=(bound.above(strict=True),),
        refute=(bound.below(),),
        reading=_reading(claim, sign, relative=test.margin.relative),
        asked=_at_least(test.margin, claim.metric, sign),
    )


def non_inferior(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    sign = _direction(claim.metric)
    bound = _at(test.margin, sign, better=False)
    return Hypothesis(
        contrast=_difference(claim, sign, log=test.margin.relative),
        support=(bound.above(),),
        refute=(bound.below(),),
        reading=_reading(claim, sign, relative=test.margin.relative),
        asked=f"<= {_amount(test.margin, claim.metric)} {'lower' if sign > 0 else 'higher'}",
    )


def equivalent(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Two one-sided tests (Schuirmann 1987): the 90% interval lies inside the margins.

    A relative margin is a factor either way, 20% from 1/1.2 to 1.2: which of the two is called the baseline must not
    matter.
    """
    sign, margin, either = orientation(claim.metric) or 1, test.margin, ""
    low, high = _Level.of(-_exactly(margin)), _Level.of(_exactly(margin))
    if margin.relative:
        factor = 1 + _exactly(margin)
        low, high = _Level.log(1 / factor), _Level.log(factor)
        either = f" ({float(1 / factor):.3g}x to {float(factor):.3g}x)" if margin.value >= 0.05 else ""
    return Hypothesis(
        contrast=_difference(claim, sign, log=margin.relative),
        support=(low.above(), high.below()),
        refute=(low.below(), high.above()),
        reading=_reading(claim, sign, relative=margin.relative),
        asked=f"within {_amount(margin, claim.metric)}{either}",
        level=0.05,
    )


def ratio_at_least(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Baseline over treatment where lower is better, else treatment over baseline."""
    sign, bound = orientation(claim.metric) or 1, _Level.log(as_written(test.value))
    return Hypothesis(
        contrast=_difference(claim, sign, log=True),
        support=(bound.above(),),
        refute=(bound.below(),),
        reading=Reading(form="ratio", sign=1, unit="ratio"),
        asked=f">= {test.value:g}x",
    )


def ratio_within(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Treatment over baseline, whatever the direction of the metric."""
    low, high = _Level.log(as_written(test.low)), _Level.log(as_written(test.high))
    return Hypothesis(
        contrast=_difference(claim, 1, log=True),
        support=(low.above(), high.below()),
        refute=(low.below(), high.above()),
        reading=Reading(form="ratio", sign=1, unit="ratio"),
        asked=f"{test.low:g}x to {test.high:g}x",
    )


def recovers(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """(A - M) - f (A - T) per seed, M treatment, A baseline, T ceiling: no ratio of noisy differences is formed.

    Of a gain that is not there any share is recovered and none: it must be shown before either verdict.
    """
    compare, sign, share = _compare(claim), _direction(claim.metric), float(test.value)
    if compare.ceiling is None:
        raise Withheld("invalid", "`recovers` needs a ceiling to compare with")
    weights = {compare.treatment: 1.0, compare.baseline: share - 1.0, compare.ceiling: -share}
    contrast = _weighted(claim.metric, {model: sign * weight for model, weight in weights.items()}, log=False)
    gains = {
        better: _weighted(claim.metric, {better: sign, compare.baseline: -sign}, log=False, rests_on=tuple(weights))
        for better in (compare.treatment, compare.ceiling)
    }
    return Hypothesis(
        contrast=replace(contrast, rests_on=tuple(weights)),
        support=(Bound(side="above", value=0.0),),
        refute=(Bound(side="below", value=0.0),),
        reading=Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit),
        asked=f">= {share * 100:g}% of the gain of {compare.ceiling} over {compare.baseline}",
        gain=gains[compare.treatment],
        share_of=gains[compare.ceiling],
        guards=(
            Guard(
                contrast=gains[compare.ceiling],
                must="be above 0",
                blocks=("supported", "refuted"),
                otherwise=f"the gain of {compare.ceiling} over {compare.baseline}, of which a share is asked, is not "
                "shown to be above 0",
            ),
        ),
    )


def trend(claim: Claim, test: Any, plan: Plan) -> Hypothesis:
    """The least-squares slope of each seed over the swept value, on a log scale where all values are positive.

    Points whose weight in the slope is 0 count as well: each step between neighbours must not be shown to go the other
    way. Which way a diverged run would have bent the slope is unknown.
    """
    points = _swept(claim, plan)
    along = str(claim.along)
    values = np.array([float(point[along]) for point in points.values()])
    doubling = bool(np.all(values > 0))
    x = np.log2(values) if doubling else values
    # Where other keys are swept too, slopes are taken within each combination of them and pooled.
    others = [{key: value for key, value in point.items() if key != along} for point in points.values()]
    centred = np.array([x[i] - np.mean([x[j] for j in range(len(x)) if others[j] == others[i]]) for i in range(len(x))])
    if not np.any(centred):
        raise Withheld("invalid", f"the sweep has one value of {along} only: no slope")
    sign = 1 if test.sign == "rising" else -1
    weights = dict(zip(points, sign * stats.slope_weights(centred), strict=True))
    per = f"per doubling of {along}" if doubling else f"per unit of {along}"
    steps = tuple(_steps(claim, sign, points, others))
    return Hypothesis(
        contrast=_weighted(claim.metric, weights, log=False, rests_on=tuple(points), sided=False),
        support=(Bound(side="above", value=0.0, strict=True),),
        refute=(Bound(side="below", value=0.0),),
        reading=Reading(form="difference", sign=sign, unit=f"{metric_of(claim.metric).unit} {per}"),
        asked=f"{test.sign} with {along}" + (", no step against it" if steps else ""),
        guards=steps,
    )


def _steps(
    claim: Claim, sign: int, points: Mapping[str, Mapping[str, Any]], others: list[dict[str, Any]]
) -> Iterator[Guard]:
    """Each step of a trend between neighbours of the swept value, averaged over combinations of what else is swept."""
    along = str(claim.along)
    levels = sorted({float(point[along]) for point in points.values()})
    for low, high in itertools.pairwise(levels) if len(levels) > 2 else ():
        at = [
            {str(rest): name for name, rest in zip(points, others, strict=True) if float(points[name][along]) == level}
            for level in (low, high)
        ]
        both = [rest for rest in at[0] if rest in at[1]]
        if not both:
            continue
        weights = {at[0][rest]: -sign / len(both) for rest in both} | {at[1][rest]: sign / len(both) for rest in both}
        way = "rise" if sign < 0 else "fall"
        yield Guard(
            contrast=_weighted(claim.metric, weights, log=False, rests_on=tuple(points), sided=False),
            must="not be below 0",
            blocks=("supported",),
            otherwise=f"from {along} {low:g} to {high:g} {claim.metric} is shown to {way}: the slope holds end to end "
            "only",
        )


def interaction(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """The treatment's gain on one metric minus its gain on another."""
    if claim.minus is None:
        raise Withheld("invalid", "`interaction` needs a second metric in `minus`")
    sign, other, log = _direction(claim.metric), _direction(claim.minus), test.margin.relative
    if not log and metric_of(claim.metric).unit != metric_of(claim.minus).unit:
        raise Withheld("invalid", f"{claim.metric} and {claim.minus} have different units: give the margin in %")
    here, there = _difference(claim, sign, log=log), _difference(claim, -other, log=log, metric=claim.minus)
    bound = _at(test.margin, sign, better=True)
    return Hypothesis(
        contrast=Contrast(terms=here.terms + there.terms, log=log),
        support=(bound.above(strict=True),),
        refute=(bound.below(),),
        reading=_reading(claim, sign, relative=log),
        asked=f"{_at_least(test.margin, claim.metric, sign)} than on {claim.minus}",
    )


def exact(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Every count, in every run, is the stated value."""
    if claim.model is None:
        raise Withheld("invalid", "`exact` needs a model")
    metric = metric_of(claim.metric)
    if metric.kind in ("timed", "event"):
        raise Withheld("invalid", f"{claim.metric} is {metric.kind}: only counts can be exact")
    value, slack = as_written(test.value), _exactly(test.tolerance)
    slack = abs(value) * slack if test.tolerance.relative else slack
    within = (_Level.of(value - slack).above(), _Level.of(value + slack).below())
    beside = f" +- {_amount(test.tolerance, claim.metric)}" if slack else ""
    return Hypothesis(
        contrast=_weighted(claim.metric, {claim.model: 1.0}, log=False),
        support=within,
        refute=(),
        reading=Reading(form="difference", sign=1, unit=metric.unit),
        asked=f"= {test.value:,.12g}{beside}",
        exactly=True,
    )


# ---------------------------------------------------------------------------------------------- parts


def _compare(claim: Claim) -> Compare:
    if claim.compare is None:
        raise Withheld("invalid", "the claim does not say what is compared")
    return claim.compare


def _direction(metric: str) -> int:
    sign = orientation(metric)
    if sign == 0:
        raise Withheld("invalid", f"neither a higher nor a lower {metric} is better")
    return sign


def _difference(claim: Claim, sign: int, *, log: bool, metric: str | None = None) -> Contrast:
    compare = _compare(claim)
    return _weighted(metric or claim.metric, {compare.treatment: sign, compare.baseline: -sign}, log=log)


def _weighted(
    metric: str, weights: Mapping[str, float], *, log: bool, rests_on: tuple[str, ...] = (), sided: bool = True
) -> Contrast:
    terms = tuple(Term(model=model, metric=metric, weight=float(weight)) for model, weight in weights.items() if weight)
    return Contrast(terms=terms, log=log, rests_on=rests_on, sided=sided)


@dataclass(frozen=True)
class _Level:
    """An oriented effect that is asked for, as a number and without rounding."""

    value: float
    exact: Fraction | None = None

    @staticmethod
    def of(exact: Fraction) -> _Level:
        return _Level(float(exact), exact)

    @staticmethod
    def log(ratio: Fraction) -> _Level:
        """The log of a ratio > 0."""
        return _Level(math.log(ratio), ratio)

    def above(self, *, strict: bool = False) -> Bound:
        return Bound(side="above", value=self.value, strict=strict, exact=self.exact)

    def below(self) -> Bound:
        return Bound(side="below", value=self.value, exact=self.exact)


def _exactly(amount: Amount) -> Fraction:
    """The number that somebody wrote: 0.7% reached us as 0.006999999999999999."""
    return Fraction(amount.value).limit_denominator(10**9) if amount.relative else as_written(amount.value)


def _at(margin: Amount, sign: int, *, better: bool) -> _Level:
    """The oriented effect of being better, or worse, by just the margin."""
    towards, exact = 1 if better else -1, _exactly(margin)
    if not margin.relative:
        return _Level.of(towards * exact)
    change = sign * towards * exact
    if change <= -1:
        raise Withheld("invalid", f"nothing can be {margin} lower")
    return _Level.log((1 + change) ** sign)


def _reading(claim: Claim, sign: int, *, relative: bool) -> Reading:
    if relative:
        return Reading(form="percent", sign=sign, unit="%")
    return Reading(form="difference", sign=sign, unit=metric_of(claim.metric).unit)


def _amount(margin: Amount, metric: str) -> str:
    if margin.relative:
        return str(margin)
    unit = metric_of(metric).unit
    return f"{margin.value:g}" if unit == "1" else f"{margin.value:g} {unit}"


def _at_least(margin: Amount, metric: str, sign: int) -> str:
    word = "higher" if sign > 0 else "lower"
    return f">= {_amount(margin, metric)} {word}" if margin.value else word


def _swept(claim: Claim, plan: Plan) -> Mapping[str, Mapping[str, float | str | bool]]:
    """Expanded model -> its swept keys and values; the one that the trend runs along is a number."""
    points = plan.spec.sweeps.get(claim.over or "", {})
    if not points:
        raise Withheld("invalid", f"{claim.over} is not a sweep of this suite")
    if claim.along is None or any(claim.along not in point for point in points.values()):
        raise Withheld("invalid", f"{claim.over} does not sweep {claim.along}")
    if any(isinstance(point[claim.along], str | bool) for point in points.values()):
        raise Withheld("invalid", f"{claim.along} is not swept over numbers: no slope")
    return points


KINDS: dict[str, Callable[[Claim, Any, Plan], Hypothesis]] = {
    "superior": superior,
    "non_inferior": non_inferior,
    "equivalent": equivalent,
    "ratio_at_least": ratio_at_least,
    "ratio_within": ratio_within,
    "recovers": recovers,
    "trend": trend,
    "interaction": interaction,
    "exact": exact,
}
