"""Sources of installed packages: `data: {source: plugin, name: NAME, options: {...}}`.

A package offers one as an entry point of the group `moebench.sources` that loads to a `Source`; its `gather` and
`fingerprint` are called with the whole `PluginData`. What it gives is checked like text from anywhere else. Its code
is part of the fingerprint and of the data's digest: what another version gathers is other data.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from moebench.data.documents import DataError, Gathered, Source
from moebench.plugins import SOURCES as GROUP
from moebench.plugins import PluginCode, PluginError, cause, code_of, load, offered
from moebench.suite.data import PluginData
from moebench.text import plain


def plugged_in(name: str) -> tuple[Source, PluginCode]:
    """The source of that name, and its code. Raises DataError when there is none, or it does not load."""
    try:
        points = offered(GROUP)
        if name not in points:
            known = ", ".join(sorted(points)) or "none is installed"
            raise DataError(
                f"no installed package offers the data source {name!r} (entry points of {GROUP}); known: {known}"
            )
        source = load(points[name])
        if not isinstance(source, Source):
            what = plain(points[name].value)
            raise DataError(f"the entry point {what} of {GROUP} is not a moebench.data.Source")
        return source, code_of(points[name], source.gather)
    except PluginError as error:
        raise DataError(str(error)) from error


def gather(spec: PluginData, base: Path) -> Gathered:
    """What the plugged-in source gives. Raises DataError when it fails or a text is not fit for a corpus."""
    source, code = plugged_in(spec.name)
    try:
        gathered = source.gather(spec, base)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"data source {spec.name!r} fails: {cause(error, source.gather.__module__)}") from error
    names: set[str] = set()
    for text in gathered.texts:
        if text.name in names:
            raise DataError(f"data source {spec.name!r} gives two documents named {text.name!r}")
        if not text.body or b"\0" in text.body:
            raise DataError(f"data source {spec.name!r} gives document {text.name!r} empty or with a NUL byte")
        names.add(text.name)
    return replace(gathered, plugin=code)


def fingerprint(spec: PluginData, base: Path) -> Any:
    """The plugged-in source's own, and its code."""
    source, code = plugged_in(spec.name)
    return [code.model_dump(), source.fingerprint(spec, base)]


PLUGIN = Source(
    says="a source of an installed package (entry points of moebench.sources)",
    gather=gather,
    fingerprint=fingerprint,
)
