"""Scores on tasks, and what of them is decided: the numbers of the section of tasks.

A task's metric is one that only the suite, lm-eval or somebody's table knows. A score has an interval over seeds, or
over items where there is one run; a difference to the baseline is asked as a claim with margin 0 would be, and Holm
counts all tasks of a model. Items are won where the model is better on them, and lost where it is worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from moebench import stats
from moebench.claims.hypothesis import Contrast, orientation
from moebench.claims.items import items_of
from moebench.claims.judge import ask
from moebench.claims.verdict import Verdict
from moebench.format import interval, listed, plural
from moebench.metrics import METRICS, metric_of
from moebench.metrics.ref import MetricRef, labelled
from moebench.metrics.tasks import CHANCE, CUT
from moebench.reporting.analysis import Findings, Mean
from moebench.suite.claim import Claim

LEVEL = 0.025
"""One-sided, shared by Holm over the tasks of a model."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One metric of one task."""

    metric: str
    """With its labels."""
    name: str
    """As a reader knows it: `arc_easy`, or `arc_easy (acc_norm)` where a task has several metrics."""
    unit: str
    share: bool
    """Whether it lies between 0 and 1, and is written in percent."""
    better: Literal["higher", "lower", "neither"]
    chance: float | None
    """What guessing gets; None where that is not known."""
    ceiling: float | None
    """The best there is; None where there is none."""
    conditions: str
    """How it was measured, `0-shot, version 1`; several where runs differ, empty where that is not known."""

    def text(self, value: Mean) -> str:
        """A score as it is written everywhere."""
        scale = 100 if self.share else 1
        centre, low, high = scale * value.centre, scale * value.low, scale * value.high
        return interval(centre, low, high, "%" if self.share else self.unit, signed=False)

    def difference(self, centre: float, low: float | None, high: float | None) -> str:
        """A difference of two scores; of shares in percentage points."""
        scale = 100 if self.share else 1
        ends = [None if end is None else scale * end for end in (low, high)]
        return interval(scale * centre, ends[0], ends[1], "points" if self.share else self.unit, signed=True)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model reached."""

    mean: Mean
    over: str
    """What its interval is over: seeds or items; one value has none."""
    items: int
    """Items of one run; 0 where they are not known."""

    @property
    def n(self) -> str:
        """`8 seeds × 500 items`, `500 items`, `1 run`."""
        runs = plural(self.mean.n, "seed") if self.over == "seeds" and self.mean.n > 1 else ""
        return " × ".join(filter(None, (runs, plural(self.items, "item") if self.items else ""))) or "1 run"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A model against the baseline on one task, paired."""

    verdict: Verdict
    """On the question whether it is better, margin 0."""
    p: float | None = None
    """Of the better-supported side, after Holm over the tasks."""
    won: float | None = None
    """Items on which it is better, mean over seeds; None where the items are not known alike."""
    lost: float | None = None
    tied: float | None = None

    @property
    def side(self) -> Literal["better", "worse"] | None:
        """What is decided, Holm counted; None where nothing is."""
        if self.p is None or self.p > LEVEL:
            return None
        sides: dict[str, Literal["better", "worse"]] = {"supported": "better", "refuted": "worse"}
        return sides.get(self.verdict.state)


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """All tasks of a suite."""

    tasks: tuple[Task, ...] = ()
    scores: Mapping[tuple[str, str], Score] = field(default_factory=dict)
    """(metric, model) -> its score."""
    gaps: Mapping[tuple[str, str], Gap] = field(default_factory=dict)
    """(metric, model) -> the model against the baseline."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Metric -> what the others are set against: the suite's baseline, or that of the claims about the metric."""
    absent: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(metric, model) -> why there is no score."""

    @property
    def others(self) -> tuple[str, ...]:
        """The models that others are set against."""
        return tuple(dict.fromkeys(self.baselines.values()))

    def models(self, among: Sequence[str]) -> list[str]:
        """Those that have a score."""
        return [model for model in among if any(key[1] == model for key in self.scores)]

    def at_chance(self) -> list[Task]:
        """Tasks on which no model is shown to be better than guessing."""
        return [task for task in self.tasks if task.chance is not None and not any(self._above(task))]

    def _above(self, task: Task) -> Iterator[bool]:
        for (metric, _), score in self.scores.items():
            if metric == task.metric and task.chance is not None:
                m = score.mean
                yield m.low > task.chance if task.better == "higher" else m.high < task.chance

    def tally(self, model: str) -> dict[str, int]:
        """How many tasks a model is better on, worse, or undecided."""
        sides = [gap.side or "undecided" for (_, one), gap in self.gaps.items() if one == model]
        return {side: sides.count(side) for side in ("better", "worse", "undecided")}


def tasks(findings: Findings) -> Tasks:
    """The tasks of a suite, with every model's score and its difference to the baseline."""
    metrics = list(dict.fromkeys(_metrics(findings)))
    if not metrics:
        return Tasks()
    scores: dict[tuple[str, str], Score] = {}
    for metric in metrics:
        for model in findings.study.models:
            if (score := _score(findings, metric, model)) is not None:
                scores[metric, model] = score
    shown = [metric for metric in metrics if any(key[0] == metric for key in scores)]
    absent = {
        (metric, run.model): run.absent[metric]
        for run in findings.study.evidence.outcomes
        for metric in shown
        if metric in run.absent and (metric, run.model) not in scores
    }
    made = tuple(_task(findings, metric, shown) for metric in shown)
    baselines = {task.metric: one for task in made if (one := _baseline(findings, task, scores)) is not None}
    gaps = _gaps(findings, baselines, scores)
    return Tasks(tasks=made, scores=scores, gaps=gaps, baselines=baselines, absent=absent)


def _baseline(findings: Findings, task: Task, scores: Mapping[tuple[str, str], Score]) -> str | None:
    """What a task's scores are set against; None where there is nothing, or neither direction is better."""
    if task.better == "neither" or sum(metric == task.metric for metric, _ in scores) < 2:
        return None
    claims = findings.plan.spec.claims.values()
    asked = [claim.compare.baseline for claim in claims if claim.compare and claim.metric == task.metric]
    named = [findings.baseline, *asked]
    return next((one for one in named if one is not None and (task.metric, one) in scores), None)


def _metrics(findings: Findings) -> Iterator[str]:
    """Every metric of the runs that is in no table of moebench's, tasks in the order of the runs' records.

    A perplexity is left out where bits per byte of the same task say the same.
    """
    for run in findings.study.evidence.outcomes:
        for metric in run.values:
            ref = MetricRef.parse(metric)
            again = str(ref).replace("word_perplexity", "bits_per_byte").replace("byte_perplexity", "bits_per_byte")
            if ref.base not in (*METRICS, CHANCE, CUT) and (again == metric or again not in run.values):
                yield metric


def _task(findings: Findings, metric: str, every: Sequence[str]) -> Task:
    ref, facts = MetricRef.parse(metric), metric_of(metric)
    told = {run.conditions[metric] for run in findings.study.evidence.outcomes if metric in run.conditions}
    best = {"higher": facts.within.high, "lower": facts.within.low}
    named, word = ref.get("task"), ref.base.rpartition(".")[2]
    alone = named is not None and sum(MetricRef.parse(one).get("task") == named for one in every) == 1
    return Task(
        metric=metric,
        name=str(ref) if named is None else named if alone else f"{named} ({word})",
        unit=facts.unit,
        share=facts.unit == "1" and facts.within.high == 1,
        better=facts.better,
        chance=facts.chance if facts.chance is not None else _guessing(findings, ref),
        ceiling=best.get(facts.better),
        conditions="; ".join(sorted(told)),
    )


def _guessing(findings: Findings, ref: MetricRef) -> float | None:
    """What was recorded of guessing, for an accuracy; None where runs differ in it."""
    task = (ref.get("task") or "").partition(":")[0]
    if not task or not ref.base.rpartition(".")[2].startswith("acc"):
        return None
    name = labelled(CHANCE, task=task)
    told = {run.values[name] for run in findings.study.evidence.outcomes if name in run.values}
    return told.pop() if len(told) == 1 else None


def _score(findings: Findings, metric: str, model: str) -> Score | None:
    runs = [run for run in findings.study.evidence.outcomes_of([model]) if metric in run.values]
    drawn = findings.drawn(Contrast.of(metric, {model: 1.0})) if runs else None
    if drawn is None:
        return None
    m, over = drawn
    within = metric_of(metric).within
    low = m.low if within.low is None else max(m.low, within.low)
    high = m.high if within.high is None else min(m.high, within.high)
    return Score(mean=replace(m, low=low, high=high), over=over, items=len(items_of(runs[0], metric)))


# ---------------------------------------------------------------------------------------------- against the baseline


def _gaps(
    findings: Findings, baselines: Mapping[str, str], scores: Mapping[tuple[str, str], Score]
) -> dict[tuple[str, str], Gap]:
    pairs = {
        f"{metric} {model}": (metric, model)
        for metric, baseline in baselines.items()
        for model in findings.study.models
        if model != baseline and (metric, model) in scores
    }
    questions = {name: _question(metric, model, baselines[metric]) for name, (metric, model) in pairs.items()}
    verdicts = {pairs[verdict.id]: verdict for verdict in ask(findings.study.evidence, questions)}
    gaps: dict[tuple[str, str], Gap] = {}
    for model in findings.study.models:
        mine = {key: verdict for key, verdict in verdicts.items() if key[1] == model}
        tested = {key: min(v.p, v.p_against) for key, v in mine.items() if v.p is not None and v.p_against is not None}
        adjusted = dict(zip(tested, stats.holm(list(tested.values())), strict=True))
        for (metric, _), verdict in mine.items():
            won = _won(findings, metric, model, baselines[metric])
            gaps[metric, model] = Gap(verdict=verdict, p=adjusted.get((metric, model)), **won)
    return gaps


def _question(metric: str, model: str, baseline: str) -> Claim:
    compare = {"treatment": model, "baseline": baseline}
    test = {"kind": "superior", "margin": 0}
    return Claim.model_validate({"says": "which is better", "compare": compare, "metric": metric, "test": test})


def _won(findings: Findings, metric: str, model: str, baseline: str) -> dict[str, float]:
    """Items won, lost and tied, mean over the seeds in which both models have the same items."""
    evidence, sign = findings.study.evidence, orientation(metric)
    counts = []
    singles = findings.plan.is_single(model) and findings.plan.is_single(baseline)
    for seed in findings.plan.spec.seeds[:1] if singles else findings.plan.spec.seeds:
        runs = [evidence.outcome(one, seed) for one in (model, baseline)]
        mine, other = ({} if run is None else {i.name: i.value / i.size for i in items_of(run, metric)} for run in runs)
        if not mine or mine.keys() != other.keys():
            continue
        change = sign * np.array([value - other[name] for name, value in mine.items()])
        counts.append([(change > 0).sum(), (change < 0).sum(), (change == 0).sum()])
    return dict(zip(("won", "lost", "tied"), np.mean(counts, axis=0).tolist(), strict=True)) if counts else {}


# ---------------------------------------------------------------------------------------------- in words


def headline(findings: Findings) -> str:
    """What is decided of the suite's pair over all tasks, or of its one task."""
    every, treatment, baseline = findings.tasks, findings.treatment, findings.baseline
    mine = [
        (task, every.gaps[task.metric, treatment])
        for task in every.tasks
        if (task.metric, treatment) in every.gaps and every.baselines[task.metric] == baseline
    ]
    if not mine:
        return _alone(findings)
    if len(mine) == 1:
        task, gap = mine[0]
        v = gap.verdict
        size = "" if v.estimate is None else f": {task.difference(v.estimate, v.low, v.high)}"
        decided = f"against {baseline}, undecided" if gap.side is None else f"is {gap.side} than {baseline}"
        return f"On {task.name} {treatment} {decided}{size}"
    tally = every.tally(treatment)
    told = [f"{side} on {tally[side]}" for side in ("better", "worse") if tally[side]]
    if not told:
        return f"{treatment} against {baseline}: undecided on all {plural(len(mine), 'task')}"
    left = f"; {tally['undecided']} undecided" if tally["undecided"] else ""
    return f"Against {baseline}, of {plural(len(mine), 'task')} {treatment} is {listed(told)}{left}"


def _alone(findings: Findings) -> str:
    """Where nothing is compared: what is shown to be above guessing."""
    every = findings.tasks
    models = every.models(findings.study.models)
    known = [task for task in every.tasks if task.chance is not None]
    if len(models) != 1 or not known:
        return f"Scores of {listed(models)}"
    above = len(known) - len(every.at_chance())
    return f"{models[0]} is better than guessing on {above} of {plural(len(known), 'task')}"
