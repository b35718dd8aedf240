"""Every check and job of the project, each in an environment that it sets up itself: `nox -s NAME`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "numeric"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.needs_version = ">=2024.10.9"

CONSTRAINTS = ("-c", "constraints.txt")
GROUPS = nox.project.load_toml("pyproject.toml")["dependency-groups"]


def _install(session: nox.Session, *groups: str, editable: bool = True) -> None:
    """Installs the project and dependency groups under the pinned constraints."""
    wanted = [requirement for group in groups for requirement in GROUPS[group]]
    project = ("-e", ".") if editable else (".",)
    session.install(*CONSTRAINTS, *project, *wanted)


@nox.session(default=False)
def quickstart(session: nox.Session) -> None:
    """Sets up and runs the main job: a nano MoE against dense models, a verdict and a report in minutes."""
    _install(session, editable=False)
    session.run("moebench", "run", "quickstart", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole test suite, on all cores with one thread each."""
    _install(session, "test")
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def numeric(session: nox.Session) -> None:
    """Tests of computed tensors once more: under torch's other sets of kernels, and with two threads.

    The best kernels that the processor has, with one thread, are what `tests` runs them under.
    """
    _install(session, "test")
    files = [str(path) for path in sorted(Path("tests").glob("test_*.py")) if "mark.numeric" in path.read_text()]
    numbers = ("pytest", "-m", "numeric", *(session.posargs or files))
    ask = "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"
    best = str(session.run("python", "-c", ask, silent=True)).split()[-1]
    for kernels in {"default", "avx2", "avx512"} - {best}:  # what the processor lacks falls back to the best it has
        chosen = {"ATEN_CPU_CAPABILITY": kernels, "OMP_NUM_THREADS": "1"}
        if kernels == "default":
            chosen["MKL_CBWR"] = "COMPATIBLE"  # matrix products as on the oldest processor, too
        session.run(*numbers, "-n", "auto", "--dist", "worksteal", env=chosen)
    # Threads that wait sleep: where cores are shared, spinning ones take the time of those that work.
    session.run(*numbers, env={"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff's checks and format."""
    session.install(*GROUPS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    _install(session, "types")
    session.run("mypy")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Builds the documentation as a site in site/, every link checked; it fetches nothing when it is viewed."""
    _install(session, "docs")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Timings of layers, of the harness's own share and of two workers against one; nothing is asserted by a clock."""
    _install(session, "test")
    options = ("--override-ini=addopts=", "-p", "no:xdist", "--benchmark-only", "-s")
    session.run("pytest", "tests/bench", *options, *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def memory(session: nox.Session) -> None:
    """Prepares 2 GB of text made on the fly, and prints the most memory that it took beside that of 0.1 GB: minutes."""
    _install(session, "test")
    for megabytes in session.posargs or ("100", "2000"):
        session.run("python", "-m", "tests.support.large_texts", megabytes, session.create_tmp())
