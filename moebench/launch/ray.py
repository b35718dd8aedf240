"""Jobs on a Ray cluster whose nodes share the results folder: an actor is a worker, and serves many jobs.

Ray starts processes, moves jobs to them and notices nodes that die; what becomes of a job is the scheduler's business
as everywhere. An exclusive job asks for all CPUs of one node, always the same while it lives, so that the processes of
a speed session are of one machine. Nothing is asked of the submitting host but Ray: it needs no CUDA.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import Any

from moebench.jobs.job import Job
from moebench.launch.attempt import carry_out
from moebench.launch.events import Event
from moebench.launch.options import LaunchOptions
from moebench.launch.place import LauncherMissing, Place, Worker
from moebench.launch.process import worker_variables
from moebench.store import Failure

_SLICE_S = 0.5
"""Longest wait on Ray before signals are looked at: a wait on Ray is not woken by them."""


class Server:
    """The far end, an actor: carries out one job at a time in a thread of its own and passes on what is said of it."""

    def __init__(self) -> None:
        self._stop = Flag()

    def carry_out(self, job: dict[str, Any], root: str) -> Iterator[Event]:
        """Events of the job as they come; the last is its end."""
        events: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        asked = Job.model_validate(job)

        def work() -> None:
            try:
                events.put(carry_out(asked, root=Path(root), on_event=events.put, should_stop=self._stop.is_set))
            except BaseException as error:
                events.put(error)
            events.put(None)

        yield asked.event("started")
        Thread(target=work, daemon=True).start()
        while (event := events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    def ask_to_stop(self) -> None:
        """Asks the job under way for a checkpoint and an end."""
        self._stop.set()


class RayWorker(Worker):
    """An actor somewhere on the cluster."""

    def __init__(self, ray: Any, actor: Any, root: Path) -> None:
        super().__init__()
        self._ray, self._actor, self._root = ray, actor, root
        self.events: Any = None
        """Ray's generator of events of the job under way."""
        self._is_gone = False
        self._died_of = ""
        self._has_begun = False

    def give(self, job: Job) -> None:
        self._has_begun = False
        method = self._actor.carry_out.options(num_returns="streaming")
        self.events = method.remote(job.model_dump(mode="json"), str(self._root))

    def ask_to_stop(self) -> None:
        self.retired = True
        self._actor.ask_to_stop.remote()

    def retire(self) -> None:
        self.retired = True

    def read(self) -> list[Event] | None:
        if self.events is None:
            return None if self.ended() else []
        events: list[Event] = []
        try:
            while self._ray.wait([self.events], timeout=0)[0]:
                events.append(self._ray.get(next(self.events)))
        except StopIteration:
            self.events = None
        except self._ray.exceptions.RayError as error:  # the actor or its node died
            self.events, self._is_gone, self._died_of = None, True, str(error).strip().splitlines()[0]
        if events:
            self.heard, self._has_begun = time.monotonic(), True
        elif self._is_gone:
            return None
        return events

    def waits_for_room(self) -> bool:
        """Whether its job has not begun: waiting for room on the cluster is no silence."""
        return self.events is not None and not self._has_begun

    def ended(self) -> bool:
        return self.events is None and (self._is_gone or self.retired)

    def kill(self) -> None:
        self._ray.kill(self._actor)
        self._is_gone = True

    def reap(self) -> None:
        self.kill()

    def post_mortem(self) -> tuple[Failure, str, str]:
        if self.is_hung:
            return "timeout", "no progress for too long", ""
        return "killed", self._died_of or "its Ray actor was killed", ""


class RayPlace(Place):
    """A cluster: the one at an address, the one that runs here, or one of this machine's cores alone."""

    is_local = False

    def __init__(self, options: LaunchOptions, *, is_stopping: Callable[[], bool]) -> None:
        super().__init__(options, is_stopping=is_stopping)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a head that starts here would report to Ray's makers
        try:
            import ray
        except ImportError:
            raise LauncherMissing("the launcher ray needs Ray: pip install 'moebench[ray]'") from None
        self._ray: Any = ray
        self._workers: list[RayWorker] = []
        self._joined = not ray.is_initialized()
        if self._joined:
            try:
                ray.init(
                    address=options.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
                )
            except ConnectionError as error:
                raise LauncherMissing(f"no Ray cluster at {options.address}: {error}") from None

    @property
    def num_workers(self) -> int:
        """As asked, or as many as the cluster has room for."""
        if self.options.workers is not None:
            return self.options.workers
        there, key = self._ray.cluster_resources(), "GPU" if self.options.device == "cuda" else "CPU"
        return max(1, int(there.get(key, 0) // (1 if key == "GPU" else self.options.threads)))

    def start(self, job: Job) -> Worker:
        wanted: dict[str, Any] = {"num_cpus": job.threads, "num_gpus": int(job.device == "cuda")}
        if job.exclusive:
            wanted |= self._whole_node()
        actor = self._ray.remote(Server).options(
            **wanted,
            max_restarts=0,
            max_concurrency=2,  # to be asked to stop while at a job
            runtime_env={"env_vars": worker_variables(job.threads)},
        )
        worker = RayWorker(self._ray, actor.remote(), self.options.root)
        self._workers.append(worker)
        return worker

    def _whole_node(self) -> dict[str, Any]:
        """All CPUs and GPUs of the largest node; of equal ones the first by id."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = [node for node in self._ray.nodes() if node["Alive"]]
        node = min(alive, key=lambda node: (-node["Resources"].get("CPU", 0), node["NodeID"]))
        return {
            "num_cpus": node["Resources"].get("CPU", 0),
            "num_gpus": node["Resources"].get("GPU", 0),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
        }

    def wait(self, seconds: float) -> Iterable[Worker]:
        at_work = {worker.events: worker for worker in self._workers if worker.events is not None}
        if not at_work:
            time.sleep(min(seconds, _SLICE_S))
            return []
        ready, _ = self._ray.wait(list(at_work), timeout=min(seconds, _SLICE_S), fetch_local=False)
        waiting = [worker for worker in at_work.values() if worker.waits_for_room()]
        for worker in waiting:
            worker.heard = time.monotonic()
        if waiting and len(self._workers) > self.num_workers:  # a node died: who is idle makes room
            for worker in self._workers:
                if worker.job is None:
                    worker.retire()
        return [at_work[events] for events in ready]

    def forget(self, worker: Worker) -> None:
        assert isinstance(worker, RayWorker)
        self._workers.remove(worker)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined:
            self._ray.shutdown()
