"""What else a process of a speed session finds out about serving: one file a contest, and its line in `FILES`."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from moebench.metrics.serving import inputs, memory_budget, offload, parts
from moebench.metrics.serving.contest import Contest
from moebench.metrics.serving.parts import PARTS as PARTS

if TYPE_CHECKING:
    from moebench.jobs.session import SpeedPlan

FILES: tuple[ModuleType, ...] = (inputs, memory_budget, offload, parts)

METRICS = tuple(metric for file in FILES for metric in file.METRICS)


def contests(plan: SpeedPlan) -> list[Contest]:
    """Those that a session asks for."""
    return [contest for file in FILES for contest in file.contests(plan)]
