"""Text with a known answer: documents from Markov sources whose entropy rate is computed, not estimated.

Each source is a domain with its own alphabet and its own table of next-symbol probabilities given the last `order`
symbols. A document comes from one source and starts in its stationary distribution, so that every later byte has the
same expected cost. All is drawn from raw PCG64 bits by products and running sums: the same spec gives the same bytes.

`entropy_bits_per_byte` is the entropy rate: the expected cost of a byte for a reader who knows the source's table and
the `order` bytes before it, averaged over documents. It is a floor: learning which source a document comes from and
coding its first bytes cost more. A note states what whole documents cost whose source is known but not their start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moebench.data.documents import Gathered, Text
from moebench.data.markov import Floats, entropy_bits, entropy_rate_bits, sample, stationary, transitions, uniform
from moebench.data.sources.source import DataSource
from moebench.seeds import generator

_PRINTABLE = bytes(range(33, 127))


class SyntheticData(DataSource):
    """Text with a known answer: a mixture of Markov sources, each a domain, whose entropy rate is computed exactly."""

    says = "a mixture of Markov sources whose entropy is known exactly; each source is a domain"
    scope = "synthetic Markov text"

    source: Literal["synthetic"]
    """synthetic: text whose entropy is known."""
    sources: Annotated[int, Field(ge=1, le=64)] = 4
    """Markov sources mixed; each document comes from one."""
    symbols: Annotated[int, Field(ge=2, le=64)] = 16
    """Alphabet size of each source, drawn from printable bytes."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """Symbols the next one depends on."""
    documents: Annotated[int, Field(ge=10)] = 2000
    """Documents drawn, over all splits."""
    document_bytes: Annotated[int, Field(ge=16)] = 1024
    """Length of each document in bytes."""

    def gather(self, base: Path) -> Gathered:
        """Documents of all sources, as many of each as divide evenly, and their exact entropy."""
        texts: list[Text] = []
        counts, rates, starts = [], [], []
        for number in range(min(self.sources, self.documents)):
            table = source_table(self, number)
            counts.append(len(range(number, self.documents, self.sources)))
            kept = stationary(table)
            drawn = sample(_bits(number, "documents"), table, kept, documents=counts[-1], length=self.document_bytes)
            domain = _domain(number)
            for index, body in enumerate(source_alphabet(self, number)[drawn]):
                name = f"{domain}/{index:06d}"
                texts.append(Text(name=name, domain=domain, group=name, body=body.tobytes()))
            rates.append(entropy_rate_bits(table, kept))
            starts.append(float(entropy_bits(kept)))
        entropy = float(np.average(rates, weights=counts))
        start = float(np.average(starts, weights=counts))
        whole = (start + (self.document_bytes - self.order) * entropy) / self.document_bytes
        notes = (
            f"entropy rate by source, bits per byte: {', '.join(f'{rate:.4f}' for rate in rates)}",
            f"whole documents cost {whole:.4f} bits per byte when the source is known but the start is not",
        )
        return Gathered(texts=texts, notes=notes, entropy_bits_per_byte=entropy, independent=True)

    def fingerprint(self, base: Path) -> Any:
        """Nothing: the spec says it all."""
        return None

    def domains(self) -> tuple[str, ...]:
        """One for each Markov source that documents come from."""
        return tuple(map(_domain, range(min(self.sources, self.documents))))


def source_table(spec: SyntheticData, number: int) -> Floats:
    """The true next-symbol probabilities of one source of a spec."""
    return transitions(_bits(number, "table"), symbols=spec.symbols, order=spec.order)


def source_alphabet(spec: SyntheticData, number: int) -> NDArray[np.uint8]:
    """The bytes that stand for one source's symbols: [symbols], printable."""
    order = np.argsort(uniform(_bits(number, "alphabet"), len(_PRINTABLE)), kind="stable")
    return np.frombuffer(_PRINTABLE, dtype=np.uint8)[order[: spec.symbols]]


def _bits(number: int, purpose: str) -> np.random.BitGenerator:
    return generator(0, f"data.synthetic.{number}.{purpose}").bit_generator


def _domain(number: int) -> str:
    return f"source-{number}"
