"""The guard of tests/support/every_python: nothing in a test run reaches another machine, and who tries fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.launch.process import child_environment
from tests.support.every_python import sitecustomize as offline

ROOT = Path(__file__).parents[1]
ELSEWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737)."""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where refusals go during a test that means them."""
    monkeypatch.setenv(offline.LOG, str(tmp_path / "sockets"))
    return tmp_path / "sockets"


def test_nothing_is_connected_to_looked_up_or_sent_elsewhere(log: Path) -> None:
    with socket.socket() as one, pytest.raises(OSError, match="tests reach no other machine"):
        one.connect((ELSEWHERE, 80))
    with socket.socket(type=socket.SOCK_DGRAM) as one, pytest.raises(OSError, match="tests reach no other machine"):
        one.sendto(b"x", (ELSEWHERE, 53))
    for ask in (socket.gethostbyname, lambda name: socket.getaddrinfo(name, 443)):
        with pytest.raises(OSError, match="tests reach no other machine"):
            ask("huggingface.co")
    assert [line.split(" by ")[0] for line in log.read_text().splitlines()] == [
        f"socket.connect to '{ELSEWHERE}'",
        f"socket.sendto to '{ELSEWHERE}'",
        "socket.gethostbyname to 'huggingface.co'",
        "socket.getaddrinfo to 'huggingface.co'",
    ]


def test_this_machine_is_reached(log: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    assert not log.exists()


@pytest.mark.parametrize("host", ["127.9.9.9", "::1", b"localhost", None, "0.0.0.0", "fe80::1%lo", "x.org"])
def test_who_is_this_machine(host: str | bytes | None) -> None:
    assert offline.is_here(host) == (host not in ("fe80::1%lo", "x.org"))


def test_processes_that_tests_start_have_the_guard_too(log: Path) -> None:
    code = f"import socket\ntry: socket.socket().connect(('{ELSEWHERE}', 80))\nexcept OSError: print('unreachable')"
    for environment in (child_environment(1), dict(os.environ)):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("unreachable\n", "")
    assert len(log.read_text().splitlines()) == 2


INNER = f"""
import socket, subprocess, sys
import pytest

def passes_over():
    try:
        socket.create_connection(("{ELSEWHERE}", 80))
    except OSError:
        pass

def test_quiet():
    pass

def test_connects_and_passes_over_the_refusal():
    passes_over()

@pytest.fixture(scope="module")
def shared():
    passes_over()

def test_has_a_fixture_that_connects(shared):
    pass

def test_starts_a_process_that_connects():
    subprocess.run([sys.executable, "-c", "import socket; socket.gethostbyname('x.org')"], stderr=subprocess.DEVNULL)
"""


def test_the_test_that_reaches_out_fails(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    command += ["-p", "tests.conftest", "--rootdir", str(tmp_path), str(tmp_path / "test_inner.py")]
    done = subprocess.run(command, cwd=ROOT, env=child_environment(1), capture_output=True, text=True)
    failed = sorted(line.split(" ")[1].rpartition("::")[2] for line in done.stdout.splitlines() if line[:6] == "ERROR ")
    assert failed == [
        "test_connects_and_passes_over_the_refusal",
        "test_has_a_fixture_that_connects",
        "test_starts_a_process_that_connects",
    ], done.stdout


def test_libraries_are_told_to_stay_offline() -> None:
    told = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    assert {told[name] for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")} == {"1"}
    assert "moebench-tests-" in told["HF_HOME"]
