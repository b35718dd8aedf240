"""Which published design is which words of a suite: the rule of routing and what an expert is, sizes left out.

The words stand in a model's `ffn: {kind: moe, ...}` beside experts, top_k and widths; numbers here are the design's
own. `tests/test_parity.py` computes those that transformers ships with the same weights on both sides, words read from
here, and holds outputs and every gradient equal to 1e-5 in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from moebench.tables import table


@dataclass(frozen=True, kw_only=True)
class Design:
    """A published mixture in the words of a suite."""

    words: str
    """Fields of `ffn`, as in a suite file."""
    source: str
    """Where it was published."""
    equal_to: str | None = None
    """The code that it was computed against; None where none is at hand."""
    apart: str = ""
    """What the published system has that these words do not say."""


@cache
def designs() -> dict[str, Design]:
    """Every design of designs.yaml by name."""
    return {name: Design(**fields) for name, fields in table("suite/designs.yaml").items()}
