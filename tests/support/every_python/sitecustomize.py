"""What holds in every Python while tests run: it reaches no other machine, and waits for no disk.

`tests/conftest.py` imports this file, and puts its folder on PYTHONPATH, so that every Python started by a test has it
too. What it connects to or looks up must be loopback. A refusal looks like a machine without a network, which
libraries may pass over in silence, so it is written to the file that MOEBENCH_TESTS_SOCKETS names as well, and the test
during which that file grew fails. Code that is not Python's own (a Ray daemon) is not seen.

Nothing is flushed to the disk: tests kill processes, not machines, and what the kernel holds outlives a process.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

LOG = "MOEBENCH_TESTS_SOCKETS"
"""The variable with the path of what was refused, a line each."""
_TO_AN_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_OF_A_NAME = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def is_here(host: Any) -> bool:
    """Whether a host is this machine by an address of its loopback, or by no address at all."""
    import ipaddress  # not at the top: most Pythons never open a socket

    if isinstance(host, bytes | bytearray):
        host = host.decode(errors="replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def host_of(event: str, arguments: tuple[Any, ...]) -> Any:
    """Whom an audited call is about; None when it is about no other machine."""
    if event in _OF_A_NAME:
        return arguments[0]
    if event in _TO_AN_ADDRESS:
        import socket

        sender, address = arguments
        return address[0] if address and sender.family in (socket.AF_INET, socket.AF_INET6) else None
    return None


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: refuses a call that would leave this machine."""
    if not event.startswith("socket.") or is_here(host := host_of(event, arguments)):
        return
    said = f"{event} to {host!r} by {sys.argv[:2]}"
    if path := os.environ.get(LOG):
        with open(path, "a") as log:  # noqa: PTH123 - pathlib is not loaded into every Python
            log.write(f"{said}\n")
    raise OSError(errno.ENETUNREACH, f"tests reach no other machine: {said}")


def flush(descriptor: Any) -> None:
    """Like os.fsync, at once."""


if not getattr(sys, "_moebench_tests", False):
    sys._moebench_tests = True  # type: ignore[attr-defined]
    sys.addaudithook(guard)
    os.fsync = flush
