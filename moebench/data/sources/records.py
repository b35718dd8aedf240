"""Rows as documents: which field holds the text and which names the domain, from JSON Lines, Parquet and Arrow files.

Rows come one by one, so a file may be larger than memory. A row without text is passed over and counted; a field that
is not there, or holds something else than text, is refused with the fields that there are. Nothing in a file is
believed: lines and what is unpacked have a most, and a table of Arrow is checked before its values are read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moebench.data.documents import DataError, Text, clean
from moebench.data.sources.source import DataSource
from moebench.data.sources.unpack import MOST_TIMES, MOST_UNPACKED_FILE_BYTES, Budget, NotTextError, blocks
from moebench.frozen import later
from moebench.text import plain

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LINE_BYTES = 1 << 26
"""A longer line of JSON is refused."""
MOST_DOMAINS = 16
"""Of more domains the largest keep their names and the rest become `other`, since each is a row of many tables."""
_MOST_VALUES = 10_000
"""A field of more different values names no domains."""
_MISSED = 1000
"""Rows without the field after which a file that has shown it nowhere is refused."""
_BATCH_BYTES, _BATCH_ROWS = 1 << 24, 1024
"""What is read of a table at once, about and at most."""

Row = Mapping[str, Any]
Kind = Literal["json", "parquet", "arrow"]


class RecordSource(DataSource):
    """A source that may read rows: which of their fields are read, and how much."""

    field: str = later("text", min_length=1, max_length=200)
    """Field of a row that holds its text; `a.b` is the field b inside the field a."""
    domain: str | None = later(min_length=1, max_length=200)
    """Field of a row that names its domain; absent, rows have their file's."""
    limit: float | None = later(ge=1)
    """Bytes of text to read, from the beginning; absent: all."""


# ------------------------------------------------------------------------------------------------ rows to texts


class Reader:
    """Makes documents of the rows of a source, and counts what it passes over."""

    def __init__(self, spec: RecordSource) -> None:
        self._spec = spec
        self._passed_over: Counter[str] = Counter()
        self._domains: dict[str, str] = {}
        """Value of the field -> what it is called."""
        self.rows = 0

    def texts(self, rows: Iterator[tuple[int, Row]], *, place: str, name: str, domain: str) -> Iterator[Text]:
        """The documents of one file; `place` is what it is called in an error, `name` in a document's name.

        Raises DataError for a file that nowhere has the field, or has something else than text in it.
        """
        found = False
        count = 0
        for count, (number, row) in enumerate(rows, start=1):
            self.rows += 1
            value = value_of(row, self._spec.field)
            if value is _ABSENT and not found and count >= _MISSED:
                raise DataError(self._missing(place, row))
            found |= value is not _ABSENT
            body = self._body(value, f"{place}, row {number}")
            if body is not None:
                own = f"{name}#{number}"
                where = self._domain(row, f"{place}, row {number}") if self._spec.domain is not None else domain
                yield Text(name=own, domain=where, group=own, body=body)
        if count and not found:
            raise DataError(self._missing(place, row))

    def _missing(self, place: str, row: Row) -> str:
        return f"no row of {place} has the field {self._spec.field!r}: {_fields(row)}"

    def _body(self, value: Any, place: str) -> bytes | None:
        """The text of a row as bytes; None for one that is passed over. Raises DataError for one of another type."""
        if value is _ABSENT or value is None:
            why = "without text"
        elif not isinstance(value, str):
            raise DataError(f"{place}: the field {self._spec.field!r} holds {_kind_of(value, self._spec.field)}")
        else:
            try:
                body = clean(value.encode())
            except UnicodeEncodeError:
                why = "with text that is no Unicode"
            else:
                why = "with a NUL" if b"\0" in body else "" if body.strip() else "without text"
                if not why:
                    return body
        self._passed_over[why] += 1
        return None

    def _domain(self, row: Row, place: str) -> str:
        field = str(self._spec.domain)
        value = value_of(row, field)
        if value is _ABSENT:
            raise DataError(f"{place} has no field {field!r} to name its domain: {_fields(row, key='domain')}")
        if value is not None and not isinstance(value, str | int | bool):
            raise DataError(f"{place}: the field {field!r} holds {_kind_of(value, field)}: no name of a domain")
        word = "none" if value is None or value == "" else str(value)
        if (known := self._domains.get(word)) is not None:
            return known
        self._domains[word] = domain = label(word)
        if len(self._domains) > _MOST_VALUES:
            raise DataError(
                f"the field {field!r} has more than {_MOST_VALUES:,} different values, so it names no domains: "
                "choose another as `domain`, or leave it out"
            )
        return domain

    @property
    def notes(self) -> list[str]:
        """What was passed over."""
        if not self._passed_over:
            return []
        reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(self._passed_over.items()))
        return [f"{self._passed_over.total():,} of {self.rows:,} rows passed over: {reasons}"]


_ABSENT = object()


def value_of(row: Row, field: str) -> Any:
    """A field by its name, or else by its path; a marker when it is not there."""
    if field in row:
        return row[field]
    value: Any = row
    for part in field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def label(word: str) -> str:
    """A word in letters that a metric's label may hold."""
    return re.sub(r"[^\w.+-]", "_", word)[:60]


def _fields(row: Row, *, key: str = "field") -> str:
    """Which fields a row has, and how one of them is asked for."""
    names = [
        f"{name}.{inner}" if inner else name
        for name, value in row.items()
        for inner in (value if isinstance(value, Mapping) and value else [""])
    ]
    if not names:
        return "it has no fields"
    texts = [name for name in names if isinstance(value_of(row, name), str)] or names
    shown = ", ".join(plain(name, most=60) for name in names[:20])
    return f"it has {shown}; write such as `{key}: {plain(texts[0], most=60)}` under `data`"


def _kind_of(value: Any, field: str) -> str:
    """`a number, not text`; of an object what is in it."""
    if isinstance(value, Mapping):
        inner = ", ".join(plain(f"{field}.{name}", most=80) for name in list(value)[:10])
        return f"an object, not text: choose one of {inner or 'other fields'}"
    if isinstance(value, bool):
        return "true or false, not text"
    if isinstance(value, int | float):
        return "a number, not text"
    if isinstance(value, list):
        return "a list, not text"
    return f"{plain(type(value).__name__)}, not text"


def up_to(texts: Iterator[Text], limit: float | None, notes: list[str]) -> Iterator[Text]:
    """The first texts that together have no more bytes than the limit; notes that there were more.

    Raises DataError when not even the first fits.
    """
    read = 0
    for text in texts:
        if limit is not None and read + len(text.body) > limit:
            if not read:
                raise DataError(f"the first document has {len(text.body):,} bytes, more than the limit of {limit:,.0f}")
            notes.append(f"the first {read:,} bytes of the text: its limit is {limit:,.0f}")
            return
        read += len(text.body)
        yield text


# ------------------------------------------------------------------------------------------------ files to rows


def kind_of(path: Path) -> Kind | None:
    """How a file holds rows, by its name and its first bytes; None for text."""
    name = re.sub(r"\.(gz|zst)$", "", path.name.lower())
    if name.endswith((".jsonl", ".ndjson", ".jsonlines")):
        return "json"
    if name.endswith(".parquet"):
        return "parquet"
    try:
        with path.open("rb") as file:
            return "parquet" if file.read(4) == b"PAR1" else None
    except OSError:
        return None


def rows_of(path: Path, kind: Kind, *, spec: RecordSource, budget: Budget) -> Iterator[tuple[int, Row]]:
    """Number and fields of each row of a file, as many of the fields as the source reads. Raises DataError."""
    if kind == "json":
        return json_rows(path, budget)
    asked = [spec.field] if spec.domain is None else [spec.field, spec.domain]
    return parquet_rows(path, asked) if kind == "parquet" else arrow_rows(path, asked)


def json_rows(path: Path, budget: Budget) -> Iterator[tuple[int, Row]]:
    """Line number and object of each line that is not blank."""
    for number, line in _lines(path, budget):
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number} is not UTF-8 (byte {error.start}): convert it with iconv") from None
        except (ValueError, RecursionError) as error:
            why = plain(str(error), most=100)
            raise DataError(f"{path}, line {number} is no JSON object ({why}): each line must be one, whole") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is {_kind_of(row, '')}: each line must be a JSON object")
        yield number, row


def _lines(path: Path, budget: Budget) -> Iterator[tuple[int, bytes]]:
    waiting: list[bytes] = []
    held, number = 0, 0
    try:
        for block in blocks(path, budget):
            first, *others = block.split(b"\n")
            waiting.append(first)
            held += len(first)
            if held > MOST_LINE_BYTES:
                raise DataError(f"{path}, line {number + 1} has more than {MOST_LINE_BYTES:,} bytes: cut the document")
            if others:
                lines = [b"".join(waiting), *others[:-1]]
                for line in lines:
                    number += 1
                    if line.strip():
                        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                waiting, held = [others[-1]], len(others[-1])
    except NotTextError as error:
        raise DataError(f"{path} {error}: {error.advice}") from None
    if (line := b"".join(waiting)).strip():
        yield number + 1, line


def parquet_rows(path: Path, asked: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Number, from 0, and the asked fields of each row."""
    with _arrow(path, "a Parquet table"):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as table:
            tops, words = _tops(path, table.schema_arrow, asked)
        # Values that many rows share are kept once: a few bytes of file can stand for gigabytes of them.
        table = ParquetFile(path, read_dictionary=words, pre_buffer=False, memory_map=False)
        first = 0
        for group in range(table.num_row_groups):
            meta = table.metadata.row_group(group)
            each = meta.total_byte_size // max(1, meta.num_rows) + 1
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // each))
            batches = table.iter_batches(rows, row_groups=[group], columns=tops, use_threads=False)
            yield from _rows_of_batches(batches, path, first=first)
            first += meta.num_rows


def arrow_rows(path: Path, asked: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """The same of an Arrow stream or file, as `datasets` writes them; the file is mapped, not read whole."""
    with _arrow(path, "an Arrow table") as pa:
        mapped = pa.memory_map(str(path))
        with path.open("rb") as file:
            is_file = file.read(6) == b"ARROW1"
        if is_file:
            whole = pa.ipc.open_file(mapped)
            schema, batches = whole.schema, (whole.get_batch(n) for n in range(whole.num_record_batches))
        else:
            whole = pa.ipc.open_stream(mapped)
            schema, batches = whole.schema, iter(whole)
        tops, _ = _tops(path, schema, asked)
        yield from _rows_of_batches((_checked(batch.select(tops)) for batch in batches), path, first=0)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Raises ArrowInvalid when its values lie outside of it."""
    batch.validate(full=True)
    return batch


def _rows_of_batches(batches: Iterator[pa.RecordBatch], path: Path, *, first: int) -> Iterator[tuple[int, Row]]:
    """Raises DataError when the values are absurdly many times the file: one may stand in every row."""
    most = max(MOST_UNPACKED_FILE_BYTES, MOST_TIMES * path.stat().st_size)
    given = 0
    for batch in batches:
        names = batch.schema.names
        for number, scalars in enumerate(zip(*batch.columns, strict=True), start=first):
            values = [scalar.as_py() for scalar in scalars]
            given += sum(len(value) for value in values if isinstance(value, str))
            if given > most:
                raise DataError(f"{path} unpacks to more than {most:,} bytes, the most that is read of such a file")
            yield number, dict(zip(names, values, strict=True))
        first += batch.num_rows


def _tops(path: Path, schema: pa.Schema, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns in which the asked fields lie, and those fields that are text.

    Raises DataError when one of them is not there.
    """
    row = {field.name: _shape(field.type) for field in schema}
    for number, field in enumerate(asked):
        if value_of(row, field) is _ABSENT:
            key = "domain" if number else "field"
            raise DataError(f"no row of {path} has the field {field!r}: {_fields(row, key=key)}")
    tops = dict.fromkeys(field if field in row else field.partition(".")[0] for field in asked)
    return list(tops), [field for field in dict.fromkeys(asked) if value_of(row, field) == ""]


def _shape(kind: Any) -> Any:
    """A value that stands for a column's type in an error's list of fields."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {kind.field(n).name: _shape(kind.field(n).type) for n in range(kind.num_fields)}
    if pa.types.is_dictionary(kind):
        return _shape(kind.value_type)
    return "" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


@contextmanager
def _arrow(path: Path, what: str) -> Iterator[Any]:
    """pyarrow, whose errors about a file become DataError; so does that it is not installed."""
    try:
        import pyarrow as pa
    except ImportError:
        raise DataError(f"{path} is {what}, which pyarrow reads: pip install 'moebench[data]'") from None
    try:
        yield pa
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = plain(str(error).splitlines()[0] if str(error) else type(error).__name__, most=200)
        raise DataError(f"{path} cannot be read as {what} ({why}): make it again, or leave it out") from None
