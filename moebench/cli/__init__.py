"""The `moebench` command: what is typed, what is printed, and how errors are reported."""

from moebench.cli.commands import main

__all__ = ["main"]
