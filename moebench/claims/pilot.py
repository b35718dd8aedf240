"""What stored runs of other seeds foretell of a suite's claims: the effect that each could see, and the seeds it needs.

Runs of the same trainings count, of whatever plan, but for those with a seed of the suite: what is fixed by what was
seen must be tested on what was not. Nothing here is a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from moebench import stats
from moebench.claims.decide import weigh
from moebench.claims.hypothesis import Guard, Hypothesis, Withheld
from moebench.claims.kinds.part import Part
from moebench.claims.power import Foresight, Weighed, foresee, guard_alone
from moebench.claims.samples import draw
from moebench.claims.sealing import rests_on
from moebench.format import interval
from moebench.metrics import in_force
from moebench.planning.types import Plan, PlannedJob, StoredPlan
from moebench.reader.evidence import Evidence, gather
from moebench.store import Source
from moebench.suite.claim import Claim
from moebench.suite.looks import LEVEL, family_of, is_exact, levels_of


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """One claim."""

    claim: str
    units: str
    """`seeds` or `processes`."""
    sizes: tuple[int, ...]
    """How many there are at each look."""
    in_sds: tuple[float | None, ...]
    """The smallest effect that each look sees with 80% power, in SDs of the paired difference; None for too few."""
    pilot: int = 0
    """Seeds of the pilot that it rests on."""
    seen: str = ""
    """What the pilot saw."""
    unit: str = ""
    foresight: Foresight | None = None
    why: str = ""
    """Why the pilot tells nothing of it."""


def pilot_of(source: Source, plan: Plan) -> Evidence | None:
    """The finished runs of a plan's models with other seeds than its own, as evidence; None without any."""
    others = [one for one in source.known_plans() if not one.plan.asked.smoke]
    found: dict[tuple[str, int], list[PlannedJob]] = {}
    trained = {name: plan.training(name) for name in plan.trained}
    for other in others:
        theirs = {name: other.plan.training(name) for name in other.plan.trained}
        if set(theirs.values()).isdisjoint(trained.values()):
            continue
        measured = other.plan.evaluations
        for run in other.plan.runs:
            mine = [name for name, training in trained.items() if training == theirs.get(run.model)]
            if run.seed in plan.spec.seeds or not mine or source.run_status(other.plan, run.id) != "completed":
                continue
            for name in mine:
                jobs = [job.model_copy(update={"model": name}) for job in (run, *measured[run.id])]
                found.setdefault((name, run.seed), jobs)
    if not found:
        return None
    single = [job for job in plan.jobs if plan.is_single(job.model)]
    seeds = sorted({seed for _, seed in found})
    changes = {
        "spec": plan.spec.model_copy(update={"seeds": seeds, "looks": []}),
        "jobs": (*(job for jobs in found.values() for job in jobs), *single),
        "speed": None,
        "controls": None,
    }
    held = StoredPlan(
        plan=plan.model_copy(update=changes), stored_at=0.0, claims_first_stored={}, environment=others[0].environment
    )
    return gather(source, held)


def foreseen(plan: Plan, pilot: Evidence | None) -> list[Foreseen]:
    """What can be told of each claim that chance concerns."""
    with in_force(plan.extra_metrics):
        return [
            _foreseen(plan, pilot, name, claim)
            for name, claim in plan.spec.claims.items()
            if not is_exact(plan.spec, claim)
        ]


def _foreseen(plan: Plan, pilot: Evidence | None, name: str, claim: Claim) -> Foreseen:
    spec = plan.spec
    on_runs = rests_on(spec, claim)[0]
    sizes = tuple(spec.looks) or (len(spec.seeds),)
    if not on_runs:
        sizes = (len(plan.speed.processes) if plan.speed is not None else 0,) * len(sizes)
    family = family_of(spec) if claim.family == "primary" else 0
    times = [LEVEL / level for level in levels_of(spec)]
    sds = [stats.detectable(n, LEVEL / max(1, family) / share) for n, share in zip(sizes, times, strict=True)]
    told = Foreseen(
        claim=name,
        units="seeds" if on_runs else "processes",
        sizes=sizes,
        in_sds=tuple(x if x < float("inf") else None for x in sds),
    )
    if pilot is None or not on_runs:
        return told if on_runs else replace(told, why="a pilot takes no timings")
    try:
        parts, need = _weighed(pilot, claim)
        guards = [one for _, hypothesis, _ in parts for one in _guards(pilot, claim, hypothesis)]
    except Withheld as withheld:
        return replace(told, why=withheld.reason)
    n = min(sample.n for _, _, sample in parts)
    if n < 2:
        return replace(told, pilot=n, why="one seed has no scatter")
    finding, hypothesis, _ = parts[0]
    reading = hypothesis.reading
    told = replace(told, pilot=n, unit=reading.unit)
    if len(parts) == 1:
        shown = interval(reading.show(finding.centre), None, None, reading.unit, signed=reading.form != "ratio")
        told = replace(told, seen=shown)
    found = foresee(parts, need=need, sizes=sizes, times=times, family=family, guards=guards)
    return replace(told, foresight=found, why="" if found is not None else "its effects do not scatter, or have no end")


def _weighed(pilot: Evidence, claim: Claim) -> tuple[list[Weighed], int]:
    """The parts of a claim, or itself, as the pilot has them, and how many are to hold. Raises Withheld."""
    parts = claim.test.parts(claim, pilot.plan.known)
    if parts is None:
        return [_one(pilot, claim, claim.test.hypothesis(claim, pilot.plan.spec.sweeps))], 1
    return list(_each(pilot, parts.of)), parts.need


def _each(pilot: Evidence, parts: Iterable[Part]) -> Iterator[Weighed]:
    for part in parts:
        hypothesis = part.hypothesis or part.claim.test.hypothesis(part.claim, pilot.plan.spec.sweeps)
        yield _one(pilot, part.claim, hypothesis)


def _one(pilot: Evidence, claim: Claim, hypothesis: Hypothesis) -> Weighed:
    sample = draw(pilot, hypothesis.contrast, claim)
    return weigh(sample, hypothesis), hypothesis, sample


def _guards(pilot: Evidence, claim: Claim, hypothesis: Hypothesis) -> Iterator[tuple[Guard, Weighed]]:
    """What else must be shown before a verdict stands, as the pilot has it."""
    for guard in hypothesis.guards:
        if guard.must == "be above 0":
            sample, alone = draw(pilot, guard.contrast, claim), guard_alone(guard, hypothesis)
            yield guard, (weigh(sample, alone), alone, sample)
