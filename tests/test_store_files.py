"""Files of the results folder: absent, old or new, never half; what others wrote is not trusted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench import store
from moebench.launch.process import child_environment
from moebench.store import CorruptFile, Results, UnsafeName, files
from moebench.store.files import FAULT_POINTS, sweep


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
    for kind in (Results(tmp_path).job, Results(tmp_path).speed, Results(tmp_path).tune):
        with pytest.raises(UnsafeName):
            kind(name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "inner").mkdir(parents=True)
    (root / "jobs").mkdir(parents=True)
    (root / "jobs" / "run1").symlink_to(outside)
    (root / "speed").symlink_to(outside)
    for find in (lambda: Results(root).job("run1"), lambda: Results(root).speed("inner"), lambda: Results(root).jobs()):
        with pytest.raises(UnsafeName, match="outside"):
            find()
