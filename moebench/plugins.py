"""Installed packages that add routers and data sources: what an entry point loads to, and which code that is.

The code behind a plug-in decides what is measured as much as a suite does, so the package's version and a digest of
its code are part of what is planned. The digest is over every code file of the modules that the package installs, and
of those that hold the plug-in or what it inherits from: a helper beside the plug-in counts, what is merely imported
from elsewhere does not.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

from moebench.frozen import Frozen
from moebench.text import plain

ROUTERS, SOURCES, METRICS = "moebench.routers", "moebench.sources", "moebench.metrics"
"""Groups of entry points."""
_CODE = (".py", ".so", ".pyd", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
_OURS = frozenset({"moebench", "torch", *sys.stdlib_module_names})
"""Modules whose code is no part of a plug-in's."""
_loaded: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""What was loaded -> digest of its code at that time."""


class PluginCode(Frozen):
    """The code of an installed package as it was when a suite was planned."""

    package: str
    """Name of the distribution; of its module where no distribution is known."""
    version: str | None
    sha256: str
    """Over the package's code files; see `code_of`."""

    def __str__(self) -> str:
        return f"{self.package} {self.version or '(no version)'}, sha256 {self.sha256[:16]}"


class PluginError(ValueError):
    """A plug-in that cannot be used: file, line and cause, or what to write."""


def names(group: str) -> set[str]:
    """The names of a group's entry points."""
    return {point.name for point in entry_points(group=group)}


def offered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name. Raises PluginError when two packages offer one name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in points and points[point.name].value != point.value:
            both = f"{plain(points[point.name].value)} and {plain(point.value)}"
            raise PluginError(f"two installed packages offer {plain(point.name)!r} for {group}, {both}: remove one")
        points[point.name] = point
    return points


def load(point: EntryPoint) -> Any:
    """What an entry point names. Raises PluginError with file, line and cause when it does not load."""
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{plain(point.name)} ({plain(point.value)}) does not load: {cause(error, point.module)}"
        ) from error


def cause(error: BaseException, module: str) -> str:
    """`/path/of/mine.py:12: ZeroDivisionError: division by zero`, the line being the last of the module's package."""
    said = plain(f"{type(error).__name__}: {error}", most=400)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{plain(error.filename)}:{error.lineno}: {plain(f'{type(error).__name__}: {error.msg}', most=400)}"
    homes = _homes(module.partition(".")[0])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(Path(frame.filename).is_relative_to(home) for home in homes):
            return f"{plain(frame.filename)}:{frame.lineno}: {said}"
    return said


def _homes(module: str) -> list[Path]:
    """The folders of a top-level module, or its one file."""
    spec = _spec(module)
    if spec is None:
        return []
    return [Path(root) for root in spec.submodule_search_locations or ([spec.origin] if spec.origin else [])]


def place(thing: Any) -> str:
    """`/path/of/mine.py:12` of a class or function; its name when its source is not to be had."""
    code: CodeType | None = getattr(thing, "__code__", None)
    if code is not None:
        return f"{plain(code.co_filename)}:{code.co_firstlineno}"
    import inspect

    try:
        return f"{plain(inspect.getsourcefile(thing) or '?')}:{inspect.getsourcelines(thing)[1]}"
    except (OSError, TypeError):
        return plain(getattr(thing, "__qualname__", thing))


def code_of(point: EntryPoint, thing: Any) -> PluginCode:
    """The package, version and code of what an entry point loaded to: a class or a function.

    Raises PluginError when the files have changed since this process loaded it: it would run the code of before.
    """
    names = {point.module.partition(".")[0]}
    names |= {base.__module__.partition(".")[0] for base in getattr(thing, "__mro__", (thing,))}
    if point.dist is not None:
        names |= set((point.dist.read_text("top_level.txt") or "").split())
    files = [[where, _sha256(path)] for where, path in _files(names - _OURS)]
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if _loaded.setdefault(thing, digest) != digest:
        raise PluginError(f"the code of {plain(point.name)} has changed since it was loaded: start Python again")
    package = point.module.partition(".")[0] if point.dist is None else point.dist.name
    return PluginCode(package=package, version=None if point.dist is None else point.dist.version, sha256=digest)


def _files(modules: set[str]) -> Iterator[tuple[str, Path]]:
    """(name within its module, path) of every code file of some top-level modules, in a fixed order."""
    for name in sorted(modules):
        for home in _homes(name):
            paths = home.rglob("*") if home.is_dir() else [home]
            code = [path for path in paths if path.suffix in _CODE and "__pycache__" not in path.parts]
            inside = {path.relative_to(home.parent).as_posix(): path for path in code if path.is_file()}
            yield from sorted(inside.items())


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module without a spec, such as __main__
        return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
