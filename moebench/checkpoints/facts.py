"""What a plan knows of a checkpoint: facts alone, for both wings to read."""

from __future__ import annotations

from typing import Literal

from moebench.frozen import Frozen, later
from moebench.identity import digest_of

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


class LoadSpec(Frozen):
    """What decides what a checkpoint answers: its files, and how they are loaded. Where they lie decides nothing."""

    digest: str
    """Of its configuration, weights and tokenizer."""
    family: str
    """Its `model_type`; `moebench` for a run of ours."""
    dtype: Dtype
    """Of weights and products."""
    experts: str | None = None
    """How transformers computes them; None for a dense model and for a run of ours."""
    device: str
    device_map: str | None = None
    """As transformers takes it; None for all of it on the device."""
    native: bool = later(default=False)
    """Whether our decoder computes it, and not transformers."""
    libraries: dict[str, str]
    """Major and minor versions of what computes."""

    @property
    def training(self) -> str:
        """Hash of what model it is, whatever computes it."""
        return came_about(self.digest, self.dtype)


def came_about(digest: str, dtype: str) -> str:
    """Hash of a checkpoint's files and the type that they are read into: what a run's training is to it."""
    return digest_of(["checkpoint", digest, dtype])


OURS = "moebench"
"""Family of a finished run of ours."""
