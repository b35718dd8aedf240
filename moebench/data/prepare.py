"""From a suite's `data:` block to a corpus: gather, split, check for leaks, tokenise, and keep the result.

What is kept is found again by the spec and the source's fingerprint (paths, sizes and times of change, not contents),
so a second call reads only the cache. Text passes through a document at a time: what is held of each in memory is a
hundred bytes or two, whatever its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.data.copies import Sample, num_different
from moebench.data.corpus import ANSWER, DATA_VERSION, Corpus, corpus_digest, unigram_bits_per_byte
from moebench.data.documents import DataError, Gathered
from moebench.data.mixing import mix
from moebench.data.overlap import WINDOW_BYTES, leak_share
from moebench.data.selection import select
from moebench.data.sources import DataSpec
from moebench.data.splits import SPLITS, split, united
from moebench.data.spool import Columns, Indices, Spool
from moebench.data.stored import Writer, load, opened, seal, write_answers
from moebench.data.views import view
from moebench.identity import digest_of
from moebench.planning.planned import DataFacts
from moebench.suite.types import SuiteSpec
from moebench.suite.view import WHOLE, TrainingView

LEAK_THRESHOLD = 0.05
"""A larger share of the test split's windows in the training split is noted in the plan and the report."""
REPEAT_THRESHOLD = 0.15
"""A larger share of windows that repeat earlier text is noted: twice what a library of programs has (9%)."""
FACTS_VERSION = 2
"""Raised when other facts are stated about the same tokens, so that a cache gives them too."""


def prepare(spec: DataSpec, *, base: Path, cache: Path, part: TrainingView = WHOLE) -> Corpus:
    """The corpus that a suite's data block stands for, from the cache or built into it.

    `base` is the folder that relative paths of the spec start from; `cache` the folder of token caches; `part` what of
    its training split is wanted, in tokens that are learned from all of it. Raises DataError when the data cannot be
    used.
    """
    text = _of_bytes(spec.model_copy(update={"tokenizer": "bytes"}), base=base, cache=cache)
    if text.answers and spec.tokenizer != "bytes":
        raise DataError("tasks with known answers are made of bytes: no model reads them under another tokenizer")
    corpus = text if spec.tokenizer == "bytes" else view(text, spec.tokenizer, base=base, cache=cache)
    chosen = select(text, part, cache=cache) if part.selects else text
    if chosen is not text:
        same = corpus.tokenizer
        corpus = (
            chosen if spec.tokenizer == "bytes" else view(chosen, spec.tokenizer, base=base, cache=cache, made=same)
        )
    if len(corpus.tokens("train")) < 2 * spec.context:
        raise DataError(
            f"the training split has {len(corpus.tokens('train'))} tokens, fewer than two windows of "
            f"context {spec.context}: give more text or a smaller context"
        )
    return corpus


def views_of(spec: SuiteSpec, *, base: Path, cache: Path) -> dict[str, DataFacts]:
    """The data of the models that read another part of the text than the suite's, or other tokens. Raises DataError."""
    made: dict[str, DataFacts] = {}
    found = {}
    for name in spec.apart:
        data, part = spec.data_of(name), spec.view_of(name).selection
        key = digest_of([data.model_dump(mode="json"), part.model_dump()])
        if key not in made:
            made[key] = prepare(data, base=base, cache=cache, part=part).facts
        found[name] = made[key]
    return found


def _of_bytes(spec: DataSpec, *, base: Path, cache: Path) -> Corpus:
    recipe = spec.model_dump(mode="json", exclude={"context"})
    key = digest_of([DATA_VERSION, FACTS_VERSION, recipe, spec.fingerprint(base)])
    folder = cache / key
    corpus = load(folder, context=spec.context)
    if corpus is None:
        with _nothing_left_behind(folder):
            corpus = build(spec, spec.gather(base), folder)
    return corpus


@contextmanager
def _nothing_left_behind(folder: Path) -> Iterator[None]:
    """Takes away the folders that were made for a corpus and stayed empty, when it cannot be had."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


def build(spec: DataSpec, gathered: Gathered, folder: Path) -> Corpus:
    """Splits and tokenises the texts of a source into a folder and states the facts about them."""
    with Spool(folder.parent) as spool:
        columns = spool.read(gathered.texts)
        if not len(columns):
            raise DataError(f"the data hold no text{': ' if gathered.notes else ''}{'; '.join(gathered.notes)}")
        columns = _with_domains(columns, gathered)
        if columns.splits:
            of_text = np.array([SPLITS.index(one) for one in columns.splits], dtype=np.int8)
            mixed, repeats = list[str](), list[str]()
        elif gathered.independent:
            of_text, mixed = mix(columns, split(columns, np.empty((0, 2), dtype=np.int64), spool.name), gathered.parts)
            repeats = []
        else:
            with Sample(_compared(spool, columns, gathered), columns, folder.parent) as sample:
                related = sample.near_duplicates()
                of_text, mixed = mix(columns, split(columns, related, spool.name), gathered.parts)
                repeats = list(_repeats(columns, related, sample, training=of_text == SPLITS.index("train")))
        domains = _write(spool, columns, of_text, folder)
    tokens, documents = opened(folder, domains=domains)
    answers = _answers(columns, of_text)
    write_answers(folder, answers)
    leak = _leaked(columns, of_text) if answers else leak_share(tokens["test"], tokens["train"])
    notes = [*gathered.notes, *mixed, *repeats]
    if leak > LEAK_THRESHOLD:
        means = "by chance, for its entropy is low" if gathered.independent else "so quality on it is partly memory"
        what = "questions that are to be new" if answers else f"{WINDOW_BYTES}-byte windows"
        notes.append(
            f"{leak:.1%} of the test split's {what} also occur in the training split "
            f"(threshold {LEAK_THRESHOLD:.0%}), {means}"
        )
    facts = DataFacts(
        source=spec.source,
        digest=corpus_digest(tokens, documents, plugin=gathered.plugin, versions=gathered.versions, answers=answers),
        plugin=gathered.plugin,
        versions=dict(gathered.versions),
        documents={name: len(documents[name]) for name in SPLITS},
        tokens={name: len(tokens[name]) for name in SPLITS},
        domains=_domains(columns, of_text >= 0),
        test_domains=_domains(columns, of_text == SPLITS.index("test")),
        leak_share=leak,
        leak_threshold=LEAK_THRESHOLD,
        entropy_bits_per_byte=gathered.entropy_bits_per_byte,
        unigram_bits_per_byte=unigram_bits_per_byte(tokens["train"], tokens["test"]),
        tasks=dict(gathered.tasks),
        notes=tuple(notes),
    )
    seal(folder, facts, domains=domains)
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=spec.context, answers=answers)


def _answers(columns: Columns, of_text: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    """The answers of each split, in the order of its documents; empty for a text of no tasks."""
    if not columns.answers:
        return {}
    rows = np.array([(one.start, one.seen) for one in columns.answers], dtype=ANSWER)
    return {split: rows[of_text == number] for number, split in enumerate(SPLITS)}


def _leaked(columns: Columns, of_text: NDArray[np.int8]) -> float:
    """Share of the test split's questions that are to be new and stand in training all the same.

    Those that a task means to have been trained on are none of them: recalling these is what it tests.
    """
    new = np.array([not one.seen for one in columns.answers]) & (of_text == SPLITS.index("test"))
    trained = columns.bodies[of_text == SPLITS.index("train")]
    return float(np.isin(columns.bodies[new], trained).mean()) if new.any() else 0.0


def _with_domains(columns: Columns, gathered: Gathered) -> Columns:
    """With no more domains than the source, or each source of a mixture, wants."""
    if gathered.most_domains is not None:
        columns = columns.with_domains(gathered.most_domains)
    for part in gathered.parts:
        if part.most_domains is not None:
            columns = columns.with_domains(part.most_domains, start=f"{part.label}.")
    return columns


def _compared(spool: Spool, columns: Columns, gathered: Gathered) -> Iterator[bytes]:
    """The texts that may be copies of each other; nothing in the place of those that are drawn independently."""
    drawn = np.zeros(len(columns), dtype=bool)
    for part in gathered.parts:
        if part.independent:
            drawn |= columns.of_domains(f"{part.label}.")
    return (b"" if drawn[index] else body for index, body in enumerate(spool.bodies()))


def _write(spool: Spool, columns: Columns, of_text: NDArray[np.int8], folder: Path) -> tuple[str, ...]:
    """Each text into its split, in the order of the source; gives the domains as they are numbered there."""
    with Writer(folder) as writer:
        for index, (name, body) in enumerate(zip(spool.names(), spool.bodies(), strict=True)):
            if of_text[index] < 0:  # left out of a mixture
                continue
            domain = columns.domain_names[columns.domains[index]]
            writer.add(SPLITS[of_text[index]], name=name, domain=domain, tokens=body)
    return writer.domains


def _domains(columns: Columns, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    """Those of the chosen texts."""
    return tuple(sorted(columns.domain_names[number] for number in np.unique(columns.domains[chosen])))


def _repeats(columns: Columns, related: Indices, sample: Sample, *, training: NDArray[np.bool_]) -> Iterator[str]:
    """A note on training text that stands there more than once, in copied documents or within one."""
    share = sample.repeated_share(training)
    if share <= REPEAT_THRESHOLD:
        return
    tokens = int(training.sum() + columns.sizes[training].sum())
    exact = len(columns) - num_different(columns.bodies)
    alike = len(columns) - len(np.unique(united(len(columns), related)))
    yield (
        f"{share:.0%} of the training text repeats text before it ({WINDOW_BYTES}-byte windows): {exact:,} of "
        f"{len(columns):,} documents are exact copies of another, {max(0, alike - exact):,} are near-copies; its "
        f"{tokens:,} tokens hold about {tokens * (1 - share):,.0f} different ones"
    )
