"""The environment: facts that a reader can check, and None for those that cannot be had."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from moebench import __version__
from moebench import environment as env
from moebench.environment import Environment
from moebench.launch.process import child_environment


def test_this_machine_is_described() -> None:
    found = env.environment(3)
    assert found.cores == env.usable_cores() <= (os.cpu_count() or 1)
    assert found.memory_bytes is not None
    assert 0 < found.memory_bytes <= psutil.virtual_memory().total
    assert f"{found.cores}-core" in found.machine
    assert found.packages["moebench"] == __version__
    assert {"torch", "numpy"} <= found.packages.keys()
    assert found.python == sys.version.split()[0]
    assert found.threads == 3
    assert Environment.model_validate_json(found.model_dump_json()) == found


def test_the_machine_is_named_by_what_did_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "_gpu", lambda: "A Graphics Card")
    host = f"{env.usable_cores()}-core"
    on_cpu, on_cuda = env.environment(1, "cpu"), env.environment(1, "cuda")
    assert (on_cpu.machine, on_cpu.gpu) == (f"{host} {platform.machine()} CPU", "A Graphics Card")
    assert (on_cuda.machine, on_cuda.gpu) == (f"A Graphics Card, {host} host", "A Graphics Card")


def test_nothing_heavy_is_imported() -> None:
    code = "import sys; from moebench.environment import environment; environment(1); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=child_environment(1)).returncode == 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the files the kernel describes a machine with."""
    monkeypatch.setattr(env, "_CGROUP", tmp_path / "cgroup")
    real = env._text
    monkeypatch.setattr(
        env, "_text", lambda path: real(path if path.is_relative_to(tmp_path) else tmp_path / str(path).lstrip("/"))
    )
    return tmp_path


def put(machine: Path, path: str, text: str) -> None:
    (machine / path).parent.mkdir(parents=True, exist_ok=True)
    (machine / path).write_text(text)


def test_limits_of_a_container_count_version_2(machine: Path) -> None:
    put(machine, "proc/self/cgroup", "0::/box/inner\n")
    put(machine, "cgroup/box/inner/memory.max", "max\n")
    put(machine, "cgroup/box/memory.max", "1000000\n")
    put(machine, "cgroup/box/inner/memory.events", "low 0\noom 4\noom_kill 3\n")
    put(machine, "cgroup/box/inner/cpu.max", "100000 100000\n")
    assert env.memory_bytes() == 1_000_000
    assert env.oom_kills() == 3
    assert env.usable_cores() == 1


def test_limits_of_a_container_count_version_1(machine: Path) -> None:
    put(machine, "proc/self/cgroup", "4:memory:/box\n1:cpu,cpuacct:/box\n")
    put(machine, "cgroup/memory/box/memory.limit_in_bytes", "2000000\n")
    put(machine, "cgroup/memory/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    put(machine, "cgroup/cpu/box/cpu.cfs_quota_us", "-1\n")
    put(machine, "cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    assert env.memory_bytes() == 2_000_000
    assert env.oom_kills() == 1
    assert env.usable_cores() >= 1


def test_without_such_files_facts_are_absent_and_the_machine_counts(machine: Path) -> None:
    assert env.memory_bytes() == psutil.virtual_memory().total
    assert env.oom_kills() is None
    put(machine, "proc/cpuinfo", "processor: 0\nmodel name\t: Analytical Engine\n")
    assert env._cpu() == "Analytical Engine"


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout


def test_the_commit_is_that_of_a_checkout_which_holds_the_package(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert env._commit(package) is None
    env._commit.cache_clear()
    git(tmp_path, "init", "-q")
    assert env._commit(package) is None, "a package that git does not track is installed there, not checked out"
    env._commit.cache_clear()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert env._commit(package) == commit
    env._commit.cache_clear()
    (package / "__init__.py").write_text("changed = True\n")
    assert env._commit(package) == f"{commit}-dirty"
    env._commit.cache_clear()


def test_a_missing_git_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert env._commit(tmp_path) is None
    env._commit.cache_clear()
