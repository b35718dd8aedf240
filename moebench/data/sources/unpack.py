"""The bytes of a file piece by piece, gzip and zstd unpacked; what unpacks to absurdly much is refused.

A few bytes can stand for gigabytes, so unpacking is bounded three ways: what is unpacked at once, how many times its
size a large file may have, and what all files may have together. Nothing is held: text of any size passes through.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from moebench.data.documents import DataError

BLOCK_BYTES = 1 << 20
MOST_UNPACKED_FILE_BYTES = 1 << 28
"""What a file may unpack to whatever its size."""
MOST_TIMES = 100
"""What a larger one may unpack to, in times of its size: text is packed to a third or a tenth."""
MOST_UNPACKED_BYTES = 1 << 36
"""What all packed files may unpack to together."""
_FED_BYTES = 1 << 10
"""Bytes given to zstd at once: they stand for 32 MB at most."""

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class NotTextError(ValueError):
    """Why a file cannot be read as text, and what to do."""

    def __init__(self, problem: str, advice: str = "convert it to UTF-8 text or take it out of `files`") -> None:
        super().__init__(problem)
        self.advice = advice


class Budget:
    """What may still be unpacked."""

    def __init__(self, left: int | None = None) -> None:
        self.left = MOST_UNPACKED_BYTES if left is None else left

    def spend(self, size: int) -> None:
        """Raises NotTextError when nothing is left."""
        self.left -= size
        if self.left < 0:
            raise NotTextError("unpacks to more than is read of all packed files together", "unpack it or leave it out")


def blocks(path: Path, budget: Budget) -> Iterator[bytes]:
    """What a file holds, unpacked, in pieces. Raises NotTextError when it cannot be read or unpacked."""
    try:
        with path.open("rb") as file:
            first = file.read(4)
            file.seek(0)
            if first.startswith(GZIP):
                yield from _bounded(_gunzipped(file), path, budget, tool="gzip")
            elif first == ZSTD:
                yield from _bounded(_unzstd(file), path, budget, tool="zstd")
            else:
                while data := file.read(BLOCK_BYTES):
                    yield data
    except OSError as error:
        advice = "allow it to be read or take it out of `files`"
        raise NotTextError(f"cannot be read ({error.strerror})", advice) from None


def _bounded(pieces: Iterator[bytes], path: Path, budget: Budget, *, tool: str) -> Iterator[bytes]:
    most = max(MOST_UNPACKED_FILE_BYTES, MOST_TIMES * path.stat().st_size)
    size = 0
    try:
        for data in pieces:
            size += len(data)
            if size > most:
                advice = "unpack it and cut it into files"
                raise NotTextError(f"unpacks to more than {most:,} bytes, the most that is read of such a file", advice)
            budget.spend(len(data))
            yield data
    except (OSError, EOFError, zlib.error) as error:
        raise NotTextError(
            f"cannot be unpacked ({error})", f"make it again with {tool}, or take it out of `files`"
        ) from None


def _gunzipped(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.open(file) as unpacked:
        while data := unpacked.read(BLOCK_BYTES):
            yield data


def _unzstd(file: IO[bytes]) -> Iterator[bytes]:
    """Raises DataError where the library is missing, EOFError for a file that was cut off."""
    try:
        import zstandard
    except ImportError:
        raise DataError(f"{file.name} is packed with zstd: pip install 'moebench[data]', or unpack it") from None
    unpacking: Any = None
    unpacked = bytearray()
    try:
        while data := file.read(_FED_BYTES):
            while data:
                unpacking = unpacking or zstandard.ZstdDecompressor().decompressobj()
                unpacked += unpacking.decompress(data)
                data = unpacking.unused_data if unpacking.eof else b""
                unpacking = None if unpacking.eof else unpacking
            if len(unpacked) >= BLOCK_BYTES:
                yield bytes(unpacked)
                unpacked.clear()
    except zstandard.ZstdError as error:
        raise zlib.error(str(error)) from None
    if unpacking is not None:
        raise EOFError("it ends in the middle")
    yield bytes(unpacked)
