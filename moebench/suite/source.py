"""Where a finding was published that a claim holds up at this scale."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moebench.frozen import Frozen, later


class Source(Frozen):
    """A publication, as it is cited."""

    authors: Annotated[str, Field(min_length=1, max_length=100)]
    """Such as Clark et al."""
    year: Annotated[int, Field(ge=1900, le=2100)]
    """Of the version cited."""
    where: Annotated[str, Field(min_length=1, max_length=100)]
    """Where it is found: arXiv:2202.01169, or a venue."""
    at: Annotated[str, Field(min_length=1, max_length=100)] | None = later()
    """Where in it: a section, a figure or a table."""
    quote: Annotated[str, Field(min_length=1, max_length=400)] | None = later()
    """Its own words."""

    @property
    def cited(self) -> str:
        """`Clark et al. 2022, arXiv:2202.01169, section 5`."""
        return ", ".join(filter(None, (f"{self.authors} {self.year}", self.where, self.at)))
