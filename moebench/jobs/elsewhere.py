"""A checkpoint as measurements see it: the suite's own text, as the checkpoint's tokenizer reads it.

The documents and spans of bytes are those that the suite's windows cover. Each span is read on its own, after the token
that begins a text, and its bytes are counted in the text, not in tokens: tokenizers that compose letters or put a space
before a text cost what they cost, over the same bytes as any other model.

Legend: N spans, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.data.batches import Windows, evaluation_windows, train_batch
from moebench.data.corpus import Corpus, Document
from moebench.metrics.speed import Text
from moebench.models.subject import Subject, Tokenizer
from moebench.suite.training import Evaluation

WINDOWS_OF_TEXT = 64
"""Windows of training text that are read at a time, for what is timed."""


@dataclass(frozen=True, kw_only=True)
class Spans:
    """What an evaluation of a checkpoint scores; a `metrics.measurement.ScoredText`."""

    inputs: NDArray[np.int64]
    """[N, T]; the first is the token that begins a text. Padded with it."""
    targets: NDArray[np.int64]
    """[N, T]. Padded with the same."""
    mask: NDArray[np.bool_]
    """[N, T]"""
    document: NDArray[np.int64]
    """[N]"""
    text_bytes: NDArray[np.int64]
    """[N], bytes of the text of each."""
    asked: None = None
    """Where answers begin in another tokenizer's tokens is not known."""


class SpanTooLong(ValueError):  # noqa: N818  reads as what happened
    """A span of the text has more tokens than the checkpoint was made for."""


def spans(windows: Windows, corpus: Corpus, tokenizer: Tokenizer, *, longest: int) -> Spans:
    """The windows of a suite as a tokenizer reads them. Raises SpanTooLong."""
    read = corpus.tokenizer.decode
    texts = [read(ids[mask].tolist()) for ids, mask in zip(windows.targets, windows.mask, strict=True)]
    tokens = [tokenizer.encode(text) for text in texts]
    length = max(map(len, tokens))
    if length > longest:
        words = f"a window of the suite is {length:,} tokens, the model was made for {longest:,}"
        raise SpanTooLong(f"{words}: give the data a shorter `context`")
    targets_NT = np.full((len(tokens), length), tokenizer.start, dtype=np.int64)
    for row, ids in zip(targets_NT, tokens, strict=True):
        row[: len(ids)] = ids
    mask_NT = np.arange(length) < np.array([len(ids) for ids in tokens])[:, None]
    inputs_NT = np.roll(targets_NT, 1, axis=1)
    inputs_NT[:, 0] = tokenizer.start
    return Spans(
        inputs=inputs_NT,
        targets=targets_NT,
        mask=mask_NT,
        document=windows.document,
        text_bytes=np.array([len(text) for text in texts], dtype=np.int64),
    )


def same_tokens(one: Tokenizer, suites: Tokenizer) -> bool:
    """Whether each id of the suite's stands for the same text to a checkpoint, whoever reads its tokenizer's file.

    One that puts a space before a text decodes a first token without it.
    """
    if one.digest == suites.digest:
        return True
    words = len(suites.token_bytes)
    if one.start != suites.start or words > len(one.token_bytes) or one.token_bytes[words:].any():
        return False  # with further words it would write a text in fewer
    ids = [[token] for token in range(words) if token != suites.start]
    return all(one.decode(token).removeprefix(b" ") == suites.decode(token).removeprefix(b" ") for token in ids)


class CheckpointContext:
    """A `metrics.measurement.Context` of a loaded model."""

    split, step, trainable, losses, training_tokens, trained_text = "test", None, None, None, None, None

    def __init__(self, subject: Subject, corpus: Corpus, evaluation: Evaluation) -> None:
        self.subject, self.corpus, self.evaluation = subject, corpus, evaluation

    @cached_property
    def text(self) -> Windows | Spans:
        """The suite's own windows where its tokens are the model's: a run of ours gives the numbers it ended with."""
        windows = evaluation_windows(
            self.corpus,
            self.split,
            tokens=max(self.evaluation.final_tokens, self.evaluation.tokens),
            windows_per_document=self.evaluation.windows_per_document,
        )
        if same_tokens(self.subject.tokenizer, self.corpus.tokenizer):
            return windows
        return spans(windows, self.corpus, self.subject.tokenizer, longest=self.subject.context)

    @property
    def documents(self) -> Sequence[Document]:
        return self.corpus.documents(self.split)

    @cached_property
    def batch(self) -> NDArray[Any]:
        return own_text(self.corpus, self.subject.tokenizer, context=self.corpus.context)(1)


def own_text(corpus: Corpus, tokenizer: Tokenizer, *, context: int) -> Text:
    """Windows of training text in a tokenizer's own tokens, for what is timed."""

    def pieces() -> Iterator[NDArray[Any]]:
        step = 0
        while True:
            tokens = WINDOWS_OF_TEXT * corpus.context
            batch = train_batch(corpus, seed=0, step=step, batch_tokens=tokens)
            text = b"".join(corpus.tokenizer.decode(row.tolist()) for row in batch)
            yield np.array(tokenizer.encode(text), dtype=np.int64)
            step += 1

    def rows(number: int) -> NDArray[Any]:
        wanted, found, held = number * (context + 1), [], 0
        for piece in pieces():
            found.append(piece)
            held += len(piece)
            if held >= wanted:
                break
        ids: NDArray[Any] = np.concatenate(found)[:wanted].reshape(number, context + 1)
        return ids

    return rows
