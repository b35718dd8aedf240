"""moebench settles arguments about Mixture-of-Experts versus dense models.

Importing this package only defines names: `load`, `plan` and `run` are brought in when they are first used, so
that the report side never loads torch and `moebench --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moebench.api import load, plan, run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name in {"load", "plan", "run"}:
        from moebench import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
