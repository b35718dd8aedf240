"""Where runs go: into this process, or into worker processes that may crash, hang or be killed one at a time.

`task` says what is handed over, `attempt` carries out one run and names what went wrong, `worker` is the other end of
the pipe, `coordinator` shares out the runs. Nothing here imports torch: a worker does, when its first run begins.
"""

from moebench.jobs.task import Task
from moebench.launch.launchers import LAUNCHERS, launch
from moebench.launch.task import Event, Execute, OnEvent, Stopped

__all__ = ["LAUNCHERS", "Event", "Execute", "OnEvent", "Stopped", "Task", "launch"]
