"""`trend`: a metric, or a gain, rises or falls with a value that is swept.

A gain is over a second sweep, or over one model, which stands at every point and so bends no line.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from moebench.claims.hypothesis import Bound, Contrast, Guard, Hypothesis, Reading, Withheld, orientation
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, compared, less, second_sign
from moebench.claims.kinds.sweeping import Slope, along_numbers, key_of, points_of
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim, Compare, Pair


class Trend(ClaimKind):
    """The metric, or the gain of one swept model over another, rises or falls with the swept value."""

    example = "{over: moe_sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: trend, sign: falling}}"
    takes = ("along",)
    may = ("over", "compare", "minus")
    of_sweeps = True

    kind: Literal["trend"]
    """trend: a direction over a swept value."""
    sign: Literal["rising", "falling"]
    """Which way the metric, or the gain, goes as the swept value rises."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        if (claim.over is None) == (claim.compare is None):
            message = "a trend test needs 'over', or 'compare' with two sweeps"
            many = "a trend is of one sweep or of the gain between two: give `over` or `compare`, not both"
            yield Fault(at=("over",), message=message if claim.over is None else many)
            return
        if claim.minus is not None and claim.compare is None:
            yield Fault(at=("minus",), message="a trend over one sweep takes no 'minus'", hint="compare two sweeps")
        swept = [name for name in _swept(claim) if name in sweeps]
        for name in swept:
            yield from along_numbers(claim, name, sweeps, least=3)
        for other in swept[1:]:
            here, there = ({key_of(point) for point in sweeps[name].values()} for name in (swept[0], other))
            if here != there:
                message = f"{swept[0]} and {other} are not swept over the same values"
                at = ("minus",) if other not in swept[:2] else ("compare", "baseline")
                yield Fault(at=at, message=message, hint="give both the same `sweep`")

    def says(self, claim: Claim) -> str:
        of = f"{claim.metric} of {claim.over}" if claim.compare is None else _gain(claim)
        return f"{of} is {self.sign} along {claim.along}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        way = "rises" if self.sign == "rising" else "falls"
        if claim.compare is None:
            return f"it {way} with {claim.along}, over the models of {claim.over}", "it does not"
        return f"{_gain(claim)} {way} with {claim.along}", "it does not"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """The least-squares slope of each seed over the swept value, on a log scale where all values are positive.

        Of two sweeps it is the slope of the gain, the log-ratio of the one's value to the other's at each point: one
        sum over the models of both. Points whose weight in the slope is 0 count as well: each step between neighbours
        must not be shown to go the other way. Which way a diverged run would have bent the slope is unknown.
        """
        lines, log = _lines(claim), _in_logs(claim)
        slope, along = Slope.of(points_of(claim, lines[0].swept, sweeps), str(claim.along)), str(claim.along)
        sign = 1 if self.sign == "rising" else -1
        per = f"per doubling of {along}" if slope.doubling else f"per unit of {along}"
        subject, way = _gain(claim) if claim.compare is not None else claim.metric, "fall" if sign > 0 else "rise"
        steps = tuple(
            Guard(
                contrast=_sum(claim, lines, sign, weights, sweeps),
                must="not be below 0",
                blocks=("supported",),
                otherwise=f"from {along} {low:g} to {high:g} {subject} is shown to {way}: "
                "the slope holds end to end only",
            )
            for low, high, weights in slope.steps()
        )
        unit = f"% {per}" if log else f"{metric_of(claim.metric).unit} {per}"
        return Hypothesis(
            contrast=_sum(claim, lines, sign, slope.weights, sweeps),
            support=(Bound(side="above", value=0.0, strict=True),),
            refute=(Bound(side="below", value=0.0),),
            reading=Reading(form="percent" if log else "difference", sign=sign, unit=unit),
            asked=f"{self.sign} with {along}" + (", no step against it" if steps else ""),
            guards=steps,
        )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One sweep in what a trend is of: its values, or their logs, with a sign."""

    swept: str
    metric: str
    sign: int


def _lines(claim: Claim) -> tuple[_Line, ...]:
    """One sweep, or the gain of one over another in logs, less the gain on a second metric or of a second pair."""
    if claim.compare is None:
        return (_Line(swept=str(claim.over), metric=claim.metric, sign=1),)
    pair, minus, up = claim.compare, claim.minus, orientation(claim.metric) or 1

    def gain(of: Pair | Compare, metric: str, sign: int) -> tuple[_Line, _Line]:
        first = _Line(swept=of.treatment, metric=metric, sign=sign)
        return first, _Line(swept=of.baseline, metric=metric, sign=-sign)

    lines = gain(pair, claim.metric, up)
    if minus is None:
        return lines
    if isinstance(minus, str):
        return (*lines, *gain(pair, minus, -second_sign(claim.metric, minus)))
    return (*lines, *gain(minus, claim.metric, -up))


def _sum(claim: Claim, lines: Sequence[_Line], sign: int, weights: Sequence[float], sweeps: Sweeps) -> Contrast:
    """The weighted sum over the points of all sweeps, each point of a further one in the place of the first's.

    A baseline that is one model is the same at every point: its weights are those of a slope and add up to nothing.
    """
    keys = [key_of(point) for point in points_of(claim, lines[0].swept, sweeps).values()]
    made: list[Contrast] = []
    for line in lines:
        if line.swept not in sweeps and line is not lines[0]:
            continue
        points = points_of(claim, line.swept, sweeps)
        places = {key_of(point): name for name, point in points.items()}
        if set(places) != set(keys):
            raise Withheld("invalid", f"{lines[0].swept} and {line.swept} are not swept over the same values")
        of_models = {places[key]: sign * line.sign * w for key, w in zip(keys, weights, strict=True)}
        log, every = _in_logs(claim), tuple(points)
        made.append(Contrast.of(line.metric, of_models, log=log, rests_on=every, sided=False))
    return functools.reduce(lambda one, other: one.plus(other, sided=False), made)


def _in_logs(claim: Claim) -> bool:
    """Whether it is a trend of logs: of gains, and of what is a ratio itself."""
    return claim.compare is not None or metric_of(claim.metric).kind == "laddered"


def _swept(claim: Claim) -> list[str]:
    return list(dict.fromkeys(line.swept for line in _lines(claim)))


def _gain(claim: Claim) -> str:
    """`the gain of moe_sweep over dense_sweep`, and what is subtracted."""
    pair = compared(claim)
    return f"the gain of {pair.treatment} over {pair.baseline} in {claim.metric}{less(claim)}"
