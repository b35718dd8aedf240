"""A folder is what it says it is: what was planned, the rows that were written, no more and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from moebench import store
from moebench.claims.judge import judge
from moebench.cli.commands import main
from moebench.reader.evidence import Evidence, Outcome, gather
from moebench.store import files
from tests.support import golden_results

HUGE = int("9" * 400)
Change = Callable[[dict[str, Any]], dict[str, Any]]


def evidence(root: Path) -> Evidence:
    results = store.Results(root)
    return gather(results, results.plans()[0])


def folder_of(root: Path, model: str = "moe_8x2", seed: int = 3) -> store.JobFolder:
    results = store.Results(root)
    (planned,) = [run for run in results.plans()[0].plan.runs if (run.model, run.seed) == (model, seed)]
    return results.job(planned.id)


def process_of(root: Path, index: int) -> store.JobFolder:
    return golden_results.process_folders(root, store.Results(root).plans()[0].plan)[index]


def outcome(found: Evidence, model: str = "moe_8x2", seed: int = 3) -> Outcome:
    run = found.outcome(model, seed)
    assert run is not None
    return run


def finish(folder: store.JobFolder) -> None:
    """Makes the manifest fit the files, at the same time as before."""
    finished = (folder.manifest() or {})["finished"]
    folder.finish("completed", None, "omitted")
    store.write_json(folder.path / "DONE", {**store.read_json(folder.path / "DONE"), "finished": finished})


def change_rows(folder: store.JobFolder, name: str, change: Change) -> None:
    folder = golden_results.holder(folder, name)
    rows = [change(json.loads(line)) for line in (folder.path / name).read_text().splitlines()]
    (folder.path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    finish(folder)


def change_file(folder: store.JobFolder, name: str, change: Change) -> None:
    value = change(json.loads((folder.path / name).read_text()))
    (folder.path / name).write_text(json.dumps(value))
    finish(folder)


def copy(source: store.JobFolder, target: store.JobFolder) -> None:
    shutil.rmtree(target.path)
    shutil.copytree(source.path, target.path)


def states(found: Evidence) -> dict[str, str]:
    return {verdict.id: verdict.state for verdict in judge(found)}


# ---------------------------------------------------------------------------------------------- whose run it is


def test_one_seeds_folder_copied_as_the_others_is_no_run_of_theirs(root: Path) -> None:
    for model in ("moe_8x2", "dense"):
        for seed in range(1, 8):
            copy(folder_of(root, model, 0), folder_of(root, model, seed))
    found = evidence(root)
    assert [run.status for run in found.outcomes_of(["moe_8x2"])] == ["completed"] + ["corrupt"] * 7
    assert "job.json: is of seed 0, not of the planned seed 3" in (outcome(found).reason or "")
    assert len(found.problems) == 14
    verdict = next(verdict for verdict in judge(found) if verdict.id == "better-per-token")
    assert verdict.state not in ("supported", "refuted", "inconclusive")
    assert "is corrupt" in (verdict.reason or "")


def test_another_models_folder_is_no_run_of_this(root: Path) -> None:
    copy(folder_of(root, "dense_total"), folder_of(root))
    assert "is not of the model moe_8x2 as planned" in (outcome(evidence(root)).reason or "")


def test_a_link_to_another_run_is_no_run_of_this(root: Path) -> None:
    shutil.rmtree(folder_of(root).path)
    folder_of(root).path.symlink_to(folder_of(root, seed=2).path, target_is_directory=True)
    assert "is of seed 2" in (outcome(evidence(root)).reason or "")


def test_a_run_on_other_data_or_by_other_means_is_another(root: Path) -> None:
    changes = (
        ({"data_digest": "0" * 64}, "other data"),
        ({"seed": True}, "has the id"),
        ({"torch": "1.0"}, "has the id"),
    )
    for seed, (change, why) in enumerate(changes):
        change_file(folder_of(root, seed=seed), "job.json", lambda v, c=change: merged(v, {"job": {"spec": c}}))
        assert why in (outcome(evidence(root), seed=seed).reason or "")


def test_a_copy_that_names_another_seed_is_told_by_its_tokens(root: Path) -> None:
    for seed in (4, 5):
        original = (folder_of(root, seed=seed).path / "job.json").read_text()
        copy(folder_of(root), folder_of(root, seed=seed))
        (folder_of(root, seed=seed).path / "job.json").write_text(original)
        finish(folder_of(root, seed=seed))
    found = evidence(root)
    assert [run.status for run in found.outcomes_of(["moe_8x2"])].count("corrupt") == 3, (
        "which is the copy is not known"
    )
    assert "seeds 3, 4, 5 read the same tokens in the same order" in (outcome(found).reason or "")
    assert {run.status for run in found.outcomes_of(["dense"])} == {"completed"}


def test_a_file_that_no_manifest_lists_is_not_read(root: Path) -> None:
    folder = folder_of(root)
    records = (folder.path / "records.jsonl").read_bytes()
    (folder.path / "records.jsonl").unlink()
    finish(folder)
    (folder.path / "records.jsonl").write_bytes(records)
    assert "records.jsonl: is not in the manifest" in (outcome(evidence(root)).reason or "")


# ---------------------------------------------------------------------------------------------- which rows are there


def repeated(row: dict[str, Any], key: str, value: Any) -> Change:
    return lambda found: {**found, key: value} if found == row else found


@pytest.mark.parametrize(
    ("name", "row", "why"),
    [
        ("steps.jsonl", {"step": 250, "digest": "0" * 16}, "step 250 of 240 after step 240"),
        ("steps.jsonl", {"step": 240, "digest": "0" * 16}, "step 240 of 240 after step 240"),
        ("steps.jsonl", {"step": True, "digest": "0" * 16}, "step is True, not a number"),
        ("steps.jsonl", {"step": "250", "digest": "0" * 16}, "step is '250', not a number"),
        ("records.jsonl", {"metric": "test.bits_per_byte", "value": 1.0, "step": 240}, "recorded twice at step 240"),
        ("records.jsonl", {"metric": "test.bits_per_byte", "reason": "no", "step": 240}, "recorded twice at step 240"),
        ("records.jsonl", {"metric": "train.tokens", "value": 1, "reason": "both", "step": 1}, "a value or a reason"),
        ("records.jsonl", {"metric": "train.tokens", "value": True, "step": 1}, "valid"),
        ("records.jsonl", {"metric": "train.tokens", "value": "7", "step": 1}, "valid"),
        ("records.jsonl", {"metric": "train.tokens", "value": 1, "step": 241}, "step 241 of 240"),
        ("records.jsonl", {"metric": "train.tokens", "value": 1, "step": -1}, "step -1 of 240"),
        ("records.jsonl", {"metric": "train.tokens", "value": HUGE, "step": 1}, "400 digits"),
        ("records.jsonl", {"metric": "train.tokens", "value": 1, "step": HUGE}, "400 digits"),
        ("records.jsonl", {"metric": "init.ffn_output_rms[layer=9]", "value": 1.0}, "there is no such layer"),
        ("records.jsonl", {"metric": "init.ffn_output_rms[layer=x]", "value": 1.0}, "there is no such layer"),
        ("records.jsonl", {"metric": "routing.tokens[layer=0,expert=8]", "value": 1}, "there is no such expert"),
        ("records.jsonl", {"metric": "tune.bits_per_byte[domain=law]", "value": 1.0}, "there is no such domain"),
        ("records.jsonl", {"metric": "memory.train_peak_bytes[part=count]", "value": 1}, "there is no such part"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": -5, "bits": 1.0}, "of -5 bytes: impossible"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": 0, "bits": 1.0}, "of 0 bytes: impossible"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": 5, "bits": -1.0}, "-1.0 bits of 5"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": True, "bits": 1}, "bytes is True"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": "5", "bits": 1}, "bytes is '5'"),
        ("items.jsonl", {"document": 7, "domain": "code", "bytes": 5, "bits": 1}, "document is 7, not a word"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": HUGE, "bits": 1}, "400 digits"),
        ("items.jsonl", {"document": "doc-00", "domain": "code", "bytes": 7, "bits": 1.0}, "doc-00 is there twice"),
        ("items.jsonl", {"document": "new", "domain": "code", "bytes": 9000, "bits": 9.0}, "its items give"),
        ("timed.jsonl", {"what": "train", "seconds": -1, "step_from": 0, "step_to": 9}, "impossible"),
        ("timed.jsonl", {"what": "train", "seconds": HUGE, "step_from": 0, "step_to": 9}, "400 digits"),
    ],
)
def test_a_row_that_no_run_writes_is_refused(root: Path, name: str, row: dict[str, Any], why: str) -> None:
    folder = golden_results.holder(folder_of(root), name)
    with (folder.path / name).open("a") as file:
        file.write(json.dumps({"version": 1, **row} if name == "records.jsonl" else row) + "\n")
    finish(folder)
    found = evidence(root)
    assert outcome(found).status == "corrupt"
    assert why in (outcome(found).reason or "")
    assert len(found.problems) == 1
    assert states(found)["better-per-token"] == "interim"


def test_a_run_that_ends_before_its_last_step_is_not_completed(root: Path) -> None:
    folder = folder_of(root)
    lines = (folder.path / "steps.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "steps.jsonl").write_text("".join(lines[:-1]))
    finish(folder)
    assert "ends at step 230 of 240" in (outcome(evidence(root)).reason or "")


def test_documents_add_up_to_the_records_by_domain(root: Path) -> None:
    change_rows(
        golden_results.holder(folder_of(root), "items.jsonl"),
        "records.jsonl",
        lambda row: {**row, "value": row["value"] + 0.01} if row["metric"].endswith("[domain=prose]") else row,
    )
    assert "give test.bits_per_byte[domain=prose]" in (outcome(evidence(root)).reason or "")


def test_the_last_record_counts_and_so_does_its_reason(root: Path) -> None:
    def lost(row: dict[str, Any]) -> dict[str, Any]:
        if (row["metric"], row.get("step")) != ("curve.bits_per_byte", golden_results.STEPS):
            return row
        return {"metric": row["metric"], "step": row["step"], "version": 1, "reason": "the disk was full"}

    change_rows(folder_of(root), "records.jsonl", lost)
    run = outcome(evidence(root))
    assert run.status == "completed"
    assert "curve.bits_per_byte" not in run.values
    assert "curve.bits_per_byte" not in run.curves
    assert run.absent["curve.bits_per_byte"] == "the disk was full"


# ---------------------------------------------------------------------------------------------- how much is read


def test_more_rows_than_steps_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(root)
    with (folder.path / "steps.jsonl").open("a") as file:
        for step in range(241, 20_000):
            file.write(json.dumps({"step": step, "digest": "0" * 16}) + "\n")
    finish(folder)
    parsed = []
    whole = files.parse_json
    monkeypatch.setattr(files, "parse_json", lambda *a: parsed.append(a[0].name) or whole(*a))
    assert "step 241 of 240" in (outcome(evidence(root)).reason or "")
    assert parsed.count("steps.jsonl") < 24 * 240


@pytest.mark.parametrize("name", ["steps.jsonl", "records.jsonl", "items.jsonl"])
def test_endless_rows_are_cut_off(root: Path, name: str) -> None:
    folder = golden_results.holder(folder_of(root), name)
    first = (folder.path / name).read_text().splitlines()[0]
    with (folder.path / name).open("a") as file:
        file.write((first + "\n") * 3)
        for _ in range(10):
            file.write("{}\n" * 10_000)
    finish(folder)
    assert outcome(evidence(root)).status == "corrupt"


def test_only_the_digests_that_are_compared_are_kept(root: Path) -> None:
    kept = outcome(evidence(root)).digests
    assert set(kept) == {10, *golden_results.POINTS}, "of 24 rows"


def test_digests_are_kept_where_a_run_with_the_same_seed_diverged(root: Path) -> None:
    plan = store.Results(root).plans()[0].plan
    (planned,) = [run for run in plan.runs if (run.model, run.seed) == ("dense", 3)]
    folder = folder_of(root, "dense")
    shutil.rmtree(folder.path)
    golden_results.write_run(root, plan, planned, status="diverged")
    rows = [json.loads(line) for line in (folder.path / "steps.jsonl").read_text().splitlines()][:-1]
    (folder.path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = store.read_json(folder.path / "DONE")
    folder.finish("diverged", manifest["reason"], "omitted")
    store.write_json(folder.path / "DONE", {**store.read_json(folder.path / "DONE"), "finished": manifest["finished"]})
    found = evidence(root)
    assert max(outcome(found, "dense").digests) == 110
    assert 110 in outcome(found).digests
    assert 110 not in outcome(found, seed=2).digests
    assert states(found)["better-per-token"] != "invalid"


# ---------------------------------------------------------------------------------------------- sessions and sweeps


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"process": 1}, "is of process 1 with seed 2, not of process 2 with seed 2"),
        ({"seed": 5}, "is of process 2 with seed 5, not of process 2 with seed 2"),
        ({"seed": True}, "seed: Input should be a valid integer"),
        ({"peak_flops": "9e10"}, "peak_flops: Input should be a valid number"),
        ({"peak_flops": HUGE}, "400 digits"),
        ({"samples": {"dense": {"speed.train_step_s": [HUGE]}}}, "400 digits"),
        ({"samples": {"dense": {"speed.train_step_s": [True]}}}, "valid number"),
        ({"samples": {"ghost": {"speed.train_step_s": [0.1]}}}, "times ghost, which the session does not race"),
        ({"samples": {"dense": {"speed.\x1b[2J": [0.1]}}}, r"\x1b[2J"),
        ({"samples": {"dense": {"speed.decode_step_s[batch=7]": [0.1]}}}, "there is no such batch"),
        ({"samples": {"dense": {"test.bits_per_byte": [0.1]}}}, "test.bits_per_byte is not timed"),
        ({"runs": {"dense": "0" * 20}}, "loaded other runs than planned"),
    ],
)
def test_a_process_is_that_of_its_place_in_the_session(root: Path, change: dict[str, Any], why: str) -> None:
    change_file(process_of(root, 2), "process.json", lambda value: {**value, **change})
    found = evidence(root)
    assert [process.process for process in found.processes] == [0, 1, 3, 4, 5]
    assert why in found.unread[2]
    assert any("speed process 2" in problem for problem in found.problems)
    verdict = next(verdict for verdict in judge(found) if verdict.id == "decodes-as-fast")
    assert verdict.state == "interim"
    assert "process 2: does not read: " in (verdict.reason or "")
    assert any("process 2: does not read: " in note for note in verdict.notes)


def test_one_process_copied_as_the_others_is_one_process(root: Path) -> None:
    for index in range(1, 6):
        shutil.copy(process_of(root, 0).path / "process.json", process_of(root, index).path / "process.json")
        finish(process_of(root, index))
    assert [process.process for process in evidence(root).processes] == [0]


def test_a_session_of_another_plan_is_not_this_one(root: Path) -> None:
    session = {"job": {"spec": {"session": {"baseline": "dense_total"}}}}
    for index in range(6):
        change_file(process_of(root, index), "job.json", lambda value: merged(value, session))
    found = evidence(root)
    assert found.processes == ()
    assert "a copy of another" in (found.speed_reason or "")


@pytest.mark.parametrize("value", [True, "1", HUGE, -1.0])
def test_a_sweep_holds_numbers_that_can_be(root: Path, value: object) -> None:
    tune = store.Results(root).plans()[0].plan.tune
    assert tune is not None

    def change(summary: dict[str, Any]) -> dict[str, Any]:
        summary["models"]["dense"]["curve"][0]["bits_per_byte"] = value
        return summary

    change_file(store.Results(root).tune(tune.id), "tune.json", change)
    found = evidence(root)
    assert found.tuned == {}
    assert any("learning-rate sweep" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("told", "why"),
    [({"best_lr": 1.0}, "not that of its losses"), ({"best_lr": None}, "not that of its losses"), ({}, "inside")],
)
def test_the_best_rate_of_a_sweep_is_that_of_its_losses(root: Path, told: dict[str, Any], why: str) -> None:
    """Nor does it lie inside because the file says so."""
    tune = store.Results(root).plans()[0].plan.tune
    assert tune is not None

    def change(summary: dict[str, Any]) -> dict[str, Any]:
        dense = summary["models"]["dense"]
        for point in dense["curve"] if not told else ():
            point["bits_per_byte"] = 3.0 + point["lr"]
        lowest = {"best_lr": min(point["lr"] for point in dense["curve"])}
        dense.update({"interior": True, **lowest, **told})
        return summary

    change_file(store.Results(root).tune(tune.id), "tune.json", change)
    found = evidence(root)
    assert found.tuned == {}
    assert any(why in problem for problem in found.problems)


def test_a_sweep_of_other_rates_is_not_this_one(root: Path) -> None:
    tune = store.Results(root).plans()[0].plan.tune
    assert tune is not None
    change_file(
        store.Results(root).tune(tune.id),
        "tune.json",
        lambda value: {**value, "plan": {**value["plan"], "lrs": [1e-3, 2e-3]}},
    )
    assert any("of another sweep than planned" in problem for problem in evidence(root).problems)


# ---------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    "change",
    [
        {"stored_at": HUGE},
        {"stored_at": True},
        {"plan": {"speed": {"seconds": HUGE}}},
        {"plan": {"jobs": [{"kind": "train", "model": "dense", "seed": 10**29, "id": "0" * 20}]}},
        {"plan": {"jobs": [{"kind": "train", "model": "dense", "seed": True, "id": "0" * 20}]}},
        {"plan": {"jobs": [{"kind": "train", "model": "ghost", "seed": 1, "id": "0" * 20}]}},
        {"plan": {"speed": {"models": ["ghost"], "baseline": "ghost"}}},
    ],
)
def test_a_plan_that_none_would_store_is_passed_over(root: Path, change: dict[str, Any]) -> None:
    path = next((root / "plans").glob("*.json"))
    path.write_text(json.dumps(merged(json.loads(path.read_text()), change)))
    results = store.Results(root)
    assert results.plans() == []
    (problem,) = results.unreadable_plans()
    assert str(problem).isprintable()


def merged(value: Any, change: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(change, dict):
        return change
    return {**value, **{key: merged(value.get(key), inner) for key, inner in change.items()}}


# ---------------------------------------------------------------------------------------------- what commands answer


@pytest.mark.parametrize(
    "name",
    [
        "plans/*.json",
        "jobs/*/job.json",
        "jobs/*/records.jsonl",
        "jobs/*/steps.jsonl",
        "jobs/*/items.jsonl",
        "jobs/*/timed.jsonl",
        "jobs/*/DONE",
        "jobs/*/process.json",
        "tune/*/tune.json",
    ],
)
def test_a_number_of_400_digits_is_no_end_of_a_command(root: Path, tmp_path: Path, name: str) -> None:
    path = sorted(root.glob(name))[0]
    text = path.read_text()
    number = re.search(r"(?<=[\s])[0-9]+(?=[,}\n])", text)
    assert number is not None
    path.write_text(text[: number.start()] + "9" * 400 + text[number.end() :])
    if path.name != "DONE" and path.parent.name != "plans":
        finish(store.JobFolder(path.parent))
    only_plan = path.parent.name == "plans"
    commands = {
        "report": ["--results", str(root), "--out", str(tmp_path / "out"), "--format", "json"],
        "compare": [str(root), str(root)],
        "reference": ["golden", "--results", str(root), "--to", str(tmp_path / "copy")],
    }
    for command, arguments in commands.items():
        done = CliRunner().invoke(main, [command, *arguments])
        assert isinstance(done.exception, SystemExit | None), command
        assert done.exit_code == 2 if only_plan else done.exit_code in (0, 2), (command, done.output)
