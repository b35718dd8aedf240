"""gpt-oss: experts are stored in MXFP4, two numbers a byte and a scale for each 32, and read as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

from moebench.checkpoints.families.family import Family
from moebench.counting.blueprint import Blueprint


class GptOss(Family):
    """Packed experts."""

    quantised = ("mxfp4",)

    def size(self, name: str, shape: Sequence[int]) -> int:
        return super().size(name, shape) * (2 if name.endswith("_blocks") else 1)

    def is_parameter(self, name: str, b: Blueprint) -> bool:
        return not name.endswith("_scales") and super().is_parameter(name, b)
