"""A contest of a speed session: something that a process measures of all its models, in turns.

It gives seconds as they were timed, and numbers that follow from them or are counted beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from moebench.metrics.metric import Metric
from moebench.metrics.racer import Racer, Text


def timed(name: str, unit: str, *, asked: str, **facts: Any) -> Metric:
    """A metric of the session that is asked for by a key of `measure.speed`."""
    usual: dict[str, Any] = {"kind": "timed", "asked_by": ("speed", f"speed.{asked}")}
    return Metric(name=f"speed.{name}", unit=unit, **{**usual, **facts})


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of a contest: model -> metric -> seconds, or a number."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    derived: dict[str, dict[str, float]] = field(default_factory=dict)


class Race(Protocol):
    """Measures it of all models for about `seconds`."""

    def __call__(self, racers: Sequence[Racer], text: Text, *, seconds: float, process: int) -> Found: ...


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Something that is measured of all models in turns."""

    race: Race
    shares: int = 1
    """Of a session's time, where a prompt length or a batch has one."""


def device_of(racers: Sequence[Racer]) -> str:
    return racers[0].subject.device.type
