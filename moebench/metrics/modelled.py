"""Communication of models laid over several devices, by formula from the links that a claim states: never measured."""

from __future__ import annotations

from moebench.metrics.metric import SHARE, Metric, Range
from moebench.metrics.probes.stragglers import FACTOR

AT_LOADS = "modelled.expert_parallel_share_at_loads"
_DEVICES = Range(low=2, high=1e6, whole=True)
_ABOVE = Range(above=0, high=1e12)
_LINK = "FLOPs that a device does in the time in which it sends a byte"
_FORMULA = "two bytes a number"
_SHARE = f"share of a training step in which devices send, nothing overlapping; flops_per_byte: {_LINK}"
_CANNOT = "any measured time: links, overlap and software are not in it"


def _modelled(name: str, unit: str, says: str, cannot: str, labels: dict[str, Range], convention: str) -> Metric:
    return Metric(
        name=f"modelled.{name}",
        unit=unit,
        kind="counted",
        says=f"MODELLED by formula: {says}",
        cannot=cannot,
        labels=tuple(labels),
        amounts=labels,
        modelled=True,
        convention=convention,
        within=SHARE if unit == "1" else Range(low=0),
        of_mixtures=name.startswith("expert"),
    )


_BYTES = {"devices": _DEVICES}
_TIMES = {"devices": _DEVICES, "flops_per_byte": _ABOVE}
_TOKENS = Range(low=1, high=1e12)
_EXPERTS = "2 k d (1 - 1/devices) numbers a mixture and token and pass"
_TENSORS = "two sums a layer of d numbers, each 2 d (1 - 1/devices)"
_GRADIENTS = "2 (1 - 1/devices) numbers a weight and step, over the tokens that a device reads in it"
METRICS = (
    _modelled(
        "expert_parallel_bytes",
        "bytes/token",
        "bytes a token sends to its experts and back in a forward pass, experts spread over devices",
        f"{_CANNOT}; two experts of one device count as two",
        _BYTES,
        f"{_EXPERTS}, {_FORMULA}",
    ),
    _modelled(
        "tensor_parallel_bytes",
        "bytes/token",
        "bytes a device sends for a token in a forward pass, every matrix cut over devices",
        _CANNOT,
        _BYTES,
        f"{_TENSORS}, {_FORMULA}",
    ),
    _modelled(
        "data_parallel_bytes",
        "bytes/token",
        "bytes of gradients a device sends for a token that it trains on",
        _CANNOT,
        {**_BYTES, "tokens": _TOKENS},
        f"{_GRADIENTS}, {_FORMULA}",
    ),
    _modelled(
        "expert_parallel_share",
        "1",
        f"{_SHARE}; straggler: load of the busiest device over the mean",
        f"{_CANNOT}; two experts of one device count as two",
        {**_TIMES, "straggler": Range(low=1, high=1e6)},
        f"{_EXPERTS}, {_FORMULA}, against training FLOPs at 2,048 tokens of context at most",
    ),
    Metric(
        name=AT_LOADS,
        unit="1",
        says="MODELLED by formula: expert_parallel_share at the straggler factor of each run's own recorded loads",
        cannot=f"{_CANNOT}; the factor is simulated.straggler_factor, simulated too",
        labels=("devices", "flops_per_byte"),
        values=FACTOR.values,
        amounts={"flops_per_byte": _ABOVE},
        modelled=True,
        convention=f"{_EXPERTS}, {_FORMULA}, against training FLOPs at 2,048 tokens of context at most",
        within=SHARE,
        of_mixtures=True,
        asked_by=FACTOR.asked_by,
    ),
    _modelled(
        "tensor_parallel_share",
        "1",
        f"{_SHARE}, every matrix cut over devices",
        _CANNOT,
        _TIMES,
        f"{_TENSORS}, {_FORMULA}, against a device's part of the training FLOPs at 2,048 tokens of context at most",
    ),
    _modelled(
        "data_parallel_share",
        "1",
        f"{_SHARE}, each device with data of its own",
        _CANNOT,
        {"devices": _DEVICES, "tokens": _TOKENS, "flops_per_byte": _ABOVE},
        f"{_GRADIENTS}, {_FORMULA}, against training FLOPs at 2,048 tokens of context at most",
    ),
)
