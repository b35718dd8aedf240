"""What the commands do, callable from Python: plan a suite, run what is missing, load the numbers.

    import moebench
    moebench.plan("quickstart")          # a Plan; trains nothing
    moebench.run("quickstart")           # trains, measures, writes the report, returns an Outcome
    moebench.load("results")             # a pandas DataFrame: suite, model, seed, metric, value, unit, step, run, plan

Each wing is imported inside the function that needs it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from moebench.claims.verdict import Verdict
    from moebench.launch import Task
    from moebench.planning.rehearsal import Estimate
    from moebench.planning.types import Asked, Plan, TunePlan
    from moebench.suite.load import LoadedSuite

RESULTS, REPORTS = Path("results"), Path("reports")
LAST_LINES = 6
"""Of the log of what failed that are shown."""
Device = Literal["cpu", "cuda"]
OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A suite read and planned, with where its results go."""

    loaded: LoadedSuite
    plan: Plan
    results: Path
    device: Device


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A run that neither completed nor diverged, and where to look."""

    run: str
    model: str
    seed: int
    status: str
    reason: str
    last_lines: tuple[str, ...] = ()
    """Of its log."""
    log: Path | None = None
    """None when it had nothing to say, or the log could not be kept."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Outcome:
    """What a `run` came to."""

    plan: Plan
    statuses: dict[str, str]
    """Run id -> status, for every run of the plan (and of its sweep, when asked for)."""
    started: int
    """Runs this call had to do; 0 when all were there."""
    speed: str | None = None
    """'completed', 'already', why it failed, or None when the suite asks for no speed session."""
    report: Path | None = None
    """Folder of the report; None after a sweep, which has no report of its own."""
    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[Failed, ...] = ()
    """What went wrong in this call."""
    sweep: dict[str, Any] | None = None
    """After a sweep: model -> its learning-rate curve and best rate."""

    def __repr__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(self.statuses.values()).items()))
        states = ", ".join(f"{verdict.id} {verdict.state}" for verdict in self.verdicts)
        return f"<Outcome of {self.plan.title}: {kinds or 'no runs'}" + (f"; {states}" if states else "") + ">"

    @property
    def failed(self) -> list[str]:
        """Ids of runs that neither completed nor diverged."""
        return [run for run, status in self.statuses.items() if status not in ("completed", "diverged")]


def prepare_plan(
    suite: str | Path,
    *,
    scale: str | None = None,
    sets: Sequence[str] = (),
    results: Path | str = RESULTS,
    device: Device = "cpu",
    threads: int = 1,
    smoke: bool = False,
    tuned: bool = False,
    on_event: OnEvent = lambda _: None,
) -> Planned:
    """Reads a suite and plans it; prepares its data (a cache under `results/data`) and trains nothing.

    With `smoke` it is planned as a smoke run, with `tuned` at the best learning rates of its finished sweep. Raises
    SuiteError, DataError or PlanError, each saying what to change.
    """
    from moebench.planning.types import Asked

    loaded, _ = validate(suite, scale=scale, sets=sets, device=device)
    plan_of = partial(_plan_of, root=Path(results), device=device, threads=threads, on_event=on_event)
    asked = Asked(path=_typed_path(suite, loaded.path), sets=tuple(sets))
    notes: list[str] = []
    if tuned:
        loaded, asked, notes = _tuned(plan_of(loaded, asked, notes))
    if smoke:
        loaded, asked, notes = _smoked(loaded, asked, notes)
    return plan_of(loaded, asked, notes)


def _typed_path(suite: str | Path, path: Path) -> str:
    """The suite as it was typed, for a reader elsewhere: no folder of this machine, nothing for a bundled one."""
    typed = Path(suite)
    if path not in (typed, typed.expanduser()):
        return ""
    return typed.name if typed.is_absolute() else typed.as_posix()


def _tuned(planned: Planned) -> tuple[LoadedSuite, Asked, list[str]]:
    """The suite at the best rates of its finished sweep. Raises PlanError when there is none."""
    from moebench.planning.matching import PlanError
    from moebench.planning.sweep import at_best_rates
    from moebench.reader.evidence import UNREADABLE, read_sweep
    from moebench.store import Results
    from moebench.text import plain

    tune = _tune_plan(planned.plan)
    again = planned.plan.command
    try:
        sweep = read_sweep(Results(planned.results), planned.plan)
        if sweep is None:
            raise PlanError(f"the learning-rate sweep of this suite is not finished here: {again} --tune")
        spec, notes = at_best_rates(planned.loaded.spec, sweep["models"])
    except PlanError:
        raise
    except UNREADABLE as error:
        raise PlanError(f"the learning-rate sweep {tune.id}: {plain(error)}") from error
    asked = planned.plan.asked.model_copy(update={"tuned": tune.id})
    return replace(planned.loaded, spec=spec), asked, [f"learning rates from the sweep {tune.id}", *notes]


def _smoked(loaded: LoadedSuite, asked: Asked, notes: list[str]) -> tuple[LoadedSuite, Asked, list[str]]:
    from moebench.planning.matching import PlanError
    from moebench.suite.smoke import NOTE, smoke

    try:
        spec = smoke(loaded.spec)
    except ValueError as error:
        raise PlanError(str(error)) from None
    return replace(loaded, spec=spec), asked.model_copy(update={"smoke": True}), [NOTE, *notes]


def _plan_of(
    loaded: LoadedSuite,
    asked: Asked,
    notes: Sequence[str],
    *,
    root: Path,
    device: Device,
    threads: int,
    on_event: OnEvent,
) -> Planned:
    from moebench.data.prepare import prepare
    from moebench.jobs import calibrate as calibration
    from moebench.planning import built, matching

    on_event({"event": "preparing", "source": loaded.spec.data.source})
    corpus = prepare(loaded.spec.data, base=loaded.base, cache=root / "data")
    machine = calibration.machine(device=device, threads=threads)
    trained = [model.train for model in loaded.spec.models.values() if model.train is not None]
    if any(train.budget.seconds is not None for train in trained):
        on_event({"event": "calibrating"})
        machine = calibration.with_step_seconds(machine, loaded.spec, vocab=corpus.vocab, root=root, threads=threads)
    with _at_their_place(loaded):
        made = matching.make_plan(
            loaded.spec, facts=corpus.facts, vocab=corpus.vocab, machine=machine, asked=asked, notes=notes
        )
        built.check(made.models)
    return Planned(loaded=loaded, plan=made, results=root, device=device)


def validate(
    suite: str | Path, *, scale: str | None = None, sets: Sequence[str] = (), device: Device = "cpu"
) -> tuple[LoadedSuite, tuple[str, ...]]:
    """Reads a suite and plans it without data or calibration, so that what cannot be had is refused at once.

    Gives the suite and what is unusual about it. Raises SuiteError, with every mistake and its place; nothing is read
    but the suite, and nothing is written.
    """
    from moebench.data.corpus import VOCAB
    from moebench.jobs import calibrate as calibration
    from moebench.planning import matching
    from moebench.suite.load import load_suite

    loaded = load_suite(suite, scale=scale, sets=sets)
    facts = calibration.no_facts().model_copy(update={"domains": loaded.spec.data.domains()})
    # So fast a machine that no warm-up is too long for a budget in seconds: that is for the calibration to tell.
    fastest = matching.Machine(device=device, step_seconds=dict.fromkeys(loaded.spec.models, 1e-6))
    with _at_their_place(loaded):
        made = matching.make_plan(loaded.spec, facts=facts, vocab=VOCAB, machine=fastest)
    return loaded, made.warnings


@contextmanager
def _at_their_place(loaded: LoadedSuite) -> Iterator[None]:
    """Turns what cannot be planned into problems of the suite file, each with its line and column."""
    from moebench.planning.matching import PlanError
    from moebench.suite.errors import SuiteError

    try:
        yield
    except PlanError as error:
        raise SuiteError(loaded.source.problem(one.at, one.message, one.hint) for one in error.problems) from None


def plan(
    suite: str | Path,
    *,
    scale: str | None = None,
    sets: Sequence[str] = (),
    results: Path | str = RESULTS,
    smoke: bool = False,
    tuned: bool = False,
) -> Plan:
    """What would run. See `prepare_plan` for what it raises."""
    return prepare_plan(suite, scale=scale, sets=sets, results=results, smoke=smoke, tuned=tuned).plan


def run(
    suite: str | Path,
    *,
    scale: str | None = None,
    sets: Sequence[str] = (),
    results: Path | str = RESULTS,
    reports: Path | str = REPORTS,
    workers: int | None = None,
    device: Device = "cpu",
    threads: int = 1,
    smoke: bool = False,
    tune: bool = False,
    tuned: bool = False,
    launcher: str = "process",
    timeout_s: float = 600.0,
    on_event: OnEvent = lambda _: None,
) -> Outcome:
    """Plans a suite, does the runs that are missing, measures speed, writes the report.

    With `smoke` it is a smoke run: two seeds, a twentieth of the budget, no verdicts. With `tune` only the learning
    rates are swept; with `tuned` models are trained at the best rates of that sweep. Raises what `prepare_plan` raises,
    and Stopped when a signal ended it after checkpoints.
    """
    planned = prepare_plan(
        suite,
        scale=scale,
        sets=sets,
        results=results,
        device=device,
        threads=threads,
        smoke=smoke,
        tuned=tuned,
        on_event=on_event,
    )
    return run_planned(
        planned,
        reports=Path(reports),
        workers=workers,
        threads=threads,
        tune=tune,
        launcher=launcher,
        timeout_s=timeout_s,
        on_event=on_event,
    )


def run_planned(
    planned: Planned,
    *,
    reports: Path = REPORTS,
    workers: int | None = None,
    threads: int = 1,
    tune: bool = False,
    launcher: str = "process",
    timeout_s: float = 600.0,
    on_event: OnEvent = lambda _: None,
) -> Outcome:
    """Carries out a plan: the runs, the speed session, the report; or, with `tune`, its learning-rate sweep alone."""
    from moebench.environment import environment
    from moebench.launch import launch
    from moebench.launch.attempt import finished
    from moebench.planning.sweep import summarise
    from moebench.store import Results

    results, made = Results(planned.results), planned.plan
    tasks = list((_tune_tasks if tune else _run_tasks)(planned, threads=threads))
    if not tune:  # a sweep makes no claims, so nothing of them is fixed by it
        (reports / made.title).mkdir(parents=True, exist_ok=True)  # refused now rather than after hours of training
        results.save_plan(made, environment(threads, planned.device))
    # Contents are checked, not sizes alone: a run whose files went bad is put aside and done again.
    statuses: dict[str, str] = {task.id: finished(results.job(task.id)) or "missing" for task in tasks}
    missing = [task for task in tasks if statuses[task.id] == "missing"]
    on_event({"event": "planned", "plan": made, "tasks": len(tasks), "missing": missing})
    failures: list[Failed] = []

    def listen(event: dict[str, Any]) -> None:
        on_event(event)
        if event["event"] == "failed" and not event.get("retry"):
            failures.append(_failed(event, planned.results / "logs"))

    try:
        if missing:
            results.make_room()
            statuses |= launch(
                missing,
                workers=workers or _workers(planned, threads),
                results_root=planned.results,
                on_event=listen,
                launcher=launcher,
                timeout_s=timeout_s,
            )
    finally:
        results.note_done(made)
    if tune:
        sweep = summarise(made, results)
        return Outcome(plan=made, statuses=statuses, started=len(missing), failures=tuple(failures), sweep=sweep)
    speed = _speed(planned, threads=threads, on_event=on_event)
    on_event({"event": "reporting"})
    path, verdicts = write_report(planned.results, title=made.title, plan_id=made.id, out=reports)
    return Outcome(
        plan=made,
        statuses=statuses,
        started=len(missing),
        speed=speed,
        report=path,
        verdicts=tuple(verdicts),
        failures=tuple(failures),
    )


def _workers(planned: Planned, threads: int) -> int:
    """Runs at a time, unless told: one a core, or one on a GPU."""
    from moebench.environment import usable_cores

    return 1 if planned.device == "cuda" else max(1, usable_cores() // threads)


def estimate(planned: Planned, *, workers: int | None = None, threads: int = 1) -> Estimate:
    """How long a plan will take here; takes some seconds, in which every model is rehearsed (see `rehearsal`)."""
    from moebench.planning import rehearsal

    return rehearsal.estimate(
        planned.plan,
        _run_tasks(planned, threads=threads),
        root=planned.results,
        threads=threads,
        device=planned.device,
        workers=workers or _workers(planned, threads),
    )


def _failed(event: dict[str, Any], logs: Path) -> Failed:
    lines = [line for line in (event.get("traceback") or "").splitlines() if line.strip()]
    return Failed(
        **{key: event[key] for key in ("run", "model", "seed", "status", "reason")},
        last_lines=tuple(lines[-LAST_LINES:]),
        log=logs / event["log"] if "log" in event else None,
    )


def _run_tasks(planned: Planned, *, threads: int) -> list[Task]:
    """One task for each run of the plan, seeds outermost so that early results hold whole pairs."""
    return list(_tasks(planned, ((run.model, run.seed, None, run.id) for run in planned.plan.runs), threads=threads))


def _tune_plan(made: Plan) -> TunePlan:
    from moebench.planning.matching import PlanError

    if made.asked.smoke:
        raise PlanError("a smoke run sweeps no learning rates: leave out --tune or --smoke")
    if made.tune is None:
        raise PlanError(
            "the suite has no learning rates to sweep: give it a block such as tune: {lr: [1e-3, 3e-3, 1e-2]}"
        )
    return made.tune


def _tune_tasks(planned: Planned, *, threads: int) -> list[Task]:
    chosen = ((model, seed, lr, run_id) for model, lr, seed, run_id in _tune_plan(planned.plan).runs)
    return list(_tasks(planned, chosen, threads=threads))


def _tasks(planned: Planned, chosen: Iterable[tuple[str, int, float | None, str]], *, threads: int) -> Iterable[Task]:
    from moebench.jobs import calibrate as calibration
    from moebench.launch import Task
    from moebench.planning import matching

    made, spec = planned.plan, planned.plan.spec
    machine = calibration.machine(device=planned.device, threads=threads)
    for model, seed, lr, run_id in chosen:
        recipe = None if lr is None else matching.tune_recipe(made.models[model].recipe, lr=lr)
        run = matching.run_of(made.models[model], seed=seed, facts=made.data, machine=machine, recipe=recipe)
        assert run.id == run_id, "a plan and its runs were made from different things"
        train = spec.models[model].train
        assert train is not None
        yield Task(
            run=run,
            model=model,
            suite=made.suite,
            threads=threads,
            checkpoint_seconds=train.checkpoint_seconds,
            data=spec.data,
            base=planned.loaded.base,
        )


def _speed(planned: Planned, *, threads: int, on_event: OnEvent) -> str | None:
    """The speed session when the suite asks for one and something was trained; a failure is told, not raised."""
    from moebench.jobs.speed import SessionFailed, measure_speed
    from moebench.store import Busy

    if planned.plan.speed is None:
        return None
    try:
        return measure_speed(
            planned.plan, results_root=planned.results, base=planned.loaded.base, threads=threads, on_event=on_event
        )
    except (SessionFailed, Busy) as problem:
        on_event({"event": "warning", "text": f"no speed session: {problem}"})
        return str(problem)


def write_report(
    results: Path, *, title: str, plan_id: str, out: Path, formats: frozenset[str] | None = None
) -> tuple[Path, list[Verdict]]:
    """Builds the report of one plan; its folder and verdicts. Raises FileNotFoundError when the plan is gone."""
    from moebench import reporting as report

    try:
        built = report.build(results, suite=title, plan_id=plan_id, out=out, formats=formats or report.DEFAULT)
    except KeyError:
        raise FileNotFoundError(errno.ENOENT, "the plan that was run is gone from it", str(results)) from None
    one = next(made for made in built if made.suite == title)
    return one.path, list(one.verdicts)


def load(results: Path | str = RESULTS, *, every: bool = False) -> pd.DataFrame:
    """All numbers of a results folder, long: suite, model, seed, metric, value, unit, step, run, plan, swept values.

    Of several plans of one suite the newest, or all of them with `every`; what is left out is said in a warning. Raises
    FileNotFoundError for a folder that holds no results.
    """
    from moebench.reporting.study import load as load_frame

    return load_frame(Path(results), every=every)
