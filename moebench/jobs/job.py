"""One thing to be done: what decides its result, what it needs done before, and what carrying it out takes besides.

A job's id hashes its kind, its spec and the jobs it starts from, so the same work has the same folder whichever suite
asks for it. Each kind is one file of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from moebench.data.sources import DataSpec
from moebench.frozen import Frozen, later
from moebench.identity import job_id
from moebench.suite.view import WHOLE, TrainingView

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class Job(Frozen):
    """One job. Its id hashes kind, spec and inputs; the other fields do not change its result."""

    kind: str
    """A word of `jobs.KINDS`."""
    spec: dict[str, Any]
    """What decides the result besides the inputs, as JSON; the kind has its type."""
    inputs: tuple[str, ...] = ()
    """Ids of the jobs whose results it reads."""
    model: str
    """Display name."""
    seed: int = 0
    suite: str
    threads: int = 1
    device: str = "cpu"
    checkpoint_seconds: float = 30.0
    data: DataSpec
    view: TrainingView = later(WHOLE)
    """What of the data's training split it trains on."""
    base: Path
    """Folder that the data's relative paths start from."""
    places: dict[str, Path] = Field(default={})
    """Checkpoint, or results from elsewhere -> where its files lie on this machine."""
    exclusive: bool = False
    """Whether it runs alone, with nothing else of ours on the machine."""
    fresh: bool = False
    """Whether it has a process of its own."""
    lane: str | None = None
    """Word of the workers that carry out nothing else, where what it loads or changes in a process is not wanted in
    others' jobs; None for a worker of all other jobs."""
    means: dict[str, Any] = Field(default={})
    """How its measurement is carried out, where that decides no number: a folder of tasks, whether to go online."""
    silence_s: float = 0.0
    """How long it may give no sign of life, where that is longer than the launch allows."""

    @property
    def id(self) -> str:
        return job_id(self.kind, self.spec, self.inputs)

    @property
    def identity(self) -> dict[str, Any]:
        """What the id hashes, as `job.json` holds it."""
        return {"kind": self.kind, "spec": self.spec, "inputs": list(self.inputs)}

    def event(self, name: str, **facts: Any) -> Event:
        """An event of this job."""
        about = {"run": self.id, "job": self.kind, "model": self.model, "seed": self.seed}
        if "measurement" in self.spec:
            about["measurement"] = self.spec["measurement"]
        if "task" in self.spec.get("options", {}):
            about["task"] = self.spec["options"]["task"]
        return {"event": name, **about, **facts}
