"""Planned looks: which are taken, what each said, and what is the verdict.

The first look at which every primary claim is decided is the last, whatever else lies there; a claim keeps the verdict
of the look that decided it, unless later runs make it INVALID. So no choice is left to who runs it: runs of later seeds
are not used, and a look of which something is absent has no verdict yet.

What a claim is held to is Holm's procedure carried over the looks (Maurer and Bretz, Stat. Biopharm. Res. 5, 2013): at
each it goes on with the claims that are not yet decided, at that look's level. Say the first wrong verdict comes at
some look, of N claims that are not so. None of them was decided before, so it was held to one N-th of that look's
level or less, and by Bonferroni over looks and claims its chance is at most the sum of the levels, whatever depends on
what. Supported and refuted are two such families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moebench.claims.sealing import rests_on
from moebench.claims.verdict import Verdict
from moebench.format import plural
from moebench.reader.evidence import NOT_RUN, Evidence
from moebench.suite.looks import LEVEL, levels_of
from moebench.suite.types import SuiteSpec

OPEN = ("inconclusive", "interim")
"""States that more seeds may change. A claim that is INVALID or was not tested is not helped by them."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the looks of a suite, and what is known when it is taken."""

    number: int = 1
    of: int = 1
    seeds: int
    level: float = LEVEL
    decided: Mapping[str, Verdict] = field(default_factory=dict)
    """Claims that an earlier look decided."""

    @property
    def times(self) -> float:
        """How many times its level goes into that of a verdict: 1 for the only look."""
        return 1.0 if self.of == 1 else LEVEL / self.level * (1 - 1e-12)

    def p(self, own: float) -> float:
        """A p value as it counts at this look, to be held to the level of a verdict."""
        return min(1.0, own * self.times)

    @property
    def words(self) -> str:
        """`look 1 of 3`; nothing for the only one."""
        return f"look {self.number} of {self.of}" if self.of > 1 else ""

    def going_for(self, state: str) -> frozenset[str]:
        """Claims that are not held to anything any more, as they have that verdict."""
        return frozenset(name for name, verdict in self.decided.items() if verdict.state == state)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look that was taken."""

    stage: Stage
    verdicts: tuple[Verdict, ...]
    awaited: frozenset[str] = frozenset()
    """Claims of which something that was planned until then is not there."""

    @property
    def is_whole(self) -> bool:
        """Whether all is there that was planned for the primary claims until then.

        A claim of which nothing is there yet has no estimate, and is not tested.
        """
        return not any(
            verdict.state == "interim" or (verdict.state == "not_tested" and verdict.id in self.awaited)
            for verdict in _primary(self.verdicts)
        )

    @property
    def decides(self) -> bool:
        """Whether no primary claim is left that more seeds may decide."""
        return not any(verdict.state in OPEN for verdict in _primary(self.verdicts))


@dataclass(frozen=True, kw_only=True)
class Course:
    """The looks of a plan as far as they were taken."""

    looks: tuple[Look, ...]
    """At least one; the last may be unfinished."""
    evidence: Evidence
    """Of the last: what the report is about."""
    unused: tuple[int, ...] = ()
    """Seeds with finished runs that come after it."""

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.last.verdicts

    @property
    def words(self) -> str:
        """`stopped at look 1 of 3`, `look 2 of 3 under way`; nothing where one is planned."""
        stage = self.last.stage
        if not stage.words:
            return ""
        if not self.last.is_whole:
            return f"{stage.words} under way"
        return f"stopped at {stage.words}" if self.stopped_early else stage.words

    @property
    def stopped_early(self) -> bool:
        """Whether the plan is finished though not all of its seeds were needed."""
        return self.last.is_whole and self.last.decides and self.last.stage.number < self.last.stage.of


def stages(spec: SuiteSpec) -> list[Stage]:
    """The looks of a suite: one for a suite that plans none."""
    if not spec.looks:
        return [Stage(seeds=len(spec.seeds))]
    of = len(spec.looks)
    sizes = zip(spec.looks, levels_of(spec), strict=True)
    return [Stage(number=n, of=of, seeds=size, level=level) for n, (size, level) in enumerate(sizes, 1)]


def taken(evidence: Evidence, judge_at: Callable[[Evidence, Stage], list[Verdict]]) -> Course:
    """Takes the looks of a plan in order, until one decides or is not whole."""
    done: list[Look] = []
    decided: dict[str, Verdict] = {}
    here = evidence
    for planned in stages(evidence.plan.spec):
        stage, here = replace(planned, decided=dict(decided)), at_look(evidence, planned)
        verdicts = tuple(_kept(decided.get(v.id), v) or _told(v, stage) for v in judge_at(here, stage))
        look = Look(stage=stage, verdicts=verdicts, awaited=_awaited(here))
        done.append(look)
        decided = {v.id: v for v in look.verdicts if v.state in ("supported", "refuted")}
        if look.decides or not look.is_whole:
            break
    unused = _unused(evidence, done[-1])
    if unused:
        done[-1] = replace(done[-1], verdicts=tuple(_with_unused(v, unused) for v in done[-1].verdicts))
    return Course(looks=tuple(done), evidence=here, unused=unused)


def _kept(decided: Verdict | None, now: Verdict) -> Verdict | None:
    """The verdict of an earlier look, unless it is known since then that the numbers do not mean what they should."""
    return None if now.state == "invalid" else decided


def at_look(evidence: Evidence, stage: Stage) -> Evidence:
    """What is seen at a look: nothing of later seeds."""
    if stage.of == 1:
        return evidence
    plan = evidence.plan.at_look(stage.seeds)
    runs = {(run.model, run.seed) for run in plan.runs}
    return replace(
        evidence,
        stored=evidence.stored.model_copy(update={"plan": plan}),
        outcomes=tuple(run for run in evidence.outcomes if (run.model, run.seed) in runs),
    )


def _awaited(evidence: Evidence) -> frozenset[str]:
    """Claims with a run, or a speed session, that is planned and not there."""
    plan = evidence.plan
    left = {run.model for run in evidence.outcomes if not run.done}
    untimed = plan.speed is not None and not evidence.processes and evidence.speed_reason == NOT_RUN
    return frozenset(
        name
        for name, claim in plan.spec.claims.items()
        if not left.isdisjoint(plan.models_of(claim)) or (untimed and rests_on(plan.spec, claim)[1])
    )


def _primary(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.family == "primary"]


def _told(verdict: Verdict, stage: Stage) -> Verdict:
    """The verdict with the look it is of; counts are the same at each."""
    if stage.of == 1 or verdict.units == "counts":
        return verdict
    share = f"{100 * stage.level:.2g}% of the {100 * LEVEL:g}%"
    words = f"{stage.words} planned, at {plural(stage.seeds, 'seed')}: held to {share} that all looks share"
    reason = f"{stage.words}: {verdict.reason}" if verdict.state == "interim" else verdict.reason
    return verdict.model_copy(update={"look": stage.number, "reason": reason, "notes": (*verdict.notes, words)})


def _unused(evidence: Evidence, last: Look) -> tuple[int, ...]:
    later = set(evidence.plan.spec.seeds[last.stage.seeds :])
    return tuple(sorted({run.seed for run in evidence.outcomes if run.done and run.seed in later}))


def _with_unused(verdict: Verdict, seeds: tuple[int, ...]) -> Verdict:
    """That runs lie there which the stopping does not allow to be used."""
    if verdict.look is None:
        return verdict
    words = f"runs of {plural(len(seeds), 'later seed')} are there and not used: the plan ends at the look that decides"
    return verdict.model_copy(update={"notes": (*verdict.notes, words)})
