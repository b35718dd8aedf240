"""How jobs are to be launched: one type from the command line down to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moebench.environment import usable_cores
from moebench.jobs.job import OnEvent

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Where jobs go, how many at a time, and what is done about those that die."""

    launcher: str = "process"
    """A word of `LAUNCHERS`."""
    address: str | None = None
    """Of the cluster, where a launcher has one: `host:port`."""
    workers: int | None = None
    """Jobs at a time; None for one a core, or one on a GPU."""
    threads: int = 1
    """Of each job."""
    device: Device = "cpu"
    results: Path | str = Path("results")
    timeout_s: float = 600.0
    """How long a job may give no sign of life before it is killed."""
    retries: int = 1
    """How often a killed job is tried again in this launch."""
    on_event: OnEvent = lambda _: None

    @property
    def root(self) -> Path:
        return Path(self.results)

    @property
    def num_workers(self) -> int:
        if self.workers is not None:
            return self.workers
        return 1 if self.device == "cuda" else max(1, usable_cores() // self.threads)
