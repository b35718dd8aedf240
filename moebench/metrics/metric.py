"""What a number means, and the number: `Metric`, its range, and `Record`.

Unit, direction, range, version and everything else that is true of a metric whatever was measured stand once, on the
`Metric`; a record is a value with the metric's name. A measurement that could not be made is a record with a reason
and no value: never 0, -1 or NaN. Nothing is known here of files, models or statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from moebench.frozen import Frozen, later
from moebench.metrics.ref import labelled

Better = Literal["lower", "higher", "neither"]
Kind = Literal["counted", "seeded", "timed", "event", "laddered"]

ROUNDING = 1e-6
"""How far a computed number may lie beyond an exact bound."""
MOST = 1e30
"""Nothing that is measured is larger, or smaller than its inverse without being 0."""
IMPOSSIBLE = ": impossible"
"""How the reason ends of a value that was measured and cannot be."""


class Range(Frozen):
    """The values a measurement can have. What lies outside was measured wrongly, whatever it is compared with."""

    low: float | None = None
    above: float | None = None
    """A bound that is itself outside: a time is above 0."""
    high: float | None = None
    whole: bool = False
    """Whether it is a count."""

    def breaks(self, value: float) -> str | None:
        """How a value lies outside, beyond what rounding explains; None when it is possible."""
        slack = ROUNDING * max(1.0, abs(value))
        if self.low is not None and value < self.low - slack:
            return f"below {self.low:g}"
        if self.above is not None and value <= self.above:
            return f"not above {self.above:g}"
        if self.high is not None and value > self.high + slack:
            return f"above {self.high:g}"
        return "no whole number" if self.whole and value != int(value) else None


SHARE, COUNT, POSITIVE = Range(low=0, high=1), Range(low=0, whole=True), Range(above=0)
_OF_UNIT = {
    "1": Range(low=0),
    "bits/byte": Range(low=0),
    "bits/token": Range(low=0),
    "bytes": COUNT,
    "bytes/s": POSITIVE,
    "bytes/token": COUNT,
    "documents": COUNT,
    "epochs": Range(low=0),
    "experts": COUNT,
    "FLOPs": Range(low=0),
    "FLOPs/s": POSITIVE,
    "FLOPs/token": Range(low=0),
    "parameters": COUNT,
    "s": POSITIVE,
    "tokens": COUNT,
}
"""Range of a metric that states none."""


class Metric(Frozen):
    """What a number means."""

    name: str
    unit: str
    better: Better = "lower"
    kind: Kind = "seeded"
    """counted: exact, no interval; seeded: one value a seed; timed: one value a fresh process; event: a crossing;
    laddered: a place on a ladder of dense models, one a seed."""
    version: int = 1
    """Raised when the definition changes: records of another version are refused, not mixed."""
    labels: tuple[str, ...] = ()
    """Keys allowed in brackets, as in `speed.decode_step_s[batch=8]`."""
    values: dict[str, tuple[str, ...]] = Field(default={})
    """Label -> its values, where they are the same for every suite."""
    amounts: dict[str, Range] = later({})
    """Label -> the numbers that its values can be, where they are numbers: a context, bits of a weight."""
    whole: bool = False
    """Whether it means the whole when it has no label; else it is nothing without its labels."""
    together: tuple[str, ...] = later(())
    """Labels that may be left out, of one that is nothing without the others: it then means all their values."""
    retired: str | None = None
    """Why nothing is claimed about it any more, and what to use; old records stay readable, new ones are not made."""
    says: str
    """One line for `moebench list metrics`."""
    cannot: str
    """What it cannot say: the rest of that line."""
    same_each_time: bool = False
    """Whether the same run measured again gives the same number: equal values of several seeds are then exact."""
    within: Range = Range()
    """The values it can have; those of its unit unless stated."""
    chance: float | None = None
    """What guessing gets, where that is known: of a choice among four 0.25."""
    asked_by: tuple[str, ...] = ()
    """What of a suite's `measure` block must be there for a claim about it: `memory`, `routing`, `speed`,
    `speed.train_step`, or a word of `quality` or `probes`; nothing for what every suite has."""
    unclaimable: tuple[str, str | None] | None = None
    """Why no claim is about it, and what to claim instead."""
    fixed: Callable[[Any], str | None] | None = None
    """Given a model's `Architecture`: why its value follows from how the model or the suite is made, so that no
    outcome could speak against a claim; None where it can vary."""
    rests_on_loss: bool = False
    """Whether it is, or is computed from, language-modelling loss."""
    of_mixtures: bool = False
    """Whether dense models have none."""
    of_scored_text: bool = later(False)
    """Whether it is of all the text that test.bits_per_byte is scored on, where its name does not say so."""
    of_systems: bool = later(False)
    """Whether only published systems have it."""
    modelled: bool = later(False)
    """Whether it follows from what a claim states of a place that is not here, and is measured nowhere."""
    convention: str | None = later()
    """What is counted and what is not, where publishers differ."""
    timed_by: str | None = None
    """The time that it is computed from, where it is none itself."""

    @model_validator(mode="before")
    @classmethod
    def _range_of_its_unit(cls, facts: dict[str, Any]) -> dict[str, Any]:
        lists = {name: tuple(value) for name, value in facts.items() if isinstance(value, list)}  # as JSON has them
        values = {name: tuple(value) for name, value in facts.get("values", {}).items()}
        return {"within": _OF_UNIT.get(facts.get("unit", ""), Range()), **facts, **lists, "values": values}

    def record(
        self, value: float | None = None, *, step: int | None = None, reason: str | None = None, **labels: object
    ) -> Record:
        """A record of it, stamped with the version of its definition; an impossible value becomes a reason."""
        name = labelled(self.name, **labels)
        if value is not None and (why := self.impossible(value, name=name)) is not None:
            value, reason = None, why
        return Record(metric=name, value=value, reason=reason, step=step, version=self.version)

    def impossible(self, value: float, *, name: str | None = None) -> str | None:
        """Why it cannot have this value, under its name with labels; None when it can."""
        how = self.within.breaks(value) if math.isfinite(value) else None
        if how is None and math.isfinite(value) and value != 0 and not 1 / MOST <= abs(value) <= MOST:
            how = "beyond any measurement"
        return None if how is None else f"{name or self.name} {value!r} is {how}{IMPOSSIBLE}"


class Record(Frozen):
    """One number, or the reason why there is none. A word or a truth value is no number."""

    model_config = ConfigDict(strict=True)

    metric: str
    """Name in `METRICS`, with its labels in brackets if it has any."""
    value: float | int | None = None
    reason: str | None = None
    """Why there is no value; absent when there is one."""
    step: int | None = None
    """Training step at which it was measured; absent for facts of a whole run."""
    version: int = 1

    @model_validator(mode="after")
    def _value_or_reason(self) -> Record:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"{self.metric}: a record has a value or a reason, not both or neither")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.metric}: {self.value} is not a measurement; give a reason instead")
        return self
