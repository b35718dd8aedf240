"""Run folders: states, the lock, records; nothing spoilt is taken for good, and what a file holds is printed safely."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moebench import store
from moebench.launch.process import child_environment
from moebench.metrics import METRICS
from moebench.store import Busy, Checkpoints, CorruptFile, JobFolder, Results, StaleRecord, UnsafeName


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = Results(tmp_path).job("run1")
    made.path.mkdir(parents=True)
    return made


def finished(folder: JobFolder) -> JobFolder:
    store.write_json(folder.path / "job.json", {"model": "dense"})
    store.append_lines(folder.path / "steps.jsonl", [{"step": 1, "loss": 3.5}])
    store.write_bytes(folder.path / "model.safetensors", bytes(range(100)))
    folder.finish("completed")
    return folder


def python(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env={**child_environment(1), **variables}, text=True, capture_output=True)


HOSTILE = "\x1b[2Jgone\nerror: none\u202e" + "x" * 100_000
"""What would clear a screen, forge a line, turn text round and fill a page."""


def test_what_a_file_holds_is_told_in_one_short_line(folder: JobFolder) -> None:
    finished(folder)
    told: list[str] = []
    entry = {"bytes": 1, "sha256": ""}
    for listed in ({HOSTILE: entry}, {"a.json": {**entry, "bytes": HOSTILE}}):
        manifest = {"status": "completed", "weights": "kept", "files": listed}
        (folder.path / "DONE").write_text(json.dumps(manifest))
        told += folder.verify()
    for row in (
        {"metric": HOSTILE},
        {"metric": HOSTILE, "value": 1},
        {"metric": f"speed.prefill_s[{HOSTILE}=1]", "value": 1},
    ):
        (folder.path / "records.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(CorruptFile) as caught:
            folder.records()
        told.append(str(caught.value))
    with pytest.raises(UnsafeName) as unsafe:
        Results(folder.path.parents[1]).job(HOSTILE)
    told.append(str(unsafe.value))
    assert len(told) == 6
    for words in told:
        assert words.isprintable()
        assert len(words) < 1000


def test_a_plan_by_a_name_that_does_not_print_is_told_escaped(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "\x1b[31mred\nplan.json").write_text("{}")
    (problem,) = Results(tmp_path).unreadable_plans()
    assert str(problem).isprintable()


# ------------------------------------------------------------------------------------------ the state of a folder


def test_a_folder_goes_from_missing_to_completed(tmp_path: Path) -> None:
    folder = Results(tmp_path).job("run1")
    assert folder.status() == "missing"
    assert not tmp_path.joinpath("jobs").exists()
    with folder.lock():
        assert folder.status() == "missing"
        store.write_json(folder.path / "job.json", {})
        assert folder.status() == "partial"
        folder.fail("oom", "MemoryError", 3, "words")
        assert folder.status() == "failed"
        folder.fail("killed", "SIGKILL")
        failure = folder.failure()
        assert failure is not None
        assert (failure["status"], failure["attempts"], failure["last_step"]) == ("killed", 2, None)
        Checkpoints(folder).save(1, b"data", {})
        finished(folder)
    assert folder.status() == "completed"
    assert folder.verify() == []
    assert folder.failure() is None
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "DONE",
        "job.json",
        "model.safetensors",
        "steps.jsonl",
    ]
    assert (folder.job_json(), folder.steps(), folder.items()) == ({"model": "dense"}, [{"step": 1, "loss": 3.5}], [])


def test_a_diverged_run_says_so_with_its_reason(folder: JobFolder) -> None:
    folder.finish("diverged", reason="loss is not a number")
    assert folder.status() == "diverged"
    manifest = folder.manifest()
    assert manifest is not None
    assert (manifest["reason"], manifest["files"], manifest["weights"]) == ("loss is not a number", {}, "kept")


@pytest.mark.parametrize("name", ["job.json", "steps.jsonl", "model.safetensors"])
def test_no_spoilt_file_passes(folder: JobFolder, name: str) -> None:
    path = finished(folder).path / name
    data = path.read_bytes()
    for at in range(0, len(data), 7):  # one bit, size unchanged: only hashing sees it
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert folder.status() == "completed"
        assert any("contents differ" in problem for problem in folder.verify())
    for spoilt in (data[:-1], b"", data + b"\n"):
        path.write_bytes(spoilt)
        assert folder.status() == "corrupt"
        assert any(name in problem for problem in folder.verify())
    path.unlink()
    assert folder.status() == "corrupt"
    path.symlink_to("/etc/hostname")
    assert folder.status() == "corrupt"
    path.unlink()
    path.write_bytes(data)
    assert folder.verify() == []


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"status": "completed"}',
        '{"status": "oom", "files": {}, "weights": "kept"}',
        '{"status": "completed", "weights": "kept", "files": {"../../x": {"sha256": "", "bytes": 0}}}',
        '{"status": "completed", "weights": "kept", "files": {"x": {"bytes": 0}}}',
        '{"status": "completed", "weights": "kept", "files": {"x": 1}}',
    ],
)
def test_a_spoilt_manifest_is_no_completion(folder: JobFolder, manifest: str) -> None:
    (folder.path / "DONE").write_text(manifest)
    assert folder.status() == "corrupt"
    assert folder.verify() != []


def test_a_manifest_cut_anywhere_is_no_completion(folder: JobFolder) -> None:
    data = (finished(folder).path / "DONE").read_bytes()
    for length in range(len(data) - 2):
        (folder.path / "DONE").write_bytes(data[:length])
        assert folder.status() == "corrupt"


def test_an_unreadable_failure_note_hides_nothing(folder: JobFolder) -> None:
    (folder.path / "FAILED.json").write_text("{")
    assert folder.status() == "partial"
    folder.fail("crash", "again")
    assert folder.status() == "failed"


def test_a_kill_before_or_after_done_leaves_a_folder_to_go_on_with(folder: JobFolder) -> None:
    code = """
import sys
from moebench.store import *
folder = Results(sys.argv[1]).job("run1")
with folder.lock():
    Checkpoints(folder).save(1, b"data", {})
    folder.finish("completed")
"""
    root = folder.path.parent.parent
    assert python(code, root, MOEBENCH_FAULT="before_done:1").returncode == -signal.SIGKILL
    assert folder.status() == "partial"
    assert Checkpoints(folder).load() == (1, b"data", {})
    assert python(code, root, MOEBENCH_FAULT="replaced:3").returncode == -signal.SIGKILL
    assert folder.status() == "completed"
    assert (folder.path / "checkpoint.json").exists()
    with folder.lock():
        assert [path.name for path in folder.path.iterdir()] == ["DONE"]


def test_a_folder_put_aside_is_missing_and_its_remains_are_numbered(folder: JobFolder) -> None:
    for number in (1, 2):
        with folder.lock():
            finished(folder)
            assert folder.quarantine().name == f"run1.corrupt-{number}"
        assert folder.status() == "missing"
    root = Results(folder.path.parent.parent)
    assert root.jobs() == []


# ------------------------------------------------------------------------------------------ the lock


HOLD = """
import sys
from moebench.store import Results
with Results(sys.argv[1]).job("run1").lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_has_one_writer_and_a_dead_one_holds_nothing(folder: JobFolder) -> None:
    root = folder.path.parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)],
        env=child_environment(1),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy), folder.lock():
            pass
        (folder.path / ".x.tmp-1").touch()
        holder.kill()
    with folder.lock(), folder.lock():  # a thread may take again what it holds
        assert list(folder.path.iterdir()) == []


# ------------------------------------------------------------------------------------------ records


def test_records_come_back_and_other_versions_are_refused(folder: JobFolder) -> None:
    path = folder.path / "records.jsonl"
    good = {"metric": "test.bits_per_byte[domain=code]", "value": 2.1, "step": 250, "version": 1}
    store.append_lines(path, [good, {"metric": "speed.train_step_s", "reason": "no clock"}])
    assert [(record.metric, record.value, record.reason) for record in folder.records()] == [
        ("test.bits_per_byte[domain=code]", 2.1, None),
        ("speed.train_step_s", None, "no clock"),
    ]
    stale = {**good, "version": METRICS["test.bits_per_byte"].version + 1}
    store.append_lines(path, [stale])
    with pytest.raises(StaleRecord, match="version 2"):
        folder.records()


@pytest.mark.parametrize(
    "row",
    [
        {"metric": "no.such_metric", "value": 1},
        {"metric": "cost.total_params"},
        {"metric": "cost.total_params", "x": 1},
    ],
)
def test_what_is_no_record_is_refused(folder: JobFolder, row: dict[str, Any]) -> None:
    store.append_lines(folder.path / "records.jsonl", [row])
    with pytest.raises(CorruptFile, match="not a record"):
        folder.records()
