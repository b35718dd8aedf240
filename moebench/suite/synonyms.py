"""Words that people write, from other tools and papers, and what they are called in a suite: synonyms.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Literal

from moebench.tables import table


@cache
def synonyms(of: Literal["metrics", "keys", "kinds"]) -> Mapping[str, tuple[str, ...]]:
    """Our word -> those of others; offered only where ours may stand."""
    return {ours: tuple(words.split()) for ours, words in table("suite/synonyms.yaml")[of].items()}


def answers() -> Mapping[str, str]:
    """Keys that have no place in a suite, and what to do instead."""
    answers: Mapping[str, str] = table("suite/synonyms.yaml")["answers"]
    return answers


def is_downloaded(word: object) -> bool:
    """Whether a source of data is one that would have to be downloaded."""
    return plainly(word) in table("suite/synonyms.yaml")["downloaded"].split()


def plainly(word: object) -> str:
    """`Val-Loss` is `val_loss`: as the words of the tables are written."""
    return re.sub(r"[\s/.-]+", "_", str(word)[:100].strip().lower()).strip("_")


def meant(word: object, known: Collection[str], of: Literal["metrics", "keys", "kinds"]) -> str | None:
    """Our word for one that others use, among those that are known here; None when there is none."""
    asked = plainly(word)
    if asked in known:
        return asked
    return next((ours for ours, words in synonyms(of).items() if ours in known and asked in words), None)


def metric_meant(word: str) -> tuple[str, str | None] | None:
    """The metric nearest to a common word, and what is measured in its place where that is another thing."""
    asked = plainly(word.partition("[")[0])
    metric = meant(asked, synonyms("metrics"), "metrics")
    return (metric, table("suite/synonyms.yaml")["instead"].get(asked)) if metric is not None else None
