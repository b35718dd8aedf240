"""Where the tokens come from, and which of them each step and each evaluation sees. numpy only, no torch.

`sources` (one file each) give texts; `prepare` splits and tokenises them into a `corpus`; `batches` says which tokens a
step trains on and an evaluation scores. What a source of another package needs is here.
"""

from moebench.data.documents import DataError, Gathered, Text
from moebench.data.sources.plugin import Source

__all__ = ["DataError", "Gathered", "Source", "Text"]
