"""Sense: what types cannot see, because it takes two places of a suite to see it."""

from __future__ import annotations

from moebench.spec.errors import Problem
from moebench.spec.parse import Node
from moebench.spec.types import Claim, SuiteSpec


def check(spec: SuiteSpec, tree: Node, *, broken: set[str]) -> list[Problem]:
    """Everything that makes no sense in a suite whose types are right; `broken` names what was left out of it."""
    return []


def sentence(claim: Claim) -> str:
    """What a claim says, for one that does not say it itself."""
    return "x"
