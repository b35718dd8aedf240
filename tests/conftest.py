"""Set before torch loads anywhere: one thread, because these models are small and tests run side by side."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
