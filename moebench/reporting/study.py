"""The results folder as tables in memory.

`load` gives everything in long form for notebooks; `study` turns one suite's evidence into what its report shows. Both
take partial folders: a run that is missing, diverged or failed is a row with its reason. Nothing is computed here
beyond medians and means of raw timings.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moebench.claims import coverage
from moebench.claims.preconditions.data import pairs_of_runs, unlike
from moebench.claims.verdict import Scored
from moebench.environment import Environment
from moebench.identity import canonical
from moebench.metrics import METRICS, in_force, metric_of
from moebench.metrics.ref import MetricRef
from moebench.metrics.speed import AGAIN
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.evidence import NOT_RUN, Evidence, Outcome, gather
from moebench.store import CorruptFile, newest, open_results

LABELS = tuple(
    dict.fromkeys(
        ("domain", "layer", "expert", "part", "tokens", "batch", "task", *chain(*(m.labels for m in METRICS.values())))
    )
)
"""Every label that a metric has: a column each."""
_TIMELY = ("curve.", "test.", "train.", "routing.")
"""Metrics that belong to a step; when measured once, to the last."""
LONG = ("suite", "model", "seed", "metric", "value", "unit", "step", "run", "plan")
Samples = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What one suite's report shows."""

    evidence: Evidence
    """What the verdicts were judged by: all that is read of the results."""
    runs: pd.DataFrame
    """One row a planned run: model, seed, id, status, reason."""
    values: pd.DataFrame
    """One row a record: model, seed, metric, base, the labels as columns, value, reason, step."""
    wall: pd.DataFrame
    """Undisturbed wall time of training: model, seed, step_s."""
    speed: pd.DataFrame
    """One row a process, model and timed metric: process, model, metric, median, p90, n, steady."""
    samples: Samples
    """(model, metric) -> every timed sample of all processes, in seconds."""
    speed_reason: str | None
    """Why there is no speed session, or None."""
    alike: int
    """Pairs of finished runs with one seed whose tokens were the same, as far as the shorter goes."""
    unlike: tuple[str, ...]
    """The other pairs, in words."""
    scored: Scored | None
    """The text that final losses were scored on, the least of any model's; None when no run has one."""
    environments: tuple[tuple[Environment, int], ...]
    """Where the finished runs were measured, and how many on each."""
    finished: float | None
    """Unix time at which the last finished run was done."""

    @property
    def plan(self) -> Plan:
        return self.evidence.plan

    @property
    def stored(self) -> StoredPlan:
        return self.evidence.stored

    @property
    def tune(self) -> Mapping[str, Any] | None:
        """The learning-rate sweep's summary, or None."""
        return self.evidence.sweep

    @property
    def models(self) -> list[str]:
        return list(self.plan.models)

    def of(self, base: str, **labels: str) -> pd.DataFrame:
        """Rows of a metric that have a value; labels not named must be absent. Columns as in `values`."""
        rows = self.values[(self.values["base"] == base) & self.values["value"].notna()]
        for label in LABELS:
            wanted = labels.get(label)
            if wanted == "*":
                rows = rows[rows[label].notna()]
            else:
                rows = rows[rows[label].isna()] if wanted is None else rows[rows[label] == wanted]
        return rows

    def processes_of(self, model: str, metric: str) -> pd.DataFrame:
        """Rows of `speed` of one timing."""
        return self.speed[(self.speed["model"] == model) & (self.speed["metric"] == metric)]

    def final(self, base: str, **labels: str) -> pd.DataFrame:
        """`of`, the last step of each run and label only."""
        rows = self.of(base, **labels)
        keys = ["model", "seed", *LABELS]
        return (
            rows.sort_values("step", kind="stable", na_position="first").drop_duplicates(keys, keep="last").sort_index()
        )


def load(results_root: Path | str, *, every: bool = False) -> pd.DataFrame:
    """Every number under a results folder in long form: suite, model, seed, metric, value, unit, step, run, plan.

    After these come the values that sweeps of models went through, a column each, such as `ffn.experts`. The suite is
    `name@scale` where a scale was chosen, and says what was changed on the command line as its report's folder does.
    Counted metrics have no seed and no run; timed ones give each process's median with the seed and the run whose
    weights it loaded. `step` is absent for facts of a whole run, and so are values that could not be measured.

    Of several plans of one suite the newest is returned, or all of them with `every`: then a run that two plans share
    is there twice. What is left out is said in a warning. Raises FileNotFoundError for a folder that holds no results.
    """
    results = open_results(Path(results_root))
    plans = results.plans()
    chosen = plans if every else newest(plans)
    left_out = [f"{one.plan.title} (plan {one.plan.id}, not the newest)" for one in plans if one not in chosen]
    left_out += [str(problem) for problem in results.unreadable_plans()]
    rows: list[tuple[Any, ...]] = []
    for stored in chosen:
        try:
            with in_force(stored.plan.extra_metrics):
                rows.extend(_long_rows(study(gather(results, stored))))
        except CorruptFile as error:
            left_out.append(f"{stored.plan.title} (plan {stored.plan.id}): {error}")
    if not plans:
        raise FileNotFoundError(f"{results_root} holds no results{''.join(f'; {why}' for why in left_out)}")
    if left_out:
        text = f"left out of {results_root}: {'; '.join(left_out)}. load(..., every=True) returns older plans too"
        warnings.warn(text, UserWarning, stacklevel=3)  # 3: whoever called moebench.load
    frame = pd.DataFrame([row[:-1] for row in rows], columns=list(LONG))
    for key in dict.fromkeys(key for row in rows for key in row[-1]):
        frame[key] = [row[-1].get(key) for row in rows]
    return frame.astype({"seed": "Int64", "step": "Int64", "value": "float64"})


def study(evidence: Evidence) -> Study:
    """The evidence as frames, with what only a reader wants: raw timings, wall times, environments."""
    plan = evidence.plan
    values: list[tuple[Any, ...]] = []
    wall: list[tuple[str, int, float]] = []
    places: dict[str, int] = {}
    for outcome in evidence.outcomes:
        values.extend(_values(outcome, plan))
        if outcome.environment is not None:
            place = canonical(outcome.environment.model_dump(mode="json"))
            places[place] = places.get(place, 0) + 1
        if outcome.step_s is not None:
            wall.append((outcome.model, outcome.seed, outcome.step_s))
    speed, samples, speed_reason = _speed(evidence)
    runs = [(o.model, o.seed, o.run_id, o.status, o.reason) for o in evidence.outcomes]
    data = {name: (plan.data_of(name).digest, model.recipe.corrupt) for name, model in plan.decoders.items()}
    every = pairs_of_runs(o for o in evidence.outcomes if o.done and o.model in plan.decoders)
    pairs = [unlike(one, other) for one, other in every if data[one.model] == data[other.model]]
    return Study(
        evidence=evidence,
        runs=pd.DataFrame(runs, columns=["model", "seed", "id", "status", "reason"]),
        values=_typed(values),
        wall=pd.DataFrame(wall, columns=["model", "seed", "step_s"]),
        speed=speed,
        samples=samples,
        speed_reason=speed_reason,
        alike=pairs.count(None),
        unlike=tuple(why for why in pairs if why is not None),
        scored=coverage.scored(evidence, "test.bits_per_byte", plan.models),
        environments=tuple((Environment.model_validate_json(place), n) for place, n in sorted(places.items())),
        finished=max((o.finished for o in evidence.outcomes if o.finished is not None), default=None),
    )


# ---------------------------------------------------------------------------------------------- one run


def _values(outcome: Outcome, plan: Plan) -> Iterator[tuple[Any, ...]]:
    """Rows of `Study.values`: every point of what was measured more than once, the value of all else."""
    ours = plan.decoders.get(outcome.model)
    steps = ours.recipe.steps if ours is not None and outcome.status == "completed" else None
    for metric, value in outcome.values.items():
        base = _parsed(metric)[0] or ""
        step = steps if base.startswith(_TIMELY) else None
        for at, point in outcome.curves.get(metric, ((step, value),)):
            yield outcome.model, outcome.seed, metric, *_parsed(metric), point, None, at
    for metric, reason in outcome.absent.items():
        yield outcome.model, outcome.seed, metric, *_parsed(metric), None, reason, None


@lru_cache(maxsize=4096)
def _parsed(metric: str) -> tuple[str | None, ...]:
    ref = MetricRef.parse(metric)
    return (ref.base, *map(ref.get, LABELS))


def _typed(values: list[tuple[Any, ...]]) -> pd.DataFrame:
    columns = ["model", "seed", "metric", "base", *LABELS, "value", "reason", "step"]
    frame = pd.DataFrame(values, columns=columns)
    text = dict.fromkeys(("model", "metric", "base", "reason", *LABELS), "object")
    return frame.astype({**text, "seed": "Int64", "value": "float64", "step": "Int64"})


# ---------------------------------------------------------------------------------------------- speed


def _speed(evidence: Evidence) -> tuple[pd.DataFrame, Samples, str | None]:
    """What verdicts use of the speed session, and why there is nothing or None."""
    rows: list[tuple[Any, ...]] = []
    raw: dict[tuple[str, str], list[np.ndarray]] = {}
    for process in evidence.processes:
        for model, metrics in process.samples.items():
            for metric, numbers in metrics.items():
                seconds = np.asarray(numbers, dtype=np.float64)
                raw.setdefault((model, metric), []).append(seconds)
                middle, high = np.quantile(seconds, [0.5, 0.9])
                steady = (model, metric) not in process.unsteady
                rows.append((process.process, process.seed, model, metric, middle, high, len(seconds), steady))
    frame = pd.DataFrame(rows, columns=["process", "seed", "model", "metric", "median", "p90", "n", "steady"])
    samples = {key: np.concatenate(parts) for key, parts in raw.items()}
    if rows:
        return frame, samples, None
    why = evidence.speed_reason
    if evidence.plan.speed is None or why is None:
        return frame, samples, why
    return frame, samples, "the speed session has not been run" if why == NOT_RUN else f"speed session: {why}"


# ---------------------------------------------------------------------------------------------- long form


def _long_rows(one: Study) -> Iterator[tuple[Any, ...]]:
    """Rows of `load`: the columns of `LONG`, then the model's swept values by key."""
    plan = one.plan
    ids = {(run.model, run.seed): run.id for run in plan.runs}
    swept = {name: values for made in plan.spec.sweeps.values() for name, values in made.items()}

    def row(model: str, seed: int | None, metric: str, value: float, step: int | None) -> tuple[Any, ...]:
        unit, run = metric_of(metric).unit, None if seed is None else ids.get((model, seed))
        return plan.title, model, seed, metric, value, unit, step, run, plan.id, swept.get(model, {})

    for model in plan.models:
        for metric, value in plan.counts(model).items():
            yield row(model, None, metric, value, None)
    there = one.values[one.values["value"].notna()]
    columns: list[str] = ["model", "seed", "metric", "base", "value", "step"]
    for name, seed, metric, base, value, step in zip(*(there[column] for column in columns), strict=True):
        if not base.startswith("cost."):
            yield row(name, seed, metric, value, step)
    for name, seed, metric, value in zip(*(one.speed[c] for c in ("model", "seed", "metric", "median")), strict=True):
        if not name.endswith(AGAIN):
            yield row(name, seed, metric, value, None)
