"""Rarity: what tokens cost by how often they and the two before them stood in the training text.

Scored tokens fall into ten equal parts by the frequency of their trigram in the training split, 1 the rarest. Tokens
of one trigram stay together, as far as the parts are equal, and all models of one training text have the same parts.
The first token of a window is in none: its model has not seen the two before it.

Rare tokens cost several times what frequent ones do, so the same difference in percent is another one in bits: a claim
about rare tokens is worth making in both (`margin: 0%` and `margin: 0`).

Legend: N windows, T context, P scored positions that have a trigram, U different trigrams.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Record
from moebench.metrics.probes.trace import trace
from moebench.metrics.ref import labelled

PARTS = 10
AT_ONCE = 1 << 20
"""Training tokens that are looked at at once."""
GRID = 1 << 20
"""Steps to a bit in which what a document's tenth costs is kept: rows of each would else fill a bundle with digits."""

BITS = Metric(
    name="test.bits_by_rarity",
    unit="bits/byte",
    labels=("decile",),
    values={"decile": tuple(str(part + 1) for part in range(PARTS))},
    rests_on_loss=True,
    asked_by=("rarity",),
    says="cross-entropy of the tenth of the scored tokens whose trigrams are rarest (decile 1) to most frequent (10) "
    "in the training split",
    cannot="what makes them hard: a rare trigram is mostly also one that is hard to foresee",
)
METRICS = (BITS,)


def keys(tokens: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], vocab: int) -> NDArray[np.int64]:
    """One whole number for three tokens in a row: exact, for vocabularies of up to 2**20."""
    first, second, third = (part.astype(np.int64) for part in tokens)
    return (first * vocab + second) * vocab + third


def trigrams(stream: NDArray[Any], vocab: int) -> Iterator[NDArray[np.int64]]:
    """Those of a stream, a piece at a time."""
    for start in range(0, max(0, len(stream) - 2), AT_ONCE):
        piece = np.asarray(stream[start : start + AT_ONCE + 2])
        yield keys((piece[:-2], piece[1:-1], piece[2:]), vocab)


def occurrences(key_P: NDArray[np.int64], stream: NDArray[Any], vocab: int) -> NDArray[np.int64]:
    """How often each of some trigrams stands in a stream: [P]."""
    key_U, place_P = np.unique(key_P, return_inverse=True)
    counts_U = np.zeros(len(key_U), dtype=np.int64)
    for key_N in trigrams(stream, vocab) if len(key_U) else ():
        place_N = np.minimum(np.searchsorted(key_U, key_N), len(key_U) - 1)
        counts_U += np.bincount(place_N[key_U[place_N] == key_N], minlength=len(key_U))
    return counts_U[place_P]


def parts_of(key_P: NDArray[np.int64], count_P: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tenth that each position is in, from the rarest: [P]."""
    part_P = np.empty(len(key_P), dtype=np.int64)
    part_P[np.lexsort((key_P, count_P))] = np.arange(len(key_P)) * PARTS // max(1, len(key_P))
    return part_P


def _measure(context: Context) -> Measured:
    stream = context.training_tokens
    if stream is None:
        why = "what it was trained on is not known"
        return Measured(records=[BITS.record(reason=why, step=context.step, decile=part + 1) for part in range(PARTS)])
    text, vocab = context.text, len(context.subject.tokenizer.token_bytes)
    inputs, targets = text.inputs, text.targets
    has_NT = text.mask.copy()
    has_NT[:, 0] = False
    before = np.roll(inputs, 1, axis=1)
    key_P = keys((before[has_NT], inputs[has_NT], targets[has_NT]), vocab)
    part_P = parts_of(key_P, occurrences(key_P, stream, vocab))
    seen = trace(context)
    has_T = has_NT[text.mask]
    bits_P, document_P = seen.nats_T[has_T] / math.log(2), seen.document_T[has_T]
    bytes_P = context.subject.tokenizer.token_bytes[targets[has_NT]]
    rows = list(_by_document(context, part_P, document_P, bytes_P, bits_P))
    return Measured(records=list(_records(context, part_P, bytes_P, bits_P)), items=rows)


def _records(
    context: Context, part_P: NDArray[np.int64], bytes_P: NDArray[np.int64], bits_P: NDArray[np.float64]
) -> Iterator[Record]:
    size = np.bincount(part_P, weights=bytes_P, minlength=PARTS)
    bits = np.bincount(part_P, weights=bits_P, minlength=PARTS)
    for part in range(PARTS):
        value = float(bits[part] / size[part]) if size[part] else None
        reason = None if size[part] else "too little text is scored"
        yield BITS.record(value, reason=reason, step=context.step, decile=part + 1)


def _by_document(
    context: Context,
    part_P: NDArray[np.int64],
    document_P: NDArray[np.int64],
    bytes_P: NDArray[np.int64],
    bits_P: NDArray[np.float64],
) -> Iterator[dict[str, Any]]:
    """A row for each document and part that has any of it."""
    cell_U, place_P = np.unique(document_P * PARTS + part_P, return_inverse=True)
    size_U, bits_U = (np.bincount(place_P, weights=some) for some in (bytes_P, bits_P))
    for cell, size, bits in zip(cell_U.tolist(), size_U.tolist(), bits_U.tolist(), strict=True):
        document, part = context.documents[cell // PARTS], cell % PARTS
        if size:
            metric, value = labelled(BITS.name, decile=part + 1), round(bits * GRID) / GRID
            yield {"metric": metric, "item": document.name, "group": "", "size": int(size), "value": value}


MEASUREMENT = Measurement(name="rarity", version=2, metrics=METRICS, measure=_measure, optional=True)
