"""Probes of routing: what experts are given and what they make of it, asked of finished runs. Nothing is trained.

A probe is a file like those of `moebench.metrics`, asked for by its name under `measure.probes`, and a line in `PROBES`
below. Each states what would be seen by chance beside what is seen, for most of these figures are not 0 by chance.
"""

from __future__ import annotations

from types import ModuleType

from moebench.metrics.probes import (
    agreement,
    effort,
    locality,
    regret,
    similarity,
    specialisation,
    stragglers,
    swap,
    training_load,
)

PROBES: dict[str, ModuleType] = {
    "specialisation": specialisation,
    "effort": effort,
    "locality": locality,
    "stragglers": stragglers,
    "regret": regret,
    "swap": swap,
    "similarity": similarity,
    "agreement": agreement,
    "training_load": training_load,
}
