"""What is measured, and how: one file a metric, or a family of metrics that are measured together.

A file declares its metrics (`METRICS`) and, where they are measured on a finished subject, how (`MEASUREMENT`); its
line in `FILES` below registers both. What a metric means stands on it alone: suites are checked, numbers read and
claims judged by these declarations. Measuring code sees a subject through `models.subject`, and imports torch inside
its functions: whoever reads declarations loads none. Installed packages add files through the entry point group
`moebench.metrics`. Probes of routing stand in `probes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING

from moebench import plugins
from moebench.metrics import (
    accuracy,
    answers,
    counts,
    decayed,
    events,
    fit,
    flops,
    leverage,
    memory,
    modelled,
    quality,
    rarity,
    routing,
    serving,
    speed,
    spikes,
    training,
)
from moebench.metrics.measurement import Measurement
from moebench.metrics.metric import Metric, Record
from moebench.metrics.probes import PROBES
from moebench.metrics.ref import MetricRef

if TYPE_CHECKING:
    from moebench.models.architecture import Architecture


_IN_FORCE: ContextVar[Mapping[str, Metric]] = ContextVar("metrics_in_force", default={})  # noqa: B039  never changed


@contextmanager
def in_force(metrics: Mapping[str, Metric]) -> Iterator[None]:
    """Inside, these are known too: what a suite declares, and what its tasks measure. `METRICS` go before them.

    They are found by their name, or by their name with labels where these decide what it means: of a metric of tasks
    the direction is the task's own.
    """
    token = _IN_FORCE.set({**_IN_FORCE.get(), **metrics})
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def known() -> dict[str, Metric]:
    """Every metric that is known here, by name."""
    return {**{metric.name: metric for metric in _IN_FORCE.get().values()}, **METRICS}


def find(ref: MetricRef) -> Metric | None:
    """The metric of a name, whatever its labels; None when it is not known here."""
    extra = _IN_FORCE.get()
    return METRICS.get(ref.base) or extra.get(str(ref)) or extra.get(ref.base)


def metric_of(name: str | MetricRef) -> Metric:
    """The metric that a record's name stands for. Raises KeyError with the known names."""
    ref = MetricRef.parse(name) if isinstance(name, str) else name
    metric = find(ref)
    if metric is None:
        raise KeyError(f"unknown metric {ref.base!r}; known: {', '.join(sorted(known()))}")
    if unknown := sorted({label for label, _ in ref.labels} - set(metric.labels)):
        allowed = ", ".join(metric.labels) or "none"
        raise KeyError(f"{ref.base} has no label {', '.join(unknown)}; allowed: {allowed}")
    return metric


def record(name: str, value: float | None = None, *, step: int | None = None, reason: str | None = None) -> Record:
    """A record of a known metric by its name with labels. Raises KeyError for a metric that is not in `METRICS`."""
    ref = MetricRef.parse(name)
    return metric_of(ref).record(value, step=step, reason=reason, **dict(ref.labels))


def impossible(name: str, value: float) -> str | None:
    """Why a metric cannot have this value; None when it can. Raises KeyError for an unknown metric."""
    return metric_of(name).impossible(value, name=name)


def constant(name: str, a: Architecture) -> str | None:
    """Why a metric is fixed for a model of this architecture, and what to use instead where there is something.

    None when it can vary. A claim about a constant has no verdict, for no outcome could speak against it; metrics that
    are no longer measured are among them.
    """
    metric = metric_of(name)
    return metric.retired if metric.retired is not None or metric.fixed is None else metric.fixed(a)


FILES: dict[str, ModuleType] = {
    "counts": counts,
    "quality": quality,
    "accuracy": accuracy,
    "rarity": rarity,
    "fit": fit,
    "answers": answers,
    "training": training,
    "spikes": spikes,
    "decayed": decayed,
    "flops": flops,
    "memory": memory,
    "modelled": modelled,
    "routing": routing,
    "speed": speed,
    "serving": serving,
    "events": events,
    "leverage": leverage,
    **PROBES,
}

METRICS: dict[str, Metric] = {metric.name: metric for file in FILES.values() for metric in file.METRICS}
MEASUREMENTS: dict[str, Measurement] = {
    file.MEASUREMENT.name: file.MEASUREMENT for file in FILES.values() if hasattr(file, "MEASUREMENT")
}
BROKEN: dict[str, str] = {}
"""Files of installed packages that do not load, or name what is there, and why."""


def _plug_in(name: str, point: EntryPoint) -> None:
    file = plugins.load(point)
    if taken := sorted({metric.name for metric in file.METRICS} & set(METRICS)):
        raise plugins.PluginError(f"{name} declares {', '.join(taken)}, which is there")
    METRICS.update({metric.name: metric for metric in file.METRICS})
    if (own := getattr(file, "MEASUREMENT", None)) is not None:
        code = str(plugins.code_of(point, own.measure))
        MEASUREMENTS.setdefault(own.name, replace(own, options={**own.options, "code": code}))


for _name, _point in plugins.offered(plugins.METRICS).items():
    try:
        _plug_in(_name, _point)
    except (plugins.PluginError, AttributeError) as _error:
        BROKEN[_name] = str(_error)
