"""The suite file: its types, and how it is read, merged and checked."""

from moebench.suite.types import *  # noqa: F403
