"""Reference copies of results."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from moebench import store
from moebench.planning.types import Plan
from moebench.store import CorruptFile, Results
from tests.support import golden_results


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    root = tmp_path_factory.mktemp("golden")
    return root, golden_results.write(root, seeds=2)


def test_a_reference_copy_is_whole_without_weights_and_copied_once(golden: tuple[Path, Plan], tmp_path: Path) -> None:
    root, plan = golden
    source, target = Results(root), Results(tmp_path / "reference")
    with source.job(plan.runs[0].id).lock():
        store.write_bytes(source.job(plan.runs[0].id).path / "model.safetensors", bytes(1000))
        source.job(plan.runs[0].id).finish("completed")
    written = store.export_reference(root, source.plans(), target.root)
    assert store.export_reference(root, source.plans(), target.root) == []
    assert {path for path in target.root.rglob("*") if path.is_file()} == set(written)
    assert target.plans() == source.plans()
    copied = target.job(plan.runs[0].id)
    manifest = copied.manifest()
    assert manifest is not None
    assert manifest["weights"] == "omitted"
    assert manifest["files"]["model.safetensors"]["sha256"] == hashlib.sha256(bytes(1000)).hexdigest()
    for run in plan.runs:
        assert (target.job(run.id).status(), target.job(run.id).verify()) == ("completed", [])
        last = max(record.step or 0 for record in source.job(run.id).records())
        assert target.job(run.id).records() == [
            record
            for record in source.job(run.id).records()
            if not record.metric.startswith("routing.tokens[") or record.step == last
        ]
        assert not (target.job(run.id).path / "model.safetensors").exists()
    assert plan.speed is not None
    assert target.speed(plan.speed.id).verify() == []
    assert plan.tune is not None
    assert json.loads((target.tune(plan.tune.id).path / "tune.json").read_text())


def test_of_the_steps_a_copy_keeps_those_that_were_evaluated(golden: tuple[Path, Plan], tmp_path: Path) -> None:
    root, plan = golden
    source, target = Results(root), Results(tmp_path / "reference")
    store.export_reference(root, source.plans(), target.root)
    here, there = source.job(plan.runs[1].id), target.job(plan.runs[1].id)
    points = set(plan.models[plan.runs[1].model].recipe.evaluate_at)
    assert there.steps() == [row for row in here.steps() if row["step"] in points]
    assert 0 < len(there.steps()) < len(here.steps())
    manifest = there.manifest()
    assert manifest is not None
    original = hashlib.sha256((here.path / "steps.jsonl").read_bytes()).hexdigest()
    assert manifest["thinned_from"]["steps.jsonl"]["sha256"] == original


def test_a_spoilt_run_is_not_copied_and_a_failed_one_only_as_its_failure(
    golden: tuple[Path, Plan], tmp_path: Path
) -> None:
    plan = golden_results.write(tmp_path / "source", seeds=1)
    source, target = Results(tmp_path / "source"), Results(tmp_path / "target")
    failed, spoilt = source.job(plan.runs[0].id), source.job(plan.runs[1].id)
    (failed.path / "DONE").unlink()
    failed.fail("oom", "MemoryError", 7)
    store.export_reference(source.root, source.plans(), target.root)
    assert target.job(failed.id).status() == "failed"
    assert not (target.job(failed.id).path / "steps.jsonl").exists()
    (spoilt.path / "items.jsonl").write_text("{}\n")
    with pytest.raises(CorruptFile, match=spoilt.id):
        store.export_reference(source.root, source.plans(), target.root)


@pytest.mark.parametrize(("name", "row"), [("steps.jsonl", {}), ("records.jsonl", {"metric": "train.tokens"})])
def test_rows_that_no_run_writes_are_not_copied(
    golden: tuple[Path, Plan], tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    root, plan = golden
    shutil.copytree(root, tmp_path / "source")
    folder = Results(tmp_path / "source").job(plan.runs[0].id)
    store.append_lines(folder.path / name, [row])
    folder.finish("completed", None, "omitted")
    with pytest.raises(CorruptFile, match=name):
        store.export_reference(tmp_path / "source", Results(root).plans(), tmp_path / "copy")
