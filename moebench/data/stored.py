"""A corpus as a folder: of each split its stream, a table of its documents and their names; and the facts about it.

The folder is a cache: `facts.json` is written last, so a folder without it is not complete, and a folder whose files
differ from their hashes is not loaded. All is written document by document and read as it is needed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from moebench.data.corpus import (
    ANSWER,
    TABLE,
    Answers,
    Corpus,
    Documents,
    corpus_digest,
    unigram_bits_per_byte,
    width_of,
)
from moebench.data.documents import SEPARATOR
from moebench.data.splits import SPLITS
from moebench.data.tokenizer import BYTES, tokenizer_of
from moebench.identity import canonical
from moebench.planning.planned import DataFacts
from moebench.store.files import read_json, replaced, write_bytes, write_json

STREAM, PLACES, NAMES, FACTS = "{}.bin", "{}.documents.bin", "{}.names.bin", "facts.json"
ANSWERS = "{}.answers.bin"
"""Files of a split, and of all."""
_PLACE = struct.Struct("<qqqi")
"""A row of `TABLE`."""


class Writer:
    """Writes the files of all splits, each in its place when the block has ended without an error.

    Two processes that write the same corpus at once write the same bytes, each file whole.
    """

    def __init__(self, folder: Path, *, dtype: DTypeLike = np.uint8, separator: int = SEPARATOR) -> None:
        self._folder, self._separator = folder, np.array([separator], dtype=dtype).tobytes()
        self._width = len(self._separator)
        self._domains: dict[str, int] = {}
        self._ends = {split: [0, 0] for split in SPLITS}
        """Split -> tokens of its stream, and bytes of its names."""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._files = {
                split: [stack.enter_context(replaced(self._folder / file.format(split))) for file in _FILES]
                for split in SPLITS
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, split: str, *, name: str, domain: str, tokens: bytes) -> None:
        """One document more, as the bytes of its tokens; the separator is put before it."""
        stream, places, names = self._files[split]
        named, ends = name.encode(), self._ends[split]
        start = ends[0] + 1
        ends[0], ends[1] = start + len(tokens) // self._width, ends[1] + len(named)
        number = self._domains.setdefault(domain, len(self._domains))
        stream.write(self._separator)
        stream.write(tokens)
        names.write(named)
        places.write(_PLACE.pack(start, ends[0], ends[1], number))

    @property
    def domains(self) -> tuple[str, ...]:
        """Those of the documents so far."""
        return tuple(self._domains)


_FILES = (STREAM, PLACES, NAMES)


def opened(
    folder: Path, *, domains: Sequence[str], dtype: DTypeLike = np.uint8
) -> tuple[dict[str, NDArray[Any]], dict[str, Documents]]:
    """The streams and the documents of a folder. Raises OSError or ValueError where there are none."""
    tokens: dict[str, NDArray[Any]] = {}
    documents = {}
    for split in SPLITS:
        tokens[split] = np.memmap(folder / STREAM.format(split), dtype=dtype, mode="r")
        table = np.memmap(folder / PLACES.format(split), dtype=TABLE, mode="r")
        names = np.memmap(folder / NAMES.format(split), dtype=np.uint8, mode="r")
        documents[split] = Documents(table, names, domains)
    return tokens, documents


def write_answers(folder: Path, answers: Answers) -> None:
    """The answers of each split, beside its documents."""
    for split, rows in answers.items():
        write_bytes(folder / ANSWERS.format(split), rows.tobytes())


def answers_in(folder: Path) -> dict[str, NDArray[Any]]:
    """The answers of a folder. Raises OSError or ValueError where there are none."""
    return {split: np.fromfile(folder / ANSWERS.format(split), dtype=ANSWER) for split in SPLITS}


def seal(folder: Path, facts: DataFacts, *, domains: Sequence[str]) -> None:
    """Writes what is known of a folder whose files are written: the mark that it is complete."""
    told = facts.model_dump(mode="json")
    check = hashlib.sha256(canonical(told).encode()).hexdigest()
    write_json(folder / FACTS, {"facts": told, "facts_sha256": check, "domains": list(domains)})


def save(folder: Path, corpus: Corpus) -> None:
    """Writes a whole corpus."""
    with Writer(folder, dtype=corpus.tokens("train").dtype) as writer:
        for split in SPLITS:
            stream = corpus.tokens(split)
            for one in corpus.documents(split):
                tokens = stream[one.start : one.stop].tobytes()
                writer.add(split, name=one.name, domain=one.domain, tokens=tokens)
    seal(folder, corpus.facts, domains=writer.domains)


def load(folder: Path, *, context: int) -> Corpus | None:
    """The corpus in a cache folder, or None when there is none or when it is not what was written there."""
    try:
        stored: dict[str, Any] = read_json(folder / FACTS)
        if hashlib.sha256(canonical(stored["facts"]).encode()).hexdigest() != stored["facts_sha256"]:
            return None
        facts = DataFacts.model_validate(stored["facts"])
        tokenizer = BYTES if facts.tokenizer is None else tokenizer_of(folder)
        tokens, documents = opened(folder, domains=stored["domains"], dtype=width_of(tokenizer.vocab))
        answers = answers_in(folder) if facts.tasks else {}
        known = corpus_digest(
            tokens, documents, plugin=facts.plugin, versions=facts.versions, tokenizer=tokenizer, answers=answers
        )
        if any(len(answers[split]) != len(documents[split]) for split in answers):
            return None
        if known != facts.digest:
            return None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if facts.unigram_bits_per_byte is None:  # a cache from before it was computed
        unigram = unigram_bits_per_byte(tokens["train"], tokens["test"], tokenizer)
        facts = facts.model_copy(update={"unigram_bits_per_byte": unigram})
    return Corpus(
        tokens=tokens, documents=documents, facts=facts, context=context, tokenizer=tokenizer, answers=answers
    )
