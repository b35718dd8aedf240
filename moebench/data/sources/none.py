"""No text at all: for a suite whose models were measured elsewhere, or by tasks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from moebench.data.documents import DataError, Gathered
from moebench.data.sources.source import DataSource


class NoData(DataSource):
    """No text. It stands for `data:` in a suite that leaves it out, as one may whose models are all made elsewhere."""

    says = "no text: what a suite has whose models are all checkpoints or external results, where it says no other"
    scope = "no text of the suite's"

    source: Literal["none"]
    """none: there is no text, so nothing is trained and no text is scored."""

    def gather(self, base: Path) -> Gathered:
        """Raises DataError."""
        raise DataError("this suite has no text: give it a `data:` block, such as data: {source: stdlib}")

    def fingerprint(self, base: Path) -> Any:
        return None
