"""The user's own text: files, folders and globs, packed or not.

A plain file is a document and its first folder under the common root is its domain (`all` where there are no folders);
of JSON Lines and Parquet tables a row is a document. Of fewer than 80 plain files a tenth is too few to test on: they
are cut at blank lines into documents of about 4 KB, so that every split has several documents of a single book or of a
dozen. Files are only read, each plain one twice: to see that it is text and how much, and to give it. A file is taken
as unchanged when its path, size and times of change are.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moebench.data.documents import DataError, Gathered, Stream, Text
from moebench.data.sources.decode import text_blocks
from moebench.data.sources.records import MOST_DOMAINS, Kind, Reader, RecordSource, kind_of, label, rows_of, up_to
from moebench.data.sources.unpack import Budget, NotTextError
from moebench.frozen import later

FEW_FILES = 80
"""Fewer files than this are cut into chunks: whole, a tenth of them gives under eight documents to a held-out split,
too few to say how quality varies over documents."""
CHUNK_BYTES = 4096
_CHUNKS_WANTED = 30
_SMALLEST_CHUNK = 256
_LONGEST_CHARACTER = 4

Encoding = Literal[
    "utf-8", "utf-16", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "cp437", "iso8859-2", "iso8859-15", "koi8-r",
    "mac-roman", "shift_jis", "euc-jp", "euc-kr", "gb18030", "big5",
]  # fmt: skip


class TextData(RecordSource):
    """The user's own files, packed or not: plain text, or JSON Lines and Parquet tables, a row a document."""

    says = "your own files, folders or globs: plain text, .jsonl or .parquet, packed with gzip or zstd or not"
    scope = "the user's own text"

    source: Literal["text"]
    """text: files of your own."""
    files: list[str] = Field(min_length=1)
    """Files, folders or globs, relative to the suite file."""
    encoding: Encoding = later("utf-8")
    """How plain text files are encoded; they are trained on as UTF-8. Rows are always UTF-8."""

    def gather(self, base: Path) -> Gathered:
        """The user's texts. Raises DataError when there is nothing to read or a named file is not text."""
        found = _look(self, base)
        notes: list[str] = []

        def read() -> Iterator[Text]:
            reader, beyond, plain = Reader(self), list[str](), Counter[Path]()
            yield from up_to(found.texts(self, reader, plain), self.limit, beyond)
            notes[:] = [*found.notes(plain), *reader.notes, *beyond]

        return Gathered(texts=Stream(read), notes=notes, most_domains=MOST_DOMAINS)

    def fingerprint(self, base: Path) -> Any:
        """Path, size, and times of modification and change of every file, and below how many they are cut."""
        stats = [(os.fsencode(path).hex(), path.stat()) for path in files(self, base)]
        return [FEW_FILES, [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]]


def files(spec: TextData, base: Path) -> dict[Path, bool]:
    """Absolute paths of the files asked for, sorted; true for those named one by one rather than found.

    Folders are searched through, except hidden ones. Raises DataError for a pattern that matches no file.
    """
    named: dict[Path, bool] = {}
    for pattern in spec.files:
        pattern = os.path.expanduser(pattern)  # noqa: PTH111 - leaves `~nobody` alone, where Path would raise
        path = base / pattern
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = list(_under(path))
        else:
            globbed = glob.glob(pattern, root_dir=base, recursive=True)  # noqa: PTH207 - takes absolute patterns too
            matches = [base / one for one in globbed if (base / one).is_file()]
        if not matches:
            raise DataError(
                f"no file matches {pattern!r} under {base.absolute()}: paths start from the suite file's folder; "
                "name files, folders (searched through) or globs such as 'corpus/**/*.txt'"
            )
        for match in matches:
            match = Path(os.path.abspath(match))  # noqa: PTH100 - resolve() would follow the user's links
            named[match] = named.get(match, False) or matches == [path]
    return dict(sorted(named.items()))


def _under(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from (path for name in names if not name.startswith(".") and (path := Path(parent, name)).is_file())


def chunks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cuts UTF-8 text after `size` bytes or a little more: at a blank line, else a line end, else between characters.

    The text comes in pieces of any length. The chunks joined are the text, and none is longer than twice the size plus
    a character.
    """
    held, start = b"", 0
    for piece in pieces:
        held, start = held[start:] + piece, 0
        while len(held) - start > 2 * size + _LONGEST_CHARACTER:
            cut = _cut(held, start, size)
            yield held[start:cut]
            start = cut
    while len(held) - start > 2 * size:
        cut = _cut(held, start, size)
        yield held[start:cut]
        start = cut
    yield held[start:]


def _cut(held: bytes, start: int, size: int) -> int:
    """Where a chunk that begins at `start` ends."""
    for mark in (b"\n\n", b"\n"):
        at = held.find(mark, start + size, start + 2 * size)
        if at >= 0:
            return at + len(mark)
    cut = start + 2 * size
    while cut < len(held) and held[cut] & 0xC0 == 0x80:  # inside a UTF-8 character
        cut += 1
    return cut


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The files of a spec as they were found."""

    plain: Mapping[Path, int]
    """Those that are text, with its bytes."""
    rows: Mapping[Path, Kind]
    """Those that hold rows."""
    passed_over: Sequence[tuple[Path, NotTextError]]

    @property
    def chunk(self) -> int | None:
        """Bytes of the documents that plain files are cut into; None where a file is a document."""
        if len(self.plain) >= FEW_FILES:
            return None
        return max(_SMALLEST_CHUNK, min(CHUNK_BYTES, sum(self.plain.values()) // _CHUNKS_WANTED))

    def texts(self, spec: TextData, reader: Reader, documents: Counter[Path]) -> Iterator[Text]:
        """The documents of all files, in order; counts those of plain ones."""
        paths = sorted([*self.plain, *self.rows])
        root = Path(os.path.commonpath([path.parent for path in paths]))
        domains, budget = _domains(paths, root), Budget()
        for path in paths:
            name = path.relative_to(root).as_posix().encode("utf-8", "replace").decode()
            if path in self.rows:
                rows = rows_of(path, self.rows[path], spec=spec, budget=budget)
                yield from reader.texts(rows, place=str(path), name=name, domain=domains[path])
                continue
            for text in _of_plain(path, name, domains[path], size=self.chunk, encoding=spec.encoding):
                documents[path] += 1
                yield text

    def notes(self, documents: Counter[Path]) -> Iterator[str]:
        """What was cut, and what was passed over."""
        if documents.total() > len(documents):
            yield (
                f"{_files(len(documents))} cut into {documents.total()} documents at blank lines, about {self.chunk} "
                "bytes each: the test split holds unseen passages, not unseen files"
            )
        if self.passed_over:
            yield f"{_files(len(self.passed_over))} passed over: {_reasons(self.passed_over)}"


def _of_plain(path: Path, name: str, domain: str, *, size: int | None, encoding: str) -> Iterator[Text]:
    """The documents of one file; it has been read before and is text."""
    blocks = text_blocks(path, encoding=encoding, budget=Budget())
    try:
        if size is None:
            yield Text(name=name, domain=domain, group=name, body=b"".join(blocks))
            return
        pieces = chunks(blocks, size)
        first = next(pieces)
        second = next(pieces, None)
        if second is None:
            yield Text(name=name, domain=domain, group=name, body=first)
            return
        for number, body in enumerate(chain((first, second), pieces)):
            own = f"{name}#{number}"
            yield Text(name=own, domain=domain, group=own, body=body)
    except NotTextError as error:
        raise DataError(f"{path} changed while it was read ({error}): run the command again") from None


def _domains(paths: Sequence[Path], root: Path) -> dict[Path, str]:
    """First folder under the root."""
    folders = {path: path.relative_to(root).parts[:-1] for path in paths}
    if not any(folders.values()):
        return dict.fromkeys(paths, "all")
    return {path: label(parts[0]) if parts else "top" for path, parts in folders.items()}


def _look(spec: TextData, base: Path) -> _Found:
    """Which files are text or rows, and how much text. Raises DataError for a named one that is neither."""
    plain: dict[Path, int] = {}
    rows: dict[Path, Kind] = {}
    passed_over: list[tuple[Path, NotTextError]] = []
    budget = Budget()
    for path, named in files(spec, base).items():
        if (kind := kind_of(path)) is not None:
            rows[path] = kind
            continue
        size, blank = 0, True
        try:
            for piece in text_blocks(path, encoding=spec.encoding, budget=budget):
                size += len(piece)
                blank = blank and not piece.strip()
        except NotTextError as error:
            if named:
                raise DataError(f"{path} {error}: {error.advice}") from None
            passed_over.append((path, error))
            continue
        if not blank:
            plain[path] = size
    if not plain and not rows:
        why = f": {_reasons(passed_over)}" if passed_over else "; give UTF-8 text files that are not empty"
        raise DataError(f"the files of {spec.files} hold no text{why}")
    return _Found(plain=plain, rows=rows, passed_over=passed_over)


def _reasons(passed_over: Sequence[tuple[Path, NotTextError]]) -> str:
    """Of some files each with its reason, then what would do."""
    shown = "; ".join(f"{path.name} {error}" for path, error in passed_over[:5])
    more = f" and {len(passed_over) - 5} more" if len(passed_over) > 5 else ""
    return f"{shown}{more} ({'; '.join(dict.fromkeys(error.advice for _, error in passed_over[:5]))})"


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
