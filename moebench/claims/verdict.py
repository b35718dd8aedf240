"""What a judgement says: `Verdict` on a claim, `ControlResult` on the instrument itself.

Both are numbers and words for a reader, complete when made; how they come about is the business of the other modules
of this package. Estimates and intervals are given as the metric reads (a loss that falls by 2% is -2%), not oriented
towards the claim.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moebench.claims.kinds import KINDS
from moebench.claims.kinds.tokens_to_overtake import OF_BUDGET
from moebench.format import INFINITE, MINUS, End, exact_quantity, interval
from moebench.frozen import Frozen, later
from moebench.metrics import find
from moebench.metrics.metric import Better
from moebench.metrics.ref import MetricRef
from moebench.suite.source import Source

State = Literal["supported", "refuted", "inconclusive", "interim", "invalid", "not_tested", "cited"]
"""`interim`: an estimate and no verdict, as not all is there that was planned for the claim. `cited`: what a source
says, which is no verdict."""
ControlState = Literal["passed", "failed", "too_wide", "found", "not_tested"]
"""`too_wide`: the interval holds both an instrument that is right and one that is off by more than is allowed. `found`:
it has no right answer, and what it found stands beside the claims that it bears on."""
FINDINGS: dict[State, str] = {"supported": "reproduced", "refuted": "contradicted", "inconclusive": "undecided"}
"""State -> what a published finding is then called."""
TRIFLE = 0.01
"""Numbers of two models that differ by less are called equal."""
FORMULA = "formula"
"""The method of what is modelled."""
Unbounded = tuple[Literal["estimate", "low", "high"], ...]


class Scored(Frozen):
    """The text that a quality was scored on."""

    scored_bytes: int
    documents: int
    asked_bytes: int
    """What the suite asked for, over all domains."""
    there_are: int | None
    """Bytes of the whole split; None when that is not known."""
    domain: str | None = None
    """Of which domain alone these are the bytes and documents; None for all."""

    @property
    def is_all(self) -> bool:
        """Whether it is known to be all the text there is."""
        return self.there_are is not None and self.scored_bytes >= self.there_are


class Beside(Frozen):
    """A fact of the models of a claim, one beside the other."""

    what: str
    """Such as 'active parameters'."""
    values: dict[str, int | float | str | None]
    """Model -> its value; None where it is not known."""
    ratio: float | None = None
    """Treatment over baseline, of a number."""

    @property
    def differs(self) -> bool:
        """Whether the models differ by more than a trifle, 1% of a number."""
        known = [value for value in self.values.values() if value is not None]
        numbers = [value for value in known if not isinstance(value, str)]
        if len(numbers) < len(known) or not numbers:
            return len(set(known)) > 1
        return max(numbers) > (1 + TRIFLE) * min(numbers)


class Effect(Frozen):
    """An effect as the metric reads."""

    estimate: float
    low: float | None = None
    """Ends of its 95% interval; None where there is one seed."""
    high: float | None = None

    def words(self, unit: str) -> str:
        return interval(self.estimate, self.low, self.high, unit, signed=unit != "ratio")


class Sensitivity(Frozen):
    """What a claim's effect is in the runs of the tuning sweep, at the best and at the second-best rates."""

    rates: dict[str, float] = Field(default={})
    """Model -> its second-best rate, one of the two next to its best."""
    seeds: int = 0
    """Tuning seeds that it rests on."""
    at_best: Effect | None = None
    """With every model at its best rate."""
    at_second: Effect | None = None
    """With every model at its second-best rate: this is held against the verdict."""
    alone: dict[str, Effect] = Field(default={})
    """Model -> the effect with it alone at its second-best rate, the others at their best: a handicap for it."""
    reason: str | None = None
    """Why there are no numbers, or no interval."""


class Verdict(Frozen):
    """One claim, judged."""

    id: str
    says: str
    state: State
    kind: str
    """Kind of test, such as `superior`."""
    family: Literal["primary", "exploratory"]
    """As the suite declares it; see `label`."""
    source: Source | None = later()
    """Where it was published, where the suite says so."""
    post_hoc: bool = False
    """Whether the claim, its models' definitions or its seeds were fixed after a run it uses was done: then it counts
    as exploratory."""
    looks: int = 1
    """How often it could be looked at, on other runs or sessions of its models too: p is multiplied by it."""
    look: int | None = later()
    """Of the looks that its suite planned the one that it is of, from 1; None where it planned none."""
    metric: str
    minus: str | None = later()
    """What was subtracted from the comparison: a second metric, or another pair of models."""
    better: Better | None = later()
    """Direction of the metric, where its suite or a task says it and not moebench."""
    treatment: str | None = None
    baseline: str | None = None
    """What the treatment is compared with; None for a trend or an exact value."""
    unit: str
    """Of estimate and interval: '%' (change from baseline to treatment), 'ratio', or the metric's own unit."""
    estimate: float | None = None
    low: float | None = None
    """Lower end of the 95% interval, unadjusted for other claims; None when there is none (see `unbounded`)."""
    high: float | None = None
    low90: float | None = None
    """Ends of the 90% interval, where two one-sided tests decide."""
    high90: float | None = None
    item_low: float | None = None
    """Ends of the 95% interval clustered over documents, where documents are known."""
    item_high: float | None = None
    unbounded: Unbounded = ()
    """Which of estimate, low and high are infinite, because runs never got there or diverged."""
    share: float | None = None
    """For `recovers`: the recovered share of the ceiling's gain, in %; the estimate is the contrast that decides."""
    share_low: float | None = None
    """Ends of its Fieller interval over seeds, 95%."""
    share_high: float | None = None
    asked_low: float | None = None
    """Ends of the range the claim asks for, in `unit`; None where that side is open."""
    asked_high: float | None = None
    asked: str
    """The same in words, such as '>= 0.5% lower'."""
    n: int = 0
    units: Literal["seeds", "processes", "counts", "items"] = "seeds"
    """What n counts."""
    method: str = ""
    """How the interval was made, such as 'exact sign flips over seeds'."""
    p: float | None = None
    """One-sided, in the asserted direction, exact under flips of signs."""
    p_adjusted: float | None = None
    """The same after Holm over the primary family; None outside it."""
    p_against: float | None = None
    """In the direction that refutes; doubled where there are two."""
    p_against_adjusted: float | None = None
    reason: str
    """Why it is in this state, in words."""
    needs: str | None = None
    """For INCONCLUSIVE: the effect it could have seen and how many seeds or processes would decide."""
    detectable: float | None = None
    """Smallest distance from the asked bound, in `unit`, that this n sees with 80% power."""
    units_needed: int | None = None
    """Seeds, processes, or items or groups of them that would decide with 80% power if the effect is what was
    measured."""
    units_low: int | None = None
    """Ends of the range of that number which the measured effect leaves; the upper is None where there is none."""
    units_high: int | None = None
    holds: bool | None = later()
    """Of what is cited: whether it holds by its source."""
    systems: tuple[str, ...] = later(())
    """The published systems that were counted, where a claim selects them."""
    sensitivity: Sensitivity | None = later()
    """The same at the second-best rate of each model, for claims on loss of suites with a tuning sweep."""
    scored: Scored | None = None
    """The text that its metric was scored on, the least of its models'; None for what is scored on none."""
    beside: tuple[Beside, ...] = ()
    """What its models are and how they were trained, treatment beside baseline."""
    matched_on: tuple[str, ...] = ()
    """Quantities in which matches tie treatment to baseline; empty when they are not matched."""
    scope: str
    """Sizes, data, tokens and hardware for which it holds."""
    notes: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    """What stands beside the state in every view, each in a few words; the notes have them in full."""
    parts: tuple[Verdict, ...] = later(())
    """Of a claim of several parts each of them, as if it stood alone and uncorrected."""
    shown: str | None = later()
    """The part whose estimate and interval stand for the claim's: by p the one on which it turns."""

    @property
    def label(self) -> Literal["primary", "exploratory", "post hoc"]:
        """How the claim counts: a post hoc claim is exploratory whatever the suite declares."""
        return "post hoc" if self.post_hoc else self.family

    @property
    def modelled(self) -> bool:
        """Whether its number follows by formula from what the claim states, and was measured nowhere."""
        return self.method.startswith(FORMULA)

    @property
    def finding(self) -> str:
        """What became of a published finding at this scale; empty for a claim without a source, or that only cites."""
        judged = self.source is not None and self.state != "cited"
        return FINDINGS.get(self.state, "no verdict") if judged else ""

    @property
    def standing(self) -> str:
        """The label, and whether chance was let off for the number of such claims: `exploratory, uncorrected`."""
        if self.state == "cited":
            return "not tested here"
        return self.label if self.label == "primary" or self.p is None else f"{self.label}, uncorrected"

    @property
    def effect(self) -> str:
        """Estimate and interval with their unit, as every view prints them: `−2.10% [−2.51, −1.69]`.

        For `recovers` it is the share that a reader wants, not the contrast. A side that is infinite, as a run never
        got there or diverged, says so in the number's place. Empty when nothing was measured.
        """
        if self.shown is not None:
            return next((part.effect for part in self.parts if part.id == self.shown), "")
        if self.holds is not None:
            return "true" if self.holds else "false"
        if self.share is not None:
            return f"{interval(self.share, self.share_low, self.share_high, '%', signed=False)} recovered"
        if self._of_one and self.estimate is not None and self.low == self.high and not self.unbounded:
            return exact_quantity(self.estimate, self.unit)
        if self.estimate is None:
            down = "low" in self.unbounded and "high" not in self.unbounded
            words = self._infinite(up=not down) if "estimate" in self.unbounded else ""
            if words and not down and self.low is not None and self._on_a_ladder and not self._at_zero(self.low):
                words += f"; at least {interval(self.low, None, None, self.unit, signed=self._signed)}"
            return words
        low: End = self._infinite(up=False) if "low" in self.unbounded or self._at_zero(self.low) else self.low
        high: End = self._infinite(up=True) if "high" in self.unbounded else self.high
        if self._at_zero(self.estimate):
            last = interval(self.high, None, None, self.unit, signed=self._signed)
            return f"{self._infinite(up=False)}; at most {last}" if self.high is not None else self._infinite(up=False)
        return interval(self.estimate, low, high, self.unit, signed=self._signed)

    @property
    def of_two(self) -> bool:
        """Whether it compares two models in one metric and nothing else."""
        return KINDS[self.kind].of_two and self.minus is None

    @property
    def _of_one(self) -> bool:
        """Whether the estimate is a number of one model, and no change."""
        return "model" in KINDS[self.kind].takes

    @property
    def _signed(self) -> bool:
        return self.unit not in ("ratio", OF_BUDGET) and not self._of_one

    def _at_zero(self, value: float | None) -> bool:
        """Whether a ratio or a change stands for an infinite cost in its denominator."""
        if self._of_one:
            return self._on_a_ladder and value == 0
        infinitely_less = {"ratio": 0.0, "%": -100.0}
        return value is not None and value == infinitely_less.get(self.unit)

    @property
    def _on_a_ladder(self) -> bool:
        metric = find(MetricRef.parse(self.metric))
        return metric is not None and metric.kind == "laddered"

    def _infinite(self, *, up: bool) -> str:
        """What an end without a number means: which model did not reach the quality, or diverged."""
        metric = find(MetricRef.parse(self.metric))
        better = metric.better if metric is not None else self.better
        if self._on_a_ladder and self.minus is None:
            return "beyond the ladder"
        if self.treatment is None or self.baseline is None or not self.of_two:
            return INFINITE if up else f"{MINUS}{INFINITE}"
        # A larger number is more of the treatment, but for speed-ups, which divide the baseline by it.
        treatment = (up == (better != "higher")) != KINDS[self.kind].divides
        words = "not reached" if metric is not None and metric.kind == "event" else "diverged"
        return words if treatment else f"baseline {words}"


class ControlResult(Frozen):
    """A check of the instrument itself."""

    id: str
    """`same_model`, `shuffled[<model>]`, `handicap`, `round_robin`, `one_expert`, or `against_itself[<metric>]` for a
    timing raced against itself."""
    says: str
    model: str
    state: ControlState
    metric: str
    unit: str
    estimate: float | None = None
    low: float | None = None
    """Ends of the 99% interval."""
    high: float | None = None
    resolution: float | None = None
    """Half-width of the interval, in `unit`."""
    n: str = ""
    """What was compared, such as '4 seeds against 4'."""
    reason: str

    @property
    def effect(self) -> str:
        """Estimate and its 99% interval, as `Verdict.effect` writes them."""
        return interval(self.estimate, self.low, self.high, self.unit) if self.estimate is not None else ""
