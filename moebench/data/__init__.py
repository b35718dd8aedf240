"""Where the tokens come from, and which of them each step and each evaluation sees.

`prepare` turns a suite's data block into a `Corpus` of three splits; `train_batch` and `evaluation_windows` are
functions of it without state; `roll` chains a digest over what was consumed. numpy only, no torch.
"""

from moebench.data.batches import Windows, evaluation_windows, roll, train_batch
from moebench.data.corpus import DATA_VERSION, VOCAB, Corpus, Document
from moebench.data.documents import DataError, Gathered, Source, Text
from moebench.data.prepare import SOURCES, known_domains, prepare

__all__ = [
    "DATA_VERSION",
    "SOURCES",
    "VOCAB",
    "Corpus",
    "DataError",
    "Document",
    "Gathered",
    "Source",
    "Text",
    "Windows",
    "evaluation_windows",
    "known_domains",
    "prepare",
    "roll",
    "train_batch",
]
