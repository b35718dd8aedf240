"""Effort: experts a token by how hard the next token was to predict.

Fixed top-k gives every token k, whatever it is; a router that chooses how many (top_p) is what shows that this probe
would see a difference. Scored positions are put into ten equal parts by their cross-entropy, the easiest first.

Legend: N assignments, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Range, Record
from moebench.metrics.probes.trace import Trace, rounded, trace

NAME = "effort"
PARTS = 10

EXPERTS = Metric(
    name=f"{NAME}.experts",
    unit="1",
    better="neither",
    labels=("decile",),
    values={"decile": tuple(str(part + 1) for part in range(PARTS))},
    whole=True,
    same_each_time=True,
    asked_by=(NAME,),
    of_mixtures=True,
    of_scored_text=True,
    says="experts that a token goes to, mean of layers; by decile of the next token's loss, 1 the easiest",
    cannot="time: an expert that fewer tokens go to is not faster for each",
)
EASY = Metric(
    name=f"{NAME}.easy_over_mean",
    unit="1",
    better="neither",
    within=Range(low=0, high=PARTS),
    same_each_time=True,
    asked_by=(NAME,),
    of_mixtures=True,
    of_scored_text=True,
    says="experts of a token in the easiest tenth of the text over those of any token",
    cannot="what made a token easy; with fixed top-k it is 1 by construction, which is what it is there to show",
)

METRICS = (EXPERTS, EASY)


def _measure(context: Context) -> Measured:
    return rounded(records(trace(context), step=context.step))


def records(seen: Trace, *, step: int | None) -> Iterator[Record]:
    """Over all, and of each part."""
    if not seen.layers:
        return
    positions = len(seen.nats_T)
    each_T = np.mean([np.bincount(layer.token_N, minlength=positions) for layer in seen.layers], axis=0)
    parts = np.array_split(each_T[np.argsort(seen.nats_T, kind="stable")], PARTS)
    yield EXPERTS.record(float(each_T.mean()), step=step)
    if positions < PARTS:
        yield EASY.record(reason=f"{positions} scored tokens are no {PARTS} parts", step=step)
        return
    for number, part_T in enumerate(parts, start=1):
        yield EXPERTS.record(float(part_T.mean()), step=step, decile=number)
    yield EASY.record(float(parts[0].mean() / each_T.mean()), step=step)


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
