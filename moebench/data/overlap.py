"""How much text documents share, by 50-byte windows.

Every window has a 64-bit polynomial hash (Rabin & Karp) over random byte values, computed for all windows at once
from prefix sums modulo 2**64: the base is odd, so it has an inverse and a window's hash can be shifted to position 0.
Near-duplicates are found on a sample chosen by the hash itself (as in winnowing, Schleimer et al. 2003), so that two
documents sample the same windows of the text they share. A window holds no separator, so none crosses documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import SEPARATOR
from moebench.seeds import generator

WINDOW_BYTES = 50
SAMPLED_ONE_IN = 16
"""One window in so many stands for its document in the search for near-duplicates."""
NEAR_DUPLICATE_SHARE = 0.2
"""Two documents are near-duplicates when they share this much of the smaller one's sample."""
_NEIGHBOURS = 16
"""A window found in many documents links each to this many next ones: copies by the hundred still hang together."""
_CHUNK = 1 << 22
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)

Hashes = NDArray[np.uint64]


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)


def _mixed(hashes: Hashes) -> Hashes:
    """The finaliser of splitmix64: every bit of the result depends on every bit of the argument."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def window_hashes(stream: NDArray[np.uint8]) -> tuple[Hashes, NDArray[np.int64]]:
    """Hashes of all 50-byte windows of a stream that hold no separator, and where each window starts: [n], [n]."""
    count = len(stream) - WINDOW_BYTES + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    values = generator(0, "data.overlap").bit_generator.random_raw(256).astype(np.uint64)
    sums = np.zeros(len(stream) + 1, dtype=np.uint64)
    np.cumsum(values[stream] * _powers(_BASE, len(stream)), out=sums[1:])
    hashes = (sums[WINDOW_BYTES:] - sums[:-WINDOW_BYTES]) * _powers(_INVERSE, count)
    separators = np.concatenate([[0], np.cumsum(stream == SEPARATOR)])
    starts = np.flatnonzero(separators[WINDOW_BYTES:] == separators[:-WINDOW_BYTES])
    return _mixed(hashes[starts]), starts


def _chunks(stream: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Offset and bytes of pieces that overlap so that each window lies in exactly one."""
    for offset in range(0, len(stream), _CHUNK):
        yield offset, stream[offset : offset + _CHUNK + WINDOW_BYTES - 1]


def leak_share(test: NDArray[np.uint8], train: NDArray[np.uint8]) -> float:
    """Share of all 50-byte windows of one stream that also occur in the other; 0.0 when it has none.

    Both are streams of documents, each preceded by the separator.
    """
    asked = np.sort(np.concatenate([window_hashes(piece)[0] for _, piece in _chunks(test)]))
    if not len(asked):
        return 0.0
    occurs = np.zeros(len(asked), dtype=bool)
    for _, piece in _chunks(train):
        known = np.sort(window_hashes(piece)[0])
        if len(known):
            at = np.searchsorted(known, asked)
            occurs |= known[np.minimum(at, len(known) - 1)] == asked
    return float(occurs.mean())


def repeated_share(bodies: Sequence[bytes]) -> float:
    """Share of sampled 50-byte windows that are repeats of an earlier one, in the same document or another.

    Text that stands there n times counts (n - 1) / n: 60 copies of one text give 98%.
    """
    stream = np.frombuffer(b"".join(b"\0" + body for body in bodies), dtype=np.uint8)
    kept = [np.empty(0, dtype=np.uint64)]
    for _, piece in _chunks(stream):
        hashes = window_hashes(piece)[0]
        kept.append(hashes[hashes % np.uint64(SAMPLED_ONE_IN) == 0])
    sampled = np.concatenate(kept)
    return 1 - len(np.unique(sampled)) / len(sampled) if len(sampled) else 0.0


def _samples(bodies: Sequence[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    """Distinct (hash, document) pairs of all documents' samples, sorted by hash and then by document: [n], [n]."""
    stream = np.frombuffer(b"".join(b"\0" + body for body in bodies), dtype=np.uint8)
    ends = np.cumsum([1 + len(body) for body in bodies])
    hashes, documents = [], []
    for offset, piece in _chunks(stream):
        of_piece, starts = window_hashes(piece)
        kept = of_piece % np.uint64(SAMPLED_ONE_IN) == 0
        hashes.append(of_piece[kept])
        documents.append(np.searchsorted(ends, starts[kept] + offset, side="right"))
    all_hashes, all_documents = np.concatenate(hashes), np.concatenate(documents).astype(np.int64)
    order = np.lexsort((all_documents, all_hashes))
    all_hashes, all_documents = all_hashes[order], all_documents[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (all_hashes[1:] != all_hashes[:-1]) | (all_documents[1:] != all_documents[:-1])
    return all_hashes[fresh], all_documents[fresh]


def near_duplicates(bodies: Sequence[bytes], *, share: float = NEAR_DUPLICATE_SHARE) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of documents that share `share` or more of the smaller one's sampled windows.

    Of a window found in very many documents only pairs near each other in the order of documents are looked at, and
    identical documents too short to be sampled are paired in a chain: enough to union what belongs together.
    """
    hashes, documents = _samples(bodies)
    sizes = np.bincount(documents, minlength=len(bodies))
    keys = []
    for step in range(1, _NEIGHBOURS + 1):
        together = np.flatnonzero(hashes[step:] == hashes[:-step])
        keys.append(documents[together] * len(bodies) + documents[together + step])
    pairs, shared = np.unique(np.concatenate(keys), return_counts=True)
    left, right = np.divmod(pairs, len(bodies))
    close = shared >= share * np.minimum(sizes[left], sizes[right])
    alike = list(zip(left[close].tolist(), right[close].tolist(), strict=True))
    last_seen: dict[bytes, int] = {}
    for index, body in enumerate(bodies):
        if sizes[index] == 0:
            if body in last_seen:
                alike.append((last_seen[body], index))
            last_seen[body] = index
    return alike
