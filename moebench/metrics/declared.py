"""One number, what it means, and where it was measured.

A `Record` is a value with a metric's name; unit, direction and version live once, on the `Metric`. A metric that
comes in several flavours carries labels in brackets, `speed.decode_step_s[batch=8]`; the part before the bracket is
looked up in `METRICS`. A measurement that could not be made is a record with a reason and no value: never 0, -1 or
NaN. This module knows nothing of files, models or statistics.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from moebench.frozen import Frozen

Better = Literal["lower", "higher", "neither"]
Kind = Literal["counted", "seeded", "timed", "event"]

_NAME = re.compile(r"^(?P<base>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:\[(?P<labels>[^\[\]]*)\])?$")


class Range(Frozen):
    """The values a measurement can have. What lies outside was measured wrongly, whatever it is compared with."""

    low: float | None = None
    above: float | None = None
    """A bound that is itself outside: a time is above 0."""
    high: float | None = None
    whole: bool = False
    """Whether it is a count."""

    def breaks(self, value: float) -> str | None:
        """How a value lies outside, beyond what rounding explains; None when it is possible."""
        slack = ROUNDING * max(1.0, abs(value))
        if self.low is not None and value < self.low - slack:
            return f"below {self.low:g}"
        if self.above is not None and value <= self.above:
            return f"not above {self.above:g}"
        if self.high is not None and value > self.high + slack:
            return f"above {self.high:g}"
        return "no whole number" if self.whole and value != int(value) else None


ROUNDING = 1e-6
"""How far a computed number may lie beyond an exact bound."""

_SHARE, _COUNT, _POSITIVE = Range(low=0, high=1), Range(low=0, whole=True), Range(above=0)
_UTILISATION = Range(above=0, high=1)
_OF_UNIT = {
    "1": Range(low=0),
    "bits/byte": Range(low=0),
    "bits/token": Range(low=0),
    "bytes": _COUNT,
    "bytes/s": _POSITIVE,
    "bytes/token": _COUNT,
    "documents": _COUNT,
    "epochs": Range(low=0),
    "experts": _COUNT,
    "FLOPs": Range(low=0),
    "FLOPs/s": _POSITIVE,
    "FLOPs/token": Range(low=0),
    "parameters": _COUNT,
    "s": _POSITIVE,
    "tokens": _COUNT,
}
"""Range of a metric that states none."""


class Metric(Frozen):
    """What a number means."""

    name: str
    unit: str
    better: Better
    kind: Kind
    """counted: exact, no interval; seeded: one value a seed; timed: one value a fresh process; event: a crossing."""
    version: int = 1
    """Raised when the definition changes: records of another version are refused, not mixed."""
    labels: tuple[str, ...] = ()
    """Keys allowed in brackets, as in `speed.decode_step_s[batch=8]`."""
    retired: str | None = None
    """Why nothing is claimed about it any more, and what to use; old records stay readable, new ones are not made."""
    values: dict[str, tuple[str, ...]] = Field(default={})
    """Label -> its values, where they are the same for every suite."""
    says: str
    """One line for `moebench list metrics`."""
    cannot: str
    """What it cannot say: the rest of that line."""
    same_each_time: bool = False
    """Whether the same run measured again gives the same number: equal values of several seeds are then exact."""
    within: Range = Range()
    """The values it can have; those of its unit unless stated."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_its_unit(cls, facts: dict[str, Any]) -> dict[str, Any]:
        return {"within": _OF_UNIT.get(facts.get("unit", ""), Range()), **facts}


class Record(Frozen):
    """One number, or the reason why there is none. A word or a truth value is no number."""

    model_config = ConfigDict(strict=True)

    metric: str
    """Name in `METRICS`, with its labels in brackets if it has any."""
    value: float | int | None = None
    reason: str | None = None
    """Why there is no value; absent when there is one."""
    step: int | None = None
    """Training step at which it was measured; absent for facts of a whole run."""
    version: int = 1

    @model_validator(mode="after")
    def _value_or_reason(self) -> Record:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.metric}: a record has a value or a reason, not both or neither")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.metric}: {self.value} is not a measurement; give a reason instead")
        return self


def record(
    metric: str, value: float | int | None = None, *, step: int | None = None, reason: str | None = None
) -> Record:
    """A record of a known metric, stamped with the version of its definition; an impossible value becomes a reason.

    Raises KeyError for a metric that is not in `METRICS`.
    """
    if value is not None and (why := impossible(metric, value)) is not None:
        value, reason = None, why
    return Record(metric=metric, value=value, reason=reason, step=step, version=metric_of(metric).version)


IMPOSSIBLE = ": impossible"
"""How the reason ends of a value that was measured and cannot be."""


MOST = 1e30
"""Nothing that is measured is larger, or smaller than its inverse without being 0."""


def impossible(metric: str, value: float) -> str | None:
    """Why a metric cannot have this value; None when it can. Raises KeyError for an unknown metric."""
    how = metric_of(metric).within.breaks(value) if math.isfinite(value) else None
    if how is None and math.isfinite(value) and value != 0 and not 1 / MOST <= abs(value) <= MOST:
        how = "beyond any measurement"
    return None if how is None else f"{metric} {value!r} is {how}{IMPOSSIBLE}"


def parse_metric(name: str) -> tuple[str, dict[str, str]]:
    """Splits `a.b[k=v,l=w]` into `a.b` and `{k: v, l: w}`. Raises ValueError when it has another form."""
    base, labels = _parsed(name)
    return base, dict(labels)


@functools.lru_cache(maxsize=2**16)
def _parsed(name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    found = _NAME.match(name)
    if found is None:
        raise ValueError(f"{name[:60]!r} is not a metric name: write it as group.name or group.name[label=value]")
    labels: dict[str, str] = {}
    for part in filter(None, (found["labels"] or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ValueError(f"{name[:60]!r}: write labels as [label=value]")
        labels[key.strip()] = value.strip()
    return found["base"], tuple(labels.items())


def labelled(base: str, **labels: object) -> str:
    """`labelled("routing.load", layer=0)` is `routing.load[layer=0]`."""
    inside = ",".join(f"{key}={value}" for key, value in labels.items())
    return f"{base}[{inside}]" if inside else base


def metric_of(name: str) -> Metric:
    """The metric that a record's name stands for. Raises KeyError with the known names."""
    base, labels = parse_metric(name)
    if base not in METRICS:
        raise KeyError(f"unknown metric {base!r}; known: {', '.join(sorted(METRICS))}")
    metric = METRICS[base]
    unknown = set(labels) - set(metric.labels)
    if unknown:
        allowed = ", ".join(metric.labels) or "none"
        raise KeyError(f"{base} has no label {', '.join(sorted(unknown))}; allowed: {allowed}")
    return metric


def _counted(
    name: str, unit: str, says: str, better: Better = "lower", labels: tuple[str, ...] = (), **more: Any
) -> Metric:
    return Metric(name=name, unit=unit, better=better, kind="counted", says=says, labels=labels, **more)


def _peak(name: str, says: str, *parts: str, cannot: str) -> Metric:
    """A peak of tensor bytes, which may be split into what holds them."""
    split: dict[str, Any] = {"labels": ("part",), "values": {"part": parts}}
    return _seeded(name, "bytes", says, cannot=cannot, same_each_time=True, **split)


def _seeded(
    name: str, unit: str, says: str, better: Better = "lower", labels: tuple[str, ...] = (), **more: Any
) -> Metric:
    return Metric(name=name, unit=unit, better=better, kind="seeded", says=says, labels=labels, **more)


def _timed(
    name: str, unit: str, says: str, better: Better = "lower", labels: tuple[str, ...] = (), **more: Any
) -> Metric:
    return Metric(name=name, unit=unit, better=better, kind="timed", says=says, labels=labels, **more)


def _event(name: str, unit: str, says: str, *, cannot: str) -> Metric:
    return Metric(name=name, unit=unit, better="lower", kind="event", says=says, within=_POSITIVE, cannot=cannot)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _counted(
            "cost.total_params",
            "parameters",
            "all weights, tied tables once",
            cannot="what a token costs, or how well the weights are used",
        ),
        _counted(
            "cost.active_params",
            "parameters",
            "weights one token uses: total minus the experts it skips",
            cannot=("time or memory; of a router that picks fewer than top_k experts it is the most a token can use"),
        ),
        _counted(
            "cost.total_params_no_embedding",
            "parameters",
            "all weights but the embedding and head tables",
            cannot="what a token costs, or how well the weights are used",
        ),
        _counted(
            "cost.active_params_no_embedding",
            "parameters",
            "active weights but the embedding and head tables",
            cannot=("time or memory; of a router that picks fewer than top_k experts it is the most a token can use"),
        ),
        _counted(
            "cost.train_flops_per_token",
            "FLOPs/token",
            "model FLOPs of forward and backward, router and head included",
            cannot=(
                "time; of a router that drops assignments or picks fewer than top_k experts it is a bound: "
                "train.model_flops counts those really routed"
            ),
        ),
        _counted(
            "cost.decode_flops_per_token",
            "FLOPs/token",
            "model FLOPs of one cached decoding step at the full context",
            cannot=(
                "time, which at small batches is that of reading weights; of a router that picks fewer "
                "than top_k experts it is a bound"
            ),
        ),
        _counted(
            "cost.weight_bytes",
            "bytes",
            "weights as served, in the dtype of the training's products",
            cannot="memory in training, where weights are float32 whatever the dtype of the products",
        ),
        _counted(
            "cost.kv_bytes_per_token",
            "bytes/token",
            "key and value cache one token adds",
            cannot="the cache's size at a context: room for all of it is taken at once",
        ),
        _seeded(
            "test.bits_per_byte",
            "bits/byte",
            "cross-entropy on the test split after the last step; domains take turns",
            labels=("domain",),
            cannot="quality on other text, or on tasks; it holds no auxiliary loss",
        ),
        _seeded(
            "tune.bits_per_byte",
            "bits/byte",
            "cross-entropy on the tune split after the last step",
            labels=("domain",),
            cannot="anything about the test split: rates were chosen by it",
        ),
        _seeded(
            "curve.bits_per_byte",
            "bits/byte",
            "cross-entropy at an evaluation point, on the first documents of the split",
            cannot="the final loss: it reads fewer documents, before the learning rate has decayed",
        ),
        _seeded(
            "test.scored_bytes",
            "bytes",
            "bytes of the test split that test.bits_per_byte was scored on",
            "neither",
            ("domain",),
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "test.scored_documents",
            "documents",
            "documents that test.bits_per_byte was scored on",
            "neither",
            ("domain",),
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "tune.scored_bytes",
            "bytes",
            "bytes of the tune split that tune.bits_per_byte was scored on",
            "neither",
            ("domain",),
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "tune.scored_documents",
            "documents",
            "documents that tune.bits_per_byte was scored on",
            "neither",
            ("domain",),
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "curve.scored_bytes",
            "bytes",
            "bytes scored at each evaluation point",
            "neither",
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "curve.scored_documents",
            "documents",
            "documents scored at each evaluation point",
            "neither",
            cannot="quality; it is what the suite asked for, as far as there was text",
        ),
        _seeded(
            "train.bits_per_token",
            "bits/token",
            "training cross-entropy over the last tenth of the steps",
            cannot=("generalisation: the text may have been read before, and weights move while it is measured"),
        ),
        _seeded(
            "train.tokens",
            "tokens",
            "tokens trained on so far",
            "neither",
            cannot="anything measured: it is the suite's budget",
        ),
        _seeded(
            "train.epochs",
            "epochs",
            "how often the training split was read",
            "neither",
            cannot="anything measured: it is the suite's budget over its text",
        ),
        _seeded(
            "train.model_flops",
            "FLOPs",
            "model FLOPs spent so far, tokens really routed",
            same_each_time=True,
            cannot="time, or what the kernels really did: train.executed_flops",
        ),
        _seeded(
            "train.counted_flops",
            "FLOPs",
            "torch's counter on one micro-batch, loop experts and math attention",
            same_each_time=True,
            cannot="the FLOPs of the kernels in use: it is a check of the arithmetic on loop experts",
        ),
        _seeded(
            "train.executed_flops",
            "FLOPs",
            "FLOPs spent so far as the kernels run them: model FLOPs, recomputation and padding",
            same_each_time=True,
            cannot="time; norms, activations and the optimizer are not counted",
        ),
        _seeded(
            "train.dropped_share",
            "1",
            "share of assignments dropped over capacity in training so far",
            within=_SHARE,
            cannot=(
                "anything about evaluation, where no assignment is dropped; it depends on the micro-batch that "
                "a capacity is shared over"
            ),
        ),
        _seeded(
            "init.ffn_output_rms",
            "1",
            "root mean square of the FFN's output at initialisation",
            "neither",
            ("layer",),
            cannot="anything about trained models",
        ),
        _peak(
            "memory.train_peak_bytes",
            "peak of live tensor bytes in one training step",
            "weights",
            "gradients",
            "optimizer",
            "activations",
            cannot=(
                "memory of the process: libraries, the allocator's slack and what is outside tensors are not in it"
            ),
        ),
        _peak(
            "memory.inference_peak_bytes",
            "peak of live tensor bytes in prefill and decode",
            "weights",
            "activations",
            "kv_cache",
            cannot="memory of the process, or of another batch than one sequence of the whole context",
        ),
        _timed(
            "memory.resident_growth_bytes",
            "bytes",
            "growth of a fresh process's resident memory while a model was loaded",
            within=Range(whole=True),
            retired="it measures the order in which models were loaded: use memory.inference_peak_bytes",
            cannot="what a model takes: libraries and what was loaded before are in it",
        ),
        _seeded(
            "routing.tokens",
            "tokens",
            "tokens each expert received in an evaluation",
            "neither",
            ("layer", "expert"),
            cannot="what an expert does; with few tokens it is mostly chance",
        ),
        _seeded(
            "routing.domain_tokens",
            "tokens",
            "the same by domain, after the last step",
            "neither",
            ("layer", "expert", "domain"),
            cannot="what an expert does; with few tokens it is mostly chance",
        ),
        _seeded(
            "routing.entropy",
            "1",
            "entropy of the expert load over log(experts) in an evaluation, mean of layers",
            "higher",
            within=_SHARE,
            cannot=(
                "whether experts differ; with few tokens an expert it is below 1 by chance, so it "
                "compares only equal numbers of both"
            ),
        ),
        _seeded(
            "routing.max_over_mean",
            "1",
            "busiest expert's load over the mean in an evaluation, mean of layers",
            within=Range(low=1),
            cannot=(
                "whether experts differ; with few tokens an expert it is above 1 by chance, so it "
                "compares only equal numbers of both"
            ),
        ),
        _seeded(
            "routing.dead_experts",
            "experts",
            "experts that received no token of an evaluation, all layers",
            cannot=(
                "whether an expert is never used: with few tokens chance leaves some idle, see routing.idle_by_chance"
            ),
        ),
        _seeded(
            "routing.idle_by_chance",
            "experts",
            "experts that as many assignments, each to an expert at random, would leave without a token, all layers",
            "neither",
            within=Range(low=0),
            cannot="anything about the router: it is arithmetic on the number of tokens and experts",
        ),
        _seeded(
            "evaluation.dropped_share",
            "1",
            "share of assignments dropped over capacity in an evaluation",
            within=_SHARE,
            cannot=(
                "anything about training: train.dropped_share; it is recorded for routers of installed "
                "packages alone, ours drop nothing there"
            ),
        ),
        _seeded(
            "routing.dropped_share",
            "1",
            "earlier name of evaluation.dropped_share, in results that were committed with it",
            within=_SHARE,
            retired="0 by construction, as experts take every assignment in an evaluation: use train.dropped_share",
            cannot="anything: it is 0 by construction",
        ),
        _timed(
            "speed.train_step_s",
            "s",
            "forward, backward and optimizer step on one micro-batch",
            cannot=("time of other sizes or machines; of one micro-batch, so only models with equal ones compare"),
        ),
        _timed(
            "speed.prefill_s",
            "s",
            "time to first token: the prompt through the model into the cache",
            labels=("tokens",),
            cannot="time of other sizes or machines; one sequence at a time",
        ),
        _timed(
            "speed.decode_step_s",
            "s",
            "one cached decoding step for the whole batch",
            labels=("batch",),
            cannot="time of other sizes or machines; at nano size it is that of dispatching operations",
        ),
        _timed(
            "speed.train_utilisation",
            "1",
            "model FLOPs per second, of assignments really computed, over the matmul peak measured in the same process",
            "higher",
            within=_UTILISATION,
            cannot=("time, or use of the machine by what is no matrix product; the peak is that of one large product"),
        ),
        _timed(
            "speed.decode_bandwidth_utilisation",
            "1",
            "bytes of weights, of experts really routed to, and cache read per second over the measured bandwidth",
            "higher",
            ("batch",),
            within=_UTILISATION,
            cannot="time; caches may hold what is counted as read, and casts of weights are not counted",
        ),
        _timed(
            "speed.peak_flops",
            "FLOPs/s",
            "best rate of a large matrix product in this process",
            "higher",
            cannot="anything about a model",
        ),
        _timed(
            "speed.peak_bandwidth",
            "bytes/s",
            "best rate of reading a large array in this process",
            "higher",
            cannot="anything about a model",
        ),
        _event(
            "tokens_to_quality",
            "tokens",
            "training tokens at which a model reaches a quality",
            cannot=("final quality; on a curve whose rate has not decayed it is not what a shorter budget would reach"),
        ),
        _event(
            "flops_to_quality",
            "FLOPs",
            "training model FLOPs at which a model reaches a quality",
            cannot=(
                "time, or final quality; on a curve whose rate has not decayed it is not what a shorter "
                "budget would reach"
            ),
        ),
        _event(
            "seconds_to_quality",
            "s",
            "training seconds at which a model reaches a quality: steps to it times step time",
            cannot="time with other work on the machine; evaluation and start-up are not in it",
        ),
    )
}
