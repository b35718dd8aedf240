"""What a suite measures besides counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moebench.frozen import Frozen
from moebench.metrics import MEASUREMENTS

QUALITY = ("bits_per_byte", *(name for name, measurement in MEASUREMENTS.items() if measurement.optional))


class DecodeSpec(Frozen):
    """Decoding through the cache."""

    batch: list[Annotated[int, Field(ge=1, le=4096)]] = Field(default=[1, 8])
    """Batch sizes to time."""


class SpeedSpec(Frozen):
    """The speed session: fresh processes, all models in each, timed in rotating blocks."""

    train_step: bool = True
    """Whether to time forward, backward and optimizer step."""
    prefill: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default=[])
    """Prompt lengths in tokens, batch 1; none longer than the context."""
    decode: DecodeSpec | None = None
    """Cached decoding, one token for each sequence of a batch."""
    processes: Annotated[int, Field(ge=2, le=100)] = 10
    """Fresh processes; at least 6 for any verdict, 10 for a headline."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """About how long the whole session may time, all processes together."""


class Measure(Frozen):
    """What is measured besides counts."""

    quality: list[Literal[QUALITY]] = Field(default=["bits_per_byte"])  # type: ignore[valid-type]
    """Quality on the test split. bits_per_byte is always measured; the others where they are asked for."""
    speed: SpeedSpec | None = None
    """The speed session; none when absent."""
    memory: bool = True
    """Whether claims may rest on peaks of tensor bytes. They are always measured, because suites share runs."""
    routing: bool = True
    """Whether claims may rest on the load of the experts. It is always recorded, because suites share runs."""
