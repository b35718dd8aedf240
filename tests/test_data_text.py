"""The user's own text: what is read, what is refused, and how it becomes documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.data import DataError, Gathered
from moebench.data.prepare import prepare
from moebench.data.sources.text import CHUNK_BYTES, FEW_FILES, MOST_DOMAINS, TextData, chunks, files
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
    assert {one.domain for one in spec("letters").gather(tmp_path).texts} == {"old", "new", "top"}


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
    assert {one.name: one.body for one in spec(".").gather(tmp_path).texts}["poems/0.txt"] == b"one\ntwo\nthree\n"


def test_a_single_file_is_cut_into_documents_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [words(i, 500) for i in range(400)]
    write(tmp_path, book_txt=b"\n\n".join(paragraphs))
    found = spec("book.txt").gather(tmp_path)
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
    assert len(spec(".").gather(tmp_path).texts) == FEW_FILES
    (tmp_path / "f00.txt").unlink()
    assert len(spec(".").gather(tmp_path).texts) == 2 * (FEW_FILES - 1)


@given(st.text(max_size=400), st.integers(4, 50))
def test_chunks_are_the_text_in_whole_characters(raw: str, size: int) -> None:
    pieces = chunks(raw.encode(), size)
    assert b"".join(pieces).decode() == raw
    assert "".join(piece.decode() for piece in pieces) == raw
    assert all(len(piece) <= 2 * size + 3 for piece in pieces)


def test_folders_beyond_the_most_become_other(tmp_path: Path) -> None:
    write(tmp_path, **{f"d{i:02d}__x_txt": words(i, 300 + i) for i in range(20)})
    domains = [one.domain for one in spec(".").gather(tmp_path).texts]
    assert len(set(domains)) == MOST_DOMAINS
    assert domains == ["other"] * 5 + [f"d{i:02d}" for i in range(5, 20)]


def test_a_domain_is_a_word_that_a_label_may_hold(tmp_path: Path) -> None:
    write(twelve(tmp_path), **{"my [old], a=b__x_txt": words(99, 300)})
    assert "my__old___a_b" in {one.domain for one in spec(".").gather(tmp_path).texts}


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
        spec("poems/bad.txt").gather(tmp_path)
    found = spec(".").gather(tmp_path)
    assert len(found.texts) == 12
    assert "1 file passed over: bad.txt is not" in found.notes[-1]


def test_empty_files_are_refused_when_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"", b_txt=b" \n")
    with pytest.raises(DataError, match="hold no text"):
        spec(".").gather(tmp_path)


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
