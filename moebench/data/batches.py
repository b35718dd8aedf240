"""Which tokens a step trains on and which an evaluation scores: functions of (corpus, seed, step), without state.

Training cuts the stream into windows that do not overlap, from an offset and in an order that each epoch draws anew;
windows run across documents. Evaluation scores windows of single documents, the same for every seed and model. The
rolling digest says whether two runs consumed the same tokens.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.data.corpus import Corpus, Document, Documents, token_counts
from moebench.data.documents import DataError, name_hash
from moebench.seeds import generator

Tokens = NDArray[np.int64]


MOST_SHUFFLED = 1 << 20
"""Windows of an epoch whose order is drawn and kept; of more it is computed from place to place."""
_ROUNDS = 6


def _starts_in_epoch(tokens: int, context: int, *, seed: int, epoch: int, first: int, count: int) -> Tokens:
    """Where windows of an epoch start, from the `first` in the order they are trained on: [count], or [what is left].

    The number of windows is the same whatever the offset, so that step and epoch are simple quotients.
    """
    windows = (tokens - context) // context
    if windows <= MOST_SHUFFLED:
        return _shuffled(tokens, seed, epoch, context)[first : first + count]
    drawn = generator(seed, f"order.{epoch}").bit_generator
    offset = int(drawn.random_raw()) % context
    places = np.arange(first, min(first + count, windows), dtype=np.uint64)
    return offset + _permuted(places, windows, drawn.random_raw(_ROUNDS)).astype(np.int64) * context


@functools.lru_cache(maxsize=8)
def _shuffled(tokens: int, seed: int, epoch: int, context: int) -> Tokens:
    """All starts of an epoch: [windows]."""
    windows = (tokens - context) // context
    drawn = generator(seed, f"order.{epoch}").bit_generator
    offset = int(drawn.random_raw()) % context
    # Sorting raw draws is a permutation that no later numpy will draw otherwise.
    order = np.argsort(drawn.random_raw(windows), kind="stable")
    starts = offset + order * context
    starts.setflags(write=False)
    return starts


def _permuted(places: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Where a permutation of 0 .. size - 1 puts some places, without the others being known.

    A Feistel network (Luby & Rackoff 1988) permutes the next power of four; what lands beyond goes round again until it
    lands inside, which is a permutation too (cycle walking, Black & Rogaway 2002).
    """
    half = np.uint64(((size - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    out = places.copy()
    walking = np.arange(len(places))
    while len(walking):
        left, right = out[walking] >> half, out[walking] & mask
        for key in keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        out[walking] = (left << half) | right
        walking = walking[out[walking] >= size]
    return out


def _disordered(places: Tokens, size: int, split: str) -> Tokens:
    """Where a split's stream has the tokens of these places once all stand in a random order, the same for every seed.

    What stands between documents is shuffled too, so no token tells anything of another.
    """
    drawn = generator(0, f"disorder.{split}").bit_generator.random_raw(_ROUNDS)
    return _permuted(places.ravel().astype(np.uint64), size, drawn).astype(np.int64).reshape(places.shape)


def train_batch(
    corpus: Corpus, *, seed: int, step: int, batch_tokens: int, shuffled: bool = False, corrupt: float = 0.0
) -> Tokens:
    """The windows of one optimizer step (0-based): [batch_tokens // context, context + 1].

    Columns 0 to context - 1 are inputs and 1 to context are targets. With `shuffled` the stream is one in random order,
    for a control; `corrupt` is the share of the tokens that are replaced by others. Raises ValueError for a batch
    smaller than one window and DataError when the training split has not one whole window.
    """
    context, stream = corpus.context, corpus.tokens("train")
    windows = (len(stream) - context) // context
    size = batch_tokens // context
    if size < 1:
        raise ValueError(f"a batch of {batch_tokens} tokens holds no window of context {context}")
    if windows < 1:
        raise DataError(f"{len(stream)} training tokens hold no window of context {context} at every offset")
    first = step * size
    pieces = []
    while size > 0:
        epoch, at = divmod(first, windows)
        starts = _starts_in_epoch(len(stream), context, seed=seed, epoch=epoch, first=at, count=size)
        pieces.append(starts)
        first, size = first + len(starts), size - len(starts)
    places = np.concatenate(pieces)[:, None] + np.arange(context + 1)
    if shuffled:
        places = _disordered(places, len(stream), "train")
    batch: Tokens = stream[places].astype(np.int64)
    return _corrupted(batch, corpus, share=corrupt, seed=seed, step=step) if corrupt else batch


def _corrupted(batch: Tokens, corpus: Corpus, *, share: float, seed: int, step: int) -> Tokens:
    """The batch with each token replaced, with this probability, by one from a random place of the training split.

    What is put in is as frequent as in the text, so it is not told from it by being rare. What stands between
    documents stays, and is not put elsewhere. The same for every model; a larger share replaces what a smaller does.
    """
    stream, between = corpus.tokens("train"), corpus.tokenizer.start
    drawn = generator(seed, f"corrupt.{step}").bit_generator.random_raw(2 * batch.size).reshape(2, *batch.shape)
    other = stream[(drawn[1] % np.uint64(len(stream))).astype(np.int64)].astype(np.int64)
    hit = (drawn[0] >> np.uint64(11)) * 2.0**-53 < share
    return np.where(hit & (batch != between) & (other != between), other, batch)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which of the scored positions of windows answer a question; each window is one question."""

    mask: NDArray[np.bool_]
    """[N, T], true where a target belongs to the answer."""
    task: tuple[str, ...]
    """[N], the name of each window's task."""
    seen: NDArray[np.bool_]
    """[N], whether the question stood in training."""
    counts: NDArray[np.bool_]
    """[N], whether the task's score is of it: by its leak rule, of those that stood in training or of the others."""
    facts: Mapping[str, tuple[int, float]]
    """Task -> facts to be stored and bits of each, of tasks that are about storing."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What an evaluation scores: N windows of T = context positions."""

    inputs: Tokens
    """[N, T]; the first is the separator or the byte before the first target. Padded with 0."""
    targets: Tokens
    """[N, T], each one byte of a document. Padded with 0."""
    mask: NDArray[np.bool_]
    """[N, T], true where a position is scored."""
    document: Tokens
    """[N], index into `corpus.documents(split)`."""
    start: Tokens
    """[N], index of the first target in `corpus.tokens(split)`."""
    text_bytes: Tokens | None = None
    """None, as each token says how many bytes it stands for."""
    asked: Asked | None = None
    """Of windows that are questions."""


def evaluation_windows(
    corpus: Corpus, split: str, *, tokens: int, windows_per_document: int | None = None, shuffled: bool = False
) -> Windows:
    """The first windows of a fixed order that score at least `tokens` bytes, or all that there are.

    Windows start fresh and lie in one document. Domains take turns; within a domain every document gives one window,
    in hash order, before any gives its second, and so on until what was asked is scored, or `windows_per_document` are
    taken of each. The windows of a document come in the order of a hash, so that beginnings weigh no more than ends.
    Asking for fewer tokens gives a prefix of asking for more. With `shuffled` the windows are the same, and the tokens
    in them those of the whole split in a random order. Raises ValueError for fewer than one token and KeyError
    for no such split.
    """
    if tokens < 1:
        raise ValueError(f"an evaluation of {tokens} tokens scores nothing")
    context, stream, documents = corpus.context, corpus.tokens(split), corpus.documents(split)
    chosen: list[tuple[int, int]] = []
    scored = 0
    for index, start in _in_turns(documents, context, windows_per_document):
        if scored >= tokens:
            break
        chosen.append((index, start))
        scored += min(context, int(documents.stops[index]) - start)
    document, starts = np.array(chosen, dtype=np.int64).reshape(-1, 2).T
    stops = documents.stops[document]
    places = starts[:, None] + np.arange(context)
    mask = places < stops[:, None]
    last = len(stream) - 1
    read, before = np.minimum(places, last), np.minimum(places - 1, last)
    if shuffled:
        read, before = (_disordered(some, len(stream), split) for some in (read, before))
    targets = np.where(mask, stream[read], 0).astype(np.int64)
    inputs = np.where(mask, stream[before], 0).astype(np.int64)
    asked = _asked(corpus, split, document, places, mask) if corpus.answers else None
    return Windows(inputs=inputs, targets=targets, mask=mask, document=document, start=starts, asked=asked)


def _asked(corpus: Corpus, split: str, document: Tokens, places: Tokens, mask: NDArray[np.bool_]) -> Asked:
    """What of some windows, each one document, is its answer."""
    documents, rows = corpus.documents(split), corpus.answers[split][document]
    first = documents.starts[document] + rows["start"]
    task, known = tuple(documents[index].domain for index in document.tolist()), corpus.facts.tasks
    recalled = np.array([known[name].tested_on == "training" for name in task])
    return Asked(
        mask=mask & (places >= first[:, None]),
        task=task,
        seen=rows["seen"],
        counts=rows["seen"] == recalled,
        facts={
            name: (one.facts, one.fact_bits)
            for name, one in known.items()
            if one.facts is not None and one.fact_bits is not None
        },
    )


def unigram_bits_per_byte(corpus: Corpus, windows: Windows) -> float:
    """What scored text costs who knows only how often each token occurs in the training stream, one more of each."""
    train_V = token_counts(corpus.tokens("train"), corpus.vocab) + 1.0
    bits_V = -np.log2(train_V / train_V.sum())
    scored = windows.targets[windows.mask]
    return float(bits_V[scored].sum() / corpus.tokenizer.token_bytes[scored].sum())


def _in_turns(documents: Documents, context: int, most: int | None) -> Iterator[tuple[int, int]]:
    """(document, start) of all windows that may be scored, domains taking turns until all are exhausted."""
    ranks = np.array([int.from_bytes(name_hash(one.name)[:8], "big") for one in documents], dtype=np.uint64)
    by_domain = documents.by_domain()
    queues = [
        _of_domain(documents, by_domain[domain][np.argsort(ranks[by_domain[domain]], kind="stable")], context, most)
        for domain in sorted(by_domain)
    ]
    while queues:
        left = []
        for queue in queues:
            window = next(queue, None)
            if window is not None:
                left.append(queue)
                yield window
        queues = left


def _of_domain(
    documents: Documents, order: NDArray[np.int64], context: int, most: int | None
) -> Iterator[tuple[int, int]]:
    """(document, start) of a domain's windows: the first of each document, then the second of each, and so on."""

    @functools.lru_cache(maxsize=4096)
    def starts(index: int) -> list[int]:
        return _starts(documents[index], context)

    counts = -((documents.starts[order] - documents.stops[order]) // context)
    for turn in range(int(counts.max(initial=0)) if most is None else most):
        order, counts = order[counts > turn], counts[counts > turn]
        for place in range(len(order)):
            index = int(order[place])
            yield index, starts(index)[turn]


def _starts(document: Document, context: int) -> list[int]:
    """Where the windows of one document start, in the order they are taken."""
    starts = range(document.start, document.stop, context)
    return sorted(starts, key=lambda start: name_hash(f"{document.name}@{start - document.start}"))


def roll(digest: bytes, batch: NDArray[np.integer]) -> bytes:
    """The rolling digest after one more batch: SHA-256 of the digest so far and the batch's tokens, in order.

    Begin with `b""`. Streams with equal digests after n batches were equal, so a shorter stream is a prefix of a
    longer one when its digest stands among the longer one's.
    """
    tokens = np.ascontiguousarray(batch, dtype="<i8")
    return hashlib.sha256(digest + repr(tokens.shape).encode() + tokens.tobytes()).digest()
