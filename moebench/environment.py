"""Where numbers are measured: processor, memory, graphics card, versions, commit.

Facts are read without importing what they are about: versions from package metadata, the graphics card from torch only
when torch is already loaded. A fact that cannot be had is None. Memory is what this process may use, so a container's
limit counts and not the machine's.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil

from moebench.frozen import Frozen

PACKAGES = ("moebench", "torch", "numpy")
_CGROUP = Path("/sys/fs/cgroup")


class Environment(Frozen):
    """Where numbers were measured. Absent facts are None."""

    machine: str
    """Short name that a reader recognises, such as '2-core x86_64 CPU'."""
    cpu: str | None
    cores: int
    memory_bytes: int | None
    gpu: str | None
    os: str
    python: str
    packages: dict[str, str]
    """Versions of torch, numpy, moebench."""
    threads: int
    """Threads each run may use."""
    git: str | None
    """Commit of the checkout moebench runs from, with '-dirty' when it has local changes; None when installed."""


def environment(threads: int, device: str = "cpu") -> Environment:
    """This machine as a reader would want it described; `threads` is what each run may use.

    `machine` is what did the work: it names the graphics card only when `device` is 'cuda'.
    """
    cores, gpu = usable_cores(), _gpu()
    on_gpu = gpu is not None and device == "cuda"
    return Environment(
        machine=f"{gpu}, {cores}-core host" if on_gpu else f"{cores}-core {platform.machine()} CPU",
        cpu=_cpu(),
        cores=cores,
        memory_bytes=memory_bytes(),
        gpu=gpu,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        threads=threads,
        git=_commit(Path(__file__).resolve().parent),
    )


def usable_cores() -> int:
    """Cores this process may run on; a container's processor quota counts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, int(quota))) if quota is not None else cores


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or its container's limit when that is less."""
    total = int(psutil.virtual_memory().total)
    limits = [limit for name in ("memory.max", "memory.limit_in_bytes") for limit in _numbers(name, "memory")]
    return min([total, *limits])


def oom_kills() -> int | None:
    """Kills for want of memory in this process's control group so far; None where the kernel does not say."""
    for folder in _cgroups("memory"):
        for name in ("memory.events", "memory.oom_control"):
            for line in (_text(folder / name) or "").splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill" and value.isdigit():
                    return int(value)
    return None


def _cpu() -> str | None:
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or None


def _cpu_quota() -> float | None:
    for folder in _cgroups("cpu"):
        words = (_text(folder / "cpu.max") or "").split()
        if len(words) == 2 and words[0].isdigit():
            return int(words[0]) / int(words[1])
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota is not None and period is not None and quota.strip().isdigit():
            return int(quota) / int(period)
    return None


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    if torch is not None:
        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return _gpu_by_driver()


@functools.cache
def _gpu_by_driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    names = (_output(command) or "").splitlines()
    return names[0].strip() if names else None


@functools.cache
def _version(package: str) -> str | None:
    if package == "moebench":
        from moebench import __version__

        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _commit(package: Path) -> str | None:
    """Commit of the checkout that holds the package as tracked files; None when it was installed or git is missing."""
    tracked = _output(["git", "-C", str(package), "ls-files", "--error-unmatch", "__init__.py"])
    commit = _output(["git", "-C", str(package), "rev-parse", "HEAD"]) if tracked else None
    if not commit:
        return None
    changed = _output(["git", "-C", str(package), "status", "--porcelain", "--untracked-files=no"])
    return commit.strip() + ("-dirty" if changed else "")


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


# ---------------------------------------------------------------------------------------------- control groups


def _cgroups(controller: str) -> list[Path]:
    """Folders of this process's control group for a controller, the innermost first; version 2 and 1."""
    folders: list[Path] = []
    for line in (_text(Path("/proc/self/cgroup")) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUP / controller if controllers else _CGROUP
        inside = root / place.strip("/")
        folders += [folder for folder in (inside, *inside.parents) if folder.is_relative_to(root) and folder.is_dir()]
    return folders


def _numbers(name: str, controller: str) -> list[int]:
    texts = (_text(folder / name) for folder in _cgroups(controller))
    return [int(text) for text in texts if text is not None and text.strip().isdigit()]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
