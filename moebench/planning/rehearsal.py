"""How long a plan will take: each of its models is rehearsed for a moment, as it will be trained, evaluated, measured.

Processes like the workers, as many as there will be, take a few steps of every model on the plan's own data; nothing is
kept but the times, under `results/calibration/`. A model of which runs are done here is not rehearsed: theirs are the
times. What can be neither is guessed from the others by its FLOPs.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from moebench.identity import digest_of
from moebench.jobs.job import Job
from moebench.jobs.recipe import Run
from moebench.jobs.replay import ReplaySpec
from moebench.jobs.transform import LOADS_TOKENS
from moebench.launch.options import LaunchOptions
from moebench.launch.spawn import answers, read_order
from moebench.planning.machine import machine
from moebench.planning.planned import PlannedCheckpoint
from moebench.planning.types import Plan
from moebench.store import JobFolder, Results, read_json, read_lines, write_json
from moebench.suite.checkpoint import CheckpointModel

if TYPE_CHECKING:
    from moebench.data.corpus import Corpus

GUESSED_FLOPS_PER_S, GUESSED_START_S = 35e9, 3.0
"""What one core is taken to reach, and a process to need before its first step, before anything has been measured."""
GUESSED_BYTES_PER_S = 1e9
"""What reading and hashing a checkpoint is taken to reach."""
REPORT_STARTS = 0.7
"""A report of few runs takes as long as so many starts of a process: both read libraries."""
AT_MOST_S = 40.0
"""A rehearsal of all models; what has not been rehearsed by then is guessed."""
MODEL_S, MOST_STEPS = 1.0, 20
"""Training of one model in a rehearsal ends after so long, or so many steps."""
LONG_STEP_S = 0.5
"""With longer steps, evaluation and the measurements at the end are reckoned from them and not rehearsed."""

Basis = Literal["finished runs", "rehearsed", "guessed"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds, all of them on the clock on the wall."""

    run_s: Mapping[str, float]
    """Model -> one run: training, evaluation and what is measured at the end."""
    basis: Mapping[str, Basis]
    start_s: float
    """Before a fresh process is at its first step."""
    runs_s: float
    """All runs that are not done, side by side, those of controls and those that are taken again among them."""
    controls_s: float
    """Those of controls alone, one after the other."""
    speed_s: float
    report_s: float
    tune_s: float
    """The learning-rate sweep, which only `--tune` does."""
    workers: int

    @property
    def total_s(self) -> float:
        return self.runs_s + self.speed_s + self.report_s


def estimate(plan: Plan, jobs: Sequence[Job], options: LaunchOptions) -> Estimate:
    """How long the jobs of a plan that are not done, its speed session and the report will take."""
    root, threads, device, workers = options.root, options.threads, options.device, options.num_workers
    results = Results(root)
    tasks = [job for job in jobs if job.kind == "train" and job.model in plan.decoders]
    left = [task for task in tasks if results.run_status(plan, task.id) not in ("completed", "diverged")]
    run_s: dict[str, float] = {name: s for name in plan.decoders if (s := _finished_s(plan, name, results)) is not None}
    basis: dict[str, Basis] = dict.fromkeys(run_s, "finished runs")
    first: dict[str, Job] = {}
    for task in left:
        if task.model not in run_s:
            first.setdefault(task.model, task)
    rehearsed, start_s = rehearse([*first.values()], root=root, threads=threads, device=device, workers=workers)
    run_s |= rehearsed
    basis |= dict.fromkeys(rehearsed, "rehearsed")
    for name in sorted(plan.decoders, key=lambda name: plan.decoders[name].transform is not None):
        if name not in run_s:
            changed = plan.decoders[name].transform is not None
            run_s[name], basis[name] = (_transform_s if changed else _guess)(plan, name, run_s), "guessed"
    loads = [job for job in jobs if job.kind == "load"]
    run_s |= {job.model: _load_s(plan, job.model, run_s) for job in loads}
    basis |= {job.model: "guessed" for job in loads}
    others = [*loads, *(job for job in jobs if job.kind == "transform")]
    left += [job for job in others if results.run_status(plan, job.id) not in ("completed", "diverged")]
    spoilt = [] if plan.of_controls is None else _controls_left(plan, plan.of_controls, results, run_s)
    replays = [
        _replay_s(ReplaySpec.model_validate(job.spec), run_s[job.model])
        for job in jobs
        if job.kind == "replay" and results.job(job.id).status() != "completed"
    ]
    speed_s = 0.0
    if plan.speed is not None:
        untimed = [job for job in plan.sessions if results.job(job.id).status() != "completed"]
        speed_s = len(untimed) * (start_s + plan.speed.seconds / len(plan.sessions))
    todo = [*(run_s[task.model] for task in left), *replays, *spoilt]
    swept = [run_s[run[0]] for run in plan.tune.runs] if plan.tune else []
    return Estimate(
        run_s={name: run_s[name] for name in plan.models if name in run_s},
        basis=basis,
        start_s=start_s,
        runs_s=side_by_side(todo, workers=workers, start_s=start_s),
        controls_s=sum(spoilt),
        speed_s=speed_s,
        report_s=start_s * (REPORT_STARTS + len(plan.runs) / 200),
        tune_s=side_by_side(swept, workers=workers, start_s=start_s),
        workers=workers,
    )


def side_by_side(seconds: Iterable[float], *, workers: int, start_s: float) -> float:
    """When the last of some runs ends, each given to the worker that is first free; workers start with their first."""
    free = [0.0] * workers
    for each in seconds:
        at = heapq.heappop(free)
        heapq.heappush(free, (at or start_s) + each)
    return max(free)


def _finished_s(plan: Plan, model: str, results: Results) -> float | None:
    """Median time of a model's finished runs that were never interrupted, as the clock on the wall saw them."""
    found, measured = [], plan.evaluations
    for planned in plan.runs:
        folder = results.job(planned.id)
        if planned.model != model or folder.status() != "completed":
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            segments = {row["segment"] for row in read_lines(folder.path / "timed.jsonl")}
            if segments == {0}:
                found.append(sum(map(_wall_s, [folder, *(results.job(job.id) for job in measured[planned.id])])))
    return median(found) if found else None


def _wall_s(folder: JobFolder) -> float:
    return float((folder.manifest() or {})["finished"]) - float(folder.job_json()["started"])


def _controls_left(plan: Plan, of_controls: Plan, results: Results, known: Mapping[str, float]) -> list[float]:
    """Of each run of a control that is not done: by its FLOPs, at the pace of the model that it is made of."""
    left = [run for run in of_controls.runs if results.run_status(of_controls, run.id) not in ("completed", "diverged")]
    bases = {run.model: run.model.partition("/")[0] for run in left}
    paces = {name: known[base] / plan.decoders[base].expected_train_flops for name, base in bases.items()}
    return [of_controls.decoders[run.model].expected_train_flops * paces[run.model] for run in left]


def _guess(plan: Plan, model: str, known: Mapping[str, float]) -> float:
    """By FLOPs, at the pace of the models that are known."""
    return _train_flops(plan, model) / _pace(plan, known)


def _train_flops(plan: Plan, model: str) -> float:
    """Of a run with its decay branches."""
    planned = plan.decoders[model]
    return planned.expected_train_flops * planned.recipe.all_steps / max(1, planned.recipe.steps)


def _pace(plan: Plan, known: Mapping[str, float]) -> float:
    """FLOPs a second."""
    trained = {name: seconds for name, seconds in known.items() if name in plan.trained and seconds > 0}
    paces = [_train_flops(plan, name) / seconds for name, seconds in trained.items()]
    return median(paces) if paces else GUESSED_FLOPS_PER_S


def _transform_s(plan: Plan, model: str, known: Mapping[str, float]) -> float:
    """Of weights that are changed, by the text that is read: what training reads at its last point, the tune split for
    the load of experts, and the last evaluation."""
    planned = plan.decoders[model]
    tokens = planned.recipe.eval_tokens + LOADS_TOKENS + planned.recipe.final_eval_tokens
    return tokens * planned.costs.train_flops_per_token / 3 / _pace(plan, known)


def _replay_s(spec: ReplaySpec, run_s: float) -> float:
    """Of a run that is taken again: by its steps; all of it where the point is one that its loss decides."""
    steps = spec.until.steps
    return run_s if steps is None else run_s * steps / max(1, spec.run.recipe.steps)


def _load_s(plan: Plan, model: str, known: Mapping[str, float]) -> float:
    """Of a checkpoint, by its bytes and FLOPs: its files are hashed, and read for each measurement; its text is scored
    twice where accuracy is asked for."""
    planned, written = plan.models[model], plan.spec.models[model]
    assert isinstance(planned, PlannedCheckpoint)
    assert isinstance(written, CheckpointModel)
    measured = sum(job.kind == "evaluate" and job.model == model for job in plan.jobs)
    tokens = max(written.evaluate.tokens, written.evaluate.final_tokens) if plan.data.source != "none" else 0
    passes = 1 + len([word for word in plan.spec.measure.quality if word != "bits_per_byte"])
    flops = passes * tokens * planned.costs.train_flops_per_token / 3
    return (1 + measured) * planned.file_bytes / GUESSED_BYTES_PER_S + flops / _pace(plan, known)


# ------------------------------------------------------------------------------------------------ rehearsing


def rehearse(
    tasks: Sequence[Job], *, root: Path, threads: int, device: str, workers: int
) -> tuple[dict[str, float], float]:
    """(model -> seconds of its run, seconds before a process's first step); models that fail or take long are absent.

    What was rehearsed here before is not rehearsed again.
    """
    here, folder = machine(device=device, threads=threads).fingerprint, root / "calibration"
    places = {task.model: folder / f"rehearsal-{digest_of([here, workers, task.id])}.json" for task in tasks}
    known = {name: found for name, path in places.items() if (found := _read(path)) is not None}
    missing = [task for task in tasks if task.model not in known]
    for told in _in_children(missing, root=root, threads=threads, workers=workers):
        known[told["model"]] = told
        with suppress(OSError):  # a folder that is not for writing is only rehearsed in again
            places[told["model"]].parent.mkdir(parents=True, exist_ok=True)
            write_json(places[told["model"]], told)
    starts = [told["start_s"] for told in known.values()]
    return {name: told["run_s"] for name, told in known.items()}, median(starts) if starts else GUESSED_START_S


def _read(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = read_json(path)
        return {"model": str(told["model"]), "run_s": float(told["run_s"]), "start_s": float(told["start_s"])}
    return None


def _in_children(tasks: Sequence[Job], *, root: Path, threads: int, workers: int) -> list[dict[str, Any]]:
    """What the processes tell, one dictionary a model; those that are not done in time are killed."""
    shares = [share for n in range(workers) if (share := tasks[n::workers])]
    orders = [
        {"results": str(root.resolve()), "tasks": [task.model_dump(mode="json") for task in share]} for share in shares
    ]
    told: list[dict[str, Any]] = []
    starts: dict[int, float] = {}
    for index, seconds, answer in answers("moebench.planning.rehearsal", orders, threads=threads, most_s=AT_MOST_S):
        if "ready" in answer:
            starts[index] = seconds
        else:
            told.append({**answer, "start_s": starts[index]})
    return told


# ------------------------------------------------------------------------------------------------ the child


def rehearse_here(tasks: Sequence[Job], root: Path) -> Iterable[dict[str, Any]]:
    """Yields once when all is loaded, then the time of each task's run. Imports torch."""
    import torch

    from moebench.data.prepare import prepare
    from moebench.jobs.loop import settle

    settle(tasks[0].device, tasks[0].threads)
    for task in tasks:
        prepare(task.data, base=task.base, cache=root / "data")
    torch.ones(64, 64).matmul(torch.ones(64, 64))
    yield {"ready": True}
    for task in tasks:
        with suppress(Exception):  # a model that fails here is told by its run
            began = time.perf_counter()
            # every run reads the data again, to hold them against the plan
            corpus = prepare(task.data, base=task.base, cache=root / "data")
            reading_s = time.perf_counter() - began
            yield {"model": task.model, "run_s": reading_s + _time_run(Run.model_validate(task.spec), corpus)}


def _time_run(run: Run, corpus: Corpus) -> float:
    """Seconds of one run, from a few steps, one batch of evaluation windows and the measurements at its end."""
    from moebench.jobs.measuring import RunContext, scored_windows
    from moebench.jobs.training import start, train
    from moebench.metrics import MEASUREMENTS
    from moebench.metrics.quality import WINDOWS_AT_ONCE, evaluate

    recipe, clock = run.recipe, time.perf_counter
    began = clock()
    state = start(run)
    start_s, steps = clock() - began, []
    training, last = train(state, run, corpus), clock()
    for _ in training:
        steps.append(clock() - last)
        last = clock()
        if len(steps) >= MOST_STEPS or sum(steps) > MODEL_S:
            break
    step_s = median(steps[2:] or steps[-1:])
    windows = [scored_windows(corpus, recipe, tokens=n) for n in (recipe.eval_tokens, recipe.final_eval_tokens)]
    finals = 2 + len(recipe.branches) if recipe.branches else 1
    passes = len(windows[0].inputs) * len(recipe.evaluate_at) + len(windows[1].inputs) * finals
    if step_s > LONG_STEP_S:  # a forward pass is a third of a step's FLOPs
        forward_s = step_s / 3 * run.architecture.context / recipe.batch_tokens
        return start_s + recipe.all_steps * step_s + passes * forward_s + 8 * step_s
    count = min(WINDOWS_AT_ONCE, len(windows[1].inputs))
    context = RunContext(run, state, corpus)
    evaluate(context.subject, windows[1], count=count)
    last = clock()
    evaluate(context.subject, windows[1], count=count)
    forward_s, last = (clock() - last) / count, clock()
    for name in ("flops", "memory"):
        MEASUREMENTS[name].measure(context)
    return start_s + recipe.all_steps * step_s + passes * forward_s + (clock() - last)


if __name__ == "__main__":
    asked = read_order()
    for found in rehearse_here([Job.model_validate(one) for one in asked["tasks"]], Path(asked["results"])):
        print(json.dumps(found), flush=True)
