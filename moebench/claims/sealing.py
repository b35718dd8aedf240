"""What was fixed before the data, what of it was changed since, and what of it is not there yet.

A verdict rests on a sealed plan: claims, the definitions of their models, the family, seeds and sessions are those of
the plan when it was first stored. What changes later can only make a verdict weaker. A claim, or a choice of seeds,
that came after runs it uses is post hoc; every other set of runs, or session, of the same models is a look, but for
runs of another suite that asked another question of other seeds; and claims that were withdrawn keep their share of
Holm's correction.

Sessions of the same timing are counted as looks and not pooled: they come from other days, and pooling would let a
new session rescue an old one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from moebench.claims.samples import Sample
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef
from moebench.planning.planned import AnyPlanned, PlannedModel
from moebench.reader.evidence import Evidence
from moebench.reader.history import Told
from moebench.suite.claim import Claim
from moebench.suite.looks import is_exact, levels_of
from moebench.suite.types import SuiteSpec

MOST_NAMED = 3
"""Seeds that a reason names one by one."""


def rests_on(spec: SuiteSpec, claim: Claim) -> tuple[bool, bool]:
    """Whether a claim is about finished runs, and whether it is about the speed session."""
    metrics = [one.metric for one in spec.concerns(claim)]
    kinds = {metric_of(metric).kind for metric in metrics}
    seconds = any(MetricRef.parse(metric).base in ("seconds_to_quality", "leverage.seconds") for metric in metrics)
    return not kinds.isdisjoint(("seeded", "event", "laddered")), "timed" in kinds or seconds


# ---------------------------------------------------------------------------------------------- post hoc


def post_hoc(evidence: Evidence, name: str, claim: Claim) -> tuple[str, ...]:
    """Why a claim cannot count as made before the data, in words; empty when it can."""
    reasons: list[str] = []
    if _is_late(evidence, evidence.told, name):
        on_runs = rests_on(evidence.plan.spec, claim)[0]
        what = "a run" if on_runs else "the speed session"
        afresh = " (with seeds that are not done yet it would come first)" if on_runs else ""
        reasons.append(f"first stored, with its models as they are, after {what} it uses was done{afresh}")
    if rests_on(evidence.plan.spec, claim)[0] and (words := _chosen_seeds(evidence, name, claim)) is not None:
        reasons.append(words)
    return tuple(reasons)


def _is_late(evidence: Evidence, told: Told, name: str) -> bool:
    """Whether something that a claim of a plan rests on was seen before the claim was first stored."""
    seen = _seen(evidence, told, name)
    return seen < told.first_stored(name) and seen < _first_asked(evidence, told, name)[0]


def _seen(evidence: Evidence, told: Told, name: str) -> float:
    """When the first of what a claim rests on was seen.

    A run with the same training and seed shows what is to come, even where it was scored on other text.
    """
    plan = told.plan
    claim = plan.spec.claims[name]
    on_runs, on_session = rests_on(plan.spec, claim)
    about = {told.trainings[model] for model in plan.models_of(claim)}
    runs = [(training, seed) for training in about for seed in plan.spec.seeds] if on_runs else []
    begun = _begun(evidence, told) if on_session else None
    return min([evidence.seen.get(run, math.inf) for run in runs] + [math.inf if begun is None else begun])


def reworded(evidence: Evidence, name: str) -> str | None:
    """What a claim of the plan said until what it rests on was seen, where it says something else now; else None."""
    told = evidence.told
    if name not in told.seals or _seen(evidence, told, name) >= told.first_stored(name):
        return None
    _, asked = _first_asked(evidence, told, name)
    return None if asked.says == evidence.plan.spec.claims[name].says else asked.says


def _first_asked(evidence: Evidence, told: Told, name: str) -> tuple[float, Claim]:
    """When a claim was first stored with its models as they are here, and what it was then.

    A claim of this name that asked the same in other words is the same, unless it was exploratory and is primary now.
    """
    claim = told.plan.spec.claims[name]
    first = told.first_stored(name), claim
    for other in (evidence.told, *evidence.others):
        then = other.plan.spec.claims.get(name)
        if then is None or name not in other.seals or other.plan.title != told.plan.title:
            continue
        if other.plan.claim_hashes[name] == told.plan.claim_hashes[name]:
            continue
        raised = (then.family, claim.family) == ("exploratory", "primary")
        same = _asks(other.plan.spec, then) == _asks(told.plan.spec, claim)
        if not raised and same and _made(other, then) == _made(told, claim):
            first = min(first, (other.first_stored(name), then), key=lambda one: one[0])
    return first


def _asks(spec: SuiteSpec, claim: Claim) -> tuple[Claim, ...]:
    """A claim without its words and its family, and so those that it puts together."""
    every = (claim, *(spec.concerns(claim) if claim.test.combines else ()))
    return tuple(one.model_copy(update={"says": "", "family": "exploratory"}) for one in every)


def _made(told: Told, claim: Claim) -> object:
    """How the models of a claim are defined and asked, and the data."""
    models = {name: told.plan.models[name] for name in told.plan.models_of(claim)}
    defined = {name: (_definition(one), told.plan.data_of(name).digest) for name, one in models.items()}
    return defined, told.plan.asking(claim)


def _definition(planned: AnyPlanned) -> object:
    return (planned.architecture, planned.recipe) if isinstance(planned, PlannedModel) else planned


def _chosen_seeds(evidence: Evidence, name: str, claim: Claim) -> str | None:
    """How the seeds were chosen after runs they use were done: seeds that were planned, or compared, are left out.

    Where they were done with other definitions of the models, to take fewer from the first one on is no choice.
    """
    plan, sealed, done = evidence.plan, _seeds_stored(evidence, claim), evidence.finished
    seeds = set(plan.spec.seeds)
    about = _trainings(evidence, claim)
    piloted = {seed for one in _pilots(evidence) for seed in one.plan.spec.seeds}
    seen = {run: at for run, at in evidence.seen.items() if run[1] not in piloted}
    before = Counter(seed for (training, seed), at in seen.items() if training in about and at < sealed)
    earlier = [one.plan.spec.seeds for one in _related(evidence, claim) if one.stored.stored_at < sealed]
    compared = {seed for seed, models in before.items() if models >= _enough(about)}
    left = compared.union(*earlier) - seeds if not seeds.isdisjoint(before) else set()
    for _, runs in _tries(evidence, name, claim):
        times = Counter(seed for run, seed in runs.items() if done.get(run, sealed) < sealed)
        tried = {seed for seed, models in times.items() if models >= _enough(about)}
        left |= {seed for seed in tried - seeds if tried & seeds and seed < max(seeds)}
    if not left:
        return None
    named = ", ".join(map(str, sorted(left)[:MOST_NAMED])) + (", ..." if len(left) > MOST_NAMED else "")
    words = f"seed {named} is" if len(left) == 1 else f"seeds {named} are"
    return f"its seeds were chosen after some were done: {words} left out"


def _seeds_stored(evidence: Evidence, claim: Claim) -> float:
    """When just these runs of the claim's models were first planned: by themselves, or as those of this look."""
    wanted, size = _trainings(evidence, claim), len(evidence.plan.spec.seeds)
    own = _runs(evidence.told, wanted)
    same = [
        one.stored.stored_at
        for one in _related(evidence, claim)
        if _runs(one, wanted, size if _has_our_looks(evidence, one) else None) == own
    ]
    return min([evidence.stored.stored_at, *same])


def _has_our_looks(evidence: Evidence, other: Told) -> bool:
    """Whether another plan is judged after the same seeds at the same levels, as one of other words is."""
    plan, theirs = evidence.plan, other.plan.spec
    looks, seeds = plan.planned_looks, plan.spec.seeds
    if not looks or tuple(theirs.looks) != looks or theirs.seeds[: len(seeds)] != seeds:
        return False
    return levels_of(theirs) == levels_of(plan.spec.model_copy(update={"looks": list(looks)}))


# ---------------------------------------------------------------------------------------------- looks


def looks(evidence: Evidence, claim: Claim, sample: Sample) -> int:
    """How often this claim could be looked at: now, and at each other set of runs, or session, of the same models."""
    number = 1
    on_runs, on_session = rests_on(evidence.plan.spec, claim)
    if on_runs and sample.units != "counts":
        number += _other_runs(evidence, claim)
    if on_session:
        number += _other_sessions(evidence, claim, sample)
    return number


def _other_runs(evidence: Evidence, claim: Claim) -> int:
    """Other sets of runs of the claim's models that were planned, and begun, before this plan could be judged.

    A set within this plan's runs was looked at when anything of it was done, in full or in part, whichever of the two
    was stored first; another one when anything was done that this plan does not have.
    """
    done, wanted = evidence.finished, _trainings(evidence, claim)
    last = max((done.get(run, math.inf) for run in _runs(evidence.told, wanted)), default=math.inf)
    ready = max(last, _seeds_stored(evidence, claim))
    seen: set[frozenset[str]] = set()
    for other, size in _their_looks(evidence, claim):
        shared = [training for training in wanted if training in other.trainings.values()]
        theirs, mine = _runs(other, shared, size), _runs(evidence.told, shared)
        if theirs == mine or other.stored.stored_at >= ready:
            continue
        if theirs.isdisjoint(mine) and not _asked_there(evidence, other, claim):
            continue
        within = theirs <= mine
        times = [done[run] for run in (theirs if within else theirs - mine) if run in done]
        if times and (within or min(times) < ready):
            seen.add(_runs(other, shared[:1], size))
    strays = any(run.training in wanted and run.finished < ready for run in evidence.history.strays)
    return len(seen) + strays


def _their_looks(evidence: Evidence, claim: Claim) -> Iterator[tuple[Told, int]]:
    """Each other plan that could show the comparison, once for each number of seeds at which it may be judged.

    Looks that this plan has as well are paid for by its levels.
    """
    wanted = set(_trainings(evidence, claim))
    for other in _related(evidence, claim):
        if _has_our_looks(evidence, other) and wanted <= set(other.trainings.values()):
            continue
        spec = other.plan.spec
        yield from ((other, size) for size in spec.looks or [len(spec.seeds)])


def _asked_there(evidence: Evidence, other: Told, claim: Claim) -> bool:
    """Whether another plan is of this suite, or makes a claim about the same models, or more, in the same metric.

    Runs of other seeds that answered another question may have led to this one, which its own seeds then answer; only
    where they answered it too could the better of two answers be told.
    """
    if other.plan.suite == evidence.plan.suite:
        return True
    wanted, metrics = set(_trainings(evidence, claim)), _bases(evidence.plan.spec, claim)
    return any(
        wanted <= {other.trainings[name] for name in other.plan.models_of(theirs)}
        and not metrics.isdisjoint(_bases(other.plan.spec, theirs))
        for theirs in other.plan.spec.claims.values()
    )


def _bases(spec: SuiteSpec, claim: Claim) -> set[str]:
    """The metrics of a claim, or of those that it puts together, without their labels."""
    return {MetricRef.parse(one.metric).base for one in spec.concerns(claim)}


def _other_sessions(evidence: Evidence, claim: Claim, sample: Sample) -> int:
    """Other sessions on this machine that timed the same of the same models, begun before this one was done."""
    if sample.units == "counts":
        return 0
    metrics = {"speed.train_step_s"} if sample.second is not None else set(claim.metrics)
    compared = _trainings(evidence, claim)
    here = {process.machine for process in evidence.processes if process.machine is not None}
    ready = math.inf if evidence.speed_finished is None else evidence.speed_finished
    return sum(
        session.begun < ready
        and (not here or not session.machines or not here.isdisjoint(session.machines))
        and all(not metrics.isdisjoint(session.timed.get(training, ())) for training in compared)
        for session in evidence.history.sessions
    )


def tried_otherwise(evidence: Evidence, name: str, claim: Claim) -> int:
    """In how many other definitions of its models this suite's claim was tried: another question, and worth telling."""
    return len({seal for seal, runs in _tries(evidence, name, claim) if any(run in evidence.finished for run in runs)})


def _tries(evidence: Evidence, name: str, claim: Claim) -> Iterator[tuple[str, Mapping[str, int]]]:
    """Every other definition of the models of this suite's claim: its seal, and a plan's runs of it with their seeds.

    None for a claim that the plan does not make, or makes otherwise.
    """
    plan, told = evidence.plan, evidence.told
    if plan.spec.claims.get(name) != claim or name not in told.seals:
        return
    for other in evidence.others:
        same = (other.plan.suite, other.plan.scale) == (plan.suite, plan.scale)
        for theirs, seal in other.seals.items():
            if same and other.plan.claim_hashes[theirs] == plan.claim_hashes[name] and seal != told.seals[name]:
                about = set(other.plan.models_of(other.plan.spec.claims[theirs]))
                yield seal, {run.id: run.seed for run in other.plan.runs if run.model in about}


# ---------------------------------------------------------------------------------------------- the family


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """A primary claim of another plan of the same jobs, which this plan does not make, or makes otherwise."""

    id: str
    says: str
    plan: str
    """Id of a plan that made it."""


def family_size(evidence: Evidence) -> int:
    """Claims that Holm counts: those of the largest primary family among stored plans of the same jobs.

    Of plans that were stored before the data the last one counts. Who goes back to an earlier one may have chosen among
    them all, so the claims of all are counted.
    """
    told, others = evidence.told, _same_jobs(evidence)
    largest = max(len(_family(evidence, one)) for one in (told, *others))
    own = _questions(told, _family(evidence, told))
    every, gone_back = set(own), False
    for other in (one for one in others if one.plan.title == told.plan.title):
        theirs = _questions(other, _family(evidence, other))
        gone_back |= other.stored.stored_at > told.stored.stored_at and not theirs <= own
        every |= theirs
    return max(largest, len(every)) if gone_back else largest


def withdrawn(evidence: Evidence) -> tuple[Withdrawn, ...]:
    """Primary claims that other plans of the same jobs made and this one does not, each once.

    One that is still made, of models defined otherwise, is none of them: `tried_otherwise` tells of it.
    """
    here, asked = set(evidence.plan.claim_hashes.values()), _questions(evidence.told, evidence.told.seals)
    gone: dict[str, Withdrawn] = {}
    for other in sorted(_same_jobs(evidence), key=lambda one: one.stored.stored_at):
        for name in _family(evidence, other):
            if other.plan.claim_hashes[name] not in here and not _questions(other, [name]) <= asked:
                says = other.plan.spec.claims[name].says
                gone.setdefault(other.plan.claim_hashes[name], Withdrawn(id=name, says=says, plan=other.plan.id))
    return tuple(gone.values())


def _questions(told: Told, names: Iterable[str]) -> set[str]:
    """What claims of a plan ask, in whatever words."""
    spec = told.plan.spec
    asked = {name: [one.model_dump_json() for one in _asks(spec, spec.claims[name])] for name in names}
    return {f"{spec.claims[name].family} {name}: {' '.join(texts)}" for name, texts in asked.items()}


def _family(evidence: Evidence, told: Told) -> list[str]:
    """A plan's primary claims that chance concerns and that came before the data."""
    claims = told.plan.spec.claims
    primary = [name for name in told.seals if claims[name].family == "primary"]
    return [
        name for name in primary if not is_exact(told.plan.spec, claims[name]) and not _is_late(evidence, told, name)
    ]


def _same_jobs(evidence: Evidence) -> list[Told]:
    """Other plans of this suite and scale with a training in common, and plans of any suite with a claim in common."""
    plan, seals = evidence.plan, set(evidence.told.seals.values())
    trainings = set(evidence.told.trainings.values())
    return [
        other
        for other in evidence.others
        if not seals.isdisjoint(other.seals.values())
        or (
            (other.plan.suite, other.plan.scale) == (plan.suite, plan.scale)
            and not trainings.isdisjoint(other.trainings.values())
        )
    ]


# ---------------------------------------------------------------------------------------------- parts


def _begun(evidence: Evidence, told: Told) -> float | None:
    """When a plan's speed session was begun; None where nothing of it is there."""
    speed = told.plan.speed
    if speed is None:
        return None
    own = evidence.speed_finished if speed == evidence.plan.speed else None
    return evidence.history.begun.get(speed.id, own)


def _trainings(evidence: Evidence, claim: Claim) -> list[str]:
    """How the models of a claim are trained, each once."""
    return list(dict.fromkeys(evidence.told.trainings[name] for name in evidence.plan.models_of(claim)))


def _related(evidence: Evidence, claim: Claim) -> list[Told]:
    """Other plans that could show the comparison: with two trainings of the claim's models, or the only one.

    A pilot of other seeds shows what may come, and nothing of what does.
    """
    wanted = set(_trainings(evidence, claim))
    others = [one for one in evidence.others if one not in _pilots(evidence)]
    return [one for one in others if len(wanted.intersection(one.trainings.values())) >= _enough(wanted)]


def _pilots(evidence: Evidence) -> list[Told]:
    """Pilots of which the plan has no seed."""
    seeds = set(evidence.plan.spec.seeds)
    return [one for one in evidence.others if one.plan.asked.pilot and seeds.isdisjoint(one.plan.spec.seeds)]


def piloted(evidence: Evidence, claim: Claim) -> int:
    """Seeds of the largest pilot of a claim's models: no look, and worth telling."""
    wanted = set(_trainings(evidence, claim))
    done = [
        {run.seed for run in one.plan.runs if one.trainings[run.model] in wanted and run.id in evidence.finished}
        for one in _pilots(evidence)
    ]
    return max(map(len, done), default=0)


def _enough(trainings: Collection[str]) -> int:
    """Of how many of a claim's models one must see something to see a comparison."""
    return max(1, min(2, len(trainings)))


def _runs(told: Told, trainings: Collection[str], size: int | None = None) -> frozenset[str]:
    """Ids of a plan's runs with one of these trainings, of its first so many seeds or of all."""
    later = set() if size is None else set(told.plan.spec.seeds[size:])
    return frozenset(
        run.id for run in told.plan.runs if told.trainings[run.model] in trainings and run.seed not in later
    )
