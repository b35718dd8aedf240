"""The kinds of claim: what each asks, as a contrast and bounds on it.

A kind is one function from a claim to a `Hypothesis` and one line in `KINDS` at the foot; the words of its `test:`
block are a type in `spec.types`. With the effect oriented so that + favours the claim, it is supported when all bounds
in `support` hold and refuted when any in `refute` does. A relative margin bounds the percentage that is printed: 0.5%
lower means a ratio below 0.995.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from moebench import stats
from moebench.claims.contrasts import Contrast, Term, orientation
from moebench.claims.withheld import Withheld
from moebench.plan import Plan
from moebench.records import metric_of
from moebench.spec.types import Amount, Claim, Compare


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The effect is above, or below, a value."""

    side: Literal["above", "below"]
    value: float
    strict: bool = False
    """Whether an exact count at the bound fails it: "lower" is not met by equal, "at least twice" is met by twice."""


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
    share_of: Contrast | None = None
    """The gain of which a share is asked."""
    gain: Contrast | None = None
    """The gain that is to be such a share."""


# ---------------------------------------------------------------------------------------------- kinds


def superior(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    sign = _direction(claim.metric)
    bound = _bound(test.margin, sign, better=True)
    return Hypothesis(
        contrast=_difference(claim, sign, log=test.margin.relative),
        support=(Bound(side="above", value=bound, strict=True),),
        refute=(Bound(side="below", value=bound),),
        reading=_reading(claim, sign, relative=test.margin.relative),
        asked=_at_least(test.margin, claim.metric, sign),
    )


def non_inferior(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    sign = _direction(claim.metric)
    bound = _bound(test.margin, sign, better=False)
    return Hypothesis(
        contrast=_difference(claim, sign, log=test.margin.relative),
        support=(Bound(side="above", value=bound),),
        refute=(Bound(side="below", value=bound),),
        reading=_reading(claim, sign, relative=test.margin.relative),
        asked=f"<= {_amount(test.margin, claim.metric)} {'lower' if sign > 0 else 'higher'}",
    )


def equivalent(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Two one-sided tests (Schuirmann 1987): the 90% interval lies inside the margins."""
    sign = orientation(claim.metric) or 1
    low, high = _bound(test.margin, sign, better=False), _bound(test.margin, sign, better=True)
    return Hypothesis(
        contrast=_difference(claim, sign, log=test.margin.relative),
        support=(Bound(side="above", value=low), Bound(side="below", value=high)),
        refute=(Bound(side="below", value=low), Bound(side="above", value=high)),
        reading=_reading(claim, sign, relative=test.margin.relative),
        asked=f"within {_amount(test.margin, claim.metric)}",
        level=0.05,
    )


def ratio_at_least(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Baseline over treatment where lower is better, else treatment over baseline."""
    sign = orientation(claim.metric) or 1
    bound = math.log(test.value)
    return Hypothesis(
        contrast=_difference(claim, sign, log=True),
        support=(Bound(side="above", value=bound),),
        refute=(Bound(side="below", value=bound),),
        reading=Reading(form="ratio", sign=1, unit="ratio"),
        asked=f">= {test.value:g}x",
    )


def ratio_within(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """Treatment over baseline, whatever the direction of the metric."""
    low, high = math.log(test.low), math.log(test.high)
    return Hypothesis(
        contrast=_difference(claim, 1, log=True),
        support=(Bound(side="above", value=low), Bound(side="below", value=high)),
        refute=(Bound(side="below", value=low), Bound(side="above", value=high)),
        reading=Reading(form="ratio", sign=1, unit="ratio"),
        asked=f"{test.low:g}x to {test.high:g}x",
    )


def recovers(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """(A - M) - f (A - T) per seed, M treatment, A baseline, T ceiling: no ratio of noisy differences is formed."""
    compare, sign, share = _compare(claim), _direction(claim.metric), float(test.value)
    if compare.ceiling is None:
        raise Withheld("invalid", "`recovers` needs a ceiling to compare with")
    weights = {compare.treatment: 1.0, compare.baseline: share - 1.0, compare.ceiling: -share}
    return Hypothesis(
        contrast=_weighted(claim.metric, {model: sign * weight for model, weight in weights.items()}, log=False),
        support=(Bound(side="above", value=0.0),),
        refute=(Bound(side="below", value=0.0),),
        reading=Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit),
        asked=f">= {share * 100:g}% of the gain of {compare.ceiling} over {compare.baseline}",
        gain=_weighted(claim.metric, {compare.treatment: sign, compare.baseline: -sign}, log=False),
        share_of=_weighted(claim.metric, {compare.ceiling: sign, compare.baseline: -sign}, log=False),
    )


def trend(claim: Claim, test: Any, plan: Plan) -> Hypothesis:
    """The least-squares slope of each seed over the swept value, on a log scale where all values are positive."""
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
    return Hypothesis(
        contrast=_weighted(claim.metric, weights, log=False),
        support=(Bound(side="above", value=0.0, strict=True),),
        refute=(Bound(side="below", value=0.0),),
        reading=Reading(form="difference", sign=sign, unit=f"{metric_of(claim.metric).unit} {per}"),
        asked=f"{test.sign} with {along}",
    )


def interaction(claim: Claim, test: Any, _plan: Plan) -> Hypothesis:
    """The treatment's gain on one metric minus its gain on another."""
    if claim.minus is None:
        raise Withheld("invalid", "`interaction` needs a second metric in `minus`")
    sign, other, log = _direction(claim.metric), _direction(claim.minus), test.margin.relative
    if not log and metric_of(claim.metric).unit != metric_of(claim.minus).unit:
        raise Withheld("invalid", f"{claim.metric} and {claim.minus} have different units: give the margin in %")
    here, there = _difference(claim, sign, log=log), _difference(claim, -other, log=log, metric=claim.minus)
    bound = _bound(test.margin, sign, better=True)
    return Hypothesis(
        contrast=Contrast(terms=here.terms + there.terms, log=log),
        support=(Bound(side="above", value=bound, strict=True),),
        refute=(Bound(side="below", value=bound),),
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
    slack = abs(test.value) * test.tolerance.value if test.tolerance.relative else test.tolerance.value
    within = (Bound(side="above", value=test.value - slack), Bound(side="below", value=test.value + slack))
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


def _weighted(metric: str, weights: dict[str, float], *, log: bool) -> Contrast:
    terms = (Term(model=model, metric=metric, weight=float(weight)) for model, weight in weights.items() if weight)
    return Contrast(terms=tuple(terms), log=log)


def _bound(margin: Amount, sign: int, *, better: bool) -> float:
    """The oriented effect of being better, or worse, by just the margin."""
    towards = 1 if better else -1
    if not margin.relative:
        return towards * margin.value
    change = sign * towards * margin.value
    if change <= -1:
        raise Withheld("invalid", f"nothing can be {margin} lower")
    return sign * math.log1p(change)


def _reading(claim: Claim, sign: int, *, relative: bool) -> Reading:
    if relative:
        return Reading(form="percent", sign=sign, unit="%")
    return Reading(form="difference", sign=sign, unit=metric_of(claim.metric).unit)


def _amount(margin: Amount, metric: str) -> str:
    return str(margin) if margin.relative else f"{margin.value:g} {metric_of(metric).unit}"


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
