"""The tuning sweep: which point is best, whether it lies inside, its one extension, and that failed points are told."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.api import Planned
from moebench.claims.notes import untuned
from moebench.cli.console.outcome import sweep_text
from moebench.environment import environment
from moebench.jobs.evaluate import id_of
from moebench.jobs.recipe import Run
from moebench.planning.grid import TunePlan, best_point, beyond
from moebench.planning.matching import PlanError
from moebench.planning.sweep import at_best_rates, block_to_paste, edges, outermost, summarise
from moebench.planning.tuning import TUNE_SEED, Sweep, tune_identity
from moebench.reader.evidence import gather, read_sweep
from moebench.store import CorruptFile, Results, append_lines, read_json, write_json
from moebench.suite import fields
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from tests.support import tiny_suites

RATES = [1e-3, 1e-2, 1e-1]
FURTHER = 1.0
"""One step beyond the highest, at which the tiny models do best: the sweep is extended to it."""


def curve(**values: list[float | None]) -> list[dict[str, Any]]:
    """`curve(r1=[...])`: the values of rate 1, one a seed."""
    return [
        {"lr": float(name[1:]), "seed": seed, "bits_per_byte": value}
        for name, column in values.items()
        for seed, value in enumerate(column)
    ]


def test_the_best_rate_has_the_lowest_mean_over_seeds() -> None:
    assert best_point(curve(r1=[3.0, 3.0], r2=[1.0, 4.0], r3=[2.9, 2.9])) == {"lr": 2.0}
    assert best_point(curve(r1=[3.0], r2=[4.0])) == {"lr": 1.0}


def test_a_rate_at_which_a_seed_failed_is_never_best() -> None:
    assert best_point(curve(r1=[3.0, 3.0], r2=[0.1, None])) == {"lr": 1.0}
    assert best_point(curve(r1=[None], r2=[None])) is None
    assert best_point([]) is None


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
    assert {run_id for *_, run_id in runs} < set(outcome.statuses)
    assert set(outcome.statuses.values()) == {"completed"}
    assert len(outcome.statuses) == outcome.started == 2 * 2 * (len(RATES) + 1)
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
    wider = TunePlan.model_validate(read_json(folder.path / "tune.json")["extended"])
    for name, model in models.items():
        ids = {(cell.lr, cell.seed): run_id for cell, run_id in wider.cells(name)}
        assert len(model["curve"]) == 8
        for point in model["curve"]:
            records = results.job(id_of(ids[point["lr"], point["seed"]], "quality")).records()
            (value,) = [one.value for one in records if one.metric == "tune.bits_per_byte"]
            assert (point["bits_per_byte"], point["reason"]) == (value, None)
        assert best_point(model["curve"]) == {"lr": model["best_lr"]}
        assert model["interior"] == (RATES[0] < model["best_lr"] < FURTHER)
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


# ------------------------------------------------------------------------------------------ one extension for all


def test_a_best_point_at_an_end_extends_the_sweep_once_for_all_models(swept: tuple[Path, api.Outcome]) -> None:
    _, outcome = swept
    assert outcome.sweep is not None
    for model in outcome.sweep.values():
        late = {point["lr"] for point in model["curve"] if point.get("extension")}
        assert late == {FURTHER}
        assert {point["lr"] for point in model["curve"]} == {*RATES, FURTHER}
    told = sweep_text(outcome.sweep, plan=outcome.plan)
    assert "extended once; every best point lies inside now: " in told
    assert all(f"{rate:g}" in told for rate in (*RATES, FURTHER))


def losses(results: Results, sweep: Sweep, value: Callable[[str, float, dict[str, Any]], float | None]) -> None:
    """Writes the runs of a sweep by hand: `value` is the loss of a model at a rate and other fields, None: diverged."""
    plan, specs = sweep.plan, {job.id: job.spec for job in sweep.jobs}
    for name in plan.models:
        for cell, run_id in plan.cells(name):
            folder = results.job(run_id)
            if folder.status() != "missing":
                continue
            loss = value(name, cell.lr, dict(zip(plan.over, cell.over, strict=True)))
            folder.path.mkdir(parents=True)
            write_json(folder.path / "job.json", {"job": {"kind": "train", "spec": specs[run_id]}})
            folder.finish("completed" if loss is not None else "diverged")
            if loss is None:
                continue
            measured = results.job(id_of(run_id, "quality"))
            measured.path.mkdir(parents=True)
            write_json(measured.path / "job.json", {"job": {"kind": "evaluate", "spec": {}}})
            row = {"metric": "tune.bits_per_byte", "value": loss + 1e-3 * (cell.seed % 2), "step": 12, "version": 1}
            append_lines(measured.path / "records.jsonl", [row])
            measured.finish("completed")


def bowl(best: float) -> Callable[[str, float, dict[str, Any]], float]:
    """A loss that is lowest at a rate."""
    return lambda _name, lr, _over: 2 + math.log(lr / best) ** 2


def swept_by_hand(
    folder: Path, value: Callable[[str, float, dict[str, Any]], float | None], **tune: Any
) -> tuple[Planned, dict[str, Any], list[str]]:
    """A sweep whose losses are given, extended where it should be; its summary, and where it was extended."""
    made = tiny_suites.planned(folder, tune={"lr": RATES, **tune})
    results, graph = Results(made.results), made.graph
    assert graph.sweep is not None
    losses(results, graph.sweep, value)
    at = outermost(made.plan, results)
    wider = graph.sweep.extend(at)
    if wider is not None:
        losses(results, wider, value)
    found = summarise(made.plan, results, extended=None if wider is None else wider.plan)
    sweep = read_sweep(results, made.plan)
    assert sweep is not None
    assert sweep["models"] == found
    return made, found, [f"{end.axis} {end.side}" for end in at]


def test_an_optimum_inside_is_not_extended(tmp_path: Path) -> None:
    made, found, at = swept_by_hand(tmp_path, bowl(1e-2))
    assert at == []
    assert {model["best_lr"] for model in found.values()} == {1e-2}
    assert all(model["interior"] for model in found.values())
    assert "extended" not in sweep_text(found, plan=made.plan)


def test_the_lowest_and_the_highest_are_both_extended_once(tmp_path: Path) -> None:
    best = {"moe": 1e-1, "dense": 1e-3}
    _, found, at = swept_by_hand(tmp_path, lambda name, lr, over: bowl(best[name])(name, lr, over))
    assert sorted(at) == ["lr highest", "lr lowest"]
    for model in found.values():
        assert {point["lr"] for point in model["curve"]} == {1e-4, *RATES, 1.0}
        assert model["interior"]


def test_an_optimum_that_is_still_at_the_end_is_told_and_not_followed(tmp_path: Path) -> None:
    made, found, _ = swept_by_hand(tmp_path, bowl(100.0))
    assert {model["best_lr"] for model in found.values()} == {FURTHER}
    assert not any(model["interior"] for model in found.values())
    text = sweep_text(found, plan=made.plan)
    assert "extended once; every best point lies inside now: no" in text
    assert "moe: its best learning rate, 1, is the highest tried after one extension: add 2 to tune.lr" in " ".join(
        text.split()
    )
    tuned = api.plan(tmp_path / "tiny.yaml", results=made.results, tuned=True)
    assert any("is the highest tried after one extension" in note for note in tuned.warnings)
    evidence = gather(Results(made.results), Results(made.results).save_plan(tuned, environment(1)))
    assert untuned(evidence, ("moe", "dense")) == (
        "learning rate not shown to be tuned: the best rate of moe, 1, is at the end of its range"
    )


def test_a_sweep_with_runs_to_do_is_not_extended(tmp_path: Path) -> None:
    made, found, at = swept_by_hand(tmp_path, bowl(1e-1))
    assert at == ["lr highest"]
    results = Results(made.results)
    (results.job(tune_of_plan(made).runs[0][-1]).path / "DONE").unlink()
    assert outermost(made.plan, results) == []
    assert found["moe"]["best_lr"] == 1e-1


def test_where_runs_diverge_is_worst(tmp_path: Path) -> None:
    _, found, at = swept_by_hand(tmp_path, lambda _name, lr, _over: None if lr == RATES[0] else 2 + lr)
    assert at == []
    assert {model["best_lr"] for model in found.values()} == {RATES[1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["extended"]["lrs"].__setitem__(-1, 3.0), "its extension is not the one step"),
        (lambda raw: raw["extended"]["runs"].pop(), "its extension is not the one step"),
        (lambda raw: raw["extended"]["runs"].__setitem__(0, ["moe", 1e-3, 1000003, "other"]), "not the one step"),
        (lambda raw: raw.pop("extended"), "not those planned"),
        (lambda raw: raw["models"]["moe"]["curve"].pop(), "not those planned"),
        (lambda raw: raw["models"]["moe"]["curve"][-1].pop("extension"), "not those planned"),
        (lambda raw: raw["models"]["moe"].update(ends=[["lr", "sideways"]]), "a best point that the sweep has not"),
        (lambda raw: raw["models"]["moe"].update(best={"norm_eps": 1.0}), "a best point that the sweep has not"),
    ],
)
def test_an_extension_that_the_sweep_cannot_have_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, tmp_path: Path
) -> None:
    made, _, _ = swept_by_hand(tmp_path, bowl(1e-1))
    folder = Results(made.results).tune(tune_of_plan(made).id)
    raw = read_json(folder.path / "tune.json")
    change(raw)
    write_json(folder.path / "tune.json", raw)
    folder.finish("completed")
    with pytest.raises(CorruptFile, match=words):
        read_sweep(Results(made.results), made.plan)


def tune_of_plan(made: Planned) -> TunePlan:
    assert made.plan.tune is not None
    return made.plan.tune


@pytest.mark.parametrize(
    ("values", "side", "further"),
    [
        ((1e-3, 1e-2), "highest", 0.1), ((4e-3, 8e-3, 1.6e-2), "lowest", 2e-3), ((0, 0.01), "lowest", None),
        ((0, 0.01), "highest", 0.02), ((0.0, 0.01, 0.03), "highest", 0.09), ((2, 4), "highest", 8),
        ((1, 2), "lowest", None),
        (("a", "b"), "highest", None), ((False, True), "highest", None), ((3,), "highest", None),
    ],
)  # fmt: skip
def test_a_step_further_is_in_the_ratio_of_the_last_two(values: Any, side: Any, further: float | None) -> None:
    assert beyond(values, side) == further


# ------------------------------------------------------------------------------------------ other fields than the rate

OVER = {"ffn.balance_loss": [0.01, 0.03], "train.optimizer.weight_decay": [0.1, 0.2]}


def test_a_model_that_lacks_a_field_has_as_many_runs_by_more_seeds(tmp_path: Path) -> None:
    tune = tune_of_plan(tiny_suites.planned(tmp_path, tune={"lr": RATES, "over": OVER, "seeds": 2}))
    runs = {name: tune.cells(name) for name in tune.models}
    assert {name: len(cells) for name, cells in runs.items()} == {"moe": 3 * 4 * 2, "dense": 3 * 4 * 2}
    assert {cell.over for cell, _ in runs["dense"]} == {(None, 0.1), (None, 0.2)}
    assert {cell.seed for cell, _ in runs["dense"]} == {TUNE_SEED + n for n in range(4)}
    assert {cell.seed for cell, _ in runs["moe"]} == {TUNE_SEED, TUNE_SEED + 1}
    assert len({run_id for cells in runs.values() for _, run_id in cells}) == 48
    assert (tune.has("moe"), tune.has("dense")) == ((True, True), (False, True))


def test_each_run_trains_with_the_values_of_its_point(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path, tune={"lr": RATES, "over": OVER})
    assert made.graph.sweep is not None
    specs = {job.id: Run.model_validate(job.spec) for job in made.graph.sweep.jobs if job.kind == "train"}
    for name in ("moe", "dense"):
        for cell, run_id in tune_of_plan(made).cells(name):
            run = specs[run_id]
            assert (run.recipe.lr, run.recipe.weight_decay, run.recipe.split) == (cell.lr, cell.over[1], "tune")
            if name == "moe":
                assert run.architecture.ffn.balance_loss == cell.over[0]
            assert tune_identity(run, OVER) == tune_identity(specs[tune_of_plan(made).cells(name)[0][1]], OVER)


def test_the_plan_of_a_sweep_does_not_depend_on_what_is_swept(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path, tune={"lr": RATES, "over": OVER})
    train = {"optimizer": {"lr": 0.5, "weight_decay": 0.5}}
    other = tiny_suites.planned(tmp_path, tune={"lr": RATES, "over": OVER}, train=train)
    assert tune_of_plan(other) == tune_of_plan(made)


def best_at(lr: float, balance: float, decay: float) -> Callable[[str, float, dict[str, Any]], float]:
    def value(_name: str, rate: float, over: dict[str, Any]) -> float:
        off = [
            (rate, lr),
            (over["ffn.balance_loss"] or balance, balance),
            (over["train.optimizer.weight_decay"], decay),
        ]
        return 2 + sum(math.log(a / b) ** 2 for a, b in off)

    return value


def test_tuned_trains_at_the_best_of_all_fields_and_the_block_says_them(tmp_path: Path) -> None:
    made, found, at = swept_by_hand(tmp_path, best_at(1e-2, 0.03, 0.2), over=OVER)
    assert sorted(at) == ["ffn.balance_loss highest", "train.optimizer.weight_decay highest"]
    assert found["moe"]["best"] == {"ffn.balance_loss": 0.03, "train.optimizer.weight_decay": 0.2}
    assert found["dense"]["best"] == {"train.optimizer.weight_decay": 0.2}
    assert found["moe"]["configured"] == {"ffn.balance_loss": 0.01, "train.optimizer.weight_decay": 0.1}
    assert all(model["interior"] for model in found.values())  # inside what was extended
    assert {name: len(model["curve"]) for name, model in found.items()} == {"moe": 3 * 9, "dense": 3 * 9}
    tuned = api.plan(tmp_path / "tiny.yaml", results=made.results, tuned=True)
    assert tuned.decoders["moe"].architecture.ffn.balance_loss == 0.03
    assert {model.recipe.weight_decay for model in tuned.decoders.values()} == {0.2}
    assert (tuned.asked.tuned, tuned.tune) == (tune_of_plan(made).id, tune_of_plan(made))
    evidence = gather(Results(made.results), Results(made.results).save_plan(tuned, environment(1)))
    assert untuned(evidence, ("moe", "dense")) is None
    before = gather(Results(made.results), Results(made.results).save_plan(made.plan, environment(1)))
    assert untuned(before, ("moe", "dense")) == (
        "learning rate not shown to be tuned: moe was trained with ffn.balance_loss 0.01, its best was 0.03"
    )
    other = tmp_path / "other.yaml"
    other.write_text(f"extends: tiny.yaml\nmodels:\n{block_to_paste(found, declared={'moe', 'dense'})}")
    again = load_suite(other).spec.decoders
    assert again["moe"].ffn.balance_loss == 0.03
    assert {model.train.optimizer.weight_decay for model in again.values() if model.train} == {0.2}


def test_plan_says_who_lacks_a_field_and_that_few_seeds_tell_little(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, tune={"lr": RATES, "over": OVER})
    words = " ".join(tiny_suites.call("plan", path).stdout.split())
    assert (
        "sweep of the learning rate and ffn.balance_loss and train.optimizer.weight_decay (with --tune): 24 runs"
        in words
    )
    assert "12 for each model" in words
    assert "dense has no ffn.balance_loss: as many runs by 2 seeds at each of its points" in words
    assert "1 tuning seed: an interval at the second-best points wants 3" in words


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"ffn.balance_los": [0.01, 0.02]}, "did you mean 'ffn.balance_loss'?"),
        ({"optimizer.weight_decay": [0.1, 0.2]}, "did you mean 'train.optimizer.weight_decay'?"),
        ({"train.optimizer.lr": [0.1, 0.2]}, "give it as tune.lr"),
        ({"train.budget.steps": [10, 20]}, "it says how long is trained"),
        ({"ffn.balance_loss": [-1.0, 0.2]}, "balance_loss must be at least 0, not -1.0"),
        ({"ffn.balance_loss": [0.1, "much"]}, "both numbers and words"),
        ({"ffn.balance_loss": [0.2, 0.1]}, "0.1 comes after 0.2"),
        ({"ffn.balance_loss": [0.2]}, "needs at least 2"),
        ({"train.schedule.decay": ["cosine", "lienar"]}, "decay cannot be 'lienar'"),
        ({"ffn.renormalise": [1, 2]}, "renormalise"),
        ({"ffn.top_k": [1, 2]}, "moe has other sizes with ffn.top_k: 1"),
        ({"layers": [1, 2]}, "has other sizes with layers"),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, "at most 2"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_tuned_is_refused_at_its_place(over: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, tune={"lr": RATES, "over": over})
    with pytest.raises((SuiteError, PlanError)) as told:
        api.plan(path, results=tmp_path / "results")
    assert words in str(told.value)


def test_words_and_amounts_may_be_tuned(tmp_path: Path) -> None:
    over = {"train.schedule.decay": ["cosine", "linear"], "train.schedule.warmup": ["5%", "30%"]}
    made, found, at = swept_by_hand(
        tmp_path, lambda _n, lr, over: 2 + abs(lr - 1e-2) - (over["train.schedule.warmup"] == "30%"), over=over
    )
    assert at == []
    assert found["dense"]["best"] == {"train.schedule.decay": "cosine", "train.schedule.warmup": "30%"}
    tuned = api.plan(tmp_path / "tiny.yaml", results=made.results, tuned=True)
    assert {model.recipe.warmup_steps for model in tuned.decoders.values()} == {4}


def test_where_a_field_goes_no_further_its_end_is_no_edge(tmp_path: Path) -> None:
    """Jitter is below 1: beyond 0.6 there is nothing to try."""
    _, found, at = swept_by_hand(
        tmp_path, lambda _n, lr, over: 2 + abs(lr - 1e-2) - (over["ffn.jitter"] or 0), over={"ffn.jitter": [0.3, 0.6]}
    )
    assert at == []
    assert (found["moe"]["best"], found["moe"]["interior"]) == ({"ffn.jitter": 0.6}, True)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("ffn.balance_loss", "moe"), ("ffn.jitter", "moe"), ("train.optimizer.router_lr", "moe"),
        ("ffn.balance_loss", ""),
        ("train.optimizer.router_lr", ""), ("train.clip", "moe dense"), ("train.schedule.warmup", "moe dense"),
        ("train.schedule", ""), ("ffn.hidden.more", ""), ("train.schedule.warmup.value", ""),
    ],
)  # fmt: skip
def test_a_model_has_a_field_that_it_uses(path: str, there: str, tmp_path: Path) -> None:
    """A router that learns nothing has no rate, and one without a loss no coefficient."""
    models = dict(load_suite(tiny_suites.write(tmp_path)).spec.decoders)
    if not there:
        frozen = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16, "router": "token_hash"}
        path_ = tiny_suites.write(tmp_path, models={"moe": {"layers": 2, "width": 16, "heads": 2, "ffn": frozen}})
        models = dict(load_suite(path_).spec.decoders)
    assert " ".join(name for name in models if fields.has(models[name], path)) == there
