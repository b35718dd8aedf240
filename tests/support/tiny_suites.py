"""Suites that train for real within a second: two blocks of width 16 on a Markov text.

`write` puts a suite file into a folder; `planned` plans it and `runs` gives the runs themselves, for tests that train
in this process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from moebench import api
from moebench.cli.commands import main
from moebench.data.corpus import Corpus
from moebench.data.prepare import prepare
from moebench.jobs import evaluate, train
from moebench.jobs.job import Job
from moebench.jobs.recipe import Run
from moebench.metrics.metric import Record
from moebench.planning.machine import machine
from moebench.store import JobFolder, Results

SYNTHETIC = {"source": "synthetic", "sources": 2, "symbols": 6, "order": 1, "documents": 60, "document_bytes": 200}
QUALITY = {"kind": "superior", "margin": "0%"}


def suite(**changes: Any) -> dict[str, Any]:
    """A suite of one mixture and one dense model with as many active parameters; `changes` replace whole blocks."""
    train = {
        "budget": {"steps": 12},
        "batch_tokens": 128,
        "optimizer": {"lr": 1.0e-2},
        "evaluate": {"points": 3, "tokens": 256, "final_tokens": 512},
        "checkpoint_seconds": 1000.0,
    }
    ffn = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
    models = {
        "moe": {"layers": 2, "width": 16, "heads": 2, "ffn": ffn},
        "dense": {"base": "moe", "ffn": {"kind": "dense"}, "match": {"to": "moe", "on": "active_params"}},
    }
    usual = {
        "suite": "tiny",
        "question": "Does it run?",
        "seeds": 2,
        "data": {**SYNTHETIC, "context": 16},
        "train": {**train, **changes.pop("train", {})},
        "models": models,
        "measure": {"memory": False},
    }
    return {**usual, **changes}


def claim(**changes: Any) -> dict[str, Any]:
    """The claim that the mixture is better than the dense model."""
    usual = {
        "says": "The mixture is better.",
        "compare": {"treatment": "moe", "baseline": "dense"},
        "metric": "test.bits_per_byte",
        "test": QUALITY,
    }
    return {**usual, **changes}


def write(folder: Path, **changes: Any) -> Path:
    """The suite as a file in `folder`."""
    path = folder / "tiny.yaml"
    with path.open("w") as file:
        YAML().dump(suite(**changes), file)
    return path


def planned(folder: Path, **changes: Any) -> api.Planned:
    """The suite planned, with its results going to `folder/results`."""
    return api.prepare_plan(write(folder, **changes), results=folder / "results")


def corpus(made: api.Planned) -> Corpus:
    """The data of a planned suite."""
    return prepare(made.loaded.spec.data, base=made.loaded.base, cache=made.results / "data")


def run_of(made: api.Planned, model: str = "moe", seed: int = 0, **recipe: Any) -> Run:
    """One of its runs, with a changed recipe if any."""
    one = made.plan.models[model]
    changed = one.recipe.model_copy(update=recipe)
    return train.run_of(one, seed=seed, facts=made.plan.data, machine=machine(), recipe=changed)


def job_of(made: api.Planned, run: Run, **changes: Any) -> Job:
    """The job that trains a run."""
    usual: dict[str, Any] = {
        "data": made.loaded.spec.data,
        "base": made.loaded.base,
        "model": "moe",
        "seed": run.seed,
        "suite": "tiny",
        "checkpoint_seconds": 1000.0,
    }
    return Job(kind="train", spec=run.model_dump(mode="json"), **{**usual, **changes})


def jobs_of(made: api.Planned, run: Run, **changes: Any) -> list[Job]:
    """The job that trains a run, and those that measure what it leaves."""
    trained = job_of(made, run, **changes)
    return [trained, *(evaluate.job(trained, name) for name in ("quality", "flops", "memory"))]


@dataclass(frozen=True, kw_only=True)
class Left:
    """What the jobs of one run left."""

    trained: JobFolder
    measured: tuple[JobFolder, ...]

    @staticmethod
    def of(root: Path, jobs: Iterable[Job]) -> Left:
        trained, *measured = (Results(root).job(job.id) for job in jobs)
        return Left(trained=trained, measured=tuple(measured))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trained, name)

    def records(self) -> list[Record]:
        return [record for folder in (self.trained, *self.measured) for record in folder.records()]

    def items(self) -> list[dict[str, Any]]:
        return [row for folder in self.measured for row in folder.items()]

    def contents(self) -> dict[str, bytes]:
        """What must not depend on what happened on the way."""
        folders = [folder for folder in (self.trained, *self.measured) if folder.status() != "missing"]
        assert [folder.verify() for folder in folders] == [[] for _ in folders]
        return {
            f"{folder.id}/{name}": (folder.path / name).read_bytes()
            for folder in folders
            for name in BITS
            if folder.has(name)
        }


BITS = ("steps.jsonl", "records.jsonl", "items.jsonl", "model.safetensors")
"""Files without times."""


def call(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)


def call_run(suite: Path, *options: str) -> Result:
    """`moebench run` in this process, results and reports beside the suite."""
    where = ["--results", suite.parent / "results", "--out", suite.parent / "reports"]
    return call("run", suite, *where, "--launcher", "inline", *options)
