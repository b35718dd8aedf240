"""A tokenised corpus: three streams of ids, where each document lies in them, and a digest of it all.

The tokenizer's start stands before every document: byte 0 where one byte is one token. The digest is over the content
alone, so the same text has the same digest wherever it came from; what a tokenizer made of it has that of the tokenizer
too, and text that an installed package gave that of its code. Streams and tables may be files far larger than memory:
they are read a piece at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from moebench.data.splits import SPLITS
from moebench.data.spool import blocks
from moebench.data.tokenizer import BYTES, AnyTokenizer, Subwords
from moebench.frozen import Frozen
from moebench.identity import canonical, digest_of
from moebench.planning.planned import DataFacts
from moebench.plugins import PluginCode

DATA_VERSION = 1
"""Raised by hand when the same files would give other tokens, documents or splits."""
_ROWS = 1 << 12
"""Documents that are read at a time."""

Stream = NDArray[np.unsignedinteger[Any]]
"""Ids in the narrowest type that holds the vocabulary."""
TABLE = np.dtype([("start", "<i8"), ("stop", "<i8"), ("name_stop", "<i8"), ("domain", "<i4")])
"""A row of the table of a split's documents: its places in the stream, where its name ends among the names, and the
number of its domain."""
ANSWER = np.dtype([("start", "<i4"), ("seen", "?")])
"""A row of the answers of a split, one a document: its first byte within the document, and whether the question stood
in training."""
Answers = Mapping[str, NDArray[Any]]
"""Split -> its answers; empty for a text of no tasks."""


class Document(Frozen):
    """Where one document lies in the stream of its split."""

    name: str
    domain: str
    start: int
    """Index of its first token; the separator is at start - 1."""
    stop: int
    """Index after its last token."""


class Documents(Sequence[Document]):
    """The documents of a split, made as they are asked for: a table that may be a file, and their names."""

    def __init__(self, table: NDArray[Any], names: NDArray[np.uint8], domains: Sequence[str]) -> None:
        self._table, self._names, self._domains = table, names, tuple(domains)

    @classmethod
    def of(cls, documents: Sequence[Document]) -> Self:
        """A table of documents that are there."""
        domains: dict[str, int] = {}
        for document in documents:
            domains.setdefault(document.domain, len(domains))
        names = [document.name.encode() for document in documents]
        ends = np.cumsum([0, *map(len, names)])[1:].tolist()
        rows = [(one.start, one.stop, end, domains[one.domain]) for one, end in zip(documents, ends, strict=True)]
        return cls(np.array(rows, dtype=TABLE), np.frombuffer(b"".join(names), dtype=np.uint8), tuple(domains))

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        index = range(len(self))[index]
        return next(self._read(index, index + 1))

    def __iter__(self) -> Iterator[Document]:
        return self._read(0, len(self))

    def _read(self, first: int, last: int) -> Iterator[Document]:
        for rows in self.rows(first, last):
            for name, domain, start, stop in rows:
                yield Document.model_construct(name=name, domain=domain, start=start, stop=stop)

    def rows(self, first: int, last: int) -> Iterator[list[tuple[str, str, int, int]]]:
        """Some thousand at a time, of each its name, domain, start and stop."""
        for at in range(first, last, _ROWS):
            rows = self._table[at : min(at + _ROWS, last)].tolist()
            begin = int(self._table["name_stop"][at - 1]) if at else 0
            names = self._names[begin : rows[-1][2]].tobytes()
            name_starts = [0, *(row[2] - begin for row in rows)]
            yield [
                (names[name_start : name_stop - begin].decode(), self._domains[domain], start, stop)
                for name_start, (start, stop, name_stop, domain) in zip(name_starts, rows, strict=False)
            ]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each begins in the stream: [n]."""
        return np.asarray(self._table["start"])

    @property
    def stops(self) -> NDArray[np.int64]:
        """Where each ends: [n]."""
        return np.asarray(self._table["stop"])

    def by_domain(self) -> dict[str, NDArray[np.int64]]:
        """Domain -> the numbers of its documents, in order."""
        numbers = np.asarray(self._table["domain"])
        return {name: np.flatnonzero(numbers == number) for number, name in enumerate(self._domains)}


class Corpus:
    """The tokens and documents of the three splits; see `prepare`."""

    def __init__(
        self,
        *,
        tokens: Mapping[str, Stream],
        documents: Mapping[str, Sequence[Document]],
        facts: DataFacts,
        context: int,
        tokenizer: AnyTokenizer = BYTES,
        answers: Answers | None = None,
    ) -> None:
        self._tokens = dict(tokens)
        self._documents = {
            split: some if isinstance(some := documents[split], Documents) else Documents.of(some) for split in SPLITS
        }
        self.facts = facts
        self.context = context
        """Tokens in a window."""
        self.tokenizer = tokenizer
        self.answers = answers or {}
        self._digests: dict[str, str] = {}

    @property
    def vocab(self) -> int:
        return self.tokenizer.vocab

    @property
    def digest(self) -> str:
        """Hash of all tokens and documents of all splits."""
        return self.facts.digest

    def tokens(self, split: str) -> Stream:
        """All documents of a split, each preceded by the separator: [n]. Raises KeyError for no such split."""
        return self._tokens[split]

    def documents(self, split: str) -> Documents:
        """Where the documents lie, in the order of the stream. Raises KeyError for no such split."""
        return self._documents[split]

    def split_digest(self, split: str) -> str:
        """Hash of one split's tokens. Raises KeyError for no such split."""
        if split not in self._digests:  # every job asks, and it takes a second a gigabyte
            self._digests[split] = split_digest(self._tokens[split], self._documents[split])
        return self._digests[split]

    def text_digest(self, split: str) -> str:
        """Hash of a split's text: with equal ones two corpora are the same test. Raises KeyError for no such split."""
        return self.split_digest(split) if self.facts.text is None else self.facts.text.splits[split]


def split_digest(tokens: NDArray[Any], documents: Sequence[Document]) -> str:
    """Hash of a split's tokens and of its documents' names, domains and places.

    It is `digest_of([DATA_VERSION, sha256 of the tokens, [[name, domain, start, stop], ...]])`, some rows at a time.
    """
    of_tokens, whole = hashlib.sha256(), hashlib.sha256()
    for block in blocks(tokens):
        of_tokens.update(np.ascontiguousarray(block).data)
    whole.update(f'[{DATA_VERSION},"{of_tokens.hexdigest()}",['.encode())
    known = documents if isinstance(documents, Documents) else Documents.of(documents)
    for number, rows in enumerate(known.rows(0, len(known))):
        whole.update(f"{',' if number else ''}{canonical(rows)[1:-1]}".encode())
    whole.update(b"]]")
    return whole.hexdigest()


def corpus_digest(
    tokens: Mapping[str, NDArray[Any]],
    documents: Mapping[str, Sequence[Document]],
    *,
    plugin: PluginCode | None = None,
    versions: Mapping[str, str] | None = None,
    tokenizer: AnyTokenizer = BYTES,
    answers: Answers | None = None,
) -> str:
    """Hash of all three splits, of an installed package's code that gave them, of the versions of what they are from
    where the source names these, of what made them tokens, and of where their answers are.
    """
    made: list[Any] = [split_digest(tokens[split], documents[split]) for split in SPLITS]
    made += [plugin.model_dump()] if plugin is not None else []
    made += [{"versions": dict(versions)}] if versions else []
    made += [{"tokenizer": tokenizer.digest}] if isinstance(tokenizer, Subwords) else []
    made += (
        [{"answers": {split: hashlib.sha256(answers[split].tobytes()).hexdigest() for split in SPLITS}}]
        if answers
        else []
    )
    return digest_of(made, length=64)


def width_of(vocab: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The narrowest type that holds every id."""
    return np.dtype("u1" if vocab <= 2**8 else "<u2" if vocab <= 2**16 else "<u4")


def unigram_bits_per_byte(train: Stream, test: Stream, tokenizer: AnyTokenizer = BYTES) -> float:
    """What a test stream costs who knows only how often each token occurs in the training stream, one more of each."""
    train_V, test_V = (token_counts(stream, tokenizer.vocab).astype(np.float64) for stream in (train, test))
    train_V[tokenizer.start] = test_V[tokenizer.start] = 0.0
    known_V = (train_V + 1.0) / (train_V.sum() + tokenizer.vocab)
    return float(-(test_V * np.log2(known_V)).sum() / (test_V * tokenizer.token_bytes).sum())


def token_counts(stream: Stream, vocab: int) -> NDArray[np.int64]:
    """How often each token occurs: [V]."""
    counts = np.zeros(vocab, dtype=np.int64)
    for block in blocks(stream):
        counts += np.bincount(block, minlength=vocab)
    return counts
