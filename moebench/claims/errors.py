"""A judgement that cannot be made, and why: raised where the lack is found, turned into a verdict by `judging`."""

from __future__ import annotations

from typing import Literal


class Withheld(Exception):  # noqa: N818  not an error: an answer that is withheld
    """No verdict of supported, refuted or inconclusive is possible."""

    def __init__(self, state: Literal["invalid", "not_tested"], reason: str) -> None:
        super().__init__(reason)
        self.state: Literal["invalid", "not_tested"] = state
        self.reason = reason
