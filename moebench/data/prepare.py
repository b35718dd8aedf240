"""From a suite's `data:` block to a corpus: gather, split, check for leaks, tokenise, and keep the result.

What is kept is found again by the spec and the source's fingerprint (paths, sizes and times of change, not contents),
so a second call reads only the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from moebench.data.corpus import DATA_VERSION, Corpus, corpus_digest, load, save, tokenise, unigram_bits_per_byte
from moebench.data.documents import DataError, Gathered, Text
from moebench.data.overlap import WINDOW_BYTES, leak_share, repeated_share
from moebench.data.sources import DataSpec
from moebench.data.splits import SPLITS, grouped, related, split
from moebench.identity import digest_of
from moebench.planning.types import DataFacts

LEAK_THRESHOLD = 0.05
"""A larger share of the test split's windows in the training split is noted in the plan and the report."""
REPEAT_THRESHOLD = 0.15
"""A larger share of windows that repeat earlier text is noted: twice what a library of programs has (9%)."""
FACTS_VERSION = 2
"""Raised when other facts are stated about the same tokens, so that a cache gives them too."""


def prepare(spec: DataSpec, *, base: Path, cache: Path) -> Corpus:
    """The corpus that a suite's data block stands for, from the cache or built into it.

    `base` is the folder that relative paths of the spec start from; `cache` the folder of token caches. Raises
    DataError when the data cannot be used.
    """
    recipe = spec.model_dump(mode="json", exclude={"context"})
    key = digest_of([DATA_VERSION, FACTS_VERSION, recipe, spec.fingerprint(base)])
    folder = cache / key
    corpus = load(folder, context=spec.context)
    if corpus is None:
        corpus = build(spec, spec.gather(base))
        save(folder, corpus)
    if len(corpus.tokens("train")) < 2 * spec.context:
        raise DataError(
            f"the training split has {len(corpus.tokens('train'))} tokens, fewer than two windows of "
            f"context {spec.context}: give more text or a smaller context"
        )
    return corpus


def build(spec: DataSpec, gathered: Gathered) -> Corpus:
    """Splits and tokenises the texts of a source and states the facts about them."""
    pairs = related(gathered)
    texts = split(gathered, pairs)
    streams = {name: tokenise(texts[name]) for name in SPLITS}
    tokens = {name: streams[name][0] for name in SPLITS}
    documents = {name: streams[name][1] for name in SPLITS}
    leak = leak_share(tokens["test"], tokens["train"])
    notes = [*gathered.notes, *_repeats(gathered, pairs, training=texts["train"])]
    if leak > LEAK_THRESHOLD:
        means = "by chance, for its entropy is low" if gathered.independent else "so quality on it is partly memory"
        notes.append(
            f"{leak:.1%} of the test split's {WINDOW_BYTES}-byte windows also occur in the training split "
            f"(threshold {LEAK_THRESHOLD:.0%}), {means}"
        )
    facts = DataFacts(
        source=spec.source,
        digest=corpus_digest(tokens, documents, plugin=gathered.plugin),
        plugin=gathered.plugin,
        documents={name: len(documents[name]) for name in SPLITS},
        tokens={name: len(tokens[name]) for name in SPLITS},
        domains=tuple(sorted({one.domain for name in SPLITS for one in documents[name]})),
        test_domains=tuple(sorted({one.domain for one in documents["test"]})),
        leak_share=leak,
        leak_threshold=LEAK_THRESHOLD,
        entropy_bits_per_byte=gathered.entropy_bits_per_byte,
        unigram_bits_per_byte=unigram_bits_per_byte(tokens["train"], tokens["test"]),
        notes=tuple(notes),
    )
    return Corpus(tokens=tokens, documents=documents, facts=facts, context=spec.context)


def _repeats(gathered: Gathered, pairs: Sequence[tuple[int, int]], *, training: Sequence[Text]) -> Iterator[str]:
    """A note on training text that stands there more than once, in copied documents or within one."""
    share = 0.0 if gathered.independent else repeated_share([text.body for text in training])
    if share <= REPEAT_THRESHOLD:
        return
    tokens = sum(1 + len(text.body) for text in training)
    bodies = [text.body for text in gathered.texts]
    exact = len(bodies) - len(set(bodies))
    alike = len(bodies) - len(grouped([replace(text, group=text.name) for text in gathered.texts], pairs))
    yield (
        f"{share:.0%} of the training text repeats text before it ({WINDOW_BYTES}-byte windows): {exact:,} of "
        f"{len(bodies):,} documents are exact copies of another, {max(0, alike - exact):,} are near-copies; its "
        f"{tokens:,} tokens hold about {tokens * (1 - share):,.0f} different ones"
    )
