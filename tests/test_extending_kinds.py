"""A new kind of claim is one file and one line: suites, schema, `list`, `plan`, verdict and report follow."""

from __future__ import annotations

import json
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
