"""Numbers that somebody measured elsewhere as a model of a suite, and the metrics that only the suite knows."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from moebench.frozen import Frozen
from moebench.metrics.metric import Better, Metric


class ExternalModel(Frozen):
    """A model that is not there: its numbers stand in a table, or in a folder that lm-eval wrote."""

    tag: ClassVar[str] = "external"

    results: Annotated[str, Field(min_length=1, max_length=1000)]
    """A csv or jsonl with columns model, seed, metric, value (step, unit, item, group where there are), or the folder
    that `lm_eval --output_path --log_samples` wrote; relative to the suite file."""
    model: str | None = Field(default=None, max_length=500)
    """Its name in the table; the suite's name for it when absent."""
    config: str | None = Field(default=None, max_length=1000)
    """Its config.json, from which it is counted; relative to the suite file."""
    total_params: Annotated[int, Field(ge=1)] | None = None
    """All parameters, where there is no config.json."""
    active_params: Annotated[int, Field(ge=1)] | None = None
    """Those that a token uses, where there is no config.json."""


class DeclaredMetric(Frozen):
    """What a metric means that moebench does not know: one of the tables of external models."""

    unit: Annotated[str, Field(min_length=1, max_length=40)]
    """Such as nats/token, or 1 for a share."""
    better: Better
    """Which direction is better: lower, higher or neither."""
    per: Literal["seed", "item"] = "seed"
    """What its numbers vary over: seeds of training, or items of a test that every model answered."""
    says: Annotated[str, Field(max_length=400)] = ""
    """What it is, for the report."""

    def metric(self, name: str) -> Metric:
        """The metric under its name."""
        says = self.says or f"{name}, as the suite declares it"
        cannot = "how it was measured: that is declared by the suite, and not verified"
        return Metric(name=name, unit=self.unit, better=self.better, whole=True, says=says, cannot=cannot)
