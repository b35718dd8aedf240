"""What a results folder has seen besides one plan: other plans of the same models, runs of none, other sessions.

What was fixed before the data is told by times: when a plan was stored, when a run was done, when a session began. A
run or session that was put aside as spoilt was seen all the same, so its first time counts. This module reads times
and definitions; what they do to a verdict is known to `claims.sealing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moebench.jobs.recipe import training_of
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.checks import UNREADABLE
from moebench.store import DONE, PROCESS, Folder, Source


@dataclass(frozen=True, kw_only=True)
class Told:
    """A stored plan, with hashes that are taken once."""

    stored: StoredPlan
    trainings: Mapping[str, str]
    """Model -> how it is trained."""
    seals: Mapping[str, str]
    """Claim -> its seal."""

    @staticmethod
    def of(stored: StoredPlan) -> Told:
        plan = stored.plan
        trainings = {model: plan.training(model) for model in plan.models}
        return Told(stored=stored, trainings=trainings, seals={name: plan.seal(name) for name in plan.claim_hashes})

    @property
    def plan(self) -> Plan:
        return self.stored.plan

    def first_stored(self, name: str) -> float:
        """When a claim was first stored with its models as they are here."""
        return self.stored.first_stored(name, self.seals[name])


@dataclass(frozen=True, kw_only=True)
class Stray:
    """A finished run that no stored plan has, as where a plan was deleted."""

    run_id: str
    training: str
    seed: int
    finished: float


@dataclass(frozen=True, kw_only=True)
class Session:
    """A speed session that was begun and is not this plan's, or was put aside."""

    begun: float
    """Unix time before which nothing of it was seen."""
    timed: Mapping[str, frozenset[str]]
    """Training of a model -> metrics that were timed of it."""
    machines: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class History:
    """What was seen in a results folder besides the outcomes of one plan."""

    plans: tuple[StoredPlan, ...] = ()
    """Every other stored plan, of whatever suite, with a model's training or the text of a claim in common."""
    finished: Mapping[str, float] = field(default_factory=dict)
    """Run id -> Unix time at which it was first done."""
    strays: tuple[Stray, ...] = ()
    """Those with the training of a model of this plan."""
    begun: Mapping[str, float] = field(default_factory=dict)
    """Id of a speed session -> Unix time before which nothing of it was seen, of those that have a process."""
    sessions: tuple[Session, ...] = ()


def read_history(results: Source, stored: StoredPlan) -> History:
    """Reads it. What does not read is passed over: it was not looked at. Raises one of `UNREADABLE` for the plans."""
    plan, every = stored.plan, results.known_plans()
    others = [other for other in every if other.plan.id != plan.id or other.plan.suite != plan.suite]
    own = plan.trainings
    lying, noted = _done(results), _noted_runs(results)
    finished = {run_id: at for run_id, (_, at) in lying.items()}
    for run_id, note in noted.items():
        finished[run_id] = min(note.finished, finished.get(run_id, note.finished))
    known = {run.id for one in (stored, *every) for run in one.plan.runs}
    known |= {run[-1] for one in every if one.plan.tune for run in one.plan.tune.runs}
    known |= {job.id for one in (stored, *every) if one.plan.controls for job in one.plan.controls.jobs}
    strays = [note for run_id, note in noted.items() if run_id not in known]
    unknown = lying.keys() - known - noted.keys()
    strays += filter(None, (_stray(run_id, *lying[run_id]) for run_id in sorted(unknown)))
    begun, sessions = _sessions(results, plan, [stored, *others], finished)
    return History(
        plans=tuple(other for other in others if plan.akin(other.plan) or _claims(plan) & _claims(other.plan)),
        finished=finished,
        strays=tuple(stray for stray in strays if stray.training in own),
        begun=begun,
        sessions=sessions,
    )


def _claims(plan: Plan) -> set[str]:
    return set(plan.claim_hashes.values())


# ---------------------------------------------------------------------------------------------- runs


def _done(source: Source) -> dict[str, tuple[Folder, float]]:
    """Id -> folder and time of each run that was done; of several folders of one run the one that was done first."""
    first: dict[str, tuple[Folder, float]] = {}
    for run_id, folder in source.seen():
        try:
            at = _time(folder.read(DONE)["finished"])
        except UNREADABLE:
            continue
        if run_id not in first or at < first[run_id][1]:
            first[run_id] = folder, at
    return first


def _noted_runs(source: Source) -> dict[str, Stray]:
    """Id -> what was noted of a run when it was first done, whatever became of its folder."""
    first: dict[str, Stray] = {}
    for row in source.done_notes():
        try:
            run_id, at = str(row["run"]), _time(row["at"])
            note = Stray(run_id=run_id, training=str(row["training"]), seed=int(row["seed"]), finished=at)
        except UNREADABLE:
            continue
        if run_id not in first or at < first[run_id].finished:
            first[run_id] = note
    return first


def _stray(run_id: str, folder: Folder, at: float) -> Stray | None:
    try:
        run = folder.spec()
        begun = run.get("start"), run.get("derived")
        training = training_of(run["architecture"], run["recipe"], run["data_digest"], *begun)
        return Stray(run_id=run_id, training=training, seed=int(run["seed"]), finished=at)
    except UNREADABLE:
        return None


# ---------------------------------------------------------------------------------------------- sessions


@dataclass(frozen=True, kw_only=True)
class _Timed:
    """One process of a session, as it was noted when it was timed."""

    process: int
    at: float
    machine: str | None
    timed: Mapping[str, frozenset[str]]
    """Training of a model -> metrics."""


def _sessions(
    results: Source, plan: Plan, stored: list[StoredPlan], finished: Mapping[str, float]
) -> tuple[dict[str, float], tuple[Session, ...]]:
    """When each session was begun, and what the others than the plan's own timed.

    A process that was timed again makes a session of what it replaced. Sessions of before processes were noted are read
    from their folders, those put aside too.
    """
    own = None if plan.speed is None else plan.speed.id
    planned = {one.plan.speed.id: one.plan for one in reversed(stored) if one.plan.speed is not None}
    begun: dict[str, float] = {}
    others: list[Session] = []
    noted = {name: _noted(rows) for name, rows in results.timed_notes().items()}
    for speed_id, rows in sorted(noted.items()):
        if rows:
            begun[speed_id] = min(row.at for row in rows)
            last, replaced = _repetitions(rows)
            others += map(_session, replaced if speed_id == own else [*replaced, last])
    jobs = {job.id: (one, number) for one in planned.values() for number, job in enumerate(one.sessions)}
    lying: dict[tuple[str, bool], list[_Timed]] = {}
    for job_id, folder in results.seen():
        if job_id in jobs and folder.has(PROCESS):
            row = _lying(folder, *jobs[job_id], finished)
            speed_id, is_aside = jobs[job_id][0].speed.id, folder.id != job_id  # type: ignore[union-attr]
            if row.process not in {other.process for other in noted.get(speed_id, ())}:
                lying.setdefault((speed_id, is_aside), []).append(row)
    for (speed_id, is_aside), rows in lying.items():
        at = min(row.at for row in rows)
        begun[speed_id] = min(at, begun.get(speed_id, at))
        if speed_id != own or is_aside:
            others.append(_session(rows))
    return begun, tuple(others)


def _repetitions(rows: list[_Timed]) -> tuple[list[_Timed], list[list[_Timed]]]:
    """The last row of each process, and the earlier ones by how often the process had been timed."""
    of: dict[int, list[_Timed]] = {}
    for row in sorted(rows, key=lambda row: row.at):
        of.setdefault(row.process, []).append(row)
    most = max(map(len, of.values()))
    return [times[-1] for times in of.values()], [
        [times[n] for times in of.values() if n < len(times) - 1] for n in range(most - 1)
    ]


def _session(rows: list[_Timed]) -> Session:
    timed: dict[str, frozenset[str]] = {}
    for row in rows:
        for training, metrics in row.timed.items():
            timed[training] = timed.get(training, frozenset()) | metrics
    machines = frozenset(row.machine for row in rows if row.machine is not None)
    return Session(begun=min(row.at for row in rows), timed=timed, machines=machines)


def _noted(rows: list[dict[str, Any]]) -> list[_Timed]:
    """The rows of a session's notes that read."""
    processes: list[_Timed] = []
    for row in rows:
        try:
            timed = {str(training): frozenset(map(str, metrics)) for training, metrics in row["timed"].items()}
            machine = row["machine"] if isinstance(row["machine"], str) else None
            processes.append(_Timed(process=int(row["process"]), at=_time(row["at"]), machine=machine, timed=timed))
        except UNREADABLE:
            continue
    return processes


def _lying(folder: Folder, plan: Plan, process: int, finished: Mapping[str, float]) -> _Timed:
    """What lies in the folder of a session's process: its end, or that of the first of its runs, is the earliest.

    What does not read lies there all the same.
    """
    try:
        at = _time(folder.read(DONE)["finished"])
    except UNREADABLE:
        at = min((finished[run.id] for run in plan.runs if run.id in finished), default=0.0)
    timed: dict[str, frozenset[str]] = {}
    machine = None
    try:
        raw = folder.read(PROCESS)
        machine, samples = raw["environment"]["machine"], raw["samples"]
        timed = {plan.training(name): frozenset(samples[name]) for name in plan.models.keys() & samples.keys()}
    except UNREADABLE:
        pass
    return _Timed(process=process, at=at, machine=machine if isinstance(machine, str) else None, timed=timed)


def _time(value: object) -> float:
    """A Unix time as files hold it. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError("not a time")
    return float(value)
