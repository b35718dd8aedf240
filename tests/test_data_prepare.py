"""prepare(): digests over content, and a cache that is believed only when it is what was written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from moebench.data.corpus import Corpus
from moebench.data.prepare import prepare
from moebench.data.sources import DataSpec
from moebench.data.sources.text import TextData
from tests.support.small_corpora import corpus as corpus_of
from tests.support.small_corpora import text, words


def spec(context: int = 8) -> TextData:
    return TextData(source="text", files=["texts"], context=context)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for i in range(40):
        path = tmp_path / "texts" / f"d{i % 2}" / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(words(i, 200 + i))
    return tmp_path


def contents(corpus: Corpus) -> list[object]:
    return [
        (corpus.tokens(split).tobytes(), corpus.documents(split), corpus.split_digest(split))
        for split in ("train", "tune", "test")
    ] + [corpus.facts, corpus.digest]


def only_folder(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def count_gathers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    original, calls = TextData.gather, [0]

    def gather(spec: TextData, base: Path):
        calls[0] += 1
        return original(spec, base)

    monkeypatch.setattr(TextData, "gather", gather)
    return calls


def test_documents_lie_where_the_table_says(base: Path) -> None:
    corpus = prepare(spec(), base=base, cache=base / "cache")
    assert corpus.vocab == 256
    seen = 0
    for split in ("train", "tune", "test"):
        stream, place = corpus.tokens(split), 0
        for one in corpus.documents(split):
            assert one.start == place + 1
            assert stream[one.start - 1] == 0
            assert stream[one.start : one.stop].tobytes() == Path(base, "texts", one.name).read_bytes()
            place, seen = one.stop, seen + 1
        assert place == len(stream) == corpus.facts.tokens[split]
    assert seen == 40


def test_the_cache_gives_back_what_was_built_and_reads_no_texts(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_gathers(monkeypatch)
    built, loaded = (prepare(spec(), base=base, cache=base / "cache") for _ in range(2))
    assert contents(built) == contents(loaded)
    assert calls == [1]


def test_context_changes_neither_digest_nor_cache(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_gathers(monkeypatch)
    small, large = prepare(spec(8), base=base, cache=base / "c"), prepare(spec(32), base=base, cache=base / "c")
    assert (small.digest, small.context, large.context) == (large.digest, 8, 32)
    assert calls == [1]


def test_the_digest_is_over_content_wherever_it_lies(base: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = prepare(spec(), base=base, cache=base / "cache")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (base / "texts").rename(elsewhere / "texts")
    os.utime(elsewhere / "texts" / "d0" / "0.txt", (1, 1))
    assert prepare(spec(), base=elsewhere, cache=elsewhere / "cache").digest == before.digest


def test_one_changed_byte_changes_the_digest_of_its_split_alone(base: Path) -> None:
    before = prepare(spec(), base=base, cache=base / "cache")
    name = before.documents("tune")[0].name
    path = base / "texts" / name
    path.write_bytes(b"!" + path.read_bytes()[1:])
    after = prepare(spec(), base=base, cache=base / "cache")
    assert after.digest != before.digest
    assert after.split_digest("tune") != before.split_digest("tune")
    assert after.split_digest("test") == before.split_digest("test")


def test_a_change_that_keeps_size_and_date_is_noticed(base: Path) -> None:
    before = prepare(spec(), base=base, cache=base / "cache")
    path = base / "texts" / "d0" / "0.txt"
    stat = path.stat()
    path.write_bytes(b"!" + path.read_bytes()[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert prepare(spec(), base=base, cache=base / "cache").digest != before.digest


def test_boundaries_and_domains_count_in_the_digest() -> None:
    few = [text("x", b"abc")]
    digests = {
        corpus_of(train=train, tune=few, test=few, context=8).digest
        for train in (
            [text("a", b"abcdef")],
            [text("b", b"abcdef")],
            [text("a", b"abcdef", domain="other")],
            [text("a", b"abcdeg")],
        )
    }
    assert len(digests) == 4


def damage_tokens(folder: Path) -> None:
    path = folder / "test.bin"
    body = bytearray(path.read_bytes())
    body[10] ^= 1
    path.write_bytes(body)


def cut_tokens(folder: Path) -> None:
    (folder / "train.bin").write_bytes((folder / "train.bin").read_bytes()[:-1])


def change_facts(folder: Path) -> None:
    stored = json.loads((folder / "facts.json").read_text())
    stored["facts"]["leak_share"] = 0.5
    (folder / "facts.json").write_text(json.dumps(stored))


def move_a_document(folder: Path) -> None:
    stored = json.loads((folder / "facts.json").read_text())
    stored["documents"]["test"][0][3] -= 1
    (folder / "facts.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "damage",
    [
        damage_tokens,
        cut_tokens,
        change_facts,
        move_a_document,
        lambda folder: (folder / "facts.json").unlink(),
        lambda folder: (folder / "facts.json").write_text("{"),
        lambda folder: (folder / "facts.json").write_text("[1]"),
        lambda folder: (folder / "tune.bin").unlink(),
        lambda folder: (folder / "tune.bin").write_bytes(b""),
    ],
)
def test_a_damaged_cache_is_built_again(base: Path, monkeypatch: pytest.MonkeyPatch, damage) -> None:
    calls = count_gathers(monkeypatch)
    before = contents(prepare(spec(), base=base, cache=base / "cache"))
    damage(only_folder(base / "cache"))
    assert contents(prepare(spec(), base=base, cache=base / "cache")) == before
    assert calls == [2]
    assert contents(prepare(spec(), base=base, cache=base / "cache")) == before
    assert calls == [2]


def test_a_cache_without_facts_is_one_that_was_being_written(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(spec(), base=base, cache=base / "cache")
    names = {path.name for path in only_folder(base / "cache").iterdir()}
    assert names == {"train.bin", "tune.bin", "test.bin", "facts.json"}


def test_a_leak_is_noted_with_its_share(base: Path) -> None:
    for i in range(40):  # 100 of 420 bytes are the same in every file: too few for near-duplicates
        path = base / "texts" / f"d{i % 2}" / f"{i}.txt"
        path.write_bytes(words(999, 100) + bytes([33 + i]) + words(i, 319))
    facts = prepare(spec(), base=base, cache=base / "cache").facts
    assert facts.leak_share == pytest.approx(51 / 371)
    assert facts.leak_threshold == 0.05
    assert "13.7% of the test split's 50-byte windows" in facts.notes[-1]


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'stdlib', 'text', 'synthetic', 'plugin'"):
        TypeAdapter(DataSpec).validate_python({"source": "hub"})
