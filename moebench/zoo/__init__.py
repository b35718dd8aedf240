"""Published systems as YAML, counted exactly by `costs`: one file a system, named by its file name.

Each file gives the architecture, what its publisher says it counts, and the source of both.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import Field
from ruamel.yaml import YAML

from moebench.plan import Architecture
from moebench.records import Frozen
from moebench.spec.types import DenseFFN, MoEFFN
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


class _File(Frozen):
    """A system's file."""

    year: int
    published_total: float | None = None
    published_active: float | None = None
    source: str
    note: str | None = None
    vocab: int
    context: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: DenseFFN | MoEFFN = Field(discriminator="kind")
    tied_embeddings: bool
    rope_theta: float
    norm_eps: float


@cache
def system(name: str) -> System:
    """A published system by name. Raises KeyError with the known names."""
    if name not in known_systems():
        raise KeyError(f"no published system {name!r}; known: {', '.join(known_systems())}")
    text = resources.files("moebench").joinpath("zoo", f"{name}.yaml").read_text(encoding="utf-8")
    file = _File.model_validate(YAML(typ="safe", pure=True).load(text))
    about = {"year", "published_total", "published_active", "source", "note"}
    architecture = Architecture.model_validate(file.model_dump(exclude=about))
    return System(name=name, architecture=architecture, **file.model_dump(include=about))
