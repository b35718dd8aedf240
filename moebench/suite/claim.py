"""What a suite claims, and the tests that would support or refute it, as frozen types.

The meaning of each kind of test is in `claims`; whether a claim fits its suite is looked at in `check_claims`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from moebench.amounts import Amount, FieldError, Name
from moebench.frozen import Frozen


class Compare(Frozen):
    """The models of a claim."""

    treatment: Name
    """The model the claim is for."""
    baseline: Name
    """The model it is compared with."""
    ceiling: Name | None = None
    """For `recovers`: the model whose gain over the baseline is to be recovered."""


class Superior(Frozen):
    """The treatment is better by more than the margin."""

    kind: Literal["superior"]
    """superior: better by more than the margin."""
    margin: Amount = Amount(value=0.0, relative=True)
    """`0.5%` is a ratio; a bare number is in the metric's unit."""


class NonInferior(Frozen):
    """The treatment is not worse by more than the margin."""

    kind: Literal["non_inferior"]
    """non_inferior: not worse by more than the margin."""
    margin: Amount
    """`0.5%` is a ratio; a bare number is in the metric's unit."""


class Equivalent(Frozen):
    """The two differ by less than the margin, either way."""

    kind: Literal["equivalent"]
    """equivalent: no further apart than the margin."""
    margin: Amount
    """`0.5%` is a ratio; a bare number is in the metric's unit."""


class RatioAtLeast(Frozen):
    """Baseline over treatment for metrics where lower is better, else treatment over baseline, is at least `value`."""

    kind: Literal["ratio_at_least"]
    """ratio_at_least: better by a factor."""
    value: PositiveFloat
    """The factor."""


class RatioWithin(Frozen):
    """Treatment over baseline, whatever the metric's direction, lies in [low, high]."""

    kind: Literal["ratio_within"]
    """ratio_within: a ratio between two bounds."""
    low: PositiveFloat
    """Lower bound of the ratio."""
    high: PositiveFloat
    """Upper bound of the ratio."""

    @model_validator(mode="after")
    def _order(self) -> RatioWithin:
        if self.low >= self.high:
            raise FieldError("low", f"low {self.low:g} is not below high {self.high:g}")
        return self


class Recovers(Frozen):
    """The treatment has at least this share of the ceiling's gain over the baseline."""

    kind: Literal["recovers"]
    """recovers: a share of the ceiling's gain."""
    value: Annotated[float, Field(gt=0, le=10)]
    """Share of the ceiling's gain over the baseline."""


class Trend(Frozen):
    """The metric rises or falls with the swept value."""

    kind: Literal["trend"]
    """trend: a direction over a swept value."""
    sign: Literal["rising", "falling"]
    """Which way the metric goes as the swept value rises."""


class Interaction(Frozen):
    """The treatment's effect on `metric` minus its effect on `minus` exceeds the margin."""

    kind: Literal["interaction"]
    """interaction: an effect on one metric beyond that on another."""
    margin: Amount = Amount(value=0.0, relative=False)
    """`0.5%` is a ratio; a bare number is in the metric's unit."""


class Exact(Frozen):
    """A count is what it is said to be."""

    kind: Literal["exact"]
    """exact: a count."""
    value: float
    """The count."""
    tolerance: Amount = Amount(value=0.0, relative=True)
    """Largest difference from it."""


Test = Annotated[
    Superior | NonInferior | Equivalent | RatioAtLeast | RatioWithin | Recovers | Trend | Interaction | Exact,
    Field(discriminator="kind"),
]


class Target(Frozen):
    """The quality to reach: a model's final mean quality, or bits per byte fixed beforehand."""

    reach: Name | PositiveFloat
    """A model of the suite, or bits per byte."""


class Claim(Frozen):
    """One sentence that a suite tests, and the test."""

    says: Annotated[str, Field(min_length=1, max_length=400)]
    """The claim in one sentence."""
    compare: Compare | None = None
    """The models compared."""
    over: Name | None = None
    """For `trend`: the swept model."""
    along: str | None = None
    """For `trend`: the swept key, such as ffn.experts."""
    model: Name | None = None
    """For `exact`: a model of the suite or a published system."""
    metric: str
    """A metric with its labels, such as speed.decode_step_s[batch=8]."""
    minus: str | None = None
    """For `interaction`: the second metric."""
    test: Test
    """What would support or refute the claim."""
    target: Target | None = None
    """For tokens_to_quality, flops_to_quality and seconds_to_quality."""
    family: Literal["primary", "exploratory"] = "exploratory"
    """Primary claims are corrected for their number; the others are labelled exploratory."""
