"""A published checkpoint as a model of a suite: where it lies, and how it is loaded. Its sizes are its own."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from moebench.frozen import Frozen, later
from moebench.suite.training import Evaluation
from moebench.text import quoted


def _places(word: str) -> str:
    if not re.fullmatch(r"auto|balanced(_low_0)?|sequential|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?", word):
        raise ValueError(f"{quoted(word)} is no place for weights: write auto, balanced, sequential, cpu or cuda:0")
    return word


class CheckpointModel(Frozen):
    """A transformers checkpoint, or a finished run of moebench's. It is measured as it is, and never trained."""

    tag: ClassVar[str] = "checkpoint"

    checkpoint: Annotated[str, Field(min_length=1, max_length=1000)]
    """A folder, relative to the suite file, or a name in the local hub cache such as allenai/OLMoE-1B-7B-0924."""
    revision: str | None = Field(default=None, max_length=200)
    """Commit, tag or branch of a name on the hub; the one that is cached when absent."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of weights and products; the checkpoint's own when absent."""
    experts: Literal["eager", "grouped_mm", "batched_mm"] = "grouped_mm"
    """How transformers computes its experts; a dense checkpoint has none."""
    native: bool = later(False)
    """Whether our own decoder computes it, as a model that is trained on from there; for families it knows."""
    device_map: Annotated[str, AfterValidator(_places)] | None = None
    """As transformers takes it (auto, cuda:0); the machine's device when absent."""
    online: bool = False
    """Whether what is not in the local cache may be downloaded."""
    evaluate: Evaluation = Evaluation()
    """How much of the suite's text is scored; `points` is not used."""
