"""A pilot: a few seeds of a suite's models, to see how large effects are and how much they scatter before seeds are
fixed. It judges nothing, and its seeds are none that a suite counts up to.
"""

from __future__ import annotations

from typing import Any

from moebench.suite.types import Controls, SuiteSpec

PILOT_SEED = 2_000_000
"""Seeds of pilots count up from here."""
MOST = 100
NOTE = "pilot: no verdicts; its seeds are none of the suite's"


def seeds_of(number: int) -> list[int]:
    """The seeds of a pilot of so many."""
    return list(range(PILOT_SEED, PILOT_SEED + number))


def pilot(spec: SuiteSpec, number: int) -> SuiteSpec:
    """The suite's models with the seeds of a pilot: nothing is claimed, swept or raced."""
    changes: dict[str, Any] = {
        "seeds": seeds_of(number),
        "looks": [],
        "claims": {},
        "tune": None,
        "controls": Controls(),
        "measure": spec.measure.model_copy(update={"speed": None}),
    }
    return spec.model_copy(update=changes)
