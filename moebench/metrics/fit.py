"""The loss on text that a model was trained on, after its last step: what a test loss is held against for overfitting.

`train.bits_per_token` is another thing: the loss of batches before the step that each of them makes.
"""

from __future__ import annotations

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric
from moebench.metrics.quality import evaluate

FIT = Metric(
    name="fit.bits_per_byte",
    unit="bits/byte",
    rests_on_loss=True,
    asked_by=("fit",),
    says="cross-entropy after the last step on text that the model was trained on: of its own part of the data",
    cannot="generalisation: what was read may be remembered; and how often it was read is train.epochs",
)
METRICS = (FIT,)


def _measure(context: Context) -> Measured:
    text = context.trained_text
    if text is None:
        return Measured(records=[FIT.record(reason="what it was trained on is not known", step=context.step)])
    return Measured(records=[FIT.record(evaluate(context.subject, text).bits_per_byte(), step=context.step)])


MEASUREMENT = Measurement(name="fit", metrics=METRICS, measure=_measure, optional=True)
