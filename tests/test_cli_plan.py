"""`moebench plan`: what it prints, as text, JSON and YAML."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moebench import api
from tests.support import tiny_suites
from tests.support.commands import call


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
    for words in ("moe", "dense", "active_params", "ffn.hidden =", "0 of 12 runs to do", "learning-rate sweep"):
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
