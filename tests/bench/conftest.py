"""Options of the benches. Without `--write-reference` tables are only printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "bench"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-reference", action="store_true", help="write the tables to results/reference/bench")
    parser.addoption("--seconds", type=float, default=6.0, help="time of each race, warming up left out")
    parser.addoption("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest) -> Path | None:
    return REFERENCE if request.config.getoption("--write-reference") else None


@pytest.fixture(scope="session")
def seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--seconds"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--device"))
