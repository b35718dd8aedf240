"""Mixtures by hand: what is kept, what is left out, what it is called; and what a suite may write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from moebench.api import validate
from moebench.data import DataError
from moebench.data.corpus import Corpus
from moebench.data.documents import name_hash
from moebench.data.prepare import prepare
from moebench.data.sources.mixture import MixtureData
from moebench.suite.errors import SuiteError
from tests.support import tiny_suites
from tests.support.small_corpora import words

SPLITS = ("train", "tune", "test")


def spec(*parts: dict[str, Any], **more: Any) -> MixtureData:
    return MixtureData.model_validate({"source": "mixture", "mixture": list(parts), "context": 8, **more})


def texts(folder: str, weight: float) -> dict[str, Any]:
    return {"source": "text", "files": [folder], "weight": weight}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """a: 100 documents of 100 bytes; b: 100 of 300 bytes in two folders."""
    for i in range(100):
        for path, size in ((f"a/{i:02d}.txt", 100), (f"b/{'xy'[i % 2]}/{i:02d}.txt", 300)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(words(1000 * size + i, size))
    return tmp_path


def made(root: Path, *parts: dict[str, Any], **more: Any) -> Corpus:
    return prepare(spec(*parts, **more), base=root, cache=root / "cache")


def sizes(corpus: Corpus, split: str) -> dict[str, int]:
    """Source -> bytes in a split."""
    found: dict[str, int] = {}
    for one in corpus.documents(split):
        label = one.domain.partition(".")[0]
        found[label] = found.get(label, 0) + one.stop - one.start
    return found


def test_weights_hold_in_the_training_split_by_hand(root: Path) -> None:
    """Of a 80 documents train: 8,000 bytes. At 1 : 1 as many are taken of the 24,000 of b: 27 documents, 8,100."""
    corpus = made(root, texts("a", 1), texts("b", 1))
    assert sizes(corpus, "train") == {"text-1": 8000, "text-2": 8100}
    assert sizes(corpus, "test") == {"text-1": 1000, "text-2": 3000}
    assert sizes(corpus, "tune") == {"text-1": 1000, "text-2": 3000}
    assert corpus.facts.notes == (
        "bytes of the training split: text-1 49.7%, text-2 50.3%; left out, so that the weights hold, are 15,900 of "
        "24,000 bytes of text-2",
    )
    assert corpus.facts.documents == {"train": 107, "tune": 20, "test": 20}
    kept = {one.name for one in corpus.documents("train") if one.domain.startswith("text-2")}
    held_out = {one.name for split in ("tune", "test") for one in corpus.documents(split)}
    every = {f"text-2/{'xy'[i % 2]}/{i:02d}.txt" for i in range(100)} - held_out
    by_domain = sorted(every, key=name_hash)
    assert kept == set(by_domain[:27]), "in hash order, whole"


def test_the_scarcest_for_its_weight_is_kept_whole(root: Path) -> None:
    """At 3 : 1 the 24,000 bytes of b are too few for nothing: a's 8,000 are the three quarters, b gives 2,667."""
    corpus = made(root, texts("a", 3), texts("b", 1))
    assert sizes(corpus, "train") == {"text-1": 8000, "text-2": 2700}
    corpus = made(root, texts("a", 1), texts("b", 9))
    assert sizes(corpus, "train") == {"text-1": 2700, "text-2": 24000}
    corpus = made(root, texts("a", 5), texts("b", 4))  # 6,400 asked: a 22nd document would overshoot by 200
    assert sizes(corpus, "train") == {"text-1": 8000, "text-2": 6300}


def test_only_ratios_count_and_they_are_part_of_the_digest(root: Path) -> None:
    stored = spec(texts("a", 1), texts("b", 2))
    assert MixtureData.model_validate_json(stored.model_dump_json(), strict=True) == stored, "as a plan keeps it"
    same, twice, other = (made(root, texts("a", one), texts("b", two)).digest for one, two in ((1, 1), (2, 2), (1, 2)))
    assert same == twice != other


def test_domains_and_names_begin_with_the_source(root: Path) -> None:
    synthetic = {"source": "synthetic", "documents": 100, "document_bytes": 200, "sources": 2, "weight": 1}
    corpus = made(root, texts("b", 1), synthetic)
    assert corpus.facts.domains == ("synthetic.source-0", "synthetic.source-1", "text.x", "text.y")
    assert corpus.facts.test_domains == corpus.facts.domains
    assert {one.name.partition("/")[0] for one in corpus.documents("train")} == {"synthetic", "text"}
    assert any(note.startswith("synthetic: entropy rate by source") for note in corpus.facts.notes)
    assert spec(synthetic, synthetic).domains() == tuple(f"synthetic-{n}.source-{k}" for n in (1, 2) for k in (0, 1))
    assert spec(synthetic, texts("a", 1)).domains() == ()


def test_each_source_keeps_its_own_largest_domains(root: Path) -> None:
    for i in range(40):
        (root / "many" / f"d{i}").mkdir(parents=True)
        (root / "many" / f"d{i}" / "x.txt").write_bytes(words(i, 300 + i))
    domains = made(root, texts("many", 1), texts("b", 1)).facts.domains
    assert {"text-2.x", "text-2.y", "text-1.other", "text-1.d39"} <= set(domains)
    assert sum(name.startswith("text-1.") for name in domains) == 16


def test_copies_across_sources_are_in_one_split(root: Path) -> None:
    corpus = made(root, texts("b", 1), texts("b/x", 1))
    home = {
        (one.name.rpartition("/")[2], split) for split in SPLITS for one in corpus.documents(split)
        if one.name.startswith("text-2/") or "/x/" in one.name
    }  # fmt: skip
    assert len({name for name, _ in home}) == len(home)


def test_drawn_documents_are_not_compared(root: Path) -> None:
    """Of low entropy they share text by chance: compared, they would be one group."""
    drawn = {"source": "synthetic", "symbols": 2, "order": 3, "sources": 8, "documents": 80, "document_bytes": 400}
    corpus = made(root, texts("a", 1), {**drawn, "weight": 1})
    assert sizes(corpus, "test")["synthetic"] == 8 * 400
    assert len({one.domain for one in corpus.documents("test")}) == 9, "one of each"


def test_a_tokenizer_and_a_context_are_of_the_whole(root: Path) -> None:
    for key, value in (("context", 64), ("tokenizer", {"bpe": 300})):
        with pytest.raises(ValidationError, match=f"{key} is of the whole mixture"):
            spec(texts("a", 1), {**texts("b", 1), key: value})
    assert made(root, texts("a", 1), texts("b", 1), tokenizer={"bpe": 300}).vocab == 300


def test_what_cannot_be_mixed_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"weight of text-1 is less than one of its documents"):
        made(root, texts("a", 1e-5), texts("b", 1))
    with pytest.raises(DataError, match="no file matches"):
        made(root, texts("nowhere", 1), texts("b", 1))
    for parts in ([texts("a", 1)], [texts("a", 0), texts("b", 1)], [{"source": "none", "weight": 1}] * 2):
        with pytest.raises(ValidationError):
            spec(*parts)


# ------------------------------------------------------------------------------------------------ suites


def test_a_suite_says_mixture_and_its_mistakes_have_places(tmp_path: Path) -> None:
    path = tiny_suites.write(
        tmp_path, data={"context": 64, "mixture": [{"source": "stdlib", "weight": 1}, texts("own", 2)]}
    )
    loaded, _ = validate(path)
    assert [part.weight for part in loaded.spec.data.mixture] == [1, 2]  # type: ignore[attr-defined]
    wrong = tiny_suites.write(
        tmp_path, data={"context": 64, "mixture": [{"source": "stdlib", "wait": 1}, texts("own", 2)]}
    )
    with pytest.raises(SuiteError) as caught:
        validate(wrong)
    said = str(caught.value)
    assert "unknown key 'wait'" in said
    assert "weight" in said


def test_paths_of_a_mixture_are_those_of_the_file_that_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "above" / "set").mkdir(parents=True)
    hub = {"source": "hub", "name": "set", "weight": 1}
    elsewhere = {**hub, "name": "owner/set"}
    base = tiny_suites.write(tmp_path / "above", data={"context": 64, "mixture": [texts("own", 1), hub, elsewhere]})
    (tmp_path / "below.yaml").write_text(f"suite: below\nextends: {base}\n")
    first, second, third = validate(tmp_path / "below.yaml")[0].spec.data.mixture  # type: ignore[attr-defined]
    assert (first.files, second.name, third.name) == (["above/own"], "above/set", "owner/set")
