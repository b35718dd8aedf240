"""Frames hold what is on disk and nothing else; findings and words agree with arithmetic done by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moebench import store
from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.format import NBSP, interval, quantity, sentence, short
from moebench.metrics.speed import AGAIN
from moebench.reader.evidence import gather
from moebench.reporting import study as frames
from moebench.reporting.analysis import Findings, cost_label, difference, exp, mean
from moebench.reporting.canvas import Drawn, log_ticks, spread
from moebench.reporting.figures import FIGURES
from moebench.reporting.figures.domains import specialisation
from moebench.reporting.figures.fronts import _front
from moebench.reporting.states import effect
from moebench.reporting.tables import cost
from moebench.reporting.theme import settings, styles
from moebench.store import Results
from tests.support import golden_results


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "results"
    golden_results.write(folder)
    return folder


@pytest.fixture(scope="module")
def found(root: Path) -> Findings:
    return made(root)


def made(root: Path) -> Findings:
    results = store.Results(root)
    evidence = gather(results, results.plans()[0])
    return Findings(
        study=frames.study(evidence),
        verdicts=tuple(judge(evidence)),
        controls=tuple(check_controls(evidence)),
    )


# ---------------------------------------------------------------------------------------------- long form


def test_load_gives_the_long_form(root: Path) -> None:
    frame = frames.load(root)
    assert list(frame.columns) == ["suite", "model", "seed", "metric", "value", "unit", "step", "run", "plan"]
    assert set(frame["suite"]) == {"golden"}
    final = frame[frame["metric"] == "test.bits_per_byte"]
    assert len(final) == 24
    assert set(final["unit"]) == {"bits/byte"}
    assert set(final["step"]) == {golden_results.STEPS}
    assert frame["value"].notna().all()


def test_load_has_counts_without_seed_and_times_by_process(root: Path) -> None:
    frame = frames.load(root)
    counted = frame[(frame["metric"] == "cost.total_params") & (frame["model"] == "dense")]
    assert counted["value"].tolist() == [117_200]
    assert counted["seed"].isna().all()
    timed = frame[(frame["metric"] == "speed.train_step_s") & (frame["model"] == "dense")]
    assert timed["seed"].tolist() == [0, 1, 2, 3, 4, 5]
    assert not frame["model"].str.endswith(AGAIN).any()


def test_rows_name_the_run_and_the_plan_they_are_from(root: Path) -> None:
    (stored,) = Results(root).plans()
    ids = {(run.model, run.seed): run.id for run in stored.plan.runs}
    frame = frames.load(root)
    assert set(frame["plan"]) == {stored.plan.id}
    own = frame[frame["seed"].notna()]
    assert own["run"].tolist() == [ids[key] for key in zip(own["model"], own["seed"], strict=True)]
    assert frame[frame["seed"].isna()]["run"].isna().all()


@pytest.mark.parametrize("folder", ["there", "gone"])
def test_load_of_a_folder_without_results_says_so(tmp_path: Path, folder: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{folder} holds no results"):
        frames.load(tmp_path / folder)


def test_load_says_which_plans_it_leaves_out_or_returns_them(tmp_path: Path) -> None:
    older = golden_results.write(tmp_path, seeds=6)
    path = next((tmp_path / "plans").glob("*.json"))
    newer = golden_results.write(tmp_path, seeds=7)
    path.write_text(path.read_text().replace('"stored_at": 17949', '"stored_at": 17940'))
    (tmp_path / "plans" / "spoilt@default-1.json").write_text("{}")
    with pytest.warns(UserWarning, match=rf"golden \(plan {older.id}, not the newest\).*spoilt@default-1.json"):
        assert set(frames.load(tmp_path)["plan"]) == {newer.id}
    with pytest.warns(UserWarning, match="spoilt") as said:
        both = frames.load(tmp_path, every=True)
    assert older.id not in str(said[0].message)
    assert both.groupby("plan")["seed"].nunique().to_dict() == {older.id: 6, newer.id: 7}


def test_swept_values_are_columns(tmp_path: Path) -> None:
    """After those that every frame has; models that are no part of a sweep have none."""
    plan = golden_results.golden_plan()
    values = {"dense": {"ffn.hidden": 177.0, "train.optimizer.name": "adamw"}, "dense_total": {"ffn.hidden": 709.0}}
    swept = plan.spec.model_copy(update={"sweeps": {"d": values}})
    golden_results.write(tmp_path, plan=plan.model_copy(update={"spec": swept}))
    frame = frames.load(tmp_path)
    assert list(frame.columns) == [*frames.LONG, "ffn.hidden", "train.optimizer.name"]
    assert frame.groupby("model")["ffn.hidden"].max().dropna().to_dict() == {"dense": 177, "dense_total": 709}
    assert set(frame[frame["model"] == "dense"]["train.optimizer.name"]) == {"adamw"}


def test_the_golden_folder_is_the_same_every_time(root: Path, tmp_path: Path) -> None:
    golden_results.write(tmp_path)
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert [f for f in files if (root / f).read_bytes() != (tmp_path / f).read_bytes()] == []


# ---------------------------------------------------------------------------------------------- findings


def test_the_pair_is_that_of_the_first_primary_claim(found: Findings) -> None:
    assert found.pair == ("moe_8x2", "dense")


def test_a_counted_ratio_is_exact(found: Findings) -> None:
    ratio = next(r for r in found.ratios if (r.metric, r.model) == ("cost.weight_bytes", "moe_8x2"))
    assert ratio.ratio.centre == 321_000 / 117_200
    assert not ratio.ratio.bounded


def test_a_timed_ratio_is_paired_within_processes(found: Findings) -> None:
    ratio = next(r for r in found.ratios if (r.metric, r.model) == ("speed.train_step_s", "moe_8x2"))
    raw = [found.study.samples[model, "speed.train_step_s"].reshape(6, 20) for model in ("moe_8x2", "dense")]
    medians = [np.median(samples, axis=1) for samples in raw]
    logs = np.log(medians[0] / medians[1])
    assert ratio.ratio.centre == pytest.approx(math.exp(logs.mean()))
    assert ratio.ratio.high == pytest.approx(math.exp(logs.max())), "one of 64 flips: six signs reach no further"
    assert ratio.units == "processes"


def test_training_steps_of_other_micro_batches_are_not_divided(tmp_path: Path) -> None:
    """A verdict on them would be INVALID, so no table and no figure shows their ratio; each stands by itself."""
    plan = golden_results.golden_plan()
    moe = plan.models["moe_8x2"]
    half = moe.recipe.model_copy(update={"micro_batch_tokens": moe.recipe.micro_batch_tokens // 2})
    models = {**plan.models, "moe_8x2": moe.model_copy(update={"recipe": half})}
    golden_results.write(tmp_path, plan=plan.model_copy(update={"models": models}))
    found = made(tmp_path)
    assert found.other_steps == {"moe_8x2": half.micro_batch_tokens}
    steps = [r.model for r in found.ratios if r.metric == "speed.train_step_s"]
    assert steps == ["dense", "dense_total", "dense~again"]
    table = cost.costs(found)
    assert table is not None
    rows = table.frame[table.frame["metric"] == "speed.train_step_s"].set_index("model")
    assert np.isnan(rows.loc["moe_8x2", "ratio"])
    assert rows.loc["moe_8x2", "value"] == found.usual_time("moe_8x2", "speed.train_step_s")


def test_the_baseline_raced_against_itself_is_among_the_ratios(found: Findings) -> None:
    again = [r for r in found.ratios if r.model == "dense~again"]
    assert len(again) == 4
    assert all(0.95 < r.ratio.centre < 1.05 for r in again)


def test_seconds_are_steps_times_the_step_time_of_the_session(found: Findings) -> None:
    step_s, how = found.step_seconds
    assert "speed session" in how
    row = found.curves[found.curves["model"] == "dense"].iloc[-1]
    assert row["seconds"] == pytest.approx(golden_results.STEPS * step_s["dense"])


def test_without_a_session_seconds_are_wall_time_and_say_so(tmp_path: Path) -> None:
    plan = golden_results.golden_plan(seeds=2)
    golden_results.write(tmp_path, plan=plan.model_copy(update={"speed": None}))
    results = store.Results(tmp_path)
    evidence = gather(results, results.plans()[0])
    held = Findings(study=frames.study(evidence), verdicts=(), controls=())
    assert "wall time" in held.step_seconds[1]
    assert held.curves["seconds"].notna().all()
    assert held.study.speed_reason == "the suite asks for no speed session"


def test_diverged_runs_have_no_final_loss(tmp_path: Path) -> None:
    plan = golden_results.golden_plan(seeds=2)
    results = store.Results(tmp_path)
    results.save_plan(plan, golden_results.MACHINE)
    for run in plan.runs:
        golden_results.write_run(tmp_path, plan, run, status="diverged" if run.model == "dense" else "completed")
    held = Findings(study=frames.study(gather(results, results.plans()[0])), verdicts=(), controls=())
    assert held.final("dense").empty
    assert len(held.final("moe_8x2")) == 2
    assert held.curves.groupby("model")["step"].max()["dense"] == 120


def test_mean_of_one_has_no_interval() -> None:
    assert not mean(np.array([2.0])).bounded


def test_mean_has_the_t_interval() -> None:
    found = mean(np.array([1.0, 2.0, 3.0]))
    assert found.centre == 2
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_difference_pairs_by_seed_and_ignores_the_rest() -> None:
    change = difference(pd.Series({0: 99.0, 1: 198.0, 7: 5.0}), pd.Series({0: 100.0, 1: 200.0, 3: 1.0}))
    assert change is not None
    assert change.n == 2
    assert change.centre == pytest.approx(-1.0)
    assert difference(pd.Series({0: 1.0}), pd.Series({1: 1.0})) is None


def test_exp_turns_a_log_ratio_into_a_ratio() -> None:
    assert exp(mean(np.log([2.0, 2.0]))).centre == pytest.approx(2)


def test_cost_labels_are_words() -> None:
    assert cost_label("speed.decode_step_s[batch=8]") == "decode step time, batch 8"
    assert cost_label("speed.prefill_s[tokens=64]") == "time to first token, 64 tokens"


def test_specialisation_of_separate_experts_and_of_shared_ones() -> None:
    def rows(counts: dict[tuple[str, str], int]) -> pd.DataFrame:
        cells = [("m", 0, "0", expert, domain, float(n)) for (domain, expert), n in counts.items()]
        return pd.DataFrame(cells, columns=["model", "seed", "layer", "expert", "domain", "value"])

    apart = specialisation(rows({("a", "0"): 5000, ("a", "1"): 0, ("b", "0"): 0, ("b", "1"): 5000}))
    assert apart["distance"].tolist() == [0.5, 0.5]
    assert (apart["chance"] < 0.02).all()
    alike = specialisation(rows({("a", "0"): 50, ("a", "1"): 50, ("b", "0"): 500, ("b", "1"): 500}))
    assert alike["distance"].tolist() == [0.0, 0.0]


def test_a_front_leaves_out_what_is_beaten_in_both() -> None:
    points = {"cheap": (1.0, 3.0), "beaten": (2.0, 3.5), "best": (3.0, 1.0), "as costly": (3.0, 2.0)}
    assert _front(points) == ["cheap", "best"]


# ---------------------------------------------------------------------------------------------- figures


def test_every_figure_has_a_title_with_a_finding(found: Findings) -> None:
    with settings():
        drawn = {name: draw(found) for name, draw in FIGURES.items()}
    assert drawn.pop("sweep") == "The suite has no sweep over numbers."
    assert drawn.pop("dropped") == "No run of a model with a capacity has recorded what it dropped."
    assert drawn.pop("leverage") == "The suite has no ladder of dense models."
    assert drawn.pop("tasks") == "No task has a score yet."
    assert drawn.pop("task_fronts") == "No two models whose sizes are known have scores on the same tasks."
    for name, one in drawn.items():
        assert isinstance(one, Drawn), name
        assert any(model in one.title for model in found.study.models) or any(c.isdigit() for c in one.title), name
        assert one.subtitle.endswith("."), name


def test_the_answer_title_has_the_numbers_of_the_verdict(found: Findings) -> None:
    with settings():
        drawn = FIGURES["answer"](found)
    assert isinstance(drawn, Drawn)
    verdict = next(v for v in found.verdicts if v.id == "better-per-token")
    assert effect(verdict) in drawn.title


def test_every_seed_is_drawn(found: Findings) -> None:
    with settings():
        drawn = FIGURES["answer"](found)
    assert isinstance(drawn, Drawn)
    seeds = [len(c.get_segments()) for c in drawn.figure.axes[0].collections if hasattr(c, "get_segments")]
    assert seeds == [8, 8, 8]


def test_dense_and_moe_have_their_own_hue_and_markers() -> None:
    looks = styles(golden_results.golden_plan())
    assert len({s.colour for s in looks.values()}) == 3
    assert len({s.marker for s in looks.values()}) == 3
    red, _, blue = (int(looks["moe_8x2"].colour[k : k + 2], 16) for k in (1, 3, 5))
    assert red > blue
    for name in ("dense", "dense_total"):
        red, _, blue = (int(looks[name].colour[k : k + 2], 16) for k in (1, 3, 5))
        assert blue > red


def test_labels_are_moved_apart_in_order() -> None:
    placed = spread([1.0, 1.0, 5.0, 1.01], 0.5)
    assert sorted(placed) == [placed[k] for k in sorted(range(4), key=lambda k: ([1.0, 1.0, 5.0, 1.01][k], k))]
    gaps = np.diff(sorted(placed))
    assert (gaps > 0.49).all()


# ---------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((-2.1, -2.512, -1.689, "%"), "−2.10% [−2.51, −1.69]"),
        ((1.06, 0.97, 1.17, "ratio"), "1.06× [0.97, 1.17]"),
        ((1.5, None, None, "%"), "+1.50%"),
        ((2.0, 2.0, 2.0, "ratio"), "2.00×"),
        ((1.4, 1.1, math.inf, "ratio"), "1.40× [1.10, ∞]"),
        ((-0.0016, -0.0054, 0.0022, "bits/byte"), "−0.0016 [−0.0054, 0.0022] bits/byte"),
        ((None, None, None, "%"), "–"),
    ],
)
def test_intervals_show_two_digits_of_their_half_width(args: tuple[float, float, float, str], text: str) -> None:
    assert interval(*args).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_284_000, "bytes", "1.28 MB"),
        (702e3, "FLOPs/token", "702 kFLOPs/token"),
        (0.00194, "s", "1.94 ms"),
        (33.0, "s", "33.0 s"),
        (2_410_000, "parameters", "2.41 M"),
        (999, "tokens", "999"),
        (512, "bytes", "512 B"),
        (0.0, "bytes", "0 B"),
    ],
)
def test_quantities_have_a_prefix_and_their_unit(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_a_ratio_over_an_infinite_cost_is_not_a_number(found: Findings) -> None:
    verdict = found.verdicts[-1].model_copy(update={"estimate": 0.0, "low": 0.0, "high": 1.12})
    assert effect(verdict).replace(NBSP, " ") == "not reached; at most 1.12×"


@pytest.mark.parametrize("span", [(142e3, 400e3), (1e5, 2.1e6), (0.0009, 0.0052), (0.97, 1.04)])
def test_log_ticks_are_few_and_inside(span: tuple[float, float]) -> None:
    ticks = log_ticks(*span)
    assert 1 <= len(ticks) <= 6
    assert all(span[0] <= tick <= span[1] for tick in ticks)


def test_axes_carry_no_trailing_zeros() -> None:
    assert [short(text) for text in ("1.00 M", "1.50 M", "500 k", "10.0 s", "0")] == [
        "1 M",
        "1.5 M",
        "500 k",
        "10 s",
        "0",
    ]


def test_sentences_end_and_begin() -> None:
    assert sentence("not run yet") == "Not run yet."
    assert sentence("p adjusted by Holm") == "p adjusted by Holm."


def test_a_front_has_its_costs_in_their_units(found: Findings) -> None:
    drawn = FIGURES["fronts"](found)
    assert isinstance(drawn, Drawn)
    drawn.figure.canvas.draw()
    labels = {axes.get_xlabel(): [t.get_text() for t in axes.get_xticklabels()] for axes in drawn.figure.axes}
    assert all(text.endswith("B") for text in labels["weight bytes"])
    assert not any(text.endswith("B") for text in labels["active parameters"])
