"""Which documents train, tune and test: by group, so that what belongs together is never on both sides.

Groups are the source's own (a module's code and its docstrings) joined with near-duplicates. The choice depends on
names and sizes alone, never on a seed: the test split is the same for all runs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from moebench.data.documents import DataError, Gathered, Text
from moebench.data.overlap import near_duplicates

SPLITS = ("train", "tune", "test")
HELD_OUT_SHARE = 0.1
"""Share of the bytes that each of tune and test gets, in every domain."""


def name_hash(name: str) -> bytes:
    """The order in which names are taken where their order must mean nothing."""
    return hashlib.sha256(name.encode()).digest()


def grouped(texts: Sequence[Text], pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Indices of texts that belong together, by their source's groups and the given pairs; union-find."""
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    own = [(first.setdefault(text.group, index), index) for index, text in enumerate(texts)]
    for left, right in [*own, *pairs]:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(texts)):
        members[root(index)].append(index)
    return list(members.values())


def _strata(texts: Sequence[Text], groups: Sequence[list[int]]) -> list[list[list[int]]]:
    """Groups by the domain that holds most of their bytes; domains with under three groups are pooled."""
    by_domain: dict[str, list[list[int]]] = defaultdict(list)
    for group in groups:
        sizes: dict[str, int] = defaultdict(int)
        for index in group:
            sizes[texts[index].domain] += len(texts[index].body)
        by_domain[max(sorted(sizes), key=sizes.__getitem__)].append(group)
    whole = [by_domain[domain] for domain in sorted(by_domain) if len(by_domain[domain]) >= 3]
    pooled = [group for domain in sorted(by_domain) if len(by_domain[domain]) < 3 for group in by_domain[domain]]
    if len(pooled) >= 3 or not whole:
        return [*whole, pooled] if pooled else whole
    return [[*whole[0], *pooled], *whole[1:]]


def _divide(texts: Sequence[Text], groups: list[list[int]]) -> dict[str, list[int]]:
    """Takes groups in hash order into test and then tune until each has its share of the bytes; the rest trains."""
    size = {id(group): sum(len(texts[index].body) for index in group) for group in groups}
    left = sorted(groups, key=lambda group: name_hash(min(texts[index].name for index in group)))
    wanted = HELD_OUT_SHARE * sum(size.values())
    chosen: dict[str, list[int]] = {}
    for split, kept_back in (("test", 2), ("tune", 1)):
        taken: list[list[int]] = []
        filled = 0
        for group in left:
            # A group that would overshoot by more than it fills is passed over; the next smaller one fits.
            # The splits still to come need a group each.
            if filled + size[id(group)] / 2 <= wanted and len(left) - len(taken) > kept_back:
                taken.append(group)
                filled += size[id(group)]
        taken = taken or [min(left, key=lambda group: size[id(group)])]
        gone = {id(group) for group in taken}
        left = [group for group in left if id(group) not in gone]
        chosen[split] = [index for group in taken for index in group]
    return {**chosen, "train": [index for group in left for index in group]}


def related(gathered: Gathered) -> list[tuple[int, int]]:
    """Pairs of texts that are copies or near-copies; none where the source draws them independently."""
    return [] if gathered.independent else near_duplicates([text.body for text in gathered.texts])


def split(gathered: Gathered, pairs: Sequence[tuple[int, int]] | None = None) -> dict[str, list[Text]]:
    """The texts of each split, in the source's order; `pairs` are those that are `related`, found when absent.

    Raises DataError when fewer than three groups of documents are left to divide.
    """
    texts = gathered.texts
    groups = grouped(texts, related(gathered) if pairs is None else pairs)
    if len(groups) < len(SPLITS):
        raise DataError(
            f"{len(texts)} documents in {len(groups)} groups of near-duplicates are too few for the three splits "
            "train, tune and test: give at least three documents that differ, better hundreds"
        )
    members: dict[str, list[int]] = {name: [] for name in SPLITS}
    for stratum in _strata(texts, groups):
        for name, indices in _divide(texts, stratum).items():
            members[name] += indices
    return {name: [texts[index] for index in sorted(members[name])] for name in SPLITS}
