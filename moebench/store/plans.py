"""Stored plans, read without trusting them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.planning.types import Plan, StoredPlan
from moebench.store import files
from moebench.store.files import CorruptFile


def read_plan(path: Path) -> StoredPlan:
    """A plan's file, parsed once as long as it stays the same. Raises FileNotFoundError or CorruptFile."""
    state = path.lstat()
    return _read_plan(path, (state.st_ino, state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=1024)
def _read_plan(path: Path, _state: tuple[int, ...]) -> StoredPlan:
    stored = plan_of(path, files.read_json(path, most=files.MAX_FACTS_BYTES))
    if path.name != file_name(stored.plan):
        raise CorruptFile(path, f"what it plans is called {file_name(stored.plan)}: it was changed or renamed")
    return stored


def plan_of(path: Path, value: Any) -> StoredPlan:
    """The plan that was read from `path`. Raises CorruptFile."""
    try:
        return StoredPlan.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise CorruptFile(path, f"not a plan of this version of moebench: {error.errors()[0]['msg']}") from error


def file_name(plan: Plan) -> str:
    """The name of a plan's file."""
    return f"{plan.suite}@{plan.scale or 'default'}-{plan.id}.json"
