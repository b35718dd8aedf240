"""The learning-rate sweep: which rate is best, whether it lies inside, and that failed points are told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.environment import environment
from moebench.jobs.evaluate import id_of
from moebench.planning.matching import PlanError
from moebench.planning.sweep import at_best_rates, best_rate, block_to_paste, edges, summarise
from moebench.planning.types import TunePlan
from moebench.reader.evidence import gather
from moebench.store import Results, read_json
from moebench.suite.load import load_suite
from tests.support import tiny_suites

RATES = [1e-3, 1e-2, 1e-1]


def curve(**values: list[float | None]) -> list[dict[str, Any]]:
    """`curve(r1=[...])`: the values of rate 1, one a seed."""
    return [
        {"lr": float(name[1:]), "seed": seed, "bits_per_byte": value}
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]


def test_the_best_rate_has_the_lowest_mean_over_seeds() -> None:
    assert best_rate(curve(r1=[3.0, 3.0], r2=[1.0, 4.0], r3=[2.9, 2.9])) == 2.0
    assert best_rate(curve(r1=[3.0], r2=[4.0])) == 1.0


def test_a_rate_at_which_a_seed_failed_is_never_best() -> None:
    assert best_rate(curve(r1=[3.0, 3.0], r2=[0.1, None])) == 1.0
    assert best_rate(curve(r1=[None], r2=[None])) is None
    assert best_rate([]) is None


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, api.Outcome]:
    """A sweep of two models, three rates and two seeds, really trained."""
    tune = {"lr": RATES, "seeds": 2}
    path = tiny_suites.write(tmp_path_factory.mktemp("sweep"), tune=tune)
    return path, sweep(path)


def sweep(path: Path) -> api.Outcome:
    return api.run(path, results=path.parent / "results", tune=True, launcher="inline")


def tune_of(outcome: api.Outcome) -> TunePlan:
    assert outcome.plan.tune is not None
    return outcome.plan.tune


def test_a_sweep_trains_every_model_at_every_rate_and_nothing_else(swept: tuple[Path, api.Outcome]) -> None:
    path, outcome = swept
    runs = tune_of(outcome).runs
    assert outcome.statuses == {run_id: "completed" for *_, run_id in runs}
    assert {(model, lr) for model, lr, *_ in runs} == {(model, lr) for model in ("moe", "dense") for lr in RATES}
    measured = {id_of(run_id, "quality") for run_id in outcome.statuses}
    assert {folder.id for folder in Results(path.parent / "results").jobs()} == set(outcome.statuses) | measured
    assert {seed for _, _, seed, _ in runs}.isdisjoint(outcome.plan.spec.seeds)
    assert (outcome.report, outcome.verdicts) == (None, ())


def test_its_summary_holds_what_each_run_lost_on_the_tune_split(swept: tuple[Path, api.Outcome]) -> None:
    path, outcome = swept
    results = Results(path.parent / "results")
    folder = results.tune(tune_of(outcome).id)
    assert (folder.status(), folder.verify()) == ("completed", [])
    models = read_json(folder.path / "tune.json")["models"]
    assert models == outcome.sweep
    for name, model in models.items():
        ids = {(lr, seed): run_id for m, lr, seed, run_id in tune_of(outcome).runs if m == name}
        assert len(model["curve"]) == 6
        for point in model["curve"]:
            records = results.job(id_of(ids[point["lr"], point["seed"]], "quality")).records()
            (value,) = [one.value for one in records if one.metric == "tune.bits_per_byte"]
            assert (point["bits_per_byte"], point["reason"]) == (value, None)
        assert model["best_lr"] == best_rate(model["curve"])
        assert model["interior"] == (model["best_lr"] == RATES[1])
        assert model["configured_lr"] == 1e-2


def test_a_second_sweep_touches_nothing(swept: tuple[Path, api.Outcome]) -> None:
    path, _ = swept
    before = {file: file.stat().st_mtime_ns for file in (path.parent / "results").rglob("*")}
    assert sweep(path).started == 0
    assert {file: file.stat().st_mtime_ns for file in (path.parent / "results").rglob("*")} == before


def test_failed_points_have_a_reason_and_no_value(swept: tuple[Path, api.Outcome], tmp_path: Path) -> None:
    path, outcome = swept
    shutil.copytree(path.parent / "results", tmp_path / "results")
    results = Results(tmp_path / "results")
    for model, lr, _, run_id in tune_of(outcome).runs:
        if model == "moe" and lr in RATES[1:]:
            (results.job(run_id).path / "DONE").unlink()
    found = summarise(outcome.plan, results)
    reasons = {point["lr"]: (point["bits_per_byte"], point["reason"]) for point in found["moe"]["curve"]}
    assert reasons[RATES[2]] == (None, "run is partial")
    assert reasons[RATES[0]][1] is None
    assert (found["moe"]["best_lr"], found["moe"]["interior"]) == (RATES[0], False)  # at the edge of what is left
    assert results.tune(tune_of(outcome).id).verify() == []


def test_the_evidence_reads_the_sweep(swept: tuple[Path, api.Outcome]) -> None:
    path, outcome = swept
    results = Results(path.parent / "results")
    assert results.plans() == []  # a sweep fixes nothing of the claims
    tuned = gather(results, results.save_plan(outcome.plan, environment(1))).tuned
    assert set(tuned) == {"moe", "dense"}
    assert outcome.sweep is not None
    assert tuned["moe"].best_lr == outcome.sweep["moe"]["best_lr"]


# ------------------------------------------------------------------------------------------ training at the best rates


def test_tuned_trains_each_model_at_its_best_rate_and_says_so(swept: tuple[Path, api.Outcome], tmp_path: Path) -> None:
    path, outcome = swept
    shutil.copytree(path.parent / "results", tmp_path / "results")
    best = {name: model["best_lr"] for name, model in (outcome.sweep or {}).items()}
    path = tiny_suites.write(tmp_path, tune={"lr": RATES, "seeds": 2}, claims={"better": tiny_suites.claim()}, seeds=6)
    tuned = api.run(path, results=tmp_path / "results", reports=tmp_path / "reports", launcher="inline", tuned=True)
    assert {name: model.recipe.lr for name, model in tuned.plan.models.items()} == best
    assert tuned.plan.tune == tune_of(outcome)  # the same sweep: nothing is swept again
    assert tuned.plan.asked.tuned == tune_of(outcome).id
    words = f"learning rates from the sweep {tune_of(outcome).id}"
    assert words in tuned.plan.warnings
    assert any(words in note for note in tuned.verdicts[0].notes)
    assert tuned.report == tmp_path / "reports" / "tiny+tuned"
    page = (tmp_path / "reports" / "tiny+tuned" / "index.md").read_text()
    assert words[1:] in page  # at the beginning of a sentence
    assert "moebench run tiny.yaml --tuned" in page


def test_a_tuned_smoke_run_has_the_rates_of_the_real_sweep(swept: tuple[Path, api.Outcome]) -> None:
    path, outcome = swept
    plan = api.plan(path, results=path.parent / "results", tuned=True, smoke=True)
    assert plan.title == "tiny@smoke+tuned"
    assert outcome.sweep is not None
    assert plan.models["moe"].recipe.lr == outcome.sweep["moe"]["best_lr"]


def test_without_a_finished_sweep_tuned_says_what_to_run(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, tune={"lr": RATES})
    with pytest.raises(PlanError, match=r"not finished here: moebench run tiny.yaml --tune"):
        api.plan(path, results=tmp_path / "results", tuned=True)
    path = tiny_suites.write(tmp_path)
    with pytest.raises(PlanError, match="give it a block such as tune"):
        api.plan(path, results=tmp_path / "results", tuned=True)


def test_a_sweep_that_was_changed_is_not_used(swept: tuple[Path, api.Outcome], tmp_path: Path) -> None:
    path, outcome = swept
    shutil.copytree(path.parent / "results", tmp_path / "results")
    summary = Results(tmp_path / "results").tune(tune_of(outcome).id).path / "tune.json"
    summary.write_text(summary.read_text().replace('"best_lr": 0.', '"best_lr": 9.'))
    with pytest.raises(PlanError, match="the sweep is corrupt"):
        api.plan(path, results=tmp_path / "results", tuned=True)


def model(best: float | None, *, interior: bool = True) -> dict[str, Any]:
    return {"curve": curve(r1=[2.0], r2=[1.0], r4=[3.0]), "best_lr": best, "interior": interior}


def test_a_best_rate_at_the_edge_says_how_to_sweep_on() -> None:
    sweep = {
        "high": model(4.0, interior=False),
        "low": model(1.0, interior=False),
        "in": model(2.0),
        "none": model(None),
    }
    assert [*edges(sweep)] == [
        "high: its best learning rate, 4, is the highest tried: add 8 to tune.lr",
        "low: its best learning rate, 1, is the lowest tried: add 0.5 to tune.lr",
    ]


def test_the_block_to_paste_sets_the_best_rates(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path)
    block = block_to_paste(
        {"moe": model(0.004), "dense": model(1.2e-7), "swept.one": model(1.0)}, declared={"moe", "dense"}
    )
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: tiny.yaml\nmodels:\n{block}")
    rates = {name: one.train.optimizer.lr for name, one in load_suite(other).spec.models.items()}
    assert rates == {"moe": 0.004, "dense": 1.2e-7}
    assert load_suite(path).spec.models["moe"].train.optimizer.lr == 1e-2


def test_models_without_a_rate_that_completed_are_refused_and_those_not_swept_keep_theirs(tmp_path: Path) -> None:
    spec = load_suite(tiny_suites.write(tmp_path)).spec
    with pytest.raises(ValueError, match="at no rate did every run of dense complete"):
        at_best_rates(spec, {"moe": model(2.0), "dense": model(None)})
    made, notes = at_best_rates(spec, {"moe": model(2.0)})
    assert {name: one.train.optimizer.lr for name, one in made.models.items()} == {"moe": 2.0, "dense": 1e-2}
    assert notes == ["not in the sweep, so with the suite's learning rate: dense"]
