"""A metric that is asked of a finished suite is measured on the models there are: nothing trains again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.store import Results, sha256_of
from tests.support.tiny_suites import claim, write

ACCURATE = claim(
    says="The mixture guesses the next byte no less often.",
    metric="test.accuracy",
    test={"kind": "non_inferior", "margin": "50%"},
)

ASKED = {
    "measure": {"memory": False, "quality": ["bits_per_byte", "accuracy"]},
    "claims": {"plain": claim(), "accurate": ACCURATE},
}


def carried_out(folder: Path, **changes: Any) -> tuple[api.Outcome, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    planned = api.prepare_plan(
        write(folder, seeds=2, **changes), results=folder / "results", launcher="inline", on_event=events.append
    )
    return api.run_planned(planned, reports=folder / "reports"), events


def contents(results: Results, kind: str) -> dict[str, dict[str, tuple[str, float]]]:
    """Job -> file -> hash and time of its last change."""
    return {
        folder.id: {path.name: (sha256_of(path), path.stat().st_mtime) for path in folder.path.iterdir()}
        for folder in results.jobs()
        if json.loads((folder.path / "job.json").read_text())["job"]["kind"] == kind
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("later")
    carried_out(folder, claims={"plain": claim()})
    return folder


def test_nothing_trains_and_no_weight_is_touched(folder: Path) -> None:
    results = Results(folder / "results")
    trained, measured = contents(results, "train"), contents(results, "evaluate")
    assert len(trained) == 4
    _, events = carried_out(folder, **ASKED)
    assert not [event for event in events if event["event"] == "progress"]
    assert contents(results, "train") == trained
    now = contents(results, "evaluate")
    assert {job: files for job, files in now.items() if job in measured} == measured
    assert len(now) == len(measured) + len(trained)


def test_it_is_claimed_by_seed_and_reported(folder: Path) -> None:
    carried_out(folder, **ASKED)
    told = {one["id"]: one for one in json.loads((folder / "reports" / "tiny" / "claims.json").read_text())["claims"]}
    assert told["accurate"]["metric"] == "test.accuracy"
    assert told["accurate"]["n"] == 2
    assert told["accurate"]["state"] in ("supported", "inconclusive", "refuted", "not_tested")
