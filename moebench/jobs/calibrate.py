"""This machine in the planner's eyes: what it is, and how long a step takes.

Only a budget in seconds needs a measurement, which is taken once per model and machine, kept under
`results/calibration/`, and turned into a whole number of steps; a run's identity holds the steps. How long a whole plan
takes is known to `rehearsal`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

from moebench.counting.costs import costs_of
from moebench.environment import environment
from moebench.identity import digest_of
from moebench.jobs.recipe import Run
from moebench.jobs.train import run_of
from moebench.launch.process import child_environment
from moebench.planning.matching import Machine, match_all, recipe_of
from moebench.planning.types import DataFacts, PlannedModel
from moebench.store import read_json, write_json
from moebench.suite.types import SuiteSpec

TIMED_STEPS = 8


class CalibrationFailed(RuntimeError):  # noqa: N818  the name is read in `except CalibrationFailed`
    """A budget in seconds could not be turned into steps, for its model could not be timed."""


def machine(*, device: str = "cpu", threads: int = 1) -> Machine:
    """The machine as part of a speed session's identity: timings of another processor or torch are another session."""
    here = environment(threads)
    fingerprint = digest_of([here.cpu, here.cores, here.gpu, here.packages.get("torch"), threads])
    return Machine(device=device, fingerprint=fingerprint, memory_bytes=here.memory_bytes)


def with_step_seconds(base: Machine, spec: SuiteSpec, *, vocab: int, root: Path, threads: int) -> Machine:
    """The machine with the step time of every model whose budget is in seconds, measured or as stored."""
    architectures, _ = match_all(spec, vocab=vocab)
    seconds: dict[str, float] = {}
    for name, a in architectures.items():
        train = spec.models[name].train
        if train is None or train.budget.seconds is None:
            continue
        recipe = recipe_of(train, steps=TIMED_STEPS)
        planned = PlannedModel(
            architecture=a, recipe=recipe, costs=costs_of(a.blueprint, dtype=recipe.dtype), expected_train_flops=0.0
        )
        run = run_of(planned, seed=0, facts=no_facts(), machine=base)
        path = root / "calibration" / f"{digest_of([base.fingerprint, run.id])}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"step_s": _measure(run, threads=threads), "model": name, "fingerprint": base.fingerprint})
        seconds[name] = float(read_json(path)["step_s"])
    return replace(base, step_seconds=seconds)


def no_facts() -> DataFacts:
    """Stands for data where a plan does not depend on them."""
    return DataFacts(
        source="none", digest="none", documents={}, tokens={}, domains=(), leak_share=0.0, leak_threshold=1.0
    )


def _measure(run: Run, *, threads: int) -> float:
    """Seconds of one optimizer step, median, in a fresh process. Raises CalibrationFailed with its last words."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "moebench.jobs.calibrate"],
        input=run.model_dump_json(),
        capture_output=True,
        text=True,
        env=child_environment(threads),
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CalibrationFailed(f"calibration ended with {done.returncode}: {last}")
    return float(json.loads(done.stdout)["step_s"])


def _time_here(run: Run) -> float:
    import torch

    from moebench.jobs.training import TrainingStep, start
    from moebench.metrics import clock

    trainable, recipe = TrainingStep(start(run), run), run.recipe
    tokens = torch.randint(0, run.architecture.vocab, (trainable.sequences, run.architecture.context + 1))
    tokens = tokens.to(run.device)

    def step() -> None:
        for _ in range(recipe.batch_tokens // recipe.micro_batch_tokens):
            trainable.backward(tokens, trainable.draws())
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()

    return median([clock.time_call(step, run.device) for _ in range(TIMED_STEPS)][2:])


if __name__ == "__main__":
    print(json.dumps({"step_s": _time_here(Run.model_validate_json(sys.stdin.read()))}))
