"""The numbers of a verdict as its metric reads, and not oriented towards the claim."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moebench import stats
from moebench.claims.decide import ALPHA, Finding
from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.samples import draw
from moebench.format import interval
from moebench.reader.evidence import Evidence


def printed(hypothesis: Hypothesis, finding: Finding) -> dict[str, Any]:
    """Estimate and intervals as the metric reads; infinite ends are named and have no number."""
    low, high = _shown(hypothesis, finding.interval)
    estimate = None if math.isnan(finding.centre) else hypothesis.reading.show(finding.centre)
    shown = {"estimate": estimate, "low": low, "high": high}
    unbounded = tuple(name for name, value in shown.items() if value is not None and math.isinf(value))
    shown["low90"], shown["high90"] = _shown(hypothesis, finding.narrow)
    shown["item_low"], shown["item_high"] = _shown(hypothesis, finding.items)
    finite = {name: value for name, value in shown.items() if value is not None and math.isfinite(value)}
    return {**finite, "unbounded": unbounded}


def _shown(hypothesis: Hypothesis, interval: stats.Interval | None) -> tuple[float | None, float | None]:
    """An oriented interval's ends as the metric reads, the lower first; may be infinite."""
    if interval is None:
        return None, None
    low, high = sorted((hypothesis.reading.show(interval.low), hypothesis.reading.show(interval.high)))
    return low, high


def asked_ends(hypothesis: Hypothesis) -> dict[str, float]:
    """The range asked for, as the metric reads."""
    ends: dict[str, float] = {}
    for bound in hypothesis.support:
        upwards = (bound.side == "above") == (hypothesis.reading.sign > 0)
        ends["asked_low" if upwards else "asked_high"] = hypothesis.reading.show(bound.value)
    return ends


def recovered_share(evidence: Evidence, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """The share of the whole gain that was recovered, in %, with Fieller's interval.

    None for other kinds of claim; empty when the gain is not shown to be above 0, or a run of the three diverged, so
    that no share can be stated.
    """
    if hypothesis.gain is None or hypothesis.share_of is None:
        return None
    try:
        gain, whole = (draw(evidence, part).effects for part in (hypothesis.gain, hypothesis.share_of))
    except Withheld:
        return None
    if len(gain) < 2 or len(gain) != len(whole) or not np.all(np.isfinite([gain, whole])):
        return {}
    shares = stats.fieller(gain, whole, 1 - 2 * ALPHA)
    if shares is None or np.mean(whole) <= 0:
        return {}
    share = float(np.mean(gain) / np.mean(whole))
    return {"share": 100 * share, "share_low": 100 * shares.low, "share_high": 100 * shares.high}


def share_words(share: dict[str, Any], whole: str, units: str) -> str:
    if not share:
        return f"no share of {whole} can be stated: that gain is not shown to be above 0"
    shown = interval(share["share"], share["share_low"], share["share_high"], "%", signed=False)
    return f"recovers {shown} of {whole} (Fieller interval over {units})"
