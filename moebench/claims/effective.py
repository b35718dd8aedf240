"""What a model is worth on its seed's ladder of dense models: a size, FLOPs, and its leverage in FLOPs, time and bytes.

The place of a model is the log size of the dense model of equal loss with the same seed (`leverage.place`); FLOPs, step
time and bytes of that dense model are read off at this place. So all are the same dense model's, at the ladder's own
budget of tokens, and a rung has its own by construction. Outside the ladder each is known from one side only. What its
training costs when the dense model may stop earlier is another question, of decay branches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from moebench import stats
from moebench.claims.hypothesis import Contrast, Withheld
from moebench.leverage.place import Place, at, place
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome
from moebench.suite.claim import Claim

LOSS = "test.bits_per_byte"
STEP = "speed.train_step_s"
SHOWN = 0.025
"""One-sided level at which a rung is better than the one below."""


def rests_on(metric: str) -> tuple[str, ...]:
    """What a place on a ladder is read from; nothing for a metric that is none."""
    return (LOSS,) if metric_of(metric).kind == "laddered" else ()


@dataclass(frozen=True)
class Ladder:
    """The rungs, from small to large, and where models stand on it."""

    evidence: Evidence
    name: str
    rungs: tuple[str, ...]
    steps: Mapping[str, stats.Array] = field(default_factory=dict)
    """Model -> log seconds that it is trained for, one a process."""

    @staticmethod
    def of(evidence: Evidence, claim: Claim | None, *, timed: tuple[str, ...] = ()) -> Ladder:
        """The ladder of a claim's target; with the times of its rungs and of `timed` where these are models. Raises
        Withheld where there is none."""
        name = claim.target.ladder if claim is not None and claim.target is not None else None
        rungs = evidence.plan.rungs_of(claim) if claim is not None else ()
        if name is None or len(rungs) < 2 or any(rung not in evidence.plan.decoders for rung in rungs):
            raise Withheld("invalid", "no target says on which ladder of dense models it stands")
        steps = _log_seconds(evidence, (*rungs, *timed)) if timed else {}
        return Ladder(evidence, name, rungs, steps)

    @property
    def plan(self) -> Plan:
        return self.evidence.plan

    @property
    def log_sizes(self) -> stats.Array:
        """[rungs] log of total parameters."""
        return np.log([self.plan.decoders[rung].costs.params.total for rung in self.rungs])

    def losses(self, seed: int) -> stats.Array:
        """[rungs] log losses with a seed; NaN where a rung diverged. Raises Withheld for a rung without a run."""
        return np.array([self._loss(rung, seed) for rung in self.rungs])

    def _loss(self, rung: str, seed: int) -> float:
        run = self.evidence.outcome(rung, seed)
        if run is None or not run.done or (run.status == "completed" and LOSS not in run.values):
            raise Withheld("not_tested", f"{rung}, a rung of {self.name}, is {run.status if run else 'not planned'}")
        return math.log(run.values[LOSS]) if run.status == "completed" else math.nan

    def place(self, run: Outcome) -> Place:
        """Where a completed run stands on its seed's ladder. Raises Withheld when its loss was not measured."""
        if run.model in self.rungs:
            own = float(self.log_sizes[self.rungs.index(run.model)])
            return Place(own, own)
        if LOSS not in run.values:
            raise Withheld("not_tested", f"{run.model} has no {LOSS} ({run.absent.get(LOSS, 'not measured')})")
        return place(self.log_sizes, self.losses(run.seed), math.log(run.values[LOSS]))

    def worth(self, run: Outcome, metric: str) -> tuple[float, float]:
        """The least and the most that the metric of a completed run can be."""
        base = MetricRef.parse(metric).base
        where = self.place(run)
        dense = self._of_rungs(base)
        own = self._own(run, base)
        least, most = (at(self.log_sizes, dense, end) - own for end in (where.least, where.most))
        return math.exp(least), math.exp(most)

    def _of_rungs(self, base: str) -> stats.Array:
        """[rungs] log of what is read off at a place."""
        models = [self.plan.decoders[rung] for rung in self.rungs]
        if base == "effective_params":
            return self.log_sizes
        if base == "leverage.bytes":
            return np.log([model.costs.weight_bytes for model in models])
        if base == "leverage.seconds":
            return np.array([float(np.mean(self.steps[rung])) for rung in self.rungs])
        return np.log([model.expected_train_flops for model in models])

    def _own(self, run: Outcome, base: str) -> float:
        """Log of what the model's own is, which its leverage is over; 0 for what is no leverage."""
        planned = self.plan.decoders.get(run.model)
        if not base.startswith("leverage."):
            return 0.0
        if planned is None:
            raise Withheld("not_tested", f"{run.model} is not trained here: what its training takes is not known")
        if run.model in self.rungs:
            return float(self._of_rungs(base)[self.rungs.index(run.model)])
        if base == "leverage.seconds":
            return float(np.mean(self.steps[run.model]))
        if base == "leverage.bytes":
            return math.log(planned.costs.weight_bytes)
        return math.log(run.values.get("train.model_flops", planned.expected_train_flops))

    def of_processes(self, contrast: Contrast, used: tuple[Outcome, ...]) -> stats.Array:
        """[processes] how the contrast of log leverage in seconds scatters over processes about its mean.

        The times of the dense model are those of rungs, weighed as they are on average over seeds.
        """
        total = np.zeros(len(next(iter(self.steps.values()))))
        for term in contrast.terms:
            places = [self.place(run) for run in used if run.model == term.model and run.status == "completed"]
            total += term.weight * (self._at_mean(places) - self.steps[term.model])
        return total - np.mean(total)

    def _at_mean(self, places: list[Place]) -> stats.Array:
        ends = np.clip([[one.least, one.most] for one in places], self.log_sizes[0], self.log_sizes[-1])
        columns = np.array([self.steps[rung] for rung in self.rungs])
        if not ends.size:  # no run completed: there is no place, and no effect that this would add to
            return np.zeros(columns.shape[1])
        weights = [np.interp(end, self.log_sizes, row) for row in np.eye(len(self.rungs)) for end in ends.ravel()]
        share = np.mean(np.reshape(weights, (len(self.rungs), -1)), axis=1)
        return np.asarray(share @ columns, dtype=np.float64)

    def notes(self, used: tuple[Outcome, ...]) -> Iterator[str]:
        """What a reader must know of the ladder: its range, tokens a weight, its order, and who stands outside."""
        sizes = [self.plan.decoders[rung].costs.params.total for rung in self.rungs]
        tokens = [self.plan.decoders[rung].train_tokens for rung in self.rungs]
        ratios = [n / size for n, size in zip(tokens, sizes, strict=True)]
        yield (
            f"on {self.name}: {len(sizes)} dense models of {sizes[0]:,} to {sizes[-1]:,} parameters, trained on "
            f"{ratios[0]:.3g} to {ratios[-1]:.3g} tokens a weight (few flatter what is held against them)"
        )
        yield from self._disorder()
        for model in dict.fromkeys(run.model for run in used):
            places = [self.place(run) for run in used if run.model == model and run.status == "completed"]
            for side, many in (
                ("the largest rung: at least", sum(one.high and math.isfinite(one.least) for one in places)),
                ("the smallest rung: at most", sum(one.low and math.isfinite(one.most) for one in places)),
            ):
                if many:
                    word = side.split(": ")
                    yield f"{model} is beyond {word[0]} in {many} of {len(places)} seeds: known to be {word[1]} that"

    def _disorder(self) -> Iterator[str]:
        """Rungs that are not shown to be better than the one below."""
        for below, rung in pairwise(self.rungs):
            pairs = [(self.evidence.outcome(below, seed), self.evidence.outcome(rung, seed)) for seed in self.seeds]
            both = [
                (a.values[LOSS], b.values[LOSS]) for a, b in pairs if a and b and LOSS in a.values and LOSS in b.values
            ]
            gains = np.array([math.log(a / b) for a, b in both])
            if len(gains) >= stats.ENOUGH and stats.sign_flip_p(gains, 0.0) > SHOWN:
                yield f"{rung} is not shown to be better than {below}, the rung below it"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.plan.spec.seeds)


def _log_seconds(evidence: Evidence, models: tuple[str, ...]) -> dict[str, stats.Array]:
    """Model -> log seconds of its whole training, one a process that timed all of them. Raises Withheld without two."""
    named = tuple(dict.fromkeys(models))
    whole = [p for p in evidence.processes if all(STEP in p.values.get(name, {}) for name in named)]
    if evidence.plan.speed is None or len(whole) < 2:
        planned = len(evidence.plan.speed.processes) if evidence.plan.speed is not None else 0
        raise Withheld("not_tested", f"{len(whole)} of {planned} processes timed the training step of every model")
    times: dict[str, stats.Array] = {}
    for name in named:
        recipe = evidence.plan.decoders[name].recipe
        timed = recipe.steps * recipe.batch_tokens / recipe.micro_batch_tokens
        times[name] = np.log([process.values[name][STEP] * timed for process in whole])
    return times
