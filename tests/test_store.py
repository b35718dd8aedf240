"""The results folder: files absent, old or new, never half; run folders, checkpoints and stored plans; nothing
spoilt is taken for good.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench import store
from moebench.identity import digest_of
from moebench.launch.process import child_environment
from moebench.metrics import METRICS
from moebench.store import Busy, Checkpoints, CorruptFile, JobFolder, Results, StaleRecord, UnsafeName, files
from moebench.store.files import FAULT_POINTS, sweep
from tests.support import golden_results


def python(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env={**child_environment(1), **variables}, text=True, capture_output=True)


# ------------------------------------------------------------------------------------------ whole files


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_the_fault_hook_kills_at_the_point_it_names_and_nowhere_else(tmp_path: Path, point: str) -> None:
    code = """
import sys
from moebench.store.files import FAULT_POINTS, fault
for point in (*FAULT_POINTS, sys.argv[1]):
    fault(point)
print("lived")
"""
    assert python(code, point, MOEBENCH_FAULT=f"{point}:2").returncode == -signal.SIGKILL
    assert python(code, point, MOEBENCH_FAULT=f"{point}:3").stdout == "lived\n"


@pytest.mark.parametrize(("point", "expected"), [("tmp_written", "old"), ("replaced", "new")])
def test_a_killed_writer_leaves_the_old_file_or_the_new(tmp_path: Path, point: str, expected: str) -> None:
    path = tmp_path / "file.json"
    store.write_json(path, "old")
    code = "import sys, pathlib; from moebench import store; store.write_json(pathlib.Path(sys.argv[1]), 'new')"
    assert python(code, path, MOEBENCH_FAULT=f"{point}:1").returncode == -signal.SIGKILL
    assert store.read_json(path) == expected
    sweep(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["file.json"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    store.write_bytes(path, b"old")
    code = """
import pathlib, resource, sys
from moebench import store
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path = pathlib.Path(sys.argv[1])
for write in (lambda: store.write_bytes(path, bytes(2000)),
              lambda: store.append_lines(path.with_name("rows"), [{"row": "x" * 2000}])):
    try:
        write()
    except OSError as error:
        print(error.errno)
"""
    store.append_lines(tmp_path / "rows", [{"row": 1}])
    assert python(code, path).stdout == "27\n27\n"
    assert path.read_bytes() == b"old"
    assert (tmp_path / "rows").read_bytes() == b'{"row": 1}\n'
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file", "rows"]


def test_writing_replaces_a_link_and_never_writes_through_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "link").symlink_to(outside)
    store.write_bytes(tmp_path / "link", b"new")
    (tmp_path / "rows").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link"):
        store.append_lines(tmp_path / "rows", [{"row": 1}])
    assert outside.read_text() == "mine"
    assert not (tmp_path / "link").is_symlink()


# ------------------------------------------------------------------------------------------ rows


def test_rows_come_back_and_a_torn_last_row_is_left_out_and_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert store.read_lines(path) == []
    store.append_lines(path, [{"a": 1}, {"a": "\n \u2028 é"}])
    whole = path.read_bytes()
    for torn in (b"{", b'{"a": 3}', b"\x00" * 70000, b"\xff"):  # the second is whole but for its newline
        path.write_bytes(whole + torn)
        assert store.read_lines(path) == [{"a": 1}, {"a": "\n \u2028 é"}]
        store.append_lines(path, [{"a": 4}])
        assert path.read_bytes() == whole + b'{"a": 4}\n'


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(0, 60),
    rows=st.lists(st.dictionaries(st.text(max_size=3), st.integers(-(2**62), 2**62)), max_size=4),
)
def test_cut_anywhere_the_whole_rows_are_still_there(
    tmp_path_factory: Any, cut: int, rows: list[dict[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.touch()
    store.append_lines(path, rows)
    left = path.read_bytes()[:cut]
    path.write_bytes(left)
    assert store.read_lines(path) == rows[: left.count(b"\n")]
    store.append_lines(path, [{"after": 1}])
    assert store.read_lines(path) == [*rows[: left.count(b"\n")], {"after": 1}]


@pytest.mark.parametrize("bad", [b"{", b"[1]", b"7", b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b""])
def test_a_bad_row_that_is_not_the_last_is_refused_by_its_line(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + bad + b'\n{"a": 2}\n')
    with pytest.raises(CorruptFile, match="line 2"):
        store.read_lines(path)


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400, "1" * 31, "1e400"])
def test_a_number_of_absurd_size_is_refused_in_any_file(tmp_path: Path, number: str) -> None:
    path = tmp_path / "file"
    path.write_text(f'{{"a": {number}}}\n')
    for read in (store.read_json, store.read_lines):
        with pytest.raises(CorruptFile, match=r"digits|overflows"):
            read(path)


def test_a_whole_number_that_64_bits_do_not_hold_is_a_double(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(f"[{2**63 - 1}, {2**63}, {-(2**70)}]")
    assert store.read_json(path) == [2**63 - 1, 2.0**63, -(2.0**70)]
    assert [type(value) for value in store.read_json(path)] == [int, float, float]


def test_rows_are_read_one_by_one_and_no_more_than_there_can_be(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 3 + b"not read\n")
    rows = store.each_row(path, most=3)
    assert [next(rows) for _ in range(3)] == [{"a": 1}] * 3
    with pytest.raises(CorruptFile, match="more rows than 3"):
        next(rows)


def test_a_row_longer_than_any_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "' + b"x" * files.MAX_ROW_BYTES + b'"}\n')
    rows = store.each_row(path)
    next(rows)
    with pytest.raises(CorruptFile, match=r"line 2: longer than 65,536 bytes"):
        next(rows)


def test_rows_are_cut_back_and_the_kept_ones_keep_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step":1}\n{"step" : 2}\n{"step":3}\n{"st')
    store.keep_lines(path, lambda row: row["step"] <= 2)
    assert path.read_bytes() == b'{"step":1}\n{"step" : 2}\n'
    before = path.stat().st_mtime_ns
    store.keep_lines(path, lambda _: True)
    assert path.stat().st_mtime_ns == before
    store.keep_lines(tmp_path / "absent", lambda _: True)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_written(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_json(tmp_path / "file", {"value": bad})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append_lines(tmp_path / "rows", [{"value": bad}])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ reading what others wrote


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        '{"a": Infinity}',
        '{"a": -Infinity}',
        "1e999",
        "[" * 100_000,
        "1" * 5000,
        "\x80\x04.",
        "{'a': 1}",
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptFile, match="not valid JSON"):
        store.read_json(path)


def test_links_pipes_folders_and_absurd_sizes_are_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10**12)
    for name in ("link", "pipe", "folder", "huge"):
        with pytest.raises(CorruptFile):
            store.read_json(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\x00b", "a" * 65, "x.corrupt-1", "a\n"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    for kind in (Results(tmp_path).job, Results(tmp_path).tune):
        with pytest.raises(UnsafeName):
            kind(name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "inner").mkdir(parents=True)
    (root / "jobs").mkdir(parents=True)
    (root / "jobs" / "run1").symlink_to(outside)
    (root / "tune").symlink_to(outside)
    for find in (lambda: Results(root).job("run1"), lambda: Results(root).tune("inner"), lambda: Results(root).jobs()):
        with pytest.raises(UnsafeName, match="outside"):
            find()


# ----------------------------------------------------------------------------------------------------
# Run folders: states, the lock, records; nothing spoilt is taken for good, and what a file holds is printed safely.


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


# ----------------------------------------------------------------------------------------------------
# Checkpoints of a run: the last two are kept, a spoilt one is put aside.


def test_the_last_two_checkpoints_are_kept(folder: JobFolder) -> None:
    checkpoints = Checkpoints(folder)
    assert checkpoints.load() is None
    for step in (5, 10, 15):
        checkpoints.save(step, b"state %d" % step, {"rows": step})
    assert checkpoints.load() == (15, b"state 15", {"rows": 15})
    names = sorted(path.name for path in folder.path.iterdir())
    assert names == ["checkpoint-10.safetensors", "checkpoint-15.safetensors", "checkpoint.json"]


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: b"", lambda d: bytes([d[0] ^ 1]) + d[1:], None])
def test_a_spoilt_checkpoint_is_put_aside_and_the_one_before_is_used(folder: JobFolder, spoil: Any) -> None:
    checkpoints = Checkpoints(folder)
    for step in (5, 10):
        checkpoints.save(step, b"state %d" % step, {})
    newest = folder.path / "checkpoint-10.safetensors"
    if spoil is None:
        newest.unlink()
    else:
        newest.write_bytes(spoil(newest.read_bytes()))
    assert checkpoints.load() == (5, b"state 5", {})
    assert newest.with_name(newest.name + ".corrupt-1").exists() == (spoil is not None)
    checkpoints.save(10, b"state 10", {})
    assert checkpoints.load() == (10, b"state 10", {})
    folder.finish("completed")
    assert [path.name for path in folder.path.iterdir()] == ["DONE"]


def test_no_flipped_bit_in_the_list_of_checkpoints_passes(folder: JobFolder) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.save(5, b"state 5", {"rows": 123})
    index = folder.path / "checkpoint.json"
    data = index.read_bytes()
    found = []
    for at in range(len(data)):
        index.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found.append(checkpoints.load())
    # white space may change without harm; whatever loads is what was saved
    assert set(map(str, found)) <= {str(None), str((5, b"state 5", {"rows": 123}))}
    assert found.count(None) > len(data) * 3 // 4


@pytest.mark.parametrize(
    "wrong", [{"file": "../../precious"}, {"file": "model.safetensors"}, {"file": 7}, {"step": "5"}, {"meta": None}]
)
def test_a_list_of_checkpoints_that_names_another_file_touches_none(folder: JobFolder, wrong: dict[str, Any]) -> None:
    """Anyone can seal a list; a file that does not fit its hash would be put aside."""
    precious = folder.path.parents[1] / "precious"
    for path in (precious, folder.path / "model.safetensors"):
        path.write_bytes(b"mine")
    entry = {"step": 5, "file": "checkpoint-5.safetensors", "sha256": "0", "meta": {}, **wrong}
    store.write_json(folder.path / "checkpoint.json", {"checkpoints": [entry], "seal": digest_of([entry], length=64)})
    assert Checkpoints(folder).load() is None
    assert precious.read_bytes() == (folder.path / "model.safetensors").read_bytes() == b"mine"


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.save(5, b"state 5", {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(10, b"state 10", {})
    monkeypatch.undo()
    assert checkpoints.load() == (5, b"state 5", {})
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoint-5.safetensors", "checkpoint.json"]


# ----------------------------------------------------------------------------------------------------
# Stored plans: their texts, their times, and those that do not read.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_storing_a_plan_again_touches_nothing(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    first = results.save_plan(plan, golden_results.MACHINE)
    path = results.plan_path(plan)
    assert path.name == f"{plan.suite}@default-{plan.id}.json"
    before = path.stat().st_mtime_ns
    clock[0] = 2000.0
    assert results.save_plan(plan, golden_results.MACHINE.model_copy(update={"git": "other"})) == first
    assert path.stat().st_mtime_ns == before
    assert results.plans() == [first]
    assert (first.stored_at, set(first.claims_first_stored.values())) == (1000.0, {1000.0})


def test_a_changed_text_is_stored_under_the_first_times(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    results.save_plan(plan, golden_results.MACHINE)
    clock[0] = 2000.0
    reworded = plan.model_copy(update={"warnings": ("mind the gap",)})
    stored = results.save_plan(reworded, golden_results.MACHINE)
    assert (stored.plan.warnings, stored.stored_at) == (("mind the gap",), 1000.0)
    assert results.plans() == [stored]


def test_a_claim_is_dated_by_the_first_plan_that_made_it(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    early, late = dict(list(plan.claim_hashes.items())[:1]), plan.claim_hashes
    results.save_plan(plan.model_copy(update={"claim_hashes": early}), golden_results.MACHINE)
    clock[0] = 2000.0
    stored = results.save_plan(plan, golden_results.MACHINE)
    dates = {claim: stored.claims_first_stored[hashed] for claim, hashed in late.items()}
    assert {claim: at for claim, at in dates.items() if claim in early} == dict.fromkeys(early, 1000.0)
    assert {at for claim, at in dates.items() if claim not in early} == {2000.0}
    assert [one.stored_at for one in results.plans(plan.suite)] == [2000.0, 1000.0]
    assert results.plans("another") == []


@pytest.mark.parametrize("text", ["{", "{}", '{"plan": 1}'])
def test_a_spoilt_plan_is_passed_over_and_told_by_name(tmp_path: Path, text: str) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "x@default-1.json").write_text(text)
    stored = results.save_plan(plan, golden_results.MACHINE)
    assert results.plans() == [stored]
    (problem,) = results.unreadable_plans()
    assert "x@default-1.json" in str(problem)


def test_a_plan_takes_the_place_of_a_spoilt_one_which_is_kept(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    path = results.plan_path(plan)
    path.parent.mkdir()
    path.write_text("{")
    assert results.plans() == []
    stored = results.save_plan(plan, golden_results.MACHINE)
    assert results.plans() == [stored]
    assert path.with_name(path.name + ".unreadable").read_text() == "{"
