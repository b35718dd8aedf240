"""Runs that train nothing, for the tests of launching: they count steps, checkpoint, and misbehave on request.

The state after a step is a hash of the state before it, so a run that lost or repeated a step ends with other weights.
A task's model name says how it misbehaves. `python fake_runs.py` is a worker; `python fake_runs.py launch ROOT WORKERS
MODEL...` is a coordinator that prints its events as JSON lines and exits like the command line does.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from moebench.data.sources.stdlib import StdlibData
from moebench.jobs.recipe import Recipe, Run
from moebench.launch import Job, LaunchOptions, OnEvent, Stopped
from moebench.launch.process import ProcessPlace
from moebench.launch.scheduler import Scheduler
from moebench.launch.worker import serve
from moebench.models.architecture import Architecture
from moebench.store import Checkpoints, Results, append_lines, keep_lines, write_bytes, write_json
from moebench.suite.model import DenseFFN

WORKER = (sys.executable, __file__)
CHECKPOINT_EVERY = 5


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def task(model: str = "good", *, seed: int = 0, steps: int = 20, threads: int = 1, **more: Any) -> Job:
    architecture = Architecture(
        vocab=256,
        context=8,
        layers=1,
        width=len(model),  # other models are other runs
        heads=1,
        kv_heads=1,
        head_dim=2,
        ffn=DenseFFN(kind="dense", hidden=8),
        tied_embeddings=True,
        rope_theta=10000.0,
        norm_eps=1e-5,
    )
    recipe = Recipe(
        steps=steps,
        batch_tokens=8,
        micro_batch_tokens=8,
        lr=1e-3,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.0,
        clip=None,
        warmup_steps=0,
        decay="none",
        final_lr_share=1.0,
        dtype="float32",
        evaluate_at=(steps,),
        eval_tokens=8,
        final_eval_tokens=8,
        split="test",
    )
    run = Run(
        architecture=architecture,
        recipe=recipe,
        seed=seed,
        data_digest=hashlib.sha256(model.encode()).hexdigest(),
        device="cpu",
        backend="none",
        torch="0.0",
    )
    return Job(
        kind="train",
        spec=run.model_dump(mode="json"),
        model=model,
        seed=seed,
        suite="fake",
        threads=threads,
        checkpoint_seconds=1.0,
        data=StdlibData(source="stdlib"),
        base=Path("/"),
        **more,
    )


def after(*inputs: Job, model: str = "good", kind: str = "evaluate", **more: Any) -> Job:
    """A job that starts from others."""
    spec = {"measurement": "quality", "of": model}
    first = inputs[0]
    return first.model_copy(
        update={"kind": kind, "spec": spec, "model": model, "inputs": tuple(one.id for one in inputs), **more}
    )


def graph() -> list[Job]:
    """Two slow jobs, what is made of each, and what is made of both."""
    first = [task("slow", seed=seed, steps=40) for seed in range(2)]
    second = [after(job, model="slow") for job in first]
    return [*first, *second, after(*second, model="slow", kind="evaluate", exclusive=True)]


def execute(task: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    folder, steps = Results(root).job(task.id), int(task.spec.get("recipe", {"steps": 20})["steps"])
    with (root / "began.log").open("a") as log:
        log.write(f"{task.id} {task.kind} {os.getpid()}\n")
    checkpoints = Checkpoints(folder)
    found = checkpoints.load()
    step, state = found[:2] if found else (0, str(task.seed).encode())
    keep_lines(folder.path / "steps.jsonl", lambda row: row["step"] <= step)
    while step < steps:
        step += 1
        state = hashlib.sha256(state + str(step).encode()).digest()
        append_lines(folder.path / "steps.jsonl", [{"step": step, "digest": state.hex()[:16]}])
        on_event(task.event("progress", step=step, steps=steps, pid=os.getpid(), loss=1.0 / step, phase="train"))
        misbehave(task.model, step, state, folder.path, should_stop)
        if step % CHECKPOINT_EVERY == 0 or should_stop():
            checkpoints.save(step, state, {"segment": 0})
        if should_stop() and step < steps:
            return "stopped"
    write_bytes(folder.path / "model.safetensors", state)
    write_json(folder.path / "job.json", {"job": task.identity})
    if task.model == "lies":
        return "completed"
    folder.finish("diverged" if task.model == "diverges" else "completed")
    return "diverged" if task.model == "diverges" else "completed"


def misbehave(model: str, step: int, state: bytes, folder: Path, should_stop: Callable[[], bool]) -> None:
    """Does at step 7 (after the checkpoint of step 5) what the model's name says."""
    if model == "chatty":
        print("this is no event")
        os.write(1, b"nor is this\n")
    if model == "slow":
        time.sleep(0.02)
    if model == "doomed" and step % 6 == 2 and not spared(folder, step).exists():
        signal.pause()  # the test kills it here, whichever of the two is faster
    if model.startswith("env:"):
        (folder / "seen.json").write_text(json.dumps({name: os.environ.get(name) for name in model[4:].split(",")}))
    if step == 7 and model in MISBEHAVIOURS:
        MISBEHAVIOURS[model](folder)


def spared(folder: Path, step: int) -> Path:
    """A file that lets a doomed run pass a step."""
    return folder.parent.parent / f"{folder.name}-{step}.spared"


def hang(folder: Path) -> None:
    offspring = subprocess.Popen(["sleep", "1000"])
    (folder.parent.parent / "offspring.pid").write_text(str(offspring.pid))
    signal.pause()


def fill_disk(folder: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        write_bytes(folder / "checkpoint-5.safetensors", bytes(30_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def once(action: Callable[[], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        marker = folder.parent.parent / "once"
        if not marker.exists():
            marker.touch()
            action()

    return act


def throw(error: BaseException) -> Any:
    raise error


def deaf(_: Path) -> None:
    while True:
        signal.pause()


MISBEHAVIOURS: dict[str, Callable[[Path], Any]] = {
    "exits": lambda _: (sys.stderr.write("I have had enough\n"), os._exit(3)),
    "sysexits": lambda _: sys.exit(4),
    "segfaults": lambda _: ctypes.string_at(0),
    "raises": lambda _: throw(RuntimeError("a wrong turn")),
    "eats": lambda _: throw(MemoryError()),
    "eats_gpu": lambda _: throw(OutOfMemoryError("CUDA out of memory")),
    "fills": fill_disk,
    "hangs": hang,
    "suspends": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "deaf": deaf,
    "naps": lambda _: time.sleep(2.5),
    "fails_once": once(lambda: throw(OSError(errno.EIO, "a loose cable"))),
    "terminated_once": once(lambda: os.kill(os.getpid(), signal.SIGTERM)),
}


def launch_fakes(
    tasks: Sequence[Job], root: Path, *, workers: int = 2, command: Sequence[str] = WORKER, **options: Any
) -> dict[str, str]:
    how = LaunchOptions(**{"workers": workers, "results": root, "timeout_s": 60.0, **options})
    return Scheduler(tasks, how, partial(ProcessPlace, command=command)).run()


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        return serve(execute)
    command, root, workers, *models = arguments
    tasks = (
        graph()
        if command == "graph"
        else [task(model, seed=seed, steps=100 if model == "slow" else 20) for seed, model in enumerate(models)]
    )
    try:
        launch_fakes(
            tasks, Path(root), workers=int(workers), on_event=lambda event: print(json.dumps(event), flush=True)
        )
    except Stopped as stop:
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
