"""The command line: help, commands that look things up, `plan`, `run`, and commands for trained models."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

import moebench
from moebench import api
from moebench.cli.commands import main
from moebench.jobs import KINDS, calibrate
from moebench.jobs.job import Job
from moebench.launch import launch
from moebench.planning import machine
from moebench.store import Results, files, read_json
from tests.support import tiny_suites
from tests.support.tiny_suites import call, call_run

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
    assert len(systems) == 43
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


# ----------------------------------------------------------------------------------------------------
# `moebench plan`: what it prints, as text, JSON and YAML.


def test_plan_json_is_alone_on_standard_output_and_says_everything(suite: Path) -> None:
    found = call("plan", suite, "--json", "--results", suite.parent / "results")
    assert found.exit_code == 0
    facts = json.loads(found.stdout)
    for model, size in (("moe", 16), ("dense", None)):
        one = facts["models"][model]
        assert set(one["params"]) == {"total", "active", "total_no_embedding", "active_no_embedding"}
        for key in (
            "train_flops_per_token",
            "decode_flops_per_token",
            "weight_bytes",
            "kv_bytes_per_token",
            "run_flops",
        ):
            assert one[key] > 0
        assert one["weight_bytes"] == 4 * one["params"]["total"]
        assert one["tokens"] == 12 * 128
        if size is not None:
            assert one["architecture"]["ffn"]["expert_hidden"] == size
    assert facts["models"]["moe"]["params"]["active"] < facts["models"]["moe"]["params"]["total"]
    (match,) = facts["matches"]
    assert (match["model"], match["to"], match["on"], match["by"]) == ("dense", "moe", "active_params", "ffn.hidden")
    assert match["target"] == facts["models"]["moe"]["params"]["active"]
    assert match["achieved"] == facts["models"]["dense"]["params"]["active"]
    assert match["residual"] == pytest.approx(match["achieved"] / match["target"] - 1)
    assert len(facts["runs"]) == 12
    for run in facts["runs"]:
        assert (suite.parent / "results" / "jobs" / run["id"] / "DONE").exists()
        assert (run["status"], run["done"]) == ("completed", True)
        assert run["estimated_s"] > 0
    assert facts["estimated_s"] == facts["estimate"]["runs_s"] == 0
    assert set(facts["estimate"]["basis"].values()) == {"finished runs"}


def test_plan_of_what_has_not_run_says_missing_and_guesses_the_time(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path)
    facts = json.loads(call("plan", path, "--json", "--results", tmp_path / "results").stdout)
    assert {(run["status"], run["done"]) for run in facts["runs"]} == {("missing", False)}
    assert set(facts["estimate"]["basis"].values()) == {"guessed"}
    assert facts["estimated_s"] == pytest.approx(sum(run["estimated_s"] for run in facts["runs"]))
    assert not (tmp_path / "results" / "jobs").exists()
    assert not (tmp_path / "results" / "plans").exists()


def test_plan_warns_of_routers_that_see_the_future_and_of_bounds(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path)
    moe = "{kind: moe, experts: 4, top_k: 2, expert_hidden: 16, %s}"
    routers = {
        "seer": "router: expert_choice",
        "capped": "router: gshard, capacity_factor: 1.0, every: 2, dense_hidden: 8",
        "adaptive": "router: top_p, top_p: 0.5, shared_hidden: 8",
        "free": "router: noisy_topk, first_dense: 1, dense_hidden: 8",
    }
    lines = [
        f"  {name}: {{base: dense, match: null, layers: 2, ffn: {moe % words}}}\n" for name, words in routers.items()
    ]
    path.write_text(path.read_text().replace("models:\n", "models:\n" + "".join(lines)))
    found = call("plan", path, "--results", tmp_path / "results")
    assert found.exit_code == 0, found.output
    text = " ".join(found.stdout.split())
    assert "note: seer: expert_choice sees future tokens, so claims about its quality on text are INVALID" in text
    for name in ("capped", "adaptive"):
        assert (
            f"note: {name}: its FLOPs are an upper bound: it may drop tokens, or use fewer than top_k experts on one"
            in text
        )
    assert "note: free" not in text
    shapes = {name: one["shape"] for name, one in json.loads(call("plan", path, "--json").stdout)["models"].items()}
    assert shapes["capped"].endswith("top-2, in every 2nd layer, else FFN 8, router gshard, capacity 1")
    assert shapes["adaptive"].endswith("top-2, shared expert of 8, router top_p")
    assert shapes["free"].endswith("top-2, from layer 1 on (counted from 0), else FFN 8, router noisy_topk")


def test_plan_as_text_names_models_matches_and_what_is_left(suite: Path) -> None:
    found = call("plan", suite, "--results", suite.parent / "results")
    assert found.exit_code == 0
    for words in ("moe", "dense", "active_params", "ffn.hidden =", "0 of 12 runs to do", "sweep of the learning rate"):
        assert words in found.stdout


def test_a_resolved_suite_loads_again_and_plans_the_same(suite: Path, tmp_path: Path) -> None:
    resolved = call("plan", suite, "--resolved", "--results", suite.parent / "results")
    assert resolved.exit_code == 0
    again = tmp_path / "again.yaml"
    again.write_text(resolved.stdout)
    one, other = (api.plan(path, results=tmp_path / "r") for path in (suite, again))
    assert one.id == other.id
    assert one.matches == other.matches
    solved = other.spec.models["dense"].ffn
    assert solved == one.models["dense"].architecture.ffn
    assert solved.kind == "dense"
    assert solved.hidden is not None
    assert call("plan", again, "--resolved", "--results", tmp_path / "r").stdout == resolved.stdout


# ----------------------------------------------------------------------------------------------------
# `moebench run`: what it prints where, and how it ends. Runs are inline and tiny.


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
    assert call("report", "tiny", *where, "--strict", "--format", "json").exit_code == 1
    assert call("report", "tiny", *where, "--format", "json").exit_code == 0


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
    where = ["--results", tmp_path / "results", "--out", tmp_path / "reports"]
    found = call("report", *where, "--format", "json")
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


# ----------------------------------------------------------------------------------------------------
# Commands for trained models: generate, export, reference.


def test_generate_goes_on_from_a_prompt_the_same_with_the_same_seed(suite: Path) -> None:
    where = ["--results", suite.parent / "results", "--tokens", "20", "--prompt", "ab"]
    one, other = (call("generate", run_id(suite, "moe")[:9], *where) for _ in range(2))
    assert one.exit_code == 0
    assert one.stdout == other.stdout
    assert one.stdout.startswith("ab")
    assert all(c.isprintable() or c in "\n\t" for c in one.stdout), "what a model writes acts on no terminal"
    assert call("generate", run_id(suite, "moe"), *where, "--seed", "5").stdout != one.stdout


def test_export_writes_a_checkpoint(suite: Path, tmp_path: Path) -> None:
    for model, kind in (("moe", "mixtral"), ("dense", "llama")):
        found = call("export", run_id(suite, model), tmp_path / model, "--results", suite.parent / "results")
        assert found.exit_code == 0
        assert read_json(tmp_path / model / "config.json")["model_type"] == kind


def test_unknown_and_ambiguous_runs_exit_2(suite: Path, tmp_path: Path) -> None:
    for word in ("zzz", ""):
        found = call("generate", word, "--results", suite.parent / "results")
        assert (found.exit_code, found.stdout) == (2, "")
        assert "run" in found.stderr
    assert call("export", "zzz", tmp_path / "x", "--results", suite.parent / "results").exit_code == 2
    assert not (tmp_path / "x").exists()


def test_reference_copies_everything_but_the_weights(suite: Path, tmp_path: Path) -> None:
    found = call("reference", "tiny", "--results", suite.parent / "results", "--to", tmp_path / "reference")
    assert found.exit_code == 0
    assert not list((tmp_path / "reference").rglob("model.safetensors"))
    reference = ["--results", tmp_path / "reference", "--format", "json"]
    verdicts = [
        read_json(out / "tiny" / "claims.json")["claims"]
        for out in (suite.parent / "reports", tmp_path / "reports")
        if out.exists() or call("report", *reference, "--out", out).exit_code == 0
    ]
    assert verdicts[0] == verdicts[1]
    refused = call("generate", run_id(suite, "moe"), "--results", tmp_path / "reference")
    assert refused.exit_code == 2
    assert "weights were left out" in refused.stderr


def test_validate_looks_at_every_scale_and_says_which_is_wrong(tmp_path: Path) -> None:
    path = tiny_suites.write(
        tmp_path, scales={"long": {"seeds": 8}, "wrong": {"train": {"schedule": {"warmup": 10**6}}}}
    )
    found = call("validate", path)
    assert found.exit_code == 2
    assert found.stderr.startswith("with --scale wrong:\n")
    assert "a warm-up of 1,000,000 steps takes all of the run" in found.stderr
    assert call("validate", path, "--scale", "long").exit_code == 0


# ----------------------------------------------------------------------------------------------------
# What the disk refuses is one line and exit code 2, whatever the command; nobody sees a traceback.


PROGRESS = ("note: ", "preparing data", "1 run", "writing the report")


def call_refusals(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite, its results and its reports."""
    folder = tmp_path_factory.mktemp("disk")
    ffn = {"kind": "moe", "experts": 2, "top_k": 2, "expert_hidden": 8}
    models = {"moe": {"layers": 1, "width": 16, "heads": 2, "ffn": ffn}}
    path = tiny_suites.write(folder, seeds=1, train={"budget": {"steps": 2}}, models=models)
    assert call_refusals("run", path, *places(folder), "--launcher", "inline", "--quiet").exit_code == 0
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
    is_one_line(call_refusals(command, *arguments[command]), Path(blocked).name, what)


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
        found = call_refusals(
            "run", folder / "tiny.yaml", *places(folder), "--launcher", "inline", "--set", "seeds=[7]"
        )
        is_one_line(found, "results/plans/tiny", REFUSALS[number])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        is_one_line(call_refusals("report", *places(folder)), "claims.json", REFUSALS[number])


def test_a_folder_that_is_not_for_writing_is_refused_before_anything_is_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder / "results" / "jobs")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "jobs")
    found = call_refusals("run", folder / "tiny.yaml", *places(folder))  # in worker processes
    is_one_line(found, "results/jobs", "change its permissions")


def test_results_that_vanish_during_a_run_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = api.write_report

    def vanish(*args: Any, **kw: Any) -> Any:
        shutil.rmtree(folder / "results")
        return honest(*args, **kw)

    monkeypatch.setattr(api, "write_report", vanish)
    is_one_line(
        call_refusals("run", folder / "tiny.yaml", *places(folder), "--launcher", "inline"), "results", "gone from it"
    )


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
    found = call_refusals(command, *arguments[command])
    assert found.exit_code == 2
    assert "gone" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_nobody_reading_on_is_no_mistake_of_the_input() -> None:
    from moebench.cli.errors import input_errors

    with pytest.raises(BrokenPipeError), input_errors():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
