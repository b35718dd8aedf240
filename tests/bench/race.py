"""Contenders timed side by side in one process, and ratios of their times with intervals.

On a shared machine absolute times drift by tens of percent, so the datum is a ratio within one round: all contenders
take one turn a round, each round begins with another and runs the other way round than the one before. The figure is
the median over rounds, with the order-statistic interval of a median, which asks nothing of the noise's shape.

The clock of a CPU with one thread is the process's processor time: the same as the wall's on a quiet machine, and blind
to neighbours' turns on a busy one. The wall's medians are kept beside it. Elsewhere the clock is the wall's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.stats import binom

from moebench.stats import Interval, median

MIN_ROUNDS, MAX_ROUNDS = 6, 400
"""Six is the least for which a median has a 95% interval."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is timed, and what is done before each turn, untimed."""

    run: Callable[[], object]
    reset: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median over rounds of one contender's time over another's."""

    value: float
    interval: Interval | None
    """95%; None below six rounds."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Samples of one race, in seconds: one a round for every contender."""

    seconds: dict[str, list[float]]
    wall_seconds: dict[str, list[float]]
    clock: str

    @property
    def rounds(self) -> int:
        return len(next(iter(self.seconds.values())))

    def median_s(self, name: str) -> float:
        return median(np.asarray(self.seconds[name]))

    def ratio(self, name: str, over: str) -> Ratio:
        """Time of `name` over the time of `over`, round by round."""
        ratios = np.asarray(self.seconds[name]) / np.asarray(self.seconds[over])
        return Ratio(value=median(ratios), interval=median_interval(ratios))

    def best(self, *names: str) -> str:
        """The fastest of those that took part, by median."""
        return min((name for name in names if name in self.seconds), key=self.median_s)


def median_interval(x: np.ndarray, level: float = 0.95) -> Interval | None:
    """The narrowest interval of order statistics that holds the median of x [n] at `level`; None when n is too small.

    From the k-th smallest to the k-th largest the coverage is 1 - 2 P(Binomial(n, 1/2) < k).
    """
    outside = [2 * float(binom.cdf(k - 1, len(x), 0.5)) for k in range(1, len(x) // 2 + 1)]
    ranks = [k for k, share in enumerate(outside, start=1) if share <= 1 - level]
    if not ranks:
        return None
    ordered, k = np.sort(x), ranks[-1]
    return Interval(low=float(ordered[k - 1]), high=float(ordered[-k]), level=1 - outside[k - 1])


def race(contenders: Mapping[str, Contender], *, seconds: float, device: str = "cpu") -> Result:
    """Times all for about `seconds` after warming up, and for at least six rounds."""
    clock, read = _clock(device)
    names = list(contenders)
    for name in names * 2:
        _turn(contenders[name], read, device)
    samples: dict[str, list[float]] = {name: [] for name in names}
    walls: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.perf_counter() + seconds
    for turn in range(MAX_ROUNDS):
        if turn >= MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for name in order(names, turn):
            spent, wall = _turn(contenders[name], read, device)
            samples[name].append(spent)
            walls[name].append(wall)
    return Result(seconds=samples, wall_seconds=walls, clock=clock)


def order(names: list[str], turn: int) -> list[str]:
    """Names beginning with another one each round, every second round backwards."""
    first = turn % len(names)
    rotated = names[first:] + names[:first]
    return rotated[::-1] if turn % 2 else rotated


def _clock(device: str) -> tuple[str, Callable[[], float]]:
    if device == "cpu" and torch.get_num_threads() == 1:
        return "processor time", time.process_time
    return "wall time", time.perf_counter


def _turn(contender: Contender, read: Callable[[], float], device: str) -> tuple[float, float]:
    contender.reset()
    _synchronise(device)
    began, wall = read(), time.perf_counter()
    contender.run()
    _synchronise(device)
    return read() - began, time.perf_counter() - wall


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
