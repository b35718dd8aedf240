"""What the results folder holds for one plan, read once and without judging it.

`gather` follows a stored plan to its runs, its speed session and its learning-rate sweep. Nothing here refuses a
folder: a run that is missing, half done, failed or corrupt becomes an `Outcome` that says so, and the claims decide
what that means. This module knows files and the plan; it knows no statistics.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moebench.metrics import in_force
from moebench.metrics.metric import Metric
from moebench.planning.types import Plan, PlannedJob, StoredPlan
from moebench.reader.checks import UNREADABLE
from moebench.reader.history import History, Told, read_history
from moebench.reader.items import Item
from moebench.reader.processes import SpeedProcess, read_process
from moebench.reader.runs import Outcome, digests, is_impossible, read_elsewhere, read_run
from moebench.reader.sweeps import read_tune
from moebench.reader.tasks import with_tasks
from moebench.store import DONE, CorruptFile, Folder, Source, Status
from moebench.store.files import MOST_SHOWN, words_of
from moebench.text import plain

NOT_RUN = "not run yet"
"""Why there is nothing of what was never begun."""


@dataclass(frozen=True, kw_only=True)
class TunedModel:
    """What a tuning sweep found of a model."""

    lrs: tuple[float, ...]
    """Rates tried, ascending; one entry per rate and seed."""
    best_lr: float | None
    interior: bool
    """Whether the best point is at no end of the rates, nor of another field's values."""
    configured_lr: float | None
    """The rate the suite trained with when the sweep was summarised."""
    whole: bool = True
    """Whether every run of it ran to an end: completed or diverged."""
    best: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Other fields that were swept -> their best values; none for a model that lacks them."""
    ends: tuple[str, ...] = ()
    """What of `best` is the lowest or highest tried, `lr` for the rate."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything the claims of one plan are judged by."""

    stored: StoredPlan
    outcomes: tuple[Outcome, ...]
    """One per planned run."""
    processes: tuple[SpeedProcess, ...] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    """Processes whose file does not read, each with its reason."""
    speed_reason: str | None = None
    """Why there are no processes, or fewer than planned; None when all are there."""
    speed_finished: float | None = None
    tuned: Mapping[str, TunedModel] = field(default_factory=dict)
    """Empty until a sweep is recorded."""
    controls: tuple[Outcome, ...] = ()
    """The runs of its controls, under their own names: `moe/shuffled`."""
    sweep: Mapping[str, Any] | None = None
    """The same sweep's summary as it was written, its curves included; None when it is not there or does not read."""
    history: History = field(default_factory=History)
    """What was seen in this results folder besides."""
    problems: tuple[str, ...] = ()
    """Folders that could not be read as planned, each with its reason."""

    @property
    def plan(self) -> Plan:
        return self.stored.plan

    @functools.cached_property
    def told(self) -> Told:
        """The plan with its hashes."""
        return Told.of(self.stored)

    @functools.cached_property
    def others(self) -> tuple[Told, ...]:
        """The other plans of its history with theirs."""
        return tuple(map(Told.of, self.history.plans))

    @functools.cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """Metrics of suites and tasks by name: the plan's own, and those that the claims of the others are about."""
        others = {name: metric for one in self.others for name, metric in one.plan.extra_metrics.items()}
        return {**others, **self.plan.extra_metrics}

    @functools.cached_property
    def finished(self) -> Mapping[str, float]:
        """Run id -> Unix time at which it was first done, of this plan's runs and of all others in the folder."""
        own = {run.run_id: run.finished for run in self.outcomes if run.finished is not None}
        return {**own, **self.history.finished}

    @functools.cached_property
    def seen(self) -> Mapping[tuple[str, int], float]:
        """Training and seed -> Unix time at which a run of it was first done, of whatever plan or of none."""
        runs = [
            (one.trainings[run.model], run.seed, self.finished.get(run.id))
            for one in (self.told, *self.others)
            for run in one.plan.runs
        ]
        runs += [(stray.training, stray.seed, stray.finished) for stray in self.history.strays]
        first: dict[tuple[str, int], float] = {}
        for training, seed, at in runs:
            if at is not None:
                first[training, seed] = min(at, first.get((training, seed), at))
        return first

    @functools.cached_property
    def _by_run(self) -> Mapping[tuple[str, int], Outcome]:
        return {(one.model, one.seed): one for one in self.outcomes}

    def outcome(self, model: str, seed: int) -> Outcome | None:
        """The run of a model with a seed; its one run whatever the seed where it is single; None without any."""
        if self.plan.is_single(model):
            return next(iter(self.outcomes_of([model])), None)
        return self._by_run.get((model, seed))

    def outcomes_of(self, models: Iterable[str]) -> tuple[Outcome, ...]:
        wanted = set(models)
        return tuple(one for one in self.outcomes if one.model in wanted)


# ---------------------------------------------------------------------------------------------- gathering


def gather(results: Source, stored: StoredPlan) -> Evidence:
    """Reads what a plan's runs, speed session and sweep have left so far. Raises nothing for a folder's state."""
    with in_force(stored.plan.extra_metrics):
        return _gathered(results, stored)


def _gathered(results: Source, stored: StoredPlan) -> Evidence:
    plan = stored.plan
    problems: list[str] = []
    session = _speed(results, plan, problems)
    sweep = _sweep(results, plan, problems)
    return Evidence(
        stored=stored,
        outcomes=_outcomes(results, plan, problems),
        controls=() if plan.of_controls is None else _outcomes(results, plan.of_controls, problems),
        processes=session.processes,
        unread=session.unread,
        speed_reason=session.reason,
        speed_finished=session.finished,
        tuned=tuned_models(sweep),
        sweep=sweep,
        history=_history(results, stored, problems),
        problems=tuple(problems),
    )


def _outcomes(results: Source, plan: Plan, problems: list[str]) -> tuple[Outcome, ...]:
    """Every planned run. Those whose digests show that they are copies of each other are corrupt."""
    at = {step for model in plan.decoders.values() for step in (*model.recipe.evaluate_at, model.recipe.steps)}
    measured = plan.evaluations
    outcomes = [_measured(results, planned, plan, measured[planned.id], at, problems) for planned in plan.runs]
    twins: dict[tuple[str, str], list[Outcome]] = {}
    for run in outcomes:
        if run.digests:
            twins.setdefault((run.model, run.digests[max(run.digests)]), []).append(run)
    copied: dict[str, str] = {}
    for runs in twins.values():
        seeds = sorted({run.seed for run in runs})
        if len(seeds) > 1:
            why = f"seeds {', '.join(map(str, seeds))} read the same tokens in the same order, which no two seeds do"
            why += ": remove the folders that are copies"
            copied |= dict.fromkeys((run.run_id for run in runs), why)
    return tuple(
        _refused(run, copied[run.run_id], problems)
        if run.run_id in copied
        else _at_ends_of_others(results, plan, run, outcomes)
        for run in outcomes
    )


def _measured(
    results: Source,
    planned: PlannedJob,
    plan: Plan,
    jobs: Sequence[PlannedJob],
    at: set[int],
    problems: list[str],
) -> Outcome:
    """A run with all that was measured of it."""
    run = _outcome(results, planned, plan, [job for job in jobs if job.task is None], at, problems)
    if run.status != "completed":
        return run
    return with_tasks(results, run, [job for job in jobs if job.task is not None], plan, problems)


def _refused(run: Outcome, why: str, problems: list[str]) -> Outcome:
    problems.append(f"run {run.run_id} ({run.model}, seed {run.seed}) is corrupt: {why}")
    return Outcome(model=run.model, seed=run.seed, run_id=run.run_id, status="corrupt", reason=why)


def _at_ends_of_others(results: Source, plan: Plan, run: Outcome, others: Iterable[Outcome]) -> Outcome:
    """The run with its digests where runs with the same seed ended early: up to there their tokens are compared."""
    ends = {
        max(other.digests)
        for other in others
        if other.seed == run.seed and other.status == "diverged" and other.digests
    }
    last = max(run.digests, default=0)
    wanted = {end for end in ends if end < last} - run.digests.keys()
    if not wanted:
        return run
    planned = next(job for job in plan.runs if job.id == run.run_id)
    read = _read_by(results, planned, plan) or results.job(run.run_id)
    return replace(run, digests={**run.digests, **digests(read, steps=last, at=wanted)})


def _outcome(
    results: Source,
    planned: PlannedJob,
    plan: Plan,
    evaluations: Iterable[PlannedJob],
    at: set[int],
    problems: list[str],
) -> Outcome:
    model, seed, run_id = planned.model, planned.seed, planned.id
    try:
        folder = results.job(run_id)
        status = folder.status()
        read = _read_by(results, planned, plan)
        if planned.kind not in ("train", "transform") and status in ("completed", "diverged"):
            waiting = [one for job in evaluations if (one := results.job(job.id)).status() != "completed"]
            if not waiting:
                return read_elsewhere(folder, planned, measured=[results.job(job.id) for job in evaluations])
            folder, status = waiting[0], waiting[0].status()
            status = "partial" if status == "missing" else status
        elif status == "diverged":
            return read_run(folder, planned, plan, at=at, read=read)
        elif status == "completed":
            measured = [results.job(job.id) for job in evaluations]
            statuses = [one.status() for one in measured]
            if all(one == "completed" for one in statuses):
                return read_run(folder, planned, plan, at=at, measured=measured, read=read)
            if "diverged" in statuses:  # only the last evaluation told
                why = (measured[statuses.index("diverged")].manifest() or {}).get("reason")
                run = read_run(folder, planned, plan, at=at, read=read)
                return replace(run, status="diverged", reason=plain(why, most=MOST_SHOWN))
            folder, status = next(pair for pair in zip(measured, statuses, strict=True) if pair[1] != "completed")
            status = "partial" if status == "missing" else status
        reason = _why_not_done(folder, status)
        if status == "missing" and _cannot_start(results, planned, plan):
            status, reason = "failed", "what it starts from diverged"
    except UNREADABLE as error:
        # Its files may fit its manifest, and then a run would take it for done.
        at_fault = error.path.parent.name if isinstance(error, CorruptFile) else run_id
        status, reason = "corrupt", f"{words_of(error)} (remove the folder jobs/{at_fault} to run it again)"
    if status in ("corrupt", "failed"):
        problems.append(f"run {run_id} ({model}, seed {seed}) is {status}: {reason}")
    return Outcome(model=model, seed=seed, run_id=run_id, status=status, reason=reason)


def _cannot_start(results: Source, planned: PlannedJob, plan: Plan) -> bool:
    """Whether what a run was to start from diverged."""
    jobs = {job.id: job for job in plan.jobs}
    given = [jobs[one] for one in planned.inputs if one in jobs]
    return any(results.job(job.id).status() == "diverged" or _cannot_start(results, job, plan) for job in given)


def _read_by(results: Source, planned: PlannedJob, plan: Plan) -> Folder | None:
    """The training whose tokens a run has read that was made of another; None of one that was trained itself."""
    jobs = {job.id: job for job in plan.runs}
    run = planned
    while run.kind == "transform":
        run = jobs[run.inputs[0]]
    return None if run is planned else results.job(run.id)


def _why_not_done(folder: Folder, status: Status) -> str:
    if status == "failed":
        failure = folder.failure() or {}
        why = f"{failure.get('status', 'failed')}: {failure.get('reason', 'no reason recorded')}"
        return plain(why, most=MOST_SHOWN)
    if status == "corrupt":
        return "; ".join(folder.verify()[:2]) or "does not read"
    return "not finished" if status == "partial" else NOT_RUN


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What became of the speed session."""

    processes: tuple[SpeedProcess, ...] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    reason: str | None
    finished: float | None = None


def _speed(results: Source, plan: Plan, problems: list[str]) -> _Session:
    """The processes that read, why others are not there, and when the session was done."""
    if plan.speed is None:
        return _Session(reason="the suite asks for no speed session")
    processes: list[SpeedProcess] = []
    unread: dict[int, str] = {}
    statuses: dict[str, str] = {}
    finished: list[float] = []
    for index, job in enumerate(plan.sessions):
        try:
            folder = results.job(job.id)
            status = folder.status()
            if status == "completed":
                processes.append(read_process(folder, index, plan))
                finished.append(float((folder.manifest() or {})["finished"]))
            elif status == "corrupt":
                raise CorruptFile(folder.path, _why_not_done(folder, status))
            else:
                statuses.setdefault(status, _why_not_done(folder, status))
        except UNREADABLE as error:
            unread[index] = f"does not read: {words_of(error)}"
            problems.append(f"speed process {index}: {unread[index]}")
    reason = next((statuses[word] for word in ("failed", "partial") if word in statuses), None)
    if reason is None and "missing" in statuses:
        reason = NOT_RUN if not processes else "not finished"
    if unread:
        reason = f"process {min(unread)} {unread[min(unread)]}"
    whole = max(finished) if finished and len(finished) == len(plan.sessions) else None
    return _Session(processes=tuple(processes), unread=unread, reason=reason, finished=whole)


def read_sweep(results: Source, plan: Plan) -> dict[str, Any] | None:
    """The summary of the plan's learning-rate sweep; None when it was not asked for or is not finished.

    Raises one of `UNREADABLE` when it is not what was written.
    """
    if plan.tune is None:
        return None
    folder = results.tune(plan.tune.id)
    if not folder.has(DONE):
        return None
    if wrong := folder.verify():
        raise CorruptFile(folder.path, f"the sweep is corrupt: {'; '.join(wrong[:2])}")
    return read_tune(folder, plan.tune)


def _sweep(results: Source, plan: Plan, problems: list[str]) -> dict[str, Any] | None:
    """The same; None, and a problem, where it does not read."""
    try:
        return read_sweep(results, plan)
    except UNREADABLE as error:
        problems.append(f"learning-rate sweep {plan.tune.id if plan.tune else ''}: {words_of(error)}")
        return None


_NOT_RUN = tuple(f"run is {status}" for status in ("missing", "partial", "failed", "corrupt"))
"""Reasons of a sweep's points that were not read, as `sweep` writes them."""


def tuned_models(sweep: Mapping[str, Any] | None) -> dict[str, TunedModel]:
    """What a summary found of each model; of none where there is no summary."""
    return {
        name: TunedModel(
            lrs=tuple(sorted(float(point["lr"]) for point in model["curve"])),
            best_lr=model["best_lr"],
            interior=bool(model["interior"]),
            configured_lr=model["configured_lr"],
            whole=not any(point["reason"] in _NOT_RUN for point in model["curve"]),
            best=model.get("best", {}),
            ends=tuple(end[0] for end in model.get("ends", ())),
        )
        for name, model in (sweep or {"models": {}})["models"].items()
    }


def _history(results: Source, stored: StoredPlan, problems: list[str]) -> History:
    try:
        return read_history(results, stored)
    except UNREADABLE as error:
        problems.append(f"other plans: {words_of(error)}")
        return History()


__all__ = [
    "NOT_RUN",
    "UNREADABLE",
    "Evidence",
    "Item",
    "Outcome",
    "SpeedProcess",
    "TunedModel",
    "gather",
    "is_impossible",
    "read_sweep",
    "tuned_models",
]
