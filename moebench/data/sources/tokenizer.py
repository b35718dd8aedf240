"""What a suite says of its tokenizer: `bytes`, or one key that says where another comes from.

These are words alone; `data.tokenizer` makes the tokenizer. Bits are counted over bytes of text whatever it is, so a
loss on one text compares across tokenizers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from moebench.frozen import Frozen
from moebench.text import nearest

MOST_TOKENS = 2**20
"""Larger vocabularies are refused."""
FEWEST_TOKENS = 257
"""Every byte, and the token between documents."""
KEYS = ("bpe", "file", "checkpoint")
WAYS = "bytes, {bpe: 4096}, {file: tokenizer.json} or {checkpoint: FOLDER}"


class TrainedBPE(Frozen):
    """A byte-level BPE, trained on the training split alone."""

    bpe: Annotated[int, Field(ge=FEWEST_TOKENS, le=MOST_TOKENS)]
    """Tokens in all: 256 bytes, the token between documents, and merges."""


class TokenizerFile(Frozen):
    """A tokenizer somebody made, in the format of the tokenizers library."""

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    """A tokenizer.json."""


class TokenizerOfCheckpoint(Frozen):
    """The tokenizer of a checkpoint."""

    checkpoint: Annotated[str, Field(min_length=1, max_length=4096)]
    """Folder of the checkpoint, with its tokenizer.json."""


def _way(value: Any) -> str:
    if isinstance(value, dict):
        return next(iter(value), "")
    return value if isinstance(value, str) else next((key for key in KEYS if hasattr(value, key)), "")


def _is_one_way(value: Any) -> Any:
    """One of the ways, so that no mistake is told once for each of them."""
    known = value == "bytes" or isinstance(value, Frozen)
    if not known and not (isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KEYS):
        typed = next(iter(value), "") if isinstance(value, dict) else value
        near = nearest(str(typed), ("bytes", *KEYS))
        raise ValueError(f"a tokenizer is {WAYS}" + (f": {near}" if near else ""))
    return value


TokenizerSpec = Annotated[
    Annotated[Literal["bytes"], Tag("bytes")]
    | Annotated[TrainedBPE, Tag("bpe")]
    | Annotated[TokenizerFile, Tag("file")]
    | Annotated[TokenizerOfCheckpoint, Tag("checkpoint")],
    Discriminator(_way),
    BeforeValidator(_is_one_way),
]
"""The `tokenizer:` of a suite's data, or of a model's."""
