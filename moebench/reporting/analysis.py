"""The numbers that tables, figures and their titles share, so that no two places of a report can disagree.

Everything is an estimate with a 95% interval and its n: means over seeds, and ratios to the baseline over seeds
or over processes of the speed session. The statistics themselves are `moebench.stats`; here they only meet the frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from moebench import stats
from moebench.claims.hypothesis import Contrast, Withheld
from moebench.claims.looks import Course
from moebench.claims.order import Order, order
from moebench.claims.preconditions.timing import PER_STEP
from moebench.claims.samples import draw
from moebench.claims.sealing import Withdrawn
from moebench.claims.verdict import ControlResult, Verdict
from moebench.format import interval, listed
from moebench.metrics import in_force, metric_of
from moebench.metrics.ref import MetricRef, labelled
from moebench.metrics.speed import AGAIN
from moebench.planning.types import Plan
from moebench.reporting.study import Study
from moebench.reporting.theme import FEW, Style, styles
from moebench.suite.claim import Claim

if TYPE_CHECKING:
    from moebench.reporting.tasks import Tasks

QUALITY = "test.bits_per_byte"
CURVE = "curve.bits_per_byte"
_COSTS = {
    "cost.active_params": "active parameters",
    "cost.total_params": "total parameters",
    "cost.train_flops_per_token": "training FLOPs/token",
    "cost.decode_flops_per_token": "decode FLOPs/token",
    "cost.weight_bytes": "weight bytes",
    "memory.train_peak_bytes": "peak memory, training",
    "memory.inference_peak_bytes": "peak memory, inference",
    "speed.train_step_s": "training step time",
    "speed.prefill_s": "time to first token",
    "speed.decode_step_s": "decode step time",
}
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A centre with its 95% interval; the ends equal the centre where there is nothing to vary or only one value."""

    centre: float
    low: float
    high: float
    n: int

    @property
    def bounded(self) -> bool:
        """Whether there is an interval at all: one value has none."""
        return self.n > 1

    def text(self, unit: str = "", *, signed: bool | None = None) -> str:
        """As it is written everywhere."""
        return interval(self.centre, self.low, self.high, unit, signed=signed)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A cost of one model over the baseline's."""

    metric: str
    label: str
    model: str
    ratio: Mean
    units: str
    """What n counts: counted (exact), seeds or processes."""
    absolute: float
    """The model's own value, in `unit`: exact, or the geometric mean over seeds or over processes' medians."""
    unit: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """One suite's study, its verdicts and what they share."""

    study: Study
    verdicts: tuple[Verdict, ...]
    controls: tuple[ControlResult, ...]
    results_name: str = "results"
    """The results folder as a reader would type it."""
    withdrawn: tuple[Withdrawn, ...] = ()
    """Primary claims of other plans of the same jobs that this one does not make."""
    course: Course | None = None
    """The looks that were taken; None where that was not asked."""

    @property
    def plan(self) -> Plan:
        return self.study.plan

    @cached_property
    def styles(self) -> Mapping[str, Style]:
        return styles(self.plan)

    @property
    def many(self) -> bool:
        """Whether there are more models than one panel can hold."""
        return len(self.plan.models) > FEW

    @property
    def trains(self) -> bool:
        """Whether a model of it is trained."""
        return bool(self.plan.trained)

    @cached_property
    def pair(self) -> tuple[str, str | None]:
        """What the suite compares: the first primary claim's pair, else the first claim's, else MoE and dense.

        Of many models, a pair with the model that most claims compare with comes first.
        """
        claims = self.plan.spec.claims.values()
        usual = Counter(claim.compare.baseline for claim in claims if claim.compare).most_common(1) if self.many else []
        common = usual[0][0] if usual else None

        def order(claim: Claim) -> tuple[bool, bool]:
            return common not in {None, claim.compare and claim.compare.baseline}, claim.family != "primary"

        for claim in sorted(claims, key=order):
            if claim.compare and {claim.compare.treatment, claim.compare.baseline} <= set(self.study.models):
                return claim.compare.treatment, claim.compare.baseline
        kinds = {kind: [m for m in self.study.models if self.styles[m].kind == kind] for kind in ("moe", "dense")}
        if kinds["moe"] and kinds["dense"]:
            return kinds["moe"][0], kinds["dense"][0]
        first, second = (*self.study.models, None, None)[:2]
        return first or "", second  # a suite about published systems alone has no models

    @property
    def treatment(self) -> str:
        return self.pair[0]

    @property
    def baseline(self) -> str | None:
        return self.pair[1]

    @cached_property
    def quality(self) -> pd.DataFrame:
        """Final bits per byte of completed runs: model, seed, domain (None over all), value."""
        both = [self.study.final(QUALITY), self.study.final(QUALITY, domain="*")]
        rows = pd.concat(both)[["model", "seed", "domain", "value"]]
        completed = self.study.runs[self.study.runs["status"] == "completed"][["model", "seed"]]
        return rows.merge(completed.astype({"seed": "Int64"}), on=["model", "seed"])

    def final(self, model: str, domain: str | None = None) -> pd.Series[float]:
        """Final bits per byte of one model by seed."""
        rows = self.quality[self.quality["model"] == model]
        rows = rows[rows["domain"].isna()] if domain is None else rows[rows["domain"] == domain]
        return rows.set_index("seed")["value"].sort_index()

    def level(self, model: str, domain: str | None = None) -> Mean:
        """Final bits per byte of a model: over seeds, or over documents where it is a single run."""
        if self.plan.is_single(model):
            metric = QUALITY if domain is None else labelled(QUALITY, domain=domain)
            if (drawn := self.drawn(Contrast.of(metric, {model: 1.0}))) is not None:
                return drawn[0]
        return mean(self.final(model, domain))

    def change(self, model: str, domain: str | None = None) -> Mean | None:
        """Change of final bits per byte from the baseline to a model in percent: paired by seed, or by document where
        both are single runs. None where they share nothing."""
        baseline = self.baseline
        if baseline is None or model == baseline:
            return None
        if not (self.plan.is_single(model) or self.plan.is_single(baseline)):
            return difference(self.final(model, domain), self.final(baseline, domain))
        metric = QUALITY if domain is None else labelled(QUALITY, domain=domain)
        logs = self.drawn(Contrast.of(metric, {model: 1.0, baseline: -1.0}, log=True))
        if logs is None:
            return None
        ratio = exp(logs[0])
        ends = (100 * (end - 1) for end in (ratio.centre, ratio.low, ratio.high))
        return Mean(**dict(zip(("centre", "low", "high"), ends, strict=True)), n=ratio.n)

    def drawn(self, contrast: Contrast) -> tuple[Mean, str] | None:
        """The mean of a contrast with its interval, and what it varies over; None where it was not measured.

        Of runs with known items it is the wider of the interval over seeds and that over items, as for a verdict.
        """
        try:
            sample = draw(self.study.evidence, contrast)
        except Withheld:
            return None
        effects = sample.effects[np.isfinite(sample.effects)]
        if not len(effects):
            return None
        middle, over = mean(effects), sample.units
        if sample.items is not None and middle.bounded and len(effects) == sample.n:
            ends = sample.items.interval(0.95)
            if ends.high - ends.low > middle.high - middle.low:
                middle = Mean(centre=middle.centre, low=ends.low, high=ends.high, n=middle.n)
        return middle, over

    @property
    def sizes_known(self) -> bool:
        """Whether a model's size is known, or anything is to be said of the plan."""
        return any(map(self.plan.counts, self.plan.models)) or bool(self.plan.warnings or self.plan.data.notes)

    @property
    def routed(self) -> bool:
        """Whether the load of any router was seen."""
        return bool(self.study.values["base"].str.startswith("routing.").any())

    @cached_property
    def tasks(self) -> Tasks:
        """What was scored that only tasks and external tables know."""
        from moebench.reporting.tasks import tasks

        with in_force(self.plan.extra_metrics):
            return tasks(self)

    def order(self, model: str, other: str, metric: str = QUALITY) -> Order:
        """Which of two models is lower in a metric, as far as verdicts decide it."""
        key = (model, other, metric)
        if key not in self._orders:
            self._orders[key] = order(self.study.evidence, self.verdicts, model, other, metric)
        return self._orders[key]

    def quiet(self, metric: str) -> str:
        """What a title that states a timing adds: nothing where the baseline was shown to be as fast as itself."""
        states = {control.metric: control.state for control in self.controls}
        words = {"failed": " (A/A failed)", "too_wide": " (A/A too wide to tell)"}
        return words.get(states.get(metric, "passed"), "")

    @cached_property
    def _orders(self) -> dict[tuple[str, str, str], Order]:
        return {}

    def lowest(self, means: Mapping[str, float], metric: str = QUALITY) -> list[str]:
        """The model of the lowest mean, alone where it is decided to be below every other; else with those it is not.

        `means` is the metric's mean by model.
        """
        best = min(means, key=lambda m: means[m])
        return [best, *(m for m in means if m != best and self.order(best, m, metric).side != "lower")]

    def several(self, models: Sequence[str], of: Collection[str]) -> str:
        """Models by name, or of many how many."""
        return listed(models) if len(models) <= 3 else f"{len(models)} of {len(of)} models"

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Loss at the evaluation points: model, seed, step, loss, tokens, flops, seconds (NaN without any timing)."""
        rows = self.study.of(CURVE)[["model", "seed", "step", "value"]].rename(columns={"value": "loss"})
        rows = rows[rows["model"].isin(self.plan.decoders)]
        for base, name in (("train.tokens", "tokens"), ("train.model_flops", "flops")):
            spent = self.study.of(base)[["model", "seed", "step", "value"]].rename(columns={"value": name})
            rows = rows.merge(spent, on=["model", "seed", "step"], how="left")
        recipes = {
            name: (model.recipe.batch_tokens, model.costs.train_flops_per_token)
            for name, model in self.plan.decoders.items()
        }
        planned = rows["step"].astype("float64") * rows["model"].map(lambda m: recipes[m][0])
        rows["tokens"] = rows["tokens"].fillna(planned)
        rows["flops"] = rows["flops"].fillna(planned * rows["model"].map(lambda m: recipes[m][1]))
        step_s, _ = self.step_seconds
        rows["seconds"] = rows["step"].astype("float64") * rows["model"].map(step_s)
        return rows.sort_values(["model", "seed", "step"], ignore_index=True)

    @cached_property
    def step_seconds(self) -> tuple[dict[str, float], str]:
        """Seconds of an optimizer step by model, and how they were measured; empty when nothing was timed."""
        of: dict[str, float] = {}
        for model, planned in self.plan.decoders.items():
            seconds = self.usual_time(model, "speed.train_step_s")
            if seconds is not None:
                of[model] = seconds * planned.recipe.batch_tokens / planned.recipe.micro_batch_tokens
        if set(of) == set(self.plan.decoders):
            return of, "steps × step time of the speed session"
        wall = self.study.wall.groupby("model")["step_s"].median()
        return {
            str(model): float(seconds) for model, seconds in wall.items()
        }, "recorded wall time of parallel runs, not a timing"

    def usual_time(self, model: str, metric: str) -> float | None:
        """The one centre of a timing: the geometric mean over processes of each one's median."""
        medians = self.timed(model, metric)
        return float(np.exp(np.log(medians).mean())) if len(medians) else None

    def timed(self, model: str, metric: str) -> pd.Series[float]:
        """Median of each process, by process."""
        return self.study.processes_of(model, metric).set_index("process")["median"].astype("float64")

    @cached_property
    def timed_metrics(self) -> list[str]:
        """Timed metrics of the session: training step, prefill by length, decode by batch."""
        order = list(_COSTS)

        def place(metric: str) -> tuple[int, float]:
            ref = MetricRef.parse(metric)
            at = order.index(ref.base) if ref.base in order else len(order)
            return at, float(ref.labels[0][1] if ref.labels else 0)

        return sorted(self.study.speed["metric"].unique(), key=place)

    @cached_property
    def ratios(self) -> list[Ratio]:
        """Each cost of each model over the baseline's, the baseline's second copy (A/A) included."""
        if self.baseline is None:
            return []
        return [*self._counted(self.baseline), *self._memory(self.baseline), *self._timed(self.baseline)]

    def _counted(self, baseline: str) -> Iterator[Ratio]:
        counts = {model: self.plan.counts(model) for model in self.study.models}
        trained = ("cost.train_flops_per_token",) if self.plan.decoders else ("cost.active_params", "cost.total_params")
        for metric in (*trained, "cost.decode_flops_per_token", "cost.weight_bytes"):
            for model in (m for m in self.study.models if metric in counts[m] and metric in counts[baseline]):
                above = counts[model][metric]
                ratio = above / counts[baseline][metric]
                yield self._ratio(metric, model, Mean(centre=ratio, low=ratio, high=ratio, n=1), "counted", above)

    def _memory(self, baseline: str) -> Iterator[Ratio]:
        for metric in ("memory.train_peak_bytes", "memory.inference_peak_bytes"):
            rows = self.study.final(metric)
            wide = rows.pivot_table(index="seed", columns="model", values="value")
            if baseline not in wide:
                continue
            for model in (m for m in self.study.models if m in wide):
                both = wide[[baseline, model]].dropna() if model != baseline else wide[[baseline]].dropna()
                if len(both):
                    logs = np.log(both[model].to_numpy()) - np.log(both[baseline].to_numpy())
                    absolute = float(np.exp(np.log(both[model].to_numpy()).mean()))
                    yield self._ratio(metric, model, exp(mean(logs)), "seeds", absolute)

    def _timed(self, baseline: str) -> Iterator[Ratio]:
        for metric in self.timed_metrics:
            below = self.timed(baseline, metric)
            for model in (*self.study.models, f"{baseline}{AGAIN}"):
                both = pd.concat([self.timed(model, metric), below], axis=1, join="inner").to_numpy()
                if len(both) and not (metric in PER_STEP and model in self.other_steps):
                    logs = np.log(both[:, 0]) - np.log(both[:, 1])
                    absolute = float(np.exp(np.log(both[:, 0]).mean()))
                    yield self._ratio(metric, model, exp(mean(logs)), "processes", absolute)

    @cached_property
    def other_steps(self) -> dict[str, int]:
        """Models timed over other micro-batches than the baseline, which no ratio compares, with their tokens."""
        tokens = {name: model.recipe.micro_batch_tokens for name, model in self.plan.decoders.items()}
        mine = tokens.get(self.baseline or "")
        return {name: size for name, size in tokens.items() if mine is not None and size != mine}

    def _ratio(self, metric: str, model: str, ratio: Mean, units: str, absolute: float) -> Ratio:
        unit = metric_of(metric).unit
        return Ratio(
            metric=metric, label=cost_label(metric), model=model, ratio=ratio, units=units, absolute=absolute, unit=unit
        )


def cost_label(metric: str) -> str:
    """`decode step time, batch 8` for `speed.decode_step_s[batch=8]`."""
    ref = MetricRef.parse(metric)
    inside = [f"{value} tokens" if key == "tokens" else f"{key} {value}" for key, value in ref.labels]
    return ", ".join([_COSTS.get(ref.base, ref.base), *inside])


def mean(x: Array | pd.Series[float]) -> Mean:
    """Mean of x [n >= 1] with its 95% interval, made as a verdict's is."""
    values = np.asarray(x, dtype=np.float64)
    if len(values) == 1:
        return Mean(centre=float(values[0]), low=float(values[0]), high=float(values[0]), n=1)
    ends = stats.central(values, 0.95)
    return Mean(centre=float(np.mean(values)), low=ends.low, high=ends.high, n=len(values))


def exp(log: Mean) -> Mean:
    """A mean of log-ratios as a ratio."""
    return Mean(centre=math.exp(log.centre), low=math.exp(log.low), high=math.exp(log.high), n=log.n)


def difference(treatment: pd.Series[float], baseline: pd.Series[float]) -> Mean | None:
    """Change from baseline to treatment in percent, over the seeds both have; None when they share none."""
    both = pd.concat([treatment, baseline], axis=1, join="inner").to_numpy(dtype=np.float64)
    if not len(both):
        return None
    ratio = exp(mean(np.log(both[:, 0]) - np.log(both[:, 1])))
    return Mean(centre=100 * (ratio.centre - 1), low=100 * (ratio.low - 1), high=100 * (ratio.high - 1), n=ratio.n)
