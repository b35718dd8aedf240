"""Sizes, shapes and costs of a model or a published system: `counting` computes them when a suite is planned, and the
plan holds them."""

from __future__ import annotations

from typing import Any

from moebench.metrics.metric import SHARE, Metric, Range

_FEWER = "of a router that picks fewer than top_k experts it is"
_WEIGHTS = "what a token costs, or how well the weights are used"
_ACTIVE = f"time or memory; {_FEWER} the most a token can use"
_TABLES = "both tables in, tied ones once"
_SKIPPED = "total minus the experts a token skips, router included"
_TOKENS, _BITS = {"context": Range(low=1, whole=True)}, {"bits": Range(low=1, high=64)}


def _counted(name: str, unit: str, says: str, cannot: str, **facts: Any) -> Metric:
    return Metric(name=name, unit=unit, kind="counted", says=says, cannot=cannot, **facts)


METRICS = (
    _counted(
        "cost.total_params", "parameters", "all weights, tied tables once", _WEIGHTS, convention=f"total: {_TABLES}"
    ),
    _counted(
        "cost.active_params",
        "parameters",
        "weights one token uses: total minus the experts it skips",
        _ACTIVE,
        convention=f"active = {_SKIPPED}, {_TABLES}",
    ),
    _counted(
        "cost.total_params_no_embedding",
        "parameters",
        "all weights but the embedding and head tables",
        _WEIGHTS,
        convention="total: both tables out",
    ),
    _counted(
        "cost.active_params_no_embedding",
        "parameters",
        "active weights but the embedding and head tables",
        _ACTIVE,
        convention=f"active = {_SKIPPED}, both tables out",
    ),
    _counted(
        "cost.active_share",
        "1",
        "active over total parameters, embedding and head tables in both",
        _ACTIVE,
        within=SHARE,
        convention=f"active = {_SKIPPED}, {_TABLES}",
    ),
    _counted(
        "cost.saving",
        "1",
        "share of the weights outside the tables that a token skips",
        "what is saved against a dense model of equal quality: it is against one of equal total size",
        better="higher",
        within=SHARE,
        convention=f"1 - active / total, active = {_SKIPPED}, both tables out",
    ),
    _counted(
        "cost.flops_saving",
        "1",
        "forward FLOPs that a token at a context saves against a dense model of equal total size",
        "what is saved against one of equal quality; attention is not sparsified, so it falls with the context",
        better="higher",
        within=SHARE,
        labels=("context",),
        amounts=_TOKENS,
        convention="1 - FLOPs / FLOPs with all experts used; attention, router and head in, look-ups out",
    ),
    _counted(
        "cost.flops_per_active_param",
        "FLOPs/parameter",
        "forward FLOPs of a token at a context over its active weights, input tables not counted",
        "time; of an encoder-decoder a token is one of the source and one of the target",
        better="neither",
        within=Range(low=0),
        labels=("context",),
        amounts=_TOKENS,
        convention=f"active = {_SKIPPED}, input tables out, head in; attention in the FLOPs, look-ups out",
    ),
    _counted(
        "cost.trained_params",
        "parameters",
        "weights with a gradient, those of adapters among them: all of a model that is trained whole",
        "how much is learned; gradients and moments are of these alone",
    ),
    _counted(
        "cost.train_flops_per_token",
        "FLOPs/token",
        "model FLOPs of forward and backward, router and head included",
        "time; of a router that drops assignments or picks fewer than top_k experts it is a bound: "
        "train.model_flops counts those really routed",
    ),
    _counted(
        "cost.decode_flops_per_token",
        "FLOPs/token",
        "model FLOPs of one cached decoding step at the full context, or at a context",
        f"time, which at small batches is that of reading weights; {_FEWER} a bound",
        labels=("context",),
        amounts=_TOKENS,
        whole=True,
        convention="FLOPs: 2 per multiply-add, attention, router and head in, look-ups out",
    ),
    _counted(
        "cost.weight_bytes",
        "bytes",
        "weights as served, in the dtype of the training's products, or at so many bits each",
        "memory in training, where weights are float32 whatever the dtype of the products; what quantisation adds",
        labels=("bits",),
        amounts=_BITS,
        whole=True,
        convention="all weights at so many bits, tables too; no scales of a quantisation, no cache",
    ),
    _counted(
        "cost.kv_bytes_per_token",
        "bytes/token",
        "key and value cache one token adds",
        "the cache's size at a context: room for all of it is taken at once",
    ),
    _counted(
        "shape.experts",
        "experts",
        "experts of each mixture, shared ones not counted",
        "how large they are, or how many a token uses",
        better="neither",
        of_mixtures=True,
    ),
    _counted(
        "shape.top_k",
        "experts",
        "experts that a token uses of each mixture, shared ones not counted",
        "how large they are; of a router that picks fewer it is the most",
        better="neither",
        of_mixtures=True,
    ),
    _counted(
        "shape.is_moe",
        "1",
        "1 of a mixture of experts, 0 of a dense model",
        "how much of it is a mixture",
        better="neither",
        within=SHARE,
    ),
    _counted(
        "shape.expert_is_ffn",
        "1",
        "1 where the experts of a published system are feed-forward networks, 0 where they are anything else",
        "what of other designs is: no published system here has attention heads for experts",
        better="neither",
        within=SHARE,
        of_systems=True,
    ),
    _counted(
        "shape.year",
        "year",
        "year in which a system was first published",
        "when it was trained, or widely used",
        better="neither",
        within=Range(low=1900, whole=True),
        of_systems=True,
    ),
)
