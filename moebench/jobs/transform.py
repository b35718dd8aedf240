"""Jobs that change the weights of a model that was trained, and train nothing: one for each such model and seed.

Their spec is a `Run`: the sizes that the model has become, the recipe and the data of the one that it comes from, and
how it comes of it. What they leave, a model's weights with its description, is measured as any trained model is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from moebench.jobs.job import Job, OnEvent
from moebench.jobs.kind import Draft, Kind
from moebench.jobs.recipe import Run
from moebench.jobs.train import run_of

if TYPE_CHECKING:
    from torch import Tensor

    from moebench.data.corpus import Corpus
    from moebench.models.decoder import Transformer

LOADS_TOKENS = 65_536
"""Tokens of the tune split by which the load of experts is known."""


def jobs(draft: Draft) -> Iterator[Job]:
    """Of every model that starts from another, transformed or trained on: its stage, for each seed."""
    from moebench.jobs.lineage import Lineage

    for seed in draft.plan.spec.seeds:
        lineage = Lineage(draft=draft, seed=seed, made={job.model: job for job in draft.jobs if job.seed == seed})
        for name in in_order(draft):
            lineage.of(name)
        yield from lineage.jobs.values()


def in_order(draft: Draft) -> list[str]:
    """The models that start from another of the suite, each after that one."""
    decoders, found = draft.plan.decoders, dict[str, None]()

    def visit(name: str) -> None:
        derived = decoders[name].derived
        if derived is not None and name not in found:
            visit(derived.model)
            found[name] = None

    for name in decoders:
        visit(name)
    return list(found)


def parent_of(draft: Draft, model: str) -> str:
    """The model that another starts from."""
    derived = draft.plan.decoders[model].derived
    assert derived is not None
    return derived.model


def job(draft: Draft, model: str, seed: int, *, parent: Job) -> Job:
    """Changes the weights that another job leaves."""
    plan = draft.plan
    run = run_of(plan.decoders[model], seed=seed, facts=plan.data_of(model), machine=draft.machine)
    spec = run.model_copy(update={"derived": plan.derivation(model)}).model_dump(mode="json")
    return draft.job("transform", spec, model=model, seed=seed, inputs=(parent.id,))


def execute(
    job: Job,
    *,
    root: Path,
    on_event: OnEvent,
    should_stop: Callable[[], bool],  # noqa: ARG001  it is short: it is done anew
) -> str:
    """Writes the changed weights, and the load of their experts as training does at its last point: 'completed', or
    'diverged' when they give no number."""
    import safetensors.torch

    from moebench.data.tokenizer import FILE, Subwords
    from moebench.jobs.loop import about, corpus_of, settle
    from moebench.jobs.measuring import scored_windows, served
    from moebench.metrics.measurement import NotFinite
    from moebench.metrics.quality import evaluate
    from moebench.metrics.routing import routing_records
    from moebench.models.decoder.subject import DecoderSubject
    from moebench.models.transforms import Given
    from moebench.store import WEIGHTS, Results, append_lines, write_bytes, write_json

    run, results = Run.model_validate(job.spec), Results(root)
    folder, given = results.job(job.id), results.job(job.inputs[0])
    assert run.derived is not None
    transform = run.derived.transform
    assert transform is not None
    settle(run.device, job.threads)
    on_event(job.event("transforming"))
    corpus = corpus_of(job, run.data_digest, root)
    parent = served(Run.model_validate(given.spec()), given)
    for name in ("records.jsonl", WEIGHTS):
        (folder.path / name).unlink(missing_ok=True)
    write_json(folder.path / "job.json", about(job, run.device, corpus))
    stored = transform.applied(
        Given(
            weights={name: value.cpu() for name, value in parent.state_dict().items()},
            architecture=parent.architecture,
            seed=run.seed,
            loads=lambda: loads_of(parent, corpus),
        )
    )
    write_bytes(folder.path / WEIGHTS, safetensors.torch.save(stored))
    if isinstance(corpus.tokenizer, Subwords):
        write_bytes(folder.path / FILE, corpus.tokenizer.file.encode())
    a, windows = run.architecture, scored_windows(corpus, run.recipe, tokens=run.recipe.eval_tokens)
    try:
        seen = evaluate(DecoderSubject(served(run, folder), corpus.tokenizer), windows)
    except NotFinite as problem:
        folder.finish("diverged", reason=f"{problem} of the changed weights is not finite")
        return "diverged"
    dropped = seen.dropped if a.drops(training=False) else None
    records = routing_records(seen.tokens_NLE.sum(0), layers=a.moe_layers, dropped=dropped, step=run.recipe.steps)
    append_lines(folder.path / "records.jsonl", [row.model_dump(exclude_none=True) for row in records])
    folder.finish("completed")
    return "completed"


def loads_of(model: Transformer, corpus: Corpus) -> Tensor:
    """Pairs of each mixture and expert on text of the tune split, [mixtures, experts]."""
    import torch

    from moebench.data.batches import evaluation_windows
    from moebench.metrics.quality import evaluate
    from moebench.models.decoder.subject import DecoderSubject

    windows = evaluation_windows(corpus, "tune", tokens=LOADS_TOKENS, windows_per_document=None)
    return torch.from_numpy(evaluate(DecoderSubject(model, corpus.tokenizer), windows).tokens_NLE.sum(0))


TRANSFORM = Kind(jobs=jobs, execute=execute)
