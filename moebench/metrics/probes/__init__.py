"""Probes of routing: what experts are given, asked of finished runs. Nothing is trained for them.

A probe is a file like those of `moebench.metrics`, asked for by its name under `measure.probes`, and a line in `PROBES`
below. Each states what would be seen by chance beside what is seen, for most of these figures are not 0 by chance.
"""

from __future__ import annotations

from types import ModuleType

from moebench.metrics.probes import locality, specialisation

PROBES: dict[str, ModuleType] = {
    "specialisation": specialisation,
    "locality": locality,
}
