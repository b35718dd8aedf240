"""Log-probabilities of given endings: batched, longest first, and every shared beginning read once.

Endings that differ in their last token alone (the letters of a question) are one row, read once. Rows that begin alike
(the choices of a question) form a group, whose beginning is read once; what all rows of a batch begin with (few-shot
examples) once for the batch. The groups of a batch are read as far as the shortest beginning among them, so that every
sequence is equally long in the cache and needs no mask of its own; the little that is left of the longer ones is read
with each ending. Padding stands on the right, where no causal model sees it.

Legend: R rows, K alternatives for the last token, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from moebench.metrics.measurement import NotFinite
from moebench.models.subject import Cache, Subject

WORTH = 16
"""Tokens that a row must save by being in a group."""
A_CALL = 64
"""Tokens that one more call must save."""
TOKENS_AT_ONCE = {"cpu": 1024}
"""What goes through fastest: more falls out of a processor's caches."""
ELSEWHERE_AT_ONCE = 16384
LOGITS_AT_ONCE = 2**26
"""Logits of one call: fewer tokens of a large vocabulary."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A text whose last tokens are scored."""

    ids: Ids
    """At most context + 1 of them: the last is never read."""
    scored: int
    """How many of the last are scored: at least 1, and fewer than all."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model makes of a span's ending."""

    logprob: float
    greedy: bool
    """Whether every token of it is the model's first choice."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Spans that read the same tokens."""

    ids: Ids
    """What is read."""
    spans: tuple[int, ...]
    """Their places in the list that was asked about."""
    free: int
    """Tokens before the first whose logits score anything."""


@dataclass(kw_only=True)
class Group:
    """Rows that begin alike."""

    rows: list[Row]
    shared: int
    """Tokens that they share and that are read before anything is scored."""

    @property
    def longest(self) -> int:
        return max(len(row.ids) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much goes through the model together."""

    tokens: int
    rows: int

    def sequences(self, length: int, held: int = 0) -> int:
        """How many of a length; what a cache holds of each counts a quarter, for it is copied, not computed."""
        return max(1, min(self.rows, self.tokens // max(1, length + held // 4)))


def room_of(subject: Subject, *, rows: int | None) -> Room:
    """By the device and the vocabulary, and at most so many rows."""
    tokens = min(
        TOKENS_AT_ONCE.get(subject.device.type, ELSEWHERE_AT_ONCE), LOGITS_AT_ONCE // int(subject.counts.vocab)
    )
    return Room(tokens=max(1, tokens), rows=rows or tokens)


def score_spans(
    subject: Subject,
    spans: Sequence[Span],
    *,
    rows: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Score]:
    """One score a span, in their order; `on_done` hears how many more are done. At most `rows` sequences go through the
    model together. Raises NotFinite when it gives a number that is none.
    """
    scores: dict[int, Score] = {}
    room = room_of(subject, rows=rows)
    for batch in _batches(groups(rows_of(spans)), room):
        for found in _score_batch(subject, spans, batch, room):
            scores |= found
            on_done(len(found))
    return [scores[index] for index in range(len(spans))]


# ------------------------------------------------------------------------------------------------ who begins alike


def rows_of(spans: Sequence[Span]) -> list[Row]:
    """Spans by what is read of them."""
    alike: dict[bytes, list[int]] = {}
    for index, span in enumerate(spans):
        alike.setdefault(span.ids[:-1].tobytes(), []).append(index)
    rows = []
    for indices in alike.values():
        ids = spans[indices[0]].ids[:-1]
        free = len(ids) - max(spans[index].scored for index in indices)
        rows.append(Row(ids=ids, spans=tuple(indices), free=free))
    return rows


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows by their beginnings, found by sorting: what begins alike stands together. Longest first.

    A row joins the group before it where that saves more than it costs: a shorter common beginning leaves more to be
    read with every ending. What all rows begin with does not count, as it is read once in any case.
    """
    ordered = sorted(rows, key=lambda row: row.ids.astype(">u4").tobytes())
    base = _common(ordered[0].ids, ordered[-1].ids) if ordered else 0
    found: list[Group] = []
    for row in ordered:
        if found:
            last = found[-1]
            alike = min(last.shared, row.free, _common(last.rows[-1].ids, row.ids))
            saved, lost = alike - base, len(last.rows) * (last.shared - alike)
            if saved >= WORTH and saved > lost:
                last.rows.append(row)
                last.shared = alike
                continue
        found.append(Group(rows=[row], shared=row.free))
    for group in found:
        group.shared = group.shared if len(group.rows) > 1 else 0
    return sorted(found, key=lambda group: (-group.shared, -group.longest))


def _common(one: Ids, other: Ids) -> int:
    """How many tokens two texts begin alike with."""
    shorter = min(len(one), len(other))
    differ = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differ[0]) if len(differ) else shorter


def _batches(found: Sequence[Group], room: Room) -> Iterator[list[Group]]:
    """Groups that go through the model together: nearly as long, and not too many."""
    batch: list[Group] = []
    for group in found:
        if batch:
            first = batch[0]
            is_near = group.shared * 4 >= first.shared * 3
            if not is_near or len(batch) >= room.sequences(first.shared or first.longest):
                yield batch
                batch = []
        batch.append(group)
    if batch:
        yield batch


# ------------------------------------------------------------------------------------------------ through the model


def _score_batch(
    subject: Subject, spans: Sequence[Span], batch: Sequence[Group], room: Room
) -> Iterator[dict[int, Score]]:
    members = [(row, place) for place, group in enumerate(batch) for row in group.rows]
    beginnings = _Beginnings(subject, [group.rows[0].ids for group in batch])
    beginnings.read_common(min(group.shared or group.rows[0].free for group in batch), rows=len(members))
    beginnings.read_each(min(group.shared for group in batch), saves=len(members) - len(batch))
    members.sort(key=lambda member: -len(member[0].ids))
    while members:
        longest = len(members[0][0].ids)
        count = room.sequences(longest - beginnings.length, beginnings.length)
        now, members = members[:count], members[count:]
        cache = beginnings.cache_of([place for _, place in now], longest)
        yield _score_rows(subject, spans, [row for row, _ in now], beginnings.length, cache)


class _Beginnings:
    """What a batch has read before anything is scored."""

    def __init__(self, subject: Subject, ids: Sequence[Ids]) -> None:
        self._subject, self._ids = subject, ids
        self._cache: Cache | None = None
        self._is_one = True
        """Whether it holds one sequence for all."""

    @property
    def length(self) -> int:
        """Tokens read of each."""
        return 0 if self._cache is None else self._cache.length

    def read_common(self, most: int, *, rows: int) -> None:
        """What all begin with, where reading it once saves enough."""
        first = self._ids[0]
        common = min([most, *(_common(first, other) for other in self._ids[1:])])
        if common >= WORTH and common * (rows - 1) >= A_CALL:
            self._cache = self._subject.new_cache(1, common)
            self._extend(np.stack([first[:common]]), self._cache)

    def read_each(self, length: int, *, saves: int) -> None:
        """What the rows of each group begin with, where reading it once a group saves enough."""
        if (length - self.length) * saves < A_CALL:
            return
        cache = self._subject.new_cache(len(self._ids), length)
        if self._cache is not None:
            cache.share(self._cache)
        self._extend(np.stack([ids[self.length : length] for ids in self._ids]), cache)
        self._cache, self._is_one = cache, False

    def cache_of(self, places: Sequence[int], length: int) -> Cache | None:
        """A cache for rows of these groups, with room for so many tokens; None where nothing was read."""
        if self._cache is None:
            return None
        cache = self._subject.new_cache(len(places), length)
        cache.share(self._cache, None if self._is_one else torch.tensor(places, device=self._subject.device))
        return cache

    def _extend(self, ids: Ids, cache: Cache) -> None:
        self._subject.extend(torch.from_numpy(ids).to(self._subject.device), cache)


def _score_rows(
    subject: Subject, spans: Sequence[Span], rows: Sequence[Row], start: int, cache: Cache | None
) -> dict[int, Score]:
    """Scores what follows the first `start` tokens of each row, which the cache holds."""
    length = max(len(row.ids) for row in rows) - start
    inputs_RT = np.zeros((len(rows), length), dtype=np.int64)
    targets_RTK = np.zeros((len(rows), length, max(len(row.spans) for row in rows)), dtype=np.int64)
    mask_RTK = np.zeros(targets_RTK.shape, dtype=bool)
    for r, row in enumerate(rows):
        stop = len(row.ids) - start
        inputs_RT[r, :stop] = row.ids[start:]
        targets_RTK[r, : stop - 1] = row.ids[start + 1 :, None]
        for k, index in enumerate(row.spans):
            targets_RTK[r, stop - 1, k] = spans[index].ids[-1]
            mask_RTK[r, stop - spans[index].scored : stop, k] = True
    inputs, targets, mask = (torch.from_numpy(x).to(subject.device) for x in (inputs_RT, targets_RTK, mask_RTK))
    scores = subject.score(inputs, targets, greedy=True, cache=cache)
    assert scores.greedy_BT is not None
    logprob_RK = torch.where(mask, scores.logprob_BT.double(), 0.0).sum(1)
    greedy_RK = (scores.greedy_BT | ~mask).all(1)
    if logprob_RK.isnan().any():
        raise NotFinite("a log-probability")
    told = zip(rows, logprob_RK.tolist(), greedy_RK.tolist(), strict=True)
    return {
        index: Score(logprob=logprob, greedy=greedy)
        for row, logprobs, greedies in told
        for index, logprob, greedy in zip(row.spans, logprobs, greedies, strict=False)
    }
