"""The precondition `informative`: a task that all models solve, or none, cannot tell them apart.

Its baseline's accuracy is to lie at least 5 points above chance and 5 below the ceiling, both of which the task knows,
with at least 6 seeds. Else a difference of nothing is no finding, and the verdict is INVALID whichever way it points.
Of what it took to get as far as another model only the lower bound is asked: there a task that is solved in the end
tells them apart by when.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from moebench.claims.hypothesis import Contrast
from moebench.data.tasks.known import KnownTask
from moebench.metrics.ref import MetricRef, labelled
from moebench.planning.types import Plan
from moebench.reader.evidence import Outcome
from moebench.suite.claim import Claim, Pair
from moebench.text import listed

POINTS = 0.05
"""Least distance of the baseline's accuracy from chance and from the ceiling."""
FEWEST = 6
"""Seeds with which it is to be kept: as many as a verdict over seeds needs."""
ACCURACY = "task.accuracy"


def uninformative(plan: Plan, claim: Claim, contrast: Contrast, runs: Iterable[Outcome]) -> str | None:
    """Why a claim's tasks tell nothing of its models; None when they do, and for a claim of no task."""
    done = [run for run in runs if run.status == "completed"]
    on = None if claim.target is None else claim.target.on
    metrics = dict.fromkeys((*([on] if on else []), *(term.metric for term in contrast.terms)))
    baselines = tuple(dict.fromkeys(_baselines(plan, claim)))
    for ref in map(MetricRef.parse, metrics):
        task = plan.data.tasks.get(ref.get("task") or "")
        if task is None or ref.group not in ("task", "curve", "decayed"):
            continue
        labels = {key: value for key, value in ref.labels if key in ("task", "instances")}
        for model in baselines:
            seen = [run.values.get(labelled(ACCURACY, **labels)) for run in done if run.model == model]
            found = [one for one in seen if one is not None]
            if (why := _outside(task, found, solvable=str(ref) == on)) is not None:
                return f"informative: {labelled(ACCURACY, **labels)} of {model} {why}"
    return None


def _baselines(plan: Plan, claim: Claim) -> Iterator[str]:
    """What the others are held against: of a sweep its first point, where nothing else is."""
    sweeps = plan.spec.sweeps
    pairs = (claim.compare, claim.minus if isinstance(claim.minus, Pair) else None, claim.share_of)
    sides = [pair.baseline for pair in pairs if pair is not None] or [claim.over or claim.model or ""]
    for side in sides:
        yield next(iter(sweeps.get(side, (side,))))


def _outside(task: KnownTask, accuracies: Sequence[float], *, solvable: bool) -> str | None:
    """In words, where too few of a model's accuracies can go both ways; of a task that may be solved, upwards."""
    low, high = task.chance + POINTS, task.ceiling + 1 if solvable else task.ceiling - POINTS
    if sum(low <= one <= high for one in accuracies) >= FEWEST:
        return None
    below, above = sum(one < low for one in accuracies), sum(one > high for one in accuracies)
    told = [
        words
        for count, words in (
            (below, f"within {POINTS:.0%} of chance ({task.chance:.1%}) with {below}"),
            (above, f"within {POINTS:.0%} of the ceiling ({task.ceiling:.1%}) with {above}"),
        )
        if count
    ]
    where = listed(told, last="and") if told else "known with too few"
    return f"is {where} of {len(accuracies)} seeds: a task that is as good as unsolved or solved tells no models apart"
