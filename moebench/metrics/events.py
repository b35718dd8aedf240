"""What it takes to reach a quality: crossings of a curve, which the report reads off the records of two models."""

from __future__ import annotations

from moebench.metrics.metric import POSITIVE, Metric


def _reaching(paid_in: str, unit: str, says: str, cannot: str, *, timed_by: str | None = None) -> Metric:
    asked_by = ("bits_per_byte",) if timed_by is None else ("bits_per_byte", "speed", "speed.train_step")
    return Metric(
        name=f"{paid_in}_to_quality", unit=unit, kind="event", says=says, within=POSITIVE, cannot=cannot,
        asked_by=asked_by, rests_on_loss=True, timed_by=timed_by,
    )  # fmt: skip


_SHORTER = "without decay branches, on a curve whose rate has not decayed, it is not what a shorter budget reaches"

METRICS = (
    _reaching("tokens", "tokens", "training tokens at which a model reaches a quality", f"final quality; {_SHORTER}"),
    _reaching(
        "flops",
        "FLOPs",
        "training model FLOPs at which a model reaches a quality",
        f"time, or final quality; {_SHORTER}",
    ),
    _reaching(
        "seconds",
        "s",
        "training seconds at which a model reaches a quality: steps to it times step time",
        "time with other work on the machine; evaluation and start-up are not in it",
        timed_by="speed.train_step_s",
    ),
)
