"""Where runs go: into this process, or into worker processes that may crash, hang or be killed one at a time.

`task` says what is handed over, `attempt` carries out one run and names what went wrong, `worker` is the other end of
the pipe, `coordinator` shares out the runs. Nothing here imports torch: a worker does, when its first run begins.
"""

from moebench.launch.launchers import LAUNCHERS, launch
from moebench.launch.task import Event, Execute, OnEvent, Stopped
from moebench.planning.types import Task

__all__ = ["LAUNCHERS", "Event", "Execute", "OnEvent", "Stopped", "Task", "launch"]
