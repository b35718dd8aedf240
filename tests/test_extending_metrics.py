"""A new metric is one file: an installed package offers one, and a suite measures it, claims it and reports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.launch.process import child_environment
from tests.support.tiny_suites import claim, write

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


def moebench(folder: Path, *arguments: str, rc: int = 0) -> str:
    environment = child_environment(1)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), *sys.path])
    command = [sys.executable, "-m", "moebench", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == rc, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    install(folder / "site", "surprise", SURPRISE)
    install(folder / "site", "broken", "1 / 0\n")
    write(folder, seeds=2, claims={"plain": claim()})
    return folder


def test_it_is_a_word_of_the_language(folder: Path) -> None:
    listed = moebench(folder, "list", "metrics")
    assert "test.surprise" in listed
    assert "ZeroDivisionError" in listed  # another package that does not load is named and stops nothing
    suite = write(folder, claims={"fewer": claim(metric="test.surprise")})
    assert "put surprise into measure.quality" in " ".join(moebench(folder, "validate", suite.name, rc=2).split())


def test_it_is_measured_claimed_and_reported(folder: Path) -> None:
    """By worker processes too, which load the package by themselves; another version of it is another job."""
    fewer = claim(metric="test.surprise", test={"kind": "non_inferior", "margin": "50%"})
    suite = write(folder, seeds=2, measure={"memory": False, "quality": ["surprise"]}, claims={"fewer": fewer})
    asked = ("run", suite.name, "--results", "results", "--out", "reports", "--workers", "1")
    moebench(folder, *asked)
    (told,) = json.loads((folder / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (told["metric"], told["n"]) == ("test.surprise", 2)
    jobs = [json.loads(path.read_text())["job"] for path in (folder / "results" / "jobs").glob("*/job.json")]
    specs = [job["spec"] for job in jobs if job["spec"].get("measurement") == "surprise"]
    assert len(specs) == 4
    assert all(spec["options"]["code"].startswith("surprise 1.0, sha256") for spec in specs)
    (folder / "site" / "surprise.py").write_text(SURPRISE.replace("> 3)", "> 4)").replace("three bits", "four bits"))
    moebench(folder, *asked)
    kinds = [json.loads(p.read_text())["job"]["kind"] for p in (folder / "results" / "jobs").glob("*/job.json")]
    assert kinds.count("train") == 4
    assert len(kinds) == len(jobs) + 4
