"""What a claim asks in numbers: a contrast between models, and bounds on it.

A `Contrast` is a weighted sum of one metric's values, or of their logs, over models: a difference, a log-ratio, a slope
over a sweep, a share of a gain. Where it is no sum, as the best point of a sweep or a rank correlation, `formed` makes
one effect a seed of the values. It is oriented so that + favours the claim, which is supported when all bounds in
`support` hold and refuted when any in `refute` does. `samples` fills it in, `decide` holds it against its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from moebench.metrics import metric_of
from moebench.metrics.metric import Kind, Metric
from moebench.metrics.ref import MetricRef


class Withheld(Exception):  # noqa: N818  not an error: an answer that is withheld
    """No verdict of supported, refuted or inconclusive is possible; `judge` makes a verdict of it."""

    def __init__(self, state: Literal["invalid", "not_tested", "cited"], reason: str) -> None:
        super().__init__(reason)
        self.state: Literal["invalid", "not_tested", "cited"] = state
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Term:
    model: str
    metric: str
    weight: float

    @property
    def base(self) -> str:
        """The metric without its labels."""
        return MetricRef.parse(self.metric).base

    @property
    def facts(self) -> Metric:
        """What the metric means."""
        return metric_of(self.metric)


Array = npt.NDArray[np.float64]
Form = Callable[[Array], Array]
"""From the values [seeds, terms] of a contrast's terms, all finite, to one effect a seed. Raises ValueError with the
reason where there is none."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum over models, or what `formed` makes of their values; oriented so that + favours the claim."""

    terms: tuple[Term, ...]
    """Never with weight 0."""
    log: bool
    """Whether the sum is over logs of the values: effects are then log-ratios."""
    rests_on: tuple[str, ...] = ()
    """Models that must be there and in order though their weight is 0, as the middle one of a sweep."""
    sided: bool = True
    """Whether the models stand on two sides, so that a diverged run is as bad as can be for its own. Along a sweep
    they do not: a run that diverged never speaks for the claim."""
    formed: Form | Literal["best", "spread", "overtaking", "median"] | None = None
    """What makes effects of the values where it is no weighted sum; weights then give signs alone, and there are no
    items. `best`: how much the best of all models but the first lies above the first; `spread`: the
    log-ratio of the SDs over seeds of two models; `overtaking`: the log of the share of the budget after which the
    curve of the first stays better; `median`: that of published systems, by family and year. A seed of which a run
    diverged is unknown both ways, and no part of what is made of the others."""

    @staticmethod
    def of(metric: str, weights: Mapping[str, float], *, log: bool = False, rests_on: tuple[str, ...] = (),
           sided: bool = True) -> Contrast:  # fmt: skip
        """The sum of weight x value over models; those of weight 0 are left out."""
        terms = tuple(Term(model=name, metric=metric, weight=float(w)) for name, w in weights.items() if w)
        return Contrast(terms=terms, log=log, rests_on=rests_on, sided=sided)

    def plus(self, other: Contrast, *, sided: bool) -> Contrast:
        """The sum of both; a model that stands in each with one metric is held once, with both its weights.

        Where other models come in the sum has no sides: a run of theirs that diverged would speak for the claim.
        """
        weights: dict[tuple[str, str], float] = {}
        for term in (*self.terms, *other.terms):
            weights[term.model, term.metric] = weights.get((term.model, term.metric), 0.0) + term.weight
        terms = tuple(Term(model=m, metric=name, weight=w) for (m, name), w in weights.items() if w)
        rests_on = self.rests_on if sided else tuple(dict.fromkeys((*self.models, *other.models)))
        return replace(self, terms=terms, rests_on=rests_on, sided=sided)

    def times(self, factor: float) -> Contrast:
        return replace(self, terms=tuple(replace(term, weight=factor * term.weight) for term in self.terms))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(term.model for term in self.terms), *self.rests_on)))

    @property
    def measured(self) -> tuple[tuple[str, str], ...]:
        """Every (model, metric) that must be there, those of weight 0 included."""
        named = [(term.model, term.metric) for term in self.terms]
        metrics = dict.fromkeys(term.metric for term in self.terms)
        idle = [name for name in self.rests_on if name not in {term.model for term in self.terms}]
        return tuple(dict.fromkeys([*named, *((name, metric) for name in idle for metric in metrics)]))

    @property
    def kind(self) -> Kind:
        """Kind of its metrics. Raises Withheld when they have several; what is formed may rest on counts beside."""
        kinds = {term.facts.kind for term in self.terms}
        if self.formed is not None and len(kinds) > 1:
            kinds -= {"counted"}
        if len(kinds) > 1:
            raise Withheld("invalid", f"metrics of different kinds ({', '.join(sorted(kinds))}) cannot be paired")
        return kinds.pop()

    @property
    def rests_on_loss(self) -> bool:
        """Whether any of its metrics is, or is computed from, language-modelling loss."""
        return any(term.facts.rests_on_loss for term in self.terms)

    @property
    def timings(self) -> tuple[str, ...]:
        """The timed metrics that it rests on; what a process counted takes no time."""
        facts = [(term.metric, term.facts) for term in self.terms if not term.facts.same_each_time]
        timed = (metric if of.kind == "timed" else of.timed_by for metric, of in facts)
        return tuple(dict.fromkeys(metric for metric in timed if metric is not None))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The effect is above, or below, a value."""

    side: Literal["above", "below"]
    value: float
    strict: bool = False
    """Whether an exact count at the bound fails it: "lower" is not met by equal, "at least twice" is met by twice."""
    exact: Fraction | None = None
    """The same for counts, without rounding: of log-ratios the ratio itself. None where `value` is not rounded."""


@dataclass(frozen=True)
class Level:
    """An oriented effect that is asked for, as a number and without rounding."""

    value: float
    exact: Fraction | None = None

    @staticmethod
    def of(exact: Fraction) -> Level:
        return Level(float(exact), exact)

    @staticmethod
    def log(ratio: Fraction) -> Level:
        """The log of a ratio > 0."""
        return Level(math.log(ratio), ratio)

    def above(self, *, strict: bool = False) -> Bound:
        return Bound(side="above", value=self.value, strict=strict, exact=self.exact)

    def below(self) -> Bound:
        return Bound(side="below", value=self.value, exact=self.exact)


SHRUNK = 0.95
"""What a rank correlation is multiplied by before Fisher's z is taken, so that a perfect order has one."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How an oriented effect reads as a printed number."""

    form: Literal["percent", "ratio", "difference", "correlation"]
    """Effects are log-ratios for the first two, Fisher's z of `SHRUNK` times the correlation for the last."""
    sign: int
    """-1 when the printed number falls as the claim is favoured."""
    unit: str
    threshold: float = 0.0
    """Of a correlation: the effect at the bound, from which distances are told."""

    def show(self, effect: float) -> float:
        """The printed number; may be infinite."""
        value = self.sign * effect + 0.0  # no -0
        if self.form == "difference":
            return value
        if self.form == "correlation":
            return math.tanh(value) / SHRUNK
        grown = math.inf if value > 700 else math.exp(value)
        return grown if self.form == "ratio" else 100 * (grown - 1)

    def show_distance(self, distance: float) -> float:
        """A distance > 0 between two effects, in the printed unit: a percentage, a factor or a difference."""
        upright = replace(self, sign=1)
        if self.form == "correlation":
            return abs(upright.show(self.threshold + distance) - upright.show(self.threshold))
        return upright.show(distance)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What else must be so, or must not be, before a verdict stands."""

    contrast: Contrast
    must: Literal["be above 0", "not be below 0"]
    """Shown to be above 0, or not shown to be below it; each one-sided at the level of a verdict."""
    zero: float = 0.0
    """What stands in the place of that 0."""
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
    """The range asked for, in words and as printed: `≥ 0.5% lower`."""
    level: float = 0.025
    """One-sided level of each bound in `support`; 0.05 for two one-sided tests (a 90% interval)."""
    exactly: bool = False
    """Whether every single value must lie within the bounds, without any interval."""
    guards: tuple[Guard, ...] = ()
    share_of: Contrast | None = None
    """The gain of which a share is asked."""
    gain: Contrast | None = None
    """The gain that is to be such a share."""


def orientation(metric: str) -> int:
    """+1 when a higher value is better, -1 when a lower one is, 0 when neither."""
    return {"higher": 1, "lower": -1, "neither": 0}[metric_of(metric).better]


def as_written(number: float) -> Fraction:
    """The decimal number that a float is written as: 0.1 is one tenth, in a suite as in a record."""
    return Fraction(str(number))
