"""Weights of a mixture, honoured in its training split by leaving whole documents out.

With training bytes B_i and shares s_i of the weights the split can have min B_i / s_i bytes: the source for which that
is least is kept whole. Of each other source documents are taken in the order of their names' hashes until its share is
reached, to within half a document; none is repeated. Held-out documents stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import DataError, Part
from moebench.data.splits import SPLITS
from moebench.data.spool import Columns, Indices

LEFT_OUT = -1
"""In the place of a split's number."""
_NEAR = 0.01
"""Shares further than this from what was asked are told with it."""


def mix(columns: Columns, of_text: NDArray[np.int8], parts: Sequence[Part]) -> tuple[NDArray[np.int8], list[str]]:
    """The split of each text, those that are left out marked, and what to note; unchanged without parts."""
    if not parts:
        return of_text, []
    training = of_text == SPLITS.index("train")
    texts = [np.flatnonzero(training & columns.of_domains(f"{part.label}.")) for part in parts]
    there = [int(columns.sizes[some].sum()) for some in texts]
    for part, size in zip(parts, there, strict=True):
        if not size:
            raise DataError(f"{part.label} gives the mixture no training text: give it more, or leave it out")
    whole = sum(part.weight for part in parts)
    asked = [part.weight / whole for part in parts]
    most = min(there_is / share for there_is, share in zip(there, asked, strict=True))
    taken = [_taken(columns, some, share * most) for some, share in zip(texts, asked, strict=True)]
    mixed = of_text.copy()
    mixed[training] = LEFT_OUT
    for part, some in zip(parts, taken, strict=True):
        if not len(some):
            raise DataError(f"the weight of {part.label} is less than one of its documents: give it more")
        mixed[some] = SPLITS.index("train")
    return mixed, [_told(parts, asked, there, [int(columns.sizes[some].sum()) for some in taken])]


def _taken(columns: Columns, texts: Indices, wanted: float) -> Indices:
    """Texts in hash order until they have so many bytes."""
    return until(texts[np.argsort(columns.ranks[texts], kind="stable")], columns.sizes, wanted)


def until(order: Indices, sizes: NDArray[np.integer[Any]], wanted: float) -> Indices:
    """Texts in this order until they have so many bytes; one that overshoots by more than it fills is passed over."""
    taken, filled = [], 0
    for index in order:
        size = int(sizes[index])
        if filled + size / 2 <= wanted:
            taken.append(index)
            filled += size
        if filled >= wanted:
            break
    return np.array(taken, dtype=np.int64)


def _told(parts: Sequence[Part], asked: Sequence[float], there: Sequence[int], taken: Sequence[int]) -> str:
    """What the training split is of, and what was left out so that it is."""
    shares = [size / sum(taken) for size in taken]
    of = ", ".join(
        f"{part.label} {share:.1%}" + (f" ({wanted:.1%} asked)" if abs(share - wanted) > _NEAR else "")
        for part, share, wanted in zip(parts, shares, asked, strict=True)
    )
    left = [
        f"{there_is - size:,} of {there_is:,} bytes of {part.label}"
        for part, there_is, size in zip(parts, there, taken, strict=True)
        if size < there_is
    ]
    out = f"; left out, so that the weights hold, are {' and '.join(left)}" if left else ""
    return f"bytes of the training split: {of}{out}"
