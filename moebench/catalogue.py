"""What is said of mixtures of experts, claim by claim, and which claims of bundled suites answer it: the catalogue.

It is data, `claims_catalogue.yaml`, in our own words. Nothing here knows a verdict: `reporting.answers` joins the two.
A row that is wrong in any way is refused when the catalogue is loaded.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from moebench.amounts import NAME
from moebench.frozen import Frozen
from moebench.tables import table

FILE = "claims_catalogue.yaml"
Words = Annotated[str, StringConstraints(min_length=3, max_length=400, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
SuiteClaim = Annotated[str, StringConstraints(pattern=rf"{NAME.removesuffix('$')}/{NAME.removeprefix('^')}")]
"""`suite/claim`."""
Holds = Literal["holds", "fails", "depends", "unknown"]


class Literature(Frozen):
    """What has been published on it."""

    answer: Holds
    """`depends`: on a condition that the claim leaves out; `unknown`: no study was found."""
    says: Words
    source: Words
    unchecked: bool = False
    """Whether the source was cited from memory and not opened again."""


class Cited(Frozen):
    """A fact that is cited and not measured."""

    holds: bool
    says: Words
    source: Words


class Row(Frozen):
    """One claim, as the documents make it, and what answers it."""

    id: Name
    number: Annotated[int, Field(ge=1)]
    theme: Name
    says: Words
    documents: tuple[int, ...]
    """Which documents say it; none where it was added to them."""
    literature: Literature
    tested: Words | None = None
    """What the tests below measure, and what of the claim they leave out."""
    tests: tuple[SuiteClaim, ...] = ()
    """Claims of suites whose verdict is the answer: a supported one speaks for the row."""
    contrary: tuple[SuiteClaim, ...] = ()
    """The same of which a supported one speaks against it."""
    beside: tuple[SuiteClaim, ...] = ()
    """Claims that bear on it and do not decide it."""
    cited: Cited | None = None
    not_tested: Words | None = None
    """Why it, or the part that the tests leave out, is not tested."""

    @model_validator(mode="after")
    def _answered_once(self) -> Row:
        deciding = (*self.tests, *self.contrary)
        if not (deciding or self.cited or self.not_tested):
            raise ValueError(f"{self.id}: no test, no citation and no reason: every row needs an answer")
        if bool(deciding) != (self.tested is not None):
            raise ValueError(f"{self.id}: `tested` says what `tests` and `contrary` measure: both or none")
        if self.beside and not (deciding or self.cited):
            raise ValueError(f"{self.id}: `beside` stands beside tests or a citation, and there is none")
        named = (*deciding, *self.beside)
        if len(set(named)) < len(named):
            raise ValueError(f"{self.id}: a claim is named twice")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """Every claim of a suite that it names."""
        return (*self.tests, *self.contrary, *self.beside)


class Catalogue(Frozen):
    """All rows, with the documents they come from and the themes they are sorted into."""

    documents: dict[int, Words]
    """Number -> what kind of text it is."""
    themes: dict[Name, Words]
    """Name -> heading, in the order of the page."""
    claims: tuple[Row, ...]

    @model_validator(mode="after")
    def _whole(self) -> Catalogue:
        if [row.number for row in self.claims] != list(range(1, len(self.claims) + 1)):
            raise ValueError("the rows are not numbered from 1 in order")
        seen: set[str] = set()
        for row in self.claims:
            if row.id in seen:
                raise ValueError(f"{row.id}: two rows of this id")
            seen.add(row.id)
            if row.theme not in self.themes:
                raise ValueError(f"{row.id}: no theme {row.theme}")
            if unknown := set(row.documents) - set(self.documents):
                raise ValueError(f"{row.id}: no document {', '.join(map(str, sorted(unknown)))}")
        if empty := set(self.themes) - {row.theme for row in self.claims}:
            raise ValueError(f"no row of theme {', '.join(sorted(empty))}")
        return self

    def of(self, theme: str) -> tuple[Row, ...]:
        """Its rows, in order."""
        return tuple(row for row in self.claims if row.theme == theme)


@cache
def catalogue() -> Catalogue:
    """The catalogue that ships. Raises pydantic.ValidationError where it is wrong."""
    return Catalogue.model_validate(table(FILE))
