"""What every kind of job answers: which jobs of it a plan has, and how one is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moebench.jobs.job import Job, OnEvent

if TYPE_CHECKING:
    from moebench.planning.matching import Machine
    from moebench.planning.types import Plan


class Execute(Protocol):
    """Carries out one job in its locked folder: 'completed', 'diverged', or 'stopped' when it was asked to."""

    def __call__(self, job: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str: ...


@dataclass(kw_only=True)
class Draft:
    """A plan whose jobs are being named."""

    plan: Plan
    """Without jobs as yet."""
    machine: Machine
    threads: int
    base: Path
    """Folder that the data's relative paths start from."""
    jobs: list[Job] = field(default_factory=list)
    """Those of the kinds before."""

    def job(self, kind: str, spec: dict[str, Any], *, model: str, seed: int, **facts: Any) -> Job:
        """A job of this plan."""
        return Job(
            kind=kind,
            spec=spec,
            model=model,
            seed=seed,
            suite=self.plan.suite,
            threads=self.threads,
            device=self.machine.device,
            data=self.plan.spec.data_of(model),
            view=self.plan.spec.view_of(model),
            base=self.base,
            **facts,
        )


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of job."""

    jobs: Callable[[Draft], Iterable[Job]]
    """The jobs that a plan has of it."""
    execute: Execute
    """Imports torch when it is called."""
    needs_all: bool = True
    """Whether every input must have completed; otherwise one is enough, and it waits for all of them to end."""
    is_outdated: Callable[[Job, Path], bool] = lambda _job, _root: False
    """Whether a finished job is to be done again for what has been done since; also told the results folder."""
