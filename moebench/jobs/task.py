"""One run, and what carrying it out needs beyond what decides its bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moebench.data.sources import DataSpec
from moebench.frozen import Frozen
from moebench.jobs.recipe import Run


class Task(Frozen):
    """One run, and what carrying it out needs beyond what decides its bits."""

    run: Run
    model: str
    """Display name."""
    suite: str
    threads: int = 1
    checkpoint_seconds: float = 30.0
    data: DataSpec
    base: Path
    """Folder that the data's relative paths start from."""

    @property
    def id(self) -> str:
        return self.run.id

    def event(self, name: str, **facts: Any) -> dict[str, Any]:
        """An event of this run."""
        return {"event": name, "run": self.id, "model": self.model, "seed": self.run.seed, **facts}
