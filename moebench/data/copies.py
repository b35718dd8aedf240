"""Which documents are copies or near-copies of each other, and how much of a text repeats itself.

Found on a sample of the 50-byte windows that is chosen by the window's hash itself (as in winnowing, Schleimer et al.
2003), so that two documents sample the same windows of the text they share. The sample is sorted part by part, each in
memory alone: what is found is the same however large the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moebench.data.overlap import CHUNK, WINDOW_BYTES, Bytes, window_hashes
from moebench.data.spool import Columns, Hashes, Indices, Parts

SAMPLED_ONE_IN = 16
"""One window in so many stands for its document; a power of two."""
NEAR_DUPLICATE_SHARE = 0.2
"""Two documents are near-duplicates when they share this much of the smaller one's sample."""
_NEIGHBOURS = 16
"""A window found in many documents links each to this many next ones: copies by the hundred still hang together."""


class Sample:
    """The windows that stand for the documents; a context manager that throws them away."""

    def __init__(self, bodies: Iterable[bytes], columns: Columns, folder: Path) -> None:
        self._columns, self._folder = columns, folder
        self._expected = int(columns.sizes.sum()) // SAMPLED_ONE_IN
        self._parts = Parts(folder, expected=self._expected)
        """(hash, document); what repeats itself within a piece of a document stands there once."""
        self._windows = np.zeros(len(columns), dtype=np.int64)
        """Windows of each document in the sample, repeats included."""
        for first, stream, ends in _pieces(bodies):
            hashes, starts = window_hashes(stream)
            kept = hashes & np.uint64(SAMPLED_ONE_IN - 1) == 0
            hashes, documents = hashes[kept], np.searchsorted(ends, starts[kept], side="right")
            self._windows[first : first + len(ends)] += np.bincount(documents, minlength=len(ends))
            self._parts.add(*_distinct(hashes, first + documents))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def near_duplicates(self, *, share: float = NEAR_DUPLICATE_SHARE) -> Indices:
        """Pairs i < j of documents that share `share` or more of the smaller one's sampled windows: [n, 2].

        Of a window found in very many documents only pairs near each other in the order of documents are looked at, and
        identical documents too short to be sampled are paired in a chain: enough to union what belongs together.
        """
        count = len(self._columns)
        sizes = np.zeros(count, dtype=np.int64)
        shared = Parts(self._folder, expected=self._expected)
        """(both documents as one number, windows they share)."""
        try:
            for hashes, documents in self._parts:
                hashes, numbers = _distinct(hashes, documents.astype(np.int64))
                sizes += np.bincount(numbers, minlength=count)
                keys = []
                for step in range(1, _NEIGHBOURS + 1):
                    together = np.flatnonzero(hashes[step:] == hashes[:-step])
                    keys.append(numbers[together] * count + numbers[together + step])
                shared.add(*np.unique(np.concatenate(keys).astype(np.uint64), return_counts=True))
            found = [np.empty((0, 2), dtype=np.int64)]
            for both, windows in shared:
                pairs, of = np.unique(both.astype(np.int64), return_inverse=True)
                left, right = np.divmod(pairs, max(count, 1))
                close = np.bincount(of, weights=windows) >= share * np.minimum(sizes[left], sizes[right])
                found.append(np.stack([left[close], right[close]], axis=1))
        finally:
            shared.close()
        alike = np.concatenate(found)
        return np.concatenate([alike[np.lexsort(alike.T[::-1])], _chained(self._columns.bodies, sizes == 0)])

    def repeated_share(self, chosen: NDArray[np.bool_]) -> float:
        """Share of the chosen documents' windows that are repeats of an earlier one, in the same document or another.

        Text that stands there n times counts (n - 1) / n: 60 copies of one text give 98%.
        """
        windows = int(self._windows[chosen].sum())
        different = sum(num_different(hashes[chosen[documents]]) for hashes, documents in self._parts)
        return 1 - different / windows if windows else 0.0


def num_different(hashes: Hashes) -> int:
    """How many values there are; numpy's own way hashes the hashes again, slowly."""
    in_order = np.sort(hashes)
    return int(np.count_nonzero(in_order[1:] != in_order[:-1])) + (len(in_order) > 0)


def _pieces(bodies: Iterable[bytes]) -> Iterator[tuple[int, Bytes, Indices]]:
    """The number of a piece's first document, its bytes, and where its documents end in them.

    Each document is preceded by the separator. Of a long one pieces overlap so that each window lies in exactly one.
    """
    first, size, waiting = 0, 0, list[bytes]()
    for number, body in enumerate(bodies):
        if waiting and size + len(body) > CHUNK:
            yield first, *_joined(waiting)
            size, waiting = 0, []
        if len(body) > CHUNK:
            stream = np.frombuffer(body, dtype=np.uint8)
            for offset in range(0, len(body), CHUNK):
                piece = stream[offset : offset + CHUNK + WINDOW_BYTES - 1]
                yield number, piece, np.array([len(piece)])
            continue
        first = first if waiting else number
        waiting.append(body)
        size += 1 + len(body)
    if waiting:
        yield first, *_joined(waiting)


def _joined(bodies: list[bytes]) -> tuple[Bytes, Indices]:
    stream = np.frombuffer(b"".join(b"\0" + body for body in bodies), dtype=np.uint8)
    return stream, np.cumsum([1 + len(body) for body in bodies])


def _distinct(hashes: Hashes, documents: Indices) -> tuple[Hashes, Indices]:
    """Pairs of hash and document, each once, by hash and then by document; the documents must come in order."""
    order = np.argsort(hashes, kind="stable")
    hashes, documents = hashes[order], documents[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (documents[1:] != documents[:-1])
    return hashes[fresh], documents[fresh]


def _chained(bodies: Hashes, among: NDArray[np.bool_]) -> Indices:
    """Each of some documents with the next that is the same: [n, 2]."""
    some = np.flatnonzero(among)
    order = some[np.argsort(bodies[some], kind="stable")]
    same = bodies[order[1:]] == bodies[order[:-1]]
    pairs = np.stack([order[:-1][same], order[1:][same]], axis=1)
    return pairs[np.argsort(pairs[:, 1])]
