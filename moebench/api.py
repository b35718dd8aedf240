"""What the commands do, callable from Python: plan a suite, run what is missing, load the numbers.

    import moebench
    moebench.plan("quickstart")          # a Plan; trains nothing
    moebench.run("quickstart")           # trains, measures, writes the report, returns an Outcome
    moebench.load("results")             # a pandas DataFrame: suite, model, seed, metric, value, unit, step, run, plan

Each wing is imported inside the function that needs it.
"""

from __future__ import annotations

import errno
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from moebench.claims.pilot import Foreseen
    from moebench.claims.verdict import Verdict
    from moebench.launch import Job, LaunchOptions
    from moebench.planning.graph import Graph
    from moebench.planning.rehearsal import Estimate
    from moebench.planning.types import Asked, Plan, StoredPlan, TunePlan
    from moebench.reporting import Report
    from moebench.store import Results
    from moebench.suite.load import LoadedSuite

RESULTS, REPORTS = Path("results"), Path("reports")
LAST_LINES = 6
"""Of the log of what failed that are shown."""
Device = Literal["cpu", "cuda"]
OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A suite read and planned, and how it is to be run."""

    loaded: LoadedSuite
    graph: Graph
    options: LaunchOptions

    @property
    def plan(self) -> Plan:
        return self.graph.plan

    @property
    def results(self) -> Path:
        return self.options.root


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job that neither completed nor diverged, and where to look."""

    run: str
    job: str
    """Its kind."""
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

    def and_then(self, other: Outcome) -> Outcome:
        """This one and what was done after it."""
        return replace(
            self,
            statuses={**self.statuses, **other.statuses},
            started=self.started + other.started,
            speed=other.speed if self.speed == "already" or other.speed != "already" else self.speed,
            failures=(*self.failures, *other.failures),
        )

    @property
    def failed(self) -> list[str]:
        """Ids of runs that neither completed nor diverged."""
        return [run for run, status in self.statuses.items() if status not in ("completed", "diverged")]


def prepare_plan(
    suite: str | Path,
    *,
    scale: str | None = None,
    sets: Sequence[str] = (),
    smoke: bool = False,
    tuned: bool = False,
    pilot: int | None = None,
    **options: Any,
) -> Planned:
    """Reads a suite and plans it; prepares its data (a cache under `results/data`) and trains nothing.

    With `smoke` it is planned as a smoke run, with `tuned` at the best learning rates of its finished sweep, with
    `pilot` as a pilot of so many seeds; `options` are those of `LaunchOptions`. Raises SuiteError, DataError or
    PlanError, each saying what to change.
    """
    from moebench.launch import LaunchOptions
    from moebench.planning.types import Asked
    from moebench.store import Results

    how = LaunchOptions(**options)
    Results(how.root)  # bundles are refused before anything is written
    loaded, _ = validate(suite, scale=scale, sets=sets, device=how.device)
    asked = Asked(path=_typed_path(suite, loaded.path), sets=tuple(sets))
    notes: list[str] = []
    if tuned:
        loaded, asked, notes = _tuned(_plan_of(loaded, asked, notes, how))
    if smoke:
        loaded, asked, notes = _smoked(loaded, asked, notes)
    if pilot:
        from moebench.suite import pilot as pilots

        loaded = replace(loaded, spec=pilots.pilot(loaded.spec, pilot))
        asked, notes = asked.model_copy(update={"pilot": pilot}), [pilots.NOTE, *notes]
    return _plan_of(loaded, asked, notes, how)


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


def _plan_of(loaded: LoadedSuite, asked: Asked, notes: Sequence[str], options: LaunchOptions) -> Planned:
    from moebench.data.prepare import prepare, views_of
    from moebench.data.tokenizer import BYTES
    from moebench.planning import built
    from moebench.planning import machine as machines
    from moebench.planning.elsewhere import planned_elsewhere
    from moebench.planning.graph import make_graph

    root, threads = options.root, options.threads
    machine = machines.machine(device=options.device, threads=threads)
    machine = replace(machine, digests=root / "data" / "digests")
    with _at_their_place(loaded):
        elsewhere = planned_elsewhere(loaded.spec, base=loaded.base, machine=machine)
    if loaded.spec.data.source == "none":
        facts, vocab = machines.no_facts(), BYTES.vocab
    else:
        options.on_event({"event": "preparing", "source": loaded.spec.data.source})
        corpus = prepare(loaded.spec.data, base=loaded.base, cache=root / "data")
        facts, vocab = corpus.facts, corpus.vocab
    views = views_of(loaded.spec, base=loaded.base, cache=root / "data")
    trained = [model.train for model in loaded.spec.decoders.values() if model.train is not None]
    if any(train.budget.seconds is not None for train in trained):
        options.on_event({"event": "calibrating"})
        machine = machines.with_step_seconds(machine, loaded, vocab=vocab, views=views, options=options)
    with _at_their_place(loaded):
        graph = make_graph(
            loaded.spec,
            facts=facts,
            vocab=vocab,
            machine=machine,
            views=views,
            elsewhere=elsewhere,
            asked=asked,
            notes=notes,
            threads=threads,
            base=loaded.base,
        )
        built.check(graph.plan.decoders)
    return Planned(loaded=loaded, graph=graph, options=options)


def validate(
    suite: str | Path, *, scale: str | None = None, sets: Sequence[str] = (), device: Device = "cpu"
) -> tuple[LoadedSuite, tuple[str, ...]]:
    """Reads a suite and plans it without data or calibration, so that what cannot be had is refused at once.

    Gives the suite and what is unusual about it. Raises SuiteError, with every mistake and its place; nothing is read
    but the suite and the tokenizers that it names, and nothing is written.
    """
    from moebench.planning.graph import check
    from moebench.planning.machine import expected_vocabularies, no_facts
    from moebench.planning.matching import Machine
    from moebench.planning.tasks import check_claims, planned_tasks, task_metrics
    from moebench.suite.load import load_suite

    loaded = load_suite(suite, scale=scale, sets=sets)
    spec = loaded.spec
    facts = no_facts().model_copy(update={"domains": spec.data.domains()})
    # So fast a machine that no warm-up is too long for a budget in seconds: that is for the calibration to tell.
    fastest = Machine(device=device, step_seconds=dict.fromkeys(loaded.spec.models, 1e-6))
    with _at_their_place(loaded):
        vocab, views = expected_vocabularies(spec, base=loaded.base)
        check_claims(spec, task_metrics(planned_tasks(spec, base=loaded.base)))
        _, _, warnings = check(spec, facts=facts, vocab=vocab, views=views, machine=fastest)
    return loaded, tuple(warnings)


@contextmanager
def _at_their_place(loaded: LoadedSuite) -> Iterator[None]:
    """Turns what cannot be planned into problems of the suite file, each with its line and column."""
    from moebench.planning.matching import PlanError
    from moebench.suite.errors import SuiteError

    try:
        yield
    except PlanError as error:
        raise SuiteError(loaded.source.problem(one.at, one.message, one.hint) for one in error.problems) from None


def plan(suite: str | Path, **asked: Any) -> Plan:
    """What would run. See `prepare_plan` for its arguments and for what it raises."""
    return prepare_plan(suite, **asked).plan


def run(suite: str | Path, *, reports: Path | str = REPORTS, tune: bool = False, **asked: Any) -> Outcome:
    """Plans a suite, does the jobs that are missing, writes the report; see `prepare_plan` for the other arguments.

    With `smoke` it is a smoke run: two seeds, a twentieth of the budget, no verdicts. With `tune` only the learning
    rates are swept; with `tuned` models are trained at the best rates of that sweep. Raises what `prepare_plan` raises,
    and Stopped when a signal ended it after checkpoints.
    """
    return run_planned(prepare_plan(suite, **asked), reports=Path(reports), tune=tune)


def run_planned(planned: Planned, *, reports: Path = REPORTS, tune: bool = False) -> Outcome:
    """Carries out a plan: its jobs and the report; or, with `tune`, its learning-rate sweep alone."""
    from moebench.environment import environment
    from moebench.store import Results

    results, made, options = Results(planned.results), planned.plan, planned.options
    if tune:  # a sweep makes no claims, so nothing of them is fixed by it
        return _tune(planned, results)
    if not made.asked.pilot:
        (reports / made.title).mkdir(parents=True, exist_ok=True)  # refused now rather than after hours of training
    stored = results.save_plan(made, environment(options.threads, options.device))
    done = _in_looks(planned, stored, results)
    if made.asked.pilot:  # it says nothing of any claim: `plan` reads it
        return done
    options.on_event({"event": "reporting"})
    path, verdicts = write_report(planned.results, title=made.title, plan_id=made.id, out=reports)
    return replace(done, report=path, verdicts=tuple(verdicts))


def _tune(planned: Planned, results: Results) -> Outcome:
    """Carries out the sweep, and its one extension where a best point lies at an end of what was tried."""
    from moebench.planning.sweep import outermost, summarise

    _tune_plan(planned.plan)
    sweep = planned.graph.sweep
    assert sweep is not None
    done = _launch(planned, sweep.jobs, results)
    wider = sweep.extend(outermost(planned.plan, results))
    if wider is None:
        return replace(done, sweep=summarise(planned.plan, results))
    if results.tune(sweep.plan.id).status() != "completed":  # so that there is one if this is stopped now
        summarise(planned.plan, results)
    first = set(done.statuses)
    planned.options.on_event({"event": "warning", "text": "a best point lies at an end: the sweep is extended once"})
    more = _launch(planned, wider.jobs, results)
    found = summarise(planned.plan, results, extended=wider.plan)
    new = [failed for failed in more.failures if failed.run not in first]
    return replace(more, started=done.started + more.started, failures=(*done.failures, *new), sweep=found)


def _in_looks(planned: Planned, stored: StoredPlan, results: Results) -> Outcome:
    """Does the missing jobs of one look after the other, as long as the verdicts of the last ask for more seeds.

    Where a job of a look failed that a verdict needs, it ends there: the look cannot be taken.
    """
    from moebench.claims.judge import course
    from moebench.reader.evidence import gather

    spec, jobs = planned.plan.spec, planned.graph.jobs
    whole: Outcome | None = None
    for number, size in enumerate(spec.looks or [len(spec.seeds)], 1):
        later = set(spec.seeds[size:])
        if spec.looks:
            planned.options.on_event({"event": "look", "look": number, "of": len(spec.looks), "seeds": size})
        done = _launch(
            planned, [job for job in jobs if job.seed not in later], results, after=[j for j in jobs if j.seed in later]
        )
        whole = done if whole is None else whole.and_then(done)
        if later and course(gather(results, stored)).last.stage.number <= number:
            break
    assert whole is not None
    return whole


def _launch(planned: Planned, jobs: Sequence[Job], results: Results, *, after: Sequence[Job] = ()) -> Outcome:
    """Does the jobs that are missing; those `after` may follow, and only their number is told."""
    from moebench.launch import launch
    from moebench.launch.attempt import finished

    options, runs = planned.options, [job for job in jobs if job.kind != "speed"]
    # Contents are checked, not sizes alone: a job whose files went bad is put aside and done again.
    statuses = {job.id: finished(job, planned.results) or "missing" for job in jobs}
    diverged = {job_id for job_id, status in statuses.items() if status == "diverged"}
    statuses |= {job.id: "diverged" for job in runs if diverged.intersection(job.inputs)}
    missing = [job for job in jobs if statuses[job.id] == "missing"]
    started = len({run_id(job) for job in missing if job.kind != "speed"})
    counts = {"runs": len({run_id(job) for job in runs}), "started": started}
    options.on_event({"event": "planned", "plan": planned.plan, "missing": missing, "later": after, **counts})
    failures: list[Failed] = []
    speed = ["already"] if planned.plan.sessions and len(jobs) > len(runs) else []

    def listen(event: dict[str, Any]) -> None:
        timed = event.get("job") == "speed"
        if timed and event["event"] in ("failed", "blocked") and not event.get("retry"):
            if speed[-1] in ("already", "completed"):  # the first reason stands for all
                speed.append(_no_session(event, planned.results / "logs"))
                options.on_event({"event": "warning", "text": f"no speed session: {speed[-1]}"})
            return
        options.on_event(event)
        if timed and event["event"] == "finished" and speed[-1] == "already":
            speed.append("completed")
        if event["event"] == "failed" and not event.get("retry"):
            failures.append(_failed(event, planned.results / "logs"))

    try:
        if missing:
            results.make_room()
            statuses |= launch(missing, replace(options, on_event=listen))
    finally:
        results.note_done(planned.plan)
    return Outcome(
        plan=planned.plan,
        statuses=_of_runs(runs, statuses),
        started=started,
        speed=speed[-1] if speed else None,
        failures=tuple(failures),
    )


def run_id(job: Job) -> str:
    """Id of the run that a job trains or measures."""
    return job.inputs[0] if job.inputs else job.id


def _of_runs(jobs: Sequence[Job], statuses: dict[str, str]) -> dict[str, str]:
    """The status of each run: of its training, or of the first measurement that is not there."""
    ends: dict[str, str] = {}
    for job in jobs:  # what trains a run comes before what measures it
        if ends.get(run_id(job), "completed") == "completed":
            ends[run_id(job)] = statuses[job.id]
    return ends


def _no_session(event: dict[str, Any], logs: Path) -> str:
    where = f" (log: {logs / event['log']})" if "log" in event else ""
    return f"a speed process {event['event']}: {event['reason']}{where}"


def estimate(planned: Planned) -> Estimate:
    """How long a plan will take here; takes some seconds, in which every model is rehearsed (see `rehearsal`)."""
    from moebench.planning import rehearsal

    return rehearsal.estimate(planned.plan, planned.graph.jobs, planned.options)


def foreseen(planned: Planned, *, pilot: Path | None = None) -> list[Foreseen]:
    """What each claim could see and the seeds it needs, from runs of other seeds in `pilot`, by default its results."""
    from moebench.claims.pilot import foreseen, pilot_of
    from moebench.store import open_results

    return foreseen(planned.plan, pilot_of(open_results(pilot or planned.results), planned.plan))


def _failed(event: dict[str, Any], logs: Path) -> Failed:
    lines = [line for line in (event.get("traceback") or "").splitlines() if line.strip()]
    return Failed(
        **{key: event[key] for key in ("run", "job", "model", "seed", "status", "reason")},
        last_lines=tuple(lines[-LAST_LINES:]),
        log=logs / event["log"] if "log" in event else None,
    )


def _tune_plan(made: Plan) -> TunePlan:
    from moebench.planning.matching import PlanError

    if made.asked.smoke:
        raise PlanError("a smoke run sweeps no learning rates: leave out --tune or --smoke")
    if made.tune is None:
        raise PlanError(
            "the suite has no learning rates to sweep: give it a block such as tune: {lr: [1e-3, 3e-3, 1e-2]}"
        )
    return made.tune


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


def report(results: Path | str = RESULTS, *, suite: str | None = None, out: Path | str = "reports") -> list[Report]:
    """Writes the report of one suite of a results folder; without a suite of all, and `out`/index.html over them.

    A suite whose report could not be made is said in a warning and stands in the overview. Raises KeyError when no
    stored plan fits.
    """
    from moebench.reporting import build, build_all

    if suite is not None:
        return build(results, suite=suite, out=out)
    made = build_all(results, out=out)
    for title, why in made.failures.items():
        warnings.warn(f"no report of {title}: {why}", UserWarning, stacklevel=2)
    return list(made.reports)


def load(results: Path | str = RESULTS, *, every: bool = False) -> pd.DataFrame:
    """All numbers of a results folder, long: suite, model, seed, metric, value, unit, step, run, plan, swept values.

    Of several plans of one suite the newest, or all of them with `every`; what is left out is said in a warning. Raises
    FileNotFoundError for a folder that holds no results.
    """
    from moebench.reporting.study import load as load_frame

    return load_frame(Path(results), every=every)
