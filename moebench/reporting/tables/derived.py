"""Models that are another with its weights changed: what was done, what it saves, and what it costs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moebench.format import MINUS, interval, quantity
from moebench.reporting.analysis import Findings, difference
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, text


@part("quality", order=1, asked=lambda findings: any(map(findings.plan.says, findings.plan.models)))
def derived(findings: Findings) -> Table | None:
    """A row a model, against the one that it was made of."""
    plan, rows = findings.plan, []
    for name, model in plan.decoders.items():
        said = plan.says(name)
        if model.derived is None or said is None:
            continue
        parent = plan.decoders[model.derived.model]
        change = difference(findings.final(name), findings.final(model.derived.model))
        rows.append(
            {
                "model": name, "made_of": model.derived.model, "how": said.partition(" ")[2],
                "weight_bytes": model.costs.weight_bytes, "its_weight_bytes": parent.costs.weight_bytes,
                "decode_flops_per_token": model.costs.decode_flops_per_token,
                "its_decode_flops_per_token": parent.costs.decode_flops_per_token,
                "change_percent": np.nan if change is None else change.centre,
                "low": np.nan if change is None else change.low, "high": np.nan if change is None else change.high,
                "pairs": 0 if change is None else change.n,
            }
        )  # fmt: skip
    if not rows:
        return None

    def saved(row: Row) -> str:
        return f"{quantity(row.weight_bytes, 'bytes')} ({_beside(row.weight_bytes, row.its_weight_bytes)})"

    def flops(row: Row) -> str:
        return _beside(row.decode_flops_per_token, row.its_decode_flops_per_token)

    def lost(row: Row) -> str:
        return "–" if row.change_percent is None else interval(row.change_percent, row.low, row.high, "%")

    return Table(
        title="Weights that were changed",
        note="Against the model that each was made of, which was not trained again: bytes of all weights as they are "
        "stored, decode FLOPs, and final bits per byte, paired by seed with a 95% interval. Of packed weights products "
        "are taken after they are unpacked, so their time and memory in use are those of that model.",
        frame=pd.DataFrame(rows),
        columns=(
            text("model", "model"),
            text("made_of", "made of"),
            text("how", "how"),
            Column(key="weight_bytes", title="weights", show=saved),
            Column(key="decode_flops_per_token", title="decode FLOPs", show=flops),
            Column(key="change_percent", title="bits per byte", show=lost),
        ),
    )


def _beside(value: float, its: float) -> str:
    return "the same" if value == its else f"{value / its - 1:+.1%}".replace("-", MINUS)
