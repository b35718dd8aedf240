"""Whole numbers of a few bits in bytes, as they lie on the disk.

The numbers of a row follow each other bit by bit, the lowest bit first, and a row begins with a byte of its own: eight
numbers of 3 bits take three bytes.
"""

from __future__ import annotations

from moebench.models.lazy import F, Tensor, torch


def row_bytes(numbers: int, bits: int) -> int:
    """Bytes of a row."""
    return -(-numbers * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes from 0 to 2^bits - 1, [..., n], as bytes, [..., row_bytes(n, bits)]."""
    places = torch.arange(bits, dtype=torch.int32)
    flags = (codes.to(torch.int32)[..., None] >> places & 1).flatten(-2)
    flags = F.pad(flags, (0, -flags.shape[-1] % 8))
    eights = flags.reshape(*codes.shape[:-1], -1, 8) << torch.arange(8, dtype=torch.int32)
    packed: Tensor = eights.sum(-1).to(torch.uint8)
    return packed


def unpack(packed: Tensor, bits: int, *, numbers: int) -> Tensor:
    """The codes again, int32 [..., numbers]."""
    flags = (packed.to(torch.int32)[..., None] >> torch.arange(8, dtype=torch.int32) & 1).flatten(-2)
    flags = flags[..., : numbers * bits].reshape(*packed.shape[:-1], numbers, bits)
    codes: Tensor = (flags << torch.arange(bits, dtype=torch.int32)).sum(-1).to(torch.int32)
    return codes
