"""How much text documents share, by 50-byte windows.

Every window has a 64-bit polynomial hash (Rabin & Karp) over random byte values, computed for all windows at once
from prefix sums modulo 2**64: the base is odd, so it has an inverse and a window's hash can be shifted to position 0.
A window holds no separator, so none crosses documents. Streams are read a piece at a time, and of a very large test
split windows are sampled by their hash, so that memory does not grow with the text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import SEPARATOR
from moebench.data.spool import Hashes, blocks
from moebench.seeds import generator

WINDOW_BYTES = 50
MOST_ASKED = 1 << 21
"""Windows of the test split that are looked for; of more those whose hash is a multiple of a power of two stand for
all. Each stands or falls for all equal ones, so that the share expected is the same."""
CHUNK = 1 << 15
"""Bytes hashed at once: what is computed of so many stays in the processor's cache."""
_MOST_BITS = 26
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)

Bytes = NDArray[np.uint8]


@functools.lru_cache(maxsize=4)
def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    powers = np.cumprod(powers, dtype=np.uint64)
    powers.setflags(write=False)
    return powers


@functools.cache
def _values() -> Hashes:
    """What each byte counts as."""
    return generator(0, "data.overlap").bit_generator.random_raw(256).astype(np.uint64)


def _mix(hashes: Hashes) -> Hashes:
    """The finaliser of splitmix64, in place: every bit of the result depends on every bit of the argument."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def window_hashes(stream: Bytes) -> tuple[Hashes, NDArray[np.int64]]:
    """Hashes of all 50-byte windows of a stream that hold no separator, and where each window starts: [n], [n]."""
    count = len(stream) - WINDOW_BYTES + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    size = 1 << (len(stream) - 1).bit_length()  # so that few tables of powers are made
    sums = np.empty(len(stream) + 1, dtype=np.uint64)
    sums[0] = 0
    np.take(_values(), stream, out=sums[1:], mode="clip")  # unbuffered, so ten times as fast as without the mode
    sums[1:] *= _powers(_BASE, size)[: len(stream)]
    np.cumsum(sums, out=sums)
    hashes = sums[WINDOW_BYTES:] - sums[:-WINDOW_BYTES]
    hashes *= _powers(_INVERSE, size)[:count]
    ends = stream == SEPARATOR
    if not ends.any():
        return _mix(hashes), np.arange(count)
    separators = np.zeros(len(stream) + 1, dtype=np.int32)
    np.cumsum(ends, out=separators[1:])
    starts = np.flatnonzero(separators[WINDOW_BYTES:] == separators[:-WINDOW_BYTES])
    return _mix(hashes[starts]), starts


def hashes_of(stream: Bytes, *, one_in: int = 1) -> Iterator[Hashes]:
    """Hashes of all windows of a stream, piece by piece; with `one_in`, a power of two, of those that are multiples.

    Pieces overlap so that each window lies in exactly one.
    """
    for piece in blocks(stream, at_once=CHUNK, beyond=WINDOW_BYTES - 1):
        hashes, _ = window_hashes(piece)
        yield hashes if one_in == 1 else hashes[hashes & np.uint64(one_in - 1) == 0]


def leak_share(test: Bytes, train: Bytes) -> float:
    """Share of the 50-byte windows of one stream that also occur in the other; 0.0 when it has none.

    Both are streams of documents, each preceded by the separator.
    """
    one_in = 1 << max(0, len(test) // MOST_ASKED).bit_length()
    every = np.concatenate([*hashes_of(test, one_in=one_in)])
    if not len(every):
        return 0.0
    every.sort()
    first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
    asked, times = every[first], np.diff(first, append=len(every))
    bits = min((8 * len(asked)).bit_length(), _MOST_BITS)
    marked = np.zeros(1 << bits, dtype=bool)  # most windows that do not occur are told from these alone
    marked[_place(asked, bits)] = True
    occurs = np.zeros(len(asked), dtype=bool)
    for known in hashes_of(train, one_in=one_in):
        known = np.sort(known[marked[_place(known, bits)]])
        at = np.searchsorted(asked, known)
        occurs[at[asked[np.minimum(at, len(asked) - 1)] == known]] = True
    return float(times[occurs].sum() / times.sum())


def _place(hashes: Hashes, bits: int) -> NDArray[np.int64]:
    """Of a hash among the marks; not by the bits that sampling goes by."""
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)
