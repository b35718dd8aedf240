"""What a suite claims, as frozen types. The tests that would support or refute it are `claims.kinds`, one file each.

Whether a claim fits its suite is looked at in `check_claims`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, PositiveFloat, Tag, model_validator

from moebench.amounts import FieldError, Name
from moebench.claims.kinds import KINDS, ClaimKind
from moebench.frozen import Frozen, later
from moebench.suite.source import Source
from moebench.suite.systems import Selection

if TYPE_CHECKING:
    from moebench.claims.kinds.kind import Sweeps

    AnyKind = ClaimKind
else:
    AnyKind = Annotated[Union[tuple(KINDS.values())], Field(discriminator="kind")]  # noqa: UP007


class Compare(Frozen):
    """The models of a claim."""

    treatment: Name
    """The model the claim is for; of a `trend`, a swept model."""
    baseline: Name
    """The model it is compared with; of a `trend`, one that is swept over the same values, or a single model."""
    ceiling: Name | None = None
    """For `recovers`: the model whose gain over the baseline is to be recovered."""


class Pair(Frozen):
    """Two models whose difference is held against that of the models compared."""

    treatment: Name
    """The model whose gain it is."""
    baseline: Name
    """The model it is compared with."""


def _minuend(value: Any) -> str:
    return "metric" if isinstance(value, str) else "pair"


Minus = Annotated[Annotated[str, Tag("metric")] | Annotated[Pair, Tag("pair")], Discriminator(_minuend)]


class Target(Frozen):
    """What a cost is the cost of: the quality to reach, or the dense models of which one is as good."""

    reach: Name | PositiveFloat | None = later()
    """A model of the suite, to whose final mean quality, or bits per byte fixed beforehand."""
    ladder: Name | None = later()
    """A `ladder` of dense models of the suite."""
    on: str | None = later()
    """With `reach`: the quality, where it is not bits per byte: task.answer_bits[task=NAME]."""

    @model_validator(mode="after")
    def _one(self) -> Target:
        if (self.reach is None) == (self.ladder is None):
            raise FieldError("reach", "a target is {reach: MODEL} or {ladder: NAME}, one of the two")
        if self.on is not None and self.reach is None:
            raise FieldError("on", "a ladder is of bits per byte: `on` is for {reach: MODEL}")
        return self


class Claim(Frozen):
    """One sentence that a suite tests, and the test."""

    says: Annotated[str, Field(min_length=1, max_length=400)]
    """The claim in one sentence."""
    compare: Compare | None = None
    """The models compared; in a metric that is counted they may be published systems."""
    over: Name | None = None
    """For tests over a sweep: the swept model."""
    along: str | None = None
    """For tests over a sweep: the swept key, such as ffn.experts."""
    model: Name | None = None
    """For `exact`: a model of the suite or a published system."""
    systems: Selection | None = later()
    """In the place of `model`: published systems, of which `in` says how many it is to hold for, or their `median`."""
    metric: str = later("")
    """A metric with its labels, such as speed.decode_step_s[batch=8]; `*` for every value of a label, with `in`. None
    for `all_of` and `any_of`."""
    minus: Minus | None = None
    """What is subtracted: the difference in a second metric, or of a second pair of models in the same metric."""
    share_of: Pair | None = later()
    """For `recovers`: two models whose difference is the gain of which a share is asked."""
    against: str | None = later()
    """For `correlates`: the second metric."""
    across: Literal["data"] | None = later()
    """data: the models are trained on different parts of the text, and that is what is claimed. Else they must have
    the same `data:`."""
    test: AnyKind
    """What would support or refute the claim."""
    target: Target | None = None
    """For tokens_to_quality, flops_to_quality and seconds_to_quality: `reach`; for effective sizes and leverage:
    `ladder`."""
    family: Literal["primary", "exploratory"] = "exploratory"
    """Primary claims are corrected for their number; the others are labelled exploratory."""
    source: Source | None = later()
    """Where it was published: the verdict then says whether it was reproduced at this scale."""

    @property
    def hashed(self) -> dict[str, Any]:
        """What its hash is of: the claim and its test, not who said it, unless that is all there is."""
        return self.model_dump(mode="json", exclude=set() if self.test.cites else {"source"})

    @property
    def subject(self) -> str:
        """What a claim about one model is about, in words."""
        return self.systems.words if self.systems is not None else str(self.model or self.over)

    @property
    def selects(self) -> str:
        """Which published systems are counted for it, and in what: `shape.experts of published mixtures`."""
        return f"{self.metric} of {self.subject}"

    @property
    def metrics_at(self) -> dict[str, str]:
        """Those that it rests on, by the key that names each."""
        minus = self.minus if isinstance(self.minus, str) else None
        named = {"metric": self.metric, "minus": minus, "against": self.against}
        return {key: metric for key, metric in named.items() if metric}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that it rests on; none of a claim that puts others together."""
        return tuple(self.metrics_at.values())

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The models that it holds against each other, and then the two differences against each other.

        Of a test of two sweeps they are the swept models; `about` has their points.
        """
        sides = [self.compare, self.minus if isinstance(self.minus, Pair) else None, self.share_of]
        return tuple(
            tuple(filter(None, (side.treatment, side.baseline, getattr(side, "ceiling", None))))
            for side in sides
            if side is not None
        )

    def about(self, sweeps: Sweeps) -> tuple[str, ...]:
        """Every model whose numbers it compares, in the place of a swept model each of its points."""
        named = (*(name for group in self.groups for name in group), self.over, self.model)
        every = (point for name in named if name is not None for point in sweeps.get(name, (name,)))
        return tuple(dict.fromkeys(every))
