"""Sizes and costs of a model: `counting` computes them when a suite is planned, and the plan holds them."""

from __future__ import annotations

from moebench.metrics.metric import Metric

_FEWER = "of a router that picks fewer than top_k experts it is"
_WEIGHTS = "what a token costs, or how well the weights are used"
_ACTIVE = f"time or memory; {_FEWER} the most a token can use"


def _counted(name: str, unit: str, says: str, cannot: str) -> Metric:
    return Metric(name=f"cost.{name}", unit=unit, kind="counted", says=says, cannot=cannot)


METRICS = (
    _counted("total_params", "parameters", "all weights, tied tables once", _WEIGHTS),
    _counted("active_params", "parameters", "weights one token uses: total minus the experts it skips", _ACTIVE),
    _counted("total_params_no_embedding", "parameters", "all weights but the embedding and head tables", _WEIGHTS),
    _counted("active_params_no_embedding", "parameters", "active weights but the embedding and head tables", _ACTIVE),
    _counted(
        "train_flops_per_token",
        "FLOPs/token",
        "model FLOPs of forward and backward, router and head included",
        "time; of a router that drops assignments or picks fewer than top_k experts it is a bound: "
        "train.model_flops counts those really routed",
    ),
    _counted(
        "decode_flops_per_token",
        "FLOPs/token",
        "model FLOPs of one cached decoding step at the full context",
        f"time, which at small batches is that of reading weights; {_FEWER} a bound",
    ),
    _counted(
        "weight_bytes",
        "bytes",
        "weights as served, in the dtype of the training's products",
        "memory in training, where weights are float32 whatever the dtype of the products",
    ),
    _counted(
        "kv_bytes_per_token",
        "bytes/token",
        "key and value cache one token adds",
        "the cache's size at a context: room for all of it is taken at once",
    ),
)
