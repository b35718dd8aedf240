"""What must be true of the runs before a claim about them means anything.

Each precondition is a function that returns what is broken, or None. They look at how numbers were made, never at
what the numbers are: a broken one makes the verdict INVALID whichever way it points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from moebench import stats
from moebench.claims.contrasts import Contrast, Sample, Term, draw
from moebench.claims.withheld import Withheld
from moebench.digits import interval
from moebench.evidence import Evidence, Outcome
from moebench.records import metric_of, parse_metric
from moebench.spec.routers import facts

AA_RANGE = (0.98, 1.02)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A claim's contrast with what was drawn for it."""

    evidence: Evidence
    contrast: Contrast
    sample: Sample


def broken(question: Question) -> str | None:
    """The first precondition that fails, in words; None when all hold."""
    return next((why for check in PRECONDITIONS if (why := check(question)) is not None), None)


def _matched(question: Question) -> str | None:
    """Compared models that are matched to each other are as equal as the suite demands."""
    models = set(question.contrast.models)
    for match in question.evidence.plan.matches:
        if {match.model, match.to} <= models and abs(match.residual) > match.tolerance:
            off = f"{match.residual:+.2%} on {match.on}, beyond {match.tolerance:.2%}"
            return f"match: {match.model} misses {match.to} by {off}"
    return None


def _same_data(question: Question) -> str | None:
    """With each seed, the shorter run's tokens are a prefix of the longer's."""
    if question.contrast.kind not in ("seeded", "event"):
        return None
    pairs = pairs_of_runs(question.sample.used)
    return next((f"data: {why}" for pair in pairs if (why := unlike(*pair)) is not None), None)


def unlike(one: Outcome, other: Outcome) -> str | None:
    """How two runs with one seed break the rule that the shorter's tokens are a prefix of the longer's; else None."""
    shorter, longer = sorted((one, other), key=lambda run: max(run.digests, default=0))
    if not shorter.digests:
        return f"no digest of the tokens of {shorter.model} with seed {one.seed}"
    last = max(shorter.digests)
    if shorter.digests[last] != longer.digests.get(last):
        return f"{one.model} and {other.model} with seed {one.seed} did not see the same tokens up to step {last}"
    return None


def _same_test_split(question: Question) -> str | None:
    if question.contrast.kind not in ("seeded", "event"):
        return None
    digests = {run.test_digest for run in question.sample.used}
    return "data: the runs were tested on different test splits" if len(digests) > 1 else None


def _causal(question: Question) -> str | None:
    if not any(is_quality(term.metric) for term in question.contrast.terms):
        return None
    for model in question.contrast.models:
        ffn = question.evidence.plan.models[model].architecture.ffn
        if ffn.kind == "moe" and not facts(ffn.router).causal:
            return f"router: {ffn.router} of {model} sees later tokens, so its language-modelling loss means nothing"
    return None


def _few_diverged(question: Question) -> str | None:
    """No arm lost more than one run, or a tenth of them, to divergence."""
    for model in question.contrast.models:
        runs = [run for run in question.sample.used if run.model == model]
        diverged = sum(run.status == "diverged" for run in runs)
        if diverged > max(1, 0.1 * len(runs)):
            return f"divergence: {diverged} of {len(runs)} runs of {model} diverged"
    return None


def _quiet_machine(question: Question) -> str | None:
    """The baseline raced against itself came out equal, as far as its 99% interval can tell."""
    for metric in timings(question.contrast):
        race = against_itself(question.evidence, metric)
        if race is None:
            return f"A/A: {metric} of the baseline was not raced against itself"
        low, high = np.exp([race.interval(0.99).low, race.interval(0.99).high])
        if low > AA_RANGE[1] or high < AA_RANGE[0]:
            apart = interval(float(np.exp(race.centre)), float(low), float(high), "ratio")
            return f"A/A: the baseline takes {apart} its own time in {metric}, outside {AA_RANGE[0]} to {AA_RANGE[1]}"
    return None


PRECONDITIONS: tuple[Callable[[Question], str | None], ...] = (
    _matched,
    _same_data,
    _same_test_split,
    _causal,
    _few_diverged,
    _quiet_machine,
)


# ---------------------------------------------------------------------------------------------- parts


def is_quality(metric: str) -> bool:
    """Whether a metric is, or rests on, language-modelling loss."""
    base = parse_metric(metric)[0]
    return base.endswith(("bits_per_byte", "bits_per_token", "_to_quality"))


def is_time(metric: str) -> bool:
    """Whether a metric is itself a time, not a figure derived from one."""
    return parse_metric(metric)[0].startswith("speed.") and metric_of(metric).unit == "s"


def timings(contrast: Contrast) -> tuple[str, ...]:
    """The timed metrics that a contrast rests on."""
    found: list[str] = []
    for term in contrast.terms:
        base, _ = parse_metric(term.metric)
        if base == "seconds_to_quality":
            found.append("speed.train_step_s")
        elif base.startswith("speed."):
            found.append(term.metric)
    return tuple(dict.fromkeys(found))


_TIMED_BY = {
    "speed.train_utilisation": "speed.train_step_s",
    "speed.decode_bandwidth_utilisation": "speed.decode_step_s",
}
"""Figures derived from a timing, whose race against itself stands for theirs."""


def against_itself(evidence: Evidence, metric: str) -> stats.Estimate | None:
    """Log-ratio of the baseline's second copy to its first in the speed session; None when it was not raced."""
    if evidence.plan.speed is None:
        return None
    baseline = evidence.plan.speed.baseline
    base, bracket, labels = metric.partition("[")
    for name in (metric, _TIMED_BY.get(base, base) + bracket + labels):
        again = Term(model=f"{baseline}~again", metric=name, weight=1.0)
        first = Term(model=baseline, metric=name, weight=-1.0)
        try:
            sample = draw(evidence, Contrast(terms=(again, first), log=True), None, None)
        except Withheld:
            continue
        if sample.n >= 2:
            return stats.paired(sample.effects)
    return None


def pairs_of_runs(used: Iterable[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Every two runs with one seed."""
    by_seed: dict[int, list[Outcome]] = {}
    for run in used:
        by_seed.setdefault(run.seed, []).append(run)
    return [pair for runs in by_seed.values() for pair in combinations(runs, 2)]
