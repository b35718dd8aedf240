"""`at_most`: a metric of one model is at most a value."""

from __future__ import annotations

from typing import Literal

from moebench.claims.kinds.at_least import OneSided


class AtMost(OneSided):
    """The metric of one model is at most the value."""

    example = "{model: moe, metric: routing.dropped_share, test: {kind: at_most, value: 1%}}"
    sign = -1

    kind: Literal["at_most"]
    """at_most: a metric of one model, against a value."""
