"""One of each from a single file and one line: the files of docs/extending.md, a kind of claim, and a metric of an
installed package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import moebench
from moebench.launch.process import child_environment
from tests.support.tiny_suites import claim, suite, write

PACKAGE = Path(moebench.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "extending.md").read_text()
FILES = {
    match[1]: match[0]
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.M | re.S)
    if (match := re.match(r"# (moebench/\S+)\n.*", block, flags=re.S))
}
"""Path -> text."""
LINES = re.findall(r'`("[^`]+)` in `([A-Z]+)` of `(moebench/[^`]+)`', PAGE)
"""(the line, the dict, its file), one for each of the files."""


def add_line(file: Path, name: str, line: str, *, module: str, package: str) -> None:
    """The import of what was added, and its line in a dict of the package."""
    value, text = line.partition(": ")[2], file.read_text()
    imported = (
        f"from {package} import {module}" if value.startswith(module) else f"from {package}.{module} import {value}"
    )
    opened = re.search(rf"^{name}\b[^\n]*{{", text, flags=re.M)
    assert opened, (name, file)
    closed = text.index("}", opened.end())
    text = f"{text[:closed].rstrip().rstrip(',')}, {line}{text[closed:]}"
    first = re.search(r"^(from|import) (?!__future__)", text, flags=re.M)
    assert first
    file.write_text(f"{text[: first.start()]}{imported}\n{text[first.start() :]}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extended package and a suite that uses what was added."""
    folder = tmp_path_factory.mktemp("extending")
    shutil.copytree(PACKAGE, folder / "moebench", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(FILES) == len(LINES) == 8
    for (path, text), (line, name, registry) in zip(FILES.items(), LINES, strict=True):
        assert Path(path).parent == Path(registry).parent
        assert not (folder / path).exists()
        (folder / path).write_text(text)
        add_line(folder / registry, name, line, module=Path(path).stem, package=".".join(Path(path).parent.parts))
    ffn = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16, "router": "modulo", "stride": 3}
    models = suite()["models"]
    asked = suite(
        suite="added",
        seeds=6,
        data={"source": "squares", "context": 16},
        models={**models, "moe": {**models["moe"], "ffn": ffn}},
        measure={"memory": False, "quality": ["bits_per_byte", "surprise"]},
        claims={
            "floor": {
                "model": "moe",
                "metric": "test.surprise",
                "test": {"kind": "at_least", "value": 0.001},
            },
            "better": claim(),
        },
    )
    (folder / "added.yaml").write_text(json.dumps(asked))
    return folder


def call(folder: Path, *arguments: str) -> str:
    """The extended package's command, in the folder; what it prints on either stream."""
    variables = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "moebench", *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reported(folder: Path) -> Path:
    """The report of the suite, whose runs are done in worker processes."""
    call(folder, "run", "added.yaml", "--workers", "2")
    return folder / "reports" / "added"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "word"),
    [("routers", "modulo"), ("claims", "at_least"), ("metrics", "test.surprise"), ("sources", "squares")],
)
def test_what_was_added_is_listed(folder: Path, what: str, word: str) -> None:
    assert re.search(rf"^{re.escape(word)} ", call(folder, "list", what), flags=re.M)


@pytest.mark.slow
def test_the_language_has_the_new_words(folder: Path) -> None:
    made = call(folder, "schema")
    for word in ("modulo", "stride", "at_least", "surprise", "squares"):
        assert f'"{word}"' in made


@pytest.mark.slow
def test_the_plan_says_how_the_new_claim_is_judged(folder: Path) -> None:
    planned = " ".join(call(folder, "plan", "added.yaml").split())
    assert "supported if moe has at least 0.001; refuted if it has less" in planned
    assert "data: squares" in planned
    assert "router modulo" in planned


@pytest.mark.slow
def test_the_new_claim_is_judged_on_the_new_metric_data_and_router(reported: Path) -> None:
    claims = {one["id"]: one for one in json.loads((reported / "claims.json").read_text())["claims"]}
    floor = claims["floor"]
    assert (floor["state"], floor["kind"], floor["metric"]) == ("supported", "at_least", "test.surprise")
    assert "square numbers" in floor["scope"]


@pytest.mark.slow
def test_the_new_figure_and_table_stand_in_the_report(reported: Path) -> None:
    page = (reported / "index.md").read_text()
    assert "moe is the largest" in page or "dense is the largest" in page
    assert "Layers and widths" in page
    assert (reported / "figures" / "sizes.svg").is_file()
    assert (reported / "tables" / "widths.csv").is_file()


@pytest.mark.slow
def test_the_new_kind_of_job_is_done_after_its_input(folder: Path, reported: Path) -> None:
    jobs = [json.loads(path.read_text())["job"] for path in (folder / "results" / "jobs").glob("*/job.json")]
    weighed = [path.parent for path in (folder / "results" / "jobs").glob("*/weight.json")]
    assert len(weighed) == 12
    assert all((one / "DONE").is_file() for one in weighed)
    inputs = {job["inputs"][0] for job in jobs if job["kind"] == "weigh"}
    assert inputs == {path.parent.name for path in (folder / "results" / "jobs").glob("*/model.safetensors")}


@pytest.mark.slow
def test_the_new_launcher_carries_out_what_is_missing(folder: Path, reported: Path) -> None:
    said = call(folder, "run", "added.yaml", "--launcher", "announced", "--set", "seeds=1", "--results", "others")
    assert "starting with train of moe" in said or "starting with train of dense" in said
    assert len(list((folder / "others" / "jobs").glob("*/weight.json"))) == 2


# ----------------------------------------------------------------------------------------------------
# A new kind of claim, or a new metric of an installed package, is one file: all that reads suites and verdicts
# follows.


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
def folder_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder_kinds = tmp_path_factory.mktemp("extended")
    (folder_kinds / "at_least.py").write_text(AT_LEAST)
    (folder_kinds / "moebench_extended.py").write_text(LINE)
    test = {"kind": "at_least", "value": 0.1}
    asked = {"says": None, "compare": None, "model": "moe", "metric": "routing.entropy", "test": test}
    claims = {"even": {key: value for key, value in {**claim(), **asked}.items() if value is not None}}
    write(folder_kinds, seeds=6, claims=claims)
    return folder_kinds


def moebench_kinds(folder_kinds: Path, *arguments: str, rc: int = 0) -> str:
    command = [sys.executable, str(folder_kinds / "moebench_extended.py"), *arguments]
    done = subprocess.run(command, cwd=folder_kinds, env=child_environment(1), text=True, capture_output=True)
    assert done.returncode == rc, done.stderr
    return done.stdout + done.stderr


def test_it_is_a_word_of_the_language(folder_kinds: Path) -> None:
    assert "at_least" in moebench_kinds(folder_kinds, "list", "claims")
    assert '"at_least"' in moebench_kinds(folder_kinds, "schema")
    suite = next(folder_kinds.glob("*.yaml"))
    (folder_kinds / "other.yaml").write_text(suite.read_text().replace("at_least", "at_leest"))
    assert "did you mean 'at_least'?" in " ".join(moebench_kinds(folder_kinds, "validate", "other.yaml", rc=2).split())
    planned = " ".join(moebench_kinds(folder_kinds, "plan", suite.name).split())
    assert "supported if moe has at least 0.1; refuted if it has less" in planned


def test_it_is_judged_and_reported(folder_kinds: Path) -> None:
    suite = next(folder_kinds.glob("tiny*.yaml"), None) or next(folder_kinds.glob("*.yaml"))
    moebench_kinds(folder_kinds, "run", suite.name, "--launcher", "inline", "--results", "results", "--out", "reports")
    (told,) = json.loads((folder_kinds / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (told["state"], told["kind"], told["asked"]) == ("supported", "at_least", "≥ 0.1")
    assert told["says"] == "routing.entropy of moe is at least 0.1."
    page = (folder_kinds / "reports" / "tiny" / "index.md").read_text()
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
