"""The report of tasks, checkpoints and numbers from elsewhere: scores, pairs, fronts, origins, and what is absent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moebench import stats
from moebench.metrics import in_force
from moebench.metrics.tasks import task_metric
from moebench.reader.evidence import Evidence, Item
from moebench.reporting import FORMATS, write
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn
from moebench.reporting.figures import FIGURES
from moebench.reporting.page import sections
from moebench.reporting.sections import SECTIONS
from moebench.reporting.study import _long_rows, study
from moebench.reporting.tables import TABLES
from moebench.reporting.tasks import headline
from moebench.reporting.theme import settings
from tests.support import golden_tasks
from tests.support.builders import with_outcome
from tests.support.golden_tasks import CHANCE, ITEMS, findings_of, metric_name
from tests.test_report_figures import seen

MANY = tuple(f"{name}-{k}" if k else name for k in range(2) for name in golden_tasks.SYSTEMS)
KINDS: Mapping[str, Callable[[], Evidence]] = {
    "checkpoints": golden_tasks.checkpoints,
    "checkpoints without text": lambda: golden_tasks.checkpoints(with_text=False),
    "one checkpoint": lambda: golden_tasks.checkpoints(names=("mixtral",)),
    "many checkpoints": lambda: golden_tasks.checkpoints(names=MANY),
    "numbers that were read": golden_tasks.read,
    "all kinds": golden_tasks.mixed,
}
EASY = metric_name("arc_easy")


@pytest.fixture(scope="module")
def published() -> Findings:
    return findings_of(golden_tasks.checkpoints())


@pytest.fixture(scope="module")
def mixed() -> Findings:
    return findings_of(golden_tasks.mixed())


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made: dict[str, Path] = {}
    for kind, evidence in KINDS.items():
        made[kind] = tmp_path_factory.mktemp("page")
        found = findings_of(evidence())
        with in_force(found.plan.extra_metrics):
            write(found, made[kind], frozenset(FORMATS) - {"png"})
    return made


# ------------------------------------------------------------------------------------------ scores


def test_the_score_of_one_run_has_the_interval_of_its_items(published: Findings) -> None:
    values = np.array([item.value for item in golden_tasks.answers("olmo_7b")[EASY]])
    score = published.tasks.scores[EASY, "olmo_7b"]
    half = stats.t_quantile(0.025, ITEMS - 1) * values.std(ddof=1) / np.sqrt(ITEMS)
    assert score.mean.centre == pytest.approx(values.mean())
    assert (score.over, score.items, score.n) == ("items", ITEMS, f"{ITEMS} items")
    assert score.mean.high - score.mean.low == pytest.approx(2 * half, rel=0.4)  # exact flips beside the t interval


def test_the_score_of_several_seeds_is_their_mean_and_its_interval_the_wider_one(mixed: Findings) -> None:
    score = mixed.tasks.scores[EASY, "moe"]
    per_seed = [golden_tasks.scores(golden_tasks.answers("moe", seed))[EASY] for seed in range(8)]
    assert score.mean.centre == pytest.approx(np.mean(per_seed))
    assert score.n == f"8 seeds × {ITEMS} items"
    over_seeds = 2 * stats.t_quantile(0.025, 7) * np.std(per_seed, ddof=1) / np.sqrt(8)
    assert score.mean.high - score.mean.low > over_seeds, "questions are shared by the seeds: items scatter more"


def test_one_number_has_no_interval() -> None:
    score = findings_of(golden_tasks.read()).tasks.scores["paloma.macro_loss", "printed"]
    assert (score.mean.low, score.mean.centre, score.mean.high) == (2.90, 2.90, 2.90)
    assert score.n == "1 run"


def test_no_interval_leaves_what_a_share_can_be() -> None:
    evidence = golden_tasks.checkpoints(names=("mixtral", "olmo_1b"))
    right = tuple(Item(name=f"{n}", group="", size=1.0, value=float(n > 0)) for n in range(30))
    for model in ("mixtral", "olmo_1b"):
        run = evidence.outcome(model, 0)
        assert run is not None
        items, values = {**run.items, EASY: right}, {**run.values, EASY: 29 / 30}
        evidence = with_outcome(evidence, model, 0, items=items, values=values)
    assert findings_of(evidence).tasks.scores[EASY, "mixtral"].mean.high == 1.0


# ------------------------------------------------------------------------------------------ against the baseline


def test_items_won_and_lost_are_counted_by_hand(published: Findings) -> None:
    mine, other = ([i.value for i in golden_tasks.answers(m)[EASY]] for m in ("olmo_1b", "olmo_7b"))
    gap = published.tasks.gaps[EASY, "olmo_1b"]
    assert gap.won == sum(a > b for a, b in zip(mine, other, strict=True))
    assert gap.lost == sum(a < b for a, b in zip(mine, other, strict=True))
    assert gap.won + gap.lost + (gap.tied or 0) == ITEMS
    assert gap.verdict.estimate == pytest.approx((gap.won - gap.lost) / ITEMS)
    assert (gap.verdict.units, gap.side) == ("items", "worse")


def test_items_of_several_seeds_are_won_on_average(mixed: Findings) -> None:
    won = []
    for seed in range(8):
        mine, other = ([i.value for i in golden_tasks.answers(m, seed)[EASY]] for m in ("moe", "dense"))
        won.append(sum(a > b for a, b in zip(mine, other, strict=True)))
    assert mixed.tasks.gaps[EASY, "moe"].won == pytest.approx(np.mean(won))
    assert mixed.tasks.gaps[EASY, "moe"].verdict.units == "seeds"


def test_holm_counts_the_tasks_of_a_model(published: Findings) -> None:
    gaps = {key: gap for key, gap in published.tasks.gaps.items() if key[1] == "olmo_1b"}
    raw = {key: min(gap.verdict.p, gap.verdict.p_against) for key, gap in gaps.items()}  # type: ignore[type-var]
    assert len(raw) == len(CHANCE)
    for (key, gap), adjusted in zip(gaps.items(), stats.holm(list(raw.values())), strict=True):  # type: ignore[arg-type]
        assert gap.p == adjusted
        assert (gap.side is not None) <= (adjusted <= 0.025), key
    assert any(raw[key] <= 0.025 < gaps[key].p for key in gaps) or published.tasks.tally("olmo_1b")["worse"] >= 4  # type: ignore[operator]


def test_other_items_are_no_pair(published: Findings) -> None:
    evidence = golden_tasks.checkpoints()
    run = evidence.outcome("olmo_1b", 0)
    assert run is not None
    renamed = tuple(replace(item, name=f"other {item.name}") for item in run.items[EASY])
    found = findings_of(with_outcome(evidence, "olmo_1b", 0, items={**run.items, EASY: renamed}))
    gap = found.tasks.gaps[EASY, "olmo_1b"]
    assert (gap.won, gap.lost, gap.side, gap.verdict.state) == (None, None, None, "invalid")
    (row,) = frame_of(found).query("metric == @EASY and model == 'olmo_1b'").itertuples()
    assert pd.isna(row.difference)
    assert "different items" in row.decided


def frame_of(found: Findings) -> pd.DataFrame:
    with in_force(found.plan.extra_metrics):
        table = TABLES["tasks"](found)
    assert table is not None
    return table.frame


def test_a_task_that_the_baseline_was_not_given_is_set_against_that_of_its_claim() -> None:
    evidence = golden_tasks.checkpoints()
    task = metric_name("hellaswag")  # its claim compares with olmo_1b
    run = evidence.outcome("olmo_7b", 0)
    assert run is not None
    kept = ({name: held for name, held in of.items() if name != task} for of in (run.values, run.items))
    found = findings_of(with_outcome(evidence, "olmo_7b", 0, **dict(zip(("values", "items"), kept, strict=True))))
    assert found.tasks.others == ("olmo_7b", "olmo_1b")
    assert {found.tasks.baselines[metric_name(one)] for one in CHANCE if one != "hellaswag"} == {"olmo_7b"}
    assert found.tasks.gaps[task, "olmoe_1b_7b"].verdict.baseline == "olmo_1b"
    assert (task, "olmo_1b") not in found.tasks.gaps


def test_what_was_recorded_of_guessing_is_the_chance_of_accuracies() -> None:
    evidence = golden_tasks.checkpoints()
    facts = {name: metric.model_copy(update={"chance": None}) for name, metric in golden_tasks.metrics().items()}
    recorded = "lm_eval.chance[task=arc_easy]"
    guessing = task_metric("lm_eval.chance")
    assert guessing is not None
    plan = evidence.plan.model_copy(update={"extra_metrics": {**facts, recorded: guessing}})
    evidence = replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan}))
    for name in golden_tasks.SYSTEMS:
        run = evidence.outcome(name, 0)
        assert run is not None
        evidence = with_outcome(evidence, name, 0, values={**run.values, recorded: 0.26})
    found = findings_of(evidence).tasks
    assert {task.name: task.chance for task in found.tasks} == {**dict.fromkeys(CHANCE), "arc_easy": 0.26}
    other = with_outcome(evidence, "mixtral", 0, values={**run.values, recorded: 0.5})
    assert {task.chance for task in findings_of(other).tasks.tasks} == {None}, "of other questions"


def test_how_tasks_were_measured_is_told() -> None:
    evidence = golden_tasks.checkpoints()
    told = {metric_name(task): "0-shot, version 1" for task in CHANCE}
    for name in golden_tasks.SYSTEMS:
        evidence = with_outcome(evidence, name, 0, conditions=told)
    found = findings_of(evidence)
    assert {task.conditions for task in found.tasks.tasks} == {"0-shot, version 1"}
    with in_force(found.plan.extra_metrics):
        (tasks,) = (section for section in sections(found) if section.anchor == "tasks")
    assert "All tasks: 0-shot, version 1." in tasks.words


# ------------------------------------------------------------------------------------------ in words


def test_titles_are_findings(published: Findings, mixed: Findings) -> None:
    assert headline(published) == "olmoe_1b_7b against olmo_7b: undecided on all 6 tasks"
    assert headline(mixed) == "Against dense, of 6 tasks moe is better on 4; 2 undecided"
    read = findings_of(golden_tasks.read())
    assert re.fullmatch(
        r"On paloma\.macro_loss ours is better than theirs: −0\.0\d+\s\[.+\] nats/token", headline(read)
    )
    alone = findings_of(golden_tasks.checkpoints(names=("mixtral",)))
    assert headline(alone) == "mixtral is better than guessing on 6 of 6 tasks"


def test_where_all_guess_is_said(mixed: Findings, pages: Mapping[str, Path]) -> None:
    assert [task.name for task in mixed.tasks.at_chance()] == ["path"]
    page = (pages["all kinds"] / "index.md").read_text()
    assert "On path no model is shown to be better than guessing." in page


def test_a_front_of_scores_is_over_the_tasks_that_all_were_given(published: Findings) -> None:
    with settings(), in_force(published.plan.extra_metrics):
        drawn = FIGURES["task_fronts"](published)
    assert isinstance(drawn, Drawn)
    assert drawn.title == "olmo_1b and mixtral are on both fronts: no model beats them in both score and cost"
    assert "the mean of 6 tasks" in drawn.subtitle


@pytest.mark.parametrize("kind", ["checkpoints", "all kinds", "numbers that were read"])
def test_no_words_leave_a_figure_of_tasks(kind: str) -> None:
    found = findings_of(KINDS[kind]())
    with settings(), in_force(found.plan.extra_metrics):
        drawn = [FIGURES[name](found) for name in ("tasks", "task_fronts")]
        for one in (one for one in drawn if isinstance(one, Drawn)):
            wide, high = one.figure.get_size_inches()
            one.figure.draw_without_rendering()  # labels of axes find their places
            for words in seen(one.figure):
                assert min(words.box[:2]) > -0.01, words.text
                assert words.box[2] < wide + 0.01, words.text
                assert words.box[3] < high + 0.01, words.text


# ------------------------------------------------------------------------------------------ where it comes from


def test_origins_are_told_with_hash_format_date_and_what_is_not_verified(pages: Mapping[str, Path]) -> None:
    rows = pd.read_csv(pages["all kinds"] / "tables" / "origins.csv", dtype=str).set_index("model")
    assert list(rows.index) == ["olmoe_1b_7b", "theirs"]
    assert all(len(digest) == 64 for digest in rows["digest"])
    assert rows.loc["theirs", "format"] == "folder written by lm-eval"
    assert rows.loc["theirs", "not_verified"] == "data, tasks and prompts, tuning, hardware"
    assert rows.loc["olmoe_1b_7b", "source"] == "allenai/olmoe_1b_7b at main"
    assert set(rows["read"]) == {"18 Nov 2026"}
    page = (pages["all kinds"] / "index.md").read_text()
    assert "theirs: numbers that were measured elsewhere." in page
    assert "one of a single run is taken as given" in page


# ------------------------------------------------------------------------------------------ every kind of suite


SHOWN = {
    "checkpoints": {"equal", "elsewhere", "cost", "quality", "tasks", "place"},
    "checkpoints without text": {"equal", "elsewhere", "cost", "tasks", "place"},
    "one checkpoint": {"equal", "elsewhere", "quality", "tasks", "place"},
    "many checkpoints": {"equal", "elsewhere", "cost", "quality", "tasks", "place"},
    "numbers that were read": {"elsewhere", "tasks"},
    "all kinds": {"answer", "equal", "elsewhere", "cost", "quality", "tasks", "place", "routing"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_has_the_sections_that_a_suite_has_and_none_is_empty(kind: str, pages: Mapping[str, Path]) -> None:
    found = findings_of(KINDS[kind]())
    with in_force(found.plan.extra_metrics):
        shown = [section.anchor for section in sections(found)]
    assert set(shown) - {"sure", "untested", "limits"} == SHOWN[kind]
    assert shown == [anchor for anchor in SECTIONS if anchor in shown]
    text = (pages[kind] / "index.md").read_text()
    for body in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = body.partition("\n")
        assert rest.strip(), heading
    for word in ("nan", "None", "Traceback", "inf"):
        assert not re.search(rf"\b{word}\b", text.partition("## Provenance")[0]), word


@pytest.mark.parametrize("kind", ["many checkpoints", "all kinds", "numbers that were read"])
def test_no_two_models_share_colour_and_marker(kind: str) -> None:
    looks = findings_of(KINDS[kind]()).styles
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks)


def test_checkpoints_look_like_their_kind_and_read_models_like_none(mixed: Findings) -> None:
    assert {name: look.kind for name, look in mixed.styles.items()} == {
        "moe": "moe", "dense": "dense", "olmoe_1b_7b": "moe", "theirs": "unknown",
    }  # fmt: skip


def test_two_builds_give_the_same_bytes(pages: Mapping[str, Path], tmp_path: Path) -> None:
    found = findings_of(golden_tasks.checkpoints(with_text=False))
    with in_force(found.plan.extra_metrics):
        write(found, tmp_path, frozenset(FORMATS) - {"png"})
    for file in sorted(tmp_path.rglob("*.*")):
        assert file.read_bytes() == (pages["checkpoints without text"] / file.relative_to(tmp_path)).read_bytes(), file


def test_a_task_that_was_not_measured_says_why() -> None:
    evidence = golden_tasks.checkpoints()
    run = evidence.outcome("olmo_1b", 0)
    assert run is not None
    values = {metric: value for metric, value in run.values.items() if metric != EASY}
    items = {metric: rows for metric, rows in run.items.items() if metric != EASY}
    evidence = with_outcome(
        evidence, "olmo_1b", 0, values=values, items=items, absent={EASY: "its job failed: no data"}
    )
    found = findings_of(evidence)
    assert found.tasks.absent == {(EASY, "olmo_1b"): "its job failed: no data"}
    assert (EASY, "olmo_1b") not in found.tasks.gaps
    with in_force(found.plan.extra_metrics):
        (tasks,) = (section for section in sections(found) if section.anchor == "tasks")
    assert f"No {EASY} of olmo_1b: its job failed: no data." in tasks.words


# ------------------------------------------------------------------------------------------ frames


def test_the_long_form_has_tasks_and_the_counts_of_checkpoints() -> None:
    evidence = golden_tasks.mixed()
    with in_force(evidence.plan.extra_metrics):
        rows = pd.DataFrame([row[:8] for row in _long_rows(study(evidence))])
    rows.columns = pd.Index(["suite", "model", "seed", "metric", "value", "unit", "step", "run"])
    easy = rows[rows["metric"] == EASY]
    assert easy.groupby("model").size().to_dict() == {"moe": 8, "dense": 8, "olmoe_1b_7b": 1, "theirs": 1}
    assert set(easy["unit"]) == {"1"}
    counted = rows[(rows["model"] == "olmoe_1b_7b") & (rows["metric"] == "cost.active_params")]
    assert counted["value"].tolist() == [1_282_017_280]
