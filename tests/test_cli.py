"""The command line: help, and commands that look things up."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

import moebench
from moebench.cli.commands import main
from tests.support.commands import call

COMMANDS = sorted(main.commands)


# ------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str) -> None:
    found = call(command, "--help")
    assert found.exit_code == 0
    assert "Example" in found.stdout
    assert f"moebench {command} " in found.stdout or f"moebench {command}\n" in found.stdout


def test_the_contracts_commands_are_there() -> None:
    wanted = {"run", "plan", "report", "validate", "schema", "list", "inspect", "compare", "export", "generate"}
    assert wanted <= set(COMMANDS)
    assert call("--version").stdout == f"moebench, version {moebench.__version__}\n"


# ------------------------------------------------------------------------------------------ looking things up


def test_validate_says_right_or_where_it_is_wrong(suite: Path, tmp_path: Path) -> None:
    found = call("validate", suite)
    assert (found.exit_code, found.stdout) == (0, f"{suite}: valid; 2 models, 6 seeds, 1 claim\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text(suite.read_text().replace("seeds: 6", "seads: 6"))
    found = call("validate", bad)
    assert found.exit_code == 2
    assert f"{bad}:" in found.stderr
    assert "seeds" in found.stderr


def test_the_schema_accepts_the_shipped_suites() -> None:
    schema = json.loads(call("schema").stdout)
    shipped = sorted((Path(moebench.__file__).parents[1] / "suites").glob("*.yaml"))
    assert shipped
    for path in shipped:
        jsonschema.validate(json.loads(json.dumps(YAML(typ="safe").load(path))), schema)


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("suites", "quickstart"),
        ("models", "mixtral-8x7b"),
        ("routers", "softmax_topk"),
        ("metrics", "test.bits_per_byte"),
        ("claims", "superior"),
        ("sources", "stdlib"),
    ],
)
def test_lists_name_things_with_a_line_each(what: str, word: str) -> None:
    found = call("list", what)
    assert found.exit_code == 0
    (line,) = [line for line in found.stdout.splitlines() if line.split()[:1] == [word] or line.startswith(f"{word}[")]
    assert line in call("list").stdout
    said = [line.split(maxsplit=1)[1:] for line in found.stdout.splitlines()[2:]]
    assert all(words and len(words[0].split()) > 3 for words in said)
    assert len({words[0] for words in said}) == len(said)


def test_inspect_counts_a_published_system_and_a_model_of_a_suite(suite: Path) -> None:
    found = json.loads(call("inspect", "mixtral-8x7b", "--json").stdout)
    assert found["params"] == {
        "total": 46_702_792_704,
        "active": 12_879_925_248,
        "total_no_embedding": 46_702_792_704 - 2 * 32000 * 4096,
        "active_no_embedding": 12_879_925_248 - 2 * 32000 * 4096,
    }
    own = json.loads(call("inspect", f"{suite}:moe", "--json").stdout)
    planned = json.loads(call("plan", suite, "--json", "--results", suite.parent / "results").stdout)
    assert own["params"] == planned["models"]["moe"]["params"]
    assert "12,879,925,248" in call("inspect", "mixtral-8x7b").stdout


def test_inspect_of_every_system_is_a_table_or_json_and_a_figure(tmp_path: Path) -> None:
    found = call("inspect", "--all", "--json", "--plot", tmp_path / "systems.svg")
    systems = json.loads(found.stdout)["systems"]
    assert len(systems) == 42
    assert "drawn to" in found.stderr
    figure = (tmp_path / "systems.svg").read_text()
    counted = [one["model"] for one in systems if one["params"]]
    assert all(f">{name}</text>" in figure for name in counted)
    table = call("inspect", "--all", "--context", 1024).stdout
    assert all(name in table for name in counted)
    assert "undisclosed, so without numbers: GPT-3.5, GPT-4" in table
    assert call("inspect", "--all", "--plot", tmp_path / "systems.png").exit_code == 0
    assert (tmp_path / "systems.png").read_bytes()[:4] == b"\x89PNG"


def test_inspect_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mixtral"}')
    found = json.loads(call("inspect", tmp_path, "--json").stdout)
    assert found["params"]["total"] == 46_702_792_704
    (tmp_path / "config.json").write_text('{"model_type": "perceiver"}')
    refused = call("inspect", tmp_path / "config.json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "'perceiver'" in refused.stderr


def test_the_list_of_systems_says_which_words_stand_for_which_design() -> None:
    found = call("list", "systems").stdout
    assert "sigmoid_bias" in found
    assert "mixtral-8x22b" in found


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all", "mixtral-8x7b"], ["mixtral-8x7b", "--plot", "x.svg"], ["--all", "--plot", "x.pdf"],
     ["--all", "--plot", "no/such/folder/x.svg"], ["gpt-4"], ["."]],
)  # fmt: skip
def test_inspect_says_what_it_needs(arguments: list[str]) -> None:
    found = call("inspect", *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("word", ["mixtral-8x9b", "quickstart:nobody", "nosuite:moe"])
def test_inspect_of_nothing_exits_2(word: str) -> None:
    found = call("inspect", word)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr


def test_report_of_an_unknown_suite_or_format_exits_2(suite: Path, tmp_path: Path) -> None:
    where = ["--results", suite.parent / "results", "--out", tmp_path / "out"]
    for arguments in (["nobody"], ["tiny", "--format", "pdf"]):
        found = call("report", *arguments, *where)
        assert (found.exit_code, found.stdout) == (2, "")
    assert not (tmp_path / "out").exists()
