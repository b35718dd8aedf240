"""The results folder: the one place where the run wing and the report wing meet.

`folder` and `source` are what anyone may read of one job and of results: `live` and `results` where they are made,
`bundle` where they were committed by `reference`. `checkpoints` is what a job under way needs to go on.
"""

from moebench.store.checkpoints import Checkpoints
from moebench.store.files import (
    MAX_FACTS_BYTES,
    CorruptFile,
    append_lines,
    each_row,
    keep_lines,
    read_json,
    read_lines,
    sha256_of,
    write_bytes,
    write_json,
)
from moebench.store.folder import DONE, PROCESS, WEIGHTS, Folder, Outcome, StaleRecord, Status, UnsafeName
from moebench.store.live import Busy, Failure, JobFolder
from moebench.store.reference import write_bundle
from moebench.store.results import Results, open_results
from moebench.store.source import Source, newest

__all__ = [
    "DONE",
    "MAX_FACTS_BYTES",
    "PROCESS",
    "WEIGHTS",
    "Busy",
    "Checkpoints",
    "CorruptFile",
    "Failure",
    "Folder",
    "JobFolder",
    "Outcome",
    "Results",
    "Source",
    "StaleRecord",
    "Status",
    "UnsafeName",
    "append_lines",
    "each_row",
    "keep_lines",
    "newest",
    "open_results",
    "read_json",
    "read_lines",
    "sha256_of",
    "write_bundle",
    "write_bytes",
    "write_json",
]
