"""A part of a corpus' training split: some domains, in some shares, up to a number of bytes.

Whole documents are left out in the order of their names' hashes; none is repeated, and those that stay keep their
order. The tune and test splits stay as they are, so a loss is of the same text whatever a model was trained on. The
part is kept as a corpus of its own, and has another digest than the whole unless it is the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moebench.data.corpus import Corpus, Documents, Stream, corpus_digest, unigram_bits_per_byte
from moebench.data.documents import DataError, name_hash
from moebench.data.mixing import until
from moebench.data.overlap import leak_share
from moebench.data.splits import SPLITS
from moebench.data.spool import Indices
from moebench.data.stored import Writer, load, opened, seal, write_answers
from moebench.data.tokenizer import BYTES
from moebench.identity import digest_of
from moebench.metrics.rarity import occurrences, trigrams
from moebench.suite.view import TrainingView
from moebench.text import listed, nearest

SELECTION_VERSION = 1
"""Raised by hand when the same view of the same text would give other documents or facts."""


def select(corpus: Corpus, view: TrainingView, *, cache: Path) -> Corpus:
    """A corpus of bytes with the training documents that a view takes, from the cache or built into it.

    Raises DataError for a domain that is not there and a share that none of its documents fits.
    """
    folder = cache / digest_of([SELECTION_VERSION, corpus.digest, view.selection.model_dump(mode="json")])
    found = load(folder, context=corpus.context)
    if found is not None:
        return found
    documents = corpus.documents("train")
    sizes = documents.stops - documents.starts
    taken = _taken(corpus, view, sizes)
    chosen = np.sort(np.concatenate(list(taken.values())))
    if len(chosen) == len(sizes):
        return corpus
    return _written(corpus, chosen, folder, note=_told(corpus, view, taken, sizes))


def _taken(corpus: Corpus, view: TrainingView, sizes: NDArray[np.int64]) -> dict[str, Indices]:
    """Domain -> the training documents that are taken of it."""
    documents = corpus.documents("train")
    of_domain = {name: some for name, some in documents.by_domain().items() if len(some)}
    for name in view.named:
        if name not in of_domain:
            hint = nearest(name, of_domain) or f"its domains are {listed(list(of_domain), last='and')}"
            raise DataError(f"data {view}: no training text has the domain {name}: {hint}")
    kept = [name for name in of_domain if name not in view.holdout and (not view.domains or name in view.domains)]
    there = {name: int(sizes[of_domain[name]].sum()) for name in kept}
    shares = _shares(view, there)
    whole = min(there[name] / share for name, share in shares.items()) if view.mix else sum(there.values())
    most = whole if view.limit is None else min(whole, view.limit)
    ranks = np.array([int.from_bytes(name_hash(one.name)[:8], "big") for one in documents], dtype=np.uint64)
    taken = {}
    for name, share in shares.items():
        some, wanted = of_domain[name], share * most
        if wanted < there[name]:
            some = until(some[np.argsort(ranks[some], kind="stable")], sizes, wanted)
        if not len(some) and name in view.mix:
            raise DataError(f"data {view}: {wanted:,.0f} bytes of {name} are less than one of its documents")
        taken[name] = some
    if not any(map(len, taken.values())):
        raise DataError(f"data {view}: no document of the training text is as small as that")
    return taken


def _shares(view: TrainingView, there: Mapping[str, int]) -> dict[str, float]:
    """Domain -> its share of the bytes, of those that have one; `there` are the bytes of each domain that is kept."""
    if not there:
        raise DataError(f"data {view}: nothing is left to train on")
    others = {name: size for name, size in there.items() if name not in view.mix}
    left = max(0.0, 1.0 - sum(view.mix.values()))
    if left < 1e-9:
        left = 0.0
    elif not others:
        raise DataError(f"data {view}: its shares add up to {1 - left:.4g}, and there is no other domain for the rest")
    shares = {**view.mix, **{name: left * size / sum(others.values()) for name, size in others.items()}}
    return {name: shares[name] / (sum(view.mix.values()) + left) for name in there if shares[name] > 0}


def _told(corpus: Corpus, view: TrainingView, taken: Mapping[str, Indices], sizes: NDArray[np.int64]) -> str:
    """What a view is of, in words."""
    bytes_of = {name: int(sizes[some].sum()) for name, some in taken.items()}
    whole, documents = sum(bytes_of.values()), sum(map(len, taken.values()))
    parts = ", ".join(f"{name} {size / whole:.2%}" for name, size in bytes_of.items() if size)
    without = [name for name in corpus.documents("train").by_domain() if not bytes_of.get(name)]
    none = f"; none of {listed(without, last='or')}" if without else ""
    return f"data {view.selection}: trained on {whole:,} bytes of {documents:,} documents ({parts}{none})"


def _written(corpus: Corpus, chosen: Indices, folder: Path, *, note: str) -> Corpus:
    """Writes the streams of a view, document by document, and what is known of them."""
    with Writer(folder) as writer:
        for split in SPLITS:
            stream, known = corpus.tokens(split), corpus.documents(split)
            for index in chosen.tolist() if split == "train" else range(len(known)):
                one = known[index]
                writer.add(split, name=one.name, domain=one.domain, tokens=stream[one.start : one.stop].tobytes())
    tokens, documents = opened(folder, domains=writer.domains)
    answers = {split: rows[chosen] if split == "train" else rows for split, rows in corpus.answers.items()}
    write_answers(folder, answers)
    facts = corpus.facts
    changed = {
        "digest": corpus_digest(tokens, documents, plugin=facts.plugin, versions=facts.versions, answers=answers),
        "documents": {split: len(documents[split]) for split in SPLITS},
        "tokens": {split: len(tokens[split]) for split in SPLITS},
        "leak_share": facts.leak_share if answers else leak_share(tokens["test"], tokens["train"]),
        "unigram_bits_per_byte": unigram_bits_per_byte(tokens["train"], tokens["test"]),
        "notes": (*facts.notes, note),
        "unseen": _unseen(tokens, documents),
    }
    facts = facts.model_copy(update=changed)
    seal(folder, facts, domains=writer.domains)
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=corpus.context, answers=answers)


def _unseen(tokens: Mapping[str, Stream], documents: Mapping[str, Documents]) -> dict[str, float]:
    """Domain without training text -> share of its trigrams of the test split that stand nowhere in the training split.

    What is left out takes words with it, so a loss on it is of unknown words as well as of an unknown kind of text.
    """
    there = {name for name, some in documents["train"].by_domain().items() if len(some)}
    found = {}
    for name, some in documents["test"].by_domain().items():
        if name in there or not len(some):
            continue
        read = [tokens["test"][one.start : one.stop] for one in map(documents["test"].__getitem__, some.tolist())]
        keys = np.concatenate([key for body in read for key in trigrams(body, BYTES.vocab)])
        found[name] = float(np.mean(occurrences(keys, tokens["train"], BYTES.vocab) == 0)) if len(keys) else 0.0
    return found
