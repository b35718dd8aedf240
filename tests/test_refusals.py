"""What the disk refuses is one line and exit code 2, whatever the command; nobody sees a traceback."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from moebench import api
from moebench.cli.commands import main
from moebench.store import Results, files
from tests.support import tiny_suites

PROGRESS = ("note: ", "preparing data", "1 run", "writing the report")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite, its results and its reports."""
    folder = tmp_path_factory.mktemp("disk")
    ffn = {"kind": "moe", "experts": 2, "top_k": 2, "expert_hidden": 8}
    models = {"moe": {"layers": 1, "width": 16, "heads": 2, "ffn": ffn}}
    path = tiny_suites.write(folder, seeds=1, train={"budget": {"steps": 2}}, models=models)
    assert call("run", path, *places(folder), "--launcher", "inline", "--quiet").exit_code == 0
    return folder


@pytest.fixture
def folder(done: Path, tmp_path: Path) -> Path:
    shutil.copytree(done, tmp_path / "w")
    return tmp_path / "w"


def places(folder: Path) -> list[object]:
    return ["--results", folder / "results", "--out", folder / "reports"]


def is_one_line(found: Result, *words: str) -> None:
    assert found.exit_code == 2, found.output
    assert isinstance(found.exception, SystemExit)
    lines = [line for line in found.stderr.splitlines() if not line.startswith(PROGRESS)]
    assert len(lines) == 1, found.stderr
    for word in words:
        assert word in lines[0]


def in_place_of(path: Path) -> None:
    """A file where a folder should be."""
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("I am a file")


BLOCKED = [
    ("run", "results/jobs"), ("run", "results/jobs/.locks"), ("run", "results/plans"), ("run", "results/data"),
    ("run", "reports/tiny"), ("plan", "results/data"), ("report", "reports/tiny"), ("report", "reports/tiny/figures"),
    ("reference", "ref/tiny"), ("export", "out/model/config.json"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "blocked"), BLOCKED)
def test_a_file_where_a_folder_should_be_and_the_other_way_round(folder: Path, command: str, blocked: str) -> None:
    if command == "run":
        shutil.rmtree(folder / "results" / "jobs")
        shutil.rmtree(folder / "results" / "plans")
    run_id = next((run.id for run in Results(folder / "results").jobs() if run.kind == "train"), "")
    if blocked.endswith(".json"):
        (folder / blocked).mkdir(parents=True)
    else:
        in_place_of(folder / blocked)
    arguments: dict[str, list[object]] = {
        "run": [folder / "tiny.yaml", *places(folder)],
        "plan": [folder / "tiny.yaml", "--results", folder / "results"],
        "report": ["tiny", *places(folder)],
        "reference": ["tiny", "--results", folder / "results", "--to", folder / "ref"],
        "export": [run_id, folder / "out" / "model", "--results", folder / "results"],
    }
    what = "folder stands where a file" if blocked.endswith(".json") else "file stands where a folder"
    is_one_line(call(command, *arguments[command]), Path(blocked).name, what)


REFUSALS = {
    errno.EACCES: "change its permissions",
    errno.EROFS: "choose another folder with --results or --out",
    errno.ENOSPC: "free some space",
    errno.ENOENT: "moved or removed meanwhile",
    errno.EIO: os.strerror(errno.EIO),
}


@pytest.mark.parametrize("number", REFUSALS)
def test_whatever_the_disk_says_comes_with_the_place_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *args: Any, **kw: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", refuse)
        found = call("run", folder / "tiny.yaml", *places(folder), "--launcher", "inline", "--set", "seeds=[7]")
        is_one_line(found, "results/plans/tiny", REFUSALS[number])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        is_one_line(call("report", *places(folder)), "claims.json", REFUSALS[number])


def test_a_folder_that_is_not_for_writing_is_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder / "results" / "jobs")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "jobs")
    found = call("run", folder / "tiny.yaml", *places(folder))  # in worker processes
    is_one_line(found, "results/jobs", "change its permissions")


def test_results_that_vanish_during_a_run_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = api._speed

    def vanish(*args: Any, **kw: Any) -> Any:
        shutil.rmtree(folder / "results")
        return honest(*args, **kw)

    monkeypatch.setattr(api, "_speed", vanish)
    is_one_line(call("run", folder / "tiny.yaml", *places(folder), "--launcher", "inline"), "results", "gone from it")


@pytest.mark.parametrize("command", ["report", "generate", "export", "compare", "reference"])
def test_a_results_folder_that_is_not_there_exits_2(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    arguments: dict[str, list[object]] = {
        "report": ["--results", gone],
        "generate": ["1a", "--results", gone],
        "export": ["1a", tmp_path / "x", "--results", gone],
        "compare": [gone, gone],
        "reference": ["tiny", "--results", gone, "--to", tmp_path / "x"],
    }
    found = call(command, *arguments[command])
    assert found.exit_code == 2
    assert "gone" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_nobody_reading_on_is_no_mistake_of_the_input() -> None:
    from moebench.cli.errors import input_errors

    with pytest.raises(BrokenPipeError), input_errors():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
