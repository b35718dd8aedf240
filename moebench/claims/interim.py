"""What is absent of what was planned for a claim: until all is there, it has an estimate and no verdict.

Which runs have come in is no choice of the suite's, and stopping at a lucky moment is one.
"""

from __future__ import annotations

from collections.abc import Iterator

from moebench.claims.hypothesis import Contrast
from moebench.claims.samples import Sample
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim

MOST_NAMED = 3
"""Absent runs that a reason names one by one."""
TELLING = ("failed", "corrupt")
"""States of a run whose reason says more than the state."""


def unfinished(evidence: Evidence, claim: Claim, contrast: Contrast, sample: Sample) -> str | None:
    """What is absent of what was planned for a claim, in words; None when all is there.

    A diverged run is an outcome and not absent; a process could not time a model that diverged.
    """
    if sample.units == "counts":
        return None
    absences: list[str] = []
    ends = False
    if sample.units != "processes":
        runs = dict(_absent_runs(evidence, claim))
        ends = bool(runs)
        kept = len(evidence.plan.spec.seeds) - len(runs)
        absent = [f"seed {seed}: {why}" for seed, why in runs.items()] or list(sample.missing)
        if absent:
            n = kept if runs else sample.n
            absences.append(f"{n} of {sample.planned} {sample.units}: {_few(absent)}")
    if sample.units == "processes" or sample.second is not None:
        metric = None if sample.units == "processes" else "speed.train_step_s"
        lacking = dict(_absent_timings(evidence, contrast, metric))
        if lacking:
            ends = True
            planned = len(evidence.plan.speed.processes) if evidence.plan.speed else 0
            words = [f"process {process}: {why}" for process, why in lacking.items()]
            absences.append(f"{planned - len(lacking)} of {planned} processes: {_few(words)}")
    if not absences:
        return None
    return "; ".join(absences) + (f"; `{evidence.plan.command}` finishes it" if ends else "")


def _absent_runs(evidence: Evidence, claim: Claim) -> Iterator[tuple[int, str]]:
    """Seeds of which a run that the claim is about is not done, each with why."""
    for seed in evidence.plan.spec.seeds:
        for model in evidence.plan.models_of(claim):
            run = evidence.outcome(model, seed)
            if run is not None and not run.done:
                yield seed, f"{model} is {run.status}" + (f": {run.reason}" if run.status in TELLING else "")
                break


def _absent_timings(evidence: Evidence, contrast: Contrast, metric: str | None) -> Iterator[tuple[int, str]]:
    """Planned processes that have not timed what the claim is about, each with why."""
    there = {process.process: process for process in evidence.processes}
    for index, seed in enumerate(evidence.plan.speed.processes if evidence.plan.speed else ()):
        process = there.get(index)
        if process is None:
            yield index, evidence.unread.get(index, "not there")
            continue
        for model, timed in contrast.measured:
            run, wanted = evidence.outcome(model, seed), metric or timed
            if wanted not in process.values.get(model, {}) and not (run and run.status == "diverged"):
                yield index, f"no {wanted} of {model}"
                break


def _few(words: list[str]) -> str:
    more = len(words) - MOST_NAMED
    return "; ".join(words[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
