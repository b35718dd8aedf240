"""What every kind of claim has: its `test:` block, what it needs of a suite, its words, and its hypothesis.

A kind is a type of the suite's language whose fields are those of `test:`; the rest of what it is stands beside them
as class variables and methods. `KINDS` (in the package) is all the house knows of kinds: the suite's types and schema,
`list claims`, `plan` and the judge take them from there. Parts that several kinds share are functions at the foot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict

from moebench.amounts import Amount
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Reading, Withheld, as_written, orientation
from moebench.claims.kinds.part import Known, Parts
from moebench.claims.kinds.part import Sweeps as Sweeps
from moebench.claims.kinds.published import over_systems
from moebench.claims.kinds.spread import over_places
from moebench.format import TIMES, exact_number
from moebench.frozen import Frozen, later
from moebench.metrics import metric_of
from moebench.metrics.metric import Metric

if TYPE_CHECKING:
    from moebench.suite.claim import Claim, Compare


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a claim cannot be tested as it stands."""

    at: tuple[str, ...]
    """Keys from the claim to the value at fault."""
    message: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class AskedEffect:
    """The least difference a claim asks for, or the largest it allows."""

    size: float
    relative: bool
    """Whether the size is a share, and not in the metric's unit."""
    words: str
    allowed: bool = False
    """Whether it is allowed and not asked for: the larger, the easier."""


class ClaimKind(Frozen, ABC):
    """A kind of claim: the `test:` block of a suite, and what it means."""

    example: ClassVar[str]
    """A claim of this kind as a suite has it, for `moebench list claims`."""
    takes: ClassVar[tuple[str, ...]] = ("compare",)
    """The keys of a claim that it needs beside metric and test; others of `SIDES` are refused."""
    may: ClassVar[tuple[str, ...]] = ()
    """Those that it takes where they are given."""
    of_sweeps: ClassVar[bool] = False
    """Whether `compare` names two swept models instead of two models."""
    directed: ClassVar[bool] = False
    """Whether it asks which is better, so that the metric must have a better direction."""
    of_two: ClassVar[bool] = False
    """Whether it compares two models in one metric, as a difference or a ratio: so it may be asked of a crossing, and
    decides which of the two a title calls lower."""
    divides: ClassVar[bool] = False
    """Whether its number is the baseline over the treatment where lower is better: a speed-up."""
    without_chance: ClassVar[bool] = False
    """Whether it is settled without an interval, so that no correction for chance concerns it."""
    measures: ClassVar[bool] = True
    """Whether it is about a metric, and not about other claims or what others found."""
    cites: ClassVar[bool] = False
    """Whether it passes on what a source says, which is no verdict."""
    spreads: ClassVar[bool] = True
    """Whether it may be asked in several places, with `in`."""
    of_points: ClassVar[bool] = False
    """Whether `compare` may name swept models, at whose points it is asked."""

    model_config = ConfigDict(serialize_by_alias=True)

    kind: str
    in_: Literal["every", "some", "median"] | Amount | None = later(alias="in")
    """In how many of several domains, labels, points of a sweep or published systems it holds: `every`, `some`, or a
    share such as 75%; of systems also their `median`, to which a family counts once a year."""

    @property
    def combines(self) -> tuple[str, ...]:
        """Other claims of the suite that it puts together."""
        return ()

    def parts(self, claim: Claim, known: Known) -> Parts | None:
        """What a claim of several parts is made of; None for one of a single contrast. Raises Withheld for no parts."""
        return over_places(claim, known) if claim.systems is None else over_systems(claim, known)

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        """What of a claim does not fit this kind, names and keys being right; `minus` is None where there is none."""
        yield from ()

    @abstractmethod
    def says(self, claim: Claim) -> str:
        """A sentence for a claim that has none of its own."""

    @abstractmethod
    def supported_if(self, claim: Claim) -> tuple[str, str]:
        """What supports and what refutes a claim, in words."""

    @abstractmethod
    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        """What is asked of the numbers. Raises Withheld for a claim that cannot be judged."""

    def asked_effect(self) -> AskedEffect | None:
        """How large an effect it turns on; None where that is no difference between two models."""
        return None

    def equal_within(self, usual: float | None) -> Iterator[float]:
        """Differences from equality, as shares, that it turns on; one in the metric's unit is over `usual`."""
        yield from ()


class MarginKind(ClaimKind):
    """A kind whose bound is a margin around equality."""

    margin: Amount
    """`0.5%` is a ratio; a bare number is in the metric's unit."""
    allows: ClassVar[bool] = False
    """Whether the margin is what is allowed and not what is asked for."""

    def check(self, claim: Claim, metric: Metric, minus: Metric | None, sweeps: Sweeps) -> Iterator[Fault]:
        margin, factor = self.margin, "a share below 100% is meant, or ratio_at_least with a factor"
        yield from below_zero("margin", margin)
        if margin.relative and margin.value >= 1 and self.bounds_below(metric):
            message = f"margin {margin}: nothing can be {margin} lower"
            yield Fault(at=("test", "margin"), message=message, hint=factor)
        elif not margin.relative and margin.value > 0 and metric.kind in {"timed", "event", "laddered"}:
            percentage = f"{metric.name} is compared as a ratio: write a percentage, such as 10%"
            message = f"margin {margin} has no unit that fits"
            yield Fault(at=("test", "margin"), message=message, hint=percentage)
        yield from self.fits_minus(metric, minus)

    def fits_minus(self, metric: Metric, minus: Metric | None) -> Iterator[Fault]:
        """Differences in two metrics are subtracted in one unit, or as percentages."""
        if minus is not None and metric.unit != minus.unit and not self.margin.relative:
            message = f"{metric.unit} and {minus.unit} cannot be subtracted"
            yield Fault(at=("minus",), message=message, hint="give the margin as a percentage")

    def by(self, claim: Claim) -> str:
        """The margin in words."""
        return amount_words(self.margin, claim.metric)

    def level(self, sign: int, *, better: bool) -> Level:
        """The oriented effect of being better, or worse, by just the margin.

        A relative margin bounds the percentage that is printed: 0.5% lower means a ratio below 0.995.
        """
        towards, exact = 1 if better else -1, exactly(self.margin)
        if not self.margin.relative:
            return Level.of(towards * exact)
        change = sign * towards * exact
        if change <= -1:
            raise Withheld("invalid", f"nothing can be {self.margin} lower")
        return Level.log((1 + change) ** sign)

    def reading(self, claim: Claim, sign: int) -> Reading:
        """A percentage for a relative margin, else a difference."""
        if self.margin.relative:
            return Reading(form="percent", sign=sign, unit="%")
        return Reading(form="difference", sign=sign, unit=metric_of(claim.metric).unit)

    def asked_better(self, claim: Claim, sign: int) -> str:
        """`≥ 0.5% lower`, or `lower` where the margin is 0."""
        word = "higher" if sign > 0 else "lower"
        return (f"≥ {self.by(claim)} {word}" if self.margin.value else word) + than(claim)

    def bounds_below(self, metric: Metric) -> bool:
        """Whether the margin asks how much lower a number may be: not by 100%."""
        return (metric.better == "higher") == self.allows

    def says(self, claim: Claim) -> str:
        return f"{between(claim)}: {self.kind.replace('_', '-')} with a margin of {self.margin}."

    def asked_effect(self) -> AskedEffect:
        margin = self.margin
        words = f"a margin of {margin if margin.relative else f'{margin} bits/byte'}"
        return AskedEffect(size=margin.value, relative=margin.relative, words=words, allowed=self.allows)

    def equal_within(self, usual: float | None) -> Iterator[float]:
        if self.of_two and self.margin.value and (self.margin.relative or usual):
            yield self.margin.value if self.margin.relative else self.margin.value / (usual or 1.0)


# ---------------------------------------------------------------------------------------------- in words


def amount_words(amount: Amount, metric: str) -> str:
    """`0.5%`, or `0.02 bits/byte`, or `1.5×`."""
    unit = metric_of(metric).unit
    if unit == "ratio" and not amount.relative:
        return f"{amount}{TIMES}"
    if amount.relative or unit in ("1", "year"):
        return str(amount)
    return f"{exact_number(amount.value) if abs(amount.value) >= LARGE else amount} {unit}"


def between(claim: Claim) -> str:
    """`moe against dense on test.bits_per_byte`, for sentences."""
    if claim.compare is None:
        return f"{claim.metric} of {claim.subject}"
    words = f"{claim.compare.treatment} against {claim.compare.baseline} on {claim.metric}"
    return words if claim.minus is None else f"{words} minus {subtracted(claim)}"


def subtracted(claim: Claim) -> str:
    """What `minus` names: a metric, or `moe_b over dense_b`."""
    minus = claim.minus
    if minus is None or isinstance(minus, str):
        return str(minus)
    return f"{minus.treatment} over {minus.baseline}"


def than(claim: Claim) -> str:
    """` than on test.bits_per_byte`, or ` than moe_b over dense_b`; empty where nothing is subtracted."""
    if claim.minus is None:
        return ""
    return f" than on {claim.minus}" if isinstance(claim.minus, str) else f" than {subtracted(claim)}"


def less(claim: Claim) -> str:
    """The same behind what supports or refutes a claim."""
    if claim.minus is None:
        return ""
    return f", less the same {'on' if isinstance(claim.minus, str) else 'of'} {subtracted(claim)}"


def divided(claim: Claim) -> str:
    """The same behind a ratio."""
    if claim.minus is None:
        return ""
    return f", divided by the same {'on' if isinstance(claim.minus, str) else 'of'} {subtracted(claim)}"


def better_and_worse(claim: Claim) -> tuple[str, str]:
    return ("higher", "lower") if metric_of(claim.metric).better == "higher" else ("lower", "higher")


def below_zero(name: str, amount: Amount) -> Iterator[Fault]:
    if amount.value < 0:
        yield Fault(at=("test", name), message=f"{name} {amount} is below 0")


def of_seeds(metric: Metric) -> Iterator[Fault]:
    """That a metric has a value for each seed."""
    if metric.kind != "seeded":
        message = f"{metric.name} has no value for each seed, over which this is judged"
        yield Fault(at=("metric",), message=message, hint="name a metric of trained models")


# ---------------------------------------------------------------------------------------------- in numbers


def compared(claim: Claim) -> Compare:
    if claim.compare is None:
        raise Withheld("invalid", "the claim does not say what is compared")
    return claim.compare


def direction(metric: str) -> int:
    """+1 when higher is better, -1 when lower is. Raises Withheld for neither."""
    sign = orientation(metric)
    if sign == 0:
        raise Withheld("invalid", f"neither a higher nor a lower {metric} is better")
    return sign


def difference(claim: Claim, sign: int, *, log: bool, oriented: bool = True) -> Contrast:
    """Treatment minus baseline, or the other way round for sign -1; less that in the metric, or of the pair, `minus`.

    A second metric has its own better direction, so that gains are subtracted from gains, unless not `oriented`.
    """
    pair, minus = compared(claim), claim.minus
    here = Contrast.of(claim.metric, {pair.treatment: sign, pair.baseline: -sign}, log=log)
    if minus is None:
        return here
    if not isinstance(minus, str):
        there = Contrast.of(claim.metric, {minus.treatment: -sign, minus.baseline: sign}, log=log)
        return here.plus(there, sided=False)
    if not log and metric_of(claim.metric).unit != metric_of(minus).unit:
        raise Withheld("invalid", f"{claim.metric} and {minus} have different units: give the margin in %")
    other = second_sign(claim.metric, minus) if oriented else sign
    return here.plus(Contrast.of(minus, {pair.treatment: -other, pair.baseline: other}, log=log), sided=True)


def second_sign(metric: str, minus: str) -> int:
    """The direction of a second metric beside that of the first. Raises Withheld where only one of them has any."""
    one, other = orientation(metric), orientation(minus)
    if (one == 0) != (other == 0):
        lacking = metric if one == 0 else minus
        raise Withheld("invalid", f"neither a higher nor a lower {lacking} is better")
    return other or 1


def exactly(amount: Amount) -> Fraction:
    """The number that somebody wrote: 0.7% reached us as 0.006999999999999999."""
    return Fraction(amount.value).limit_denominator(10**9) if amount.relative else as_written(amount.value)


LARGE = 1e6
"""From which on an amount is written in full, and not in powers of ten."""
RATIO = Reading(form="ratio", sign=1, unit="ratio")
