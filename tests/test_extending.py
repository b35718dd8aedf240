"""One of each from a single file and one line: the files of docs/extending.md, and a metric of an installed package.

What is added must be there when a Python starts, so commands are run in another one: one for all of a folder's.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

import moebench
from tests.support.another_python import call
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
                "test": {"kind": "no_less", "value": 0.001},
            },
            "better": claim(),
        },
    )
    (folder / "added.yaml").write_text(json.dumps(asked))
    return folder


LISTED = [("routers", "modulo"), ("claims", "no_less"), ("metrics", "test.surprise"), ("sources", "squares")]
PLAN, TYPO = "plan added.yaml", "validate typo.yaml"
RUN, OTHER = "run added.yaml --workers 1", "run added.yaml --launcher announced --set seeds=1 --results others"


@pytest.fixture(scope="module")
def said(folder: Path) -> dict[str, str]:
    """What the commands of the extended package say; the runs of the suite are done in a worker process."""
    (folder / "typo.yaml").write_text((folder / "added.yaml").read_text().replace("no_less", "no_lesss"))
    commands = [*(f"list {what}" for what, _ in LISTED), "schema", PLAN, TYPO, RUN, OTHER]
    told = dict(zip(commands, call(*map(shlex.split, commands), folder=folder, first=folder), strict=True))
    assert {line: code for line, (code, _) in told.items()} == {**dict.fromkeys(commands, 0), TYPO: 2}, told
    return {line: said for line, (_, said) in told.items()}


@pytest.fixture(scope="module")
def reported(folder: Path, said: dict[str, str]) -> Path:
    """The report of the suite."""
    return folder / "reports" / "added"


@pytest.mark.slow
@pytest.mark.parametrize(("what", "word"), LISTED)
def test_what_was_added_is_listed(said: dict[str, str], what: str, word: str) -> None:
    assert re.search(rf"^{re.escape(word)} ", said[f"list {what}"], flags=re.M)


@pytest.mark.slow
def test_the_language_has_the_new_words(said: dict[str, str]) -> None:
    for word in ("modulo", "stride", "no_less", "surprise", "squares"):
        assert f'"{word}"' in said["schema"]
    assert "did you mean 'no_less'?" in " ".join(said[TYPO].split())


@pytest.mark.slow
def test_the_plan_says_how_the_new_claim_is_judged(said: dict[str, str]) -> None:
    planned = " ".join(said[PLAN].split())
    assert "supported if moe has at least 0.001; refuted if it has less" in planned
    assert "data: squares" in planned
    assert "router modulo" in planned


@pytest.mark.slow
def test_the_new_claim_is_judged_on_the_new_metric_data_and_router(reported: Path) -> None:
    claims = {one["id"]: one for one in json.loads((reported / "claims.json").read_text())["claims"]}
    floor = claims["floor"]
    assert (floor["state"], floor["kind"], floor["metric"]) == ("supported", "no_less", "test.surprise")
    assert (floor["asked"], floor["says"]) == ("≥ 0.001", "test.surprise of moe is at least 0.001.")
    assert "square numbers" in floor["scope"]
    page = (reported / "index.md").read_text()
    assert "≥ 0.001" in page
    assert "SUPPORTED" in page


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
def test_the_new_launcher_carries_out_what_is_missing(folder: Path, said: dict[str, str]) -> None:
    assert "starting with train of moe" in said[OTHER] or "starting with train of dense" in said[OTHER]
    assert len(list((folder / "others" / "jobs").glob("*/weight.json"))) == 2


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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite that measures and claims it, one that forgets to measure it, and what is installed."""
    home = tmp_path_factory.mktemp("installed")
    install(home / "site", "surprise", SURPRISE)
    install(home / "site", "broken", "1 / 0\n")
    fewer = claim(metric="test.surprise", test={"kind": "non_inferior", "margin": "50%"})
    write(home, claims={"fewer": fewer}).rename(home / "forgets.yaml")
    write(home, seeds=2, measure={"memory": False, "quality": ["surprise"]}, claims={"fewer": fewer})
    return home


INLINE, WORKERS = (f"run tiny.yaml --launcher {where}" for where in ("inline", "process --workers 1"))


@pytest.fixture(scope="module")
def told(home: Path) -> dict[str, str]:
    """What the commands say with it installed."""
    codes = {"list metrics": 0, "validate forgets.yaml": 2, INLINE: 0}
    found = dict(zip(codes, call(*map(shlex.split, codes), folder=home, first=home / "site"), strict=True))
    assert {line: code for line, (code, _) in found.items()} == codes, found
    return {line: said for line, (_, said) in found.items()}


@pytest.mark.slow
def test_an_installed_metric_is_a_word_of_the_language(told: dict[str, str]) -> None:
    assert "test.surprise" in told["list metrics"]
    assert "ZeroDivisionError" in told["list metrics"]  # another package that does not load is named and stops nothing
    assert "put surprise into measure.quality" in " ".join(told["validate forgets.yaml"].split())


@pytest.mark.slow
def test_an_installed_metric_is_measured_claimed_and_reported(home: Path, told: dict[str, str]) -> None:
    """By a worker process too, which loads the package by itself; another version of it is another job."""
    (found,) = json.loads((home / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (found["metric"], found["n"]) == ("test.surprise", 2)
    before = jobs_of(home)
    specs = [job["spec"] for job in before if job["spec"].get("measurement") == "surprise"]
    assert len(specs) == 4
    assert all(spec["options"]["code"].startswith("surprise 1.0, sha256") for spec in specs)
    other = SURPRISE.replace("> 3)", "> 4)").replace("three bits", "four bits")
    (home / "site" / "surprise.py").write_text(other)
    ((code, _),) = call(shlex.split(WORKERS), folder=home, first=home / "site")
    assert code == 0
    after = jobs_of(home)
    assert [job["kind"] for job in after].count("train") == 4
    assert len(after) == len(before) + 4


def jobs_of(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text())["job"] for path in (home / "results" / "jobs").glob("*/job.json")]
