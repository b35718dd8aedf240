"""Memory does not grow with the text: four times as much takes as much memory. `nox -s memory` shows it at 2 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.launch.process import child_environment

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_four_times_the_text_takes_no_more_memory(tmp_path: Path) -> None:
    """Of both the sample has several parts, and one window of several of the test split stands for all."""
    few, many = (
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.support.large_texts", str(megabytes), str(tmp_path)],
                env=child_environment(1), cwd=ROOT, capture_output=True, text=True, check=True,
            ).stdout
        )
        for megabytes in (25, 100)
    )  # fmt: skip
    assert many["text_mb"] == pytest.approx(4 * few["text_mb"], rel=0.05)
    assert many["text_mb"] - few["text_mb"] > 70
    assert many["peak_mb"] - few["peak_mb"] < 20, (few, many)
    assert many["peak_mb"] - many["before_mb"] < 160, (few, many)
    assert list(tmp_path.iterdir()) == []
