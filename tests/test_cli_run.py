"""`moebench run`: what it prints where, and how it ends. Runs are inline and tiny."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.jobs import KINDS, calibrate
from moebench.jobs.job import Job
from moebench.launch import launch
from moebench.planning import machine
from moebench.store import Results, read_json
from tests.support import tiny_suites
from tests.support.commands import call, call_run


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_run_prints_verdicts_and_writes_the_report(suite: Path) -> None:
    found = call_run(suite)
    assert found.exit_code == 0
    assert found.stdout.startswith("nothing to do: 12 runs: 12 completed")
    assert "The mixture is better." in found.stdout
    page = suite.parent / "reports" / "tiny" / "index.html"
    assert str(page) in found.stdout
    assert page.exists()


def test_a_second_run_touches_nothing_among_the_results(suite: Path) -> None:
    results = suite.parent / "results"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    call_run(suite)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


def test_strict_exits_1_unless_every_primary_claim_is_supported(suite: Path, tmp_path: Path) -> None:
    """The report alone says so too, from the results there are."""
    verdict = read_json(suite.parent / "reports" / "tiny" / "claims.json")["claims"][0]
    expected = 0 if verdict["state"] == "supported" else 1
    assert call_run(suite, "--strict").exit_code == expected
    path = tiny_suites.write(tmp_path, seeds=6, claims={"worse": tiny_suites.claim(
        family="primary", compare={"treatment": "dense", "baseline": "moe"}, test={"kind": "superior", "margin": "50%"}
    )})  # fmt: skip
    shutil.copytree(suite.parent / "results", tmp_path / "results")
    where = ["--results", tmp_path / "results", "--out", tmp_path / "reports"]
    assert call("run", path, *where, "--launcher", "inline", "--strict").exit_code == 1
    assert call("run", path, *where, "--launcher", "inline").exit_code == 0
    assert call("report", "tiny", *where, "--strict").exit_code == 1
    assert call("report", "tiny", *where).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": "many"}, "seeds"),
        ({"models": {"moe": {"layers": 2, "width": 15, "heads": 2, "ffn": {"kind": "dense", "hidden": 8}}}}, "15"),
        ({"claims": {"c": tiny_suites.claim(metric="test.bits_per_bite")}}, "test.bits_per_byte"),
        ({"claims": {"c": tiny_suites.claim(family="primary")}}, "give 6 seeds"),
        (
            {
                "models": {
                    "moe": {"layers": 2, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 8}},
                    "dense": {"base": "moe", "layers": 9, "match": {"to": "moe", "on": "total_params"}},
                }
            },
            "match",
        ),
    ],
    ids=["type", "shape", "metric", "family", "match"],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_bad_suite_exits_2_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny_suites.write(tmp_path, **changes)
    found = call(command, path)
    assert found.exit_code == 2, found.output
    assert found.stdout == ""
    assert words in found.stderr
    assert "Traceback" not in found.stderr
    assert files_under(tmp_path) == ["tiny.yaml"]


def test_a_sweep_that_the_suite_does_not_have_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    found = call_run(tiny_suites.write(tmp_path), "--tune")
    assert found.exit_code == 2
    assert "tune: {lr:" in found.stderr
    assert not (tmp_path / "results" / "plans").exists()


def test_a_run_that_crashes_exits_3_and_the_rest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = KINDS["train"]

    def crashing(job: Job, **how: Any) -> str:
        if (job.model, job.seed) == ("moe", 1):
            raise RuntimeError("a wrong turn [/odd]")
        return honest.execute(job, **how)

    monkeypatch.setitem(KINDS, "train", replace(honest, execute=crashing))
    path = tiny_suites.write(tmp_path)
    found = call_run(path)
    assert found.exit_code == 3
    assert "moe seed 1: crash: RuntimeError: a wrong turn [/odd]" in found.stderr
    assert "moe seed 1 (quality): blocked: train job of moe seed 1 failed: crash" in found.stderr
    assert "4 runs: 3 completed, 1 crash" in found.stdout
    log = tmp_path / "results" / "logs" / f"{run_id(path, 'moe', 1)}.log"
    assert log.read_text().endswith("RuntimeError: a wrong turn [/odd]\n")
    said = found.stderr[found.stderr.index("failed: moe seed 1: crash") :]
    assert "raise RuntimeError(" in said
    assert f"  log: {log}" in said
    assert (tmp_path / "reports" / "tiny" / "index.html").exists()
    monkeypatch.setitem(KINDS, "train", honest)
    again = call_run(path)
    assert again.exit_code == 0
    assert "4 runs: 4 completed" in again.stdout


def test_data_that_changed_under_a_plan_fail_their_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("moebench.jobs.loop")
    honest: Callable[..., Any] = module.prepare

    def other(spec: Any, **kw: Any) -> Any:
        return honest(spec.model_copy(update={"documents": 70}), **kw)

    monkeypatch.setattr(module, "prepare", other)
    found = call_run(tiny_suites.write(tmp_path))
    assert found.exit_code == 3
    assert "plan again" in found.stderr


def test_divergence_is_no_failure(tmp_path: Path) -> None:
    hot = {"base": "moe", "train": {"optimizer": {"lr": 1e4}, "clip": None}}
    models = {**tiny_suites.suite()["models"], "hot": hot}
    found = call_run(tiny_suites.write(tmp_path, models=models, seeds=1))
    assert found.exit_code == 0
    assert "3 runs: 2 completed, 1 diverged" in found.stdout
    assert "hot seed 0: diverged" in found.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["preparing", "reporting"])
def test_a_signal_at_any_moment_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int, code: int, moment: str
) -> None:
    """Also while no run is under way: when data are prepared, timings taken, the report written."""
    name = {"preparing": "prepare_plan", "reporting": "write_report"}[moment]
    monkeypatch.setattr(api, name, lambda *args, **kw: os.kill(os.getpid(), signum))
    found = call_run(tiny_suites.write(tmp_path, seeds=1))
    assert (found.exit_code, found.stdout) == (code, "")
    assert "the same command goes on" in found.stderr
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_speed_session_that_fails_is_told_and_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any, **kw: Any) -> str:
        raise RuntimeError("no luck")

    monkeypatch.setitem(KINDS, "speed", replace(KINDS["speed"], execute=failing))
    path = tiny_suites.write(tmp_path, seeds=1, measure={"speed": {"processes": 2, "seconds": 1}})
    found = call_run(path)
    assert found.exit_code == 3
    assert "no speed session: a speed process failed: RuntimeError: no luck" in found.stderr


def test_a_model_that_cannot_be_timed_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(run: Any) -> float:
        raise RuntimeError("no luck")

    monkeypatch.setattr(calibrate, "time_step", failing)
    monkeypatch.setattr(machine, "launch", lambda jobs, how: launch(jobs, replace(how, launcher="inline")))
    path = tiny_suites.write(tmp_path, train={"budget": {"seconds": 1}})
    found = call("plan", path, "--results", tmp_path / "results")
    assert (found.exit_code, found.stdout) == (3, "")
    assert found.stderr == "error: calibration of moe failed: crash: RuntimeError: no luck\n"


def test_run_reports_the_plan_it_ran_and_report_says_which(tmp_path: Path) -> None:
    """Also when another plan of the suite was stored since."""
    narrow, wide = (api.plan(tiny_suites.write(tmp_path, seeds=n), results=tmp_path / "results") for n in (1, 2))
    for seeds, plan in ((1, narrow), (2, wide), (1, narrow)):
        assert call_run(tiny_suites.write(tmp_path, seeds=seeds)).exit_code == 0
        assert read_json(tmp_path / "reports" / "tiny" / "claims.json")["plan"] == plan.id
    found = call("report", "--results", tmp_path / "results", "--out", tmp_path / "reports")
    assert found.exit_code == 0
    assert wide.id in found.stderr


def test_a_plan_that_does_not_read_is_told_and_costs_no_other(suite: Path, tmp_path: Path) -> None:
    root = tmp_path / "results"
    shutil.copytree(suite.parent / "results" / "plans", root / "plans")
    (root / "plans" / "old@default-1.json").write_text("{}")
    found = call("report", "--results", root, "--out", tmp_path / "out", "--format", "json")
    assert found.exit_code == 0
    assert "passed over" in found.stderr
    assert "old@default-1.json" in found.stderr
    assert (tmp_path / "out" / "tiny" / "claims.json").exists()


@pytest.mark.parametrize("about", ["{}", '{"run": {}, "environment": 1}', '{"run": {"seed": 0}}'])
@pytest.mark.parametrize("command", ["generate", "export", "report"])
def test_a_run_that_says_nothing_of_itself_exits_2(suite: Path, tmp_path: Path, command: str, about: str) -> None:
    root = tmp_path / "results"
    shutil.copytree(suite.parent / "results", root)
    folder = Results(root).job(run_id(suite, "moe"))
    (folder.path / "job.json").write_text(about)
    (folder.path / "DONE").unlink()
    folder.finish("completed")
    arguments = {"generate": [folder.id], "export": [folder.id, tmp_path / "x"], "report": ["--out", tmp_path / "o"]}
    found = call(command, *arguments[command], "--results", root)
    # A report says what is wrong with the run where it can, and else is refused.
    assert found.exit_code in ((0, 2) if command == "report" else (2,))
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert found.exit_code == 0 or "job.json" in found.stderr


def run_id(suite: Path, model: str, seed: int = 0) -> str:
    stored = Results(suite.parent / "results").plans("tiny")[0]
    return next(run.id for run in stored.plan.runs if (run.model, run.seed) == (model, seed))
