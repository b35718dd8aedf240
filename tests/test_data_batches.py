"""Batches, evaluation windows and the rolling digest: functions of corpus, seed and step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.data import DataError
from moebench.data.batches import evaluation_windows, roll, train_batch
from tests.support.small_corpora import corpus, ordinary, text, words


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
