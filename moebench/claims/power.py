"""What it would take: the smallest effect that a claim could have seen, and how many seeds would decide it.

Both are for 80% power at the level the claim is held to, Holm's first step and the next look included: seeds that are
added to see more are another look. What an inconclusive claim has seen says little of how many seeds it needs, so the
number comes as a range: its ends are those of the 80% interval of the effect in standard deviations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moebench import stats
from moebench.claims import spread
from moebench.claims.best import BestOf
from moebench.claims.decide import ALPHA, MIN_ITEMS, MIN_UNITS, Finding, weigh
from moebench.claims.hypothesis import Bound, Guard, Hypothesis, Reading
from moebench.claims.samples import Sample
from moebench.claims.spread import SpreadRatio
from moebench.format import interval

_WIDE = 5
"""The ends of a range this many times apart say that it cannot be told."""

_CLOSE = 2
"""Bounds less than so many standard errors apart are refuted by what lies beyond either."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an inconclusive claim lacks."""

    words: str
    detectable: float | None = None
    """Smallest distance from the asked bound, in the printed unit, that is seen with 80% power at this n."""
    units: int | None = None
    """Seeds or processes that decide with 80% power if the effect is just what was measured."""
    low: int | None = None
    high: int | None = None
    """Ends of the range that the measured effect leaves; None where there is no upper end, or no number at all."""


def needs(
    finding: Finding, hypothesis: Hypothesis, sample: Sample, *, family: int, looks: float, share: int = 1
) -> Needs:
    """`family` is the number of primary claims, 0 for a claim outside them; `looks` those taken, this one included:
    how often the level is shared.

    Where it is of one part of several, the level is divided by `share`.
    """
    unit = _unit(sample)
    if sample.single and sample.n == 1 and math.isfinite(finding.centre):
        return _needs_of_one(finding, hypothesis, sample, family=family, looks=looks, share=share)
    if isinstance(sample.whole, SpreadRatio):
        return _needs_of_spread(sample.whole, hypothesis, family=max(1, family), looks=looks)
    if isinstance(sample.whole, BestOf):
        family = max(1, family) * sample.whole.differences_SK.shape[1]  # about what choosing the best takes
    if finding.sd is None:
        if np.all(np.isfinite(sample.effects)):
            return Needs(words=f"needs at least {MIN_UNITS} {unit}", units=MIN_UNITS, low=MIN_UNITS)
        return Needs(words=_unbounded(sample, hypothesis))
    spread = math.sqrt(finding.sd**2 + sample.n * finding.beside**2)
    error = spread / math.sqrt(sample.n)
    claim = _Level(
        finding,
        hypothesis,
        family=max(1, family),
        in_family=family > 0,
        standard_error=error,
        least=MIN_UNITS if sample.clusters is None else MIN_ITEMS,
        share=share,
    )
    if claim.nearest == 0 and finding.sd == 0:
        return Needs(words=f"identical in all {sample.n} {unit}, exactly at the threshold: more {unit} will not decide")
    if finding.sd == 0 and finding.beside == 0:
        floor = max(claim.floor(looks + 1), sample.n + 1)
        return Needs(words=f"needs at least {floor} {unit}", detectable=0.0, units=floor, low=floor)
    least = stats.detectable(sample.n, claim.alpha(looks)) * spread
    could, detectable = "too few for any effect to be seen", None
    if math.isfinite(least):
        in_unit = hypothesis.reading.show_distance(least)
        beyond = " beyond the threshold" if any(bound.value for bound in hypothesis.support) else ""
        detectable = None if _is_factor(hypothesis.reading) else in_unit
        could = f"smallest detectable effect {_distance(in_unit, hypothesis.reading)}{beyond} (80% power)"
    if finding.by_items:
        return Needs(
            words=f"{could}; score more test text, not more seeds, to narrow the interval", detectable=detectable
        )
    units, low, high = (claim.units(end, looks + 1, sample.n) for end in ("middle", "far", "near"))
    words = f"{could}; {_range(low, high, sample.n, unit)}"
    if sample.clusters is not None:
        words += f"; over training runs it needs at least {MIN_UNITS} of each model"
    return Needs(words=words, detectable=detectable, units=units, low=low, high=high)


def _unit(sample: Sample) -> str:
    if sample.clusters is not None:
        return "groups of items" if sample.clusters.grouped else "items"
    return "processes" if sample.units == "processes" else "seeds"


RUNS = (6, 10)
"""Runs a model for which a single number is told how little it may scatter."""


def _needs_of_one(
    finding: Finding, hypothesis: Hypothesis, sample: Sample, *, family: int, looks: float, share: int
) -> Needs:
    """What would decide where there is one number of each model: runs, by how much they scatter where that is known."""
    if sample.known_sd is not None:
        known = replace(finding, sd=sample.known_sd)
        level = _Level(known, hypothesis, family=max(1, family), in_family=family > 0, standard_error=0.0, share=share)
        units = level.units("middle", looks + 1, MIN_UNITS - 1)
        scatter = "if they scatter as the suite's other models do"
        if units is None:
            words = (
                f"the effect is so close to the threshold that 10,000 runs of each model would not decide, {scatter}"
            )
            return Needs(words=words)
        return Needs(words=f"{units} runs of each model would decide, {scatter}", units=units, low=units)
    level = _Level(finding, hypothesis, family=max(1, family), in_family=family > 0, standard_error=0.0, share=share)
    least = max(MIN_UNITS, level.floor(looks))
    words = f"needs at least {least} runs of each model"
    if level.nearest > 0:
        runs = [max(n, least) for n in RUNS]
        spreads = [level.nearest / stats.detectable(n, level.alpha(looks)) for n in runs]
        shown = [_distance(hypothesis.reading.show_distance(sd), hypothesis.reading) for sd in spreads]
        words += f": {runs[0]} decide if their difference has an SD of {shown[0]} or less over seeds"
        words += f", {runs[1]} if {shown[1]} or less" if runs[1] > runs[0] else ""
    return Needs(words=words, units=least, low=least)


def _needs_of_spread(own: SpreadRatio, hypothesis: Hypothesis, *, family: int, looks: float) -> Needs:
    """The same of a ratio of spreads, by simulation of normal pairs with the correlation that was measured."""
    above = own.centre - hypothesis.support[0].value
    toward = own if above > 0 else own.mirrored

    def units(distance: float, looks: float) -> int | None:
        def chance(n: int) -> float:
            return spread.power(n, distance, own.correlation, ALPHA / family / looks)

        needed = stats.smallest(chance) if distance > 0 else None
        return None if needed is None else max(needed, own.n + 1)

    least = spread.detectable(own.n, own.correlation, ALPHA / family / looks)
    could, ratio = "too few for any ratio of spreads to be seen", None
    if math.isfinite(least):
        ratio = hypothesis.reading.show_distance(least)
        shown = _distance(ratio, hypothesis.reading)
        could = f"smallest detectable ratio of spreads {shown} beyond the threshold (80% power)"
    ends = toward.interval(0.8)
    null = hypothesis.support[0].value if above > 0 else -hypothesis.support[0].value
    middle, low, high = (units(end - null, looks + 1) for end in (toward.centre, ends.high, ends.low))
    words = f"{could}; {_range(low, high, own.n, 'seeds')}"
    return Needs(words=words, detectable=ratio, units=middle, low=low, high=high)


def needs_of_guard(guard: Guard, sample: Sample, hypothesis: Hypothesis, *, looks: float) -> Needs:
    """The same for what keeps a verdict from standing."""
    if guard.must == "not be below 0":
        return Needs(words="to claim the ends alone, compare them with `superior`")
    if sample.units == "counts":
        return Needs(words="it is a count: more seeds will not decide")
    alone = guard_alone(guard, hypothesis)
    return needs(weigh(sample, alone), alone, sample, family=0, looks=looks)


def guard_alone(guard: Guard, hypothesis: Hypothesis) -> Hypothesis:
    """What a guard asks to be shown, as a hypothesis."""
    return replace(
        hypothesis,
        contrast=guard.contrast,
        support=(Bound(side="above", value=guard.zero),),
        refute=(Bound(side="below", value=guard.zero),),
        level=ALPHA,
        guards=(),
    )


def _range(low: int | None, high: int | None, n: int, unit: str) -> str:
    if low is None:
        return f"the effect is so close to the threshold that 10,000 {unit} would not decide"
    if high is None:
        why = f"{n} give no upper estimate, as the effect may lie at the threshold"
        return f"more {unit} are needed: at least {low}; {why}"
    if high > _WIDE * low:
        return f"more {unit} are needed: {low} to {high}, as far as {n} can tell"
    needed = f"{low} to {high}" if high > low else f"about {low}"
    return f"more {unit} are needed: {needed}"


class _Level:
    """How far a claim's effect lies from its bounds, in SDs, and the levels it is held to."""

    def __init__(
        self,
        finding: Finding,
        hypothesis: Hypothesis,
        *,
        family: int,
        in_family: bool,
        standard_error: float,
        least: int = MIN_UNITS,
        share: int = 1,
    ) -> None:
        self.least, self.share = least, share
        self.finding, self.family = finding, family
        beyond = [_beyond(finding.centre, b.value, b.side) for b in hypothesis.support]
        self.holds = all(distance > 0 for distance in beyond)
        against = max((_beyond(finding.centre, b.value, b.side) for b in hypothesis.refute), default=0.0)
        self.distances = beyond if self.holds else [against]
        self.nearest = min(self.distances)
        # Where either of two bounds refutes and they lie close together, each has half of the level.
        bounds = [bound.value for bound in hypothesis.refute]
        close = len(bounds) > 1 and abs(bounds[0] - bounds[1]) < _CLOSE * standard_error
        self.level = (ALPHA if in_family else hypothesis.level) if self.holds else ALPHA / (2 if close else 1)

    def alpha(self, looks: float) -> float:
        return self.level / self.family / looks / self.share

    def floor(self, looks: float) -> int:
        """The first n at which any effect can decide."""
        return max(self.least, math.ceil(-math.log2(self.alpha(looks))))

    def units(self, end: str, looks: float, n: int) -> int | None:
        """The n that decides with 80% power, above n, at one end of what the nearest distance can be."""
        moved = self.moved(end, n)
        if min(moved) <= 0:
            return None
        needed = stats.smallest(lambda units: self.chance(units, looks, moved))
        return None if needed is None else max(needed, self.floor(looks), n + 1)

    def moved(self, end: str, n: int) -> list[float]:
        """The distances, the nearest being as it was measured or at one end of what n units leave it."""
        sd, at = self.finding.sd or 0.0, self.nearest
        if end != "middle" and sd > 0:
            near, far = stats.effect_range(self.nearest / sd, n, 0.8)
            at = sd * (near if end == "near" else far)
        return [max(at, distance) if end == "far" else distance - self.nearest + at for distance in self.distances]

    def chance(self, units: int, looks: float, moved: list[float]) -> float:
        """Power of so many units where the effect lies so far from the bounds; 0 where they are too few for any."""
        if units < self.least:
            return 0.0
        spread = self.spread(units)
        effects = [min(distance / spread, 50.0) if spread else 50.0 for distance in moved]
        return 1 - sum(1 - stats.power(units, effect, self.alpha(looks)) for effect in effects)

    def spread(self, units: int) -> float:
        """SD of an effect, with what documents or step times add to a mean of so many."""
        return math.sqrt((self.finding.sd or 0.0) ** 2 + units * self.finding.beside**2)


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """What a claim can decide, as far as a pilot tells."""

    detectable: tuple[float | None, ...]
    """By look: the smallest distance from its bounds, as printed, that is seen with 80% power; None for none."""
    chance: tuple[float, ...]
    """By look: the chance that it is decided there, or before, if the effect is just what the pilot saw."""
    units: int | None
    """Seeds that decide with 80% power if the effect is just that, at the level of the last look."""
    low: int | None
    high: int | None
    """Ends of the range that the pilot leaves: its 80% interval."""


Weighed = tuple[Finding, Hypothesis, Sample]


def foresee(
    parts: Sequence[Weighed],
    *,
    need: int = 1,
    sizes: Sequence[int],
    times: Sequence[float],
    family: int,
    guards: Sequence[tuple[Guard, Weighed]] = (),
) -> Foresight | None:
    """What a claim that `need` of its parts must hold for can decide at looks of these sizes.

    `times` are how often the level is shared at each, `family` the primary claims, 0 for a claim outside them. None
    where a part has no scatter, or it is not known. That one of several parts fails is taken to be as likely as can be,
    and so is that one of the `guards` fails which its verdict needs.
    """
    if not parts or any(not finding.sd for finding, _, _ in (*parts, *(one for _, one in guards))):
        return None
    every = [_level_of(one, family=family, share=len(parts) - need + 1) for one in parts]
    holds = [level for level in every if level.holds]
    share, wanted, held = len(parts) - need + 1, need, holds
    if len(holds) < need:  # it is refuted when so many parts fail that the others are too few
        wanted = len(parts) - need + 1
        share = len(parts) - wanted + 1
        held = [level for level in every if not level.holds]
    for level in held:
        level.share = share
    verdict = "supported" if held is holds else "refuted"
    shown = [_level_of(one, family=family, share=1) for guard, one in guards if verdict in guard.blocks]
    n = min(sample.n for _, _, sample in parts)

    def chance(units: int, end: str, looks: float) -> float:
        each = sorted((level.chance(units, looks, level.moved(end, n)) for level in held), reverse=True)[:wanted]
        beside = [level.chance(units, looks, level.moved(end, n)) if level.holds else 0.0 for level in shown]
        return 1 - sum(1 - one for one in (*each, *beside))

    def needed(end: str) -> int | None:
        floor = max(level.floor(times[-1]) for level in (*held, *shown))
        found = stats.smallest(lambda units: chance(units, end, times[-1]))
        return None if found is None else max(found, floor)

    seen: list[float] = []
    for size, looks in zip(sizes, times, strict=True):
        seen.append(max([*seen, chance(size, "middle", looks), 0.0]))
    hypothesis, level = parts[0][1], max(held, key=lambda one: one.spread(sizes[-1]))
    least = [
        stats.detectable(size, level.alpha(looks)) * level.spread(size)
        for size, looks in zip(sizes, times, strict=True)
    ]
    return Foresight(
        detectable=tuple(hypothesis.reading.show_distance(x) if math.isfinite(x) else None for x in least),
        chance=tuple(seen),
        units=needed("middle"),
        low=needed("far"),
        high=needed("near"),
    )


def _level_of(one: Weighed, *, family: int, share: int) -> _Level:
    finding, hypothesis, sample = one
    error = math.sqrt((finding.sd or 0.0) ** 2 / sample.n + finding.beside**2)
    return _Level(finding, hypothesis, family=max(1, family), in_family=family > 0, standard_error=error, share=share)


def _beyond(centre: float, bound: float, side: str) -> float:
    return centre - bound if side == "above" else bound - centre


def _unbounded(sample: Sample, hypothesis: Hypothesis) -> str:
    """What to do about runs that leave an effect without an end."""
    diverged = Counter(run.model for run in sample.used if run.status == "diverged")
    if diverged:
        which = " and ".join(f"{count} of {model}" for model, count in diverged.items())
        return f"runs diverged ({which}): a lower learning rate or a tighter clip, for all models alike, and a new plan"
    if hypothesis.contrast.formed == "overtaking":
        return "the curves do not cross between the points that were scored: a longer budget, or earlier points"
    return "runs never reached the target: a longer budget, or an easier target"


def _distance(value: float, reading: Reading) -> str:
    if reading.form == "ratio":
        return f"a factor of {value:.3g}"
    return f"{value:.2g}%" if reading.unit == "%" else interval(value, None, None, reading.unit, signed=False)


def _is_factor(reading: Reading) -> bool:
    """Whether distances are factors though the number itself is none, as of a time on its log scale."""
    return reading.form == "ratio" and reading.unit != "ratio"
