"""Checkpoints of a run: the last two are kept, a spoilt one is put aside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from moebench import store
from moebench.identity import digest_of
from moebench.store import Checkpoints, JobFolder, Results


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = Results(tmp_path).job("run1")
    made.path.mkdir(parents=True)
    return made


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
