"""A claim of several parts: each asked as if it stood alone, and how many of them are to hold.

What is known of a suite, and so tells which parts there are, is `Known`; what comes of the parts is `compound`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from moebench.claims.hypothesis import Hypothesis

if TYPE_CHECKING:
    from moebench.amounts import Amount
    from moebench.suite.claim import Claim

Sweeps = Mapping[str, Mapping[str, Mapping[str, float | str | bool]]]
"""Swept model -> expanded model -> its swept keys and values."""
CLAIMS = "claims"
"""What parts are that are claims of the suite."""
MOST_PARTS = 100
"""As many parts as a claim may have."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What of a suite tells which parts a claim has."""

    sweeps: Sweeps
    claims: Mapping[str, Claim]
    values: Callable[[str, tuple[str, ...]], tuple[str, ...]]
    """The values of a label, of these models where they matter; empty where they are not known, or not yet."""
    named: tuple[str, ...] = ()
    """Metrics of tasks, with their labels, where it is known what a suite's tasks measure."""
    selected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """`Claim.selects` -> the published systems that it selects; empty where that is not known yet."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several that a claim rests on."""

    name: str
    """The claim's own where it is one of the suite, else its place, such as `domain=code`."""
    claim: Claim
    """What it asks, of models and a metric of its own."""
    hypothesis: Hypothesis | None = None
    """What is asked of the numbers, where the kind of its claim does not say it."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Those of a claim, and how many are to hold."""

    of: tuple[Part, ...]
    need: int
    what: str
    """What they are, such as `domains`."""
    where: str = "in"
    """How a sentence says that something holds there: `in` domains, `at` points."""
    asked: str | None = None
    """What is asked of them together, where it is not the same in each."""

    @property
    def need_against(self) -> int:
        """How many are to fail before the claim is refuted."""
        return len(self.of) - self.need + 1


def needed(share: str | Amount, number: int) -> int:
    """How many of so many parts are `every`, `some`, or at least a share."""
    if isinstance(share, str):
        return number if share == "every" else 1
    return max(1, math.ceil(Fraction(share.value).limit_denominator(10**6) * number))
