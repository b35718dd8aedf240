"""Jobs that time: each is one process of a speed session, racing all models of a suite with trained weights.

A process is fresh and has the machine to itself. It goes without models that diverged or failed, and is done again when
one of them has been trained since. What was timed is noted beside the plans too, so that a session that is removed and
made again was seen before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.checkpoints.facts import LoadSpec
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import training_of
from moebench.jobs.session import SpeedPlan, SpeedSpec
from moebench.jobs.train import run_of

if TYPE_CHECKING:
    from moebench.planning.planned import PlannedCheckpoint, PlannedModel

PROCESS = "process.json"
SILENCE_S, SILENCE_SHARE = 240.0, 20.0
"""How long a process may be silent: so long, and so many times what the whole session may time."""


def jobs(draft: Draft) -> Iterator[Job]:
    """One for each process of the session, if the suite asks for one."""
    session = session_of(draft)
    if session is None:
        return
    trained = {(job.model, job.seed): job.id for job in draft.jobs if job.kind in ("train", "transform")}
    loaded = {job.model: job for job in draft.jobs if job.kind == "load"}
    places = {model: place for job in loaded.values() for model, place in job.places.items()}
    for index, seed in enumerate(session.processes):
        runs = {model: trained[model, seed] for model in session.models if (model, seed) in trained}
        runs |= {model: loaded[model].id for model in session.checkpoints}
        yield draft.job(
            "speed",
            SpeedSpec(session=session, process=index, runs=runs).model_dump(mode="json"),
            model=session.baseline,
            seed=seed,
            inputs=tuple(dict.fromkeys(runs.values())),
            places=places,
            exclusive=True,
            fresh=True,
            silence_s=SILENCE_S + SILENCE_SHARE * session.seconds + sum(job.silence_s for job in loaded.values()),
        )


def session_of(draft: Draft) -> SpeedPlan | None:
    """The session of a plan whose training is known; None when the suite asks for none."""
    from moebench.planning.planned import PlannedCheckpoint, PlannedModel
    from moebench.planning.session import speed_plan

    plan, machine = draft.plan, draft.machine
    here = {name: one for name, one in plan.models.items() if isinstance(one, PlannedModel | PlannedCheckpoint)}
    racing = {name: one for name, one in here.items() if _is_timed(one)}
    return speed_plan(
        plan.spec,
        racing,
        trained=[job.id for job in draft.jobs if job.kind in ("train", "transform", "load") and job.model in racing],
        untrained={
            name: run_of(model, seed=plan.spec.seeds[0], facts=plan.data_of(name), machine=machine)
            for name, model in plan.decoders.items()
            if not model.recipe.trains
        },
        machine=machine.fingerprint,
        memory_bytes=machine.memory_bytes,
    )


def _is_timed(model: PlannedModel | PlannedCheckpoint) -> bool:
    """Whether its time is its own: none of weights that are unpacked before they are used."""
    transform = getattr(model, "transform", None)
    return transform is None or not transform.unpacks


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  what was timed before a stop would be of another moment
) -> str:
    """Loads every model, races them, and writes what was timed. Raises FileNotFoundError when none was trained."""
    import torch

    from moebench.data.prepare import prepare
    from moebench.environment import environment
    from moebench.jobs.measuring import enter, enter_checkpoint, text_of
    from moebench.metrics import speed
    from moebench.store import Results, write_json

    torch.set_num_threads(job.threads)
    spec, results = SpeedSpec.model_validate(job.spec), Results(root)
    session, folder = spec.session, results.job(job.id)
    on_event(job.event("speed", process=spec.process, processes=len(session.processes)))
    corpus = prepare(job.data, base=job.base, cache=root / "data")
    trained = {name: results.job(run_id) for name, run_id in spec.runs.items()}
    missing = {name: one.id for name, one in trained.items() if one.status() != "completed"}
    if session.baseline in missing:
        missing[session.baseline + speed.AGAIN] = missing[session.baseline]
    names = [name for name in (*session.models, session.baseline + speed.AGAIN) if name not in missing]
    if not names:
        raise FileNotFoundError(f"no model has been trained: {', '.join(missing)} with seed {job.seed}")
    here = environment(job.threads, job.device).model_dump(mode="json")
    about = {"job": job.identity, "model": job.model, "seed": job.seed, "suite": job.suite, "environment": here}
    write_json(folder.path / "job.json", {**about, "data": job.data.model_dump(mode="json"), "started": time.time()})

    def make(name: str) -> speed.Racer:
        context = session.checkpoints.get(name.removesuffix(speed.AGAIN))
        if context is None:
            return enter(name, session, trained, seed=job.seed)
        loaded = trained[name.removesuffix(speed.AGAIN)]
        return enter_checkpoint(name, loaded, job, corpus, context=context, root=root)

    load, share, races = os.getloadavg()[0], session.seconds / len(session.processes), []
    for heat in rotated(names, spec.process) if session.apart else [names]:
        made = {name: make(name) for name in in_turn(heat, spec.process)}
        racers = [made[name] for name in heat]
        seconds = share * len(heat) / len(names)
        races.append(speed.race(racers, session, text_of(corpus), process=spec.process, seconds=seconds))
        del racers, made
    value = {
        "process": spec.process,
        "seed": job.seed,
        "runs": spec.runs,
        "environment": here,
        "load": [load, os.getloadavg()[0]],
        "missing": missing,
        **vars(speed.together(races)),
    }
    write_json(folder.path / PROCESS, value)
    _note(spec, value, root)
    folder.finish("completed")
    return "completed"


def rotated(names: list[str], shift: int) -> list[list[str]]:
    """Each name alone, another one first in each process."""
    first = shift % len(names)
    return [[name] for name in names[first:] + names[:first]]


def in_turn(names: list[str], process: int) -> list[str]:
    """In which order a process makes its models: another one first, and backwards in every other process.

    Weights that lie elsewhere in memory are read faster or slower, by 20% for 100 MB of them on a virtual machine: made
    always in one order, the same model would have the better place in every process.
    """
    turned = [name for (name,) in rotated(names, process)]
    return [turned[0], *turned[:0:-1]] if process % 2 else turned


def _note(spec: SpeedSpec, value: dict[str, Any], root: Path) -> None:
    """Notes, beside the plans, that a process was timed, by how its models are trained."""
    from moebench.store import Results, append_lines

    results = Results(root)
    timed: dict[str, list[str]] = {}
    for model, run_id in spec.runs.items():
        if model in value["samples"]:
            metrics = {*value["samples"][model], *value["derived"].get(model, {})}
            timed[_training(results.job(run_id).spec())] = sorted(metrics)
    row = {"process": spec.process, "at": time.time(), "machine": value["environment"]["machine"], "timed": timed}
    kept = results.timed_path(spec.session.id)
    kept.parent.mkdir(parents=True, exist_ok=True)
    append_lines(kept, [row])


def _training(spec: dict[str, Any]) -> str:
    """How a model came about, as plans tell it by `Plan.training`."""
    if "architecture" not in spec:
        return LoadSpec.model_validate(spec).training
    return training_of(
        spec["architecture"], spec["recipe"], spec["data_digest"], spec.get("start"), spec.get("derived")
    )


def is_outdated(job: Job, root: Path) -> bool:
    """Whether a process's file does not read, or went without a model that has been trained since."""
    from moebench.store import Results

    results = Results(root)
    try:
        value = results.job(job.id).read(PROCESS)
        samples = [seconds for metrics in value["samples"].values() for many in metrics.values() for seconds in many]
        counted = any(value["derived"].values())
        reads = bool(samples or counted) and all(isinstance(seconds, float) for seconds in samples)
        lacking: dict[str, str] = dict(value["missing"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    return not reads or any(results.job(run_id).status() == "completed" for run_id in lacking.values())


SPEED = Kind(jobs=jobs, execute=execute, needs_all=False, is_outdated=is_outdated)
