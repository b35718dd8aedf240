"""A model in training, or trained, as measurements see it: its subject, its optimizer, and the text of its suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from moebench.checkpoints.facts import LoadSpec
from moebench.data.batches import Windows, evaluation_windows, train_batch
from moebench.data.corpus import Corpus, Document
from moebench.jobs import chosen
from moebench.jobs.elsewhere import CheckpointContext, own_text
from moebench.jobs.job import Job
from moebench.jobs.load import subject_of
from moebench.jobs.recipe import Recipe, Run
from moebench.jobs.training import State, TrainingStep, begin, model_of
from moebench.metrics.speed import AGAIN, Racer, Text
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.inside import DecoderInside
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.transforms import unpacked
from moebench.planning.types import SpeedPlan
from moebench.store import WEIGHTS, JobFolder
from moebench.suite.training import Evaluation

REPLAYED = "replayed.json"
"""What a job that takes a run again leaves beside weights: the step, of how many, and the loss there."""


class RunContext:
    """A `metrics.measurement.Context` of a run after its last step."""

    def __init__(
        self,
        run: Run,
        state: State,
        corpus: Corpus,
        *,
        given: JobFolder | None = None,
        weights: Transformer | None = None,
    ) -> None:
        """`weights` are the model as it is used, where that is not how it is trained."""
        self.run, self.corpus, self.given = run, corpus, given
        self.subject = DecoderSubject(weights or state.model, corpus.tokenizer)
        self.trainable = TrainingStep(state, run) if run.trains else None
        self.split, self.step = run.recipe.split, run.recipe.steps

    @cached_property
    def text(self) -> Windows:
        return scored_windows(self.corpus, self.run.recipe, tokens=self.run.recipe.final_eval_tokens)

    @property
    def documents(self) -> Sequence[Document]:
        return self.corpus.documents(self.split)

    @property
    def losses(self) -> NDArray[np.float64] | None:
        return (
            None
            if self.given is None or not self.run.trains
            else np.array([row["loss"] for row in self.given.steps()], dtype=np.float64)
        )

    @cached_property
    def trained_text(self) -> Windows:
        recipe = self.run.recipe
        return evaluation_windows(self.corpus, "train", tokens=recipe.eval_tokens, shuffled=recipe.shuffled)

    @property
    def training_tokens(self) -> NDArray[Any]:
        return self.corpus.tokens("train")

    @cached_property
    def batch(self) -> NDArray[Any]:
        return train_batch(self.corpus, seed=self.run.seed, step=0, batch_tokens=self.run.recipe.micro_batch_tokens)


def context_of(
    job: Job, given: JobFolder, corpus: Corpus, *, evaluation: Evaluation | None, root: Path
) -> RunContext | CheckpointContext:
    """What a measurement looks at: what the folder `given` trained, or the checkpoint that it loaded."""
    if evaluation is None:
        run = Run.model_validate(given.spec())
        apart = None if run.recipe.trained is None else served(run, given)
        return RunContext(run, load_state(run, given), corpus, given=given, weights=apart)
    subject = subject_of(LoadSpec.model_validate(given.spec()), job.places[job.model], root=root)
    return CheckpointContext(subject, corpus, evaluation)


def scored_windows(corpus: Corpus, recipe: Recipe, *, tokens: int) -> Windows:
    """What an evaluation of a recipe scores."""
    return evaluation_windows(
        corpus,
        recipe.split,
        tokens=tokens,
        windows_per_document=recipe.windows_per_document,
        shuffled=recipe.shuffled,
    )


def load_racer(name: str, folder: JobFolder) -> Racer:
    """A racer with the trained weights of a completed run and a fresh optimizer."""
    run = Run.model_validate(folder.spec())
    entry = racer(name, run, load_state(run, folder))
    return entry if run.recipe.trained is None else replace(entry, subject=DecoderSubject(served(run, folder)))


def load_state(run: Run, folder: JobFolder) -> State:
    """What a job has trained, or made of what was, with a fresh optimizer. Raises what `start` raises."""
    state = begin(_with_weights(model_of(run, is_loaded=True), run, folder), run, chosen=chosen.kept(folder))
    state.step = run.recipe.steps
    return state


def served(run: Run, folder: JobFolder) -> Transformer:
    """What a job has trained, or made of what was, as it is used: adapters merged, experts on their usual backend."""
    plain = run if run.recipe.trained is None else run.model_copy(update={"backend": "none"})  # the device's own
    return _with_weights(model_of(plain, is_loaded=True), run, folder)


def _with_weights(model: Transformer, run: Run, folder: JobFolder) -> Transformer:
    stored = safetensors.torch.load_file(folder.path / WEIGHTS)
    model.load_state_dict(unpacked(run.derived, stored, run.architecture))
    return model


def first_weights(given: JobFolder) -> dict[str, Tensor]:
    """Those that a training begins with which has such a job for its input."""
    if given.kind == "replay":
        return safetensors.torch.load_file(given.path / WEIGHTS)
    run = Run.model_validate(given.spec())
    return served(run, given).state_dict()


def share_behind(given: JobFolder) -> float:
    """Of the other's steps, of a training that such a job is the input of: all, or up to where it was taken again."""
    if given.kind != "replay":
        return 1.0
    facts = given.read(REPLAYED)
    return float(facts["step"] / facts["steps"])


def enter(name: str, plan: SpeedPlan, trained: Mapping[str, JobFolder], *, seed: int) -> Racer:
    """A racer of a session by its name: trained weights of a completed run, or initial values in their dtype."""
    model = name.removesuffix(AGAIN)
    if model in trained:
        return load_racer(name, trained[model])
    run = plan.untrained[model].model_copy(update={"seed": seed})
    weights = build(
        run.architecture,
        seed=run.seed,
        dtype=run.recipe.dtype,
        device=run.device,
        backend=None if run.backend == "none" else run.backend,
    )
    weights = weights.to(weights.dtype)
    return Racer(name=name, subject=DecoderSubject(weights), trainable=None, inside=DecoderInside(weights))


def enter_checkpoint(name: str, loaded: JobFolder, job: Job, corpus: Corpus, *, context: int, root: Path) -> Racer:
    """A racer of a checkpoint that was loaded, with the text of the others in its own tokens."""
    spec, place = LoadSpec.model_validate(loaded.spec()), job.places[name.removesuffix(AGAIN)]
    subject = subject_of(spec, place, root=root, context=context)
    text = own_text(corpus, subject.tokenizer, context=context)
    return Racer(name=name, subject=subject, trainable=None, text=text)


def racer(name: str, run: Run, state: State) -> Racer:
    inside = DecoderInside(state.model)
    return Racer(name=name, subject=DecoderSubject(state.model), trainable=TrainingStep(state, run), inside=inside)


def text_of(corpus: Corpus) -> Text:
    """Windows of training text, for what is timed."""
    return lambda rows: train_batch(corpus, seed=0, step=0, batch_tokens=rows * corpus.context)
