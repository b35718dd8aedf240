"""`moebench status`: what is done of each suite, what runs, what failed and why, and what `run` would do next."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from moebench.cli.commands import main
from moebench.planning.types import Plan
from moebench.reader.status import JobStatus, SuiteStatus, statuses
from moebench.store import Results, open_results, write_bundle
from tests.support import golden_results


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    root = tmp_path_factory.mktemp("golden")
    return root, golden_results.write(root, seeds=2)


@pytest.fixture
def root(golden: tuple[Path, Plan], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(golden[0], tmp_path / "results"))


def only(root: Path) -> SuiteStatus:
    (suite,) = statuses(open_results(root))
    return suite


def job(root: Path, name: str) -> JobStatus:
    return next(one for one in only(root).jobs if one.id == name)


def test_a_finished_suite_is_done_and_leaves_nothing_to_do(golden: tuple[Path, Plan]) -> None:
    root, plan = golden
    suite = only(root)
    assert (suite.suite, suite.plan, suite.next) == ("golden", plan.id, {})
    assert suite.counts == {"done": len(plan.jobs), "running": 0, "failed": 0, "blocked": 0, "to do": 0}
    on_disk = sum(path.stat().st_size for one in plan.jobs for path in (root / "jobs" / one.id).iterdir())
    assert suite.num_bytes == on_disk


def test_what_a_failed_job_blocks_is_told_by_name(root: Path, golden: tuple[Path, Plan]) -> None:
    plan = golden[1]
    run = plan.runs[0]
    folder = Results(root).job(run.id)
    (folder.path / "DONE").unlink()
    folder.fail("oom", "MemoryError", 7)
    for one in plan.evaluations[run.id]:
        shutil.rmtree(Results(root).job(one.id).path)
    suite = only(root)
    assert (job(root, run.id).state, job(root, run.id).reason) == ("failed", "oom: MemoryError")
    for one in plan.evaluations[run.id]:
        told = job(root, one.id)
        assert (told.state, told.reason) == ("blocked", f"train {run.model}, seed {run.seed} failed")
    measured = {one.measurement: 1 for one in plan.evaluations[run.id]}
    assert suite.next == {"train": 1, **measured}
    found = call("status", root)
    assert f"failed: train {run.model}, seed {run.seed}: oom: MemoryError" in found.stdout
    assert f"blocked: quality {run.model}, seed {run.seed}: train {run.model}, seed {run.seed} failed" in found.stdout
    assert plan.command in found.stdout
    assert json.loads(call("status", root, "--json").stdout)[0]["counts"]["blocked"] == len(measured)


def test_a_job_whose_lock_is_held_runs(root: Path, golden: tuple[Path, Plan]) -> None:
    run = golden[1].runs[1]
    folder = Results(root).job(run.id)
    (folder.path / "DONE").unlink()
    assert job(root, run.id).state == "to do"
    with folder.lock():
        assert job(root, run.id).state == "running"
        assert "train" not in only(root).next
    assert job(root, run.id).state == "to do"
    assert only(root).next == {"train": 1}


def test_looking_takes_nothing_from_a_writer(root: Path, golden: tuple[Path, Plan]) -> None:
    folder = Results(root).job(golden[1].runs[0].id)
    assert not folder.is_locked()
    with folder.lock():
        assert folder.is_locked()


def test_what_diverged_leaves_nothing_to_measure(root: Path, golden: tuple[Path, Plan]) -> None:
    plan = golden[1]
    run = plan.runs[0]
    Results(root).job(run.id).finish("diverged", reason="step 7: loss nan")
    for one in plan.evaluations[run.id]:
        shutil.rmtree(Results(root).job(one.id).path)
    assert job(root, run.id).reason == "diverged: step 7: loss nan"
    assert only(root).next == {}


@pytest.mark.parametrize("spoil", ["{", "[]", '{"status": "completed"}'])
def test_half_written_and_corrupt_folders_are_told(root: Path, golden: tuple[Path, Plan], spoil: str) -> None:
    run = golden[1].runs[0]
    (Results(root).job(run.id).path / "DONE").write_text(spoil)
    told = job(root, run.id)
    assert told.state == "failed"
    assert (told.reason or "").startswith("corrupt")
    (Results(root).job(run.id).path / "DONE").unlink()
    assert job(root, run.id).state == "to do"


def test_a_plan_that_does_not_read_is_named_and_passed_over(root: Path) -> None:
    (root / "plans" / "other@default-0123456789.json").write_text("{}")
    found = call("status", root)
    assert "other@default-0123456789.json" in found.stderr
    assert found.exit_code == 0
    assert "\ngolden  " in found.stdout


def test_a_bundle_is_told_like_its_folder(golden: tuple[Path, Plan], tmp_path: Path) -> None:
    source = open_results(golden[0])
    write_bundle(source, source.plans()[0], tmp_path / "machine" / "golden")
    for path in (tmp_path / "machine", tmp_path / "machine" / "golden"):
        assert only(path).counts == only(golden[0]).counts
        assert call("status", path).exit_code == 0


def test_a_folder_without_results_holds_nothing(tmp_path: Path) -> None:
    found = call("status", tmp_path / "nothing")
    assert (found.exit_code, found.stdout) == (0, f"{tmp_path / 'nothing'} holds no plan of a suite\n")
    assert json.loads(call("status", tmp_path / "nothing", "--json").stdout) == []


def test_help_has_an_example() -> None:
    assert "moebench status results/reference/2-core-x86_64-cpu" in call("status", "--help").stdout


@pytest.mark.slow
def test_thousands_of_jobs_take_seconds(tmp_path: Path) -> None:
    plan = golden_results.golden_plan(seeds=250)
    results = Results(tmp_path)
    results.save_plan(plan, golden_results.MACHINE)
    for one in plan.jobs:
        folder = results.job(one.id)
        folder.path.mkdir(parents=True)
        for name in ("job.json", "records.jsonl"):
            (folder.path / name).write_text("{}\n")
        folder.finish("completed")
    began = time.perf_counter()
    assert sum(only(tmp_path).counts.values()) >= 3000
    assert time.perf_counter() - began < 8
