"""A new metric is one file: an installed package offers one, and a suite measures it, claims it and reports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from moebench.launch.child import child_environment

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
    write(folder, seeds=6, claims={"plain": claim()})
    return folder


def test_it_is_a_word_of_the_language(folder: Path) -> None:
    listed = moebench(folder, "list", "metrics")
    assert "test.surprise" in listed
    assert "ZeroDivisionError" in listed  # another package that does not load is named and stops nothing
    assert '"surprise"' in moebench(folder, "schema")
    suite = write(folder, claims={"fewer": claim(metric="test.surprise")})
    assert "put surprise into measure.quality" in " ".join(moebench(folder, "validate", suite.name, rc=2).split())
