"""Killed at any moment and begun again, a run ends in the bits it would have had, and does only the rest again.

The killing is real: SIGKILL, to processes that train. Moments are drawn from a seeded generator as shares of how long
the undisturbed run took, so they fall everywhere: in training, in evaluation, between a temporary file and its place.
Named points of the store and of the run are killed one by one as well.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.torch

from moebench import api
from moebench.jobs.loop import execute
from moebench.store import Checkpoints, JobFolder, Results
from moebench.store.files import FAULT_POINTS
from tests.support import tiny_suites
from tests.support.crash_runs import Forge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the limit is for machines that do much else

BITS = ("steps.jsonl", "records.jsonl", "items.jsonl", "model.safetensors")
STEPS = 60


def contents(folder: JobFolder) -> dict[str, bytes]:
    assert folder.verify() == []
    return {name: (folder.path / name).read_bytes() for name in tiny_suites.BITS if folder.has(name)}


# ------------------------------------------------------------------------------------------ single runs


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    one = Forge()
    yield one
    one.close()


NOISY = {"kind": "moe", "experts": 4, "top_k": 2, "router": "noisy_topk", "capacity_factor": 0.75, "jitter": 0.1,
         "importance_loss": 0.1, "load_loss": 0.1, "balance_loss": 0.0}  # fmt: skip
BIASED = {"kind": "moe", "experts": 4, "top_k": 2, "router": "sigmoid_bias", "bias_rate": 0.01, "balance_over": "batch",
          "shared_hidden": 16, "first_dense": 1, "dense_hidden": 16}  # fmt: skip
"""A router that draws and refuses, and one that carries state beside its weights."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    models = tiny_suites.suite()["models"]
    for name, ffn in (("noisy", NOISY), ("biased", BIASED)):
        models[name] = {"layers": 2, "width": 16, "heads": 2, "ffn": {"expert_hidden": 16, **ffn}}
    return tiny_suites.planned(tmp_path_factory.mktemp("resume"), measure={"memory": True}, models=models)


class Undisturbed:
    """A run that nothing happened to: what it left, and how long it took."""

    def __init__(self, forge: Forge, made: api.Planned, root: Path, **recipe: Any) -> None:
        recipe = {"steps": STEPS, "evaluate_at": (20, 40, STEPS), **recipe}
        run = tiny_suites.run_of(made, recipe.pop("model", "moe"), **recipe)
        # A checkpoint at every other step or so, so that a killing falls between two of them.
        self.jobs = tiny_suites.jobs_of(made, run, checkpoint_seconds=0.02)
        self.id = self.jobs[0].id
        began = time.perf_counter()
        code, _ = forge.carry_out(self.jobs, root / "undisturbed")
        self.seconds = time.perf_counter() - began
        assert code == 0
        self.contents = self.left(root / "undisturbed")

    def left(self, root: Path) -> dict[str, bytes]:
        return tiny_suites.Left.of(root, self.jobs).contents()


@pytest.fixture(scope="module")
def undisturbed(forge: Forge, made: api.Planned, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(forge, made, tmp_path_factory.mktemp("undisturbed"))


def checkpointed(folder: JobFolder) -> int:
    """The step a resumed run must begin at."""
    found = Checkpoints(folder).load() if folder.path.exists() else None
    return found[0] if found else 0


def assert_only_the_rest_was_done(events: list[dict[str, Any]], step: int) -> None:
    began = [event["step"] for event in events if event["event"] == "progress"]
    assert not began or began[0] == step


def assert_segments_do_not_overlap(folder: JobFolder) -> None:
    rows = [json.loads(line) for line in (folder.path / "timed.jsonl").read_text().splitlines()]
    spans = [(row["step_from"], row["step_to"]) for row in rows if row["what"] == "train"]
    assert spans == sorted(spans)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


@pytest.mark.parametrize("kind", [{}, {"model": "dense"}, {"dtype": "bfloat16"}], ids=["moe", "dense", "bfloat16"])
def test_killed_at_random_moments(forge: Forge, made: api.Planned, tmp_path: Path, kind: dict[str, Any]) -> None:
    whole, moments = Undisturbed(forge, made, tmp_path, **kind), random.Random(f"moments {kind}")
    for life in ("first", "second"):
        folder = Results(tmp_path / life).job(whole.id)
        for _ in range(5):
            step = checkpointed(folder)
            moment = moments.uniform(0, 0.8) * whole.seconds
            code, events = forge.carry_out(whole.jobs, tmp_path / life, kill_after_s=moment)
            assert code in (0, -signal.SIGKILL)
            assert_only_the_rest_was_done(events, step)
        code, _ = forge.carry_out(whole.jobs, tmp_path / life)
        assert code == 0
        assert whole.left(tmp_path / life) == whole.contents
        assert_segments_do_not_overlap(folder)


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_killed_at_a_point_of_the_store(forge: Forge, undisturbed: Undisturbed, tmp_path: Path, point: str) -> None:
    """Each life of the process gets one file further than the one before, and dies there."""
    folder = Results(tmp_path).job(undisturbed.id)
    deaths = 0
    for nth in (1, 2, 3, 5, 8) if point != "before_done" else (1, 2, 2, 2):
        step = checkpointed(folder)
        code, events = forge.carry_out(undisturbed.jobs, tmp_path, fault=f"{point}:{nth}")
        assert_only_the_rest_was_done(events, step)
        deaths += code == -signal.SIGKILL
    assert deaths == (4 if point == "before_done" else 5)
    code, _ = forge.carry_out(undisturbed.jobs, tmp_path)
    assert code == 0
    assert undisturbed.left(tmp_path) == undisturbed.contents
    for job in undisturbed.jobs:
        left = Results(tmp_path).job(job.id).path.iterdir()
        assert not [path.name for path in left if path.name.startswith((".", "checkpoint"))]


@pytest.mark.parametrize(
    "die_in",
    [
        ("moebench.jobs.loop:_evaluate", 1),
        ("moebench.jobs.loop:_evaluate", 3),
        ("quality", 1),
        ("flops", 1),
        ("memory", 1),
        ("moebench.jobs.evaluate:_write", 1),
        ("moebench.jobs.evaluate:_write", 2),
        ("moebench.jobs.loop:_checkpoint", 2),
    ],
    ids=lambda value: f"{value[0]}-{value[1]}",
)
def test_killed_in_evaluation_and_in_the_last_measurements(
    forge: Forge, undisturbed: Undisturbed, tmp_path: Path, die_in: tuple[str, int]
) -> None:
    folder = Results(tmp_path).job(undisturbed.id)
    code, _ = forge.carry_out(undisturbed.jobs, tmp_path, die_in=die_in)
    assert code == -signal.SIGKILL
    step = checkpointed(folder)
    code, events = forge.carry_out(undisturbed.jobs, tmp_path)
    assert code == 0
    assert_only_the_rest_was_done(events, step)
    assert undisturbed.left(tmp_path) == undisturbed.contents


@pytest.mark.parametrize("model", ["noisy", "biased"])
def test_routers_that_draw_refuse_or_carry_biases_go_on_to_the_same_bits(
    forge: Forge, made: api.Planned, tmp_path: Path, model: str
) -> None:
    """Killed after the second checkpoint of each life, in micro-batches of half a batch."""
    whole = Undisturbed(forge, made, tmp_path, model=model, micro_batch_tokens=64)
    folder, steps = Results(tmp_path / "life").job(whole.id), [0]
    for _ in range(3):
        code, events = forge.carry_out(whole.jobs, tmp_path / "life", die_in=("moebench.jobs.loop:_checkpoint", 2))
        assert code == -signal.SIGKILL
        assert_only_the_rest_was_done(events, steps[-1])
        steps.append(checkpointed(folder))
    assert steps == sorted(set(steps))
    assert steps[-1] < STEPS
    code, _ = forge.carry_out(whole.jobs, tmp_path / "life")
    assert code == 0
    assert whole.left(tmp_path / "life") == whole.contents
    rows = [json.loads(line) for line in whole.contents[f"{whole.id}/records.jsonl"].splitlines()]
    dropped = [row["value"] for row in rows if row["metric"] == "train.dropped_share"]
    assert (len(dropped) == 3 and min(dropped) > 0.1) if model == "noisy" else dropped == []
    state = safetensors.torch.load(whole.contents[f"{whole.id}/model.safetensors"])
    assert [name for name in state if "bias_E" in name] == (["layers.1.ffn.router.bias_E"] if model == "biased" else [])
    assert all(value.abs().max() > 0.01 for name, value in state.items() if "bias_E" in name)


# ------------------------------------------------------------------------------------------ the whole command


class Command:
    """`python -m moebench run` in a process group of its own, marked so that whatever it leaves behind is found."""

    def __init__(self, suite: Path, *, workers: int) -> None:
        self.marker = uuid.uuid4().hex
        self.results = suite.parent / "results"
        self.log = suite.parent / f"{self.marker}.log"
        where = ["--results", str(self.results), "--out", str(suite.parent / "reports")]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moebench", "run", str(suite), *where, "--workers", str(workers)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "MOEBENCH_TEST": self.marker},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def finish(self) -> tuple[int, str, str]:
        """Waits for its end: exit code, standard output and error. Nothing it started may outlive it."""
        out, _ = self.process.communicate()
        _, alive = psutil.wait_procs(self.offspring(), timeout=30)
        assert [one for one in alive if is_alive(one)] == []
        return self.process.returncode, out, self.log.read_text()

    def offspring(self) -> list[psutil.Process]:
        """Living processes that inherited the marker."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get("MOEBENCH_TEST") == self.marker and process.pid != self.process.pid:
                    found.append(process)
        return [one for one in found if is_alive(one)]

    def wait_for(self, *, pattern: str | None = None, words: str | None = None) -> None:
        """Until a result is there or something has been said, or the command has ended."""
        while self.process.poll() is None:
            if pattern is not None and any(self.results.glob(pattern)):
                return
            if words is not None and words in self.log.read_text():
                return
            select.select([], [], [], 0.02)

    def signal_group(self, signum: int) -> None:
        """To all of its group, as a terminal's Ctrl-C; nothing once it has ended: its pid may be another's."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signum)

    def clear_away(self) -> None:
        self.signal_group(signal.SIGKILL)
        self.process.communicate()


def is_alive(process: psutil.Process) -> bool:
    """Zombies are dead: only their new parent has not looked yet."""
    with suppress(psutil.NoSuchProcess):
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


@pytest.fixture(scope="module")
def begin() -> Iterator[Callable[..., Command]]:
    """Begins a command; whatever a failed test leaves is cleared away."""
    commands: list[Command] = []

    def make(suite: Path, *, workers: int = 1) -> Command:
        commands.append(Command(suite, workers=workers))
        return commands[-1]

    yield make
    for command in commands:
        if command.process.returncode is None:
            command.clear_away()


def long_suite(folder: Path) -> Path:
    """Two models, two seeds, runs of about a second: long enough to be caught at work."""
    folder.mkdir(parents=True, exist_ok=True)
    train = {"budget": {"steps": 150}, "checkpoint_seconds": 0.1, "evaluate": {"points": 3, "tokens": 256}}
    return tiny_suites.write(folder, claims={"better": tiny_suites.claim()}, train=train)


def all_contents(root: Path) -> dict[str, dict[str, bytes]]:
    return {folder.id: contents(folder) for folder in Results(root).jobs()}


def touched(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, begin: Callable[..., Command]) -> tuple[Path, float]:
    """A folder in which the command ran undisturbed, and how long its runs took."""
    folder = tmp_path_factory.mktemp("plain")
    code, out, err = begin(long_suite(folder), workers=2).finish()
    assert code == 0, err
    assert "4 runs: 4 completed" in out
    runs = Results(folder / "results").jobs()
    began = min(one.job_json()["started"] for one in runs)
    return folder, max((one.path / "DONE").stat().st_mtime for one in runs) - began


def test_a_second_command_does_nothing_and_says_so(plain: tuple[Path, float], begin: Callable[..., Command]) -> None:
    folder, _ = plain
    before = touched(folder / "results")
    code, out, err = begin(folder / "tiny.yaml").finish()
    assert code == 0, err
    assert out.startswith("nothing to do: 4 runs: 4 completed")
    assert touched(folder / "results") == before


def test_the_whole_group_killed_at_random_moments(
    plain: tuple[Path, float], begin: Callable[..., Command], tmp_path: Path
) -> None:
    """Few times here, for each costs seconds; MOEBENCH_KILLS=20 makes it many."""
    folder, seconds = plain
    undisturbed, moments = all_contents(folder / "results"), random.Random("groups")
    kills, lives = 0, itertools.count()
    suite = long_suite(tmp_path / f"life-{next(lives)}")
    while kills < int(os.environ.get("MOEBENCH_KILLS", "4")):
        command = begin(suite, workers=2)
        command.wait_for(words="step ")
        select.select([], [], [], moments.uniform(0, 0.6) * seconds)
        command.signal_group(signal.SIGKILL)
        code, *_ = command.finish()
        assert code in (-signal.SIGKILL, 0)
        kills += code == -signal.SIGKILL
        if code == 0:  # it was done before: another life
            assert all_contents(suite.parent / "results") == undisturbed
            suite = long_suite(tmp_path / f"life-{next(lives)}")
    code, out, err = begin(suite, workers=2).finish()
    assert code == 0, err
    assert all_contents(suite.parent / "results") == undisturbed
    assert list((suite.parent / "results").rglob(".*tmp-*")) == []
    assert "4 runs: 4 completed" in out


def test_a_worker_killed_and_then_the_coordinator(
    plain: tuple[Path, float], begin: Callable[..., Command], tmp_path: Path
) -> None:
    folder, _ = plain
    suite = long_suite(tmp_path)
    command = begin(suite)
    command.wait_for(pattern="jobs/*/checkpoint.json")
    for worker in command.offspring():
        worker.kill()
    command.wait_for(pattern="jobs/*/DONE")  # it went on with another worker
    command.process.kill()
    code, _, err = command.finish()  # and no worker outlived it
    assert (code, "trying again" in err) == (-signal.SIGKILL, True)
    code, _, err = begin(suite).finish()
    assert code == 0, err
    assert all_contents(tmp_path / "results") == all_contents(folder / "results")


def test_signals_stop_after_a_checkpoint_and_the_same_command_goes_on(
    begin: Callable[..., Command], tmp_path: Path
) -> None:
    """One run of some seconds, stopped by Ctrl-C and then by SIGTERM."""
    one = {"layers": 2, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 16}}
    suite = tiny_suites.write(tmp_path, models={"dense": one}, seeds=1, train={"budget": {"steps": 1000}})
    made = api.prepare_plan(suite, results=tmp_path / "results")
    (folder,) = (Results(tmp_path / "results").job(run.id) for run in made.plan.runs)
    at = 0
    for signum, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        command = begin(suite)
        command.wait_for(words="step ")
        if signum == signal.SIGINT:
            command.signal_group(signum)
        else:
            command.process.send_signal(signum)
        code, out, err = command.finish()
        assert (code, out) == (expected, ""), err
        assert f"stopped by {signal.Signals(signum).name}; the same command goes on from the checkpoints" in err
        assert "dense seed 0: checkpoint written" in err
        assert "Traceback" not in err
        assert at < checkpointed(folder) < 1000
        at = checkpointed(folder)
    code, _, err = begin(suite).finish()
    assert code == 0, err
    assert f"step {at}/1000" in err
    run = tiny_suites.run_of(made, "dense")
    execute(
        tiny_suites.job_of(made, run),
        root=tmp_path / "undisturbed",
        on_event=lambda _: None,
        should_stop=lambda: False,
    )
    assert contents(folder) == contents(Results(tmp_path / "undisturbed").job(run.id))


def test_two_commands_at_once_do_every_run_once(
    plain: tuple[Path, float], begin: Callable[..., Command], tmp_path: Path
) -> None:
    folder, _ = plain
    suite = long_suite(tmp_path)
    ends = [command.finish() for command in [begin(suite), begin(suite)]]
    assert [code for code, *_ in ends] == [0, 0], ends
    assert all_contents(tmp_path / "results") == all_contents(folder / "results")
    for one in Results(tmp_path / "results").jobs():
        rows = list(one.each_row("timed.jsonl"))
        assert {row["segment"] for row in rows} == (
            {0} if one.kind == "train" else set()
        )  # nobody took over what another had begun
