"""A smoke run: a small copy of the suite that exercises everything and decides nothing; and plans told apart."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import moebench
from moebench import api
from moebench.cli.commands import main
from moebench.planning.types import Asked
from moebench.store import open_results, read_json
from moebench.suite.load import load_suite
from moebench.suite.smoke import NOTE, smoke
from moebench.suite.types import SuiteSpec
from tests.support import tiny_suites
from tests.support.builders import plan_of

PRIMARY = {"better": tiny_suites.claim(family="primary")}
COUNTED = tiny_suites.claim(metric="cost.active_params", test={"kind": "ratio_within", "low": 0.9, "high": 1.1})


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run(path: Path, *options: str) -> Result:
    where = ["--results", path.parent / "results", "--out", path.parent / "reports"]
    return call("run", path, *where, "--launcher", "inline", "--quiet", *options)


def spec_of(folder: Path, **changes: Any) -> SuiteSpec:
    return load_suite(tiny_suites.write(folder, **changes)).spec


# ------------------------------------------------------------------------------------------ what shrinks


@pytest.mark.parametrize(
    ("budget", "small"),
    [({"tokens": 4e6}, 2e5), ({"flops": 1e12}, 5e10), ({"seconds": 60}, 3.0), ({"steps": 1000}, 50), ({"steps": 3}, 1)],
)
def test_a_twentieth_of_any_budget_and_at_least_a_step(tmp_path: Path, budget: dict[str, float], small: float) -> None:
    made = smoke(spec_of(tmp_path, train={"budget": budget}))
    (currency,) = budget
    assert {getattr(model.train.budget, currency) for model in made.models.values()} == {small}


def test_everything_else_shrinks_alike_and_nothing_is_left_out(tmp_path: Path) -> None:
    speed = {"processes": 10, "seconds": 40, "prefill": [8], "decode": {"batch": [1]}}
    train = {"schedule": {"warmup": 100}, "evaluate": {"points": 8, "tokens": 32768, "final_tokens": 131072}}
    changes = {"seeds": [5, 7, 9], "measure": {"speed": speed}, "tune": {"lr": [1e-3, 1e-2, 1e-1]}, "claims": PRIMARY}
    full = spec_of(tmp_path, train={"budget": {"steps": 2000}, **train}, **changes)
    made = smoke(full)
    assert (made.scale, made.seeds, made.tune) == ("smoke", [5, 7], None)
    one = made.models["moe"].train
    assert one.schedule.warmup.value == 5.0
    assert (one.evaluate.points, one.evaluate.tokens, one.evaluate.final_tokens) == (2, 1638, 6554)
    assert made.measure.speed is not None
    assert (made.measure.speed.processes, made.measure.speed.seconds) == (2, 2.0)
    assert (made.measure.speed.prefill, made.measure.speed.decode) == ([8], full.measure.speed.decode)  # type: ignore[union-attr]
    assert (made.claims, made.data, made.suite) == (full.claims, full.data, full.suite)
    assert SuiteSpec.model_validate(made.model_dump()) == made


def test_a_scale_has_its_own_smoke_run_and_a_scale_called_smoke_is_no_smoke_run(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, scales={"wide": {"seeds": 3}, "smoke": {"seeds": 1}})
    results = tmp_path / "results"
    plan = moebench.plan(path, scale="wide", smoke=True, results=results)
    assert (plan.title, plan.command) == ("tiny@wide.smoke", "moebench run tiny.yaml --scale wide --smoke")
    assert moebench.plan(path, scale="smoke", results=results).asked == Asked(path="tiny.yaml")
    found = call("plan", path, "--scale", "smoke", "--smoke", "--results", results)
    assert found.exit_code == 2
    assert "choose it without --smoke" in found.stderr


# ------------------------------------------------------------------------------------------ what it says


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with a finished real run (3 seeds) and a finished smoke run."""
    claims = {
        "better": tiny_suites.claim(),
        "counted": COUNTED,
        "same": tiny_suites.claim(test={"kind": "equivalent", "margin": "5%"}),
    }
    train = {"budget": {"steps": 40}, "evaluate": {"points": 3, "tokens": 256, "final_tokens": 512}}
    path = tiny_suites.write(tmp_path_factory.mktemp("smoke"), claims=claims, seeds=3, train=train)
    assert run(path).exit_code == 0
    shutil.copytree(path.parent / "reports" / "tiny", path.parent / "before")
    found = run(path, "--smoke")
    assert found.exit_code == 0, found.output
    return path


def test_no_claim_gets_a_verdict_and_each_says_what_was_exercised(done: Path) -> None:
    claims = read_json(done.parent / "reports" / "tiny@smoke" / "claims.json")["claims"]
    assert {claim["state"] for claim in claims} == {"not_tested"}
    better, counted, same = claims
    assert better["reason"].startswith("smoke run: no verdict; what the claim needs was measured, 2 seeds")
    assert counted["reason"] == "smoke run: no verdict; what the claim needs was counted"
    for one in claims:
        assert {one[key] for key in ("estimate", "low", "high", "p", "p_adjusted", "needs", "share")} == {None}
        assert one["notes"] == []
    assert same["n"] == 2
    page = (done.parent / "reports" / "tiny@smoke" / "index.md").read_text()
    assert "A smoke run, which shows that the suite works and judges no claim." in page
    assert "was not measured" not in page


def test_it_stands_apart_from_the_real_results(done: Path) -> None:
    real, small = (moebench.plan(done, results=done.parent / "results", smoke=s) for s in (False, True))
    assert {run.id for run in real.runs}.isdisjoint({run.id for run in small.runs})
    assert (len(small.runs), small.models["moe"].recipe.steps, small.title) == (4, 2, "tiny@smoke")
    assert NOTE in small.warnings
    for file in sorted((done.parent / "before").rglob("*.*")):
        now = done.parent / "reports" / "tiny" / file.relative_to(done.parent / "before")
        assert now.read_bytes() == file.read_bytes()
    assert call("report", "tiny@smoke", "--results", done.parent / "results", "--out", done.parent / "r").exit_code == 0
    assert [path.name for path in (done.parent / "r").iterdir()] == ["tiny@smoke"]


def test_a_reference_holds_no_smoke_runs(done: Path, tmp_path: Path) -> None:
    assert call("reference", "tiny", "--results", done.parent / "results", "--to", tmp_path / "ref").exit_code == 0
    assert [stored.plan.title for stored in open_results(tmp_path / "ref").plans()] == ["tiny"]


def test_a_primary_family_too_large_for_two_seeds_is_no_matter(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, claims=PRIMARY, seeds=8)
    plan = moebench.plan(path, smoke=True, results=tmp_path / "results")
    assert len(plan.runs) == 4


def test_strict_reports_are_not_about_smoke_runs(tmp_path: Path) -> None:
    """What has no verdicts cannot fail for want of them."""
    claims = {"exact": {**COUNTED, "family": "primary"}}
    path = tiny_suites.write(tmp_path, train={"budget": {"steps": 2}}, seeds=1, claims=claims)
    for options in ([], ["--smoke"]):
        assert run(path, *options).exit_code == 0
    where = ["--results", tmp_path / "results", "--out", tmp_path / "reports"]
    found = call("report", *where, "--strict", "--format", "json")
    assert found.stdout.count("report: ") == 2
    assert found.exit_code == 0


@pytest.mark.parametrize(("options", "words"), [(["--strict"], "no"), (["--tune"], "leave out --smoke")])
def test_what_does_not_go_with_it_is_refused(tmp_path: Path, options: list[str], words: str) -> None:
    found = run(tiny_suites.write(tmp_path, tune={"lr": [1e-3, 1e-2, 1e-1]}), "--smoke", *options)
    assert found.exit_code == 2
    assert words in found.stderr
    assert not (tmp_path / "results").exists()


# ------------------------------------------------------------------------------------------ plans told apart


def test_suites_at_different_values_have_reports_of_their_own(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, train={"budget": {"steps": 2}}, seeds=1)
    assert run(path).exit_code == 0
    plain = (tmp_path / "reports" / "tiny" / "index.md").read_bytes()
    for value in ("train.budget.steps=3", "train.checkpoint_seconds=99"):
        assert run(path, "--set", value).exit_code == 0
    assert (tmp_path / "reports" / "tiny" / "index.md").read_bytes() == plain
    made = sorted(folder.name for folder in (tmp_path / "reports").iterdir())
    assert len(made) == 3
    assert [name.partition("+")[0] for name in made] == ["tiny"] * 3
    results = ["--results", tmp_path / "results", "--format", "json"]
    assert call("report", *results, "--out", tmp_path / "again").exit_code == 0
    assert sorted(folder.name for folder in (tmp_path / "again").iterdir()) == made
    one = next(name for name in made if "+" in name)
    assert call("report", one, *results, "--out", tmp_path / "one").exit_code == 0
    assert [folder.name for folder in (tmp_path / "one").iterdir()] == [one]


def test_provenance_says_what_to_type_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny_suites.write(tmp_path, train={"budget": {"steps": 2}}, seeds=1).rename(tmp_path / "my suite.yaml")
    found = call("run", path.name, "--set", "question=Is it so?", "--launcher", "inline", "--quiet")
    assert found.exit_code == 0, found.output
    (folder,) = (tmp_path / "reports").iterdir()
    page = (folder / "index.md").read_text()
    assert "moebench run 'my suite.yaml' --set 'question=Is it so?'" in page
    assert "with question=Is it so?" in page
    (stored,) = open_results(tmp_path / "results").plans()
    assert stored.plan.asked == Asked(path="my suite.yaml", sets=("question=Is it so?",))


def test_no_folder_of_this_machine_is_told(tmp_path: Path) -> None:
    plan = api.plan(tiny_suites.write(tmp_path), results=tmp_path / "results")
    assert plan.asked.path == "tiny.yaml"
    assert str(tmp_path) not in plan.model_dump_json(exclude={"spec": {"data"}})


def test_a_plan_without_any_of_it_dumps_as_before_and_another_set_is_another_plan() -> None:
    plan = plan_of(["moe", "dense"], {})
    assert "asked" not in plan.model_dump(mode="json")
    ids = {plan.model_copy(update={"asked": asked}).id for asked in (
        Asked(), Asked(path="x.yaml"), Asked(sets=("a=1",)), Asked(sets=("a=2",)), Asked(tuned="1a2b")
    )}  # fmt: skip
    assert len(ids) == 4
    assert repr(plan.model_copy(update={"asked": Asked(tuned="1a2b")})).count("\n") == 0
