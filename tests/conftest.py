"""What test files share: one thread and no network, set before torch or a hub's client loads anywhere, and a results
folder with known answers.

One thread, because these models are small and tests run side by side.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.every_python import sitecustomize as offline

os.environ.setdefault("OMP_NUM_THREADS", "1")
SCRATCH = Path(tempfile.mkdtemp(prefix="moebench-tests-"))
"""Of this process: what libraries cache, and the list of sockets that were refused."""
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": str(SCRATCH / "hub"),
    "RAY_USAGE_STATS_ENABLED": "0",
    offline.LOG: str(SCRATCH / "sockets"),
}  # fmt: skip
_PATH = [str(Path(offline.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
if _PATH[0] not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(_PATH)


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


_TOLD: list[str] = []
"""Refusals that a test has failed for."""


@pytest.fixture(autouse=True)
def _no_other_machine_is_reached() -> Iterator[None]:
    """By this process or one that it started, also where the library passed over the refusal."""
    yield
    log = SCRATCH / "sockets"
    refused = log.read_text().splitlines()[len(_TOLD) :] if log.exists() else []
    _TOLD.extend(refused)
    assert refused == []


@pytest.fixture(autouse=True)
def _threads_stay_as_they_are() -> Iterator[None]:
    """A run sets the number of its process, which later tests would have."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


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
