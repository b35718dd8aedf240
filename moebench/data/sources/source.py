"""What a data source is: the fields of a suite's `data:` block, and how they become texts."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from moebench.data.documents import Gathered
from moebench.data.sources.tokenizer import TokenizerSpec
from moebench.frozen import Frozen


class DataSource(Frozen):
    """A suite's `data:` block. A source redefines `source` as the literal of its word, and adds what it asks for."""

    says: ClassVar[str]
    """One line for `moebench list sources`."""
    scope: ClassVar[str]
    """What the scope of a verdict calls the text."""

    source: str
    """Word of the source."""
    tokenizer: TokenizerSpec = "bytes"
    """bytes, where one byte is one token; or {bpe: 4096}, {file: tokenizer.json}, {checkpoint: FOLDER}."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""

    @abstractmethod
    def gather(self, base: Path) -> Gathered:
        """All texts. `base` is the folder that relative paths start from. Raises DataError when they cannot be had."""

    @abstractmethod
    def fingerprint(self, base: Path) -> Any:
        """A JSON value that changes when the texts may have changed; reads no contents."""

    def domains(self) -> tuple[str, ...]:
        """The domains, where they are known before anything is read; else none."""
        return ()
