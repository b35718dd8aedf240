"""README and docs/ as a newcomer follows them: every block and every command is run as it is written there.

What trains for minutes is run as written with smaller budgets set behind it, or, where a suite is named, with a small
one under that name; installers are checked for what they name. A block or command that no test knows fails.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import moebench
from moebench import api
from moebench.cli.commands import main
from moebench.models.convert.export import export_checkpoint
from moebench.store import Results
from moebench.suite import words
from moebench.suite.load import load_suite
from tests.support import another_python, small_models, tiny_suites

ROOT = Path(moebench.__file__).parents[1]
OF_RECIPES = "recipes.md"
"""The page that tests/test_docs.py follows."""
FILES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.name != OF_RECIPES]
PAGES = {path.name: path.read_text() for path in FILES}
TEXT = "\n".join(PAGES.values())
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.M | re.S)]
LINES = [
    line.split("  #")[0].strip() for language, text in BLOCKS if not language for line in text.splitlines()
    if line.split("#")[0].strip()
]  # fmt: skip
INLINE = re.findall(r"`((?:moebench|nox|pip) [^`\n]+)`", TEXT)
COMMANDS = list(dict.fromkeys([*LINES, *INLINE]))
SMALL = (
    "train.budget.steps=4", "train.batch_tokens=256", "train.evaluate.tokens=256", "train.evaluate.final_tokens=256",
    "train.evaluate.points=2", "seeds=1", "claims.better.family=exploratory", "measure.speed=null", "tune.seeds=1",
)  # fmt: skip


def block(language: str, mark: str) -> str:
    """The one block of a language that holds some words."""
    (found,) = [text for lang, text in BLOCKS if lang == language and mark in text]
    return found


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


SUITES = ("quickstart", "efficiency_per_token", "scale", "systems", "known_findings", "latency", "tokenizers")


def of(*starts: str) -> list[str]:
    return [command for command in COMMANDS if command.startswith(starts)]


def small(command: str) -> list[str]:
    """A command as written, with smaller values behind it."""
    return [*shlex.split(command)[1:], *(word for value in SMALL for word in ("--set", value))]


# ------------------------------------------------------------------------------------------ nothing is left out


def test_every_block_and_command_is_one_that_is_tested_here() -> None:
    assert {language for language, _ in BLOCKS if language} == {"yaml", "python", "toml"}
    mine = [command for command in of("moebench ") if "mine" in command]
    known = [*mine, *of("moebench inspect", "moebench list", "moebench schema", "moebench export", "nox", "pip")]
    known += of("moebench generate")
    known += of(*(f"moebench run {suite}" for suite in SUITES))
    known += [command for command in COMMANDS if command in ("moebench plan", "moebench run", "moebench report")]
    known += of("moebench judge", "moebench plan checkpoints")
    known += of("moebench status", "moebench report --all", "moebench report --claims")
    assert sorted(COMMANDS) == sorted(set(known))
    assert len(mine) == 9


# ------------------------------------------------------------------------------------------ setting up


def test_nox_has_the_sessions_that_are_named() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), flags=re.M))
    assert of("nox")
    assert {shlex.split(command)[2] for command in of("nox")} <= sessions


def test_what_pip_is_told_to_install_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command in of("pip install -c"):
        constraints, what = shlex.split(command)[3], shlex.split(command)[5]
        assert (ROOT / constraints).is_file()
        assert set(re.findall(r"\w+", what)) <= set(project["optional-dependencies"])
    others = set(of("pip")) - set(of("pip install -c"))
    assert others == {
        "pip install nox",
        "pip wheel --no-deps -w dist . && pip install -c constraints.txt dist/*.whl",
        "pip install -e my-router",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------ the suite of README


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with README's suite as printed, and text of one's own."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "mine.yaml").write_text(block("yaml", "suite: mine"))
    exported = small_models.architecture(small_models.moe(), context=1024)
    export_checkpoint(small_models.built(exported), folder / "checkpoints" / "moe")
    sentences = [f"Line {n} of what somebody wrote: {n * n} is the square of {n}.\n" for n in range(4000)]
    for topic in ("one", "two"):
        (folder / "corpus" / topic).mkdir(parents=True)
        for number in range(20):
            text = "".join(sentences[number * 97 :: 20 if topic == "one" else 17])
            (folder / "corpus" / topic / f"{number}.txt").write_text(f"{topic} {number}\n{text}")
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def test_the_suite_validates_and_plans_as_written(here: Path) -> None:
    validated, planned = "moebench validate mine.yaml", "moebench plan mine.yaml"
    assert {validated, planned} <= set(COMMANDS)
    assert call(*validated.split()[1:]).exit_code == 0
    found = call(*planned.split()[1:])
    assert found.exit_code == 0, found.output
    for said in ("active_params", "16 experts", "speed session", "sweep of the learning rate"):
        assert said in found.stdout


FRAGMENTS = [text for language, text in BLOCKS if language == "yaml" and "suite:" not in text]


@pytest.mark.parametrize("text", FRAGMENTS, ids=lambda text: text.split(":")[0] + str(FRAGMENTS.index(text)))
def test_pieces_of_suites_go_over_the_suite_of_readme(here: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "laid_over.yaml"
    path.write_text(f"suite: laid_over\nextends: {here / 'mine.yaml'}\n{text}")
    (tmp_path / "checkpoints").symlink_to(here / "checkpoints")
    loaded, _ = api.validate(path)
    for scale in loaded.scales:
        api.validate(path, scale=scale)


def test_the_arms_of_the_instrument_lie_over_the_quickstart(tmp_path: Path) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text(block("yaml", "suite: arms"))
    spec = api.validate(path)[0].spec
    assert min(spec.seeds) >= 100
    assert len(spec.models) >= 10


def test_links_lead_somewhere() -> None:
    for name, text in PAGES.items():
        base = ROOT if name == "README.md" else ROOT / "docs"
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
        assert [link for link in links if not (base / link).exists()] == [], name


SMOKE, TUNE, TUNED, RUN = (f"moebench run mine.yaml{end}" for end in (" --smoke", " --tune", " --tuned", ""))
STEPS = [SMOKE, TUNE, TUNED, RUN]


@pytest.mark.slow
def test_its_commands_work_one_after_the_other(here: Path) -> None:
    written = {command for command in LINES if command.startswith("moebench run mine.yaml") and "router" not in command}
    assert written == set(STEPS)
    for command in STEPS:
        found = call(*small(command), "--launcher", "inline")
        assert found.exit_code == 0, (command, found.output)
        if command.endswith("--tune"):
            assert "moebench run mine.yaml --set" in found.stdout
            assert re.search(r"^models:\n  moe: \{train: \{optimizer: \{lr: ", found.stdout, flags=re.M)
    made = sorted(
        folder.name.partition("+")[0] + "+tuned" * ("+tuned" in folder.name) for folder in Path("reports").iterdir()
    )
    assert made == ["mine", "mine+tuned", "mine@smoke"]
    report = "moebench report mine"
    assert report in COMMANDS
    found = call(*report.split()[1:])
    assert found.exit_code == 0, found.output
    pages = [folder / "index.md" for folder in Path("reports").iterdir()]
    tuned = next(page.read_text() for page in pages if "+tuned" in str(page))
    again = re.search(r"moebench run mine\.yaml .*--tuned", tuned)
    assert again
    assert shlex.split(again[0].replace("\\", ""))[:4] == ["moebench", "run", "mine.yaml", "--set"]
    for command, said in (
        ("moebench status", "mine"),
        ("moebench report --claims", "reports/claims"),
        ("moebench report --all", "reports/index.html"),
    ):
        assert command in COMMANDS
        found = call(*command.split()[1:])
        assert found.exit_code == 0, found.output
        assert said in found.output
    (export,) = of("moebench export")
    trained = [job for job in Results("results").jobs() if job.kind == "train"]
    run_id = next(job.id for job in trained if job.status() == "completed")
    found = call(*[run_id if word == "RUN" else word for word in shlex.split(export)[1:]])
    assert found.exit_code == 0, found.output
    assert Path(shlex.split(export)[-1], "tokenizer.json").is_file()
    (generate,) = of("moebench generate")
    found = call(*[run_id if word == "RUN" else word for word in shlex.split(generate)[1:]], "--tokens", "5")
    assert found.exit_code == 0, found.output
    assert found.stdout.count("\ndef ") >= 2


# ------------------------------------------------------------------------------------------ other people's suites


@pytest.mark.parametrize(
    "command",
    of(*(f"moebench run {suite}" for suite in SUITES), "moebench plan q", "moebench plan checkpoints"),
)
def test_bundled_suites_can_be_had(command: str) -> None:
    suite, *options = shlex.split(command)[2:]
    assert set(options) <= {"--smoke", "--tune"}
    assert api.validate(suite)[0].spec.suite == suite


@pytest.mark.parametrize("command", of("moebench inspect", "moebench list", "moebench schema"))
def test_looking_things_up(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "path" / "to").mkdir(parents=True)
    config = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 256, "max_position_embeddings": 64,
    }  # fmt: skip
    (tmp_path / "path" / "to" / "config.json").write_text(str(config).replace("'", '"'))
    found = call(*shlex.split(command)[1:])
    assert found.exit_code == 0, found.output
    assert found.stdout


def test_what_set_is_said_to_do() -> None:
    (value,) = re.findall(r"`--set (train\.[^`]+)`", TEXT)
    assert load_suite("quickstart", sets=[value]).spec.models["dense"].train.budget.tokens == 2e6


# ------------------------------------------------------------------------------------------ results from elsewhere


def of_lm_eval(folder: Path, right: int) -> None:
    """What lm-eval writes of one task with 60 questions."""
    (folder / "model").mkdir(parents=True)
    told = {"results": {"toy": {"acc,none": right / 60}}, "higher_is_better": {"toy": {"acc": True}}}
    (folder / "model" / "results_2026-11-26T12-00-00.000001.json").write_text(json.dumps(told))
    rows = [{"doc_id": n, "doc_hash": f"h{n}", "filter": "none", "acc": float(n < right)} for n in range(60)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "model" / "samples_toy_2026-11-26T12-00-00.000001.jsonl").write_text(text)


def one_of_each() -> str:
    rows = [f"{m},{s},paloma.macro_loss,{b + s / 100}" for m, b in (("moe", 2.5), ("dense", 3.0)) for s in range(8)]
    return "\n".join(["model,seed,metric,value", *rows, ""])


def test_results_from_elsewhere_are_judged_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_lm_eval(tmp_path / "out" / "dense", 20)
    of_lm_eval(tmp_path / "out" / "moe", 45)
    (tmp_path / "ours.csv").write_text(one_of_each())
    commands = of("moebench judge")
    assert len(commands) == 3
    for command in commands:
        found = call(*shlex.split(command)[1:])
        assert found.exit_code == 0, found.output
        assert "better" in found.stdout


def test_the_suite_of_models_one_has_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It validates as written; without the checkpoints, which nobody has here, its tables come to a verdict."""
    monkeypatch.chdir(tmp_path)
    Path("theirs.yaml").write_text(block("yaml", "suite: theirs"))
    assert call("validate", "theirs.yaml").exit_code == 0
    refused = call("plan", "theirs.yaml")
    assert refused.exit_code == 2
    assert "hf download allenai/OLMoE-1B-7B-0924" in refused.output
    without = "suite: tables\nextends: theirs.yaml\nmodels: {olmoe: null, olmo: null}\nclaims: {answers-more: null}\n"
    Path("tables.yaml").write_text(without + "measure: {lm_eval: null}\n")
    Path("logs").mkdir()
    for model, loss in (("our_moe", 2.9), ("our_dense", 3.0)):
        rows = [f"{model},{seed},paloma.loss,{loss + seed / 100 + seed % 2 / 500}" for seed in range(10)]
        Path("logs", f"{model.removeprefix('our_')}.csv").write_text("\n".join(["model,seed,metric,value", *rows, ""]))
    outcome = moebench.run("tables.yaml", launcher="inline")
    assert [(verdict.id, verdict.state) for verdict in outcome.verdicts] == [("lower-loss", "supported")]


def test_the_suite_of_results_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "logs" / "moe").mkdir(parents=True)
    (tmp_path / "logs" / "ours.csv").write_text(one_of_each())
    config = {
        "model_type": "olmoe", "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_experts": 8, "num_experts_per_tok": 2, "vocab_size": 256,
        "max_position_embeddings": 64,
    }  # fmt: skip
    (tmp_path / "logs" / "moe" / "config.json").write_text(json.dumps(config))
    (tmp_path / "suite.yaml").write_text(block("yaml", "suite: elsewhere"))
    plan = api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results").plan
    assert len(plan.runs) == 16
    assert plan.counts("moe")["cost.total_params"] > plan.counts("moe")["cost.active_params"]


# ------------------------------------------------------------------------------------------ from Python


@pytest.mark.slow
def test_the_python_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, with a small suite of the name it uses."""
    models = {"dense": {"layers": 2, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 16}}}
    tiny = tiny_suites.write(tmp_path, train={"budget": {"steps": 2}}, seeds=1, models=models)
    tiny.rename(tmp_path / "quickstart.yaml")
    monkeypatch.setattr(words, "suites_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block("python", "import moebench\nmoebench.plan"), names)
    assert names["outcome"].failed == []
    said = re.search(r"moebench\.load\(\"results\"\) +# ([\w, ]+), swept values", TEXT)
    assert said
    assert list(names["frame"].columns) == said[1].split(", ")


# ------------------------------------------------------------------------------------------ a router of one's own


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installs the two files into, as they are printed."""
    folder = tmp_path_factory.mktemp("package")
    for text in (block("toml", "moebench.routers"), block("python", "class MyRouter")):
        path = folder / text.splitlines()[0].removeprefix("# ").strip()
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (command,) = of("pip install -e")
    package = folder / shlex.split(command)[-1]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder / "site"), str(package)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def installed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Its module, in a copy of one's own that can be imported."""
    site = shutil.copytree(built, tmp_path / "site")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site / "my_router.py"
    sys.modules.pop("my_router", None)


def test_the_router_is_listed_and_trains(built: Path, here: Path, tmp_path: Path) -> None:
    """In a Python of its own, whose worker finds the package too."""
    listed, run = ([command for command in LINES if what in command] for what in ("list routers", "ffn.router=mine"))
    where = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "reports"), "--workers", "1"]
    outputs = another_python.call(shlex.split(listed[0])[1:], [*small(run[0]), *where], folder=here, first=built)
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert re.search(r"^mine +The experts whose vectors lie nearest to the token\.", outputs[0][1], flags=re.M)
    assert "2 completed" in outputs[1][1]
    (page,) = (tmp_path / "reports").glob("*/index.md")
    assert "my-router 0.1.0" in page.read_text()


BROKEN = {
    "import torch\n": ("import torch\n1 / 0\n", "ZeroDivisionError: division by zero"),
    "torch.empty(ffn.experts, width)": ("torch.empty(ffn.expert, width)", "has no attribute 'expert'"),
    "    causal = True  # a token's experts depend on no later token\n": ("", "does not say whether it is causal"),
    "    learned = True  # it has weights that are trained\n": ("", "does not say whether it learns"),
    '    options = ("capacity_factor", "jitter")  # the base class reads these two\n': (
        "",
        "does not say which options",
    ),
}


@pytest.mark.parametrize("old", BROKEN)
def test_a_router_that_cannot_be_used_is_refused_by_plan_with_file_line_and_cause(
    installed: Path, here: Path, old: str
) -> None:
    new, cause = BROKEN[old]
    code = installed.read_text()
    assert old in code
    installed.write_text(code.replace(old, new))
    shutil.rmtree(installed.parent / "__pycache__", ignore_errors=True)
    found = call("plan", "mine.yaml", "--set", "models.moe.ffn.router=mine")
    assert found.exit_code == 2, found.output
    assert re.search(rf"{re.escape(str(installed))}:\d+", found.stderr)
    assert cause in found.stderr


# ------------------------------------------------------------------------------------------------ its numbers

REPORTS = {page.parent.name: page.read_text() for page in (ROOT / "reports" / "reference").glob("*/index.md")}
VERDICT = re.compile(r"\| [▲▼◆◇✕○] \*\*")
VERDICTS = [line for line in TEXT.splitlines() if VERDICT.match(line)]
TABLES = [
    [*lines] for is_verdict, lines in groupby(TEXT.splitlines(), lambda line: bool(VERDICT.match(line))) if is_verdict
]


def test_every_verdict_stands_so_in_a_committed_report() -> None:
    assert len(VERDICTS) > 20
    told = {line for report in REPORTS.values() for line in report.splitlines()}
    assert [line for line in VERDICTS if line not in told] == []


@pytest.mark.parametrize("suite", ["quickstart", "efficiency_per_token", "scale", "known_findings", "tokenizers"])
def test_a_suite_is_told_whole_and_no_verdict_is_left_out(suite: str) -> None:
    """A refuted claim is as large as a supported one."""
    assert [line for line in REPORTS[suite].splitlines() if VERDICT.match(line)] in TABLES


def test_every_effect_with_an_interval_stands_in_a_committed_report_or_table() -> None:
    benches = (ROOT / "results" / "reference" / "bench").rglob("*.json")
    tables = ["\n".join(json.loads(path.read_text())["table"]) for path in benches]
    known = re.sub(r"\*\*", "", "\n".join([*REPORTS.values(), *tables]))
    told = re.findall(r"[−+]?[\d.]+[%×]? \[[−+]?[\d.]+, [−+]?[\d.]+\]", TEXT.replace("**", ""))
    assert len(told) > 30
    assert [effect for effect in told if effect not in known] == []
