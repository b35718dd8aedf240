"""One of each from a single file and one line: the files of docs/extending.md, added to a copy of the package.

The copy is run as the real one would be: one suite uses all of them, from its text to its report.
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
from tests.support.tiny_suites import claim, suite

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize(
    ("what", "word"),
    [("routers", "modulo"), ("claims", "at_least"), ("metrics", "test.surprise"), ("sources", "squares")],
)
def test_what_was_added_is_listed(folder: Path, what: str, word: str) -> None:
    assert re.search(rf"^{re.escape(word)} ", call(folder, "list", what), flags=re.M)


def test_the_language_has_the_new_words(folder: Path) -> None:
    made = call(folder, "schema")
    for word in ("modulo", "stride", "at_least", "surprise", "squares"):
        assert f'"{word}"' in made


def test_the_plan_says_how_the_new_claim_is_judged(folder: Path) -> None:
    planned = " ".join(call(folder, "plan", "added.yaml").split())
    assert "supported if moe has at least 0.001; refuted if it has less" in planned
    assert "data: squares" in planned
    assert "router modulo" in planned


def test_the_new_claim_is_judged_on_the_new_metric_data_and_router(reported: Path) -> None:
    claims = {one["id"]: one for one in json.loads((reported / "claims.json").read_text())["claims"]}
    floor = claims["floor"]
    assert (floor["state"], floor["kind"], floor["metric"]) == ("supported", "at_least", "test.surprise")
    assert "square numbers" in floor["scope"]


def test_the_new_figure_and_table_stand_in_the_report(reported: Path) -> None:
    page = (reported / "index.md").read_text()
    assert "moe is the largest" in page or "dense is the largest" in page
    assert "Layers and widths" in page
    assert (reported / "figures" / "sizes.svg").is_file()
    assert (reported / "tables" / "widths.csv").is_file()


def test_the_new_kind_of_job_is_done_after_its_input(folder: Path, reported: Path) -> None:
    jobs = [json.loads(path.read_text())["job"] for path in (folder / "results" / "jobs").glob("*/job.json")]
    weighed = [path.parent for path in (folder / "results" / "jobs").glob("*/weight.json")]
    assert len(weighed) == 12
    assert all((one / "DONE").is_file() for one in weighed)
    inputs = {job["inputs"][0] for job in jobs if job["kind"] == "weigh"}
    assert inputs == {path.parent.name for path in (folder / "results" / "jobs").glob("*/model.safetensors")}


def test_the_new_launcher_carries_out_what_is_missing(folder: Path, reported: Path) -> None:
    said = call(folder, "run", "added.yaml", "--launcher", "announced", "--set", "seeds=1", "--results", "others")
    assert "starting with train of moe" in said or "starting with train of dense" in said
    assert len(list((folder / "others" / "jobs").glob("*/weight.json"))) == 2
