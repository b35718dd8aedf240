"""What kinds with one bound on a ratio share: `at_least` or `at_most`, one of the two."""

from __future__ import annotations

from pydantic import PositiveFloat, model_validator

from moebench.amounts import FieldError
from moebench.claims.kinds.kind import ClaimKind


class BoundedKind(ClaimKind):
    """A kind that bounds a ratio from one side; each says what the bound is of."""

    at_least: PositiveFloat | None = None
    """Lower bound."""
    at_most: PositiveFloat | None = None
    """Upper bound."""

    @model_validator(mode="after")
    def _one_bound(self) -> BoundedKind:
        if (self.at_least is None) == (self.at_most is None):
            raise FieldError("at_least", "give one of at_least and at_most, a ratio such as 1.5")
        return self

    @property
    def value(self) -> float:
        """The bound."""
        return float(self.at_least or self.at_most or 1.0)

    @property
    def words(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.at_least is not None else 'most'} {self.value:g}"
