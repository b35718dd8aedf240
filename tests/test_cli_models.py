"""Commands for trained models: generate, export, reference."""

from __future__ import annotations

from pathlib import Path

from moebench.store import Results, read_json
from tests.support import tiny_suites
from tests.support.commands import call


def run_id(suite: Path, model: str, seed: int = 0) -> str:
    stored = Results(suite.parent / "results").plans("tiny")[0]
    return next(run.id for run in stored.plan.runs if (run.model, run.seed) == (model, seed))


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
    verdicts = [
        read_json(out / "tiny" / "claims.json")["claims"]
        for out in (suite.parent / "reports", tmp_path / "reports")
        if out.exists() or call("report", "--results", tmp_path / "reference", "--out", out).exit_code == 0
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
