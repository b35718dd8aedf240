"""`--strict` takes no half-done plan and falls back to no older one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from moebench import store
from moebench.cli.commands import main
from tests.support.sealed import golden


def report(root: Path, *words: str) -> Result:
    where = ["--results", str(root), "--out", str(root.parent / "reports"), "--format", "json"]
    return CliRunner().invoke(main, ["report", *words, *where])


def test_strict_takes_no_half_done_plan(root: Path) -> None:
    assert report(root, "golden", "--strict").exit_code == 0
    run = next(run for run in golden(root).plan.runs if (run.model, run.seed) == ("dense", 7))
    (store.Results(root).job(run.id).path / "DONE").unlink()
    result = report(root, "golden", "--strict")
    assert result.exit_code == 1
    assert "INTERIM" in result.stdout
    assert "7 of 8 seeds: seed 7: dense is partial; `moebench run golden` finishes it" in " ".join(
        result.stdout.split()
    )
    assert report(root, "golden").exit_code == 0


@pytest.mark.parametrize("asked", [["golden"], [], ["golden@default"]])
def test_strict_never_falls_back_to_an_older_plan(root: Path, asked: list[str]) -> None:
    (root / "plans" / "golden@default-0123456789.json").write_text("{")
    result = report(root, *asked, "--strict")
    assert result.exit_code == 2
    assert "golden@default-0123456789.json" in result.stderr
    assert "--strict needs every plan" in result.stderr
    assert not (root.parent / "reports").exists()
    if asked != ["golden@default"]:
        result = report(root, *asked)
        assert result.exit_code == 0
        assert "note: passed over" in result.stderr


@pytest.mark.parametrize(("name", "code"), [("other@default-0123456789.json", 0), ("renamed.json", 2)])
def test_strict_minds_only_plans_that_may_be_of_the_suite(root: Path, name: str, code: int) -> None:
    (root / "plans" / name).write_text("{")
    assert report(root, "golden", "--strict").exit_code == code
