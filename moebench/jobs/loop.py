"""One training job, on one screen: set up or resume, train, evaluate at the points, keep the weights, mark it done.

Where a decay branch leaves, the state is put aside, trained to the end of the smaller budget, scored as a finished run
is, and put back; its steps are in no file but for that score. A checkpoint goes before it.

Rows wait in memory and go to disk just before a checkpoint, whose metadata says how many rows each file had. A resumed
job cuts its files back to that, so whatever a killed process did after its last checkpoint is done again, once, and
ends in the same bits. Clock readings go to `timed.jsonl` alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from moebench.data.batches import Windows, train_batch, unigram_bits_per_byte
from moebench.data.corpus import Corpus
from moebench.data.prepare import prepare
from moebench.data.tokenizer import FILE, AnyTokenizer, Subwords
from moebench.environment import environment
from moebench.identity import digest_of
from moebench.jobs import chosen
from moebench.jobs.job import Job, OnEvent
from moebench.jobs.keeping import Keeper
from moebench.jobs.measuring import first_weights, scored_windows, share_behind
from moebench.jobs.recipe import Run
from moebench.jobs.training import Diverged, State, begin, branched, model_of, start, train
from moebench.metrics import answers, decayed
from moebench.metrics.measurement import NotFinite
from moebench.metrics.metric import Record
from moebench.metrics.quality import Evaluated, evaluate, point_records
from moebench.metrics.routing import routing_records
from moebench.metrics.training import UNIGRAM, dropped_share, ended, initial, spent, started
from moebench.models.convert.reading import begin_from
from moebench.models.decoder import Transformer
from moebench.models.decoder.subject import DecoderSubject, ffn_output_rms
from moebench.store import WEIGHTS, Checkpoints, JobFolder, Results, append_lines, keep_lines, write_bytes, write_json
from moebench.suite.view import WHOLE

ROW_FILES = ("steps.jsonl", "records.jsonl", "timed.jsonl")
PROGRESS_SECONDS = 0.25


_HELD: dict[str, Corpus] = {}
"""The data of the last jobs: a worker's jobs mostly read the same."""
MOST_HELD = 8


class DataChanged(ValueError):  # noqa: N818  reads as what happened
    """The data are not those the plan was made for."""


@dataclass(kw_only=True)
class _Journal:
    """Rows on their way to the job's files, and the time since each kind of work began."""

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


def execute(job: Job, *, root: Path, on_event: OnEvent, should_stop: Callable[[], bool]) -> str:
    """Carries training to its end: 'completed', 'diverged', or 'stopped' after a checkpoint when `should_stop` says so.

    The caller holds the folder's lock. Raises DataChanged when the data are not those of the plan, and whatever the
    machine raises (memory, disk).
    """
    run = Run.model_validate(job.spec)
    folder = Results(root).job(job.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    settle(run.device, job.threads)
    corpus = corpus_of(job, run.data_digest, root)
    state, journal = _begin_or_resume(job, run, folder, corpus, root)
    report, keeper = _Reporter(job=job, run=run, on_event=on_event), Keeper.of(run, folder, corpus)
    try:
        if not _train(job, run, state, journal, corpus, keeper, report=report, should_stop=should_stop):
            return "stopped"
    except Diverged as problem:
        journal.flush(state.step)
        folder.finish("diverged", reason=str(problem))
        return "diverged"
    journal.add_records(keeper.leave(state))
    if isinstance(corpus.tokenizer, Subwords):  # so that the model can be used where its data are not
        write_bytes(folder.path / FILE, corpus.tokenizer.file.encode())
    journal.add_records(_last_records(run, state, folder, corpus))
    journal.flush(state.step)
    folder.finish("completed")
    return "completed"


def settle(device: str, threads: int) -> None:
    """Makes this process one in which a job gives the same bits every time."""
    torch.set_num_threads(threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)


def corpus_of(job: Job, digest: str, root: Path) -> Corpus:
    """The data of a job. Raises DataChanged when they are not those that it was planned with."""
    part = job.view.selection
    key = digest_of([
        job.data.model_dump(mode="json"), job.data.fingerprint(job.base), str(job.base), str(root), part.model_dump(),
    ])  # fmt: skip
    if key not in _HELD:
        while len(_HELD) >= MOST_HELD:
            del _HELD[next(iter(_HELD))]
        _HELD[key] = prepare(job.data, base=job.base, cache=root / "data", part=part)
    corpus = _HELD[key]
    if corpus.digest != digest:
        raise DataChanged(f"the data have digest {corpus.digest[:12]}, the plan {digest[:12]}: plan again")
    return corpus


def about(job: Job, device: str, corpus: Corpus) -> dict[str, Any]:
    """What `job.json` says of a job, where it runs and on what data."""
    return {
        "job": job.identity,
        "model": job.model,
        "seed": job.seed,
        "suite": job.suite,
        "environment": environment(job.threads, device).model_dump(mode="json"),
        "data": job.data.model_dump(mode="json"),
        **({"view": job.view.model_dump(mode="json")} if job.view != WHOLE else {}),
        "data_splits": {
            split: {"digest": corpus.text_digest(split), "documents": len(corpus.documents(split))}
            for split in ("tune", "test")
        },
        "started": time.time(),
    }


def _begin_or_resume(job: Job, run: Run, folder: JobFolder, corpus: Corpus, root: Path) -> tuple[State, _Journal]:
    """The state after the last checkpoint, files cut back to it; or a fresh state in an emptied folder."""
    journal, checkpoint = _Journal(folder=folder), Checkpoints(folder).load()
    # Another number of threads sums in another order: going on would end in bits that neither number gives.
    if checkpoint is not None and checkpoint[2].get("threads") == job.threads:
        _, data, meta = checkpoint
        state = start(run, is_loaded=True, chosen=chosen.kept(folder))
        state.load_bytes(data)
        journal.written, journal.segment = meta["rows"], meta["segment"] + 1
        journal.first_step = state.step
        for name, count in journal.written.items():
            keep_lines(folder.path / name, _first(count))
        return state, journal
    model = _first_weights(job, run, root)
    experts = chosen.choose(model, run, corpus)
    chosen.keep(folder, experts)
    state = begin(model, run, chosen=experts)
    for name in (*ROW_FILES, WEIGHTS):
        (folder.path / name).unlink(missing_ok=True)
    write_json(folder.path / "job.json", about(job, run.device, corpus))
    batch = torch.from_numpy(train_batch(corpus, seed=run.seed, step=0, batch_tokens=run.recipe.micro_batch_tokens))
    journal.add_records(initial(ffn_output_rms(state.model, batch[:, :-1].to(run.device))))
    if run.derived is not None:
        windows = scored_windows(corpus, run.recipe, tokens=run.recipe.eval_tokens)
        loss = _evaluate(run, state, windows, corpus.tokenizer).bits_per_byte()
        journal.add_records(started(loss, share=share_behind(Results(root).job(job.inputs[0]))))
    return state, journal


def _first_weights(job: Job, run: Run, root: Path) -> Transformer:
    """The model as it is before its first step: with initial values, or with the weights that it starts from."""
    model = model_of(run, is_loaded=run.start is not None or run.derived is not None)
    if run.start is not None:
        begin_from(model, job.places[job.model], digest=run.start, cache=root / "data" / "digests")
    elif run.derived is not None:
        model.load_state_dict(first_weights(Results(root).job(job.inputs[0])))
    return model


def _first(count: int) -> Callable[[Mapping[str, Any]], bool]:
    """Keeps the first `count` rows it is asked about."""
    seen = itertools.count()
    return lambda _: next(seen) < count


@dataclass(kw_only=True)
class _Reporter:
    """Progress events, a few a second."""

    job: Job
    run: Run
    on_event: OnEvent
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
        recipe, done = self.run.recipe, step - self.first_step
        self.on_event(
            self.job.event(
                "progress",
                step=step,
                steps=recipe.all_steps,
                batch_tokens=recipe.batch_tokens,
                loss=self.loss,
                tokens_per_s=done * recipe.batch_tokens / (now - self.began) if done else None,
                phase=phase,
            )
        )


def _train(
    job: Job,
    run: Run,
    state: State,
    journal: _Journal,
    corpus: Corpus,
    keeper: Keeper,
    *,
    report: _Reporter,
    should_stop: Callable[[], bool],
) -> bool:
    """Takes the steps that are left; False when asked to stop, after a checkpoint."""
    recipe, checkpoints = run.recipe, Checkpoints(journal.folder)
    points = set(recipe.evaluate_at)
    windows = scored_windows(corpus, recipe, tokens=recipe.eval_tokens)
    taken = recipe.taken(state.step, state.branches)
    report(taken, "train", force=True)
    if not _branches(run, state, journal, corpus, report=report, should_stop=should_stop):
        return False
    checkpointed = began = time.perf_counter()
    for facts in train(state, run, corpus):
        journal.clocked("train", began)
        harness = time.perf_counter()
        journal.waiting["steps.jsonl"].append(vars(facts))
        taken = recipe.taken(facts.step, state.branches)
        report(taken, "train", loss=facts.loss)
        stopping = should_stop()
        journal.clocked("harness", harness)
        if facts.step in points:
            report(taken, "evaluate", force=True)
            evaluating = time.perf_counter()
            journal.add_records(_point_records(run, state, windows, _evaluate(run, state, windows, corpus.tokenizer)))
            journal.add_records(_looked(keeper, state))
            journal.clocked("evaluate", evaluating)
        if facts.step in points or stopping or time.perf_counter() - checkpointed > job.checkpoint_seconds:
            checkpointing = time.perf_counter()
            _checkpoint(checkpoints, journal, state)
            checkpointed = time.perf_counter()
            journal.spent["checkpoint"] = checkpointed - checkpointing
        if stopping and state.step < recipe.steps:
            return False
        if not _branches(run, state, journal, corpus, report=report, should_stop=should_stop):
            return False
        began = time.perf_counter()
    return True


def _branches(
    run: Run,
    state: State,
    journal: _Journal,
    corpus: Corpus,
    *,
    report: _Reporter,
    should_stop: Callable[[], bool],
) -> bool:
    """Takes the branches that leave here; False when asked to stop in one, which is then to be done again."""
    recipe = run.recipe
    while state.branches < len(recipe.branches) and recipe.leaves_at(recipe.branches[state.branches]) <= state.step:
        _checkpoint(Checkpoints(journal.folder), journal, state)
        began, budget, flops = time.perf_counter(), recipe.branches[state.branches], state.executed_flops
        before = recipe.taken(state.step, state.branches) - state.step
        branch = run.model_copy(update={"recipe": recipe.branch(budget)})
        with branched(state):
            try:
                for facts in train(state, branch, corpus):
                    report(before + facts.step, "train")
                    if should_stop():
                        return False
                records = list(_decayed(branch, state, corpus))
            except Diverged as problem:
                records = [decayed.diverged(f"the branch of {budget:,} steps diverged: {problem}", step=budget)]
            flops = state.executed_flops - flops
        state.branches, state.branch_flops = state.branches + 1, state.branch_flops + flops
        journal.add_records(records)
        journal.clocked("branch", began)
    return True


def _decayed(run: Run, state: State, corpus: Corpus) -> Iterator[Record]:
    """What a run has come to at its end, scored on the text that its final quality is."""
    windows, recipe = scored_windows(corpus, run.recipe, tokens=run.recipe.final_eval_tokens), run.recipe
    seen = _evaluate(run, state, windows, corpus.tokenizer)
    tokens = recipe.steps * recipe.batch_tokens
    yield from decayed.decayed(seen.bits_per_byte(), step=recipe.steps, tokens=tokens, model_flops=state.model_flops)
    yield from answers.point_records(seen, windows, step=recipe.steps, metric=answers.DECAYED)


def _checkpoint(checkpoints: Checkpoints, journal: _Journal, state: State) -> None:
    journal.flush(state.step)
    meta = {"rows": dict(journal.written), "segment": journal.segment, "threads": torch.get_num_threads()}
    checkpoints.save(state.step, state.to_bytes(), meta)


def _evaluate(run: Run, state: State, windows: Windows, tokenizer: AnyTokenizer) -> Evaluated:
    """Raises Diverged when the last step left weights that give no number; the training loss told of those before."""
    try:
        return evaluate(DecoderSubject(state.model, tokenizer), windows)
    except NotFinite as problem:
        raise Diverged(f"step {state.step}: {problem} on the {run.recipe.split} split is not finite") from None


def _looked(keeper: Keeper, state: State) -> list[Record]:
    """Raises Diverged as `_evaluate` does."""
    try:
        return list(keeper.look(state))
    except NotFinite as problem:
        raise Diverged(f"step {state.step}: {problem} on the tune split is not finite") from None


def _point_records(run: Run, state: State, windows: Windows, seen: Evaluated) -> Iterator[Record]:
    """What is known at an evaluation point; all of them score the same text."""
    step, recipe, a = state.step, run.recipe, run.architecture
    yield from point_records(seen, windows, step=step, first=step == recipe.evaluate_at[0])
    yield from answers.point_records(seen, windows, step=step)
    tokens = step * recipe.batch_tokens
    yield from spent(step=step, tokens=tokens, model_flops=state.model_flops, executed_flops=state.executed_flops)
    dropped_here = seen.dropped if a.drops(training=False) else None
    yield from routing_records(seen.tokens_NLE.sum(0), layers=a.moe_layers, dropped=dropped_here, step=step)
    if a.drops(training=True):
        yield dropped_share(step=step, dropped=state.pairs_dropped, computed=state.pairs_computed)


def _last_records(run: Run, state: State, folder: JobFolder, corpus: Corpus) -> list[Record]:
    """The loss of the last tenth of the steps, how often the training split was read, the last decayed point, and what
    shuffled text costs."""
    last = [row["loss"] for row in folder.steps()[-max(1, run.recipe.steps // 10) :]]
    epochs = run.recipe.epochs(stream=len(corpus.tokens("train")), context=corpus.context)
    records = list(ended(last, epochs=epochs, step=run.recipe.steps))
    if run.recipe.branches:
        records += [*_decayed(run, state, corpus), decayed.cost(state.branch_flops, step=run.recipe.steps)]
    if run.recipe.shuffled:
        text = scored_windows(corpus, run.recipe, tokens=run.recipe.final_eval_tokens)
        records.append(UNIGRAM.record(unigram_bits_per_byte(corpus, text), step=run.recipe.steps))
    return records
