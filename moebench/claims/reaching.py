"""What it cost a run to reach a quality: tokens, FLOPs or steps at the crossing of its own curve.

With one budget each run's evaluation curve is read as it fell, learning rate not yet decayed at the crossing, and every
number made this way carries the `UNDECAYED` label. Where the plan gives every model of a claim three budgets or more,
by decay branches, their final losses are read instead: the crossing lies between what runs of two budgets reached. It
is the plan that decides, never what came out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moebench import stats
from moebench.claims.hypothesis import Withheld
from moebench.metrics.ref import MetricRef, labelled
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome
from moebench.suite.claim import Target

CURVE, DECAYED = "curve.bits_per_byte", "decayed.bits_per_byte"
UNDECAYED, OVER_BUDGETS = "crossing on an undecayed curve", "crossing over decayed budgets"
FEWEST_BUDGETS = 3
"""That a crossing is read over."""

SPENT = {"curve": "train.tokens", "decayed": "decayed.tokens"}
"""Group of a curve -> what says the tokens at each of its points."""

PAID_IN: dict[str, dict[str, str] | None] = {
    "tokens_to_quality": SPENT,
    "flops_to_quality": {"curve": "train.model_flops", "decayed": "decayed.model_flops"},
    "seconds_to_quality": None,
}
"""Metric -> for either group of curves, that of what had been spent by each of its points; None for micro-batches,
which the speed session times."""


_MORE = 1 + 1e-9
"""A quality not reached with all that was spent takes more than that: a ratio of 1 to it is above 1."""


def rests_on(metric: str) -> tuple[str, ...]:
    """What a crossing is read from; nothing for a metric that is none."""
    base = MetricRef.parse(metric).base
    if base not in PAID_IN:
        return ()
    paid = PAID_IN[base]
    return (CURVE, DECAYED, *(["speed.train_step_s"] if paid is None else paid.values()))


def quality_curve(curve: str, on: str | None) -> str:
    """The curve that a target is read from: of bits per byte, or of the answers that it is `on`, at the same points."""
    ref = None if on is None else MetricRef.parse(on)
    return curve if ref is None else labelled(f"{group_of(curve)}.answer_bits", task=ref.get("task"))


def group_of(curve: str) -> str:
    """`curve` or `decayed`."""
    return MetricRef.parse(curve).group


def curve_of(plan: Plan, models: Collection[str]) -> str:
    """The curve that a crossing of these models is read from: `DECAYED` where each has budgets enough, else `CURVE`."""
    planned = [plan.decoders.get(name) for name in models]
    enough = all(model is not None and len(model.recipe.branches) + 1 >= FEWEST_BUDGETS for model in planned)
    return DECAYED if planned and enough else CURVE


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The bits per byte to reach, which may differ by seed."""

    by_seed: Mapping[int, float]
    """NaN where there is none: the model that sets it did not complete with that seed."""
    says: str
    curve: str = CURVE
    """Whose losses reach it."""

    @staticmethod
    def of(evidence: Evidence, target: Target, compared: Collection[str]) -> Goal:
        """The goal of a claim. Raises Withheld when the model that sets it has no finished curve.

        A model that is itself compared sets a goal for each seed, its final value with that seed: pairs stay pairs,
        and it reaches its own final value by construction. Any other model sets one goal for all, its mean.
        """
        seeds = evidence.plan.spec.seeds
        unit, of = ("bits/byte", "") if target.on is None else ("bits", f" in {target.on}")
        if target.reach is None:
            raise Withheld("invalid", "no target says which quality is to be reached")
        if not isinstance(target.reach, str):
            curve = quality_curve(curve_of(evidence.plan, compared), target.on)
            says = f"to {target.reach:g} {unit}{of}"
            return Goal(by_seed=dict.fromkeys(seeds, float(target.reach)), says=says, curve=curve)
        model = target.reach
        curve = quality_curve(curve_of(evidence.plan, {*compared, model}), target.on)
        finals = {o.seed: o.curves[curve][-1][1] for o in evidence.outcomes_of([model]) if _complete(o, curve)}
        if not finals:
            raise Withheld("not_tested", f"{model}, whose final quality is to be reached, has no finished run")
        if model in compared:
            goals = {seed: finals.get(seed, math.nan) for seed in seeds}
            return Goal(by_seed=goals, says=f"to the final quality of {model} with the same seed{of}", curve=curve)
        mean = float(np.mean(list(finals.values())))
        says = f"to the mean final quality of {model}{of}, {mean:.4g} {unit}"
        return Goal(by_seed=dict.fromkeys(seeds, mean), says=says, curve=curve)


def _complete(outcome: Outcome, curve: str) -> bool:
    return outcome.status == "completed" and bool(outcome.curves.get(curve))


def cost_to_quality(outcome: Outcome, metric: str, goal: Goal, plan: Plan) -> tuple[float, float]:
    """The least and the most that a completed run had spent when its curve first reached the goal.

    Of `seconds_to_quality`, micro-batches. Equal where the curve crosses it; from all that was spent to infinity when
    it never did; from 0 to the first evaluation when it was met before; anything when the goal is unknown. A branch
    that diverged reached nothing, so a crossing beside it lies anywhere between its neighbours. Raises Withheld when
    the curve was not measured.
    """
    curve = outcome.curves.get(goal.curve, ())
    if not curve:
        raise Withheld("not_tested", f"{outcome.model} has no {goal.curve}")
    paid = PAID_IN[MetricRef.parse(metric).base]
    paid_in = None if paid is None else paid[group_of(goal.curve)]
    if paid_in is not None:
        spent = dict(outcome.curves.get(paid_in, ()))
    elif outcome.model in plan.decoders:
        recipe = plan.decoders[outcome.model].recipe
        spent = {step: step * recipe.batch_tokens / recipe.micro_batch_tokens for step, _ in curve}
    else:
        raise Withheld("not_tested", f"{outcome.model} is not trained here: how long its steps take is not known")
    points = [(spent[step], value) for step, value in curve if spent.get(step, 0.0) > 0]
    if len(points) != len(curve):
        lost = len(curve) - len(points)
        raise Withheld("not_tested", f"{outcome.model} has no {paid_in} at {lost} evaluation points")
    reach = goal.by_seed.get(outcome.seed, math.nan)
    if math.isnan(reach):
        return 0.0, math.inf
    cost = stats.crossing(np.array([x for x, _ in points]), np.array([y for _, y in points]), reach)
    if math.isnan(cost):
        return 0.0, points[0][0]
    if math.isinf(cost):
        return points[-1][0] * _MORE, math.inf
    if group_of(goal.curve) == "decayed":
        return _beside_diverged(cost, points, [step for step, _ in curve], plan.decoders[outcome.model].recipe.branches)
    return cost, cost


def _beside_diverged(
    cost: float, points: Sequence[tuple[float, float]], steps: Sequence[int], branches: Sequence[int]
) -> tuple[float, float]:
    """The crossing, or what encloses it where budgets between two points have no end."""
    at = next((index for index, (spent, _) in enumerate(points) if spent >= cost), len(points) - 1)
    low, first = (0.0, 0) if at == 0 else (points[at - 1][0], steps[at - 1])
    lost = any(first < branch < steps[at] for branch in branches)
    return (low, points[at][0]) if lost else (cost, cost)


def overtaking_curve(plan: Plan, models: Iterable[str], metric: str) -> str:
    """The curve by which one model overtakes another: of decayed points where both are to have two, else `metric`."""
    planned = [plan.decoders.get(name) for name in models]
    decayed = all(model is not None and model.recipe.branches for model in planned)
    return DECAYED if decayed and metric == CURVE else metric


def share_to_overtake(one: Outcome, other: Outcome, curve: str) -> tuple[float, float]:
    """The least and the most share of the budget after which the curve of `one` stays below that of `other`.

    Between the last point at which it does not and the next, where the line through their difference, over the log of
    tokens, is 0. From 0 to the first point where it is below from there on; from all of the budget to infinity where it
    is not below at the end. A run that diverged is above all that did not; a branch that did is no point, and a share
    beside it lies anywhere between its neighbours. Raises Withheld for other points.
    """
    if one.status == other.status == "diverged":
        return 0.0, math.inf
    told = next(run for run in (one, other) if run.status != "diverged")
    at = [step for step, _ in told.curves.get(curve, ())]
    spent = dict(told.curves.get(SPENT.get(group_of(curve), ""), ()))
    if len(at) < 2 or any(step not in spent for step in at):
        raise Withheld("not_tested", f"{told.model} has no {curve} with tokens at two points or more")
    curves = [dict(run.curves.get(curve, ())) for run in (one, other)]
    lost: set[int] = set()
    if curve == DECAYED and one.status == other.status == "completed":
        lost = curves[0].keys() ^ curves[1].keys()
        curves = [{step: value for step, value in values.items() if step not in lost} for values in curves]
        at = [step for step in at if step not in lost]
        if len(at) < 2:
            raise Withheld("not_tested", f"{one.model} and {other.model} have no two points of {curve} in common")
    for run, values in zip((one, other), curves, strict=True):
        if run.status != "diverged" and sorted(values) != sorted(at):
            raise Withheld("invalid", f"{one.model} and {other.model} have {curve} at different points")
    ahead = [values.get(step, math.inf) for values in curves for step in sorted(at)]
    below = np.array(ahead[len(at) :]) - np.array(ahead[: len(at)])
    share = np.array([spent[step] for step in sorted(at)]) / spent[max(at)]
    behind = np.flatnonzero(~(below > 0))
    if not len(behind):
        return 0.0, float(share[0])
    last = int(behind[-1])
    if last == len(at) - 1:
        return _MORE, math.inf
    here, there = below[last], below[last + 1]
    part = -here / (there - here) if math.isfinite(here) and math.isfinite(there) else 1.0
    if any(sorted(at)[last] < step < sorted(at)[last + 1] for step in lost):
        return float(share[last]), float(share[last + 1])
    crossed = math.log(share[last]) + part * math.log(share[last + 1] / share[last])
    return (math.exp(crossed),) * 2
