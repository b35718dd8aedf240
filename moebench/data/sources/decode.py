"""The bytes of a file as text: gzip unpacked, other encodings read, and what is no text refused with what to do.

Nothing is trusted: a gzip file is read up to a limit, and a format is told by its first bytes before anything decodes
it. What comes out is UTF-8 with plain line ends.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from pathlib import Path

from moebench.data.documents import clean

MOST_UNPACKED_FILE_BYTES, MOST_UNPACKED_BYTES = 1 << 28, 1 << 30
"""Bytes that are read of what one gzip file holds, and of all together; no nano model trains on more."""


class NotTextError(ValueError):
    """Why a file cannot be read as text, and what to do."""

    def __init__(self, problem: str, advice: str = "convert it to UTF-8 text or take it out of `files`") -> None:
        super().__init__(problem)
        self.advice = advice


_FORMATS = (
    (b"%PDF", "a PDF", "pdftotext FILE"),
    (b"PAR1", "a Parquet table", "python -c \"import pandas; print(*pandas.read_parquet('FILE').text, sep='\\n\\n')\""),
    (b"ARROW1", "an Arrow table", "pandas.read_feather"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -d FILE"),
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
_RECORDS = (".jsonl", ".ndjson", ".jsonlines")
_RECORDS_ADVICE = (
    "records are not read: write the field that holds the text to a file, with a blank line between records, such as "
    "jq -r '.text + \"\\n\"' FILE > FILE.txt"
)


def read_text(path: Path, *, encoding: str, budget: int = MOST_UNPACKED_BYTES) -> bytes:
    """The text of a file as UTF-8 with plain line ends. Raises NotTextError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        advice = "allow it to be read or take it out of `files`"
        raise NotTextError(f"cannot be read ({error.strerror})", advice) from None
    name = path.name.lower()
    if raw.startswith(b"\x1f\x8b"):
        raw, name = _unpacked(raw, budget=min(budget, MOST_UNPACKED_FILE_BYTES)), name.removesuffix(".gz")
    _refuse_formats(raw, name)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        shown = "UTF-8" if encoding == "utf-8" else encoding
        raise NotTextError(f"is not {shown} text (byte {error.start})", _other_encoding(raw, encoding)) from None
    body = clean(text.encode() if encoding != "utf-8" else raw)
    if b"\0" in body:
        raise NotTextError(f"is not text (NUL at byte {body.index(0)})")
    if name.endswith(_RECORDS) or _is_records(body):
        raise NotTextError("holds JSON records, not text", _RECORDS_ADVICE)
    return body


def _unpacked(raw: bytes, *, budget: int) -> bytes:
    """What a gzip file holds, up to a budget: a few bytes can stand for gigabytes."""
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            body = file.read(budget + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NotTextError(
            f"cannot be unpacked ({error})", "make it again with gzip, or take it out of `files`"
        ) from None
    if len(body) > budget:
        advice = "unpack it and cut it into files"
        raise NotTextError(f"unpacks to more than {budget:,} bytes, the most that is read of gzip files", advice)
    return body


def _refuse_formats(raw: bytes, name: str) -> None:
    """Raises NotTextError for what is known not to be text."""
    for first, what, tool in _FORMATS:
        if raw.startswith(first):
            raise NotTextError(f"is {what}, not text", f"make text of it, such as with {tool}")
    if raw[257:262] == b"ustar":
        raise NotTextError("is a tar archive, not text", "unpack it with tar xf, and name the folder")
    if raw.startswith(b"PK\x03\x04"):
        for suffix, what in _OFFICE.items():
            if name.endswith(suffix):
                raise NotTextError(
                    f"is {what}, not text", "make text of it, such as with pandoc FILE -t plain -o FILE.txt"
                )
        raise NotTextError("is a zip archive, not text", "unpack it with unzip, and name the folder")


def _is_records(body: bytes) -> bool:
    """Whether the first lines are JSON objects, each whole."""
    lines = body[:1_000_000].split(b"\n", 3)[:3]
    if len(lines) < 2 or not all(line.startswith(b"{") for line in lines[:2]):
        return False
    try:
        return all(isinstance(json.loads(line), dict) for line in lines[:2])
    except (ValueError, RecursionError):
        return False


def _other_encoding(raw: bytes, encoding: str) -> str:
    """What would read a text of another encoding."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        likely = "utf-16"
    elif encoding == "utf-8" and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", raw[:65536]):
        likely = "latin-1"
    else:
        return "convert it to UTF-8 text or take it out of `files`"
    iconv = f"iconv -f {likely.replace('latin-1', 'latin1')} -t utf-8"
    return f"write `encoding: {likely}` under `data`, or convert it with {iconv}"
