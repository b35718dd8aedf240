"""The standard library as a corpus: what is in it, what is not, and that it leaks little."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from moebench.data import DataError
from moebench.data.corpus import Corpus
from moebench.data.prepare import prepare
from moebench.data.sources import stdlib
from moebench.data.sources.stdlib import StdlibData
from tests.support.small_corpora import words

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
