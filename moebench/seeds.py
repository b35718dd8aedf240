"""Randomness from one seed: every purpose has a generator of its own.

`derive(seed, purpose)` hashes the two into 64 bits, so drawing more numbers for one purpose (a model with more
experts) never shifts another (the order of the data). Torch generators are made by their users from `derive`.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, purpose: str) -> int:
    """A whole number in [0, 2**64) that depends on both arguments and nothing else: SHA-256 of `seed/purpose`."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A fresh PCG64 generator for one purpose of one seed."""
    return np.random.Generator(np.random.PCG64(derive(seed, purpose)))
