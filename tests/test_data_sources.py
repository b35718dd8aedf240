"""Sources of text: what is read, what is refused, how it becomes documents, and what is known of drawn text."""

from __future__ import annotations

import ast
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench import plugins
from moebench.data import DataError, Gathered, Source, Text
from moebench.data.corpus import Corpus
from moebench.data.markov import entropy_bits, entropy_rate_bits, sample, stationary, transitions, uniform
from moebench.data.prepare import prepare
from moebench.data.sources import plugin, stdlib, unpack
from moebench.data.sources.decode import read_text
from moebench.data.sources.plugin import PluginData
from moebench.data.sources.records import MOST_DOMAINS
from moebench.data.sources.stdlib import StdlibData
from moebench.data.sources.synthetic import SyntheticData, source_alphabet, source_table
from moebench.data.sources.text import CHUNK_BYTES, FEW_FILES, TextData, chunks, files
from moebench.data.sources.unpack import NotTextError
from moebench.seeds import generator
from tests.support.small_corpora import text as small_corpora_text
from tests.support.small_corpora import words


def spec(*patterns: str) -> TextData:
    return TextData(source="text", files=list(patterns), context=8)


def write(root: Path, **bodies: bytes) -> None:
    for name, body in bodies.items():
        path = root / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def twelve(root: Path) -> Path:
    write(root, **{f"poems__{i}_txt": words(i, 300) for i in range(6)})
    write(root, **{f"letters__old__{i}_txt": words(100 + i, 300) for i in range(6)})
    return root


def gather(spec: TextData, base: Path) -> Gathered:
    """What a source gives, all of it read."""
    found = spec.gather(base)
    return replace(found, texts=list(found.texts))


def names(gathered: Gathered) -> list[str]:
    return [one.name for one in gathered.texts]


@pytest.mark.parametrize("pattern", [".", "**/*.txt", "./poems/../"])
def test_folders_and_globs_give_files_as_documents_and_folders_as_domains(tmp_path: Path, pattern: str) -> None:
    found = spec(pattern).gather(twelve(tmp_path))
    assert names(found) == [*(f"letters/old/{i}.txt" for i in range(6)), *(f"poems/{i}.txt" for i in range(6))]
    assert [one.domain for one in found.texts] == ["letters"] * 6 + ["poems"] * 6


def test_domains_start_at_the_common_root(tmp_path: Path) -> None:
    found = spec("letters").gather(twelve(tmp_path))
    assert {one.domain for one in found.texts} == {"all"}
    write(tmp_path, letters__new__x_txt=words(50, 300), letters__y_txt=words(51, 300))
    assert {one.domain for one in gather(spec("letters"), tmp_path).texts} == {"old", "new", "top"}


def test_a_file_named_twice_is_read_once_and_paths_may_be_absolute(tmp_path: Path) -> None:
    root = twelve(tmp_path / "elsewhere")
    asked = spec(str(root), str(root / "poems" / "*.txt"), str(root / "poems" / "1.txt"))
    assert len(files(asked, tmp_path)) == 12
    assert sum(files(asked, tmp_path).values()) == 1


def test_hidden_files_are_not_found_but_may_be_named(tmp_path: Path) -> None:
    write(twelve(tmp_path), **{".git__x_txt": b"no", ".hidden": b"no"})
    assert len(files(spec("."), tmp_path)) == 12
    assert len(files(spec(".", ".hidden"), tmp_path)) == 13


def test_newlines_and_byte_order_mark_are_normalised(tmp_path: Path) -> None:
    write(twelve(tmp_path), poems__0_txt=b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert {one.name: one.body for one in gather(spec("."), tmp_path).texts}["poems/0.txt"] == b"one\ntwo\nthree\n"


def test_a_single_file_is_cut_into_documents_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [words(i, 500) for i in range(400)]
    write(tmp_path, book_txt=b"\n\n".join(paragraphs))
    found = gather(spec("book.txt"), tmp_path)
    assert b"".join(one.body for one in found.texts) == b"\n\n".join(paragraphs)
    assert all(one.body.endswith(b"\n\n") for one in found.texts[:-1])
    assert all(CHUNK_BYTES <= len(one.body) <= CHUNK_BYTES + 502 for one in found.texts[:-1])
    assert names(found)[:2] == ["book.txt#0", "book.txt#1"]
    assert "cut into" in found.notes[0]
    corpus = prepare(spec("book.txt"), base=tmp_path, cache=tmp_path / "cache")
    assert all(corpus.facts.documents[split] >= 3 for split in ("train", "tune", "test"))


def test_a_dozen_long_files_are_cut_so_that_every_split_has_several_documents_of_several_files(tmp_path: Path) -> None:
    """Whole, one book of twelve would be the test split, and a verdict would rest on that book."""
    for i in range(12):
        write(tmp_path, **{f"book{i:02d}_txt": b"\n\n".join(words(100 * i + k, 600) for k in range(70))})
    corpus = prepare(spec("."), base=tmp_path, cache=tmp_path / "cache")
    for split in ("tune", "test"):
        documents = corpus.documents(split)
        assert len(documents) >= 8
        assert len({one.name.partition("#")[0] for one in documents}) >= 4
        assert sum(one.stop - one.start for one in documents) == pytest.approx(0.1 * 12 * 42_138, rel=0.1)
    assert any("unseen passages, not unseen files" in note for note in corpus.facts.notes)


def test_many_files_are_documents_however_long_they_are(tmp_path: Path) -> None:
    write(tmp_path, **{f"f{i:02d}_txt": words(i, 9000) for i in range(FEW_FILES)})
    assert len(gather(spec("."), tmp_path).texts) == FEW_FILES
    (tmp_path / "f00.txt").unlink()
    assert len(gather(spec("."), tmp_path).texts) == 2 * (FEW_FILES - 1)


@given(st.text(max_size=400), st.integers(4, 50))
def test_chunks_are_the_text_in_whole_characters(raw: str, size: int) -> None:
    whole = raw.encode()
    pieces = list(chunks([whole], size))
    assert list(chunks([whole[at : at + 7] for at in range(0, len(whole), 7)], size)) == pieces
    assert b"".join(pieces).decode() == raw
    assert "".join(piece.decode() for piece in pieces) == raw
    assert all(len(piece) <= 2 * size + 3 for piece in pieces)


def test_folders_beyond_the_most_become_other(tmp_path: Path) -> None:
    write(tmp_path, **{f"d{i:02d}__x_txt": words(i, 300 + i) for i in range(20)})
    facts = prepare(spec("."), base=tmp_path, cache=tmp_path / "cache").facts
    assert len(facts.domains) == MOST_DOMAINS
    assert facts.domains == (*(f"d{i:02d}" for i in range(5, 20)), "other")


def test_a_domain_is_a_word_that_a_label_may_hold(tmp_path: Path) -> None:
    write(twelve(tmp_path), **{"my [old], a=b__x_txt": words(99, 300)})
    assert "my__old___a_b" in {one.domain for one in gather(spec("."), tmp_path).texts}


# ------------------------------------------------------------------------------------------ errors


def test_no_match_says_where_and_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches 'corpus/\*.txt' under .*globs such as"):
        prepare(spec("corpus/*.txt"), base=tmp_path, cache=tmp_path)


def test_an_unknown_home_is_no_match(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file matches"):
        files(spec("~nobody-of-this-name/x.txt"), tmp_path)


@pytest.mark.parametrize(
    ("body", "why"), [(b"a\0b", "NUL at byte 1"), (b"caf\xe9", r"not UTF-8 text \(byte 3\)"), (b"\xff\xfea\0", "UTF-8")]
)
def test_binary_files_are_refused_when_named_and_passed_over_when_found(tmp_path: Path, body: bytes, why: str) -> None:
    write(twelve(tmp_path), poems__bad_txt=body)
    with pytest.raises(DataError, match=why):
        gather(spec("poems/bad.txt"), tmp_path)
    found = gather(spec("."), tmp_path)
    assert len(found.texts) == 12
    assert "1 file passed over: bad.txt is not" in found.notes[-1]


def test_empty_files_are_refused_when_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"", b_txt=b" \n")
    with pytest.raises(DataError, match="hold no text"):
        gather(spec("."), tmp_path)


def test_too_small_for_three_splits(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"just a line\n")
    with pytest.raises(DataError, match="too few for the three splits"):
        prepare(spec("a.txt"), base=tmp_path, cache=tmp_path / "cache")


def test_too_small_for_the_context(tmp_path: Path) -> None:
    asked = spec(".").model_copy(update={"context": 4096})
    with pytest.raises(DataError, match="smaller context"):
        prepare(asked, base=twelve(tmp_path), cache=tmp_path.parent / "cache")


def test_the_users_files_are_not_touched(tmp_path: Path) -> None:
    root = twelve(tmp_path / "data")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*.txt")}
    prepare(spec("."), base=root, cache=tmp_path / "cache")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()} == before


# ----------------------------------------------------------------------------------------------------
# Files as text: gzip and other encodings are read, what is no text is refused with what to do, bombs are bounded.


NAIVE = "Naïve café, größer als früher. " * 20


def refused(path: Path, *, encoding: str = "utf-8") -> str:
    with pytest.raises(NotTextError) as caught:
        read_text(path, encoding=encoding)
    return f"{caught.value}: {caught.value.advice}"


def spec_decode(*files: str, **more: str) -> TextData:
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
        prepare(spec_decode(folder), base=tmp_path, cache=tmp_path / "cache" / folder) for folder in ("plain", "packed")
    )
    assert plain.digest == packed.digest


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED_FILE_BYTES", 1 << 20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"words  " * (1 << 23)))
    most = 100 * (tmp_path / "bomb.gz").stat().st_size
    assert f"unpacks to more than {most:,} bytes" in refused(tmp_path / "bomb.gz")


def test_many_gzip_files_have_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED_BYTES", 2500)
    for number in range(4):
        (tmp_path / f"{number}.gz").write_bytes(gzip.compress(b"some words " * 100))
    notes = gather(spec_decode("."), tmp_path).notes
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
        prepare(spec_decode("*.txt"), base=tmp_path, cache=tmp_path / "cache")
    one = prepare(spec_decode("*.txt", encoding="latin-1"), base=tmp_path, cache=tmp_path / "cache")
    other = prepare(spec_decode("*.txt", encoding="cp437"), base=tmp_path, cache=tmp_path / "cache")
    assert one.digest != other.digest
    assert "encoding" not in spec_decode("a").model_dump(), "at its default it is no part of what is hashed"


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
        ("a.txt", RECORDS, "holds JSON records, not text: give it a name that ends in .jsonl"),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(40), "cannot be unpacked .*: make it again with zstd"),
        ("a.bz2", b"BZh91AY", "bunzip2"),
        ("a.txt.gz", gzip.compress(b"PAR1\x15\x04"), "is a packed Parquet table, not text"),
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
        gather(spec_decode(name), tmp_path)
    (tmp_path / "b.txt").write_text("Text enough for a document.")
    found = gather(spec_decode("."), tmp_path)
    assert [one.name for one in found.texts] == ["b.txt"]
    assert f"1 file passed over: {name}" in found.notes[-1]


@pytest.mark.parametrize("body", [b'{"a": 1}\n', b"{not json}\n{nor this}\n", b'{\n  "a": 1\n}\n', b"[1]\n[2]\n"])
def test_text_that_only_looks_like_records_is_text(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(body)
    assert read_text(tmp_path / "a.txt", encoding="utf-8") == body


def test_a_folder_of_records_alone_says_what_to_do(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_bytes(RECORDS)
    with pytest.raises(DataError, match=r"hold no text: 0.txt holds JSON records.* and 2 more .*in .jsonl"):
        gather(spec_decode("."), tmp_path)


# ------------------------------------------------------------------------------------------------ repeats


def test_sixty_copies_of_a_file_are_told(tmp_path: Path) -> None:
    (root := tmp_path / "corpus").mkdir()
    for number in range(60):
        (root / f"copy{number}.txt").write_bytes(words(0, 3000))
    for number in range(1, 5):
        (root / f"other{number}.txt").write_bytes(words(number, 3000))
    facts = prepare(spec_decode("."), base=root, cache=tmp_path / "cache").facts
    [note] = [note for note in facts.notes if "repeats text before it" in note]
    assert "59 of 64 documents are exact copies of another, 0 are near-copies" in note
    assert "98% of the training text" in note
    assert "its 180,060 tokens hold about 3," in note
    assert prepare(spec_decode("."), base=root, cache=tmp_path / "cache").facts.notes == facts.notes


def test_near_copies_are_told_and_different_texts_are_not(tmp_path: Path) -> None:
    (root := tmp_path / "corpus").mkdir()
    for number in range(100):
        (root / f"{number:03d}.txt").write_bytes(words(number, 1500))
    assert not any("repeats" in note for note in prepare(spec_decode("."), base=root, cache=tmp_path / "c").facts.notes)
    for number in range(50):
        (root / f"near{number:03d}.txt").write_bytes(words(number, 1500) + b"\nan ending of its own %d" % number)
    [note] = [n for n in prepare(spec_decode("."), base=root, cache=tmp_path / "c").facts.notes if "repeats" in n]
    assert "0 of 150 documents are exact copies of another, 50 are near-copies" in note


# ----------------------------------------------------------------------------------------------------
# The standard library as a corpus: what is in it, what is not, and that it leaks little.


SPEC = StdlibData(source="stdlib")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepare(SPEC, base=Path(), cache=tmp_path_factory.mktemp("cache"))


def test_docstrings_and_code_are_parted() -> None:
    source = b'"""Doc."""\nimport x\n\nclass A:\n    """One.\n\n    Two.\n    """\n    b = "kept"\n'
    source += b'    def f(self): "f"; return 1\n'
    code, docstrings = stdlib.divide(source)
    assert code == b'import x\n\nclass A:\n    b = "kept"\n    def f(self): return 1\n'
    assert docstrings == b"Doc.\n\nOne.\n\nTwo.\n\nf"


def test_letters_beyond_ascii_do_not_shift_the_cut() -> None:
    code, docstrings = stdlib.divide('α = "é"\ndef f():\n    "é" "ü"  # é\n    return α\n'.encode())
    assert code.decode() == 'α = "é"\ndef f():\n    # é\n    return α\n'
    assert docstrings.decode() == "éü"


def test_code_has_no_docstring_left_and_loses_nothing_else() -> None:
    source = Path(stdlib.library(), "argparse.py").read_bytes()
    code, _ = stdlib.divide(source)
    tree = ast.parse(code)
    assert not stdlib.docstring_nodes(tree)
    kept = ast.parse(source)
    for node in ast.walk(kept):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    assert ast.dump(tree) == ast.dump(kept)


def test_no_tests_tables_or_machine_settings_are_in_it(corpus: Corpus) -> None:
    names = [one.name for split in ("train", "tune", "test") for one in corpus.documents(split)]
    assert len(names) == len(set(names)) > 500
    for left_out in (
        "/test/",
        "/tests/",
        "idlelib",
        "site-packages",
        "_sysconfigdata",
        "encodings/cp1252",
        "stringprep",
    ):
        assert not [name for name in names if left_out in name]
    assert {"code/argparse.py", "docstrings/argparse.py", "prose/assert"} <= set(names)


def test_three_domains_in_three_splits_without_leaks(corpus: Corpus) -> None:
    facts = corpus.facts
    assert facts.domains == ("code", "docstrings", "prose")
    for split in ("train", "tune", "test"):
        assert {one.domain for one in corpus.documents(split)} == set(facts.domains)
        assert facts.tokens[split] > 0.05 * sum(facts.tokens.values())
    assert sum(facts.tokens.values()) > 4_000_000
    assert 0 < facts.leak_share < facts.leak_threshold


def test_code_and_docstrings_of_a_module_are_in_one_split(corpus: Corpus) -> None:
    home: dict[str, set[str]] = {}
    for split in ("train", "tune", "test"):
        for one in corpus.documents(split):
            if one.domain != "prose":
                home.setdefault(one.name.partition("/")[2], set()).add(split)
    assert all(len(splits) == 1 for splits in home.values())


def test_the_same_python_gives_the_same_digest(corpus: Corpus, tmp_path: Path) -> None:
    assert prepare(SPEC, base=tmp_path, cache=tmp_path).digest == corpus.digest


def test_where_the_library_lies_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for place in ("a", "b/c"):
        root = tmp_path / place
        (root / "package").mkdir(parents=True)
        order = range(8) if place == "a" else reversed(range(8))
        for i in order:
            newline = b"\n" if place == "a" else b"\r\n"
            Path(root, "package", f"m{i}.py").write_bytes(
                b"x = '" + words(i, 300) + b"'" + newline + b"y = 1" + newline
            )
        monkeypatch.setattr(stdlib, "library", lambda root=root: root)
        digests.append(prepare(SPEC.model_copy(update={"context": 8}), base=tmp_path, cache=tmp_path / "cache").digest)
    assert digests[0] == digests[1]


def test_an_edited_library_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(8):
        Path(tmp_path, f"m{i}.py").write_bytes(b"x = '" + words(i, 300) + b"'\n")
    monkeypatch.setattr(stdlib, "library", lambda: tmp_path)
    before = prepare(SPEC, base=tmp_path, cache=tmp_path / "cache").digest
    Path(tmp_path, "m3.py").write_bytes(b"y = '" + words(3, 310) + b"'\n")
    assert prepare(SPEC, base=tmp_path, cache=tmp_path / "cache").digest != before


def test_unparsable_files_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(tmp_path, "bad.py").write_bytes(b"def (:" + b" " * 300)
    Path(tmp_path, "good.py").write_bytes(b"x = 1\n" * 100)
    monkeypatch.setattr(stdlib, "library", lambda: tmp_path)
    gathered = SPEC.gather(tmp_path)
    assert "code/good.py" in {one.name for one in gathered.texts}
    assert "left out as not parsable: bad.py" in gathered.notes


def test_a_python_without_sources_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdlib, "library", lambda: tmp_path)
    monkeypatch.setattr(stdlib, "topics", dict)
    with pytest.raises(DataError, match="source: text"):
        SPEC.gather(tmp_path)


def test_domains_are_known_before_anything_is_read(corpus: Corpus) -> None:
    assert sorted(SPEC.domains()) == list(corpus.facts.domains)


# ----------------------------------------------------------------------------------------------------
# Markov sources: the entropy by hand, and the true model's cost of the text drawn.


SPEC_SYNTHETIC = SyntheticData(source="synthetic", sources=3, symbols=6, order=2, documents=300, document_bytes=500)


def h(p: float) -> float:
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def test_entropy_of_a_two_state_chain_by_hand() -> None:
    table = np.array([[0.9, 0.1], [0.3, 0.7]])  # keeps (3/4, 1/4): 3/4 * 0.1 = 1/4 * 0.3
    assert stationary(table) == pytest.approx([0.75, 0.25], abs=1e-12)
    assert entropy_rate_bits(table, stationary(table)) == pytest.approx(0.75 * h(0.1) + 0.25 * h(0.3), abs=1e-12)
    assert entropy_bits(stationary(table)) == pytest.approx(h(0.25), abs=1e-12)


def test_a_fair_coin_of_any_order_costs_one_bit_and_a_sure_thing_none() -> None:
    for order in (1, 2, 3):
        table = np.full((2**order, 2), 0.5)
        assert entropy_rate_bits(table, stationary(table)) == pytest.approx(1.0)
    assert entropy_bits(np.array([[1.0, 0.0]])).tolist() == [0.0]


def test_second_order_states_shift_oldest_first() -> None:
    # After (a, b) comes a almost surely when a != b: the chain repeats 0 1 0 1 or rests at 00 or 11.
    table = np.array([[0.5, 0.5], [0.99, 0.01], [0.01, 0.99], [0.5, 0.5]])
    kept = stationary(table)
    shifted = np.zeros(4)
    for state in range(4):
        for symbol in range(2):
            shifted[(2 * state + symbol) % 4] += kept[state] * table[state, symbol]
    assert shifted == pytest.approx(kept, abs=1e-12)
    assert kept[1] > 5 * kept[0]


def test_a_periodic_chain_is_refused() -> None:
    table = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    with pytest.raises(ArithmeticError):
        stationary(table)


def test_tables_are_distributions_without_zeros() -> None:
    table = transitions(generator(0, "x").bit_generator, symbols=5, order=3)
    assert table.shape == (125, 5)
    assert table.sum(axis=1) == pytest.approx(np.ones(125))
    assert table.min() >= 0.01 / 5


def test_uniform_draws_fill_the_unit_interval() -> None:
    drawn = uniform(generator(0, "x").bit_generator, 100, 200)
    assert 0 <= drawn.min() < 0.001 < 0.999 < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)


def test_samples_follow_the_table_from_the_first_symbol() -> None:
    table = np.array([[0.9, 0.1], [0.3, 0.7]])
    drawn = sample(generator(0, "x").bit_generator, table, stationary(table), documents=4000, length=20)
    assert drawn.mean(axis=0) == pytest.approx(np.full(20, 0.25), abs=0.03)
    after_one = drawn[:, 1:][drawn[:, :-1] == 1]
    assert after_one.mean() == pytest.approx(0.7, abs=0.02)


def test_the_true_model_costs_the_stated_entropy(tmp_path: Path) -> None:
    corpus = prepare(SPEC_SYNTHETIC, base=tmp_path, cache=tmp_path)
    total, count = 0.0, 0
    for split in ("train", "tune", "test"):
        for one in corpus.documents(split):
            number = int(one.domain.removeprefix("source-"))
            symbol_of = np.zeros(256, dtype=np.int64)
            symbol_of[source_alphabet(SPEC_SYNTHETIC, number)] = np.arange(SPEC_SYNTHETIC.symbols)
            symbols = symbol_of[corpus.tokens(split)[one.start : one.stop]]
            states = symbols[:-2] * SPEC_SYNTHETIC.symbols + symbols[1:-1]
            total -= np.log2(source_table(SPEC_SYNTHETIC, number)[states, symbols[2:]]).sum()
            count += len(states)
    assert count == 300 * 498
    assert corpus.facts.entropy_bits_per_byte is not None
    # The standard deviation of a symbol's cost is about 1.3 bits: four standard errors.
    assert total / count == pytest.approx(corpus.facts.entropy_bits_per_byte, abs=4 * 1.3 / np.sqrt(count))


def test_each_source_is_a_domain_with_its_own_alphabet_in_every_split(tmp_path: Path) -> None:
    corpus = prepare(SPEC_SYNTHETIC, base=tmp_path, cache=tmp_path)
    assert corpus.facts.domains == ("source-0", "source-1", "source-2")
    for split in ("train", "tune", "test"):
        assert {one.domain for one in corpus.documents(split)} == set(corpus.facts.domains)
    alphabets = {bytes(sorted(source_alphabet(SPEC_SYNTHETIC, number).tolist())) for number in range(3)}
    assert len(alphabets) == 3
    assert all(len(set(alphabet)) == SPEC_SYNTHETIC.symbols and min(alphabet) > 32 for alphabet in alphabets)


def test_the_same_spec_gives_the_same_bytes_and_another_spec_others() -> None:
    first, again = SPEC_SYNTHETIC.gather(Path()), SPEC_SYNTHETIC.gather(Path())
    assert first == again
    other = SPEC_SYNTHETIC.model_copy(update={"symbols": 7}).gather(Path())
    assert first.texts[0].body != other.texts[0].body


def test_the_note_adds_the_cost_of_the_start() -> None:
    spec = SPEC_SYNTHETIC.model_copy(update={"sources": 1})
    found = spec.gather(Path())
    rate = found.entropy_bits_per_byte
    assert rate is not None
    start = float(entropy_bits(stationary(source_table(spec, 0))))
    assert f"whole documents cost {(start + 498 * rate) / 500:.4f} bits" in found.notes[1]


def test_more_sources_than_documents_use_a_document_each() -> None:
    spec = SPEC_SYNTHETIC.model_copy(update={"sources": 64, "documents": 10})
    assert len(spec.gather(Path()).texts) == 10


# ----------------------------------------------------------------------------------------------------
# Sources from other packages: found by entry point, checked like any text.


def offer(monkeypatch: pytest.MonkeyPatch, texts: Iterable[Text]) -> None:
    source = Source(says="", gather=lambda spec, base: Gathered(texts=texts), fingerprint=lambda spec, base: None)
    monkeypatch.setattr(plugin, "OFFERED_HERE", source, raising=False)
    point = EntryPoint(name="letters", value="moebench.data.sources.plugin:OFFERED_HERE", group=plugin.GROUP)
    not_one = EntryPoint(name="wrong", value="moebench.data.sources.plugin:GROUP", group=plugin.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point, not_one] if group == plugin.GROUP else [])


def asked(name: str = "letters") -> PluginData:
    return PluginData(source="plugin", name=name, options={"size": 3}, context=8)


def test_an_entry_point_gives_a_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, [small_corpora_text(str(i), words(i, 200)) for i in range(20)])
    corpus = prepare(asked(), base=tmp_path, cache=tmp_path)
    assert sum(corpus.facts.documents.values()) == 20
    assert prepare(asked(), base=tmp_path, cache=tmp_path).digest == corpus.digest


def test_texts_may_come_one_after_the_other_and_fail_on_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def some(last: int) -> Iterator[Text]:
        for number in range(20):
            yield small_corpora_text(str(number), words(number, abs(2000 // (number - last))))

    offer(monkeypatch, some(-1))
    assert sum(prepare(asked(), base=tmp_path, cache=tmp_path / "a").facts.documents.values()) == 20
    offer(monkeypatch, some(10))
    with pytest.raises(DataError, match=r"data source 'letters' fails: .*ZeroDivisionError"):
        prepare(asked(), base=tmp_path, cache=tmp_path / "b")


@pytest.mark.parametrize("bad", [b"", b"a\0b"])
def test_unfit_texts_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: bytes) -> None:
    offer(monkeypatch, [small_corpora_text("fine", words(0, 200)), small_corpora_text("unfit", bad)])
    with pytest.raises(DataError, match="'unfit'"):
        prepare(asked(), base=tmp_path, cache=tmp_path)


def test_two_documents_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, [small_corpora_text("twin", words(0, 200)), small_corpora_text("twin", words(1, 200))])
    with pytest.raises(DataError, match="two documents named 'twin'"):
        prepare(asked(), base=tmp_path, cache=tmp_path)


def test_unknown_names_list_the_known_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is installed"):
        prepare(asked("nobody"), base=tmp_path, cache=tmp_path)
    offer(monkeypatch, [])
    with pytest.raises(DataError, match="known: letters, wrong"):
        prepare(asked("nobody"), base=tmp_path, cache=tmp_path)
    with pytest.raises(DataError, match=r"is not a moebench\.data\.Source"):
        prepare(asked("wrong"), base=tmp_path, cache=tmp_path)
