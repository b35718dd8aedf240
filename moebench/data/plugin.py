"""Sources of installed packages: `data: {source: plugin, name: NAME, options: {...}}`.

A package offers one as an entry point of the group `moebench.sources` that loads to a `Source`; its `gather` and
`fingerprint` are called with the whole `PluginData`. What it gives is checked like text from anywhere else.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from moebench.data.documents import DataError, Gathered, Source
from moebench.spec.types import PluginData

GROUP = "moebench.sources"


def plugged_in(name: str) -> Source:
    """The source of that name. Raises DataError with the known names, or when it is no `Source`."""
    offered = {point.name: point for point in entry_points(group=GROUP)}
    if name not in offered:
        known = ", ".join(sorted(offered)) or "none is installed"
        raise DataError(
            f"no installed package offers the data source {name!r} (entry points of {GROUP}); known: {known}"
        )
    source = offered[name].load()
    if not isinstance(source, Source):
        raise DataError(f"the entry point {offered[name].value} of {GROUP} is not a moebench.data.Source")
    return source


def gather(spec: PluginData, base: Path) -> Gathered:
    """What the plugged-in source gives. Raises DataError when a text is not fit for a corpus."""
    gathered = plugged_in(spec.name).gather(spec, base)
    names: set[str] = set()
    for text in gathered.texts:
        if text.name in names:
            raise DataError(f"data source {spec.name!r} gives two documents named {text.name!r}")
        if not text.body or b"\0" in text.body:
            raise DataError(f"data source {spec.name!r} gives document {text.name!r} empty or with a NUL byte")
        names.add(text.name)
    return gathered


def fingerprint(spec: PluginData, base: Path) -> Any:
    """The plugged-in source's own."""
    return plugged_in(spec.name).fingerprint(spec, base)


PLUGIN = Source(
    says="a source of an installed package (entry points of moebench.sources)",
    gather=gather,
    fingerprint=fingerprint,
)
