"""What a plan knows of a checkpoint: facts alone, for both wings to read."""

from __future__ import annotations

from typing import Literal

from moebench.frozen import Frozen

Dtype = Literal["float32", "bfloat16", "float16"]


class CheckpointFacts(Frozen):
    """What a plan knows of a checkpoint."""

    asked: str
    """As the suite names it: a folder, or a name of the hub."""
    revision: str | None = None
    """The commit, of a name of the hub."""
    digest: str
    """SHA-256 over its configuration, weights and tokenizer."""
    model_type: str
    files: tuple[str, ...]
    """Names of its files of weights."""
    file_bytes: int
    """Of its weights as they are stored."""
    stored_dtype: Dtype
    """Of most of them."""
    context: int
    """Longest sequence in tokens that it was made for."""
    vocab: int
    """Rows of its table, of which a tokenizer may use fewer."""
    notes: tuple[str, ...] = ()
