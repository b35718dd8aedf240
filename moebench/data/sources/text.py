"""The user's own text: files, folders and globs.

A file is a document and its first folder under the common root is its domain (`all` where there are no folders). Of
fewer than 80 files a tenth is too few to test on: they are cut at blank lines into documents of about 4 KB, so that
every split has several documents of a single book or of a dozen. Files are only read. A file is taken as unchanged when
its path, size and times of change are.
"""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from moebench.data.documents import DataError, Gathered, Text
from moebench.data.sources.decode import MOST_UNPACKED_BYTES, NotTextError, read_text
from moebench.data.sources.source import DataSource
from moebench.frozen import later

FEW_FILES = 80
"""Fewer files than this are cut into chunks: whole, a tenth of them gives under eight documents to a held-out split,
too few to say how quality varies over documents."""
CHUNK_BYTES = 4096
MOST_DOMAINS = 16
"""Of more folders the largest keep their names and the rest become `other`, since each is a row of many tables."""
_CHUNKS_WANTED = 30
_SMALLEST_CHUNK = 256

Encoding = Literal[
    "utf-8", "utf-16", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "cp437", "iso8859-2", "iso8859-15", "koi8-r",
    "mac-roman", "shift_jis", "euc-jp", "euc-kr", "gb18030", "big5",
]  # fmt: skip


class TextData(DataSource):
    """The user's own text files, gzipped or not. A file is a document; its top folder is its domain."""

    says = "your own text (gzipped or not): files, folders or globs; the first folder is the domain"
    scope = "the user's own text"

    source: Literal["text"]
    """text: files of your own."""
    files: list[str] = Field(min_length=1)
    """Files, folders or globs, relative to the suite file."""
    encoding: Encoding = later("utf-8")
    """How the files are encoded; they are trained on as UTF-8."""

    def gather(self, base: Path) -> Gathered:
        """The user's texts. Raises DataError when there is nothing to read or a named file is not text."""
        bodies, passed_over = _bodies(self, base)
        root = Path(os.path.commonpath([path.parent for path in bodies]))
        domains = _domains(bodies, root)
        size = CHUNK_BYTES
        if len(bodies) < FEW_FILES:
            size = max(_SMALLEST_CHUNK, min(CHUNK_BYTES, sum(map(len, bodies.values())) // _CHUNKS_WANTED))
        texts = []
        for path, body in bodies.items():
            name = path.relative_to(root).as_posix().encode("utf-8", "replace").decode()
            pieces = chunks(body, size) if len(bodies) < FEW_FILES else [body]
            for number, piece in enumerate(pieces):
                own = name if len(pieces) == 1 else f"{name}#{number}"
                texts.append(Text(name=own, domain=domains[path], group=own, body=piece))
        notes = []
        if len(texts) > len(bodies):
            notes.append(
                f"{_files(len(bodies))} cut into {len(texts)} documents at blank lines, about {size} bytes each: the "
                "test split holds unseen passages, not unseen files"
            )
        if passed_over:
            notes.append(f"{_files(len(passed_over))} passed over: {_reasons(passed_over)}")
        return Gathered(texts=texts, notes=tuple(notes))

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


def chunks(body: bytes, size: int) -> list[bytes]:
    """Cuts UTF-8 text after `size` bytes or a little more: at a blank line, else a line end, else between characters.

    The chunks joined are the text. No chunk is longer than twice the size plus a character.
    """
    pieces, start = [], 0
    while len(body) - start > 2 * size:
        cut = start + 2 * size
        for mark in (b"\n\n", b"\n"):
            at = body.find(mark, start + size, start + 2 * size)
            if at >= 0:
                cut = at + len(mark)
                break
        while cut < len(body) and body[cut] & 0xC0 == 0x80:  # inside a UTF-8 character
            cut += 1
        pieces.append(body[start:cut])
        start = cut
    return [*pieces, body[start:]]


def _domains(bodies: dict[Path, bytes], root: Path) -> dict[Path, str]:
    """First folder under the root, in letters that a metric's label may hold."""
    folders = {path: path.relative_to(root).parts[:-1] for path in bodies}
    if not any(folders.values()):
        return dict.fromkeys(bodies, "all")
    domains = {path: re.sub(r"[^\w.+-]", "_", parts[0]) if parts else "top" for path, parts in folders.items()}
    sizes: dict[str, int] = defaultdict(int)
    for path, domain in domains.items():
        sizes[domain] += len(bodies[path])
    if len(sizes) <= MOST_DOMAINS:
        return domains
    kept = sorted(sizes, key=lambda domain: (-sizes[domain], domain))[: MOST_DOMAINS - 1]
    return {path: domain if domain in kept else "other" for path, domain in domains.items()}


def _bodies(spec: TextData, base: Path) -> tuple[dict[Path, bytes], list[tuple[Path, NotTextError]]]:
    """The texts that are not empty, and the files that were found and are no text, with the reason."""
    bodies: dict[Path, bytes] = {}
    passed_over: list[tuple[Path, NotTextError]] = []
    left = MOST_UNPACKED_BYTES
    for path, named in files(spec, base).items():
        try:
            body = read_text(path, encoding=spec.encoding, budget=left)
        except NotTextError as error:
            if named:
                raise DataError(f"{path} {error}: {error.advice}") from None
            passed_over.append((path, error))
            continue
        left -= len(body) if path.suffix == ".gz" else 0
        if body.strip():
            bodies[path] = body
    if not bodies:
        why = f": {_reasons(passed_over)}" if passed_over else "; give UTF-8 text files that are not empty"
        raise DataError(f"the files of {spec.files} hold no text{why}")
    return bodies, passed_over


def _reasons(passed_over: Sequence[tuple[Path, NotTextError]]) -> str:
    """Of some files each with its reason, then what would do."""
    shown = "; ".join(f"{path.name} {error}" for path, error in passed_over[:5])
    more = f" and {len(passed_over) - 5} more" if len(passed_over) > 5 else ""
    return f"{shown}{more} ({'; '.join(dict.fromkeys(error.advice for _, error in passed_over[:5]))})"


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
