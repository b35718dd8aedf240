"""How often the method in use errs, by simulation: the table of known limits, as it is shipped beside this file.

The truth lies just at the bound, so that each decision is wrong: it should be supported in at most 2.5% of samples and
refuted in at most 2.5%, and the 95% interval should hold it in at least 95%. `python -m tests.support.error_rates`
simulates the table (seconds); a test does so again, more coarsely.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).with_name("error_rates.json")
TRIALS = 40_000


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the method does to samples of one law and size whose true effect is at the bound; shares of samples."""

    law: str
    n: int
    covered: float
    """The 95% interval holds the truth."""
    supported: float
    """Falsely, as a claim that the effect is above the bound."""
    refuted: float


def table() -> tuple[Rates, ...]:
    """The rows that are shipped."""
    return tuple(Rates(**row) for row in json.loads(SHIPPED.read_text()))
