"""Jobs that load a checkpoint: its files are those that were planned, and the built model has the planned parameters.

Nothing of it is copied: what is measured of it loads it again, and compares the digest again. Where its files lie is
told to the job and decides nothing, so that a checkpoint that was moved is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.checkpoints.facts import OURS, LoadSpec
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind

if TYPE_CHECKING:
    from moebench.counting.blueprint import Blueprint
    from moebench.models.subject import Subject

FACTS = "facts.json"
SILENCE_S, BYTES_PER_S = 240.0, 50e6
"""How long loading may be silent: so long, and as long as its files take from a slow disk."""


class CheckpointChanged(ValueError):  # noqa: N818  reads as what happened
    """The files are not those that the plan was made for."""


def jobs(draft: Draft) -> Iterator[Job]:
    """One for each checkpoint."""
    from moebench.checkpoints.located import locate
    from moebench.planning.checkpoints import goes_alone, load_spec
    from moebench.planning.planned import PlannedCheckpoint

    for name, planned in draft.plan.models.items():
        if isinstance(planned, PlannedCheckpoint):
            place = locate(planned.checkpoint, base=draft.base, revision=planned.revision).folder
            yield draft.job(
                "load",
                load_spec(planned, device=draft.machine.device).model_dump(mode="json"),
                model=name,
                seed=draft.plan.spec.seeds[0],
                places={name: place},
                exclusive=goes_alone(planned, draft.machine),
                silence_s=SILENCE_S + planned.file_bytes / BYTES_PER_S,
            )


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  hashing and building take what they take
) -> str:
    """Writes what the files are. Raises CheckpointChanged, and CheckpointError for files that are no such model."""
    from moebench.counting.weights import parameters
    from moebench.environment import environment
    from moebench.store import Results, write_json

    spec, place, folder = LoadSpec.model_validate(job.spec), job.places[job.model], Results(root).job(job.id)
    on_event(job.event("loading"))
    here = environment(job.threads, job.device).model_dump(mode="json")
    about = {"job": job.identity, "model": job.model, "seed": job.seed, "suite": job.suite, "environment": here}
    write_json(folder.path / "job.json", {**about, "started": time.time()})
    blueprint = checked(spec, place, root=root)
    counted, built = parameters(blueprint), _built(spec, place)
    if built is not None and built != counted.total:
        raise CheckpointChanged(f"{place.name} has {built:,} parameters as built, {counted.total:,} as planned")
    facts = {"parameters": counted, "blueprint": blueprint}
    written: dict[str, Any] = {name: value.model_dump(mode="json") for name, value in facts.items()}
    write_json(folder.path / FACTS, {**spec.model_dump(mode="json"), **written, "built_parameters": built})
    folder.finish("completed")
    return "completed"


def _built(spec: LoadSpec, place: Path) -> int | None:
    """Parameters of what transformers builds; None for a run of ours, which planning has built."""
    if spec.family == OURS:
        return None
    from moebench.models.hf.loading import built_parameters

    return built_parameters(place)


def checked(spec: LoadSpec, place: Path, *, root: Path) -> Blueprint:
    """What the files count as, once they are those that were planned. Raises CheckpointChanged when they are not."""
    from moebench.checkpoints.described import describe
    from moebench.checkpoints.located import Located

    if spec.family == OURS:
        return _checked_run(spec, place)
    located = Located(asked=place.name, folder=place, revision=None)
    facts, blueprint = describe(located, cache=root / "data" / "digests")
    if facts.digest != spec.digest:
        raise CheckpointChanged(
            f"the files in {place.name} have digest {facts.digest[:12]}, the plan {spec.digest[:12]}: they have "
            "changed, so plan again"
        )
    return blueprint


def _checked_run(spec: LoadSpec, place: Path) -> Blueprint:
    from moebench.jobs.recipe import Run
    from moebench.planning.checkpoints import digest_of_run
    from moebench.store import Results

    folder = Results(place.parent.parent).job(place.name)
    if problems := folder.verify():
        raise CheckpointChanged(problems[0])
    if digest_of_run(folder) != spec.digest:
        raise CheckpointChanged(f"the run {place.name} has changed since it was planned: plan again")
    return Run.model_validate(folder.spec()).architecture.blueprint


def subject_of(spec: LoadSpec, place: Path, *, root: Path, context: int | None = None) -> Subject:
    """The loaded model, no longer than `context` where that is given. Raises what `checked` raises."""
    blueprint = checked(spec, place, root=root)
    if spec.family == OURS:
        from moebench.data.tokenizer import tokenizer_of
        from moebench.models.decoder.subject import DecoderSubject
        from moebench.models.generation import load_trained

        model = load_trained(place.parent.parent, place.name)
        return DecoderSubject(model.to(spec.device), tokenizer_of(place))
    if spec.native:
        return _native(spec, place, blueprint.vocab, context=context)
    from moebench.models.hf.loading import load

    subject: Subject = load(
        place,
        blueprint,
        dtype=spec.dtype,
        device=spec.device,
        experts=spec.experts,
        device_map=spec.device_map,
        context=context,
    )
    return subject


def _native(spec: LoadSpec, place: Path, vocab: int, *, context: int | None) -> Subject:
    """A checkpoint in our own decoder, with its own tokenizer."""
    from moebench.models.convert.reading import load_native
    from moebench.models.decoder.subject import DecoderSubject
    from moebench.models.hf.tokenizer import load_tokenizer

    model = load_native(place, context=context, dtype=spec.dtype, device=spec.device)
    return DecoderSubject(model, load_tokenizer(place, rows=vocab))


LOAD = Kind(jobs=jobs, execute=execute)
