"""Parts: what routing and dispatch take of the time of a mixture's layers.

Dispatch has no place of its own in a fast kernel. It is what a mixture takes beyond the networks of the experts that it
used, timed one by one on rows that lie as they are after sorting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from moebench.metrics import clock
from moebench.metrics.clock import Timed
from moebench.metrics.metric import Metric, Range
from moebench.metrics.racer import Racer, Text, filled, inside_of
from moebench.metrics.ref import labelled
from moebench.metrics.serving.contest import Contest, Found, device_of, timed

if TYPE_CHECKING:
    from moebench.jobs.session import SpeedPlan

PARTS = ("layer", "ffn", "router", "products")

_PART: dict[str, Any] = {
    "asked": "layer_parts",
    "values": {"part": PARTS},
    "of_mixtures": True,
    "cannot": "time within the whole step, where parts find other things in the caches",
}
_SAYS = (
    "a part of all layers that are mixtures: attention and network (layer), network (ffn), router, or the experts' "
    "networks alone on sorted rows (products)"
)
DECODE_PART = timed("decode_part_s", "s", **_PART, says=f"in a decoding step, {_SAYS}", labels=("batch", "part"))
PREFILL_PART = timed("prefill_part_s", "s", **_PART, says=f"in reading a prompt, {_SAYS}", labels=("tokens", "part"))
_ROUTING: dict[str, Any] = {
    "asked": "layer_parts",
    "of_mixtures": True,
    "within": Range(above=0),
    "cannot": "what another implementation takes: it is that of these kernels, less the same products one by one",
}
_SHARE = (
    "share of the time of a mixture's layers that is no network of an expert: routing, sorting, gathering and summing; "
    "at least the router's own"
)
DECODE_ROUTING = timed(
    "decode_routing_share", "1", **_ROUTING, says=f"in a decoding step, {_SHARE}", labels=("batch",),
    timed_by="speed.decode_step_s",
)  # fmt: skip
PREFILL_ROUTING = timed(
    "prefill_routing_share", "1", **_ROUTING, says=f"in reading a prompt, {_SHARE}", labels=("tokens",),
    timed_by="speed.prefill_s",
)  # fmt: skip
METRICS = (DECODE_PART, PREFILL_PART, DECODE_ROUTING, PREFILL_ROUTING)


def contests(plan: SpeedPlan) -> Iterator[Contest]:
    """One for each batch that is decoded and each prompt length."""
    if plan.layer_parts:
        for batch in plan.decode_batches:
            yield Contest(race=partial(_race, DECODE_PART, DECODE_ROUTING, batch=batch))
        for tokens in plan.prefill:
            yield Contest(race=partial(_race, PREFILL_PART, PREFILL_ROUTING, tokens=tokens))


def _race(
    part_metric: Metric, share_metric: Metric, racers: Sequence[Racer], text: Text, *, seconds: float, process: int,
    **shape: int,
) -> Found:  # fmt: skip
    entries: dict[str, Timed] = {}
    for racer in racers:
        if not racer.subject.mixtures:
            continue
        text_BX = racer.windows(text, shape.get("batch", 1))
        if "batch" in shape:
            half = racer.subject.context // 2
            cache = filled(racer, text_BX, start=half, room=half + 1)
            tokens_BT = text_BX[:, half : half + 1]
        else:
            cache = racer.subject.new_cache(1, shape["tokens"])
            tokens_BT = text_BX[:, : shape["tokens"]]
        calls = inside_of(racer).parts(tokens_BT, cache)
        entries |= {f"{racer.name} {part}": calls[part] for part in PARTS}
    if not entries:
        return Found()
    times, _ = clock.rotate(entries, device=device_of(racers), seconds=seconds, shift=process)
    samples: dict[str, dict[str, list[float]]] = {}
    parts: dict[str, dict[str, float]] = {}
    for entry, values in times.items():  # the order of entries is another in each process
        name, _, part = entry.rpartition(" ")
        samples.setdefault(name, {})[labelled(part_metric.name, **shape, part=part)] = values
        parts.setdefault(name, {})[part] = median(values)
    share = labelled(share_metric.name, **shape)
    derived = {name: {share: routing_share(**seconds)} for name, seconds in parts.items()}
    return Found(samples=samples, derived=derived)


def routing_share(*, layer: float, ffn: float, router: float, products: float) -> float:
    """What of a layer's seconds is neither attention nor a network."""
    return max(ffn - products, router) / layer
