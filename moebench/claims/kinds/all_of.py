"""`all_of`: every one of several claims of the suite holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from moebench.amounts import Name
from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import ClaimKind
from moebench.claims.kinds.part import CLAIMS, MOST_PARTS, Known, Part, Parts, Sweeps
from moebench.text import listed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class Combining(ClaimKind):
    """A kind that puts other claims of the suite together."""

    takes = ()
    measures = False
    spreads = False
    all_hold: ClassVar[bool]
    """Whether all of them are to hold, and not any."""

    claims: Annotated[list[Name], Field(min_length=2, max_length=MOST_PARTS)]
    """Claims of the suite, by name."""

    @property
    def combines(self) -> tuple[str, ...]:
        return tuple(self.claims)

    def parts(self, claim: Claim, known: Known) -> Parts | None:
        absent = [name for name in self.claims if name not in known.claims]
        if absent:
            raise Withheld("invalid", f"the suite makes no claim {absent[0]}")
        parts = tuple(Part(name=name, claim=known.claims[name]) for name in self.claims)
        return Parts(of=parts, need=len(parts) if self.all_hold else 1, what=CLAIMS)

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        raise Withheld("invalid", f"`{self.kind}` has no numbers of its own")


class AllOf(Combining):
    """Every one of these claims holds."""

    example = "{test: {kind: all_of, claims: [superior, non_inferior]}}"
    all_hold = True

    kind: Literal["all_of"]
    """all_of: other claims of the suite, all together."""

    def says(self, claim: Claim) -> str:
        return f"All of these hold: {listed(self.claims, last='and')}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        return f"{listed(self.claims, last='and')} all hold", "any of them fails"
