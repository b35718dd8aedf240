"""What a judgement says: `Verdict` on a claim, `ControlResult` on the instrument itself.

Both are numbers and words for a reader, complete when made; how they come about is the business of the other modules
of this package. Estimates and intervals are given as the metric reads (a loss that falls by 2% is -2%), not oriented
towards the claim.
"""

from __future__ import annotations

import math
from typing import Literal

from moebench.records import Frozen

State = Literal["supported", "refuted", "inconclusive", "interim", "invalid", "not_tested"]
"""`interim`: an estimate and no verdict, as not all is there that was planned for the claim."""
Unbounded = tuple[Literal["estimate", "low", "high"], ...]


class Verdict(Frozen):
    """One claim, judged."""

    id: str
    says: str
    state: State
    kind: str
    """Kind of test, such as `superior`."""
    family: Literal["primary", "exploratory"]
    """As the suite declares it; see `label`."""
    post_hoc: bool = False
    """Whether the claim was first stored after a run it uses was done: then it counts as exploratory."""
    looks: int = 1
    """How often it was looked at, this time included: p is multiplied by it."""
    metric: str
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
    units: Literal["pairs", "seeds", "processes", "counts"] = "pairs"
    """What n counts."""
    method: str = ""
    """How the interval was made, such as 'paired t over seeds'."""
    p: float | None = None
    """One-sided, in the asserted direction: the larger of the interval's own p and the exact sign-flip p."""
    p_adjusted: float | None = None
    """The same after Holm over the primary family; None outside it."""
    p_against: float | None = None
    """One-sided, in the direction that refutes."""
    p_against_adjusted: float | None = None
    reason: str
    """Why it is in this state, in words."""
    needs: str | None = None
    """For INCONCLUSIVE: the effect it could have seen and how many seeds or processes would decide."""
    detectable: float | None = None
    """Smallest distance from the asked bound, in `unit`, that this n sees with 80% power."""
    units_needed: int | None = None
    """Seeds or processes that would decide with 80% power if the effect is what was measured."""
    scope: str
    """Sizes, data, tokens and hardware for which it holds."""
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> Literal["primary", "exploratory", "post hoc"]:
        """How the claim counts: a post hoc claim is exploratory whatever the suite declares."""
        return "post hoc" if self.post_hoc else self.family

    @property
    def effect(self) -> str:
        """Estimate and interval with their unit, such as '-2.10% [-2.51, -1.69]'; empty when there is none."""
        return effect_text(self.estimate, self.low, self.high, self.unit, self.unbounded)


class ControlResult(Frozen):
    """A check of the instrument itself."""

    id: str
    """`same_model`, or `against_itself[<metric>]` for a timing raced against itself."""
    says: str
    model: str
    state: Literal["passed", "failed", "not_tested"]
    metric: str
    unit: str
    estimate: float | None = None
    low: float | None = None
    """Ends of the 99% interval."""
    high: float | None = None
    resolution: float | None = None
    """Half-width of the interval, in `unit`: what the suite cannot see below."""
    n: str = ""
    """What was compared, such as '4 seeds against 4'."""
    reason: str

    @property
    def effect(self) -> str:
        return effect_text(self.estimate, self.low, self.high, self.unit, ())


def effect_text(estimate: float | None, low: float | None, high: float | None, unit: str, unbounded: Unbounded) -> str:
    """`-2.10% [-2.51, -1.69]`: digits so that the interval's half-width shows two significant ones."""
    ends = [end for end in (estimate, low, high) if end is not None]
    if not ends:
        return "never reached" if "estimate" in unbounded else ""
    width = (high - low) / 2 if low is not None and high is not None else 0.0
    suffix, tail = {"%": ("%", ""), "ratio": ("x", "")}.get(unit, ("", f" {unit}"))
    signed = unit != "ratio" and low is not None
    middle = "unbounded" if estimate is None else number(estimate, width, signed=signed) + suffix
    if low is None and high is None and not {"low", "high"} & set(unbounded):
        return middle + tail
    left = "-inf" if low is None else number(low, width, signed=signed)
    right = "inf" if high is None else number(high, width, signed=signed)
    return f"{middle} [{left}, {right}]{tail}"


def number(value: float, half_width: float, *, signed: bool = False) -> str:
    """A number with as many decimals as leave two significant digits in `half_width`; six digits when it is 0."""
    sign = "+" if signed and value > 0 else ""
    if half_width <= 0:
        return sign + (f"{value:,.0f}" if abs(value) >= 1e6 else f"{value:.6g}")
    decimals = min(12, max(0, 1 - math.floor(math.log10(half_width))))
    shown = f"{value:,.{decimals}f}"
    return shown.lstrip("-") if float(shown.replace(",", "")) == 0 else sign + shown
