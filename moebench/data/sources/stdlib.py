"""The text of the running Python's own standard library: real text on any machine, without a download.

Three domains: `code` (modules with their docstrings taken out), `docstrings` (the docstrings of one module, joined)
and `prose` (the language reference in `pydoc_data.topics`, one document a topic). Left out is what repeats itself or
differs between machines of the same Python: tests, IDLE, demos, generated tables, build settings, installed packages.
Two machines with the same patch release of Python get the same bytes, unless a vendor changed the library.
"""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from moebench.data.documents import DataError, Gathered, Text, clean
from moebench.data.sources.source import DataSource

SMALLEST_BYTES = 200
"""Shorter documents are left out: they are empty packages and one-line docstrings."""

DOMAINS = ("code", "docstrings", "prose")

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "idlelib", "turtledemo", "pydoc_data", "__phello__"}
    | {"site-packages", "dist-packages", "__pycache__"}
)
_SKIPPED_PREFIXES = ("_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize", "config-", "lib-dynload")
_GENERATED_MARKS = (b"Python Character Mapping Codec", b"gencodec.py", b"automatically generated", b"mkstringprep.py")
_GENERATED_WITHIN = 600
"""A file is generated when a mark stands in its first bytes."""

_CUT = b"\0"
"""Stands for a line taken out; source files hold no NUL."""

_STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class StdlibData(DataSource):
    """The text of the running Python's own standard library: found on any machine, no download."""

    says = "the text of the running Python's standard library: code, docstrings, reference prose"
    scope = "stdlib text"

    source: Literal["stdlib"]
    """stdlib: text found wherever Python is."""

    def gather(self, base: Path) -> Gathered:
        """All documents of the library. Raises DataError where Python has no library sources."""
        root = library()
        texts, unread = [], []
        for path in module_files(root):
            source = clean((root / path).read_bytes())
            if any(mark in source[:_GENERATED_WITHIN] for mark in _GENERATED_MARKS):
                continue
            try:
                texts += of_module(path.as_posix(), source)
            except (SyntaxError, ValueError):
                unread.append(path.as_posix())
        for topic, words in sorted(topics().items()):
            body = clean(words.encode("utf-8", "replace"))
            texts.append(Text(name=f"prose/{topic}", domain="prose", group=f"prose/{topic}", body=body))
        kept = [text for text in texts if is_fit(text)]
        if not kept:
            raise DataError(
                f"no Python sources under {root}: this Python has no standard library to read; "
                "use `data: {source: text, files: [...]}` with files of your own"
            )
        notes = [f"text of the standard library of Python {sys.version.split()[0]}"]
        if unread:
            notes.append(f"left out as not parsable: {', '.join(unread)}")
        return Gathered(texts=kept, notes=tuple(notes))

    def domains(self) -> tuple[str, ...]:
        return DOMAINS

    def fingerprint(self, base: Path) -> Any:
        """Python's version, the library's path, and every file's size and times of change."""
        root = library()
        stats = [(path, (root / path).stat()) for path in module_files(root)]
        return [sys.version, str(root), [(path.as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in stats]]


def library() -> Path:
    """Folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def module_files(root: Path) -> list[Path]:
    """Source files of the library that are used, relative to `root`, sorted by their posix path."""

    def walk(folder: Path) -> Iterator[Path]:
        for entry in folder.iterdir():
            if entry.name in _SKIPPED_FOLDERS or entry.name.startswith(_SKIPPED_PREFIXES):
                continue
            if entry.is_dir():
                yield from walk(entry)
            elif entry.suffix == ".py":
                yield entry.relative_to(root)

    return sorted(walk(root), key=Path.as_posix)


def of_module(name: str, source: bytes) -> list[Text]:
    """A module's code and its docstrings, which belong together. Raises SyntaxError or ValueError for no Python."""
    parts = zip(("code", "docstrings"), divide(source), strict=True)
    return [Text(name=f"{domain}/{name}", domain=domain, group=name, body=body) for domain, body in parts]


def is_fit(text: Text) -> bool:
    """Whether a document is no empty package and no lone docstring of a line."""
    return len(text.body) >= SMALLEST_BYTES and b"\0" not in text.body


def docstring_nodes(tree: ast.Module) -> list[ast.Constant]:
    """The string nodes that are docstrings, in the order of the source."""
    docstrings: list[ast.Constant] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Documented) and node.body and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docstrings.append(value)
        for field in _STATEMENTS:  # no docstring stands in an expression, and these are most of a tree
            inside = getattr(node, field, None)
            waiting += inside if isinstance(inside, list) else []
    return sorted(docstrings, key=lambda node: (node.lineno, node.col_offset))


def divide(source: bytes) -> tuple[bytes, bytes]:
    """Splits a module into its code without docstrings, and its docstrings joined by blank lines.

    Raises SyntaxError for a file that is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library has invalid escapes of its own
        nodes = docstring_nodes(ast.parse(source))
    lines = source.split(b"\n")
    texts = []
    for node in nodes:
        texts.append(inspect.cleandoc(str(node.value)))
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        before, after = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        # Lines keep their numbers while later docstrings are still to be cut, so emptied lines are marked by None.
        left = before + after.lstrip(b"; ")
        lines[first : last + 1] = [left if left.strip() else _CUT] + [_CUT] * (last - first)
    code = b"\n".join(line for line in lines if line != _CUT)
    return code, "\n\n".join(filter(None, texts)).encode("utf-8", "replace")


def topics() -> dict[str, str]:
    """The language reference that `help()` shows, by topic; empty where a vendor left it out."""
    try:
        from pydoc_data.topics import topics as reference
    except ImportError:
        return {}
    return dict(reference)
