"""What was fixed before the data, what of it was changed since, and what of it is not there yet.

A verdict rests on a sealed plan: claims, the definitions of their models, the family, seeds and sessions are those of
the plan when it was first stored. What changes later can only make a verdict weaker. A claim, or a choice of seeds,
that came after runs it uses is post hoc; every other set of runs, or session, of the same models is a look; claims that
were withdrawn keep their share of Holm's correction; and until all that was planned for a claim is there, it has an
estimate and no verdict, as stopping at a lucky moment is a choice too.

Sessions of the same timing are counted as looks and not pooled: they come from other days, and pooling would let a
new session rescue an old one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from moebench.claims.contrasts import Contrast, Sample
from moebench.evidence import Evidence
from moebench.plan import Plan, StoredPlan
from moebench.records import metric_of, parse_metric
from moebench.spec.types import Claim

MOST_NAMED = 3
"""Absent runs that a reason names one by one."""


def rests_on(claim: Claim) -> tuple[bool, bool]:
    """Whether a claim is about finished runs, and whether it is about the speed session."""
    kind = metric_of(claim.metric).kind
    seconds = parse_metric(claim.metric)[0] == "seconds_to_quality"
    return kind in ("seeded", "event"), kind == "timed" or seconds


def is_exact(claim: Claim) -> bool:
    """Whether a claim is settled without chance, so that no correction for chance concerns it."""
    return metric_of(claim.metric).kind == "counted" or claim.test.kind == "exact"


# ---------------------------------------------------------------------------------------------- post hoc


def post_hoc(evidence: Evidence, name: str, claim: Claim) -> tuple[str, ...]:
    """Why a claim cannot count as made before the data, in words; empty when it can."""
    found: list[str] = []
    if _is_late(evidence, evidence.stored, name):
        what = "a run" if rests_on(claim)[0] else "the speed session"
        found.append(f"first stored, with its models as they are, after {what} it uses was done")
    if rests_on(claim)[0] and (words := _chosen_seeds(evidence, claim)) is not None:
        found.append(words)
    return tuple(found)


def _is_late(evidence: Evidence, stored: StoredPlan, name: str) -> bool:
    """Whether something that a claim of a plan rests on was seen before the claim was first stored."""
    plan, first = stored.plan, stored.first_stored(name)
    claim, done = plan.spec.claims[name], _finished(evidence)
    on_runs, on_session = rests_on(claim)
    about = set(plan.models_of(claim))
    seen = [done[run.id] for run in plan.runs if on_runs and run.model in about and run.id in done]
    begun = _begun(evidence, plan)
    return any(at < first for at in [*seen, *([begun] if on_session and begun is not None else [])])


def _chosen_seeds(evidence: Evidence, claim: Claim) -> str | None:
    """How the seeds were chosen after runs they use were done: seeds that were planned, or done, are left out."""
    plan, sealed = evidence.plan, _seeds_stored(evidence, claim)
    seeds, trainings = set(plan.spec.seeds), set(map(plan.training, plan.models_of(claim)))
    used = left = False
    kept: set[int] = set()
    for seed, at in _seen(evidence, claim, trainings):
        if at < sealed:
            used |= seed in seeds
            left |= seed not in seeds
            kept |= {seed} - seeds
    for other in _related(evidence, claim):
        if other.stored_at < sealed and not set(other.plan.spec.seeds) <= seeds:
            left = True
            kept |= set(other.plan.spec.seeds) - seeds
    if not (used and left):
        return None
    named = ", ".join(map(str, sorted(kept)[:MOST_NAMED])) + (", ..." if len(kept) > MOST_NAMED else "")
    words = f"seed {named} is" if len(kept) == 1 else f"seeds {named} are"
    return f"its seeds were chosen after some were done: {words} left out"


def _seen(evidence: Evidence, claim: Claim, trainings: set[str]) -> Iterator[tuple[int, float]]:
    """Seed and time of every finished run of the claim's models, in whatever plan or none."""
    done = _finished(evidence)
    for plan in (evidence.plan, *(other.plan for other in _related(evidence, claim))):
        about = {name for name in plan.models if plan.training(name) in trainings}
        yield from ((run.seed, done[run.id]) for run in plan.runs if run.model in about and run.id in done)
    yield from ((run.seed, run.finished) for run in evidence.history.strays if run.training in trainings)


def _seeds_stored(evidence: Evidence, claim: Claim) -> float:
    """When just these runs of the claim's models were first planned."""
    own = _runs(evidence.plan, evidence.plan, claim)
    same = [one.stored_at for one in _related(evidence, claim) if _runs(one.plan, evidence.plan, claim) == own]
    return min([evidence.stored.stored_at, *same])


# ---------------------------------------------------------------------------------------------- looks


def looks(evidence: Evidence, claim: Claim, sample: Sample) -> int:
    """How often this claim could be looked at: now, and at each other set of runs, or session, of the same models."""
    found = 1
    if rests_on(claim)[0] and sample.units != "counts":
        found += _other_runs(evidence, claim)
    if rests_on(claim)[1]:
        found += _other_sessions(evidence, claim, sample)
    return found


def _other_runs(evidence: Evidence, claim: Claim) -> int:
    """Other sets of runs of the claim's models that were planned, and begun, before this plan could be judged.

    A set within this plan's runs was looked at when anything of it was done, in full or in part, whichever of the two
    was stored first; another one when anything was done that this plan does not have.
    """
    plan, done = evidence.plan, _finished(evidence)
    own = _runs(plan, plan, claim)
    ready = max(max((done.get(run, math.inf) for run in own), default=math.inf), _seeds_stored(evidence, claim))
    seen: set[frozenset[str]] = set()
    for other in _related(evidence, claim):
        theirs = _runs(other.plan, plan, claim)
        shared = {name for name in plan.models_of(claim) if plan.training(name) in _trainings(other.plan)}
        mine = {run.id for run in plan.runs if run.model in shared}
        if theirs == mine or other.stored_at >= ready:
            continue
        begun = any(run in done for run in theirs) if theirs <= mine else _any_before(ready, theirs - mine, done)
        if begun:
            seen.add(frozenset(_runs(other.plan, plan, claim, first=True)))
    known = {run.id for one in (plan, *(p.plan for p in _related(evidence, claim))) for run in one.runs}
    wanted = set(map(plan.training, plan.models_of(claim)))
    strays = any(
        run.training in wanted and run.run_id not in known and run.finished < ready for run in evidence.history.strays
    )
    return len(seen) + strays


def _any_before(at: float, runs: Iterable[str], done: Mapping[str, float]) -> bool:
    return any(done.get(run, math.inf) < at for run in runs)


def _other_sessions(evidence: Evidence, claim: Claim, sample: Sample) -> int:
    """Other sessions on this machine that timed the same of the same models, begun before this one was done."""
    if sample.units == "counts":
        return 0
    plan = evidence.plan
    metrics = {"speed.train_step_s"} if sample.second is not None else set(filter(None, (claim.metric, claim.minus)))
    compared = [plan.training(name) for name in plan.models_of(claim)]
    here = {process.machine for process in evidence.processes if process.machine is not None}
    ready = math.inf if evidence.speed_finished is None else evidence.speed_finished
    return sum(
        session.begun < ready
        and (not here or not session.machines or not here.isdisjoint(session.machines))
        and all(not metrics.isdisjoint(session.timed.get(training, ())) for training in compared)
        for session in evidence.history.sessions
    )


# ---------------------------------------------------------------------------------------------- the family


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """A primary claim of another plan of the same jobs, which this plan does not make, or makes otherwise."""

    id: str
    says: str
    plan: str
    """Id of a plan that made it."""


def family_size(evidence: Evidence) -> int:
    """Claims that Holm counts: those of the largest primary family among stored plans of the same jobs."""
    return max(len(_family(evidence, one)) for one in (evidence.stored, *_same_jobs(evidence)))


def withdrawn(evidence: Evidence) -> tuple[Withdrawn, ...]:
    """Primary claims that other plans of the same jobs made and this one does not, each once."""
    here = {evidence.plan.seal(name) for name in evidence.plan.claim_hashes}
    found: dict[str, Withdrawn] = {}
    for other in sorted(_same_jobs(evidence), key=lambda one: one.stored_at):
        for name in _family(evidence, other):
            seal = other.plan.seal(name)
            if seal not in here:
                says = other.plan.spec.claims[name].says
                found.setdefault(seal, Withdrawn(id=name, says=says, plan=other.plan.id))
    return tuple(found.values())


def _family(evidence: Evidence, stored: StoredPlan) -> list[str]:
    """A plan's primary claims that chance concerns and that came before the data."""
    claims = stored.plan.spec.claims
    primary = [name for name in stored.plan.claim_hashes if claims[name].family == "primary"]
    return [name for name in primary if not is_exact(claims[name]) and not _is_late(evidence, stored, name)]


def _same_jobs(evidence: Evidence) -> list[StoredPlan]:
    """Other plans of this suite and scale with a training in common, and plans of any suite with a claim in common."""
    plan = evidence.plan
    seals, trainings = {plan.seal(name) for name in plan.claim_hashes}, _trainings(plan)
    return [
        other
        for other in evidence.history.plans
        if not seals.isdisjoint(map(other.plan.seal, other.plan.claim_hashes))
        or ((other.plan.suite, other.plan.scale) == (plan.suite, plan.scale) and trainings & _trainings(other.plan))
    ]


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
    return "; ".join(found) + (f"; `{evidence.plan.command}` finishes it" if ends else "")


def _absent_runs(evidence: Evidence, claim: Claim) -> Iterator[tuple[int, str]]:
    """Seeds of which a run that the claim is about is not done, each with why."""
    for seed in evidence.plan.spec.seeds:
        for model in evidence.plan.models_of(claim):
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


# ---------------------------------------------------------------------------------------------- parts


def _finished(evidence: Evidence) -> Mapping[str, float]:
    """Run id -> when it was first done, of this plan's runs and of all others in the folder."""
    own = {run.run_id: run.finished for run in evidence.outcomes if run.finished is not None}
    return own | dict(evidence.history.finished)


def _begun(evidence: Evidence, plan: Plan) -> float | None:
    """When a plan's speed session was begun; None where nothing of it is there."""
    if plan.speed is None:
        return None
    own = evidence.speed_finished if plan.speed == evidence.plan.speed else None
    return evidence.history.begun.get(plan.speed.id, own)


def _trainings(plan: Plan) -> set[str]:
    return set(map(plan.training, plan.models))


def _related(evidence: Evidence, claim: Claim) -> Iterable[StoredPlan]:
    """Other plans that could show the comparison: with two trainings of the claim's models, or the only one."""
    wanted = set(map(evidence.plan.training, evidence.plan.models_of(claim)))
    enough = min(2, len(wanted))
    return [one for one in evidence.history.plans if len(wanted & _trainings(one.plan)) >= max(1, enough)]


def _runs(plan: Plan, of: Plan, claim: Claim, *, first: bool = False) -> set[str]:
    """Ids of a plan's runs of the models that a claim of another plan is about; of the first of them alone if asked."""
    wanted = {of.training(name): place for place, name in reversed(list(enumerate(of.models_of(claim))))}
    about = {name: wanted[plan.training(name)] for name in plan.models if plan.training(name) in wanted}
    if first and about:
        about = {name: place for name, place in about.items() if place == min(about.values())}
    return {run.id for run in plan.runs if run.model in about}
