"""moebench settles arguments about Mixture-of-Experts versus dense models.

Importing this package only defines names: `load`, `plan` and `run` are brought in when they are first used, so
that the report side never loads torch and `moebench --help` answers at once.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moebench.api import load, plan, run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "plan", "run"]


def _offered(name: str) -> property:
    def get(_: ModuleType) -> Any:
        from moebench import api

        return getattr(api, name)

    # Importing the modules `moebench.plan` and `moebench.run` sets attributes of these names; they stay the functions.
    return property(get, lambda _self, _module: None)


class _Package(ModuleType):
    """This package, with functions that are brought in on first use."""

    load = _offered("load")
    plan = _offered("plan")
    run = _offered("run")


sys.modules[__name__].__class__ = _Package
