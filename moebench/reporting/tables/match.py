"""What was made equal between the models, with residuals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from moebench.format import number
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Column, Row, Table, amount, text, whole

_ON = {
    "active_params": "active params", "total_params": "total params", "train_flops": "training FLOPs/token",
    "decode_flops": "decode FLOPs/token", "weight_bytes": "weight bytes",
}  # fmt: skip


@part("equal")
def match(findings: Findings) -> Table | None:
    """What was made equal between the models, with residuals."""
    matches = {m.model: m for m in findings.plan.matches}
    rows = []
    for name, model in findings.plan.decoders.items():
        params, made = model.costs.params, matches.get(name)
        rows.append(
            {
                "model": name, "kind": model.architecture.ffn.kind, "active_params": params.active,
                "total_params": params.total,
                "active_params_no_embedding": params.active_no_embedding,
                "total_params_no_embedding": params.total_no_embedding,
                "train_flops_per_token": model.costs.train_flops_per_token,
                "tokens": model.recipe.steps * model.recipe.batch_tokens,
                "matched_on": made.on if made else None, "matched_to": made.to if made else None,
                "solved": f"{made.by} = {made.size}" if made else None, "residual": made.residual if made else np.nan,
                "tolerance": made.tolerance if made else np.nan, "data_digest": findings.plan.data_of(name).digest,
            }
        )  # fmt: skip
    rows += list(_elsewhere(findings))
    if not rows:
        return None

    def matched(row: Row) -> str:
        return f"{_ON[row.matched_on]} of {row.matched_to}, by {row.solved}" if row.matched_on else "–"

    def bare(row: Row) -> str:
        if pd.isna(row.total_params_no_embedding):
            return "–"
        return f"{int(row.active_params_no_embedding):,} / {int(row.total_params_no_embedding):,}"

    def read(row: Row) -> str:
        return "not known" if pd.isna(row.tokens) else f"{int(row.tokens):,} ({row.data_digest[:6]})"

    return Table(
        title="Sizes, matches and data",
        note="Parameters include embeddings (tied tables once) and the router, which counts as active; without "
        "embeddings: active / total. FLOPs: model FLOPs of forward and backward.",
        frame=pd.DataFrame(rows),
        columns=(
            text("model", "model"),
            amount("active_params", "active params", whole),
            amount("total_params", "total params", whole),
            Column(key="active_params_no_embedding", title="without embeddings", show=bare),
            amount("train_flops_per_token", "FLOPs/token", whole),
            Column(key="matched_on", title="matched on", show=matched, number=False),
            amount("residual", "residual", lambda x: f"{'+' if x > 0 else ''}{number(100 * x, 2)}%"),
            Column(key="tokens", title="tokens (digest)", show=read),
        ),
    )


def _elsewhere(findings: Findings) -> Iterator[dict[str, Any]]:
    """Models that were not made here, as far as their sizes are known; what they were trained on is not."""
    for name in findings.plan.models:
        if name in findings.plan.decoders or not (counts := findings.plan.counts(name)):
            continue
        keys = ("active_params", "total_params", "active_params_no_embedding", "total_params_no_embedding")
        sizes = {key: counts.get(f"cost.{key}", np.nan) for key in (*keys, "train_flops_per_token")}
        nothing = dict.fromkeys(("matched_on", "matched_to", "solved", "data_digest"))
        absent = dict.fromkeys(("tokens", "residual", "tolerance"), np.nan)
        yield {"model": name, "kind": findings.styles[name].kind, **sizes, **nothing, **absent}
