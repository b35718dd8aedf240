"""The only timer: calls timed in rotating blocks after a detected warm-up, and the machine's peaks by the same clock.

Absolute times on a shared machine drift by tens of percent, so what is compared is timed in turns (A B C, C B A, ...):
a drift touches all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from moebench.seeds import generator

if TYPE_CHECKING:
    import torch

MIN_BLOCKS, MAX_SAMPLES = 8, 2000
MIN_ROUNDS, MAX_ROUNDS = 6, 200
LONG_WARM_UP_S = 2.0
"""Calls that take so long together are enough to begin with."""
NANOSECOND = 9
"""Decimals of a second that the clock resolves; more would only fill the disk."""
Timed = Callable[[], object]


def rotate(
    timed: Mapping[str, Timed], *, device: str, seconds: float, shift: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Times every entry in blocks of alternating order until the time is up; returns samples and the blocks' order."""
    names = list(timed)
    names = names[shift % len(names) :] + names[: shift % len(names)]
    per_call = {name: warm_up(timed[name], device) for name in names}
    share = seconds / len(names)
    calls = {name: max(1, min(50, round(share / MIN_BLOCKS / per_call[name]))) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    blocks: list[str] = []
    deadline = time.perf_counter() + seconds
    turn = 0
    while turn < 2 or (time.perf_counter() < deadline and len(samples[names[0]]) < MAX_SAMPLES):
        for name in names if turn % 2 == 0 else names[::-1]:
            blocks.append(name)
            samples[name].extend(round(time_call(timed[name], device), NANOSECOND) for _ in range(calls[name]))
        turn += 1
    return samples, blocks


def rounds(
    timed: Mapping[str, Sequence[Timed]], *, device: str, seconds: float, shift: int
) -> dict[str, list[list[float]]]:
    """Times every call of every entry once a round until the time is up; returns the samples of each call.

    An entry's calls stand together, in an order that is drawn anew each round, behind one that is not kept: in a fixed
    order the first would always be the one that finds its weights out of the cache, and would look slow by itself.
    """
    names = list(timed)
    names = names[shift % len(names) :] + names[: shift % len(names)]
    for name in names:
        warm_up(timed[name][0], device)
    order = generator(shift, "rounds")
    samples: dict[str, list[list[float]]] = {name: [[] for _ in timed[name]] for name in names}
    deadline = time.perf_counter() + seconds
    turn = 0
    while turn < MIN_ROUNDS or (time.perf_counter() < deadline and turn < MAX_ROUNDS):
        for name in names if turn % 2 == 0 else names[::-1]:
            calls = order.permutation(len(timed[name]))
            time_call(timed[name][calls[-1]], device)
            for index in calls:
                samples[name][index].append(time_call(timed[name][index], device))
        turn += 1
    return samples


def time_call(call: Timed, device: str) -> float:
    """Seconds of one call; on a GPU until its work is done."""
    _synchronise(device)
    began = time.perf_counter()
    call()
    _synchronise(device)
    return time.perf_counter() - began


def _synchronise(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def warm_up(call: Timed, device: str) -> float:
    """Calls until the newer half of the samples is no faster than the older by 5%, at most 40 and at least 4, or 2 that
    take long; gives the median of the newer half."""
    seen: list[float] = [time_call(call, device), time_call(call, device)]
    while len(seen) < 4 and sum(seen) < LONG_WARM_UP_S:
        seen.append(time_call(call, device))
    while len(seen) < 40 and median(seen[len(seen) // 2 :]) < 0.95 * median(seen[: len(seen) // 2]):
        seen.extend(time_call(call, device) for _ in range(2))
    return median(seen[len(seen) // 2 :])


def is_steady(samples: list[float]) -> bool:
    """Whether the two halves of the samples agree to 10% in their medians."""
    half = len(samples) // 2
    if half == 0:
        return False
    return abs(median(samples[half:]) / median(samples[:half]) - 1) <= 0.10


def measure_peak_flops(device: str, dtype: torch.dtype) -> float:
    """Best rate of a large matrix product in `dtype`, FLOPs per second, best of 8."""
    import torch

    n = 4096 if device == "cuda" else 768
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    best = min(time_call(lambda: torch.mm(a, b), device) for _ in range(8))
    return 2 * n**3 / best


def measure_peak_bandwidth(device: str) -> float:
    """Best rate of summing an array too large for any cache, bytes per second, best of 6."""
    import torch

    array = torch.ones((2**30 if device == "cuda" else 2**26) // 4, dtype=torch.float32, device=device)
    best = min(time_call(array.sum, device) for _ in range(6))
    return array.numel() * 4 / best
