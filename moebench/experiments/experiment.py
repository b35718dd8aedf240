"""An experiment: something published before there were language models, done again, that gives numbers by seed.

Its arms stand in a suite as models do (`{experiment: vowels, arm: experts_4}`), and claims about its metrics are judged
as any other. It reads no text, and nothing about it is configured: another experiment is another file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moebench.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is done for each arm and seed."""

    says: str
    source: str
    """Where it was published."""
    arms: Mapping[str, str]
    """Arm -> what it is."""
    metrics: tuple[Metric, ...]
    run: Callable[[str, int], Mapping[str, float]]
    """(arm, seed) -> metric -> its value; one that could not be reached is left out."""
    version: int = 1
    """Raised when it would give other numbers."""
