"""Ray: two nodes on this machine, bound to loopback. The results are those of this process alone, bit for bit."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from moebench.cli import main
from moebench.launch import LauncherMissing, LaunchOptions, launch
from moebench.launch.ray import RayPlace
from moebench.store import Results
from tests.support import tiny_suites

LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 is the address of this machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9",  # where a head reports that it reports nothing
}
LONG = {
    "budget": {"steps": 400},
    "checkpoint_seconds": 0.1,
    "evaluate": {"points": 2, "tokens": 256, "final_tokens": 512},
}


NOTICED = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
"""A node that is gone is noticed within seconds, one that is slow as ever."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster whose head has one CPU; each test adds nodes of its own."""
    home = tmp_path_factory.mktemp("home")
    (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")  # or it asks clouds for their metadata
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**LOOPBACK, "HOME": str(home)}.items():
            patch.setenv(name, value)
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        first = {**node(1), "include_dashboard": False, "_system_config": NOTICED}
        made = cluster_utils.Cluster(initialize_head=True, head_node_args=first)
        yield made
        made.shutdown()


def node(cpus: int) -> dict[str, Any]:
    return {"num_cpus": cpus, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}


@pytest.fixture
def head(started: Any) -> Any:
    """The head alone: the nodes of the test before are known to be gone, so that nothing is sent to them."""
    started.wait_for_nodes(timeout=120)
    return started


@pytest.fixture
def cluster(head: Any) -> Iterator[Any]:
    """The cluster with a second node, which the test may lose."""
    head.second = head.add_node(**node(1))
    yield head
    if head.second is not None:
        head.remove_node(head.second)


def bits(root: Path) -> dict[str, dict[str, bytes]]:
    """All of finished jobs that no clock has a part in."""
    names = ("steps.jsonl", "records.jsonl", "items.jsonl", "model.safetensors")
    return {
        folder.id: {name: (folder.path / name).read_bytes() for name in names if (folder.path / name).exists()}
        for folder in Results(root).jobs()
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_dies_in_mid_job_costs_nothing_but_time(cluster: Any, tmp_path: Path) -> None:
    for name in ("ray", "here"):
        (tmp_path / name).mkdir()
    there, here = (tiny_suites.planned(tmp_path / name, train=LONG, seeds=1) for name in ("ray", "here"))
    events: list[dict[str, Any]] = []
    steps: dict[str, int] = {}

    def on_event(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "progress":
            steps[event["run"]] = event["step"]
        elif event["event"] == "finished":
            steps.pop(event["run"], None)
        if cluster.second is not None and len([step for step in steps.values() if step > 60]) == 2:
            cluster.remove_node(cluster.second, allow_graceful=False)
            cluster.second = None

    options = LaunchOptions(launcher="ray", address=cluster.address, results=there.results, on_event=on_event)
    statuses = launch(there.graph.jobs, options)
    assert cluster.second is None
    assert set(statuses.values()) == {"completed"}
    (lost,) = (event for event in events if event["event"] == "failed")
    assert (lost["status"], lost["retry"]) == ("killed", True)
    after = events[events.index(lost) :]
    assert next(e for e in after if e["event"] == "progress" and e["run"] == lost["run"])["step"] > 0
    undisturbed = LaunchOptions(launcher="inline", results=here.results)
    assert set(launch(here.graph.jobs, undisturbed).values()) == {"completed"}
    assert bits(there.results) == bits(here.results)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_exclusive_job_has_a_whole_node(cluster: Any, tmp_path: Path) -> None:
    import ray

    largest = cluster.add_node(**node(2))  # of three
    speed = {"train_step": True, "processes": 2, "seconds": 1}
    free: list[float] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "started" and event["job"] == "speed":
            free.append(ray.available_resources()["CPU"])

    planned = tiny_suites.planned(tmp_path, measure={"speed": speed}, seeds=2, train={"budget": {"steps": 2}})
    options = LaunchOptions(
        launcher="ray", address=cluster.address, results=planned.results, on_event=on_event, workers=2
    )
    statuses = launch(planned.graph.jobs, options)
    cluster.remove_node(largest)
    assert set(statuses.values()) == {"completed"}
    assert free == [2.0, 2.0]  # of four: both of the largest node are taken, and nothing else of ours runs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_goes_to_a_cluster_and_reports(head: Any, tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, seeds=1, train={"budget": {"steps": 2}})
    command = ["run", str(path), "--results", str(tmp_path / "results"), "--quiet"]
    command += ["--out", str(tmp_path / "reports"), "--launcher", "ray", "--ray-address", head.address]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "reports" / "tiny" / "index.html").exists()


def test_without_ray_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return there(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    made = tiny_suites.planned(tmp_path)
    with pytest.raises(LauncherMissing, match=r"pip install 'moebench\[ray\]'"):
        launch(made.graph.jobs, LaunchOptions(launcher="ray", results=made.results))


def test_a_launcher_that_there_is_not_is_refused_with_the_nearest(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["run", str(tiny_suites.write(tmp_path)), "--launcher", "rey"])
    assert done.exit_code == 2
    assert "'rey' is not one of 'process', 'inline', 'ray'" in done.output
    assert "did you mean 'ray'?" in done.output


def test_a_head_of_ours_reports_to_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def init(**_: Any) -> None:
        asked.append(os.environ.get("RAY_USAGE_STATS_ENABLED"))
        raise ConnectionError("nobody is there")

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(LauncherMissing, match="nobody is there"):
        RayPlace(LaunchOptions(results=tmp_path), is_stopping=lambda: False)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    assert asked == ["0"]
