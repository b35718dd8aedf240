"""`cited`: what a source says and no run or count here tests, history and definitions. It is passed on as CITED.

It is no verdict: it has no number and no p, is in no family, and no other claim rests on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import ClaimKind, Sweeps

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Cited(ClaimKind):
    """A source says that it holds, or that it does not; nothing here tests it."""

    example = (
        "{says: Mixtures of experts date from 1991., source: {authors: Jacobs et al., year: 1991, "
        "where: Neural Computation 3(1)}, test: {kind: cited, holds: true}}"
    )
    takes = ()
    measures = False
    cites = True
    spreads = False
    without_chance = True

    kind: Literal["cited"]
    """cited: what a source says, without a verdict."""
    holds: bool
    """Whether the claim holds by its source."""

    def says(self, claim: Claim) -> str:
        return "A source says so."

    @property
    def words(self) -> str:
        """`as true`."""
        return f"as {'true' if self.holds else 'false'}"

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        return "nothing: it is cited and not tested", "nothing"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        raise Withheld("cited", f"cited {self.words}, and not tested here")
