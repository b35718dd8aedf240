"""`python -m moebench.launch`: a worker process, started by a launcher."""

from __future__ import annotations

import sys

from moebench.launch.worker import serve

if __name__ == "__main__":
    sys.exit(serve())
