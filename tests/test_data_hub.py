"""Data sets of the hub: saved, in its cache or in that of `datasets`, they are the same data; nothing is fetched."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from moebench.data import DataError, Text
from moebench.data.prepare import prepare
from moebench.data.sources.hub import HubData
from tests.support.small_corpora import words

COMMIT = "0123456789abcdef" * 2 + "01234567"
ROWS = [{"text": words(n, 200).decode(), "topic": "ab"[n % 2], "n": n} for n in range(40)]


def spec(name: str, **more: Any) -> HubData:
    return HubData.model_validate({"source": "hub", "name": name, "context": 8, **more})


def read(root: Path, name: str, **more: Any) -> tuple[list[Text], list[str]]:
    found = spec(name, **more).gather(root)
    return list(found.texts), list(found.notes)


def refused(root: Path, name: str, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(spec(name, **more), base=root, cache=root / "results" / "data")
    assert not (root / "results").exists()
    return str(caught.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same rows as `datasets` saves them: a data set, one of two splits, one in shards."""
    root = tmp_path_factory.mktemp("saved")
    whole = Dataset.from_list(ROWS)
    whole.save_to_disk(root / "one")
    whole.save_to_disk(root / "shards", num_shards=3)
    Dataset.from_list(ROWS[::-1]).select(range(39, -1, -1)).save_to_disk(root / "chosen")
    DatasetDict({"train": whole, "test": Dataset.from_list(ROWS[:3])}).save_to_disk(root / "splits")
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def table(path: Path, rows: list[dict[str, Any]] = ROWS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def snapshot(home: Path, name: str = "owner/set", *, card: str = "") -> Path:
    """Two shards of a train split and a test split, as `hf download` leaves them."""
    root = home / "hub" / f"datasets--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    files = root / "snapshots" / COMMIT
    table(files / "data" / "train-00000-of-00002.parquet", ROWS[:15])
    table(files / "data" / "train-00001-of-00002.parquet", ROWS[15:])
    table(files / "data" / "test-00000-of-00001.parquet", ROWS[:3])
    if card:
        (files / "README.md").write_text(card)
    return files


def prepared(home: Path) -> Path:
    """What `datasets.load_dataset` leaves in its cache."""
    folder = home / "datasets" / "owner___my_set" / "en" / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    for split, rows in (("train", ROWS), ("test", ROWS[:3])):
        made = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / f"my_set-{split}.arrow"), "wb") as file, pa.ipc.new_stream(file, made.schema) as to:
            to.write_table(made, max_chunksize=7)
    return folder


# ------------------------------------------------------------------------------------------------ where it lies


def test_however_it_lies_it_is_the_same_data(saved: Path, home: Path, tmp_path: Path) -> None:
    snapshot(home)
    prepared(home)
    table(tmp_path / "tables" / "train.parquet")
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "all.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)))
    names = [*(str(saved / name) for name in ("one", "shards", "chosen", "splits")), "tables", "lines"]
    digests = {
        name: prepare(spec(name, domain="topic"), base=tmp_path, cache=tmp_path / "cache").digest
        for name in [*names, "owner/set", "owner/MySet"]
    }
    assert len(set(digests.values())) == 1, digests


def test_rows_are_documents_numbered_in_their_split(saved: Path) -> None:
    texts, notes = read(saved, "splits", domain="topic")
    assert [text.body.decode() for text in texts] == [row["text"] for row in ROWS]
    assert [text.domain for text in texts] == [row["topic"] for row in ROWS]
    assert texts[7].name == texts[7].group == "train#7"
    assert notes == ["splits, split train"]
    assert [text.name for text in read(saved, "splits", split="test")[0]] == ["test#0", "test#1", "test#2"]


def test_the_commit_is_told_and_another_is_not_there(home: Path, tmp_path: Path) -> None:
    snapshot(home)
    texts, notes = read(tmp_path, "owner/set")
    assert len(texts) == 40
    assert notes == [f"owner/set, split train, commit {COMMIT}"]
    assert len(read(tmp_path, "owner/set", revision=COMMIT, split="test")[0]) == 3
    for revision in ("f" * 40, "v2", "../../refs/main"):
        if revision.startswith(".."):
            with pytest.raises(ValueError, match="pattern"):
                spec("owner/set", revision=revision)
            continue
        said = refused(tmp_path, "owner/set", revision=revision)
        assert f"hf download --repo-type dataset owner/set --revision {revision}" in said
    assert "neither a folder nor in this machine's cache" in refused(tmp_path, "owner/other")


def test_a_card_says_which_files_belong_to_a_config(home: Path, tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: small\n  data_files: [{split: train, path: data/test-*}]\n"
    card += "- config_name: large\n  data_files: [{split: train, path: [data/train-*]}, {split: dev, path: x*}]\n---\n"
    snapshot(home, card=card)
    assert len(read(tmp_path, "owner/set", config="small")[0]) == 3
    assert len(read(tmp_path, "owner/set", config="large")[0]) == 40
    assert "has several configurations: choose one of small, large" in refused(tmp_path, "owner/set")
    assert "no configuration 'tiny': choose one of small" in refused(tmp_path, "owner/set", config="tiny")
    assert "no split 'test': it has train" in refused(tmp_path, "owner/set", config="small", split="test")
    assert "no file of its split 'dev' here" in refused(tmp_path, "owner/set", config="large", split="dev")


@pytest.mark.parametrize(
    "card", ["---\nconfigs: 3\n---\n", "---\n[\n---\n", "---\nconfigs: [{config_name: x}]\n---\n", "x"]
)
def test_a_card_that_says_nothing_of_files_is_passed_over(home: Path, tmp_path: Path, card: str) -> None:
    snapshot(home, card=card)
    assert len(read(tmp_path, "owner/set")[0]) == 40


def test_a_config_may_be_a_folder(tmp_path: Path) -> None:
    table(tmp_path / "set" / "en" / "train.parquet")
    table(tmp_path / "set" / "de" / "train.parquet", ROWS[:5])
    assert len(read(tmp_path, "set", config="de")[0]) == 5
    assert "no configuration 'fr': its folders are de, en" in refused(tmp_path, "set", config="fr")


def test_a_prepared_set_has_its_configs_and_splits(home: Path, tmp_path: Path) -> None:
    prepared(home)
    assert len(read(tmp_path, "owner/MySet", config="en", split="test")[0]) == 3
    assert "no split 'dev' here: it has test, train" in refused(tmp_path, "owner/MySet", split="dev")
    assert "neither a folder" in refused(tmp_path, "owner/MySet", config="fr")


# ------------------------------------------------------------------------------------------------ what is refused


def test_fields_splits_and_folders_that_are_not_there(saved: Path, tmp_path: Path) -> None:
    said = refused(tmp_path, str(saved / "one"), field="body")
    assert "has the field 'body': it has text, topic, n; write such as `field: text`" in said
    assert "row 0: the field 'n' holds a number, not text" in refused(tmp_path, str(saved / "one"), field="n")
    assert "no split 'dev': it has train, test" in refused(tmp_path, str(saved / "splits"), split="dev")
    assert "is a folder, which has no revisions" in refused(tmp_path, str(saved / "one"), revision="main")
    assert "there is no folder" in refused(tmp_path, "no/such/folder")
    (tmp_path / "empty").mkdir()
    assert "holds no Parquet or JSON Lines file" in refused(tmp_path, "empty")
    table(tmp_path / "plain" / "x.parquet")
    assert "no file of" in refused(tmp_path, "plain", split="test")


def test_a_folder_that_was_not_saved_whole_is_refused(saved: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(saved / "one", tmp_path / "one")
    (state,) = (tmp_path / "one").glob("state.json")
    listed = json.loads(state.read_text())
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    whole = arrow.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:200] + b"\xff" * 400 + whole[600:]):
        arrow.write_bytes(damaged)
        assert "cannot be read as an Arrow table" in refused(tmp_path, "one")
    arrow.rename(tmp_path / "elsewhere.arrow")
    assert "lists files that are not there" in refused(tmp_path, "one")
    listed["_data_files"] = [{"filename": "../elsewhere.arrow"}]
    state.write_text(json.dumps(listed))
    assert "lists files that are not there" in refused(tmp_path, "one")
    state.write_text("{")
    assert "state.json cannot be read" in refused(tmp_path, "one")


def test_an_arrow_table_whose_values_lie_outside_of_it_is_refused(tmp_path: Path) -> None:
    """Offsets are believed by what reads values: unchecked, it would read on behind the last one."""
    made = pa.table({"text": [row["text"][:199] for row in ROWS]})
    (tmp_path / "set").mkdir()
    with pa.OSFile(str(tmp_path / "set" / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, made.schema) as to:
        to.write_table(made)
    raw = (tmp_path / "set" / "data.arrow").read_bytes()
    offsets = np.arange(0, 40 * 199 + 1, 199, dtype="<i4")
    outside = offsets.copy()
    outside[40] += 8  # into what fills the buffer up
    assert raw.count(offsets.tobytes()) == 1
    (tmp_path / "set" / "data.arrow").write_bytes(raw.replace(offsets.tobytes(), outside.tobytes()))
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    assert "cannot be read as an Arrow table" in refused(tmp_path, "set")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    table(tmp_path / "set" / "train.parquet")
    before = prepare(spec("set"), base=tmp_path, cache=tmp_path / "cache").digest
    table(tmp_path / "set" / "train.parquet", ROWS[1:])
    assert prepare(spec("set"), base=tmp_path, cache=tmp_path / "cache").digest != before


# ------------------------------------------------------------------------------------------------ online


def test_online_only_when_asked_and_at_a_commit(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be asked of `datasets`: the commit, streamed, and nothing that could run code."""
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    taken = 0

    def load_dataset(*words: Any, **named: Any) -> Iterator[dict[str, Any]]:
        asked.append((words, named))

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal taken
            for row in ROWS * 100:
                taken += 1
                yield row

        return rows()

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert "give its 40 digits as `revision`" in refused(tmp_path, "owner/set", online=True, revision="main")
    refused(tmp_path, "owner/set")
    assert asked == []
    made = spec("owner/set", online=True, revision=COMMIT, config="en", limit=8000, domain="topic")
    corpus = prepare(made, base=tmp_path, cache=tmp_path / "cache")
    assert asked == [(("owner/set", "en"), {"split": "train", "revision": COMMIT, "streaming": True})]
    assert taken == 41, "no more than the limit is taken"
    assert f"owner/set, config en, split train, commit {COMMIT}" in corpus.facts.notes
    again = prepare(made, base=tmp_path, cache=tmp_path / "cache")
    assert (again.digest, len(asked)) == (corpus.digest, 1), "kept here, and not streamed again"
    table(tmp_path / "own" / "train.parquet")
    assert prepare(spec("own", domain="topic"), base=tmp_path, cache=tmp_path / "cache").digest == corpus.digest


def test_what_fails_online_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach the hub\nmore")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    said = refused(tmp_path, "owner/set", online=True, revision=COMMIT)
    assert said == "owner/set cannot be streamed from the hub (Couldn't reach the hub)"
