"""`correlates`: over the points of a sweep two metrics rank the models alike, or oppositely.

Spearman's rank correlation r over the models of one seed, as Fisher's z of 0.95 r: one effect a seed (seeds are what is
sampled, the models are fixed). Of r itself a perfect order would have no z, and the z of few models leans to one side
near it: by simulation with 6 to 12 models, bounds up to 0.9 are then passed wrongly in up to 5% of samples, and with
the factor in 2 to 3%. The second metric may be counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.amounts import FieldError
from moebench.claims.hypothesis import SHRUNK, Array, Contrast, Form, Hypothesis, Level, Reading, Term, Withheld
from moebench.claims.kinds.kind import ClaimKind, Fault, Sweeps, of_seeds
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

LEAST = 6
"""Models below which a rank correlation says nothing: of 5, 1 order in 120 is perfect by chance."""
Coefficient = Annotated[float, Field(ge=-0.9, le=0.9)]
"""Beyond, ranks of few models are too coarse to tell."""


class Correlates(ClaimKind):
    """Two metrics rank the models of a sweep alike within a seed: their rank correlation has a lower or upper bound."""

    example = (
        "{over: moe_sweep, metric: test.bits_per_byte, against: cost.total_params, "
        "test: {kind: correlates, at_most: -0.5}}"
    )
    takes = ("over", "against")

    kind: Literal["correlates"]
    """correlates: how alike two metrics rank the models of a sweep."""
    at_least: Coefficient | None = None
    """Lower bound of Spearman's correlation."""
    at_most: Coefficient | None = None
    """Upper bound of it."""

    @model_validator(mode="after")
    def _one_bound(self) -> Correlates:
        if (self.at_least is None) == (self.at_most is None):
            raise FieldError("at_least", "give one of at_least and at_most, a correlation between -0.9 and 0.9")
        return self

    @property
    def value(self) -> float:
        return float(self.at_least if self.at_least is not None else self.at_most or 0.0)

    @property
    def words(self) -> str:
        return f"at {'least' if self.at_least is not None else 'most'} {self.value:g}"

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        points = sweeps.get(str(claim.over), {})
        if 0 < len(points) < LEAST:
            message = f"{claim.over} has {len(points)} models: a rank correlation needs at least {LEAST}"
            yield Fault(at=("over",), message=message, hint="sweep more values, or several keys")
        yield from of_seeds(metric)
        if claim.against is not None and metric_of(claim.against).kind not in ("seeded", "counted"):
            yield Fault(at=("against",), message=f"{claim.against} is neither a count nor has it a value for each seed")

    def says(self, claim: Claim) -> str:
        over = f"over the models of {claim.over}"
        return f"{claim.metric} and {claim.against} {over} have a rank correlation of {self.words}."

    def supported_if(self, claim: Claim) -> tuple[str, str]:
        what = f"the rank correlation of {claim.metric} and {claim.against} over the models of {claim.over}"
        return f"{what} is {self.words}", f"it is {'less' if self.at_least is not None else 'more'}"

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        names = list(sweeps.get(str(claim.over), {}))
        if len(names) < LEAST or claim.against is None:
            raise Withheld("invalid", f"{claim.over} has {len(names)} models: a rank correlation needs {LEAST}")
        sign = 1 if self.at_least is not None else -1
        metrics = (claim.metric, claim.against)
        terms = tuple(Term(model=name, metric=metric, weight=1.0) for metric in metrics for name in names)
        bound = Level(sign * math.atanh(SHRUNK * self.value))
        return Hypothesis(
            contrast=Contrast(terms=terms, log=False, sided=False, formed=rank_correlation(names, metrics, sign)),
            support=(bound.above(),),
            refute=(bound.below(),),
            reading=Reading(form="correlation", sign=sign, unit="1", threshold=math.atanh(SHRUNK * self.value)),
            asked=f"{'≥' if sign > 0 else '≤'} {self.value:g}",
        )


def rank_correlation(names: Sequence[str], metrics: tuple[str, str], sign: int) -> Form:
    """Fisher's z of Spearman's correlation, of values in the order metric by metric, model by model."""

    def form(values_ST: Array) -> Array:
        one_SM, other_SM = np.split(values_ST, 2, axis=1)
        for metric, values_SM in zip(metrics, (one_SM, other_SM), strict=True):
            if np.any(np.ptp(values_SM, axis=1) == 0):
                raise ValueError(f"{metric} is the same in all {len(names)} models: it ranks none of them")
        return sign * fisher_z(ranks(one_SM), ranks(other_SM))

    return form


def ranks(values_SM: Array) -> Array:
    """Ranks in each row from 0; equal values share the middle of theirs."""
    below = np.sum(values_SM[:, None, :] < values_SM[:, :, None], axis=2)
    equal = np.sum(values_SM[:, None, :] == values_SM[:, :, None], axis=2)
    return np.asarray(below + (equal - 1) / 2, dtype=np.float64)


def fisher_z(one_SM: Array, other_SM: Array) -> Array:
    """Fisher's z of each row's correlation, which is shrunk a little first."""
    one, other = (x - np.mean(x, axis=1, keepdims=True) for x in (one_SM, other_SM))
    norm = np.sqrt(np.sum(one**2, axis=1) * np.sum(other**2, axis=1))
    return np.asarray(np.arctanh(SHRUNK * np.clip(np.sum(one * other, axis=1) / norm, -1, 1)), dtype=np.float64)
