"""An arm of an experiment, planned: what claims ask of it is what the experiment gives."""

from __future__ import annotations

from typing import Any

from moebench.experiments import EXPERIMENTS
from moebench.metrics.ref import MetricRef
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.planned import PlannedExperiment
from moebench.suite.experiment import ExperimentModel
from moebench.suite.types import SuiteSpec
from moebench.text import listed


def plan_experiment(name: str, model: ExperimentModel, *, spec: SuiteSpec, **_: Any) -> PlannedExperiment:
    """Raises PlanError at a claim about a number that the experiment does not give."""
    experiment = EXPERIMENTS[model.experiment]
    gives = [metric.name for metric in experiment.metrics]
    misfits = [
        Misfit(
            at=("claims", claim, field),
            message=f"{name} is an arm of the experiment {model.experiment}, which gives no {metric}",
            hint=f"it gives {listed(gives, last='and')}",
        )
        for claim, one in spec.claims.items()
        if name in one.about(spec.sweeps)
        for field, metric in one.metrics_at.items()
        if MetricRef.parse(metric).base not in gives
    ]
    if misfits:
        raise PlanError(*misfits)
    return PlannedExperiment(
        experiment=model.experiment,
        arm=model.arm,
        version=experiment.version,
        says=experiment.arms[model.arm],
        source=experiment.source,
    )
