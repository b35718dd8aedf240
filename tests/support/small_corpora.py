"""Corpora small enough to check by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moebench.data.corpus import Corpus, Document, corpus_digest
from moebench.data.documents import Text
from moebench.data.splits import SPLITS
from moebench.planning.planned import DataFacts


def words(seed: int, size: int) -> bytes:
    """Random letters and spaces: texts of different seeds share no window."""
    return bytes(random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz    ", k=size))


def text(name: str, body: bytes, *, domain: str = "all", group: str | None = None) -> Text:
    return Text(name=name, domain=domain, group=group or name, body=body)


def tokenise(texts: Sequence[Text]) -> tuple[NDArray[np.uint8], list[Document]]:
    """The stream of a split and the places of its documents."""
    documents, position = [], 0
    for one in texts:
        start, stop = position + 1, position + 1 + len(one.body)
        documents.append(Document(name=one.name, domain=one.domain, start=start, stop=stop))
        position = stop
    return np.frombuffer(b"".join(b"\0" + one.body for one in texts), dtype=np.uint8), documents


def corpus(*, train: list[Text], tune: list[Text], test: list[Text], context: int) -> Corpus:
    """A corpus with the splits given, not chosen."""
    streams = {split: tokenise(texts) for split, texts in zip(SPLITS, (train, tune, test), strict=True)}
    tokens = {split: stream for split, (stream, _) in streams.items()}
    documents = {split: places for split, (_, places) in streams.items()}
    facts = DataFacts(
        source="text",
        digest=corpus_digest(tokens, documents),
        documents={split: len(documents[split]) for split in SPLITS},
        tokens={split: len(tokens[split]) for split in SPLITS},
        domains=("all",),
        leak_share=0.0,
        leak_threshold=0.05,
    )
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=context)


def ordinary(*, context: int = 16, train_bytes: int = 5000) -> Corpus:
    """Two domains, documents of many lengths."""
    sizes = [1, 7, 16, 17, 40, 64, 65, 200, 333]
    test = [
        text(f"{domain}/{size}", words(size + 1000 * (domain == "b"), size), domain=domain)
        for domain in ("a", "b")
        for size in sizes
    ]
    return corpus(
        train=[text("t0", words(1, train_bytes // 2)), text("t1", words(2, train_bytes - train_bytes // 2))],
        tune=[text("u", words(3, 100))],
        test=test,
        context=context,
    )
