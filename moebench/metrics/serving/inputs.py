"""Inputs: how much the time of one sequence differs over inputs of equal length, timing noise taken off.

Each input is timed once a round; the medians of its first and of its second half of rounds have the input in common and
no noise, so their covariance over inputs is the spread alone. Decoding one sequence behind inputs of equal length is
the control: top-k routing reads k experts whatever they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from moebench.metrics import clock
from moebench.metrics.clock import Timed
from moebench.metrics.metric import Metric, Range
from moebench.metrics.racer import Racer, Text, decoding
from moebench.metrics.ref import labelled
from moebench.metrics.serving.contest import Contest, Found, device_of, timed

if TYPE_CHECKING:
    from torch import Tensor

    from moebench.jobs.session import SpeedPlan

LEAST_SPREAD = 0.002
"""As a share of the time: what no session tells from none."""
SHARES = 4
"""Of a session's time: there are as many times to tell as inputs."""
CLEAR = 2.0
"""Standard deviations of what noise alone would make of a spread's square."""

INPUT = timed(
    "input_s",
    "s",
    asked="inputs",
    labels=("length",),
    says="time to first token of one of several inputs of equal length: a median of each, early and late",
    cannot="time of other sizes, lengths or machines",
)
INPUT_DECODE = timed(
    "input_decode_s",
    "s",
    asked="inputs",
    labels=("length",),
    says="decoding step of one sequence behind one of several inputs of equal length: a median of each, early and late",
    cannot="time of other sizes, lengths or machines",
)
_SPREAD: dict[str, Any] = {"asked": "inputs", "labels": ("length",), "within": Range(above=0)}
_FLOOR = "what cannot be told from noise counts as that noise, the same for all models of a process"
INPUT_SPREAD = timed(
    "input_spread",
    "1",
    **_SPREAD,
    timed_by=INPUT.name,
    says="SD over inputs of equal length of the time to first token, as a share of it, without timing noise",
    cannot=f"spread over lengths, or over requests that wait for each other; {_FLOOR}",
)
INPUT_DECODE_SPREAD = timed(
    "input_decode_spread",
    "1",
    **_SPREAD,
    timed_by=INPUT_DECODE.name,
    says="the same of a decoding step of one sequence, where top-k routing always reads k experts",
    cannot=f"spread of batches; {_FLOOR}",
)
METRICS = (INPUT, INPUT_DECODE, INPUT_SPREAD, INPUT_DECODE_SPREAD)


def contests(plan: SpeedPlan) -> Iterator[Contest]:
    """One of prompts and one of decoding."""
    if (asked := plan.inputs) is not None:
        for kind in _INPUTS:
            yield Contest(race=partial(_race, kind, count=asked.count, tokens=asked.tokens), shares=SHARES)


def _race(
    kind: _OfInputs, racers: Sequence[Racer], text: Text, *, seconds: float, process: int, count: int, tokens: int
) -> Found:
    timed = {racer.name: kind.calls(racer, racer.windows(text, count), tokens) for racer in racers}
    times = clock.rounds(timed, device=device_of(racers), seconds=seconds, shift=process)
    halves = {name: [_medians(samples) for samples in of_inputs] for name, of_inputs in times.items()}
    times_name, spread_name = (labelled(one.name, length=tokens) for one in (kind.time, kind.spread))
    return Found(
        samples={
            name: {times_name: [round(t, clock.NANOSECOND) for half in zip(*each, strict=True) for t in half]}
            for name, each in halves.items()
        },
        derived={name: {spread_name: spread} for name, spread in spreads(halves).items()},
    )


def _medians(samples: Sequence[float]) -> tuple[float, float]:
    half = len(samples) // 2
    return median(samples[:half]), median(samples[half:])


def _first_tokens(racer: Racer, text_BX: Tensor, tokens: int) -> list[Timed]:
    subject = racer.subject

    def call(prompt_1T: Tensor) -> object:
        return subject.extend(prompt_1T, subject.new_cache(1, tokens))

    return [partial(call, text_BX[row : row + 1, :tokens]) for row in range(text_BX.shape[0])]


def _next_tokens(racer: Racer, text_BX: Tensor, tokens: int) -> list[Timed]:
    calls: list[Timed] = []
    for row in range(text_BX.shape[0]):
        text_1X = text_BX[row : row + 1]
        cache = racer.subject.new_cache(1, tokens + 1)
        racer.subject.extend(text_1X[:, :tokens], cache)
        calls.append(decoding(racer, text_1X, cache, start=tokens, stop=tokens + 1))
    return calls


@dataclass(frozen=True, kw_only=True)
class _OfInputs:
    """What is timed of each input."""

    time: Metric
    spread: Metric
    calls: Callable[[Racer, Tensor, int], list[Timed]]


_INPUTS = (
    _OfInputs(time=INPUT, spread=INPUT_SPREAD, calls=_first_tokens),
    _OfInputs(time=INPUT_DECODE, spread=INPUT_DECODE_SPREAD, calls=_next_tokens),
)


def spreads(halves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
    """SD over inputs of the log of their times, of each model, from two medians an input.

    The covariance of the two has no noise in it, as each has its own; it scatters by that noise, and where it is within
    `CLEAR` of what noise alone makes, the spread cannot be told from none. That bound is the largest of all models, so
    that of two of which neither varies the noisier one is not called the one that does.
    """
    squares: dict[str, float] = {}
    floor = LEAST_SPREAD**2
    for name, times in halves.items():
        log_N2 = np.log(np.array(times))
        covariance = np.cov(log_N2.T)
        squares[name] = float(covariance[0, 1])
        noise = float(np.var(log_N2[:, 0] - log_N2[:, 1], ddof=1)) / 2
        floor = max(floor, CLEAR * noise / math.sqrt(len(times) - 1))
    return {name: math.sqrt(max(square, floor)) for name, square in squares.items()}
