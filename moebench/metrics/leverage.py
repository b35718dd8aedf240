"""How much dense a model is worth: its place on a ladder of dense models that were trained on the same tokens.

The report reads them off the losses of the model and of the ladder's rungs with the same seed; nothing is measured.
"""

from __future__ import annotations

from moebench.metrics.metric import POSITIVE, Metric


def _worth(name: str, unit: str, says: str, cannot: str, *, timed_by: str | None = None) -> Metric:
    asked_by = ("bits_per_byte",) if timed_by is None else ("bits_per_byte", "speed", "speed.train_step")
    return Metric(
        name=name, unit=unit, better="higher", kind="laddered", says=says, within=POSITIVE, cannot=cannot,
        asked_by=asked_by, rests_on_loss=True, timed_by=timed_by,
    )  # fmt: skip


_AT_THIS_BUDGET = "other budgets: with few tokens a weight, large dense models are under-trained and cheap to equal"

METRICS = (
    _worth("effective_params", "parameters", "parameters of the dense model of equal loss", _AT_THIS_BUDGET),
    _worth("effective_flops", "FLOPs", "training FLOPs of the dense model of equal loss", _AT_THIS_BUDGET),
    _worth("leverage.flops", "ratio", "training FLOPs of the dense model of equal loss over its own", _AT_THIS_BUDGET),
    _worth(
        "leverage.seconds",
        "ratio",
        "training time of the dense model of equal loss over its own",
        "other machines or kernels; " + _AT_THIS_BUDGET,
        timed_by="speed.train_step_s",
    ),
    _worth(
        "leverage.bytes",
        "ratio",
        "weight bytes of the dense model of equal loss over its own",
        "memory of training; " + _AT_THIS_BUDGET,
    ),
)
