"""Accuracy: how often the next token of the test text is the model's first choice.

Asked for under `measure.quality`. Of the same windows as bits per byte, and by document too.
"""

from __future__ import annotations

import numpy as np

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import SHARE, Metric
from moebench.metrics.quality import by_document, domains, evaluate

ACCURACY = Metric(
    name="test.accuracy",
    unit="1",
    better="higher",
    labels=("domain",),
    whole=True,
    within=SHARE,
    asked_by=("accuracy",),
    says="share of scored tokens of the test split that were the model's first choice",
    cannot="how sure the model was, which bits per byte say; models of other tokenizers do not compare",
)

METRICS = (ACCURACY,)


def _measure(context: Context) -> Measured:
    text, documents = context.text, context.documents
    greedy_N = evaluate(context.subject, text, greedy=True).greedy_N
    assert greedy_N is not None
    tokens_N = text.mask.sum(1, dtype=np.int64)
    records = [ACCURACY.record(float(greedy_N.sum() / tokens_N.sum()), step=context.step)]
    for domain, chosen_N in domains(text, documents).items():
        share = float(greedy_N[chosen_N].sum() / tokens_N[chosen_N].sum())
        records.append(ACCURACY.record(share, domain=domain, step=context.step))
    return Measured(records=records, items=by_document(text, documents, tokens=tokens_N, greedy=greedy_N))


MEASUREMENT = Measurement(name="accuracy", metrics=METRICS, measure=_measure, optional=True)
