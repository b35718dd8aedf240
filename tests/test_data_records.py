"""Rows as documents: every format gives the same data, and what is no row of text is refused in words that help."""

from __future__ import annotations

import builtins
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from moebench.data import DataError, Text
from moebench.data.prepare import prepare
from moebench.data.sources import records, unpack
from moebench.data.sources.text import TextData
from tests.support.small_corpora import words

Rows = Sequence[Any]


def spec(*files: str, **more: Any) -> TextData:
    return TextData.model_validate({"source": "text", "files": list(files), "context": 8, **more})


def read(root: Path, *files: str, **more: Any) -> tuple[list[Text], list[str]]:
    found = spec(*files, **more).gather(root)
    return list(found.texts), list(found.notes)


def refused(root: Path, *files: str, **more: Any) -> str:
    """What is said, after which nothing has been written."""
    with pytest.raises(DataError) as caught:
        prepare(spec(*files, **more), base=root, cache=root / "results" / "data")
    assert not (root / "results").exists()
    return str(caught.value)


def lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROWS = [{"text": words(n, 200).decode(), "kind": "ab"[n % 2], "n": n, "meta": {"lang": "en"}} for n in range(40)]


def parquet(path: Path, rows: Rows, **more: Any) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **more)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(lines(ROWS)),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS[:25])) + gzip.compress(lines(ROWS[25:]))),
    "a.jsonl.zst": lambda path: path.write_bytes(
        zstandard.compress(lines(ROWS[:25])) + zstandard.compress(lines(ROWS[25:]))
    ),
    "a.parquet": lambda path: parquet(path, ROWS, row_group_size=7),
    "a.ndjson": lambda path: path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS).replace(b"\n", b"\r\n\n")),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_row_is_a_document_in_every_format(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    texts, notes = read(tmp_path, name, domain="kind")
    assert [text.body.decode() for text in texts] == [row["text"] for row in ROWS]
    assert [text.domain for text in texts] == [row["kind"] for row in ROWS]
    assert texts[3].name == texts[3].group == f"{name}#{ {'a.parquet': 3, 'a.ndjson': 7}.get(name, 4) }"
    assert notes == []
    corpus = prepare(spec(name, domain="kind"), base=tmp_path, cache=tmp_path / "cache")
    assert corpus.facts.domains == ("a", "b")
    assert sum(corpus.facts.documents.values()) == 40


def test_packed_text_is_text_too(tmp_path: Path) -> None:
    body = b"\n\n".join(words(n, 300) for n in range(60))
    (tmp_path / "a.txt").write_bytes(body)
    (tmp_path / "b.txt.zst").write_bytes(zstandard.compress(body))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(body))
    plain, *packed = ([text.body for text in read(tmp_path, name)[0]] for name in ("a.txt", "b.txt.zst", "c.txt.gz"))
    assert len(plain) == 20
    assert all(one == plain for one in packed)


def test_texts_and_rows_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.txt").write_bytes(words(1, 200))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.jsonl").write_bytes(lines(ROWS))
    texts, _ = read(tmp_path, ".")
    assert [text.domain for text in texts] == ["books"] + ["web"] * 40
    assert texts[1].name == "web/x.jsonl#1"
    assert {text.domain for text in read(tmp_path, ".", domain="kind")[0]} == {"books", "a", "b"}


def test_another_field_and_a_field_within_a_field(tmp_path: Path) -> None:
    nested = [{"doc": {"body": row["text"], "from": {"site": "x y"}}, "a.b": "dotted"} for row in ROWS]
    (tmp_path / "a.jsonl").write_bytes(lines(nested))
    parquet(tmp_path / "b.parquet", nested)
    for name in ("a.jsonl", "b.parquet"):
        texts, _ = read(tmp_path, name, field="doc.body", domain="doc.from.site")
        assert [text.body.decode() for text in texts] == [row["text"] for row in ROWS]
        assert {text.domain for text in texts} == {"x_y"}
        assert {text.body for text in read(tmp_path, name, field="a.b")[0]} == {b"dotted"}


def test_field_and_domain_are_part_of_the_data_only_where_they_are_given() -> None:
    assert {"field", "domain", "limit"} & set(spec("a").model_dump()) == set()
    assert spec("a", field="body").model_dump()["field"] == "body"


def test_rows_without_text_are_passed_over_and_counted(tmp_path: Path) -> None:
    odd = [{"text": None}, {"text": ""}, {"text": " \n"}, {}, {"text": "a\0b"}, {"text": "\ud800"}, {"other": 1}]
    (tmp_path / "a.jsonl").write_bytes(lines([*ROWS, *odd]))
    texts, notes = read(tmp_path, "a.jsonl")
    assert len(texts) == 40
    assert notes == [
        "7 of 47 rows passed over: 1 with a NUL, 1 with text that is no Unicode, 5 without text"
    ]  # fmt: skip
    parquet(tmp_path / "b.parquet", [*ROWS, {"text": None, "kind": None}])
    texts, notes = read(tmp_path, "b.parquet", domain="kind")
    assert (len(texts), notes) == (40, ["1 of 41 rows passed over: 1 without text"])


def test_line_ends_in_a_row_are_line_feeds(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "\ufeffone\r\ntwo\rthree"}]))
    assert read(tmp_path, "a.jsonl")[0][0].body == b"one\ntwo\nthree"


def test_a_limit_takes_the_first_documents_that_fit_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    texts, notes = read(tmp_path, "a.jsonl", limit=1999)
    assert len(texts) == 9
    assert notes == ["the first 1,800 bytes of the text: its limit is 1,999"]
    assert len(read(tmp_path, "a.jsonl", limit=8e3)[0]) == 40
    assert read(tmp_path, "a.jsonl", limit=8000)[1] == []
    assert "200 bytes, more than the limit of 10" in refused(tmp_path, "a.jsonl", limit=10)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_field_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    said = refused(tmp_path, name, field="body")
    assert f"no row of {tmp_path / name} has the field 'body': it has text, kind, n, meta.lang" in said
    assert "write such as `field: text` under `data`" in said
    said = refused(tmp_path, name, domain="topic")
    assert "field 'topic'" in said
    assert "`domain: text`" in said


def test_a_long_file_without_the_field_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MISSED", 10)
    (tmp_path / "a.jsonl").write_bytes(lines([{"body": "x"}] * 10) + b"not JSON\n")
    assert "has the field 'text': it has body" in refused(tmp_path, "a.jsonl")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "holds a number, not text"), (2.5, "holds a number"), (True, "holds true or false"),
        (["a"], "holds a list, not text"),
        ({"body": "x", "n": 1}, "holds an object, not text: choose one of text.body, text.n"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_told_with_its_row(tmp_path: Path, value: object, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([*ROWS, {"text": value}]))
    assert f"{tmp_path / 'a.jsonl'}, row 41: the field 'text' {said}" in refused(tmp_path, "a.jsonl")
    parquet(tmp_path / "b.parquet", [{"text": value}] * 3)
    assert f"row 0: the field 'text' {said}" in refused(tmp_path, "b.parquet")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (lines(ROWS)[:-30], "line 40 is no JSON object (Expecting"),
        (lines(ROWS) + b"[1]\n", "line 41 is a list, not text: each line must be a JSON object"),
        (b'{"text": "caf\xe9"}\n', "line 1 is not UTF-8 (byte 13)"),
        (b'{"text": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", "line 1 is no JSON object"),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}\n", "line 1 is no JSON object"),
        (b'{"text": "x"} {"text": "y"}\n', "line 1 is no JSON object (Extra data"),
        (b"\n\n", "hold no text"),
        (b"", "hold no text"),
    ],
)
def test_broken_lines_are_told_with_their_number(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(raw)
    assert said in refused(tmp_path, "a.jsonl")


def test_a_set_of_empty_rows_holds_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": ""}] * 5))
    assert "hold no text: 5 of 5 rows passed over: 5 without text" in refused(tmp_path, "a.jsonl")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "b.parquet")
    assert "hold no text" in refused(tmp_path, "b.parquet")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_cut_and_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    WRITERS[name](tmp_path / name)
    raw = bytearray((tmp_path / name).read_bytes())
    if damage == "cut":
        del raw[-200:]
    else:
        raw[len(raw) // 4 : len(raw) // 4 + 400] = bytes(range(200)) * 2
    (tmp_path / name).write_bytes(raw)
    said = refused(tmp_path, name)
    assert "cannot be" in said or "line" in said or "row" in said
    assert str(tmp_path / name) in said


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_LINE_BYTES", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS) + b'{"text": "' + b"x" * (3 << 20) + b'"}\n')
    assert "line 41 has more than 1,048,576 bytes" in refused(tmp_path, "a.jsonl")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(records, "MOST_UNPACKED_FILE_BYTES", 1 << 20)
    row = lines([{"text": "word " * 20_000}])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(row * 200))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(row * 200))
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 500), pa.array(["word " * 20_000]))
    pq.write_table(pa.table({"text": shared}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    for name in ("a.jsonl.gz", "a.jsonl.zst", "a.parquet"):
        assert "unpacks to more than" in refused(tmp_path, name)


def test_a_field_of_very_many_values_names_no_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_VALUES", 20)
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    assert "more than 20 different values, so it names no domains" in refused(tmp_path, "a.jsonl", domain="n")
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS[:18]))
    domains = prepare(spec("a.jsonl", domain="n"), base=tmp_path, cache=tmp_path / "cache").facts.domains
    assert len(domains) == records.MOST_DOMAINS
    assert "other" in domains


@pytest.mark.parametrize(("name", "library"), [("a.parquet", "pyarrow"), ("a.jsonl.zst", "zstandard")])
def test_a_missing_library_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    WRITERS[name](tmp_path / name)
    known = builtins.__import__

    def without(module: str, *more: Any, **named: Any) -> Any:
        if module.partition(".")[0] == library:
            raise ImportError(module)
        return known(module, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'moebench[data]'" in refused(tmp_path, name)
