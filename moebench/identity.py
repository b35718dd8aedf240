"""The hash that names things by what decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any, *, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def job_id(kind: str, spec: Any, inputs: Sequence[str] = ()) -> str:
    """The id of a job: a hash of what decides its result."""
    return digest_of({"kind": kind, "spec": spec, "inputs": list(inputs)}, length=20)
