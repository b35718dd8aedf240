"""What a results folder has seen besides one plan: other plans of the same models, runs of none, other sessions.

What was fixed before the data is told by times: when a plan was stored, when a run was done, when a session began. A
run or session that was put aside as spoilt was seen all the same, so its first time counts. This module reads times
and definitions; what they do to a verdict is known to `claims.sealing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moebench.plan import Plan, StoredPlan, training_of
from moebench.reading import UNREADABLE
from moebench.store import Results, read_json

ASIDE = ".corrupt-"
"""Stands in the name of a folder that was put aside, after its id."""


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
        return self.stored.first_stored(name)


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
    """Every other stored plan that has a model's training or a claim in common with this one, of whatever suite."""
    finished: Mapping[str, float] = field(default_factory=dict)
    """Run id -> Unix time at which it was first done."""
    strays: tuple[Stray, ...] = ()
    """Those with the training of a model of this plan."""
    begun: Mapping[str, float] = field(default_factory=dict)
    """Id of a speed session -> Unix time before which nothing of it was seen, of those that have a process."""
    sessions: tuple[Session, ...] = ()


def read_history(results: Results, stored: StoredPlan) -> History:
    """Reads it. What does not read is passed over: it was not looked at. Raises one of `UNREADABLE` for the plans."""
    plan, every = stored.plan, results.plans()
    others = [other for other in every if other.plan.id != plan.id or other.plan.suite != plan.suite]
    own = plan.trainings
    finished = {run_id: at for run_id, _, at in _done(results)}
    known = {run.id for one in (stored, *every) for run in one.plan.runs}
    known |= {run[-1] for one in every if one.plan.tune for run in one.plan.tune.runs}
    strays = (_stray(run_id, folder, at) for run_id, folder, at in _done(results) if run_id not in known)
    begun, sessions = _sessions(results, plan, [stored, *others], finished)
    return History(
        plans=tuple(other for other in others if plan.akin(other.plan)),
        finished=finished,
        strays=tuple(stray for stray in strays if stray is not None and stray.training in own),
        begun=begun,
        sessions=sessions,
    )


# ---------------------------------------------------------------------------------------------- runs


def _folders(results: Results, kind: str) -> Iterator[tuple[str, Path]]:
    """Id and path of each folder of a kind, those put aside under the id they had; the oldest of one id last."""
    found = [path for path in (results.root / kind).glob("[!.]*") if path.is_dir() and not path.is_symlink()]
    yield from sorted((path.name.partition(ASIDE)[0], path) for path in found)


def _done(results: Results) -> list[tuple[str, Path, float]]:
    """Id, folder and time of each run that was done; of several folders of one run the one that was done first."""
    first: dict[str, tuple[Path, float]] = {}
    for run_id, path in _folders(results, "runs"):
        try:
            at = _time(read_json(path / "DONE")["finished"])
        except UNREADABLE:
            continue
        if run_id not in first or at < first[run_id][1]:
            first[run_id] = path, at
    return [(run_id, path, at) for run_id, (path, at) in first.items()]


def _stray(run_id: str, folder: Path, at: float) -> Stray | None:
    try:
        run = read_json(folder / "run.json")["run"]
        training = training_of(run["architecture"], run["recipe"], run["data_digest"])
        return Stray(run_id=run_id, training=training, seed=int(run["seed"]), finished=at)
    except UNREADABLE:
        return None


# ---------------------------------------------------------------------------------------------- sessions


def _sessions(
    results: Results, plan: Plan, stored: list[StoredPlan], finished: Mapping[str, float]
) -> tuple[dict[str, float], tuple[Session, ...]]:
    """When each session was begun, and what the others than the plan's own timed."""
    begun: dict[str, float] = {}
    others: list[Session] = []
    planned = {one.plan.speed.id: one.plan for one in reversed(stored) if one.plan.speed is not None}
    for speed_id, path in _folders(results, "speed"):
        processes = [_process(file) for file in sorted(path.glob("process-*.json"))]
        if not processes:
            continue
        about = _told(path / "speed.json")
        of = planned.get(speed_id)
        at = _begun(path, about, of, finished)
        begun[speed_id] = min(at, begun.get(speed_id, at))
        if plan.speed is not None and path.name == plan.speed.id:
            continue
        written = about.get("trainings")
        trainings = {name: of.training(name) for name in of.models} if of is not None else written
        trainings = trainings if isinstance(trainings, dict) else {}
        timed: dict[str, frozenset[str]] = {}
        for metrics, _ in processes:
            for name in metrics.keys() & trainings.keys():
                training = str(trainings[name])
                timed[training] = timed.get(training, frozenset()) | metrics[name]
        machines = frozenset(machine for _, machine in processes if machine is not None)
        others.append(Session(begun=at, timed=timed, machines=machines))
    return begun, tuple(others)


def _process(path: Path) -> tuple[dict[str, frozenset[str]], str | None]:
    """Model -> metrics that one process timed of it, and its machine; nothing where the file is not one of ours."""
    try:
        raw = read_json(path)
        machine = raw.get("environment", {}).get("machine")
        metrics = {str(name): frozenset(map(str, timed)) for name, timed in raw["samples"].items()}
        return metrics, machine if isinstance(machine, str) else None
    except UNREADABLE:
        return {}, None


def _told(path: Path) -> dict[str, Any]:
    try:
        about = read_json(path)
        return about if isinstance(about, dict) else {}
    except UNREADABLE:
        return {}


def _begun(path: Path, about: Mapping[str, Any], plan: Plan | None, finished: Mapping[str, float]) -> float:
    """When a session was begun, as it says itself; where it says nothing, the earliest that it can have been.

    A session of before this was written down has its end, or began after the first of its runs was done.
    """
    try:
        return _time(about.get("started"))
    except UNREADABLE:
        pass
    try:
        return _time(read_json(path / "DONE")["finished"])
    except UNREADABLE:
        return min((finished[run.id] for run in plan.runs if run.id in finished), default=0.0) if plan else 0.0


def _time(value: object) -> float:
    """A Unix time as files hold it. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError("not a time")
    return float(value)
