"""A trained run as lm-eval's own command line sees it: `lm_eval --model moebench --model_args run=JOB --tasks ...`.

JOB is a run's id or the beginning of one, in `results` unless `results=FOLDER` says where, or the path of its folder. A
checkpoint is lm-eval's own `hf` model's to read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from moebench.models.generation import load_subject
from moebench.tasks.adapter import Adapter


class Model(Adapter):
    """The adapter, made from lm-eval's arguments."""

    def __init__(
        self,
        run: str | int,
        results: str = "results",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,  # noqa: ARG002  lm-eval hands it to every model
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        """`batch_size` is the most sequences at once; at 1, lm-eval's default, and `auto` they are batched by tokens.

        Raises ValueError for a run that cannot be had and for arguments that are not known.
        """
        if unknown:
            raise ValueError(f"--model_args {', '.join(sorted(unknown))}: not known; there are run and results")
        if (Path(str(run)) / "config.json").is_file():
            raise ValueError(f"--model_args run={run}: a checkpoint, which lm-eval reads itself: --model hf")
        try:
            subject = load_subject(Path(results), str(run))
        except (OSError, ValueError) as error:
            raise ValueError(f"--model_args run={run}: {error}") from error
        if str(device or "").startswith("cuda") and torch.cuda.is_available():
            subject.weights.to(str(device))
        rows = batch_size if isinstance(batch_size, int) and batch_size > 1 else None
        super().__init__(subject, rows=rows)
