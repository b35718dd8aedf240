"""`systems:`: a claim asked of several published systems, and how many of them are to bear it out.

Counts are exact, so nothing here is left to chance: each system holds or fails. Which systems there are is a choice of
this package, so the plan names those it counted. A median takes every family and year once, each by the median of its
systems: of several sizes that one maker publishes in a year all would count as separate evidence otherwise.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from moebench.claims.hypothesis import Contrast, Hypothesis, Term, Withheld
from moebench.claims.kinds.part import Known, Part, Parts, needed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

MEDIAN = "median"
SYSTEMS = "systems"
"""What parts are that are published systems."""


def over_systems(claim: Claim, known: Known) -> Parts | None:
    """The claim for each system that it selects; None where their median is asked. Raises Withheld for none."""
    share = claim.test.in_
    if share is None or share == MEDIAN:
        return None
    parts = tuple(Part(name=name, claim=of_one(claim, name)) for name in selected(claim, known))
    return Parts(of=parts, need=needed(share, len(parts)), what=SYSTEMS, where="for")


def selected(claim: Claim, known: Known) -> tuple[str, ...]:
    """The systems that a claim selects. Raises Withheld where it is not known, or there are none."""
    names = known.selected.get(claim.selects, ()) if claim.systems is not None else ()
    if not names:
        raise Withheld("invalid", f"no published system is selected by {claim.subject}")
    return names


def of_one(claim: Claim, name: str) -> Claim:
    """The same asked of one system."""
    test = claim.test.model_copy(update={"in_": None})
    return claim.model_copy(update={"model": name, "systems": None, "test": test})


def of_median(claim: Claim, known: Known) -> Hypothesis:
    """What is asked of the median of the systems that a claim selects. Raises Withheld where there are none."""
    names = selected(claim, known)
    one = claim.test.hypothesis(of_one(claim, names[0]), known.sweeps)
    (term,) = one.contrast.terms
    terms = tuple(Term(model=name, metric=term.metric, weight=term.weight) for name in names)
    contrast = Contrast(terms=terms, log=one.contrast.log, sided=False, formed="median")
    return replace(one, contrast=contrast, asked=f"median {one.asked}")


def median_of(values: Mapping[str, Fraction], families: Mapping[str, str]) -> Fraction:
    """The median over families of the median of each; `families` says to which a system belongs."""
    by_family: dict[str, list[Fraction]] = {}
    for name, value in values.items():
        by_family.setdefault(families[name], []).append(value)
    return _median(_median(members) for members in by_family.values())


def _median(values: Iterable[Fraction]) -> Fraction:
    return statistics.median(values)
