"""Which documents train, tune and test: by group, so that what belongs together is never on both sides.

Groups are the source's own (a module's code and its docstrings) joined with near-duplicates. The choice depends on
names and sizes alone, never on a seed: the test split is the same for all runs.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import DataError, name_hash
from moebench.data.spool import Columns, Hashes, Indices

SPLITS = ("train", "tune", "test")
HELD_OUT_SHARE = 0.1
"""Share of the bytes that each of tune and test gets, in every domain."""
_AT_ONCE = 1 << 16

Names = Callable[[int], str]
"""Number of a text -> its name."""


def together(columns: Columns) -> Indices:
    """Pairs of texts that their source keeps together: [n, 2]."""
    order = np.argsort(columns.groups, kind="stable")
    same = columns.groups[order[1:]] == columns.groups[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def united(count: int, pairs: Indices) -> Indices:
    """Of each of `count` texts the first of those that pairs, followed from text to text, unite it with: [count]."""
    parent = array("q", range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for start in range(0, len(pairs), _AT_ONCE):
        for left, right in pairs[start : start + _AT_ONCE].tolist():
            low, high = sorted((root(left), root(right)))
            parent[high] = low
    roots = np.array(parent, dtype=np.int64)
    while not np.array_equal(up := roots[roots], roots):
        roots = up
    return roots


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """What is known of each group: [g] each, in the order of their first texts."""

    of: Indices
    """[texts], the group of each."""
    sizes: Indices
    """Bytes."""
    domains: Indices
    """The domain that holds most of its bytes, in alphabetical order."""
    ranks: Hashes
    """That of the first of its names."""


def _groups(columns: Columns, roots: Indices, names: Names) -> _Groups:
    is_first = roots == np.arange(len(roots))
    firsts = np.flatnonzero(is_first)
    of = (np.cumsum(is_first) - 1)[roots]
    alphabetical = np.argsort(np.argsort(np.array(columns.domain_names)))[columns.domains]
    sizes = np.bincount(of, weights=columns.sizes).astype(np.int64)
    domains, ranks = alphabetical[firsts], columns.ranks[firsts]
    for number, texts in _several(of):
        held: Counter[int] = Counter()
        for index in texts:
            held[int(alphabetical[index])] += int(columns.sizes[index])
        domains[number] = min(held, key=lambda domain: (-held[domain], domain))
        ranks[number] = int.from_bytes(name_hash(min(map(names, texts)))[:8], "big")
    return _Groups(of=of, sizes=sizes, domains=domains, ranks=ranks)


def _several(of: Indices) -> Iterator[tuple[int, list[int]]]:
    """The groups of more than one text, with these."""
    some = np.flatnonzero((np.bincount(of) > 1)[of])
    some = some[np.argsort(of[some], kind="stable")]
    ends = np.flatnonzero(np.diff(of[some], append=-1)) + 1
    start = 0
    for end in ends.tolist():
        yield int(of[some[start]]), some[start:end].tolist()
        start = end


def _strata(groups: _Groups) -> list[Indices]:
    """Groups by domain; domains with under three groups are pooled."""
    order = np.argsort(groups.domains, kind="stable")
    of_each = np.split(order, np.flatnonzero(np.diff(groups.domains[order])) + 1)
    whole = [of_domain for of_domain in of_each if len(of_domain) >= 3]
    pooled = [of_domain for of_domain in of_each if len(of_domain) < 3]
    if sum(map(len, pooled)) >= 3 or not whole:
        return [*whole, np.concatenate(pooled)] if pooled else whole
    return [np.concatenate([whole[0], *pooled]), *whole[1:]]


def _divide(groups: _Groups, some: Indices) -> Iterator[tuple[str, Indices]]:
    """Takes groups in hash order into test and then tune until each has its share of the bytes; the rest trains."""
    left = some[np.argsort(groups.ranks[some], kind="stable")]
    wanted = HELD_OUT_SHARE * int(groups.sizes[some].sum())
    for split, kept_back in (("test", 2), ("tune", 1)):
        taken: list[int] = []
        filled = 0
        for place in range(len(left)):
            size = int(groups.sizes[left[place]])
            # A group that would overshoot by more than it fills is passed over; the next smaller one fits.
            # The splits still to come need a group each.
            if filled + size / 2 <= wanted and len(left) - len(taken) > kept_back:
                taken.append(place)
                filled += size
            if filled >= wanted:
                break
        taken = taken or [int(np.argmin(groups.sizes[left]))]
        yield split, left[taken]
        left = np.delete(left, taken)
    yield "train", left


def split(columns: Columns, related: Indices, names: Names) -> NDArray[np.int8]:
    """The split of each text, an index into `SPLITS`: [n]; `related` are pairs of copies and near-copies.

    Raises DataError when fewer than three groups of documents are left to divide.
    """
    roots = united(len(columns), np.concatenate([together(columns), related]))
    groups = _groups(columns, roots, names)
    if len(groups.sizes) < len(SPLITS):
        raise DataError(
            f"{len(columns)} documents in {len(groups.sizes)} groups of near-duplicates are too few for the three "
            "splits train, tune and test: give at least three documents that differ, better hundreds"
        )
    of_group = np.zeros(len(groups.sizes), dtype=np.int8)
    for stratum in _strata(groups):
        for name, some in _divide(groups, stratum):
            of_group[some] = SPLITS.index(name)
    return of_group[groups.of]
