"""Agreement: whether a token goes to the same experts twice, with the noise that its router draws in training.

The finished model is routed twice over the same text, each time with noise of its own. A router without noise always
agrees with itself; one that is all noise agrees on k / E of a token's experts.

Legend: T positions, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import SHARE, Metric, Record
from moebench.metrics.probes.opening import parts, unopened, windows
from moebench.metrics.probes.trace import rounded
from moebench.metrics.quality import WINDOWS_AT_ONCE

if TYPE_CHECKING:
    from moebench.models.architecture import Architecture

NAME = "agreement"
TOKENS = 16_384


def _noiseless(a: Architecture) -> str | None:
    """Why a router always agrees with itself. Routers of installed packages may do anything."""
    ffn, router = a.ffn, a.router
    if ffn.kind == "dense" or router is None or router.code is not None:
        return None
    draws = ffn.jitter or router.fewer == "training" or router.training_multiply_adds > router.multiply_adds
    return None if draws else f"1 by construction, as {ffn.router} draws no noise here"


SAME = Metric(
    name=f"{NAME}.same_experts",
    unit="1",
    better="higher",
    labels=("layer",),
    whole=True,
    within=SHARE,
    fixed=_noiseless,
    asked_by=(NAME,),
    of_mixtures=True,
    same_each_time=True,
    says="share of a token's experts that it is sent to again with other noise, mean of layers",
    cannot="whether the output changes: experts that change may have small weights",
)
BY_CHANCE = Metric(
    name=f"{NAME}.by_chance",
    unit="1",
    better="neither",
    within=SHARE,
    fixed=lambda _: "it is arithmetic on the numbers of experts",
    asked_by=(NAME,),
    of_mixtures=True,
    same_each_time=True,
    says="the same of a router that is all noise: experts of a token over experts",
    cannot="anything about the router: it is arithmetic on the numbers of experts",
)

METRICS = (SAME, BY_CHANCE)


def _measure(context: Context) -> Measured:
    if (nothing := unopened(context, METRICS)) is not None:
        return nothing
    return rounded(_records(context))


def _records(context: Context) -> Iterator[Record]:
    """By layer, and the mean of layers."""
    subject, step, text = context.subject, context.step, context.text
    same, sent = np.zeros(len(subject.mixtures)), np.zeros(len(subject.mixtures))
    scored = 0
    chosen = parts(text, subject.device, count=windows(text, TOKENS), at_once=WINDOWS_AT_ONCE)
    assert subject.opened is not None
    for turn, (_, inputs, _, mask) in enumerate(chosen):
        first, second = (subject.opened.drawn(inputs, 2 * turn + again) for again in (0, 1))
        kept_T = mask.flatten().cpu().numpy()
        scored += int(kept_T.sum())
        for row, (one, other) in enumerate(zip(first, second, strict=True)):
            ones, others = (_taken(routing, kept_T, subject.experts) for routing in (one, other))
            same[row] += (ones & others).sum()
            sent[row] += (ones.sum() + others.sum()) / 2
    for layer, share in zip(subject.mixtures, same / sent, strict=True):
        yield SAME.record(float(share), step=step, layer=layer)
    yield SAME.record(float((same / sent).mean()), step=step)
    yield BY_CHANCE.record(float((sent / scored).mean() / subject.experts), step=step)


def _taken(routing: object, kept_T: NDArray[np.bool_], experts: int) -> NDArray[np.bool_]:
    """Which experts the scored positions go to, [T, E]."""
    taken_TE = np.zeros((len(kept_T), experts), dtype=np.bool_)
    taken_TE[routing.token_N.cpu().numpy(), routing.expert_N.cpu().numpy()] = True  # type: ignore[attr-defined]
    return taken_TE[kept_T]


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
