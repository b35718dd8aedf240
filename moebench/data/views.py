"""The same text under another tokenizer: a corpus made from one of bytes, and kept in a folder of its own.

The splits, their documents and the facts about the text are those of the bytes; merges are learned from its training
split alone. Texts pass one by one, so memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from moebench.data.corpus import Corpus, corpus_digest, unigram_bits_per_byte, width_of
from moebench.data.sources.tokenizer import TokenizerSpec, TrainedBPE
from moebench.data.splits import SPLITS
from moebench.data.spool import blocks
from moebench.data.stored import Writer, load, opened, seal
from moebench.data.tokenizer import FILE, TRAINED_ON, AnyTokenizer, Subwords, make
from moebench.identity import digest_of
from moebench.planning.planned import TextFacts
from moebench.store.files import write_bytes

VIEW_VERSION = 1
"""Raised by hand when the same text and tokenizer would give other tokens or facts."""


def view(text: Corpus, spec: TokenizerSpec, *, base: Path, cache: Path, made: AnyTokenizer | None = None) -> Corpus:
    """A corpus of bytes under another tokenizer, from the cache or built into it.

    `made` is the tokenizer where it is there, as that of a corpus of which the text is a part. Raises DataError when
    the tokenizer cannot be had or does not fit the text.
    """
    if made is None and not isinstance(spec, TrainedBPE):
        made = make(spec, base=base)
    decides = {"digest": made.digest} if made is not None else {"bpe": getattr(spec, "bpe", None)}
    folder = cache / digest_of([VIEW_VERSION, text.digest, decides])
    found = load(folder, context=text.context)
    if found is None:
        tokenizer = made if made is not None else make(spec, base=base, texts=_to_learn_from(text))
        assert isinstance(tokenizer, Subwords)
        notes = () if made is not None else _notes(text, spec, tokenizer)
        found = _written(text, tokenizer, folder, notes=notes)
    return found


def texts_of(corpus: Corpus, split: str) -> Iterator[bytes]:
    """The documents of a corpus of bytes."""
    rest, at = bytearray(), 0
    """What was read of the stream and not yet given, and where it begins."""
    pieces = blocks(corpus.tokens(split))
    for one in corpus.documents(split):
        while at + len(rest) < one.stop:
            rest += next(pieces).tobytes()
        yield bytes(rest[one.start - at : one.stop - at])
        del rest[: one.stop - at]
        at = one.stop


def _to_learn_from(text: Corpus) -> Iterator[bytes]:
    """The training documents, or as many of them, evenly spaced, as merges are learned from."""
    every = -(-len(text.tokens("train")) // TRAINED_ON)
    return (body for index, body in enumerate(texts_of(text, "train")) if index % every == 0)


def _notes(text: Corpus, spec: TokenizerSpec, tokenizer: Subwords) -> tuple[str, ...]:
    if not isinstance(spec, TrainedBPE):
        return ()
    notes = []
    if tokenizer.vocab < spec.bpe:
        notes.append(
            f"the tokenizer has {tokenizer.vocab:,} of the {spec.bpe:,} tokens asked: the training text gives no more "
            "merges"
        )
    if len(text.tokens("train")) > TRAINED_ON:
        notes.append(f"merges were learned from about {TRAINED_ON:,} bytes of the training text, evenly spaced")
    return tuple(notes)


def _written(text: Corpus, tokenizer: Subwords, folder: Path, *, notes: tuple[str, ...]) -> Corpus:
    """Writes the streams of a tokenizer, document by document, and what is known of them."""
    width = width_of(tokenizer.vocab)
    with Writer(folder, dtype=width, separator=tokenizer.start) as writer:
        for split in SPLITS:
            bodies = tokenizer.encode_all(texts_of(text, split))
            for one, ids in zip(text.documents(split), bodies, strict=True):
                writer.add(split, name=one.name, domain=one.domain, tokens=ids.astype(width).tobytes())
    write_bytes(folder / FILE, tokenizer.file.encode())
    tokens, documents = opened(folder, domains=writer.domains, dtype=width)
    facts = text.facts.model_copy(
        update={
            "digest": corpus_digest(
                tokens, documents, plugin=text.facts.plugin, versions=text.facts.versions, tokenizer=tokenizer
            ),
            "tokens": {split: len(tokens[split]) for split in SPLITS},
            "unigram_bits_per_byte": unigram_bits_per_byte(tokens["train"], tokens["test"], tokenizer),
            "tokenizer": tokenizer.digest,
            "vocab": tokenizer.vocab,
            "text": TextFacts(
                digest=text.digest,
                splits={split: text.split_digest(split) for split in SPLITS},
                num_bytes={split: text.facts.bytes_of(split) or 0 for split in SPLITS},
            ),
            "notes": (*text.facts.notes, *notes),
        }
    )
    seal(folder, facts, domains=writer.domains)
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=text.context, tokenizer=tokenizer)
