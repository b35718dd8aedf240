"""The `moebench` command: what is typed, what is printed, and how errors are told."""

from moebench.cli.commands import main

__all__ = ["main"]
