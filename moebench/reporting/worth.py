"""What each mixture is worth on a ladder of dense models: the numbers that the figure and the table of leverage share.

Places on the ladder are those of verdicts, seed by seed (`claims.effective`), with their exact interval; laws of the
mean losses stand beside them (`leverage.bootstrap`), from generators of a fixed seed, so that two builds agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moebench import stats
from moebench.claims.decide import ALPHA, weigh
from moebench.claims.effective import LOSS, Ladder
from moebench.claims.hypothesis import Contrast, Hypothesis, Level, Withheld
from moebench.claims.kinds.kind import RATIO
from moebench.claims.kinds.ratio_at_least import RatioAtLeast
from moebench.claims.samples import draw
from moebench.leverage.bootstrap import Reach, reaches
from moebench.leverage.place import Array, curve
from moebench.reader.evidence import Evidence
from moebench.reporting.analysis import Findings, Mean
from moebench.suite.claim import Claim, Target
from moebench.suite.model import DenseFFN

METRICS = ("effective_params", "effective_flops", "leverage.flops", "leverage.seconds", "leverage.bytes")
SEED = 20_261_126
LAWS = {False: "a C⁻ᵇ", True: "E + a C⁻ᵇ"}
"""The laws without and with a floor, as they are printed."""
_CARRIER = RatioAtLeast(kind="ratio_at_least", value=1)
"""The test of a claim of which only the target is read."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """One mixture on the ladder."""

    model: str
    values: Mapping[str, Mean]
    """Metric -> its value with its interval; ends are infinite, or 0, where the ladder ends. Without those that were
    not measured."""
    laws: Mapping[bool, Reach]
    """Leverage in FLOPs by the law of loss against compute without and with a floor, as logs; empty where seeds are
    missing."""

    @property
    def disagree(self) -> bool:
        """Whether the two laws give leverages whose intervals do not overlap."""
        if len(self.laws) < 2:
            return False
        one, other = self.laws[False], self.laws[True]
        return max(one.low, other.low) > min(one.high, other.high)


@dataclass(frozen=True)
class Worths:
    """A ladder of dense models and the mixtures that are held against it."""

    findings: Findings
    name: str

    @property
    def evidence(self) -> Evidence:
        return self.findings.study.evidence

    @cached_property
    def ladder(self) -> Ladder:
        return Ladder(self.evidence, self.name, tuple(self.findings.plan.spec.ladders[self.name]))

    @property
    def rungs(self) -> tuple[str, ...]:
        return self.ladder.rungs

    @cached_property
    def mixtures(self) -> tuple[str, ...]:
        """The trained mixtures of the ladder's budget."""
        planned = self.findings.plan.trained
        budget = planned[self.rungs[0]].train_tokens
        return tuple(
            name
            for name, model in planned.items()
            if not isinstance(model.architecture.ffn, DenseFFN) and model.train_tokens == budget
        )

    def of(self, metric: str, model: str) -> Mean | None:
        """A metric of a model with its interval; None where it was not measured."""
        contrast = Contrast.of(metric, {model: 1.0}, log=True, sided=False)
        claim = Claim(says="it is", model=model, metric=metric, test=_CARRIER, target=Target(ladder=self.name))
        zero = Level(0.0)
        asked = Hypothesis(contrast=contrast, support=(zero.above(),), refute=(zero.below(),), reading=RATIO, asked="")
        try:
            sample = draw(self.evidence, contrast, claim)
        except Withheld:
            return None
        found = weigh(sample, asked)
        ends = found.interval
        low, high = (ends.low, ends.high) if ends is not None else (found.centre, found.centre)
        return Mean(centre=_exp(found.centre), low=_exp(low), high=_exp(high), n=sample.n)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those with which every rung and mixture has its loss."""
        models = (*self.rungs, *self.mixtures)
        runs = {seed: [self.evidence.outcome(m, seed) for m in models] for seed in self.findings.plan.spec.seeds}
        return tuple(
            seed
            for seed, of in sorted(runs.items())
            if all(run is not None and run.status == "completed" and LOSS in run.values for run in of)
        )

    def log_losses(self, models: tuple[str, ...]) -> Array:
        """[seeds, models] log losses of the whole seeds."""
        runs = [[self.evidence.outcome(model, seed) for model in models] for seed in self.seeds]
        return np.array([[math.log(run.values[LOSS]) for run in of if run is not None] for of in runs])

    def log_flops(self, models: tuple[str, ...]) -> Array:
        """[models] logs of the training FLOPs of a whole run, as planned."""
        return np.log([self.findings.plan.decoders[model].expected_train_flops for model in models])

    def log_seconds(self, models: tuple[str, ...]) -> Array | None:
        """[models] logs of the seconds of a whole run by the speed session; None where it has not timed all."""
        named = {m: self.findings.usual_time(m, "speed.train_step_s") for m in models}
        if any(seconds is None for seconds in named.values()):
            return None
        recipes = [self.findings.plan.decoders[model].recipe for model in models]
        steps = np.array([r.steps * r.batch_tokens / r.micro_batch_tokens for r in recipes])
        return np.asarray(np.log(np.array(list(named.values()), dtype=np.float64) * steps))

    @cached_property
    def all(self) -> tuple[Worth, ...]:
        """Every mixture, in the plan's order."""
        laws = self._laws()
        made = []
        for index, model in enumerate(self.mixtures):
            values = {metric: self.of(metric, model) for metric in METRICS}
            made.append(
                Worth(
                    model=model,
                    values={metric: value for metric, value in values.items() if value is not None},
                    laws={floor: found[index] for floor, found in laws.items()},
                )
            )
        return tuple(made)

    def _laws(self) -> dict[bool, list[Reach]]:
        """Where the laws of loss against compute have each mixture's loss, over its own compute."""
        if len(self.seeds) < 2 or not self.mixtures:
            return {}
        ladder, levels, cost = self.log_losses(self.rungs), self.log_losses(self.mixtures), self.log_flops(self.rungs)
        own = self.log_flops(self.mixtures)
        found: dict[bool, list[Reach]] = {}
        for floor in LAWS:
            if len(self.rungs) < (5 if floor else 3):  # a law of as many parameters as points says nothing of its error
                continue
            at = reaches(cost, ladder, levels, floor=floor, generator=np.random.default_rng(SEED))
            found[floor] = [one.over(float(mine)) for one, mine in zip(at, own, strict=True)]
        return found

    def gap(self, model: str, cost: Array, own: float) -> Mean | None:
        """Percent by which a mixture's loss differs from the ladder's at the same cost, over seeds; None outside it."""
        rungs, mine = self.log_losses(self.rungs), self.log_losses((model,))[:, 0]
        if len(self.seeds) < 2 or not cost[0] - 0.01 <= own <= cost[-1]:
            return None
        dense = np.array([float(curve(cost, y)(max(own, cost[0]))) for y in rungs])
        ends = stats.central(mine - dense, 1 - 2 * ALPHA)
        percent = [100 * math.expm1(x) for x in (float(np.mean(mine - dense)), ends.low, ends.high)]
        return Mean(centre=percent[0], low=percent[1], high=percent[2], n=len(mine))


def worths(findings: Findings) -> Worths | None:
    """The ladder that the suite's claims are about, else its first of dense models of one budget; None without any."""
    spec, trained = findings.plan.spec, findings.plan.trained
    claimed = [claim.target.ladder for claim in spec.claims.values() if claim.target is not None]
    for name in dict.fromkeys((*(one for one in claimed if one is not None), *spec.ladders)):
        rungs = spec.ladders.get(name, [])
        dense = all(r in trained and isinstance(trained[r].architecture.ffn, DenseFFN) for r in rungs)
        if len(rungs) > 1 and dense and len({trained[r].train_tokens for r in rungs}) == 1:
            return Worths(findings, name)
    return None


def families(worths: Worths) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The mixtures by the ladder or sweep that made them, and each other one alone."""
    spec, left = worths.findings.plan.spec, list(worths.mixtures)
    for name, members in spec.sweeps.items():
        here = tuple(model for model in members if model in left)
        if here:
            yield name, here
            left = [model for model in left if model not in here]
    for model in left:
        yield model, (model,)


def _exp(log: float) -> float:
    return math.inf if log > 700 else math.exp(log)
