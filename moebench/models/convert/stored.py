"""A checkpoint's folder as an architecture of ours, and whether its files hold that: from headers, without a weight."""

from __future__ import annotations

import re
from pathlib import Path

from moebench.checkpoints.contents import Contents, contents
from moebench.checkpoints.located import CheckpointError
from moebench.models.architecture import Architecture
from moebench.models.convert.families import Family
from moebench.models.convert.tensors import pieces
from moebench.models.convert.words import describe
from moebench.planning.matching import architecture_of
from moebench.suite.model import ModelSpec
from moebench.systems.configs import ConfigError, load_config
from moebench.text import listed

READ = frozenset({"F32", "BF16", "F16"})
"""Types of stored weights that float32 holds exactly."""
_PASSED_OVER = re.compile(r"\.rotary_emb\.inv_freq$")
"""Stored by older versions; computed here."""


def described(folder: Path, *, context: int | None = None) -> tuple[Architecture, Family]:
    """What a folder's config.json stands for, at its own longest context or a shorter one.

    Raises CheckpointError naming what our decoder does not compute.
    """
    try:
        found = describe(load_config(folder))
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    try:
        model = ModelSpec.model_validate({**found.words, "weights": "random", "train": None})
    except ValueError as error:
        raise CheckpointError(f"{folder}: config.json: {error}") from None
    longest = found.context if context is None else min(context, found.context)
    return architecture_of(model, vocab=found.words["vocab"], context=longest), found.family


def check(folder: Path, a: Architecture, f: Family) -> Contents:
    """What the files hold, which is what the architecture needs. Raises CheckpointError naming what is not."""
    held = contents(folder)
    expected = {piece.theirs: piece.shape for piece in pieces(a, f)}
    if missing := [name for name in expected if name not in held.tensors]:
        raise CheckpointError(
            f"{folder}: its files lack {listed(missing[:3], last='and')}",
            hint="they are not the weights of its config.json, or not as transformers writes this family",
        )
    for name, shape in expected.items():
        stored = held.tensors[name]
        if stored.shape != shape:
            raise CheckpointError(f"{folder}: {name} is {list(stored.shape)}, and config.json makes it {list(shape)}")
        if stored.dtype not in READ:
            raise CheckpointError(
                f"{folder}: {name} is of {stored.dtype}", hint="float32, bfloat16 or float16 are read"
            )
    tied = {"lm_head.weight"} if a.tied_embeddings else set()
    if more := sorted(name for name in set(held.tensors) - set(expected) - tied if not _PASSED_OVER.search(name)):
        raise CheckpointError(
            f"{folder}: its files have {listed(more[:3], last='and')} too, which our decoder has no place for"
        )
    return held
