"""One run, on one screen: set up or resume, train, evaluate at the points, measure at the end, mark it done.

Rows wait in memory and go to disk just before a checkpoint, whose metadata says how many rows each file had. A resumed
run cuts its files back to that, so whatever a killed process did after its last checkpoint is done again, once, and
ends in the same bits. Clock readings go to `timed.jsonl` alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from moebench.data.batches import Windows, train_batch
from moebench.data.corpus import Corpus
from moebench.data.prepare import prepare
from moebench.environment import environment
from moebench.identity import canonical
from moebench.jobs.measuring import RunContext, scored_windows
from moebench.jobs.recipe import Run
from moebench.jobs.task import Task
from moebench.jobs.training import Diverged, State, start, train
from moebench.metrics import MEASUREMENTS
from moebench.metrics.measurement import NotFinite
from moebench.metrics.metric import Record
from moebench.metrics.quality import Evaluated, evaluate, point_records
from moebench.metrics.routing import routing_records
from moebench.metrics.training import dropped_share, ended, initial, spent
from moebench.models.decoder.subject import DecoderSubject, ffn_output_rms
from moebench.store import Checkpoints, JobFolder, Results, append_lines, keep_lines, write_bytes, write_json

Event = dict[str, Any]
ROW_FILES = ("steps.jsonl", "records.jsonl", "timed.jsonl")
PROGRESS_SECONDS = 0.25


class DataChanged(ValueError):  # noqa: N818  reads as what happened
    """The data are not those the plan was made for."""


@dataclass(kw_only=True)
class _Journal:
    """Rows on their way to the run's files, and the time since each kind of work began."""

    folder: JobFolder
    segment: int = 0
    written: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROW_FILES, 0))
    waiting: dict[str, list[Mapping[str, Any]]] = field(default_factory=lambda: {name: [] for name in ROW_FILES})
    spent: dict[str, float] = field(default_factory=dict)
    first_step: int = 0

    def add_records(self, records: Iterator[Record] | list[Record]) -> None:
        self.waiting["records.jsonl"].extend(row.model_dump(exclude_none=True) for row in records)

    def clocked(self, what: str, began: float) -> None:
        self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - began

    def flush(self, step: int) -> None:
        """Puts everything on disk; the times since the last flush become rows of one undisturbed segment."""
        common = {"segment": self.segment, "step_from": self.first_step, "step_to": step}
        self.waiting["timed.jsonl"] = [{**common, "what": k, "seconds": s} for k, s in self.spent.items()]
        for name, rows in self.waiting.items():
            if rows:
                append_lines(self.folder.path / name, rows)
                self.written[name] += len(rows)
        self.waiting, self.spent, self.first_step = {name: [] for name in ROW_FILES}, {}, step


def execute(task: Task, *, root: Path, on_event: Callable[[Event], None], should_stop: Callable[[], bool]) -> str:
    """Carries a run to its end: 'completed', 'diverged', or 'stopped' after a checkpoint when `should_stop` says so.

    The caller holds the folder's lock. Raises DataChanged when the data are not those of the plan, and whatever the
    machine raises (memory, disk).
    """
    run = task.run
    folder = Results(root).job(run.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    settle(run, task.threads)
    corpus = prepare(task.data, base=task.base, cache=root / "data")
    if corpus.digest != run.data_digest:
        raise DataChanged(f"the data have digest {corpus.digest[:12]}, the plan {run.data_digest[:12]}: plan again")
    state, journal = _begin_or_resume(task, folder, corpus)
    report = _Reporter(task=task, on_event=on_event)
    try:
        if not _train(task, state, journal, corpus, report=report, should_stop=should_stop):
            return "stopped"
        report(state.step, "measure", force=True)
        _measure(task, state, journal, corpus)
    except Diverged as problem:
        journal.flush(state.step)
        folder.finish("diverged", reason=str(problem))
        return "diverged"
    folder.finish("completed")
    return "completed"


def settle(run: Run, threads: int) -> None:
    """Makes this process one in which the run gives the same bits every time."""
    torch.set_num_threads(threads)
    if run.device == "cpu":
        torch.use_deterministic_algorithms(True)


def _begin_or_resume(task: Task, folder: JobFolder, corpus: Corpus) -> tuple[State, _Journal]:
    """The state after the last checkpoint, files cut back to it; or a fresh state in an emptied folder."""
    run, state, journal = task.run, start(task.run), _Journal(folder=folder)
    found = Checkpoints(folder).load()
    # Another number of threads sums in another order: going on would end in bits that neither number gives.
    if found is not None and found[2].get("threads") == task.threads:
        _, data, meta = found
        state.load_bytes(data)
        journal.written, journal.segment = meta["rows"], meta["segment"] + 1
        journal.first_step = state.step
        for name, count in journal.written.items():
            keep_lines(folder.path / name, _first(count))
        return state, journal
    for name in (*ROW_FILES, "items.jsonl", "model.safetensors"):
        (folder.path / name).unlink(missing_ok=True)
    splits = {
        split: {"digest": corpus.split_digest(split), "documents": len(corpus.documents(split))}
        for split in ("tune", "test")
    }
    about = {
        "run": run.model_dump(mode="json"),
        "model": task.model,
        "suite": task.suite,
        "environment": environment(task.threads, run.device).model_dump(mode="json"),
        "data": task.data.model_dump(mode="json"),
        "data_splits": splits,
        "started": time.time(),
    }
    write_json(folder.path / "job.json", about)
    batch = torch.from_numpy(train_batch(corpus, seed=run.seed, step=0, batch_tokens=run.recipe.micro_batch_tokens))
    journal.add_records(initial(ffn_output_rms(state.model, batch[:, :-1].to(run.device))))
    return state, journal


def _first(count: int) -> Callable[[Mapping[str, Any]], bool]:
    """Keeps the first `count` rows it is asked about."""
    seen = itertools.count()
    return lambda _: next(seen) < count


@dataclass(kw_only=True)
class _Reporter:
    """Progress events, a few a second."""

    task: Task
    on_event: Callable[[Event], None]
    loss: float | None = None
    began: float = field(default_factory=time.perf_counter)
    first_step: int | None = None
    last: float = 0.0

    def __call__(self, step: int, phase: str, *, loss: float | None = None, force: bool = False) -> None:
        self.loss = loss if loss is not None else self.loss
        if self.first_step is None:
            self.first_step, self.began = step, time.perf_counter()
        now = time.perf_counter()
        if now - self.last < PROGRESS_SECONDS and not force:
            return
        self.last = now
        recipe, done = self.task.run.recipe, step - self.first_step
        self.on_event(
            {
                "event": "progress",
                "run": self.task.run.id,
                "model": self.task.model,
                "seed": self.task.run.seed,
                "step": step,
                "steps": recipe.steps,
                "batch_tokens": recipe.batch_tokens,
                "loss": self.loss,
                "tokens_per_s": done * recipe.batch_tokens / (now - self.began) if done else None,
                "phase": phase,
            }
        )


def _train(
    task: Task,
    state: State,
    journal: _Journal,
    corpus: Corpus,
    *,
    report: _Reporter,
    should_stop: Callable[[], bool],
) -> bool:
    """Takes the steps that are left; False when asked to stop, after a checkpoint."""
    recipe, checkpoints = task.run.recipe, Checkpoints(journal.folder)
    points = set(recipe.evaluate_at)
    windows = scored_windows(corpus, recipe, tokens=recipe.eval_tokens)
    report(state.step, "train", force=True)
    checkpointed = began = time.perf_counter()
    for facts in train(state, task.run, corpus):
        journal.clocked("train", began)
        harness = time.perf_counter()
        journal.waiting["steps.jsonl"].append(vars(facts))
        report(facts.step, "train", loss=facts.loss)
        stopping = should_stop()
        journal.clocked("harness", harness)
        if facts.step in points:
            report(facts.step, "evaluate", force=True)
            evaluating = time.perf_counter()
            journal.add_records(_point_records(task, state, windows, _evaluate(task, state, windows)))
            journal.clocked("evaluate", evaluating)
        if facts.step in points or stopping or time.perf_counter() - checkpointed > task.checkpoint_seconds:
            checkpointing = time.perf_counter()
            _checkpoint(checkpoints, journal, state)
            checkpointed = time.perf_counter()
            journal.spent["checkpoint"] = checkpointed - checkpointing
        if stopping and state.step < recipe.steps:
            return False
        began = time.perf_counter()
    return True


def _checkpoint(checkpoints: Checkpoints, journal: _Journal, state: State) -> None:
    journal.flush(state.step)
    about = {"rows": dict(journal.written), "segment": journal.segment, "threads": torch.get_num_threads()}
    checkpoints.save(state.step, state.to_bytes(), about)


def _evaluate(task: Task, state: State, windows: Windows) -> Evaluated:
    """Raises Diverged when the last step left weights that give no number; the training loss told of those before."""
    with _diverging(task, state):
        return evaluate(DecoderSubject(state.model), windows)


@contextmanager
def _diverging(task: Task, state: State) -> Iterator[None]:
    try:
        yield
    except NotFinite as problem:
        raise Diverged(f"step {state.step}: {problem} on the {task.run.recipe.split} split is not finite") from None


def _point_records(task: Task, state: State, windows: Windows, seen: Evaluated) -> Iterator[Record]:
    """What is known at an evaluation point; all of them score the same text."""
    step, recipe, a = state.step, task.run.recipe, task.run.architecture
    yield from point_records(seen, windows, step=step, first=step == recipe.evaluate_at[0])
    tokens = step * recipe.batch_tokens
    yield from spent(step=step, tokens=tokens, model_flops=state.model_flops, executed_flops=state.executed_flops)
    dropped_here = seen.dropped if a.drops(training=False) else None
    yield from routing_records(seen.tokens_NLE.sum(0), layers=a.moe_layers, dropped=dropped_here, step=step)
    if a.drops(training=True):
        yield dropped_share(step=step, dropped=state.pairs_dropped, computed=state.pairs_computed)


def _measure(task: Task, state: State, journal: _Journal, corpus: Corpus) -> None:
    """What is measured once, on the trained model, and the weights themselves."""
    run, folder = task.run, journal.folder
    context = RunContext(run, state, corpus)
    with _diverging(task, state):
        quality = MEASUREMENTS["quality"].measure(context)
    write_bytes(folder.path / "model.safetensors", safetensors.torch.save(state.model.state_dict()))
    flops, memory = (MEASUREMENTS[name].measure(context) for name in ("flops", "memory"))
    lines = [canonical(row) + "\n" for row in quality.items or []]
    write_bytes(folder.path / "items.jsonl", "".join(lines).encode())
    journal.add_records(quality.records)
    last = [row["loss"] for row in journal.folder.steps()[-max(1, run.recipe.steps // 10) :]]
    epochs = run.recipe.epochs(stream=len(corpus.tokens("train")), context=corpus.context)
    journal.add_records(ended(last, epochs=epochs, step=state.step))
    journal.add_records([*flops.records, *memory.records])
    journal.flush(state.step)
