"""What was fixed before the data, and what of it is not there yet.

A verdict rests on a sealed plan: claims, the definitions of their models, family, seeds and sessions are those of the
plan when it was first stored. Until all of what it planned for a claim is there, the claim has an estimate and no
verdict: which runs have come in is no choice of the suite's, and stopping at a lucky moment is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from moebench.claims.contrasts import Contrast, Sample
from moebench.evidence import Evidence
from moebench.plan import Plan
from moebench.spec.types import Claim

MOST_NAMED = 3
"""Absent runs that a reason names one by one."""


def models_of(claim: Claim, plan: Plan) -> tuple[str, ...]:
    """Every model of the plan that a claim is about: compared, ceiling, points of its sweep, setter of its target."""
    compare, target = claim.compare, claim.target
    named = [compare.treatment, compare.baseline, compare.ceiling] if compare is not None else []
    named += plan.spec.sweeps.get(claim.over or "", {})
    named += [claim.model, target.reach if target is not None and isinstance(target.reach, str) else None]
    return tuple(dict.fromkeys(name for name in named if name in plan.models))


# ---------------------------------------------------------------------------------------------- finished or not


def unfinished(evidence: Evidence, claim: Claim, contrast: Contrast, sample: Sample) -> str | None:
    """What is absent of what was planned for a claim, in words; None when all is there.

    A diverged run is an outcome and not absent; a process could not time a model that diverged.
    """
    if sample.units == "counts":
        return None
    found: list[str] = []
    ends = False
    if sample.units != "processes":
        runs = dict(_absent_runs(evidence, claim))
        ends = bool(runs)
        kept = len(evidence.plan.spec.seeds) - len(runs)
        absent = [f"seed {seed}: {why}" for seed, why in runs.items()] or list(sample.missing)
        if absent:
            n = kept if runs else sample.n
            found.append(f"{n} of {sample.planned} {sample.units}: {_few(absent)}")
    if sample.units == "processes" or sample.second is not None:
        metric = None if sample.units == "processes" else "speed.train_step_s"
        lacking = dict(_absent_timings(evidence, contrast, metric))
        if lacking:
            ends = True
            planned = len(evidence.plan.speed.processes) if evidence.plan.speed else 0
            words = [f"process {process}: {why}" for process, why in lacking.items()]
            found.append(f"{planned - len(lacking)} of {planned} processes: {_few(words)}")
    if not found:
        return None
    return "; ".join(found) + (f"; `{_command(evidence.plan)}` finishes it" if ends else "")


def _absent_runs(evidence: Evidence, claim: Claim) -> Iterator[tuple[int, str]]:
    """Seeds of which a run that the claim is about is not done, each with why."""
    for seed in evidence.plan.spec.seeds:
        for model in models_of(claim, evidence.plan):
            run = evidence.outcome(model, seed)
            if run is not None and not run.done:
                yield seed, f"{model} is {run.status}" + (f": {run.reason}" if run.status in TELLING else "")
                break


TELLING = ("failed", "corrupt")
"""States of a run whose reason says more than the state."""


def _absent_timings(evidence: Evidence, contrast: Contrast, metric: str | None) -> Iterator[tuple[int, str]]:
    """Planned processes that have not timed what the claim is about, each with why."""
    there = {process.process: process for process in evidence.processes}
    for index, seed in enumerate(evidence.plan.speed.processes if evidence.plan.speed else ()):
        process = there.get(index)
        if process is None:
            yield index, "not there"
            continue
        for term in contrast.terms:
            run, wanted = evidence.outcome(term.model, seed), metric or term.metric
            if wanted not in process.values.get(term.model, {}) and not (run and run.status == "diverged"):
                yield index, f"no {wanted} of {term.model}"
                break


def _few(words: list[str]) -> str:
    more = len(words) - MOST_NAMED
    return "; ".join(words[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _command(plan: Plan) -> str:
    return f"moebench run {plan.suite}" + (f" --scale {plan.scale}" if plan.scale else "")
