"""What holds for every test.

One thread, set before torch loads anywhere, because these models are small and tests run side by side.
"""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_plan_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing a plan would start processes and take their time; the tests of that put it back."""
    monkeypatch.setattr("moebench.rehearsal._in_children", lambda *_, **__: [])
