"""What a data source gives: texts with a name, a domain and a group, before anything is split or tokenised.

A source knows where text comes from; it knows nothing of splits, windows or caches. `DataError` is how every part of
this package says that the user's data cannot be used, in words that say what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from moebench.data.tasks.known import KnownTask
from moebench.plugins import PluginCode

SEPARATOR = 0
"""The byte before every document; no document holds it."""


class DataError(ValueError):
    """The data asked for cannot be used; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Which bytes of a document answer the rest of it."""

    start: int
    """Index of the first; it ends with the document."""
    seen: bool
    """Whether its source put the same document into training too."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """One document as its source gives it."""

    name: str
    """Unique in its corpus, the same on every machine."""
    domain: str
    group: str
    """Texts of one group always go to the same split."""
    body: bytes
    """UTF-8 with newlines as a single line feed."""
    split: str | None = None
    """The one that it is in, where its source divides; then it does so for all its texts."""
    answer: Answer | None = None
    """Of a document of a task."""


@dataclass(frozen=True)
class Stream:
    """Texts that are read one after the other, anew each time they are asked for."""

    read: Callable[[], Iterator[Text]]

    def __iter__(self) -> Iterator[Text]:
        return self.read()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several sources whose texts stand together; its domains begin with its label and a point."""

    label: str
    weight: float
    """Its share of the training bytes, beside those of the others."""
    most_domains: int | None
    independent: bool


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """All texts of a source, in a fixed order, and notes about them."""

    texts: Iterable[Text]
    """Read once, one after the other: a source of much text gives them as it reads them."""
    notes: Sequence[str] = ()
    """Sentences for the plan and the report, such as which files were skipped; complete once the texts are read."""
    entropy_bits_per_byte: float | None = None
    """Where the source knows it; see the source for its exact meaning."""
    most_domains: int | None = None
    """Of more domains the largest keep their names and the rest become `other`; None: all do."""
    independent: bool = False
    """True when documents are drawn independently by construction, so that none is a copy of another."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """What the texts are from -> its version, where that is part of what they are."""
    parts: Sequence[Part] = ()
    """The sources of a mixture; none where there is but one."""
    tasks: Mapping[str, KnownTask] = field(default_factory=dict)
    """Domain -> the task that it is, where every document has an answer."""
    plugin: PluginCode | None = None
    """The code that gave them, when it is an installed package's."""


def name_hash(name: str) -> bytes:
    """The order in which names are taken where their order must mean nothing."""
    return hashlib.sha256(name.encode()).digest()


def clean(body: bytes) -> bytes:
    """A text without byte order mark, every line ending a line feed."""
    return body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
