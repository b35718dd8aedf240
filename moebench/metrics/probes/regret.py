"""Regret: what the next token would have cost less at other experts, one layer and one token at a time.

For every token the loss is computed with each set of k experts in one layer, weighed as its router would weigh them;
every other token and layer stays as it was. That is exact: a position is read again after the cached positions before
it. The best of 28 pairs is found with the answer known, so a part of its regret is luck: a router that knew all that
can be known would have some too. Three figures stand beside it: the second-best set, the mean of all sets, and the set
that was best for the same token in the other half of the documents, which is chosen without the answer.

Legend: B windows, T positions, K top-k, P sets of k experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb, log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Record
from moebench.metrics.probes.opening import CHANGE, parts, unopened, windows, without
from moebench.metrics.probes.trace import rounded

if TYPE_CHECKING:
    from torch import Tensor

NAME = "regret"
TOKENS = 4096
MOST_SETS = 128
AT_ONCE = 2**17
"""Positions that are cached at a time, over all windows and sets."""
LEAST_SEEN = 5
"""How often a token must occur in the other half before a set is chosen for it."""


def _metric(name: str, says: str, cannot: str, *, by_layer: bool = False) -> Metric:
    return Metric(
        name=f"{NAME}.{name}", unit="bits/token", labels=("layer",) if by_layer else (), whole=by_layer,
        within=CHANGE, asked_by=(NAME,), of_mixtures=True, same_each_time=True, says=f"{says}, mean of layers",
        cannot=cannot,
    )  # fmt: skip


BEST = _metric(
    "best",
    "how much less the next token would cost at the best set of k experts in one layer",
    "what a router could gain: the best is chosen with the answer known, see regret.held_out",
    by_layer=True,
)
SECOND = _metric(
    "second", "the same at the second-best set", "what a router could gain: it is chosen with the answer known"
)
RANDOM = _metric(
    "random",
    "how much less the next token would cost at the best set than at a random one",
    "anything about the router: it is how much the sets differ",
)
HELD_OUT = _metric(
    "held_out",
    "how much less the next token would cost at the set that was best for the same token in the other documents",
    "what a better router could gain: it looks at nothing but the token; below 0 the router did better",
    by_layer=True,
)

METRICS = (BEST, SECOND, RANDOM, HELD_OUT)


def _measure(context: Context) -> Measured:
    if (nothing := unopened(context, METRICS)) is not None:
        return nothing
    subject, step = context.subject, context.step
    (_, mixture) = subject.counts.mixtures[0]
    if (number := comb(subject.experts, mixture.top_k)) > MOST_SETS:
        why = f"{number:,} sets of {mixture.top_k} of {subject.experts} experts are too many to try"
        return without(METRICS, why, step=step)
    sets_PK = np.array(list(combinations(range(subject.experts), mixture.top_k)))
    try:
        return rounded(_records(context, sets_PK))
    except ValueError as problem:
        return without(METRICS, str(problem), step=step)


def _records(context: Context, sets_PK: NDArray[np.int64]) -> Iterator[Record]:
    """By layer, and the means of layers."""
    text, count = context.text, windows(context.text, TOKENS)
    mask = text.mask[:count]
    read_T = text.inputs[:count][mask]
    half_T = np.broadcast_to(text.document[:count, None] % 2, mask.shape)[mask].astype(bool)
    found: dict[str, list[float]] = {metric.name: [] for metric in METRICS}
    for layer in context.subject.mixtures:
        usual_T, tried_TP = tried(context, layer, sets_PK, count=count)
        values = of_losses(usual_T, tried_TP, read_T, half_T)
        for metric, value in zip(METRICS, values, strict=True):
            found[metric.name].append(value)
            if metric.labels:
                yield metric.record(value, step=context.step, layer=layer)
    for metric in METRICS:
        yield metric.record(float(np.mean(found[metric.name])), step=context.step)


def of_losses(
    usual_T: NDArray[np.float64], tried_TP: NDArray[np.float64], read_T: NDArray[np.int64], half_T: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    """In the order of `METRICS`, from the cost of every token as it was and with each set."""
    first_T, second_T = np.partition(tried_TP, 1, axis=1)[:, :2].T
    table_T = usual_T.copy()
    for half in (False, True):
        there, here = half_T != half, half_T == half
        for token in np.unique(read_T[here]):
            known = there & (read_T == token)
            if known.sum() >= LEAST_SEEN:
                chosen = tried_TP[known].mean(0).argmin()
                table_T[here & (read_T == token)] = tried_TP[here & (read_T == token), chosen]
    mean = usual_T.mean()
    return (
        float(mean - first_T.mean()),
        float(mean - second_T.mean()),
        float(tried_TP.mean() - first_T.mean()),
        float(mean - table_T.mean()),
    )


def tried(
    context: Context, layer: int, sets_PK: NDArray[np.int64], *, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bits of each scored token as it was, [T], and with each set of experts in one layer, [T, P].

    Positions are read again from the last to the first, so what is cached before each is always as it was.
    """
    import torch

    subject, opened = context.subject, context.subject.opened
    assert opened is not None
    number, length = len(sets_PK), context.text.inputs.shape[1]
    at_once = max(1, AT_ONCE // (number * length))
    usual, changed = [], []
    for _, inputs_BT, targets_BT, mask_BT in parts(context.text, subject.device, count=count, at_once=at_once):
        batch = len(inputs_BT)
        cache = subject.new_cache(batch, length)
        usual_BT = subject.score(inputs_BT, targets_BT, cache=cache).logprob_BT
        row_R = torch.arange(batch, device=subject.device).repeat_interleave(number)
        sent_RK = torch.from_numpy(sets_PK).to(subject.device).repeat(batch, 1)
        again = subject.new_cache(batch * number, length)
        again.share(cache, row_R)
        nats_TBP: list[Tensor] = []
        with opened.sent(layer, sent_RK):
            for place in reversed(range(length)):
                again.cut(place)
                one = slice(place, place + 1)
                scores = subject.score(inputs_BT[row_R, one], targets_BT[row_R, one], cache=again)
                nats_TBP.append(-scores.logprob_BT.view(batch, number))
        nats_BTP = torch.stack(nats_TBP[::-1], dim=1)
        usual.append(-usual_BT[mask_BT].double().cpu().numpy())
        changed.append(nats_BTP[mask_BT].double().cpu().numpy())
    return np.concatenate(usual) / log(2), np.concatenate(changed) / log(2)


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
