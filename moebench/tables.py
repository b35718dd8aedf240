"""Tables of data that ship in the package as YAML, each read when first asked for."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


@cache
def table(path: str | Path) -> Any:
    """What stands in a YAML file of the package; shared by all who ask, so never to be changed."""
    file = Path(str(resources.files("moebench")), path)
    return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
