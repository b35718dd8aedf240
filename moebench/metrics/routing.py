"""Routing: how evenly experts are used, over time and by domain.

All figures come from the evaluation windows, so models and seeds are compared on the same tokens; an expert's load is
the number of scored tokens routed to it.

Legend: L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.metric import SHARE, Metric, Range, Record

if TYPE_CHECKING:
    from moebench.models.architecture import Architecture

_DROPLESS = "0 by construction, as experts take every assignment in an evaluation: use train.dropped_share"


def _even(a: Architecture) -> str | None:
    """Why the load of the experts cannot be uneven. Routers of installed packages may do anything."""
    ffn, router = a.ffn, a.router
    if ffn.kind == "dense":
        return None
    if ffn.experts == 1:
        return "fixed by construction, as there is one expert"
    if router is None or router.code is not None:
        return None
    if router.even:
        return f"fixed by construction, as {ffn.router} gives every expert as many tokens"
    if ffn.top_k == ffn.experts and router.fewer is None:
        return f"fixed by construction, as with top_k {ffn.top_k} every token goes to every expert"
    return None


def _load(name: str, unit: str, **facts: Any) -> Metric:
    usual = {"fixed": _even, "asked_by": ("routing",), "of_mixtures": True}
    return Metric(name=f"routing.{name}", unit=unit, **{**usual, **facts})


_CHANCE = "compares only equal numbers of both"

TOKENS = _load(
    "tokens",
    "tokens",
    better="neither",
    labels=("layer", "expert"),
    says="tokens each expert received in an evaluation",
    cannot="what an expert does; with few tokens it is mostly chance",
)
DOMAIN_TOKENS = _load(
    "domain_tokens",
    "tokens",
    better="neither",
    labels=("layer", "expert", "domain"),
    says="the same by domain, after the last step",
    cannot="what an expert does; with few tokens it is mostly chance",
)
ENTROPY = _load(
    "entropy",
    "1",
    better="higher",
    within=SHARE,
    says="entropy of the expert load over log(experts) in an evaluation, mean of layers",
    cannot=f"whether experts differ; with few tokens an expert it is below 1 by chance, so it {_CHANCE}",
)
MAX_OVER_MEAN = _load(
    "max_over_mean",
    "1",
    within=Range(low=1),
    says="busiest expert's load over the mean in an evaluation, mean of layers",
    cannot=f"whether experts differ; with few tokens an expert it is above 1 by chance, so it {_CHANCE}",
)
DEAD_EXPERTS = _load(
    "dead_experts",
    "experts",
    says="experts that received no token of an evaluation, all layers",
    cannot="whether an expert is never used: with few tokens chance leaves some idle, see routing.idle_by_chance",
)
IDLE_BY_CHANCE = _load(
    "idle_by_chance",
    "experts",
    better="neither",
    within=Range(low=0),
    fixed=lambda _: "it is arithmetic on the numbers of tokens and experts: use routing.dead_experts",
    says="experts that as many assignments, each to an expert at random, would leave without a token, all layers",
    cannot="anything about the router: it is arithmetic on the number of tokens and experts",
)
DROPPED_SHARE = Metric(
    name="evaluation.dropped_share",
    unit="1",
    within=SHARE,
    fixed=lambda a: None if a.drops(training=False) else _DROPLESS,
    says="share of assignments dropped over capacity in an evaluation",
    cannot="anything about training: train.dropped_share; it is recorded for routers of installed "
    "packages alone, ours drop nothing there",
)
OLD_DROPPED_SHARE = _load(
    "dropped_share",
    "1",
    within=SHARE,
    retired=_DROPLESS,
    says="earlier name of evaluation.dropped_share, in results that were committed with it",
    cannot="anything: it is 0 by construction",
)

METRICS = (
    TOKENS, DOMAIN_TOKENS, ENTROPY, MAX_OVER_MEAN, DEAD_EXPERTS, IDLE_BY_CHANCE, DROPPED_SHARE, OLD_DROPPED_SHARE,
)  # fmt: skip


def routing_records(
    tokens_LE: NDArray[np.int64], *, layers: tuple[int, ...], dropped: int | None, step: int
) -> Iterator[Record]:
    """Load per expert and layer, and its summaries; nothing for a dense model (L = 0).

    `layers` are the indices of the L layers that are mixtures; `dropped` the assignments over capacity, None where a
    router drops none by construction.
    """
    if tokens_LE.shape[0] == 0:
        return
    for row, expert in np.ndindex(*tokens_LE.shape):
        yield TOKENS.record(int(tokens_LE[row, expert]), layer=layers[row], expert=expert, step=step)
    yield ENTROPY.record(float(np.mean([normalised_entropy(load) for load in tokens_LE])), step=step)
    yield MAX_OVER_MEAN.record(float((tokens_LE.max(1) / tokens_LE.mean(1)).mean()), step=step)
    yield DEAD_EXPERTS.record(int((tokens_LE == 0).sum()), step=step)
    yield IDLE_BY_CHANCE.record(float(sum(map(idle_by_chance, tokens_LE))), step=step)
    if dropped is not None:
        yield DROPPED_SHARE.record(dropped / (dropped + int(tokens_LE.sum())), step=step)


def idle_by_chance(load_E: NDArray[np.int64]) -> float:
    """Experts expected to receive nothing when N assignments go each to a random expert: E (1 - 1/E)^N."""
    return float(load_E.size * (1 - 1 / load_E.size) ** int(load_E.sum()))


def domain_records(
    tokens_by_domain: Mapping[str, NDArray[np.int64]], *, layers: tuple[int, ...], step: int | None
) -> Iterator[Record]:
    """Load per expert and layer, domain by domain."""
    for domain, tokens_LE in tokens_by_domain.items():
        for row, expert in np.ndindex(*tokens_LE.shape):
            tokens = int(tokens_LE[row, expert])
            yield DOMAIN_TOKENS.record(tokens, layer=layers[row], expert=expert, domain=domain, step=step)


def normalised_entropy(load_E: NDArray[np.int64]) -> float:
    """Entropy of the load over log(E): 1.0 when all experts are used alike; 1.0 for a single expert."""
    if load_E.size == 1:
        return 1.0
    share = load_E / load_E.sum()
    used = share[share > 0]
    return float(-(used * np.log(used)).sum() / np.log(load_E.size))
