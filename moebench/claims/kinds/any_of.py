"""`any_of`: at least one of several claims of the suite holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from moebench.claims.kinds.all_of import Combining
from moebench.text import listed

if TYPE_CHECKING:
    from moebench.suite.claim import Claim


class AnyOf(Combining):
    """At least one of these claims holds."""

    example = "{test: {kind: any_of, claims: [superior, equivalent]}}"
    all_hold = False

    kind: Literal["any_of"]
    """any_of: other claims of the suite, at least one."""

    def says(self, claim: Claim) -> str:
        return f"At least one of these holds: {listed(self.claims)}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        return f"{listed(self.claims)} holds", "every one of them fails"
