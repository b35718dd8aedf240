"""The bytes of a file as text: unpacked, other encodings read, and what is no text refused with what to do.

Nothing is trusted: a format is told by its first bytes before anything decodes it. What comes out is UTF-8 with plain
line ends, piece by piece.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from moebench.data.sources.unpack import Budget, NotTextError, blocks

_FORMATS = (
    (b"%PDF", "a PDF", "pdftotext FILE"),
    (b"PAR1", "a packed Parquet table", "gunzip or zstd -d: a Parquet table is read as it is"),
    (b"ARROW1", "an Arrow table", "pandas.read_feather"),
    (b"BZh", "compressed with bzip2", "bunzip2 -k FILE"),
    (b"\xfd7zXZ", "compressed with xz", "unxz -k FILE"),
    (b"7z\xbc\xaf", "a 7z archive", "7z x FILE"),
    (b"SQLite format 3", "a database", "sqlite3 FILE 'select text from ...'"),
    (b"\x89HDF", "an HDF5 file", "h5py"),
    (b"{\\rtf", "a rich-text document", "pandoc FILE -t plain -o FILE.txt"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "soffice --convert-to txt:Text FILE"),
)
"""First bytes, what a file is that begins with them, and what makes text of it."""

_OFFICE = {".docx": "a Word document", ".odt": "an OpenDocument text", ".epub": "an e-book"}
_HEAD_BYTES, _TOLD_BY_BYTES = 1_000_000, 1 << 16
"""Of a file's beginning, as much as tells whether it holds JSON records, and its format or encoding."""


def read_text(path: Path, *, encoding: str, budget: Budget | None = None) -> bytes:
    """The text of a whole file; see `text_blocks`."""
    return b"".join(text_blocks(path, encoding=encoding, budget=budget or Budget()))


def text_blocks(path: Path, *, encoding: str, budget: Budget) -> Iterator[bytes]:
    """The text of a file as UTF-8 with plain line ends, in pieces, once its beginning is known to be text.

    Raises NotTextError.
    """
    head: bytes | None = b""
    for piece in _cleaned(path, encoding=encoding, budget=budget):
        if head is None:
            yield piece
        elif len(head := head + piece) >= _HEAD_BYTES:
            _refuse_records(head)
            yield head
            head = None
    if head:
        _refuse_records(head)
        yield head


def _refuse_records(head: bytes) -> None:
    if _is_records(head):
        raise NotTextError("holds JSON records, not text", "give it a name that ends in .jsonl, and it is read as such")


def _cleaned(path: Path, *, encoding: str, budget: Budget) -> Iterator[bytes]:
    """UTF-8 pieces without byte order mark, every line ending a line feed."""
    decoder = codecs.getincrementaldecoder(encoding)()
    head, read, given, held = b"", 0, 0, ""
    for raw in chain(blocks(path, budget), [b""]):
        if not read:
            head = raw[:_TOLD_BY_BYTES]
            _refuse_formats(head, re.sub(r"\.(gz|zst)$", "", path.name.lower()))
        waiting = len(decoder.getstate()[0])
        try:
            text = held + decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            shown, place = "UTF-8" if encoding == "utf-8" else encoding, read - waiting + error.start
            raise NotTextError(f"is not {shown} text (byte {place})", _other_encoding(head, encoding)) from None
        text = text if read else text.removeprefix("\ufeff")
        held = "\r" if raw and text.endswith("\r") else ""  # a line feed may follow
        piece = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").encode()
        if b"\0" in piece:
            raise NotTextError(f"is not text (NUL at byte {given + piece.index(0)})")
        read, given = read + len(raw), given + len(piece)
        yield piece


def _refuse_formats(head: bytes, name: str) -> None:
    """Raises NotTextError for what is known not to be text."""
    for first, what, tool in _FORMATS:
        if head.startswith(first):
            raise NotTextError(f"is {what}, not text", f"make text of it, such as with {tool}")
    if head[257:262] == b"ustar":
        raise NotTextError("is a tar archive, not text", "unpack it with tar xf, and name the folder")
    if head.startswith(b"PK\x03\x04"):
        for suffix, what in _OFFICE.items():
            if name.endswith(suffix):
                raise NotTextError(
                    f"is {what}, not text", "make text of it, such as with pandoc FILE -t plain -o FILE.txt"
                )
        raise NotTextError("is a zip archive, not text", "unpack it with unzip, and name the folder")


def _is_records(body: bytes) -> bool:
    """Whether the first lines are JSON objects, each whole."""
    lines = body[:_HEAD_BYTES].split(b"\n", 3)[:3]
    if len(lines) < 2 or not all(line.startswith(b"{") for line in lines[:2]):
        return False
    try:
        return all(isinstance(json.loads(line), dict) for line in lines[:2])
    except (ValueError, RecursionError):
        return False


def _other_encoding(head: bytes, encoding: str) -> str:
    """What would read a text of another encoding."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        likely = "utf-16"
    elif encoding == "utf-8" and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        likely = "latin-1"
    else:
        return "convert it to UTF-8 text or take it out of `files`"
    iconv = f"iconv -f {likely.replace('latin-1', 'latin1')} -t utf-8"
    return f"write `encoding: {likely}` under `data`, or convert it with {iconv}"
