"""A part of a report: a figure or a table that says beside its function where it stands.

`@part("cost", order=1)` over a function of the `Findings`, and one line in the dict at the foot of `figures` or
`tables`, is all that a new one takes. The page composes what is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from moebench.reporting.analysis import Findings

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Part(Generic[T]):
    """A figure or a table, as declared."""

    make: Callable[[Findings], T]
    section: str | None
    """Anchor of the section it stands in, or `verdicts`; None for a table that is a file alone."""
    order: int
    """Its place in the section, ascending, among figures or among tables."""
    asked: Callable[[Findings], bool]
    """Whether a suite has what it is about; else the page does not mention it."""
    leading: bool
    """Of a figure: whether it carries the verdicts, and so is a file even where the page alone may hold the others."""

    def __call__(self, findings: Findings) -> T:
        return self.make(findings)


def part(
    section: str | None,
    *,
    order: int = 0,
    asked: Callable[[Findings], bool] = lambda _: True,
    leading: bool = False,
) -> Callable[[Callable[[Findings], T]], Part[T]]:
    """Declares a function that makes a figure (or says why there is none), or a table (or None for an empty one)."""
    return lambda make: Part(make=make, section=section, order=order, asked=asked, leading=leading)


def placed(parts: Mapping[str, Part[Any]], section: str, findings: Findings) -> tuple[str, ...]:
    """Names of the parts of a section that a suite asks for, in order."""
    here = [name for name, one in parts.items() if one.section == section and one.asked(findings)]
    return tuple(sorted(here, key=lambda name: parts[name].order))
