"""Jobs that time one optimizer step of a model, for a budget in seconds: they are done before a plan can be made.

A budget in seconds becomes a whole number of steps; a run's identity holds the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from moebench.frozen import Frozen
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import Run

TIMED_STEPS = 8
STEP = "step.json"


class CalibrateSpec(Frozen):
    """A model and the machine that it is timed on."""

    run: Run
    machine: str
    """Its fingerprint: timings of another are not comparable."""


def jobs(draft: Draft) -> Iterator[Job]:  # noqa: ARG001  it is done before there is a plan
    """None: see `planning.machine`."""
    yield from ()


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,  # noqa: ARG001  it takes a moment
    should_stop: Callable[[], bool],  # noqa: ARG001  it takes a moment
) -> str:
    """Writes the median seconds of an optimizer step on random tokens."""
    from moebench.environment import environment
    from moebench.store import Results, write_json

    folder, spec = Results(root).job(job.id), CalibrateSpec.model_validate(job.spec)
    here = environment(job.threads, spec.run.device).model_dump(mode="json")
    about = {"job": job.identity, "model": job.model, "seed": job.seed, "suite": job.suite, "environment": here}
    write_json(folder.path / "job.json", about)
    write_json(folder.path / STEP, {"step_s": time_step(spec.run)})
    folder.finish("completed")
    return "completed"


def time_step(run: Run) -> float:
    import torch

    from moebench.jobs.training import TrainingStep, start
    from moebench.metrics import clock

    trainable, recipe = TrainingStep(start(run), run), run.recipe
    tokens = torch.randint(0, run.architecture.vocab, (trainable.sequences, run.architecture.context + 1))
    tokens = tokens.to(run.device)

    def step() -> None:
        trainable.tally([(tokens, trainable.draws())] * recipe.micro_batches)
        for _ in range(recipe.micro_batches):
            trainable.backward(tokens, trainable.draws())
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()

    return median([clock.time_call(step, run.device) for _ in range(TIMED_STEPS)][2:])


CALIBRATE = Kind(jobs=jobs, execute=execute)
