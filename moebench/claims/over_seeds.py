"""One effect a seed: the weighted sum of what the runs of a seed came to, and the sample that all seeds make.

A diverged run has the worst value there is; where it stands on no one side it speaks against the claim only. A number
that has no log makes the claim invalid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from moebench import stats
from moebench.claims import items
from moebench.claims.best import BestOf
from moebench.claims.hypothesis import Contrast, Withheld, orientation
from moebench.claims.items import Clusters
from moebench.claims.spread import SpreadRatio
from moebench.counting.counted import count
from moebench.format import MINUS
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A contrast's effects, as far as they were measured."""

    effects: stats.Array
    """[n], + favours the claim; infinite where a run diverged or never got there, NaN where unknown which way."""
    least: stats.Array | None = None
    """[n], the least that each can be; absent where that is `effects`. The cost of a quality never reached has no upper
    end, but a lower one: what was spent."""
    most: stats.Array | None = None
    seeds: tuple[int, ...] = ()
    """The seed, or process, of each effect."""
    exact: Fraction | None = None
    """Of counts, and of what came out alike in every run as it must: the sum, or for logs the ratio itself, without
    rounding."""
    units: Literal["seeds", "processes", "counts", "items"]
    planned: int
    """How many there would be if nothing were missing."""
    missing: tuple[str, ...] = ()
    """Each absent effect with its reason."""
    items: stats.Estimate | None = None
    """The same contrast with its error over documents, where documents are known and every effect is finite."""
    item_noise: float = 0.0
    """The part of that error which is scatter over seeds, and so in `effects` as well."""
    clusters: Clusters | None = None
    """Where every model is a single run: what `effects` are of; then there is one effect an item, or group of items."""
    single: tuple[str, ...] = ()
    """Models of one run, whose scatter over runs is in nothing that is shown."""
    known_sd: float | None = None
    """Of one effect alone: the SD over seeds that it would have if its models scattered as others of the suite do."""
    whole: BestOf | SpreadRatio | None = None
    """Where the best of several, or the ratio of two SDs, is asked: what decides. `effects` then only tell what each
    seed adds to it."""
    second: stats.Array | None = None
    """[processes], effects that add to `effects` and come from processes instead of seeds: log step times."""
    used: tuple[Outcome, ...] = ()
    """The runs it rests on."""
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.effects)


def counted_value(plan: Plan, model: str, metric: str) -> float:
    """A counted metric of a planned model or published system. Raises Withheld for what the plan has not counted."""
    system = plan.systems.get(model)
    if model not in plan.models and system is None:
        raise Withheld("not_tested", f"{model} is neither a model of this suite nor a published system that is counted")
    values = {**(plan.counts(model) if model in plan.models else {}), **(system.counts if system else {})}
    if metric in values:
        return values[metric]
    blueprint = plan.models[model].blueprint if model in plan.models else None
    if blueprint is None and plan.is_external(model):
        raise Withheld("not_tested", f"{metric} of {model} is not known: give its `config`, or its sizes, in the suite")
    if blueprint is None:
        raise Withheld("not_tested", f"{metric} is not counted in the plan")
    ref = MetricRef.parse(metric)
    try:
        return count(blueprint, ref.base, dict(ref.labels))
    except LookupError as error:
        raise Withheld("not_tested", f"{model}: {error.args[0]}") from None


Ends = tuple[float, float]
"""The least and the most that a number can be: equal where it was measured."""


def sum_of(contrast: Contrast, value: Callable[[Outcome, str], Ends]) -> Callable[[dict[str, Outcome]], Ends]:
    """The weighted sum over the runs of a seed. `value` gives a completed run's metric, or raises Withheld."""
    return lambda runs: sum_of_ends(contrast, runs, value)


def over_seeds(evidence: Evidence, contrast: Contrast, effect: Callable[[dict[str, Outcome]], Ends]) -> Sample:
    """One effect a seed, of its runs by model. `effect` raises Withheld with the reason where there is none.

    Raises Withheld when nothing is left, or when a value makes the whole claim invalid.
    """
    effects: list[Ends] = []
    missing: list[str] = []
    used: dict[int, tuple[Outcome, ...]] = {}
    seeds = sorted(evidence.plan.spec.seeds)  # whatever the suite's order, so that it is no choice
    if all(map(evidence.plan.is_single, contrast.models)):
        seeds = seeds[:1]  # one run each is one effect, however many seeds the suite has
    for seed in seeds:
        try:
            runs = {model: done_run(evidence, model, seed) for model in contrast.models}
            effects.append(effect(runs))
        except Withheld as absent:
            if absent.state == "invalid":
                raise
            missing.append(f"seed {seed}: {absent.reason}")
            continue
        used[seed] = tuple(runs.values())
    planned = len(seeds)
    if not effects:
        why = missing[0] if missing else "no seeds"
        raise Withheld("not_tested", f"0 of {planned} seeds present ({why})")
    least, most = np.array(effects).T
    known = bool(np.all(least == most))
    values = np.array([middle(*ends) for ends in effects])
    finite = bool(np.all(np.isfinite(values)))
    linear = finite and contrast.formed is None
    over_items, noise = items.beside_seeds(contrast, list(used.values())) if linear else (None, 0.0)
    return Sample(
        effects=values,
        least=None if known else least,
        most=None if known else most,
        seeds=tuple(used),
        units="seeds",
        planned=planned,
        missing=tuple(missing),
        items=over_items,
        item_noise=noise,
        used=tuple(outcome for runs_of_seed in used.values() for outcome in runs_of_seed),
    )


def middle(least: float, most: float) -> float:
    """What stands for an effect in a centre: infinite when it is open one way, NaN when both ways."""
    if math.isinf(least) and math.isinf(most):
        return least if least == most else math.nan
    if math.isinf(least) or least == most:
        return least
    return most if math.isinf(most) else (least + most) / 2


def done_run(evidence: Evidence, model: str, seed: int) -> Outcome:
    outcome = evidence.outcome(model, seed)
    if outcome is None:
        raise Withheld("not_tested", f"{model} is not planned with this seed")
    if not outcome.done:
        why = f": {outcome.reason}" if outcome.reason else ""
        raise Withheld("not_tested", f"{model} is {outcome.status}{why}")
    return outcome


def sum_of_ends(contrast: Contrast, runs: dict[str, Outcome], value: Callable[[Outcome, str], Ends]) -> Ends:
    """The ends of the weighted sum; infinite when one side is, both ways when both are: inf - inf is unknown.

    Where a diverged run stands on no one side it speaks against the claim only, by the first of its terms.
    """
    low = high = 0.0
    for model, metric in contrast.measured:
        if runs[model].status == "completed":
            value(runs[model], metric)
    unknown = not contrast.sided and any(run.status == "diverged" for run in runs.values())
    diverged: set[str] = set()
    for term in contrast.terms:
        run = runs[term.model]
        where = f"{term.metric} of {run.model} with seed {run.seed}"
        if run.status == "diverged" and not _before_training(term.metric):
            if run.model in diverged:
                unknown = True
                continue
            diverged.add(run.model)
            ends = _worst(term.metric)
        else:
            ends = value(run, term.metric)
            if contrast.log:
                ends = _log(ends, where)
        first, last = sorted((term.weight * ends[0], term.weight * ends[1]))
        low, high = low + first, high + last
    return (
        -math.inf if unknown or math.isnan(low) else low,
        math.inf if math.isnan(high) else high,
    )


def _before_training(metric: str) -> bool:
    """Whether a metric does not depend on how training went: a diverged run is no worse by it, only unmeasured."""
    return MetricRef.parse(metric).group in ("memory", "init")


def _worst(metric: str) -> Ends:
    """What a diverged run is worth, as a value or as its log; anything when the metric has no better direction."""
    sign = orientation(metric)
    return (-math.inf, math.inf) if sign == 0 else (-sign * math.inf,) * 2


def _log(ends: Ends, where: str) -> Ends:
    """The logs of the ends. Raises Withheld for a measured number that has none; an open end is 0 or infinity."""
    if ends[0] == ends[1]:
        return (scaled(ends[0], True, where),) * 2
    return math.log(ends[0]) if ends[0] > 0 else -math.inf, math.log(ends[1])


def scaled(value: float, log: bool, where: str) -> float:
    """Raises Withheld for a number that has no log: the claim, not the seed, is at fault."""
    if not log:
        return float(value)
    if value <= 0:
        shown = f"{value:g}".replace("-", MINUS)
        margin = "give the margin in the metric's own unit"
        raise Withheld("invalid", f"{where} is {shown}, of which no ratio can be formed: {margin}")
    return math.log(value)


def final(outcome: Outcome, metric: str) -> float:
    if metric in outcome.values:
        return outcome.values[metric]
    unmeasured = "not measured before it diverged" if outcome.status == "diverged" else "not measured"
    why = outcome.absent.get(metric, unmeasured)
    raise Withheld("not_tested", f"{outcome.model} has no {metric} ({why})")
