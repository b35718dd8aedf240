"""A new kind of claim, or a new metric of an installed package, is one file: all that reads suites and verdicts
follows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.launch.process import child_environment
from tests.support.tiny_suites import claim, write

AT_LEAST = '''
"""`at_least`: a metric of one model is at least a value."""

from typing import Literal

from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, as_written
from moebench.claims.kinds.kind import ClaimKind
from moebench.metrics import metric_of


class AtLeast(ClaimKind):
    """A metric of one model is at least a value."""

    example = "{model: moe, metric: routing.entropy, test: {kind: at_least, value: 0.9}}"
    takes = ("model",)

    kind: Literal["at_least"]
    """at_least: a floor."""
    value: float
    """The least that it may be."""

    def says(self, claim):
        return f"{claim.metric} of {claim.model} is at least {self.value:g}."

    def supported_if(self, claim):
        return f"{claim.model} has at least {self.value:g}", "it has less"

    def hypothesis(self, claim, sweeps):
        floor = Level.of(as_written(self.value))
        return Hypothesis(
            contrast=Contrast.of(claim.metric, {claim.model: 1.0}),
            support=(floor.above(),),
            refute=(floor.below(),),
            reading=Reading(form="difference", sign=1, unit=metric_of(claim.metric).unit),
            asked=f"≥ {self.value:g}",
        )
'''
LINE = """
import sys

from moebench.claims.kinds import KINDS
from at_least import AtLeast

KINDS["at_least"] = AtLeast

from moebench.cli.commands import main

main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    (folder / "at_least.py").write_text(AT_LEAST)
    (folder / "moebench_extended.py").write_text(LINE)
    test = {"kind": "at_least", "value": 0.1}
    asked = {"says": None, "compare": None, "model": "moe", "metric": "routing.entropy", "test": test}
    claims = {"even": {key: value for key, value in {**claim(), **asked}.items() if value is not None}}
    write(folder, seeds=6, claims=claims)
    return folder


def moebench(folder: Path, *arguments: str, rc: int = 0) -> str:
    command = [sys.executable, str(folder / "moebench_extended.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=child_environment(1), text=True, capture_output=True)
    assert done.returncode == rc, done.stderr
    return done.stdout + done.stderr


def test_it_is_a_word_of_the_language(folder: Path) -> None:
    assert "at_least" in moebench(folder, "list", "claims")
    assert '"at_least"' in moebench(folder, "schema")
    suite = next(folder.glob("*.yaml"))
    (folder / "other.yaml").write_text(suite.read_text().replace("at_least", "at_leest"))
    assert "did you mean 'at_least'?" in " ".join(moebench(folder, "validate", "other.yaml", rc=2).split())
    planned = " ".join(moebench(folder, "plan", suite.name).split())
    assert "supported if moe has at least 0.1; refuted if it has less" in planned


def test_it_is_judged_and_reported(folder: Path) -> None:
    suite = next(folder.glob("tiny*.yaml"), None) or next(folder.glob("*.yaml"))
    moebench(folder, "run", suite.name, "--launcher", "inline", "--results", "results", "--out", "reports")
    (told,) = json.loads((folder / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (told["state"], told["kind"], told["asked"]) == ("supported", "at_least", "≥ 0.1")
    assert told["says"] == "routing.entropy of moe is at least 0.1."
    page = (folder / "reports" / "tiny" / "index.md").read_text()
    assert "≥ 0.1" in page
    assert "SUPPORTED" in page


# ----------------------------------------------------------------------------------------------------
# A new metric is one file: an installed package offers one, and a suite measures it, claims it and reports it.


SURPRISE = '''
"""Surprise: how often a token of the test text cost more than three bits."""

import math

import torch

from moebench.metrics.measurement import Measured, Measurement
from moebench.metrics.metric import SHARE, Metric

SURPRISE = Metric(
    name="test.surprise",
    unit="1",
    within=SHARE,
    asked_by=("surprise",),
    says="share of scored tokens that cost more than three bits",
    cannot="how much more they cost",
)
METRICS = (SURPRISE,)


def _measure(context):
    inputs, targets, mask = map(torch.from_numpy, (context.text.inputs, context.text.targets, context.text.mask))
    bits_NT = -context.subject.score(inputs, targets).logprob_BT / math.log(2)
    return Measured(records=[SURPRISE.record(float((bits_NT > 3)[mask].float().mean()), step=context.step)])


MEASUREMENT = Measurement(name="surprise", metrics=METRICS, measure=_measure, optional=True)
'''


def install(site: Path, name: str, text: str) -> None:
    about = site / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[moebench.metrics]\n{name} = {name}\n")
    (site / f"{name}.py").write_text(text)


def moebench_metrics(folder_metrics: Path, *arguments: str, rc: int = 0) -> str:
    environment = child_environment(1)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder_metrics / "site"), *sys.path])
    command = [sys.executable, "-m", "moebench", *arguments]
    done = subprocess.run(command, cwd=folder_metrics, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == rc, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder_metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder_metrics = tmp_path_factory.mktemp("extended")
    install(folder_metrics / "site", "surprise", SURPRISE)
    install(folder_metrics / "site", "broken", "1 / 0\n")
    write(folder_metrics, seeds=2, claims={"plain": claim()})
    return folder_metrics


def test_it_is_a_word_of_the_language_metrics(folder_metrics: Path) -> None:
    listed = moebench_metrics(folder_metrics, "list", "metrics")
    assert "test.surprise" in listed
    assert "ZeroDivisionError" in listed  # another package that does not load is named and stops nothing
    suite = write(folder_metrics, claims={"fewer": claim(metric="test.surprise")})
    assert "put surprise into measure.quality" in " ".join(
        moebench_metrics(folder_metrics, "validate", suite.name, rc=2).split()
    )


def test_it_is_measured_claimed_and_reported(folder_metrics: Path) -> None:
    """By worker processes too, which load the package by themselves; another version of it is another job."""
    fewer = claim(metric="test.surprise", test={"kind": "non_inferior", "margin": "50%"})
    suite = write(folder_metrics, seeds=2, measure={"memory": False, "quality": ["surprise"]}, claims={"fewer": fewer})
    asked = ("run", suite.name, "--results", "results", "--out", "reports", "--workers", "1")
    moebench_metrics(folder_metrics, *asked)
    (told,) = json.loads((folder_metrics / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (told["metric"], told["n"]) == ("test.surprise", 2)
    jobs = [json.loads(path.read_text())["job"] for path in (folder_metrics / "results" / "jobs").glob("*/job.json")]
    specs = [job["spec"] for job in jobs if job["spec"].get("measurement") == "surprise"]
    assert len(specs) == 4
    assert all(spec["options"]["code"].startswith("surprise 1.0, sha256") for spec in specs)
    (folder_metrics / "site" / "surprise.py").write_text(
        SURPRISE.replace("> 3)", "> 4)").replace("three bits", "four bits")
    )
    moebench_metrics(folder_metrics, *asked)
    kinds = [json.loads(p.read_text())["job"]["kind"] for p in (folder_metrics / "results" / "jobs").glob("*/job.json")]
    assert kinds.count("train") == 4
    assert len(kinds) == len(jobs) + 4
