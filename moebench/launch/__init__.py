"""Where jobs go: into this process, or into worker processes that may crash, hang or be killed one at a time.

`scheduler` decides what runs when and what becomes of what fails; a place (`inline`, `process`, `ray`) starts, hears
and stops workers; `attempt` carries out one job and names what went wrong; `worker` is the other end of the pipe.
Nothing here imports torch: a worker does, when its first job begins. Only this package starts processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moebench.jobs.job import Job
from moebench.launch.events import Event, OnEvent, Stopped
from moebench.launch.inline import InlinePlace
from moebench.launch.options import LaunchOptions
from moebench.launch.place import LauncherMissing
from moebench.launch.process import ProcessPlace
from moebench.launch.ray import RayPlace
from moebench.launch.scheduler import MakePlace, Scheduler

__all__ = ["LAUNCHERS", "Event", "Job", "LaunchOptions", "LauncherMissing", "OnEvent", "Stopped", "launch"]


def launch(jobs: Sequence[Job], options: LaunchOptions) -> dict[str, str]:
    """Carries out the jobs that are missing; returns job id -> status: of `Outcome`, of `Failure`, or `blocked`.

    Raises KeyError for an unknown launcher, Stopped after SIGINT or SIGTERM.
    """
    if options.launcher not in LAUNCHERS:
        raise KeyError(f"unknown launcher {options.launcher!r}; known: {', '.join(LAUNCHERS)}")
    if len({job.threads for job in jobs}) > 1:
        raise ValueError("jobs launched together have the same number of threads")
    place = LAUNCHERS[options.launcher]
    return Scheduler(jobs, replace(options, results=options.root.resolve()), place).run()


LAUNCHERS: dict[str, MakePlace] = {"process": ProcessPlace, "inline": InlinePlace, "ray": RayPlace}
