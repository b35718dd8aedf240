"""Which published systems a claim is about: `systems: {kind: moe, since: 2024}`.

What there is to select from is `moebench.systems`, a choice of this package: whoever selects gets the names counted.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from moebench.amounts import FieldError
from moebench.format import exact_number
from moebench.frozen import Frozen, later
from moebench.text import listed

Year = Annotated[int, Field(ge=1900, le=2100)]
Glob = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._*?-]+$")]


def _several(value: object) -> object:
    """One name as the list of it."""
    return [value] if isinstance(value, str) else value


Globs = Annotated[list[Glob], BeforeValidator(_several, json_schema_input_type=Glob | list[Glob])]


class Selection(Frozen):
    """Published systems: all that fit every field that is given."""

    kind: Literal["moe", "dense"] | None = None
    """Mixtures alone, or dense systems alone."""
    since: Year | None = None
    """First year of publication."""
    until: Year | None = None
    """Last year of publication."""
    named: Globs = later([])
    """Names, with * for any letters: `switch-*`. Any of them fits."""
    at_least: dict[str, float] = later({})
    """Counted metric -> the least that it may be."""
    flagships: bool = later(False)
    """Of each family and year the largest alone, so that a maker of many sizes counts once a year."""

    @model_validator(mode="after")
    def _selects(self) -> Selection:
        if self == Selection.model_construct():
            raise FieldError("kind", "this selects every system: say which, such as {kind: moe} or {since: 2024}")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise FieldError("until", f"until {self.until} is before since {self.since}")
        return self

    @property
    def words(self) -> str:
        """`published mixtures since 2024, named gpt-*`: unlike for unlike selections."""
        what = {"moe": "published mixtures", "dense": "published dense systems", None: "published systems"}[self.kind]
        parts = [f"since {self.since}"] if self.since is not None else []
        parts += [f"until {self.until}"] if self.until is not None else []
        words = " ".join([what, *parts])
        more = [f"named {listed(self.named, last='or')}"] if self.named else []
        more += [f"with {name} at least {exact_number(least)}" for name, least in self.at_least.items()]
        more += ["the largest of each family and year"] if self.flagships else []
        return ", ".join([words, *more])
