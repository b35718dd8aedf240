"""Published systems as YAML, counted exactly by `costs`: one file a system, named by its file name.

Each file gives the architecture, what its publisher says it counts, and the source of both.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from ruamel.yaml import YAML

from moebench.plan import Architecture
from moebench.records import Frozen
from moebench.spec.words import known_systems


class System(Frozen):
    """A published system."""

    name: str
    year: int
    published_total: float | None
    """Parameters as its publisher says; None when it does not."""
    published_active: float | None
    source: str
    note: str | None = None
    architecture: Architecture


class _File(Architecture):
    """A system's file: its architecture and what is said of it."""

    year: int
    published_total: float | None = None
    published_active: float | None = None
    source: str
    note: str | None = None


@cache
def system(name: str) -> System:
    """A published system by name. Raises KeyError with the known names."""
    if name not in known_systems():
        raise KeyError(f"no published system {name!r}; known: {', '.join(known_systems())}")
    text = resources.files("moebench").joinpath("zoo", f"{name}.yaml").read_text(encoding="utf-8")
    file = _File.model_validate(YAML(typ="safe", pure=True).load(text))
    sizes = set(Architecture.model_fields)
    architecture = Architecture.model_validate(file.model_dump(include=sizes))
    return System(name=name, architecture=architecture, **file.model_dump(exclude=sizes))
