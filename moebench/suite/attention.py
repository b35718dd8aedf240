"""Options of attention by which a suite says what published models do: biases, sinks, windows, stretched positions.

All are absent by default and then in no dump, so the ids of what was run before they were there stay.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from moebench.amounts import FieldError, Size
from moebench.frozen import Frozen, later

Factor = Annotated[float, Field(gt=0, le=1e6)]


class RopeScaling(Frozen):
    """Rotary positions stretched beyond the context that a model was first trained at."""

    kind: Literal["linear", "llama3", "yarn"]
    """linear: all frequencies divided (Chen et al. 2023, arXiv:2306.15595); llama3: the low ones, with a smooth passage
    (Llama 3.1); yarn: by parts, and logits rescaled (Peng et al. 2023, arXiv:2309.00071)."""
    factor: Factor
    """How many times the context is stretched."""
    original_context: Size | None = None
    """Context in tokens before it was stretched: of llama3 and yarn."""
    low_freq_factor: Factor | None = later()
    """llama3: wavelengths beyond original_context / this are stretched in full."""
    high_freq_factor: Factor | None = later()
    """llama3: wavelengths below original_context / this are left alone."""
    beta_fast: Factor | None = later()
    """yarn: rotations within original_context from which a frequency is left alone; absent: 32."""
    beta_slow: Factor | None = later()
    """yarn: rotations up to which it is stretched in full; absent: 1."""
    truncate: bool = later(True)
    """yarn: whether the range between those is rounded outwards to whole frequencies (not in gpt-oss)."""
    attention_factor: Factor | None = later()
    """yarn: what queries and keys are multiplied by; absent: 0.1 ln factor + 1."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> RopeScaling:
        llama, yarn = ("low_freq_factor", "high_freq_factor"), ("beta_fast", "beta_slow", "attention_factor")
        foreign = {"linear": (*llama, *yarn), "llama3": yarn, "yarn": llama}[self.kind]
        for field in foreign:
            if getattr(self, field) is not None:
                raise FieldError(field, f"{field} is not of rope_scaling {self.kind}")
        needed = {"linear": (), "llama3": ("original_context", *llama), "yarn": ("original_context",)}[self.kind]
        for field in needed:
            if getattr(self, field) is None:
                raise FieldError("kind", f"rope_scaling {self.kind} needs {field}")
        return self


class AttentionOptions(Frozen):
    """What attention may have besides heads."""

    attention_bias: Literal["qkv", "all"] | None = later()
    """Biases of the projections: of queries, keys and values (Qwen2), or of the output too (gpt-oss); absent: none."""
    attention_sinks: bool = later(False)
    """Whether each head has a learned logit that takes attention from the tokens (gpt-oss)."""
    window: Size | None = later()
    """Keys a query sees, itself included (Beltagy et al. 2020, arXiv:2004.05150); all before it when absent."""
    full_every: int | None = later(ge=2, le=256)
    """Layer i, counted from 1, has no window when `full_every` divides i; every layer has it when absent."""
    rope_scaling: RopeScaling | None = later()
    """Rotary positions stretched to a longer context."""

    @model_validator(mode="after")
    def _windowed(self) -> Any:
        if self.full_every is not None and self.window is None:
            raise FieldError("full_every", "full_every says which layers have no window: give `window` too")
        return self

    def window_of(self, layer: int) -> int | None:
        """Keys that a query sees in layer `layer`, counted from 0; None for all before it."""
        return None if self.full_every is not None and (layer + 1) % self.full_every == 0 else self.window
