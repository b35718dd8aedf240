"""What test files share: one thread, set before torch loads anywhere, and a results folder with known answers.

One thread, because these models are small and tests run side by side.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_plan_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing a plan would start processes and take their time; the tests of that put it back."""
    monkeypatch.setattr("moebench.planning.rehearsal._in_children", lambda *_, **__: [])


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden results folder, which nobody changes."""
    from tests.support import golden_results

    folder = tmp_path_factory.mktemp("golden")
    golden_results.write(folder)
    return folder


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    """A golden results folder of the test's own."""
    shutil.copytree(pristine, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite whose runs are done and whose report is written."""
    from tests.support import tiny_suites
    from tests.support.tiny_suites import call_run

    claims = {"better": tiny_suites.claim(family="primary")}
    folder = tmp_path_factory.mktemp("cli")
    path = tiny_suites.write(folder, claims=claims, seeds=6, tune={"lr": [1e-3, 1e-2, 1e-1]})
    found = call_run(path)
    assert found.exit_code == 0, found.output
    return path
