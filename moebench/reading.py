"""What one run and one process of a speed session left, read without trusting it.

A file that is not what moebench writes is refused with the reason, whatever it holds. This module knows files; what a
plan asked of them is known to `evidence`, and what they mean to the claims.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moebench.plan import PlannedRun
from moebench.spec.errors import plain
from moebench.store import CorruptFile, RunFolder, Status, read_json, sha256_of

MOST_SAID = 500
"""Characters of a reason that a folder gives which are told."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a file of unknown content can raise; CorruptFile, StaleRecord and UnsafeName are ValueErrors."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One evaluated document after the last step."""

    document: str
    domain: str
    num_bytes: int
    bits: float
    """Cross-entropy summed over the document's scored bytes."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one planned run."""

    model: str
    seed: int
    run_id: str
    status: Status
    reason: str | None = None
    """Why it is not completed; None when it is."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Metric -> its value at the last step it was measured."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Metric -> why it has no value."""
    curves: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """Metric -> (step, value) in order of steps, for metrics measured more than once."""
    items: tuple[Item, ...] = ()
    digests: Mapping[int, str] = field(default_factory=dict)
    """Step -> rolling digest of the tokens consumed up to it."""
    test_digest: str | None = None
    """Digest of the test split it was evaluated on."""
    finished: float | None = None
    """Unix time at which it was done."""
    machine: str | None = None
    """Short name of the machine it ran on."""

    @property
    def done(self) -> bool:
        """Whether it ran to an end: completed, or diverged, which is an outcome too."""
        return self.status in ("completed", "diverged")


@dataclass(frozen=True, kw_only=True)
class SpeedProcess:
    """One fresh process of the speed session."""

    process: int
    seed: int
    values: Mapping[str, Mapping[str, float]]
    """Model -> metric -> median within the process. The baseline's second copy is `<baseline>~again`."""
    unsteady: frozenset[tuple[str, str]] = frozenset()
    """(model, metric) whose timings had not settled after the warm-up."""
    machine: str | None = None
    """Short name of the machine it ran on."""
    setup: str | None = None
    """The same with what else decides timings: processor, threads, torch."""


# ---------------------------------------------------------------------------------------------- one run


def read_run(folder: RunFolder, planned: PlannedRun) -> Outcome:
    """A finished run. Raises one of `UNREADABLE` when a file is not what was written."""
    manifest = folder.manifest() or {}
    for name in ("run.json", "steps.jsonl", "records.jsonl", "items.jsonl"):
        entry = manifest["files"].get(name)
        if entry is not None and sha256_of(folder.path / name) != entry["sha256"]:
            raise CorruptFile(folder.path / name, "contents differ from what was written")
    run = folder.run_json()
    values: dict[str, tuple[int, float]] = {}
    absent: dict[str, str] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in folder.records():
        if record.value is None:
            absent[record.metric] = plain(record.reason or "no reason given", most=MOST_SAID)
            continue
        step = -1 if record.step is None else record.step
        if record.metric not in values or step >= values[record.metric][0]:
            values[record.metric] = (step, float(record.value))
        if record.step is not None:
            curves.setdefault(record.metric, []).append((record.step, float(record.value)))
    return Outcome(
        model=planned.model,
        seed=planned.seed,
        run_id=planned.id,
        status=manifest["status"],
        reason=None if manifest.get("reason") is None else plain(manifest["reason"], most=MOST_SAID),
        values={metric: value for metric, (_, value) in values.items()},
        absent=absent,
        curves={metric: tuple(sorted(points)) for metric, points in curves.items() if len(points) > 1},
        items=_items(folder),
        digests={int(row["step"]): str(row["digest"]) for row in folder.steps() if "digest" in row},
        test_digest=run.get("data_splits", {}).get("test", {}).get("digest"),
        finished=float(manifest["finished"]),
        machine=run.get("environment", {}).get("machine"),
    )


def _items(folder: RunFolder) -> tuple[Item, ...]:
    try:
        rows = folder.items()
    except FileNotFoundError:
        return ()
    return tuple(
        Item(document=str(r["document"]), domain=str(r["domain"]), num_bytes=int(r["bytes"]), bits=float(r["bits"]))
        for r in rows
    )


# ---------------------------------------------------------------------------------------------- one process


def read_process(path: Path) -> SpeedProcess:
    """One process's file. Samples become their medians: the datum of a process is its median.

    Raises one of `UNREADABLE` when the file is not what a process writes.
    """
    raw = read_json(path)
    values: dict[str, dict[str, float]] = {}
    for model, samples in raw["samples"].items():
        values[model] = {metric: float(statistics.median(times)) for metric, times in samples.items() if times}
    for model, derived in raw.get("derived", {}).items():
        values.setdefault(model, {}).update({metric: float(value) for metric, value in derived.items()})
    unsteady = {(m, metric) for m, flags in raw.get("steady", {}).items() for metric, ok in flags.items() if not ok}
    return SpeedProcess(
        process=int(raw["process"]),
        seed=int(raw["seed"]),
        values=values,
        unsteady=frozenset(unsteady),
        machine=raw.get("environment", {}).get("machine"),
        setup=_setup(raw.get("environment", {})),
    )


def _setup(environment: Mapping[str, Any]) -> str | None:
    """What decides timings, as far as it is told: `2-core x86_64 CPU, AMD EPYC 9R14, 1 thread, torch 2.13.0`."""
    torch = environment.get("packages", {}).get("torch")
    said = [environment.get("machine"), environment.get("gpu") or environment.get("cpu")]
    said += [None if (n := environment.get("threads")) is None else f"{n} thread{'s' if n != 1 else ''}"]
    said += [None if torch is None else f"torch {torch}"]
    return plain(", ".join(str(part) for part in said if part is not None), most=MOST_SAID) or None


def words_of(error: Exception) -> str:
    said = f"no {error.args[0]} in it" if isinstance(error, KeyError) else str(error) or type(error).__name__
    return plain(said, most=MOST_SAID)
