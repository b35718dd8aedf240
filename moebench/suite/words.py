"""The words a suite may use that are not in its types: published systems, bundled suites.

They are found by file names and by the first words of lines: nothing is parsed, for a suite to be checked at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

_AT_LINE_START = re.compile(r"^([^\s#:][^\s:]*):", re.MULTILINE)

TOLD_BY = {"checkpoint": "checkpoint", "results": "external", "experiment": "experiment"}
"""The key that tells a kind of model, and the kind; without one of them it is a decoder of ours."""
MAX_SEEDS = 1000
"""Most seeds that a suite may ask for by number."""


def known_systems() -> list[str]:
    """Names of the published systems of `moebench/systems`."""
    return sorted(system_files())


@cache
def system_files() -> Mapping[str, Path]:
    """Name of each published system, and the file of its maker: in such a file a name is a line's start."""
    folder = Path(str(resources.files("moebench"))) / "systems"
    files = (path for path in folder.glob("*.yaml") if not path.name.startswith("."))
    return {name: path for path in files for name in _AT_LINE_START.findall(path.read_text(encoding="utf-8"))}


def suites_folder() -> Path:
    """The folder of bundled suites: inside the package when installed, beside it in a checkout."""
    package = Path(str(resources.files("moebench")))
    installed = package / "_suites"
    return installed if installed.is_dir() else package.parent / "suites"


def bundled_path(name: str) -> Path | None:
    """The file of a bundled suite, or None when there is none of that name."""
    return suites_folder() / f"{name}.yaml" if name in bundled_names() else None


def bundled_names() -> list[str]:
    """Names of the suites that need no path."""
    return _stems(suites_folder())


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.name.startswith("."))


MIN_LOOKS, MAX_LOOKS = 2, 5
"""Planned looks of a suite that has any."""
