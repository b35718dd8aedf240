"""The words a suite may use that are not in its types: published systems, bundled suites.

They are found by reading file names.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

MAX_SEEDS = 1000
"""Most seeds that a suite may ask for by number."""


def known_systems() -> list[str]:
    """Names of the published systems of `moebench/systems`."""
    return _stems(Path(str(resources.files("moebench"))) / "systems")


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
