"""A claim judged again at the second-best rate of each model, from the runs of the tuning sweep.

The second-best rate of a model is the better of the two that stand next to its best one, all other fields at their
best. All models move there together: that keeps the effort equal, as each is then off its optimum by one step. One
model moved alone is handicapped by the step as such; that is shown, and decides nothing. Where the effect there has the
other sign, and its t interval over tuning seeds and the claim's own interval are both clear of zero, the verdict rests
on the choice of the rates, and is INVALID.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moebench import stats
from moebench.claims.decide import ALPHA, Finding
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.notes import not_its_best
from moebench.claims.verdict import Effect, Sensitivity
from moebench.format import interval, plural
from moebench.reader.evidence import Evidence

LOSS = "test.bits_per_byte"
"""The metric whose like the sweep reads, on the tune split."""


def sensitivity(evidence: Evidence, hypothesis: Hypothesis) -> Sensitivity | None:
    """The effect at the best and at the second-best rates; without numbers, why there are none.

    None for claims of other metrics, and of suites that sweep nothing.
    """
    contrast = hypothesis.contrast
    models = tuple(dict.fromkeys(term.model for term in contrast.terms))
    of_loss = all(term.metric == LOSS for term in contrast.terms) and contrast.formed is None
    if evidence.plan.tune is None or not of_loss or len(models) < 2 or hypothesis.exactly:
        return None
    if (why := _unknown(evidence, models)) is not None:
        return Sensitivity(reason=why)
    assert evidence.sweep is not None
    curves = {name: _Curve(evidence.sweep["models"][name]) for name in models}
    rates = {name: curve.second for name, curve in curves.items()}
    if alone := [name for name, rate in rates.items() if rate is None]:
        return Sensitivity(reason=f"no rate next to the best of {alone[0]} completed")
    second = {name: rate for name, rate in rates.items() if rate is not None}
    best = {name: curve.best for name, curve in curves.items()}
    seeds = sorted(set.intersection(*(curve.seeds(rate) for name, curve in curves.items()
                                      for rate in (best[name], second[name]))))  # fmt: skip
    if not seeds:
        return Sensitivity(reason="no tuning seed is common to the models at their best and second-best rates")

    def effect(at: Mapping[str, float]) -> stats.Array:
        """Oriented effects [seeds] with each model at a rate."""
        values = {name: np.array([curves[name].loss(at[name], seed) for seed in seeds]) for name in models}
        scaled = {name: np.log(value) if contrast.log else value for name, value in values.items()}
        weights = np.array([term.weight for term in contrast.terms])
        effects: stats.Array = weights @ np.array([scaled[term.model] for term in contrast.terms])
        return effects

    return Sensitivity(
        rates=second,
        seeds=len(seeds),
        at_best=_read(hypothesis, effect(best)),
        at_second=_read(hypothesis, effect(second)),
        alone={name: _read(hypothesis, effect({**best, name: second[name]})) for name in models},
        reason=None if len(seeds) > 1 else "1 tuning seed: no interval",
    )


def flipped(found: Sensitivity | None, finding: Finding, hypothesis: Hypothesis) -> str | None:
    """Why the verdict rests on the choice of the rates; None where it is not shown to."""
    if found is None or found.at_second is None or finding.interval is None:
        return None
    reading, at, own = hypothesis.reading, found.at_second, finding.interval
    zero = reading.show(0.0)
    low, high = sorted((reading.show(own.low), reading.show(own.high)))
    if at.low is None or at.high is None or not ((low > zero and at.high < zero) or (high < zero and at.low > zero)):
        return None
    shown = interval(reading.show(finding.centre), low, high, reading.unit, signed=reading.form != "ratio")
    where = ", ".join(f"{name} {rate:g}" for name, rate in found.rates.items())
    return (
        f"tuning: {shown} at the rates trained with, but {at.words(reading.unit)} at each model's second-best rate "
        f"({where}; {plural(found.seeds, 'tuning seed')}): which is ahead depends on the learning rate"
    )


def _unknown(evidence: Evidence, models: tuple[str, ...]) -> str | None:
    """Why the sweep tells nothing of these models."""
    if evidence.sweep is None:
        return f"the sweep that the suite asks for is not there (moebench run {evidence.plan.suite} --tune)"
    if lacking := [name for name in models if name not in evidence.tuned]:
        return f"no sweep of {', '.join(lacking)}"
    return next(filter(None, (not_its_best(evidence, name, of=name, inside=False) for name in models)), None)


class _Curve:
    """A model's losses by rate and seed, other fields at their best."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        self.best = float(model["best_lr"])
        own = [point for point in model["curve"] if point.get("over", {}) == model.get("best", {})]
        self.losses: dict[float, dict[int, float | None]] = {}
        for point in own:
            self.losses.setdefault(float(point["lr"]), {})[point["seed"]] = point["bits_per_byte"]

    @property
    def second(self) -> float | None:
        """The better of the rates next to the best; None where no seed of either is whole."""
        rates = sorted(self.losses)
        if self.best not in rates:
            return None
        index = rates.index(self.best)
        beside = (*rates[max(0, index - 1) : index], *rates[index + 1 : index + 2])
        known = {rate: mean for rate in beside if (mean := self._mean(rate)) is not None}
        return min(known, key=lambda rate: known[rate], default=None)

    def _mean(self, rate: float) -> float | None:
        known = [value for value in self.losses[rate].values() if value is not None]
        return sum(known) / len(known) if len(known) == len(self.losses[rate]) else None

    def seeds(self, rate: float) -> set[int]:
        return {seed for seed, value in self.losses[rate].items() if value is not None}

    def loss(self, rate: float, seed: int) -> float:
        value = self.losses[rate][seed]
        assert value is not None
        return value


def _read(hypothesis: Hypothesis, effects: stats.Array) -> Effect:
    """Mean and t interval as the metric reads."""
    show = hypothesis.reading.show
    if len(effects) < 2:
        return Effect(estimate=show(float(effects[0])))
    mean = stats.paired(effects)
    across = mean.interval(1 - 2 * ALPHA)
    low, high = sorted((show(across.low), show(across.high)))
    return Effect(estimate=show(mean.centre), low=low, high=high)
