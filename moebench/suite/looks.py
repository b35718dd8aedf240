"""Planned looks, `seeds: {looks: [8, 12, 16]}`: after which seeds a suite is judged, and at what level each time.

Whoever looks several times and stops at the first verdict errs at one of them more often than at any one. So the looks
share the level of a verdict: a claim is held at each look to that look's level, and the levels add up to 2.5%. That is
Bonferroni over looks. It holds however the looks hang together, which they do through their common seeds, and so for
every interval that there is here; a boundary that makes use of that (alpha spending) needs their joint law, which sign
flips with documents or step times added do not have.

The last look gets most, in proportion to the cube of its seeds, which is about the shape of O'Brien and Fleming
(Biometrics 35, 1979). Signs of n pairs have no p below 2^-n; a look whose share cannot decide anything, of the family
that Holm counts, gets the least that can.
"""

from __future__ import annotations

from collections.abc import Sequence

from moebench.metrics import metric_of
from moebench.suite.claim import Claim
from moebench.suite.types import SuiteSpec

LEVEL = 0.025
"""One-sided level of a verdict, all looks and all primary claims together."""
STEEPNESS = 3
"""Power of its seeds that a look's share goes with."""


def levels(sizes: Sequence[int], *, family: int) -> tuple[float, ...] | None:
    """The level of each look of ascending sizes, their sum being `LEVEL`; None where some look could decide nothing.

    `family` are the primary claims: of these the first to be decided is held to one part in so many of a level.
    """
    least = [max(1, family) * 2.0**-n for n in sizes]
    given: dict[int, float] = {}
    while True:
        left = LEVEL - sum(given.values())
        open_ = [index for index in range(len(sizes)) if index not in given]
        if left <= 0 and (open_ or left < 0):
            return None
        weight = sum(sizes[index] ** STEEPNESS for index in open_)
        shares = {index: left * sizes[index] ** STEEPNESS / weight for index in open_}
        raised = {index: least[index] for index in open_ if shares[index] < least[index]}
        if not raised:
            return tuple({**given, **shares}[index] for index in range(len(sizes)))
        given |= raised


def family_of(spec: SuiteSpec) -> int:
    """Primary claims of a suite that chance concerns."""
    return sum(claim.family == "primary" and not is_exact(spec, claim) for claim in spec.claims.values())


def is_exact(spec: SuiteSpec, claim: Claim) -> bool:
    """Whether a claim is settled without chance, so that no correction for chance concerns it."""
    return all(metric_of(one.metric).kind == "counted" or one.test.without_chance for one in spec.concerns(claim))


def levels_of(spec: SuiteSpec) -> tuple[float, ...]:
    """The level of each look of a suite; of one without looks, or with looks that cannot be, the level of a verdict."""
    return (levels(spec.looks, family=family_of(spec)) if spec.looks else None) or (LEVEL,) * max(1, len(spec.looks))


def first_look(sizes: Sequence[int], *, family: int) -> int | None:
    """The fewest seeds of a first look before the others at which something could be decided; None without any."""
    able = (n for n in range(1, sizes[1]) if levels([n, *sizes[1:]], family=family) is not None)
    return next(able, None)
