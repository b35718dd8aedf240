"""What a speed session times of serving beside prefill and decode: inputs, a memory budget, offloading, parts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveFloat

from moebench.frozen import Frozen


def listed(value: Any) -> Any:
    """One value as the list of it."""
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _whole(value: Any) -> Any:
    """`8.0e6` as the whole number that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Bytes = Annotated[int, BeforeValidator(_whole, json_schema_input_type=int | float), Field(ge=1, le=2**50)]
Residents = Annotated[int, Field(ge=1, le=4096)]


class InputsSpec(Frozen):
    """Different inputs of equal length, one sequence at a time: how much their times differ."""

    count: Annotated[int, Field(ge=8, le=1024)] = 32
    """Inputs."""
    tokens: Annotated[int, Field(ge=1, le=8192)]
    """Of each; one more is decoded after them."""


class MemorySpec(Frozen):
    """The largest batch whose weights and cache fit a number of bytes, by formula, and a decoding step of it."""

    bytes: Annotated[list[Bytes], BeforeValidator(listed, json_schema_input_type=Bytes | list[Bytes])] = Field(
        min_length=1
    )
    """For weights and cache; one number or several."""
    tokens: Annotated[int, Field(ge=2, le=8192)]
    """Of each sequence, for which its cache has room; the second half of them is decoded."""


class OffloadSpec(Frozen):
    """Experts behind a memory map, the last used ones of each layer in memory."""

    resident: Annotated[
        list[Residents], BeforeValidator(listed, json_schema_input_type=Residents | list[Residents])
    ] = Field(min_length=1)
    """Experts of each layer that memory holds; one number or several."""
    copy_bytes_per_s: PositiveFloat | None = None
    """How fast an expert is copied into memory. Without it no time is measured: a file that was just written is in
    the page cache, and a copy from there says nothing about one from a disk or a host."""
