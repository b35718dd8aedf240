"""Shared text between documents: window hashes, the leak share, near-duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.data import overlap
from moebench.data.overlap import WINDOW_BYTES, leak_share, near_duplicates, window_hashes
from tests.support.small_corpora import words


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
    monkeypatch.setattr(overlap, "_CHUNK", 64)
    assert (leak_share(stream(*bodies[:2]), stream(*bodies[2:])), near_duplicates(bodies)) == before


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
