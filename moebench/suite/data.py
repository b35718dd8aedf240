"""Where the text comes from, as a suite says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moebench.amounts import Name
from moebench.frozen import Frozen, later


class StdlibData(Frozen):
    """The text of the running Python's own standard library: found on any machine, no download."""

    source: Literal["stdlib"]
    """stdlib: text found wherever Python is."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


Encoding = Literal[
    "utf-8", "utf-16", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "cp437", "iso8859-2", "iso8859-15", "koi8-r",
    "mac-roman", "shift_jis", "euc-jp", "euc-kr", "gb18030", "big5",
]  # fmt: skip


class TextData(Frozen):
    """The user's own text files, gzipped or not. A file is a document; its top folder is its domain."""

    source: Literal["text"]
    """text: files of your own."""
    files: list[str] = Field(min_length=1)
    """Files, folders or globs, relative to the suite file."""
    encoding: Encoding = later("utf-8")
    """How the files are encoded; they are trained on as UTF-8."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


class SyntheticData(Frozen):
    """Text with a known answer: a mixture of Markov sources, each a domain, whose entropy rate is computed exactly."""

    source: Literal["synthetic"]
    """synthetic: text whose entropy is known."""
    sources: Annotated[int, Field(ge=1, le=64)] = 4
    """Markov sources mixed; each document comes from one."""
    symbols: Annotated[int, Field(ge=2, le=64)] = 16
    """Alphabet size of each source, drawn from printable bytes."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """Symbols the next one depends on."""
    documents: Annotated[int, Field(ge=10)] = 2000
    """Documents drawn, over all splits."""
    document_bytes: Annotated[int, Field(ge=16)] = 1024
    """Length of each document in bytes."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


class PluginData(Frozen):
    """Text from a source that an installed package offers: an entry point of the group `moebench.sources`."""

    source: Literal["plugin"]
    """plugin: a source of an installed package."""
    name: Name
    """The entry point's name."""
    options: dict[str, str | bool | int | float] = Field(default={})
    """What the source asks for; its package says what."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


DataSpec = Annotated[StdlibData | TextData | SyntheticData | PluginData, Field(discriminator="source")]
