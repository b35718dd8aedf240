"""Files as text: gzip and other encodings are read, what is no text is refused with what to do, bombs are bounded."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from moebench.data import DataError
from moebench.data.prepare import prepare
from moebench.data.sources import decode, text
from moebench.data.sources.decode import NotTextError, read_text
from moebench.data.sources.text import TextData
from tests.support.small_corpora import words

NAIVE = "Naïve café, größer als früher. " * 20


def refused(path: Path, *, encoding: str = "utf-8") -> str:
    with pytest.raises(NotTextError) as caught:
        read_text(path, encoding=encoding)
    return f"{caught.value}: {caught.value.advice}"


def spec(*files: str, **more: str) -> TextData:
    return TextData.model_validate({"source": "text", "files": list(files), "context": 16, **more})


# ------------------------------------------------------------------------------------------------ gzip


def test_a_gzip_file_is_the_text_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfone\r\ntwo"))
    assert read_text(tmp_path / "a.txt.gz", encoding="utf-8") == b"one\ntwo"
    (tmp_path / "b.txt").write_bytes(gzip.compress(b"by its first bytes, not its name"))
    assert read_text(tmp_path / "b.txt", encoding="utf-8") == b"by its first bytes, not its name"


def test_the_same_text_gzipped_is_the_same_data(tmp_path: Path) -> None:
    for folder in ("plain", "packed"):
        (tmp_path / folder).mkdir()
    for number in range(12):
        body = words(number, 600)
        (tmp_path / "plain" / f"{number:02d}").write_bytes(body)
        (tmp_path / "packed" / f"{number:02d}").write_bytes(gzip.compress(body))
    plain, packed = (
        prepare(spec(folder), base=tmp_path, cache=tmp_path / "cache" / folder) for folder in ("plain", "packed")
    )
    assert plain.digest == packed.digest


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MOST_UNPACKED_FILE_BYTES", 1 << 20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 26)))
    assert "unpacks to more than 1,048,576 bytes" in refused(tmp_path / "bomb.gz")


def test_many_gzip_files_have_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_UNPACKED_BYTES", 2500)
    for number in range(4):
        (tmp_path / f"{number}.gz").write_bytes(gzip.compress(b"some words " * 100))
    notes = spec(".").gather(tmp_path).notes
    assert "2 files passed over" in notes[-1]


@pytest.mark.parametrize("raw", [gzip.compress(b"words " * 100)[:-20], b"\x1f\x8b" + b"x" * 100], ids=["cut", "noise"])
def test_a_broken_gzip_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(raw)
    assert "cannot be unpacked" in refused(tmp_path / "a.gz")


# ------------------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-32", "iso8859-15", "cp437", "mac-roman"])
def test_a_text_of_another_encoding_is_read_when_its_name_is_given(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(NAIVE.encode(encoding))
    assert read_text(tmp_path / "a.txt", encoding=encoding).decode() == NAIVE


@pytest.mark.parametrize(("encoding", "advised"), [("latin-1", "latin-1"), ("cp1252", "latin-1"), ("utf-16", "utf-16")])
def test_a_text_of_another_encoding_is_refused_with_what_would_read_it(
    tmp_path: Path, encoding: str, advised: str
) -> None:
    (tmp_path / "a.txt").write_bytes(NAIVE.encode(encoding))
    told = refused(tmp_path / "a.txt")
    assert "is not UTF-8 text (byte" in told
    assert f"write `encoding: {advised}` under `data`, or convert it with iconv -f" in told
    assert read_text(tmp_path / "a.txt", encoding=advised).decode() == NAIVE


def test_a_text_that_is_not_of_the_named_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\xd8")
    assert "is not utf-16 text" in refused(tmp_path / "a.txt", encoding="utf-16")


def test_the_encoding_is_part_of_the_data(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.txt").write_bytes(words(number, 600) + "é".encode("latin-1"))
    with pytest.raises(DataError, match="write `encoding: latin-1` under `data`"):
        prepare(spec("*.txt"), base=tmp_path, cache=tmp_path / "cache")
    one = prepare(spec("*.txt", encoding="latin-1"), base=tmp_path, cache=tmp_path / "cache")
    other = prepare(spec("*.txt", encoding="cp437"), base=tmp_path, cache=tmp_path / "cache")
    assert one.digest != other.digest
    assert "encoding" not in spec("a").model_dump(), "at its default it is no part of what is hashed"


# ------------------------------------------------------------------------------------------------ other formats


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"words"))
    return made.getvalue()


RECORDS = "".join(json.dumps({"text": f"record {n}", "id": n}) + "\n" for n in range(5)).encode()


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("a.jsonl", RECORDS, "holds JSON records, not text: .*jq -r '.text"),
        ("a.ndjson", b'{"text": "only one"}', "jq -r"),
        ("a.jsonl.gz", gzip.compress(RECORDS), "jq -r"),
        ("a.txt", RECORDS, "jq -r"),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(40), "is compressed with zstd, not text: .*zstd -d"),
        ("a.bz2", b"BZh91AY", "bunzip2"),
        ("a.parquet", b"PAR1\x15\x04", "is a Parquet table, not text: .*pandas.read_parquet"),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3", "is a PDF, not text: .*pdftotext"),
        ("a.docx", zipped(), "is a Word document, not text: .*pandoc"),
        ("a.zip", zipped(), "is a zip archive, not text: unpack it"),
        ("a.tar", tarred(), "is a tar archive, not text: unpack it with tar"),
        ("a.tar.gz", gzip.compress(tarred()), "is a tar archive, not text"),
        ("a.bin", bytes(range(1, 256)), "is not UTF-8 text .*convert it to UTF-8 text"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",  # archives hold the time at which they were made
)
def test_what_is_no_text_is_refused_with_what_makes_text_of_it(
    tmp_path: Path, name: str, raw: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=words):
        spec(name).gather(tmp_path)
    (tmp_path / "b.txt").write_text("Text enough for a document.")
    found = spec(".").gather(tmp_path)
    assert [one.name for one in found.texts] == ["b.txt"]
    assert f"1 file passed over: {name}" in found.notes[-1]


@pytest.mark.parametrize("body", [b'{"a": 1}\n', b"{not json}\n{nor this}\n", b'{\n  "a": 1\n}\n', b"[1]\n[2]\n"])
def test_text_that_only_looks_like_records_is_text(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(body)
    assert read_text(tmp_path / "a.txt", encoding="utf-8") == body


def test_a_folder_of_records_alone_says_what_to_do(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.jsonl").write_bytes(RECORDS)
    with pytest.raises(DataError, match=r"hold no text: 0.jsonl holds JSON records.* and 2 more .*jq -r"):
        spec(".").gather(tmp_path)


# ------------------------------------------------------------------------------------------------ repeats


def test_sixty_copies_of_a_file_are_told(tmp_path: Path) -> None:
    (root := tmp_path / "corpus").mkdir()
    for number in range(60):
        (root / f"copy{number}.txt").write_bytes(words(0, 3000))
    for number in range(1, 5):
        (root / f"other{number}.txt").write_bytes(words(number, 3000))
    facts = prepare(spec("."), base=root, cache=tmp_path / "cache").facts
    [note] = [note for note in facts.notes if "repeats text before it" in note]
    assert "59 of 64 documents are exact copies of another, 0 are near-copies" in note
    assert "98% of the training text" in note
    assert "its 180,060 tokens hold about 3," in note
    assert prepare(spec("."), base=root, cache=tmp_path / "cache").facts.notes == facts.notes


def test_near_copies_are_told_and_different_texts_are_not(tmp_path: Path) -> None:
    (root := tmp_path / "corpus").mkdir()
    for number in range(100):
        (root / f"{number:03d}.txt").write_bytes(words(number, 1500))
    assert not any("repeats" in note for note in prepare(spec("."), base=root, cache=tmp_path / "c").facts.notes)
    for number in range(50):
        (root / f"near{number:03d}.txt").write_bytes(words(number, 1500) + b"\nan ending of its own %d" % number)
    [note] = [n for n in prepare(spec("."), base=root, cache=tmp_path / "c").facts.notes if "repeats" in n]
    assert "0 of 150 documents are exact copies of another, 50 are near-copies" in note
