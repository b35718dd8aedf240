"""Where models that were not trained here come from: files, hashes, formats, dates, and what is not verified."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pandas as pd

from moebench.planning.planned import PlannedCheckpoint, PlannedExternal
from moebench.reporting.analysis import Findings
from moebench.reporting.part import part
from moebench.reporting.tables.table import Table, text
from moebench.text import shown_path

_FORMS = {"table": "tidy table", "lm_eval": "folder written by lm-eval"}
_UNVERIFIED = "data, tasks and prompts, tuning, hardware"


@part("elsewhere")
def origins(findings: Findings) -> Table | None:
    """A row a checkpoint or external model."""
    rows = list(_rows(findings))
    if not rows:
        return None
    columns = (
        text("model", "model"),
        text("source", "from"),
        text("format", "format"),
        text("digest_short", "sha256"),
        text("runs", "runs"),
        text("read", "read on"),
        text("not_verified", "not verified"),
    )
    frame = pd.DataFrame(rows)
    shown = frame.assign(digest_short=frame["digest"].str[:12])
    note = "sha256 of what was read, its first 12 digits; tables/origins.csv has all 64."
    return Table(title="Models and numbers from elsewhere", note=note, frame=frame, columns=columns, shown=shown)


def _rows(findings: Findings) -> Iterator[dict[str, Any]]:
    plan = findings.plan
    for name, model in plan.models.items():
        done = [run.finished for run in findings.study.evidence.outcomes_of([name]) if run.finished is not None]
        read = time.strftime("%d %b %Y", time.gmtime(max(done))).lstrip("0") if done else "not yet"
        if isinstance(model, PlannedCheckpoint):
            revision = f" at {model.revision}" if model.revision else ""
            yield {
                "model": name, "source": f"{shown_path(model.checkpoint)}{revision}",
                "format": f"{model.family}, {model.dtype}{', our decoder' if model.native else ''}",
                "digest": model.digest, "runs": "1", "read": read, "not_verified": "training data and tuning",
            }  # fmt: skip
        elif isinstance(model, PlannedExternal):
            named = "" if model.model == name else f" ({model.model})"
            yield {
                "model": name, "source": f"{shown_path(model.results)}{named}",
                "format": _FORMS.get(model.form, model.form),
                "digest": model.sha256, "runs": f"{len(model.seeds)}", "read": read, "not_verified": _UNVERIFIED,
            }  # fmt: skip
