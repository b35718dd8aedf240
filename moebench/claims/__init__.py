"""From evidence to verdicts: what each claim asks, what was found, and whether that settles it.

`judge` is the way in. `kinds` holds one function per kind of claim; `contrasts` turns a claim into one effect per seed
or process; `deciding` holds the rule; `preconditions` says when there is nothing to decide; `controls` tests the
instrument; `sealing` says what was fixed before the data; `ordering` tells titles which of two models is lower.
Numbers come from `moebench.evidence`, arithmetic from `moebench.stats`.
"""

from moebench.claims.controls import check_controls
from moebench.claims.judging import judge, strict_ok
from moebench.claims.kinds import KINDS
from moebench.claims.ordering import Order, order
from moebench.claims.sealing import Withdrawn, withdrawn
from moebench.claims.types import ControlResult, State, Verdict
from moebench.reader.evidence import Evidence

__all__ = [
    "KINDS",
    "ControlResult",
    "Evidence",
    "Order",
    "State",
    "Verdict",
    "Withdrawn",
    "check_controls",
    "judge",
    "order",
    "strict_ok",
    "withdrawn",
]
