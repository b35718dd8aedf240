"""Comparing two results folders: what changed, how sure that is, and when a gate closes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from moebench.cli.commands import main
from moebench.planning.types import Plan
from moebench.reporting.compare import QUALITY, Row, compare_folders, comparison_text
from moebench.store import CorruptFile, JobFolder, Results, read_json, read_lines, write_json
from tests.support import golden_results


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    root = tmp_path_factory.mktemp("compare") / "a"
    return root, golden_results.write(root, seeds=8)


@pytest.fixture
def two(golden: tuple[Path, Plan], tmp_path: Path) -> tuple[Path, Path, Plan]:
    root, plan = golden
    shutil.copytree(root, tmp_path / "b")
    return root, tmp_path / "b", plan


def quality_of(root: Path, plan: Plan, run_id: str) -> JobFolder:
    """The job that measured a run's quality."""
    return Results(root).job(next(one.id for one in plan.evaluations[run_id] if one.measurement == "quality"))


def change_quality(root: Path, plan: Plan, model: str, by: Callable[[int, float], float]) -> None:
    for planned in plan.runs:
        if planned.model != model:
            continue
        folder = quality_of(root, plan, planned.id)
        records, items = folder.path / "records.jsonl", folder.path / "items.jsonl"
        rows = read_lines(records)
        value = next(row["value"] for row in rows if row["metric"] == QUALITY)
        factor = by(planned.seed, value) / value
        for row in rows:
            if row["metric"].startswith(QUALITY):
                row["value"] *= factor
        records.write_text("".join(json.dumps(row) + "\n" for row in rows))
        documents = [{**row, "bits": row["bits"] * factor} for row in read_lines(items)]
        items.write_text("".join(json.dumps(row) + "\n" for row in documents))
        folder.finish("completed")


def change_times(root: Path, plan: Plan, model: str, factor: float) -> None:
    for folder in golden_results.process_folders(root, plan):
        path = folder.path / "process.json"
        value = read_json(path)
        samples = value["samples"][model]
        value["samples"][model] = {metric: [factor * s for s in seconds] for metric, seconds in samples.items()}
        write_json(path, value)
        folder.finish("completed")


def rows_of(rows: list[Row], model: str, metric: str) -> Row:
    (row,) = [row for row in rows if (row.model, row.metric) == (model, metric)]
    return row


def test_a_folder_is_identical_to_its_copy(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    rows = compare_folders(a, b, fail_above=0.0)
    assert {row.change for row in rows} == {0.0}
    assert not any(row.failed or row.note for row in rows)
    for model in plan.models:
        metrics = {row.metric for row in rows if row.model == model}
        assert {QUALITY, "cost.total_params", "cost.train_flops_per_token", "speed.train_step_s"} <= metrics
    assert "none changed" in comparison_text(rows)


def test_quality_is_a_paired_interval_of_log_ratios_over_seeds(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    model = plan.runs[0].model
    change_quality(b, plan, model, lambda seed, value: value * (1.03 if seed % 2 else 1.01))
    row = rows_of(compare_folders(a, b), model, QUALITY)
    logs = [math.log(1.03 if seed % 2 else 1.01) for seed in range(8)]
    centre = sum(logs) / 8
    half = 2.364624 * math.sqrt(sum((x - centre) ** 2 for x in logs) / 7 / 8)  # t(0.975, 7)
    assert row.n == 8
    assert row.change == pytest.approx(100 * (math.exp(centre) - 1))
    assert row.low == pytest.approx(100 * (math.exp(centre - half) - 1), rel=1e-5)
    assert row.high == pytest.approx(100 * (math.exp(centre + half) - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("factors", "fails"),
    [((1.02, 1.02), True), ((1.005, 1.005), False), ((1.03, 0.995), False), ((0.9, 0.9), False)],
    ids=["worse", "a little worse", "uncertain", "better"],
)
def test_the_gate_closes_when_the_whole_interval_is_worse(
    two: tuple[Path, Path, Plan], factors: tuple[float, float], fails: bool
) -> None:
    a, b, plan = two
    change_quality(b, plan, "dense", lambda seed, value: value * factors[seed % 2])
    rows = compare_folders(a, b, fail_above=1.0)
    assert rows_of(rows, "dense", QUALITY).failed is fails
    assert sum(row.failed for row in rows) == fails
    assert not any(row.failed for row in compare_folders(a, b))


def test_timings_are_compared_as_independent_sessions(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    change_times(b, plan, "moe_8x2", 1.5)
    rows = compare_folders(a, b, fail_above=5.0)
    row = rows_of(rows, "moe_8x2", "speed.train_step_s")
    assert row.failed
    assert row.change == pytest.approx(50.0)
    assert row.low is not None
    assert 5 < row.low < 50  # not a point: each session has its own processes
    assert not rows_of(rows, "dense", "speed.train_step_s").failed


def test_higher_is_better_where_the_metric_says_so() -> None:
    usual: dict[str, Any] = {"suite": "s", "model": "m", "unit": "1", "change": -10.0, "low": -12.0, "high": -8.0}
    assert Row(metric="speed.train_utilisation", better="higher", **usual).worse_by() == 8.0
    assert Row(metric=QUALITY, better="lower", **usual).worse_by() == -12.0


def test_timings_of_another_machine_are_shown_and_not_judged(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    for folder in golden_results.process_folders(b, plan):
        path = folder.path / "process.json"
        value = read_json(path)
        value["environment"]["machine"] = "another"
        write_json(path, value)
        folder.finish("completed")
    row = rows_of(compare_folders(a, b, fail_above=0.0), "dense", "speed.train_step_s")
    assert (row.change, row.note, row.failed) == (None, "timed on different machines", False)


def test_runs_missing_in_b_are_told_and_keep_the_gate_shut(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    gone = [planned for planned in plan.runs if planned.model == "dense" and planned.seed >= 5]
    for planned in gone:
        shutil.rmtree(Results(b).job(planned.id).path)
    row = rows_of(compare_folders(a, b, fail_above=1.0), "dense", QUALITY)
    assert (row.n, row.note, row.failed) == (5, "3 of A's 8 runs are not completed in B", True)
    assert not any(row.failed for row in compare_folders(b, a, fail_above=1.0))


def test_nothing_in_b_and_one_pair_give_no_interval(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    for planned in plan.runs:
        if planned.model == "dense" and planned.seed > 0:
            shutil.rmtree(Results(b).job(planned.id).path)
        if planned.model == "dense_total":
            shutil.rmtree(Results(b).job(planned.id).path)
    rows = compare_folders(a, b)
    one, none = rows_of(rows, "dense", QUALITY), rows_of(rows, "dense_total", QUALITY)
    assert (one.n, one.change, one.low) == (1, 0.0, None)
    assert (none.n, none.change, none.lost) == (0, None, True)


def test_different_test_text_is_not_compared(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    planned = next(planned for planned in plan.runs if planned.model == "dense")
    folder = Results(b).job(planned.id)
    value = folder.job_json()
    value["data_splits"]["test"]["digest"] = "other"
    write_json(folder.path / "job.json", value)
    folder.finish("completed")
    row = rows_of(compare_folders(a, b, fail_above=100.0), "dense", QUALITY)
    assert (row.change, row.note, row.failed) == (None, "tested on different text", True)


def test_half_of_the_test_text_is_not_compared_with_all_of_it(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    for planned in plan.runs:
        folder = quality_of(b, plan, planned.id)
        halves = [
            {**row, "bytes": row["bytes"] // 2, "bits": row["bits"] / 2}
            for row in read_lines(folder.path / "items.jsonl")
        ]
        (folder.path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in halves))
        folder.finish("completed")
    row = rows_of(compare_folders(a, b, fail_above=100.0), "dense", QUALITY)
    assert (row.change, row.note, row.failed) == (None, "scored on other parts of the test text", True)


def test_a_suite_missing_in_b_is_told_and_keeps_the_gate_shut(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    spec = plan.spec.model_copy(update={"suite": "another"})
    Results(b).save_plan(plan.model_copy(update={"suite": "another", "spec": spec}), golden_results.MACHINE)
    assert not any(row.failed for row in compare_folders(b, a))
    lost = [row for row in compare_folders(b, a, fail_above=1.0) if row.failed]
    assert [(row.suite, row.model, row.note) for row in lost] == [
        ("another", model, "no such suite in B") for model in plan.models
    ]
    assert not any(row.failed for row in compare_folders(a, b, fail_above=1.0))


def test_folders_without_a_common_suite_are_refused(golden: tuple[Path, Plan], tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"no suite in common: .* holds .*, .* holds none"):
        compare_folders(golden[0], tmp_path)


def test_the_command_is_a_gate(two: tuple[Path, Path, Plan]) -> None:
    a, b, plan = two
    change_quality(b, plan, "dense", lambda _, value: 1.05 * value)
    calm = CliRunner().invoke(main, ["compare", str(a), str(b)])
    shut = CliRunner().invoke(main, ["compare", str(a), str(b), "--fail-above", "1", "--json"])
    assert (calm.exit_code, shut.exit_code) == (0, 1)
    assert "+5.00%" in calm.stdout
    rows = json.loads(shut.stdout)
    assert [row["model"] for row in rows if row["failed"]] == ["dense"]
    assert "1 FAILED" in CliRunner().invoke(main, ["compare", str(a), str(b), "--fail-above", "1"]).stdout


def test_the_command_refuses_folders_that_hold_nothing(golden: tuple[Path, Plan], tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["compare", str(golden[0]), str(tmp_path)])
    assert found.exit_code == 2
    assert found.stdout == ""
    assert "no suite in common" in found.stderr
