"""Locality: how often a token's experts are still in a cache of c experts a layer, of which the oldest goes first.

What an expert needs to be worth keeping is that the next tokens ask for it again. Uneven load alone gives hits, so the
same assignments are replayed with the tokens of the text in random order, which keeps the load and loses the order: the
gain is what is above that. The text is one stream, as of a server that reads one document after the other, and the
cache is empty at its start alone.

The hits of every size of cache are counted in one pass by the distance of each expert from the top of the stack
(Mattson et al. 1970, "Evaluation techniques for storage hierarchies").

Legend: N assignments, T positions, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import SHARE, Better, Metric, Range, Record
from moebench.metrics.probes.trace import Layer, Trace, rounded, trace
from moebench.seeds import generator

NAME = "locality"
SIZES = {"quarter": 4, "half": 2}
"""Word of a size -> the experts over it are the cache's."""
DIFFERENCE = Range(low=-1, high=1)


def _metric(
    name: str, says: str, cannot: str, *, within: Range = SHARE, better: Better = "neither", by_layer: bool = False
) -> Metric:
    return Metric(
        name=f"{NAME}.{name}", unit="1", better=better, labels=("cache", "layer") if by_layer else ("cache",),
        together=("layer",) if by_layer else (), values={"cache": tuple(SIZES)}, within=within, asked_by=(NAME,),
        of_mixtures=True, same_each_time=True, of_scored_text=True, says=says, cannot=cannot,
    )  # fmt: skip


HIT_RATE = _metric(
    "hit_rate",
    "share of assignments whose expert was in a cache of a quarter or half of a layer's experts, mean of layers",
    f"locality: uneven load gives hits too, see {NAME}.gain",
    better="higher",
)
SHUFFLED = _metric(
    "shuffled_hit_rate",
    "the same with the tokens of the text in random order",
    "anything about the order of tokens: it is what their load gives",
)
GAIN = _metric(
    "gain",
    "what the hit rate is above that of tokens in random order",
    "time: what a miss costs is the memory's; it is of one stream, a batch asks for more experts at once",
    within=DIFFERENCE,
    better="higher",
    by_layer=True,
)
NULL = _metric(
    "null",
    "what the hit rate of another random order is above the first: 0 but for chance",
    "anything about a router: it shows that the load was subtracted",
    within=DIFFERENCE,
)

METRICS = (HIT_RATE, SHUFFLED, GAIN, NULL)


def hits(expert_N: NDArray[np.int64], experts: int) -> NDArray[np.int64]:
    """Hits of a cache of c experts, least recently used first out, for c from 0 to E: [E + 1]."""
    depths = np.zeros(experts, dtype=np.int64)
    stack: list[int] = []
    for expert in expert_N.tolist():
        if expert in stack:
            depth = stack.index(expert)
            depths[depth] += 1
            del stack[depth]
        stack.insert(0, expert)
    return np.concatenate([[0], depths.cumsum()])


def in_random_order(layer: Layer, positions: int, turn: int) -> NDArray[np.int64]:
    """Its assignments with the T positions in random order; those of a position stay together."""
    place_T = generator(turn, NAME).permutation(positions)
    return layer.expert_N[np.argsort(place_T[layer.token_N], kind="stable")]


def _measure(context: Context) -> Measured:
    return rounded(records(trace(context), step=context.step))


def records(seen: Trace, *, step: int | None) -> Iterator[Record]:
    """By layer, and the means of layers."""
    rates = [_rates(layer, len(seen.read_T), seen.experts) for layer in seen.layers]
    held = max((int(np.bincount(layer.token_N).max()) for layer in seen.layers), default=0)
    for word, part in SIZES.items() if rates else ():
        cache = seen.experts // part
        why = f"a cache of {cache} does not hold the {held} experts of a token" if held > cache else None
        for metric, values in zip(METRICS, zip(*(of[:, cache].tolist() for of in rates), strict=True), strict=True):
            for layer, value in zip(seen.layers, values, strict=True) if "layer" in metric.labels else ():
                yield metric.record(None if why else value, reason=why, step=step, cache=word, layer=layer.layer)
            yield metric.record(None if why else float(np.mean(values)), reason=why, step=step, cache=word)


def _rates(layer: Layer, positions: int, experts: int) -> NDArray[np.float64]:
    """Of every size of cache, in the order of `METRICS`: [4, E + 1]."""
    here, first, other = (
        hits(expert_N, experts) / len(expert_N)
        for expert_N in (layer.expert_N, *(in_random_order(layer, positions, turn) for turn in range(2)))
    )
    return np.stack([here, first, here - first, other - first])


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
