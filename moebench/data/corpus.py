"""A tokenised corpus on disk: three streams of bytes, where each document lies in them, and a digest of it all.

One byte is one token, and byte 0 stands before every document. The folder is a cache: `facts.json` is written last,
so a folder without it is not complete, and a folder whose files differ from their hashes is not loaded. The digest is
over the content alone, so the same text has the same digest wherever it came from; text that an installed package gave
has that of its code too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import SEPARATOR, Text
from moebench.data.splits import SPLITS
from moebench.frozen import Frozen
from moebench.identity import canonical, digest_of
from moebench.planning.types import DataFacts
from moebench.plugins import PluginCode
from moebench.store.files import read_json, write_bytes, write_json

DATA_VERSION = 1
"""Raised by hand when the same files would give other tokens, documents or splits."""
VOCAB = 256

Bytes = NDArray[np.uint8]


class Document(Frozen):
    """Where one document lies in the stream of its split."""

    name: str
    domain: str
    start: int
    """Index of its first byte; the separator is at start - 1."""
    stop: int
    """Index after its last byte."""


class Corpus:
    """The tokens and documents of the three splits; see `prepare`."""

    def __init__(
        self,
        *,
        tokens: Mapping[str, Bytes],
        documents: Mapping[str, Sequence[Document]],
        facts: DataFacts,
        context: int,
    ) -> None:
        self._tokens = dict(tokens)
        self._documents = {split: list(documents[split]) for split in SPLITS}
        self.facts = facts
        self.context = context
        """Tokens in a window."""
        self.vocab = VOCAB

    @property
    def digest(self) -> str:
        """Hash of all tokens and documents of all splits."""
        return self.facts.digest

    def tokens(self, split: str) -> Bytes:
        """All documents of a split, each preceded by the separator: [n]. Raises KeyError for no such split."""
        return self._tokens[split]

    def documents(self, split: str) -> list[Document]:
        """Where the documents lie, in the order of the stream. Raises KeyError for no such split."""
        return self._documents[split]

    def split_digest(self, split: str) -> str:
        """Hash of one split: two corpora with equal digests are the same test. Raises KeyError for no such split."""
        return split_digest(self._tokens[split], self._documents[split])


def split_digest(tokens: Bytes, documents: Sequence[Document]) -> str:
    """Hash of a split's tokens and of its documents' names, domains and places."""
    table = [[document.name, document.domain, document.start, document.stop] for document in documents]
    return digest_of([DATA_VERSION, hashlib.sha256(tokens.data).hexdigest(), table], length=64)


def corpus_digest(
    tokens: Mapping[str, Bytes], documents: Mapping[str, Sequence[Document]], *, plugin: PluginCode | None = None
) -> str:
    """Hash of all three splits, and of the code that gave them when it is an installed package's."""
    splits = [split_digest(tokens[split], documents[split]) for split in SPLITS]
    return digest_of([*splits, plugin.model_dump()] if plugin is not None else splits, length=64)


def tokenise(texts: Sequence[Text]) -> tuple[Bytes, list[Document]]:
    """The stream of a split and the places of its documents."""
    documents, position = [], 0
    for text in texts:
        start, stop = position + 1, position + 1 + len(text.body)
        documents.append(Document(name=text.name, domain=text.domain, start=start, stop=stop))
        position = stop
    separator = bytes([SEPARATOR])
    return np.frombuffer(b"".join(separator + text.body for text in texts), dtype=np.uint8), documents


def unigram_bits_per_byte(train: Bytes, test: Bytes) -> float:
    """What a test stream costs who knows only how often each byte occurs in the training stream, one more of each."""
    train_V, test_V = (np.bincount(stream, minlength=VOCAB).astype(np.float64) for stream in (train, test))
    train_V[SEPARATOR] = test_V[SEPARATOR] = 0.0
    known_V = (train_V + 1.0) / (train_V.sum() + VOCAB)
    return float(-(test_V * np.log2(known_V)).sum() / test_V.sum())


def save(folder: Path, corpus: Corpus) -> None:
    """Writes the folder; `facts.json`, the mark that it is complete, last.

    Two processes that build the same corpus at once write the same bytes, each file whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        write_bytes(folder / f"{split}.bin", corpus.tokens(split).tobytes())
    table = {
        split: [[one.name, one.domain, one.start, one.stop] for one in corpus.documents(split)] for split in SPLITS
    }
    facts = corpus.facts.model_dump(mode="json")
    check = hashlib.sha256(canonical(facts).encode()).hexdigest()
    write_json(folder / "facts.json", {"facts": facts, "facts_sha256": check, "documents": table})


def load(folder: Path, *, context: int) -> Corpus | None:
    """The corpus in a cache folder, or None when there is none or when it is not what was written there."""
    try:
        stored: dict[str, Any] = read_json(folder / "facts.json")
        if hashlib.sha256(canonical(stored["facts"]).encode()).hexdigest() != stored["facts_sha256"]:
            return None
        facts = DataFacts.model_validate(stored["facts"])
        documents = {split: [_document(row) for row in stored["documents"][split]] for split in SPLITS}
        tokens = {split: np.memmap(folder / f"{split}.bin", dtype=np.uint8, mode="r") for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if corpus_digest(tokens, documents, plugin=facts.plugin) != facts.digest:
        return None
    if facts.unigram_bits_per_byte is None:  # a cache from before it was computed
        unigram = unigram_bits_per_byte(tokens["train"], tokens["test"])
        facts = facts.model_copy(update={"unigram_bits_per_byte": unigram})
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=context)


def _document(row: Sequence[Any]) -> Document:
    name, domain, start, stop = row
    return Document(name=name, domain=domain, start=start, stop=stop)
