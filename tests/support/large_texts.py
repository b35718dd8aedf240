"""Prepares text of a size that is made on the fly, and tells how much memory that took.

`python -m tests.support.large_texts MEGABYTES FOLDER`: one JSON Lines file, of random letters in documents of 2 KB, is
prepared, read back from the cache, and read for a batch and an evaluation. In a process of its own, since a peak is of
a process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from moebench.data.batches import evaluation_windows, train_batch
from moebench.data.prepare import prepare
from moebench.data.sources.text import TextData

DOCUMENT_BYTES, PIECE_BYTES = 2048, 1 << 20


def write(path: Path, size: int) -> None:
    """Random letters and spaces: no two documents share a window."""
    drawn = np.random.Generator(np.random.PCG64(0))
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", dtype=np.uint8)
    with path.open("wb") as file:
        for _ in range(0, size, PIECE_BYTES):
            text = letters[drawn.integers(0, 32, size=PIECE_BYTES)].tobytes()
            for at in range(0, PIECE_BYTES, DOCUMENT_BYTES):
                file.write(b'{"text": "%s"}\n' % text[at : at + DOCUMENT_BYTES])


def peak_mb() -> float:
    """The most memory that this process has had, mapped files that it touched included."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def measure(size: int, folder: Path) -> dict[str, float]:
    write(folder / "large.jsonl", size)
    spec = TextData(source="text", files=["large.jsonl"], context=256)
    before, began = peak_mb(), time.perf_counter()
    facts = prepare(spec, base=folder, cache=folder / "cache").facts
    prepared = time.perf_counter()
    corpus = prepare(spec, base=folder, cache=folder / "cache")
    read = time.perf_counter()
    assert corpus.facts == facts
    evaluation_windows(corpus, "test", tokens=65_536)
    train_batch(corpus, seed=0, step=0, batch_tokens=8192)
    return {
        "text_mb": sum(facts.tokens.values()) / 1e6,
        "documents": sum(facts.documents.values()),
        "before_mb": round(before, 1),
        "peak_mb": round(peak_mb(), 1),
        "prepare_s": round(prepared - began, 1),
        "read_s": round(read - prepared, 1),
    }


if __name__ == "__main__":
    megabytes, parent = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=parent) as made:
        print(json.dumps(measure(int(float(megabytes) * 1e6), Path(made))))
