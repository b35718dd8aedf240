"""Jobs that take a run again to an earlier step, and leave its weights there: at a step, or where it first met a loss.

The same run on the same machine goes the same way to the bit. Every step's loss, gradient and text are held against the
rows that the run has left, so what is left are the weights of the run at that step, or nothing. The loss that is to be
met is read on the tune split, which no claim is about: at every 25th part of the run, and once it is met at every 200th
from the last of those at which it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.frozen import Frozen
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Kind
from moebench.jobs.recipe import Run, Until

if TYPE_CHECKING:
    from moebench.data.batches import Windows
    from moebench.data.corpus import Corpus
    from moebench.jobs.training import State
    from moebench.models.decoder import Transformer
    from moebench.store import JobFolder

COARSE, FINE = 25, 200
"""Points of a run at which its loss is read until it is met, and from the last one before."""


class ReplaySpec(Frozen):
    """What is taken again, and how far; its job has the run for an input, and the one whose loss is to be met."""

    run: Run
    until: Until


class OtherWay(ValueError):  # noqa: N818  reads as what happened
    """The run does not go as it went."""


class Stopped(Exception):  # noqa: N818  no error: it was asked to
    """Asked to stop."""


def execute(job: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """'completed', at the run's end where the loss is not met; 'stopped' when asked to, to go on from its checkpoint.

    Raises OtherWay, and what training raises.
    """
    import safetensors.torch

    from moebench.jobs.loop import about, corpus_of, settle
    from moebench.jobs.measuring import REPLAYED
    from moebench.store import WEIGHTS, Results, write_bytes, write_json

    spec, results = ReplaySpec.model_validate(job.spec), Results(root)
    folder, (parent, *other) = results.job(job.id), [results.job(one) for one in job.inputs]
    folder.path.mkdir(parents=True, exist_ok=True)
    settle(spec.run.device, job.threads)
    corpus = corpus_of(job, spec.run.data_digest, root)
    write_json(folder.path / "job.json", about(job, spec.run.device, corpus))
    replay = _Replay(job, spec.run, folder, corpus, parent.steps(), on_event=on_event, should_stop=should_stop)
    try:
        if spec.until.steps is not None:
            replay.go(spec.until.steps)
            facts: dict[str, Any] = {"step": replay.state.step}
        else:
            target = spec.until.bits_per_byte or replay.loss_of(other[0])
            found = replay.meet(target)
            facts = {"step": replay.state.step, "bits_per_byte": found, "target": target}
    except Stopped:
        return "stopped"
    write_bytes(folder.path / WEIGHTS, safetensors.torch.save(replay.state.model.state_dict()))
    write_json(folder.path / REPLAYED, {**facts, "steps": spec.run.recipe.steps})
    folder.finish("completed")
    return "completed"


class _Replay:
    """A run on its way again; its checkpoint is the last coarse point at which it had not met the loss."""

    def __init__(
        self,
        job: Job,
        run: Run,
        folder: JobFolder,
        corpus: Corpus,
        went: Iterable[Mapping[str, Any]],
        *,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
    ) -> None:
        from moebench.store import Checkpoints

        self.job, self.run, self.corpus = job, run, corpus
        self.went = {row["step"]: row for row in went}
        self.checkpoints = Checkpoints(folder)
        self.on_event, self.should_stop = on_event, should_stop
        self.state = self._kept()

    def _kept(self) -> State:
        """The state at the checkpoint; before the first step without one."""
        from moebench.jobs.training import start

        kept = self.checkpoints.load()
        if kept is None or kept[2].get("threads") != self.job.threads:
            return start(self.run)
        state = start(self.run, is_loaded=True)
        state.load_bytes(kept[1])
        return state

    def go(self, step: int) -> None:
        """Takes the steps up to one. Raises Stopped, and OtherWay at the first that is not what it was."""
        from moebench.jobs.training import train

        if self.state.step >= step:
            return
        for facts in train(self.state, self.run, self.corpus):
            if self.went.get(facts.step) != vars(facts):
                why = "on another machine, or with another number of threads: train it here"
                raise OtherWay(f"step {facts.step} does not go as it went; the run was trained {why}")
            if self.should_stop():
                raise Stopped
            if facts.step == step:
                return

    def meet(self, target: float) -> float:
        """Goes to where its loss is first no more than the target; the loss there, or at its end."""
        steps = self.run.recipe.steps
        found = self._search(target, _points(COARSE, steps), keeps=True)
        if found <= target:
            self.state = self._kept()
            found = self._search(target, _points(FINE, steps), keeps=False)
        return found

    def _search(self, target: float, points: Iterator[int], *, keeps: bool) -> float:
        found = float("inf")
        for point in points:
            if point <= self.state.step:
                continue
            self.go(point)
            found = self.loss()
            self.on_event(self.job.event("progress", step=point, steps=self.run.recipe.steps, phase="evaluate"))
            if found <= target:
                break
            if keeps:
                self.checkpoints.save(point, self.state.to_bytes(), {"threads": self.job.threads})
        return found

    def loss(self) -> float:
        """Bits per byte on the tune split."""
        return self._loss(self.state.model)

    def loss_of(self, other: JobFolder) -> float:
        """Bits per byte of another run at its end, on the same text."""
        from moebench.jobs.measuring import served

        return self._loss(served(Run.model_validate(other.spec()), other))

    def _loss(self, model: Transformer) -> float:
        from moebench.metrics.quality import evaluate
        from moebench.models.decoder.subject import DecoderSubject

        return evaluate(DecoderSubject(model, self.corpus.tokenizer), self._text()).bits_per_byte()

    def _text(self) -> Windows:
        from moebench.jobs.measuring import scored_windows

        recipe = self.run.recipe.model_copy(update={"split": "tune"})
        return scored_windows(self.corpus, recipe, tokens=recipe.eval_tokens)


def _points(parts: int, steps: int) -> Iterator[int]:
    return iter(sorted({max(1, round(steps * part / parts)) for part in range(1, parts + 1)}))


REPLAY = Kind(jobs=lambda _draft: (), execute=execute)
"""Trainings that start from such a step name its jobs."""
