"""From documents to batches: splits, shared text, digests and the cache, batches and evaluation windows."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from moebench.data import copies, overlap, spool
from moebench.data.batches import _permuted, evaluation_windows, roll, train_batch
from moebench.data.copies import Sample
from moebench.data.corpus import TABLE, Corpus
from moebench.data.documents import DataError, Text
from moebench.data.overlap import WINDOW_BYTES, leak_share, window_hashes
from moebench.data.prepare import prepare
from moebench.data.sources import DataSpec
from moebench.data.sources.text import TextData
from moebench.data.splits import HELD_OUT_SHARE, SPLITS, together, united
from moebench.data.splits import split as split_numbers
from moebench.data.spool import Spool
from moebench.seeds import generator
from tests.support.small_corpora import corpus, ordinary, text, words
from tests.support.small_corpora import corpus as corpus_of


def many(count: int = 200, size: int = 400, domains: int = 1) -> list[Text]:
    return [text(f"{i % domains}/{i}", words(i, size), domain=f"d{i % domains}") for i in range(count)]


def split(texts: list[Text], *, independent: bool = False) -> dict[str, list[Text]]:
    """The texts of each split, in their order."""
    with Spool(NOWHERE) as spooled:
        columns = spooled.read(texts)
        with Sample([] if independent else spooled.bodies(), columns, NOWHERE) as sample:
            related = np.empty((0, 2), dtype=np.int64) if independent else sample.near_duplicates()
        of_text = split_numbers(columns, related, spooled.name)
    return {name: [texts[i] for i in np.flatnonzero(of_text == number)] for number, name in enumerate(SPLITS)}


def near_duplicates(bodies: list[bytes]) -> list[tuple[int, int]]:
    with Spool(NOWHERE) as spooled:
        columns = spooled.read([text(str(i), body) for i, body in enumerate(bodies)])
        with Sample(spooled.bodies(), columns, NOWHERE) as sample:
            return [(left, right) for left, right in sample.near_duplicates().tolist()]


NOWHERE = Path("/nowhere")
"""No test of few texts writes any."""


def names(texts: list[Text]) -> set[str]:
    return {one.name for one in texts}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=3, max_size=60), st.integers(1, 4))
def test_three_splits_disjoint_complete_and_not_empty(sizes: list[int], domains: int) -> None:
    texts = [text(f"{i}", b"%d:" % i + words(i, size), domain=f"d{i % domains}") for i, size in enumerate(sizes)]
    splits = split(texts)
    assert sorted(one.name for name in SPLITS for one in splits[name]) == sorted(one.name for one in texts)
    assert all(splits[name] for name in SPLITS)


def test_held_out_shares_are_reached_in_every_domain() -> None:
    splits = split(many(domains=3))
    for domain in ("d0", "d1", "d2"):
        share = {name: sum(len(one.body) for one in splits[name] if one.domain == domain) for name in SPLITS}
        for name in ("tune", "test"):
            assert share[name] / sum(share.values()) == pytest.approx(HELD_OUT_SHARE, abs=0.02)


def test_the_choice_does_not_depend_on_the_order_of_the_documents() -> None:
    texts = many()
    shuffled = random.Random(0).sample(texts, len(texts))
    assert {k: names(v) for k, v in split(texts).items()} == {k: names(v) for k, v in split(shuffled).items()}


def test_a_new_document_moves_few_others() -> None:
    texts = many()
    before, after = split(texts), split([*texts, text("new", words(999, 400))])
    moved = sum(len(names(before[name]) - names(after[name])) for name in SPLITS)
    assert moved <= 4


def test_texts_of_one_group_stay_together() -> None:
    texts = [
        text(f"{kind}/{i}", words(1000 * k + i, 400), domain=kind, group=str(i))
        for i in range(100)
        for k, kind in enumerate(("code", "docstrings"))
    ]
    splits = split(texts)
    groups = [{one.group for one in splits[name]} for name in SPLITS]
    assert all(len(splits[name]) == 2 * len(group) for name, group in zip(SPLITS, groups, strict=True))


def test_near_duplicates_stay_together_and_nothing_leaks() -> None:
    originals = many(60, 1000)
    copies = [text(f"copy-{one.name}", one.body[100:] + words(7000 + i, 50)) for i, one in enumerate(originals)]
    splits = split([*originals, *copies])
    for name in SPLITS:
        own = names(splits[name])
        assert {f"copy-{one}" for one in own if not one.startswith("copy-")} == {
            one for one in own if one.startswith("copy-")
        }


def test_independent_documents_are_not_compared() -> None:
    texts = [text(str(i), b"the same" * 50) for i in range(30)]
    assert len(split(texts, independent=True)["test"]) == 3
    with pytest.raises(DataError, match="1 groups of near-duplicates"):
        split(texts)


def test_too_few_documents_are_refused_with_advice() -> None:
    with pytest.raises(DataError, match="at least three documents"):
        split(many(2))


def test_grouping_is_transitive() -> None:
    texts = [text(str(i), b"x", group="g" if i in (0, 5) else None) for i in range(6)]
    with Spool(NOWHERE) as spooled:
        own = together(spooled.read(texts))
    assert own.tolist() == [[0, 5]]
    assert united(6, np.array([*own.tolist(), (4, 3), (1, 3), (2, 5)])).tolist() == [0, 1, 0, 1, 1, 0]


def test_domains_of_one_or_two_documents_are_pooled() -> None:
    texts = [text(str(i), words(i, 500), domain=f"d{i}") for i in range(30)]
    splits = split(texts)
    assert [len(splits[name]) for name in SPLITS] == [24, 3, 3]


# ----------------------------------------------------------------------------------------------------
# Shared text between documents: window hashes, the leak share, near-duplicates.


def stream(*bodies: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(b"\0" + body for body in bodies), dtype=np.uint8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=130).map(lambda raw: bytes(b"ab"[b % 2] for b in raw)), min_size=1, max_size=4))
def test_hashes_are_equal_exactly_where_the_windows_are(bodies: list[bytes]) -> None:
    whole = stream(*bodies)
    hashes, starts = window_hashes(whole)
    windows = [whole[start : start + WINDOW_BYTES].tobytes() for start in starts]
    assert len(set(hashes.tolist())) == len(set(windows))
    assert len(set(zip(hashes.tolist(), windows, strict=True))) == len(set(windows))


def test_windows_never_cross_documents_and_miss_none() -> None:
    _, starts = window_hashes(stream(words(1, 60), words(2, 49), words(3, 50)))
    assert starts.tolist() == [*range(1, 12), 112]


def test_leak_share_by_hand() -> None:
    shared = words(1, 80)
    test = stream(shared + words(2, 69), words(3, 100))  # 149 - 49 = 100 windows and 51
    train = stream(words(4, 500), words(5, 30) + shared + words(6, 30))
    assert leak_share(test, train) == pytest.approx((80 - 49) / 151)


def test_a_window_that_leaks_twice_counts_twice() -> None:
    repeated = words(1, 50)
    assert leak_share(stream(repeated, repeated, words(2, 50)), stream(repeated)) == pytest.approx(2 / 3)


def test_text_across_a_document_boundary_does_not_leak() -> None:
    body = words(1, 90)
    assert leak_share(stream(body), stream(body[:45], body[45:])) == 0.0


def test_leak_share_without_windows_is_zero() -> None:
    assert leak_share(stream(b"short"), stream(words(1, 100))) == 0.0
    assert leak_share(stream(words(1, 100)), stream(b"short")) == 0.0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = words(1, 400)
    bodies = [words(2, 300) + shared, words(3, 200), shared + words(4, 100), b"x", b"x"]
    before = leak_share(stream(*bodies[:2]), stream(*bodies[2:])), near_duplicates(bodies)
    for module in (overlap, copies):
        monkeypatch.setattr(module, "CHUNK", 64)
    assert (leak_share(stream(*bodies[:2]), stream(*bodies[2:])), near_duplicates(bodies)) == before


def test_what_goes_to_the_disk_is_found_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Parts of a few windows each, in files, and a text of a hundred pieces: as in memory at once."""
    texts = [text(f"{i}", words(i % 60, 900) + words(1000 + i, i), domain=f"d{i % 3}") for i in range(150)]
    bodies = [one.body for one in texts]

    def found(folder: Path) -> list[object]:
        with Spool(folder) as spooled:
            columns = spooled.read(texts)
            assert [*spooled.bodies()] == bodies
            assert [*spooled.names()] == [one.name for one in texts]
            with Sample(spooled.bodies(), columns, folder) as sample:
                pairs = sample.near_duplicates()
                half = np.arange(150) % 2 == 0
                return [
                    pairs.tolist(),
                    sample.repeated_share(half),
                    split_numbers(columns, pairs, spooled.name).tolist(),
                ]

    before = found(NOWHERE)
    assert len(before[0]) == 120
    monkeypatch.setattr(spool, "MOST_IN_PART", 256)
    monkeypatch.setattr(spool, "KEPT_IN_MEMORY", 1000)
    monkeypatch.setattr(copies, "CHUNK", 2000)
    assert found(tmp_path) == before
    assert list(tmp_path.iterdir()) == [], "files without a name"


def test_of_a_large_test_split_some_windows_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    test = stream(*(words(i, 2000) for i in range(40)))
    train = stream(*(words(i, 1000) + words(100 + i, 1000) for i in range(0, 40, 2)))
    exact = leak_share(test, train)
    assert exact == pytest.approx(20 * 951 / (40 * 1951))
    monkeypatch.setattr(overlap, "MOST_ASKED", len(test) // 5)
    sampled = leak_share(test, train)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.02)  # a window in eight: 10,000


def test_near_duplicates_are_found_and_strangers_are_not() -> None:
    original = words(1, 9000)
    edited = original[:1000] + words(2, 60) + original[1100:]
    contained = original[2000:3000]  # all of the smaller, a ninth of the larger
    assert near_duplicates([words(3, 3000), original, words(4, 3000), edited, contained]) == [(1, 3), (1, 4), (3, 4)]


def test_a_little_shared_text_makes_no_near_duplicates() -> None:
    header = words(1, 150)
    assert near_duplicates([header + words(seed, 3000) for seed in (2, 3, 4)]) == []


def test_hundreds_of_copies_hang_together() -> None:
    pairs = near_duplicates([words(1, 500)] * 300)
    reached = {0}
    for left, right in sorted(pairs):
        if left in reached:
            reached.add(right)
    assert reached == set(range(300))


def test_equal_documents_too_short_for_a_window_are_near_duplicates() -> None:
    assert near_duplicates([b"tiny", b"other", b"tiny", b"tiny"]) == [(0, 2), (2, 3)]


# ----------------------------------------------------------------------------------------------------
# prepare(): digests over content, and a cache that is believed only when it is what was written.


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
        (corpus.tokens(split).tobytes(), list(corpus.documents(split)), corpus.split_digest(split))
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
    for name in ("train", "tune", "test"):
        stream, place = corpus.tokens(name), 0
        for one in corpus.documents(name):
            assert one.start == place + 1
            assert stream[one.start - 1] == 0
            assert stream[one.start : one.stop].tobytes() == Path(base, "texts", one.name).read_bytes()
            place, seen = one.stop, seen + 1
        assert place == len(stream) == corpus.facts.tokens[name]
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
    table = np.fromfile(folder / "test.documents.bin", dtype=TABLE)
    table["stop"][0] -= 1
    table.tofile(folder / "test.documents.bin")


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
    kinds = ("bin", "documents.bin", "names.bin")
    assert names == {"facts.json", *(f"{split}.{kind}" for split in SPLITS for kind in kinds)}


def test_a_leak_is_noted_with_its_share(base: Path) -> None:
    for i in range(40):  # 100 of 420 bytes are the same in every file: too few for near-duplicates
        path = base / "texts" / f"d{i % 2}" / f"{i}.txt"
        path.write_bytes(words(999, 100) + bytes([33 + i]) + words(i, 319))
    facts = prepare(spec(), base=base, cache=base / "cache").facts
    assert facts.leak_share == pytest.approx(51 / 371)
    assert facts.leak_threshold == 0.05
    assert "13.7% of the test split's 50-byte windows" in facts.notes[-1]


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'stdlib', 'python', 'text'"):
        TypeAdapter(DataSpec).validate_python({"source": "web"})


# ----------------------------------------------------------------------------------------------------
# Batches, evaluation windows and the rolling digest: functions of corpus, seed and step.


def batches(one, *, seed: int, steps: int, batch_tokens: int = 64) -> list[np.ndarray]:
    return [train_batch(one, seed=seed, step=step, batch_tokens=batch_tokens) for step in range(steps)]


# ------------------------------------------------------------------------------------------ training


def test_a_batch_has_whole_windows_of_the_stream() -> None:
    one = ordinary()
    batch = train_batch(one, seed=0, step=0, batch_tokens=70)
    assert batch.shape == (4, 17)
    assert batch.dtype == np.int64
    whole = one.tokens("train").tobytes()
    assert all(bytes(row.astype(np.uint8)) in whole for row in batch)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100), size=st.integers(40, 900), context=st.integers(8, 20))
def test_an_epoch_holds_every_window_exactly_once(seed: int, size: int, context: int) -> None:
    # Counting bytes make every window tell its place in the stream.
    body = bytes(1 + (i % 255) if i % 2 else 1 + i // 510 for i in range(size))
    few = [text("x", b"abc")]
    one = corpus(train=[text("t", body)], tune=few, test=few, context=context)
    stream = one.tokens("train")
    windows = (len(stream) - context) // context
    for epoch in range(2):
        rows = [train_batch(one, seed=seed, step=epoch * windows + i, batch_tokens=context)[0] for i in range(windows)]
        starts = sorted(stream.tobytes().index(row.astype(np.uint8).tobytes()) for row in rows)
        assert starts[0] < context
        assert np.diff(starts).tolist() == [context] * (windows - 1)


def test_the_same_seed_and_step_give_the_same_batch_in_any_order() -> None:
    one, again = ordinary(), ordinary()
    forwards = batches(one, seed=3, steps=200)
    assert all(
        np.array_equal(train_batch(again, seed=3, step=step, batch_tokens=64), forwards[step])
        for step in (199, 0, 150, 77, 78)
    )


def test_other_seeds_and_other_epochs_have_other_orders() -> None:
    one = ordinary()
    windows = (len(one.tokens("train")) - 16) // 16
    epoch = windows // 4
    first = np.concatenate(batches(one, seed=0, steps=epoch))
    assert not np.array_equal(first, np.concatenate(batches(one, seed=1, steps=epoch)))
    later = np.concatenate([train_batch(one, seed=0, step=epoch + step, batch_tokens=64) for step in range(epoch)])
    assert not np.array_equal(first, later)


def test_every_seed_cuts_the_stream_at_its_own_offset() -> None:
    one = ordinary()
    stream = one.tokens("train").tobytes()
    firsts = [train_batch(one, seed=seed, step=0, batch_tokens=16)[0].astype(np.uint8).tobytes() for seed in range(20)]
    assert len({stream.index(first) % 16 for first in firsts}) > 5


def test_batch_size_does_not_change_the_stream_of_windows() -> None:
    one = ordinary()
    small, large = batches(one, seed=2, steps=240, batch_tokens=32), batches(one, seed=2, steps=60, batch_tokens=128)
    assert np.array_equal(np.concatenate(small), np.concatenate(large))


def test_a_batch_larger_than_an_epoch_goes_on_into_the_next() -> None:
    one = ordinary(train_bytes=200)
    windows = (len(one.tokens("train")) - 16) // 16
    assert windows < 40 / 3
    rows = train_batch(one, seed=0, step=0, batch_tokens=16 * 40)
    assert np.array_equal(rows, np.concatenate(batches(one, seed=0, steps=40, batch_tokens=16)))


@pytest.mark.parametrize("size", [1, 2, 5, 16, 17, 1000, 4097])
def test_an_order_that_is_computed_place_by_place_is_a_permutation(size: int) -> None:
    keys = generator(0, "x").bit_generator.random_raw(6)
    whole = _permuted(np.arange(size, dtype=np.uint64), size, keys)
    assert sorted(whole.tolist()) == list(range(size))
    some = np.arange(size // 3, size // 2, dtype=np.uint64)
    assert np.array_equal(_permuted(some, size, keys), whole[size // 3 : size // 2])
    if size == 4097:
        other = _permuted(np.arange(size, dtype=np.uint64), size, generator(1, "x").bit_generator.random_raw(6))
        assert (whole == other).mean() < 0.01
        steps = np.diff(whole.astype(np.int64))
        assert abs(np.corrcoef(np.arange(size), whole.astype(np.float64))[0, 1]) < 0.05
        assert len(np.unique(steps)) > size // 2


def test_a_long_epoch_holds_every_window_exactly_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ordinary()
    windows = (len(one.tokens("train")) - 16) // 16
    monkeypatch.setattr("moebench.data.batches.MOST_SHUFFLED", windows - 1)
    stream = one.tokens("train").tobytes()
    first, second = (
        [train_batch(one, seed=0, step=epoch * windows + i, batch_tokens=16)[0] for i in range(windows)]
        for epoch in range(2)
    )
    starts = [stream.index(row.astype(np.uint8).tobytes()) for row in first]
    assert np.diff(sorted(starts)).tolist() == [16] * (windows - 1)
    assert not np.array_equal(first, second)
    whole = train_batch(one, seed=0, step=0, batch_tokens=16 * (windows + 5))
    assert np.array_equal(whole, np.array([*first, *second[:5]]))


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="no window of context 16"):
        train_batch(ordinary(), seed=0, step=0, batch_tokens=15)
    with pytest.raises(DataError, match="no window of context 64"):
        train_batch(ordinary(context=64, train_bytes=100), seed=0, step=0, batch_tokens=64)


def test_the_order_of_a_seed_is_pinned() -> None:
    # This literal changes only with TRAINING_VERSION: it decides the bits of every run.
    first = train_batch(ordinary(), seed=0, step=0, batch_tokens=32)
    assert bytes(first[0].astype(np.uint8)) == b"ww wzvogtjdn drlp"


# ------------------------------------------------------------------------------------------ evaluation


def test_targets_are_the_bytes_of_their_document_and_inputs_the_bytes_before() -> None:
    one = ordinary()
    stream, documents = one.tokens("test"), one.documents("test")
    found = evaluation_windows(one, "test", tokens=10**6)
    assert len(found.inputs) == len(found.targets) == len(found.mask) == len(found.document) == len(found.start)
    for row, (index, start) in enumerate(zip(found.document, found.start, strict=True)):
        stop = min(start + 16, documents[index].stop)
        scored = found.mask[row]
        assert documents[index].start <= start
        assert scored.tolist() == [True] * (stop - start) + [False] * (16 - stop + start)
        assert found.targets[row][scored].tolist() == stream[start:stop].tolist()
        assert found.inputs[row][scored].tolist() == stream[start - 1 : stop - 1].tolist()
        assert not found.inputs[row][~scored].any()
        assert not found.targets[row][~scored].any()
    assert (found.targets[found.mask] != 0).all()


@pytest.mark.parametrize("most", [None, 1, 4])
def test_every_byte_is_scored_once_unless_its_document_is_longer_than_asked_for(most: int | None) -> None:
    one = ordinary()
    found = evaluation_windows(one, "test", tokens=10**6, windows_per_document=most)
    places = (found.start[:, None] + np.arange(16))[found.mask]
    counts = Counter(places.tolist())
    assert set(counts.values()) == {1}
    for index, document in enumerate(one.documents("test")):
        scored = sum(counts[place] for place in range(document.start, document.stop))
        size = document.stop - document.start
        if most is None or size <= most * 16:
            assert scored == size
        else:
            assert most * 16 - 15 <= scored <= most * 16
            assert (found.document == index).sum() == most


def test_a_few_long_documents_give_all_that_was_asked_for_in_turns() -> None:
    """Of twelve books of 42 KB one is the test split: four windows of it are 256 bytes, whatever was asked."""
    test = [text(f"book{i}", words(i, 5000)) for i in range(2)]
    one = corpus(train=test, tune=test, test=test, context=64)
    assert evaluation_windows(one, "test", tokens=8192, windows_per_document=4).mask.sum() == 512
    found = evaluation_windows(one, "test", tokens=8192)
    assert 8192 <= found.mask.sum() < 8192 + 64
    assert found.document[:100].tolist() in ([0, 1] * 50, [1, 0] * 50)
    assert evaluation_windows(one, "test", tokens=10**6).mask.sum() == 10_000


@given(st.integers(1, 1500), st.integers(1, 1500))
@settings(deadline=None)
def test_fewer_tokens_are_a_prefix_of_more(some: int, others: int) -> None:
    one = ordinary()
    few, more = (evaluation_windows(one, "test", tokens=n) for n in sorted((some, others)))
    for name in ("inputs", "targets", "mask", "document", "start"):
        assert np.array_equal(getattr(few, name), getattr(more, name)[: len(few.inputs)])
    everything = evaluation_windows(one, "test", tokens=10**6).mask.sum()
    assert few.mask.sum() >= min(some, others, everything)
    assert few.mask[:-1].sum() < min(some, others)


def test_domains_take_turns_and_every_document_comes_before_any_comes_twice() -> None:
    one = ordinary()
    found = evaluation_windows(one, "test", tokens=10**6)
    domains = [one.documents("test")[index].domain for index in found.document]
    assert domains[:18] == ["a", "b"] * 9
    assert len(set(found.document[:18].tolist())) == 18


def test_a_domain_that_runs_out_leaves_the_others_their_turns() -> None:
    test = [text("a", words(1, 10), domain="a"), *(text(f"b{i}", words(2 + i, 40), domain="b") for i in range(3))]
    one = corpus(train=test, tune=test, test=test, context=16)
    found = evaluation_windows(one, "test", tokens=10**6)
    assert [one.documents("test")[index].domain for index in found.document] == ["a", *["b"] * 9]


def test_an_evaluation_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="scores nothing"):
        evaluation_windows(ordinary(), "test", tokens=0)


# ------------------------------------------------------------------------------------------ digest


def chain(stream: list[np.ndarray]) -> list[bytes]:
    digests, digest = [], b""
    for batch in stream:
        digest = roll(digest, batch)
        digests.append(digest)
    return digests


def test_a_shorter_stream_is_recognised_as_a_prefix() -> None:
    one = ordinary()
    assert chain(batches(one, seed=0, steps=5)) == chain(batches(one, seed=0, steps=9))[:5]


def test_order_and_every_token_count() -> None:
    stream = batches(ordinary(), seed=0, steps=6)
    whole = chain(stream)
    assert chain([stream[1], stream[0], *stream[2:]])[1:] != whole[1:]
    assert len(set(whole)) == 6
    mutated = [batch.copy() for batch in stream]
    mutated[2][1, 3] += 1
    assert chain(mutated)[:2] == whole[:2]
    assert all(a != b for a, b in zip(chain(mutated)[2:], whole[2:], strict=True))


def test_roll_is_over_tokens_not_over_memory_layout() -> None:
    batch = train_batch(ordinary(), seed=0, step=0, batch_tokens=64)
    assert roll(b"", batch) == roll(b"", np.asfortranarray(batch)) == roll(b"", batch.astype(np.int32))
    assert roll(b"", batch) != roll(b"", batch.reshape(-1))
