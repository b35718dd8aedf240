"""`predicts`: over the models of a sweep two counts together predict a metric better than either of them alone.

Within each seed the log of the metric is fitted by least squares as a line in the logs of the counts, and each value of
one swept key is left out in turn and predicted from the others; the effect is the log of the mean squared error of one
count over that of both. Two parts, one for each count alone, and both must hold (Berger 1982).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from moebench.claims.hypothesis import Array, Bound, Contrast, Form, Hypothesis, Reading, Term, Withheld
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, of_seeds
from moebench.claims.kinds.part import Known, Part, Parts
from moebench.claims.kinds.sweeping import points_of
from moebench.metrics import find
from moebench.metrics.metric import Metric
from moebench.metrics.ref import MetricRef

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

LEAST = 3
"""Values of the key that are left out one by one: with two, a line in two counts is fitted to one value of one."""


class Predicts(ClaimKind):
    """Two counts together predict a metric over the models of a sweep better than each alone."""

    example = (
        "{over: shapes, along: ffn.experts, metric: test.bits_per_byte, "
        "test: {kind: predicts, by: [cost.total_params, cost.active_params]}}"
    )
    takes = ("over", "along")
    spreads = False

    kind: Literal["predicts"]
    """predicts: two counts against each alone, values of the swept key left out one by one."""
    by: Annotated[list[str], Field(min_length=2, max_length=2)]
    """The two counts."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        yield from of_seeds(metric)
        for count in self.by:
            known = find(MetricRef.parse(count))
            if known is None or known.kind != "counted":
                yield Fault(at=("test", "by"), message=f"{count} is no count", hint="such as cost.total_params")
        values = {point.get(str(claim.along)) for point in sweeps.get(str(claim.over), {}).values()} - {None}
        if 0 < len(values) < LEAST:
            message = f"{claim.along} takes {len(values)} values: at least {LEAST} are left out one by one"
            yield Fault(at=("along",), message=message)

    def says(self, claim: Claim) -> str:
        both = " and ".join(self.by)
        return f"{both} together predict {claim.metric} over the models of {claim.over} better than each alone."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        both = " and ".join(self.by)
        left = f"with each {claim.along} left out in turn"
        return f"{both} predict the models of {claim.over}, {left}, with less error than each alone", "one alone does"

    def parts(self, claim: Claim, known: Known) -> Parts | None:
        asked = "less error than by each alone"
        parts = [
            Part(name=f"{count} alone", claim=claim, hypothesis=self._against(claim, known.sweeps, place))
            for place, count in enumerate(self.by)
        ]
        return Parts(of=tuple(parts), need=len(parts), what="counts", where="against", asked=asked)

    def _against(self, claim: Claim, sweeps: Sweeps, alone: int) -> Hypothesis:
        points = points_of(claim, claim.over, sweeps)
        if len({point[str(claim.along)] for point in points.values()}) < LEAST:
            raise Withheld("invalid", f"{claim.over} has fewer than {LEAST} values of {claim.along}")
        groups = [point[str(claim.along)] for point in points.values()]
        metrics = (claim.metric, *self.by)
        terms = tuple(Term(model=name, metric=metric, weight=1.0) for metric in metrics for name in points)
        return Hypothesis(
            contrast=Contrast(terms=terms, log=True, sided=False, formed=log_error_ratio(groups, alone)),
            support=(Bound(side="above", value=0.0, strict=True),),
            refute=(Bound(side="below", value=0.0),),
            reading=Reading(form="ratio", sign=1, unit="ratio"),
            asked="> 1× the squared error of both",
        )

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        raise Withheld("invalid", "`predicts` holds two counts against each alone")


def log_error_ratio(groups: Sequence[object], alone: int) -> Form:
    """Log of the squared error of one count over that of both, of the logs of metric and counts, metric by metric."""
    left_out = [np.array([group == value for group in groups], dtype=np.bool_) for value in dict.fromkeys(groups)]

    def form(values_ST: Array) -> Array:
        return np.array([_log_ratio(*np.split(row, 3)) for row in values_ST])

    def _log_ratio(y_M: Array, *counts_M: Array) -> float:
        one, both = (_error(y_M, counts, left_out) for counts in ([counts_M[alone]], list(counts_M)))
        if one <= 0 or both <= 0:
            raise ValueError("a prediction has no error at all: there is nothing to compare")
        return float(np.log(one) - np.log(both))

    return form


def _error(y_M: Array, counts: Sequence[Array], left_out: Sequence[npt.NDArray[np.bool_]]) -> float:
    """Mean squared error of what lines through the other groups predict. Raises ValueError where no line is told."""
    design_MC = np.column_stack([np.ones_like(y_M), *counts])
    errors: list[Array] = []
    for out_M in left_out:
        fitted = design_MC[~out_M]
        if np.linalg.matrix_rank(fitted) < fitted.shape[1]:
            raise ValueError(
                "without one value of the key the counts of the others tell no line: sweep another key too"
            )
        line, *_ = np.linalg.lstsq(fitted, y_M[~out_M], rcond=None)
        errors.append((y_M[out_M] - design_MC[out_M] @ line) ** 2)
    return float(np.mean(np.concatenate(errors)))
