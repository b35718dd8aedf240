"""The site of the documentation: recipes as they are followed, pages that are made, and a checker of links that checks.

Every file of a recipe is saved under the name in its first line and every command is given as it is written, in order,
with smaller budgets set behind it where it would train for minutes. A block or command that no test knows fails.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

import moebench
from moebench.claims.kinds import KINDS
from moebench.cli.commands import main
from moebench.metrics import METRICS
from moebench.models.convert.export import export_checkpoint
from moebench.models.routers import ROUTERS
from moebench.suite.schema import schema
from moebench.suite.words import bundled_names
from tests.support import small_models

ROOT = Path(moebench.__file__).parents[1]
DOCS = ROOT / "docs"
RECIPES = (DOCS / "recipes.md").read_text()
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", RECIPES, flags=re.M | re.S)]
FILES = {
    match[1]: text if language == "yaml" else text.partition("\n")[2]
    for language, text in BLOCKS
    if (match := re.match(r"# ([\w.-]+)\n", text))
}
COMMANDS = [
    line.split("  #")[0].strip() for language, text in BLOCKS if not language for line in text.splitlines() if line
]
SMALL = (
    "train.budget.tokens=5000", "train.evaluate.points=1", "train.evaluate.tokens=1024",
    "train.evaluate.final_tokens=1024", "controls.steps=5", "controls.shuffled=[]", "measure.memory=false",
)  # fmt: skip
SUITES = sorted(name for name in FILES if name.endswith(".yaml"))


def making(name: str) -> ModuleType:
    """A module of docs/making, which is no package."""
    spec = importlib.util.spec_from_file_location(f"moebench_docs_{name}", DOCS / "making" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------ recipes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of all recipes, text of one's own and two checkpoints."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for texts in ("corpus", "library/general", "library/mine"):
        (folder / texts).mkdir(parents=True)
        for n in range(20):
            lines = (
                f"Line {i} of {n} of {texts}: {i * i} is the square of {i}.\n" for i in range(n * 97, n * 97 + 600)
            )
            (folder / texts / f"{n}.txt").write_text("".join(lines))
    for name, ffn in (("a", small_models.dense()), ("b", small_models.moe())):
        exported = small_models.built(small_models.architecture(ffn, context=1024))
        export_checkpoint(exported, folder / "checkpoints" / name)
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def call(command: str, *more: str) -> Result:
    return CliRunner().invoke(main, [*shlex.split(command)[1:], *more], catch_exceptions=False)


def test_every_block_is_a_file_or_commands_and_every_command_is_known() -> None:
    assert {language for language, _ in BLOCKS} == {"", "yaml", "csv"}
    assert len(FILES) == sum(bool(language) for language, _ in BLOCKS)
    inline = [one for one in re.findall(r"`(moebench [^`\n]+)`", RECIPES) if " out/" not in one]
    assert inline == []
    known = {f"moebench {verb} {name}" for name in SUITES for verb in ("plan", "run")}
    known |= {f"moebench run {name} {flag}" for name in SUITES for flag in ("--tune", "--tuned", "--smoke", "--strict")}
    known |= {"moebench judge logs.csv:dense logs.csv:moe --better lower"}
    known |= {"moebench compare results.main results --fail-above 1"}
    assert [command for command in COMMANDS if command not in known] == []
    assert all(any(name in command for command in COMMANDS) for name in SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_the_suite_of_a_recipe_is_valid_and_can_be_planned(here: Path, name: str, tmp_path: Path) -> None:
    assert call(f"moebench validate {name}").exit_code == 0
    planned = call(f"moebench plan {name}", "--results", str(tmp_path))
    assert planned.exit_code == 0, planned.output


def test_logs_of_a_cluster_come_to_the_same_verdict_with_and_without_a_suite(here: Path) -> None:
    done = call("moebench run my-cluster.yaml", "--results", "results.logs", "--launcher", "inline")
    assert done.exit_code == 0, done.output
    assert "SUPPORTED" in done.stdout
    judged = call("moebench judge logs.csv:dense logs.csv:moe --better lower")
    assert judged.exit_code == 0, judged.output
    assert "better" in judged.stdout


def test_two_checkpoints_are_compared_over_the_text(here: Path) -> None:
    small = ("--set", "measure.speed=null", "--set", "claims.decodes-as-fast=null", "--launcher", "inline")
    done = call("moebench run two-checkpoints.yaml", "--results", "results.two", *small)
    assert done.exit_code == 0, done.output
    assert "better-on-my-text" in done.stdout or "lower loss than a on my text" in done.stdout


@pytest.mark.slow
def test_a_suite_on_my_text_is_tuned_and_run(here: Path) -> None:
    """As written, with a budget of five steps and one tuning seed."""
    less = [*SMALL, "tune.seeds=1", "seeds=7"]
    sets = [word for value in less for word in ("--set", value)]
    sets += ["--results", "results.mine", "--launcher", "inline"]
    for command in (one for one in COMMANDS if "run on-my-text.yaml" in one):
        done = call(command, *sets)
        assert done.exit_code == 0, (command, done.output)
    for name in ("results", "results.main"):
        (here / name).symlink_to(here / "results.mine")
    same = call("moebench compare results.main results --fail-above 1")
    assert same.exit_code == 0, same.output


@pytest.mark.slow
def test_a_model_is_tuned_quantised_and_judged(here: Path) -> None:
    """As written, with budgets of a few steps: every stage runs, and the data of a stage make nothing INVALID."""
    less = [*SMALL, "seeds=7", "models.moe_tuned.train.budget.tokens=3000", "controls.steps=2"]
    sets = [word for value in less for word in ("--set", value)]
    done = call("moebench run tuned-on-mine.yaml", *sets, "--results", "results.tuned", "--launcher", "inline")
    assert done.exit_code == 0, done.output
    assert re.search(r"^(\d+) runs: \1 completed$", done.stdout, flags=re.M)
    assert "ahead-in-4-bits" in done.stdout
    assert "not the same" not in done.stdout


# ------------------------------------------------------------------------------------------------ pages that are made


def test_the_language_has_every_key_and_every_word() -> None:
    text = making("generate").language()
    made = schema()
    for name, definition in made["$defs"].items():
        if name == "Scale":
            continue
        assert f"### {name}\n" in text
        for key in definition.get("properties", {}):
            section = text.partition(f"### {name}\n")[2].partition("\n##")[0]
            assert f"| `{key}` |" in section, (name, key)
    for key in made["properties"]:
        assert f"| `{key}` |" in text.partition("## Under")[0]
    metrics = [name for name, metric in METRICS.items() if metric.retired is None]
    for word in (*metrics, *ROUTERS, *KINDS):
        assert f"`{word}" in text, word
    links = set(re.findall(r"\]\(#([\w-]+)\)", text))
    places = {line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")}
    assert links <= places
    assert all(line.count(" | ") >= 1 for line in text.splitlines() if line.startswith("| "))


def test_the_gallery_has_every_suite_and_no_primary_verdict_is_left_out() -> None:
    generate = making("generate")
    text = generate.gallery()
    for name in bundled_names():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        report = ROOT / "reports" / "reference" / name / "index.md"
        lines = report.read_text().splitlines() if report.is_file() else []
        all_told = [line for line in lines if generate.VERDICT.match(line)]
        primary = [line for line in all_told if "** (primary)" in line]
        assert [line for line in section.splitlines() if generate.VERDICT.match(line)] == (primary or all_told)
        assert ("core-minutes" in section) == (name in generate._costs())
        assert ("No reference results" in section) == (not lines)


# ------------------------------------------------------------------------------------------------ links


def site(folder: Path, **pages: str) -> list[str]:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return list(making("hooks").problems_of(folder))


def test_the_checker_of_links_sees_what_is_wrong(tmp_path: Path) -> None:
    right = '<h1 id="top">A</h1><a href="#top">a</a><a href="b.html#there">b</a><a href="https://x.org/">x</a>'
    assert site(tmp_path, a=right, b='<p id="there"></p><a href="a.html">a</a><img src="data:,">') == []
    wrong = {
        '<a href="c.html">c</a>': "links to c.html, which is not there",
        '<a href="b.html#nowhere">b</a>': "links to b.html#nowhere, which has no such place",
        '<script src="https://cdn.org/x.js"></script>': "fetches https://cdn.org/x.js",
        '<link rel="stylesheet" href="//fonts.org/x.css">': "fetches //fonts.org/x.css",
        '<img src="missing.png">': "links to missing.png, which is not there",
    }
    for text, words in wrong.items():
        assert [one for one in site(tmp_path, a=text) if words in one], text
    (tmp_path / "x.css").write_text("@import url('https://fonts.org/y.css');")
    assert "x.css fetches https://fonts.org/y.css" in site(tmp_path, a="")


def test_links_out_of_docs_lead_to_the_copies_on_the_site() -> None:
    hooks = making("hooks")
    text = "[r](../reports/reference/scale/index.md), [s](../suites/scale.yaml), [o](suites.md#models)"
    there = "[r](reports/reference/scale/index.html), [s](suites/scale.yaml), [o](suites.md#models)"
    assert hooks.on_page_markdown(text) == there
    for folder, patterns in hooks.BESIDE.items():
        for pattern in patterns:
            assert list((ROOT / folder).glob(pattern)), (folder, pattern)


def test_every_page_is_in_the_navigation_and_leads_somewhere() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]
    for page in DOCS.glob("*.md"):
        assert f" {page.name}\n" in nav, page.name
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in link]
        assert [link for link in links if not (DOCS / link).exists()] == [], page.name
