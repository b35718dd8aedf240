"""Sources of installed packages: `data: {source: plugin, name: NAME, options: {...}}`.

A package offers one as an entry point of the group `moebench.sources` that loads to a `Source`; its `gather` and
`fingerprint` are called with the whole `PluginData`. What it gives is checked like text from anywhere else. Its code
is part of the fingerprint and of the data's digest: what another version gathers is other data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moebench.amounts import Name
from moebench.data.documents import DataError, Gathered, Stream, Text
from moebench.data.sources.source import DataSource
from moebench.plugins import SOURCES as GROUP
from moebench.plugins import PluginCode, PluginError, cause, code_of, load, offered
from moebench.text import plain


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an entry point loads to: the texts of a source, and a quick mark of their state.

    `gather(spec, base)` reads everything; `fingerprint(spec, base)` reads no contents and gives a JSON value that
    changes when the texts may have changed. `base` is the folder that relative paths start from.
    """

    says: str
    """What the texts are, in one line."""
    gather: Callable[[Any, Path], Gathered]
    fingerprint: Callable[[Any, Path], Any]


class PluginData(DataSource):
    """Text from a source that an installed package offers: an entry point of the group `moebench.sources`."""

    says = "a source of an installed package (entry points of moebench.sources)"
    scope = "plugin"

    source: Literal["plugin"]
    """plugin: a source of an installed package."""
    name: Name
    """The entry point's name."""
    options: dict[str, str | bool | int | float] = Field(default={})
    """What the source asks for; its package says what."""

    def gather(self, base: Path) -> Gathered:
        """What the plugged-in source gives. Raises DataError when it fails, then or while its texts are read."""
        source, code = plugged_in(self.name)
        with self._blamed(source):
            gathered = source.gather(self, base)

        def read() -> Iterator[Text]:
            with self._blamed(source):
                yield from gathered.texts

        return replace(gathered, plugin=code, texts=Stream(read))

    @contextmanager
    def _blamed(self, source: Source) -> Iterator[None]:
        """Turns what a source raises into a DataError that says which and where."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"data source {self.name!r} fails: {cause(error, source.gather.__module__)}") from error

    def fingerprint(self, base: Path) -> Any:
        """The plugged-in source's own, and its code."""
        source, code = plugged_in(self.name)
        return [code.model_dump(), source.fingerprint(self, base)]


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
