"""Data sources: one file each, with what a suite says of it and how its texts are gathered.

A new source is a `DataSource` in a file of its own and a line in `SOURCES`. The `data:` block of suites and its JSON
schema, `moebench list sources` and the scope of verdicts follow from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from moebench.data.sources.hub import HubData
from moebench.data.sources.mixture import MixtureData
from moebench.data.sources.none import NoData
from moebench.data.sources.plugin import PluginData
from moebench.data.sources.python import PythonData
from moebench.data.sources.source import DataSource
from moebench.data.sources.stdlib import StdlibData
from moebench.data.sources.synthetic import SyntheticData
from moebench.data.sources.tasks import TasksData
from moebench.data.sources.text import TextData

SOURCES: dict[str, type[DataSource]] = {
    "stdlib": StdlibData,
    "python": PythonData,
    "text": TextData,
    "hub": HubData,
    "mixture": MixtureData,
    "synthetic": SyntheticData,
    "tasks": TasksData,
    "plugin": PluginData,
    "none": NoData,
}

if TYPE_CHECKING:
    DataSpec = DataSource
else:
    DataSpec = Annotated[Union[tuple(SOURCES.values())], Field(discriminator="source")]  # noqa: UP007
"""The `data:` block of a suite."""

__all__ = ["SOURCES", "DataSource", "DataSpec"]
