"""The texts of a source on their way to a corpus: their bytes in a file, and a few numbers of each in memory.

What is small stays in memory; what grows goes into nameless files in the cache folder, which the system takes away when
the process ends, however it ends. Texts are read once, in the order of their source, and checked: no two have one name,
none is empty, none holds the separator.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import SEPARATOR, Answer, DataError, Text, name_hash

KEPT_IN_MEMORY = 1 << 25
"""Bytes of a file that does not go to the disk."""
MOST_IN_PART = 1 << 20
"""Pairs of one part, about: they are sorted in memory."""

_SPREAD = np.uint64(0x9E3779B97F4A7C15)

Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def blocks(stream: NDArray[Any], *, at_once: int = 1 << 20, beyond: int = 0) -> Iterator[NDArray[Any]]:
    """A stream piece by piece, each with some of the next behind it.

    One that is a file is read, not mapped: what is mapped counts as memory.
    """
    if not isinstance(stream, np.memmap) or stream.filename is None:
        yield from (stream[start : start + at_once + beyond] for start in range(0, len(stream), at_once))
        return
    with open(stream.filename, "rb") as file:  # noqa: PTH123  numpy may name it by a string
        for start in range(0, len(stream), at_once):
            file.seek(start * stream.itemsize)
            yield np.frombuffer(file.read((at_once + beyond) * stream.itemsize), dtype=stream.dtype)


class Scratch:
    """A file without a name, in memory while it is small."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(max_size=0, buffering=1 << 20, dir=str(folder))  # noqa: SIM115
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Appends. Raises OSError when the disk refuses."""
        if self.size <= KEPT_IN_MEMORY < self.size + len(data):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file.rollover()
        self._file.write(data)
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def in_turn(self, sizes: Iterable[int]) -> Iterator[bytes]:
        """The whole file from its beginning, cut into pieces of these sizes. Nothing else may be read meanwhile."""
        self._file.seek(0)
        for size in sizes:
            yield self._file.read(size)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What is known of each text: [n] each, in the order of the source."""

    sizes: Indices
    """Bytes."""
    domains: NDArray[np.int32]
    """Index into `domain_names`."""
    domain_names: tuple[str, ...]
    ranks: Hashes
    """The order in which names are taken where their order must mean nothing: the beginning of `name_hash`."""
    groups: Hashes
    """Texts of one number belong together."""
    bodies: Hashes
    """Texts of one number are the same."""
    splits: tuple[str, ...]
    """The splits that the source put them into; none where it does not divide."""
    answers: tuple[Answer, ...]
    """Of each text, where they are of tasks; else none."""

    def __len__(self) -> int:
        return len(self.sizes)

    def of_domains(self, start: str) -> NDArray[np.bool_]:
        """Which texts are of domains that begin so: [n]."""
        return np.array([name.startswith(start) for name in self.domain_names], dtype=bool)[self.domains]

    def with_domains(self, most: int, *, start: str = "") -> Columns:
        """The same with the largest alone of the domains that begin so, so many with `other`, which the rest become."""
        count = len(self.domain_names)
        some = [number for number in range(count) if self.domain_names[number].startswith(start)]
        if len(some) <= most:
            return self
        sizes = np.bincount(self.domains, weights=self.sizes, minlength=count)
        order = sorted(some, key=lambda number: (-sizes[number], self.domain_names[number]))
        gone = {self.domain_names[number] for number in order[most - 1 :]}
        names = [f"{start}other" if name in gone else name for name in self.domain_names]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        renumbered = np.array([numbers[name] for name in names], dtype=np.int32)
        return replace(self, domains=renumbered[self.domains], domain_names=tuple(numbers))


class Spool:
    """All texts of a source; a context manager that throws them away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bodies, self._names = Scratch(folder), Scratch(folder)
        self._sizes, self._name_ends = array("q"), array("q")
        self._ranks, self._groups, self._contents = (array("Q") for _ in range(3))
        self._domains, self._domain_ids = array("i"), dict[str, int]()
        self._splits, self._answers = list[str](), list[Answer]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.close()
        self._names.close()

    def read(self, texts: Iterable[Text]) -> Columns:
        """Takes in all texts. Raises DataError for one that no corpus can hold."""
        for text in texts:
            if not text.body or SEPARATOR in text.body:
                raise DataError(f"the source gives document {text.name!r} empty or with a NUL byte")
            try:
                self._names.write(text.name.encode())
            except UnicodeEncodeError:
                raise DataError(f"the name of document {text.name!r} cannot be written as UTF-8") from None
            self._bodies.write(text.body)
            self._sizes.append(len(text.body))
            self._name_ends.append(self._names.size)
            rank = _number(name_hash(text.name))
            self._ranks.append(rank)
            self._groups.append(rank if text.group == text.name else _number(name_hash(text.group)))
            self._contents.append(_number(hashlib.blake2b(text.body, digest_size=8).digest()))
            self._domains.append(self._domain_ids.setdefault(text.domain, len(self._domain_ids)))
            self._splits += [] if text.split is None else [text.split]
            self._answers += [] if text.answer is None else [text.answer]
        ranks = np.frombuffer(self._ranks, dtype=np.uint64)
        self._refuse_twins(ranks)
        if {len(self._splits), len(self._answers)} - {0, len(ranks)}:
            raise DataError("the source gives some of its documents a split or an answer, and others none")
        return Columns(
            sizes=np.frombuffer(self._sizes, dtype=np.int64),
            domains=np.frombuffer(self._domains, dtype=np.int32),
            domain_names=tuple(self._domain_ids),
            ranks=ranks,
            groups=np.frombuffer(self._groups, dtype=np.uint64),
            bodies=np.frombuffer(self._contents, dtype=np.uint64),
            splits=tuple(self._splits),
            answers=tuple(self._answers),
        )

    def _refuse_twins(self, ranks: Hashes) -> None:
        in_order = np.sort(ranks)
        for rank in in_order[1:][in_order[1:] == in_order[:-1]]:
            first, second = (self.name(int(index)) for index in np.flatnonzero(ranks == rank)[:2])
            if first == second:
                raise DataError(f"the source gives two documents named {first!r}")

    def name(self, index: int) -> str:
        start = self._name_ends[index - 1] if index else 0
        return self._names.read(start, self._name_ends[index] - start).decode()

    def names(self) -> Iterator[str]:
        """The texts' names, in order."""
        lengths = np.diff(np.frombuffer(self._name_ends, dtype=np.int64), prepend=0)
        return (name.decode() for name in self._names.in_turn(lengths.tolist()))

    def bodies(self) -> Iterator[bytes]:
        """The texts' bytes, in order."""
        return self._bodies.in_turn(self._sizes)


def _number(digest: bytes) -> int:
    """Its first eight bytes."""
    return int.from_bytes(digest[:8], "big")


class Parts:
    """(key, value) pairs, those of one key together in one part; parts go to the disk once there are several.

    Within a part pairs keep the order in which they were added.
    """

    def __init__(self, folder: Path, *, expected: int) -> None:
        self._bits = max(0, (expected // MOST_IN_PART).bit_length())
        self._file = Scratch(folder)
        self._waiting: list[tuple[Hashes, NDArray[np.uint32]]] = []
        self._count = 0
        self._written: list[list[tuple[int, int]]] = [[] for _ in range(1 << self._bits)]
        """Part -> places in the file and numbers of pairs there."""

    def add(self, keys: Hashes, values: NDArray[Any]) -> None:
        self._waiting.append((keys, values.astype(np.uint32)))
        self._count += len(keys)
        if self._bits and self._count >= MOST_IN_PART:
            self._flush()

    def _flush(self) -> None:
        keys, values = self._together()
        part = (keys * _SPREAD >> np.uint64(64 - self._bits)).astype(np.uint16)
        order = np.argsort(part, kind="stable")
        keys, values = keys[order], values[order]
        ends = np.cumsum(np.bincount(part, minlength=len(self._written))).tolist()
        start = 0
        for number, end in enumerate(ends):
            if end > start:
                self._written[number].append((self._file.size, end - start))
                self._file.write(keys[start:end].tobytes())
                self._file.write(values[start:end].tobytes())
            start = end

    def _together(self) -> tuple[Hashes, NDArray[np.uint32]]:
        waiting, self._waiting, self._count = self._waiting, [], 0
        keys = np.concatenate([np.empty(0, dtype=np.uint64), *(keys for keys, _ in waiting)])
        return keys, np.concatenate([np.empty(0, dtype=np.uint32), *(values for _, values in waiting)])

    def __iter__(self) -> Iterator[tuple[Hashes, NDArray[np.uint32]]]:
        """Each part's keys and values."""
        if not self._bits:
            self._waiting = [self._together()]
            yield self._waiting[0]
            return
        self._flush()
        for places in self._written:
            raw = [(self._file.read(at, 12 * count), count) for at, count in places]
            keys = [np.frombuffer(data, dtype=np.uint64, count=count) for data, count in raw]
            values = [np.frombuffer(data, dtype=np.uint32, offset=8 * count) for data, count in raw]
            if keys:
                yield np.concatenate(keys), np.concatenate(values)

    def close(self) -> None:
        self._file.close()
