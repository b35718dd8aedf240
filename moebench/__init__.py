"""moebench settles arguments about Mixture-of-Experts versus dense models.

Importing this package only defines names: what it offers is brought in when it is first used, so that the report side
never loads torch and `moebench --help` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moebench.api import load, plan, report, run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "plan", "report", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from moebench import api

    return getattr(api, name)
