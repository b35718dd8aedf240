"""A small copy of results to commit: no weights, of the training steps only those that were evaluated, and of each
expert's load only the last (the summaries of the load stay at every evaluation).

The hashes of what was left out stay in the manifests, so the copy can still be held against the original.
The copy is a results folder of its own, from which a report is built like from any other; `run` never takes a run
from it. Copying again changes nothing that is already there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from moebench.planning.types import Plan, StoredPlan
from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.store.folder import WEIGHTS
from moebench.store.live import JobFolder
from moebench.store.results import Results

STEPS, RECORDS = "steps.jsonl", "records.jsonl"
LOADS = "routing.tokens["


def export_reference(results_root: Path, stored_plans: Iterable[StoredPlan], target_root: Path) -> list[Path]:
    """Copies plans and the finished runs, speed sessions and sweeps they use; returns the files written.

    Other plans of the same models or claims are copied with them: a copy gives the verdicts that its original gives,
    and what was looked at, left out or withdrawn before is part of them.

    A run that failed is copied as its failure, so that the report can count it. Raises CorruptFile when a finished
    folder is not whole; folders copied before it stay.
    """
    source, target = Results(results_root), Results(target_root)
    written: list[Path] = []
    for stored in _with_akin(source, stored_plans):
        for here, there in _folders(source, target, stored.plan):
            written += _copy_folder(here, there)
        written += _copy_file(source.plan_path(stored.plan), target.plan_path(stored.plan))
        written += _add_rows(source.done_path(stored.plan), target.done_path(stored.plan))
        if stored.plan.speed is not None:
            written += _add_rows(source.timed_path(stored.plan.speed.id), target.timed_path(stored.plan.speed.id))
    return written


def _with_akin(source: Results, stored_plans: Iterable[StoredPlan]) -> list[StoredPlan]:
    asked = list(stored_plans)
    also = [other for other in source.plans() if any(one.plan.akin(other.plan) for one in asked)]
    return [*asked, *(other for other in also if other not in asked)]


def _folders(source: Results, target: Results, plan: Plan) -> Iterator[tuple[JobFolder, JobFolder]]:
    ids = [job.id for job in plan.jobs]
    if plan.tune is not None:
        swept = {run_id for *_, run_id in plan.tune.runs}
        ids += [*swept, *(folder.id for folder in source.jobs() if swept.intersection(folder.inputs))]
        yield source.tune(plan.tune.id), target.tune(plan.tune.id)
    if plan.speed is not None:
        yield source.speed(plan.speed.id), target.speed(plan.speed.id)
    for run_id in dict.fromkeys(ids):
        yield source.job(run_id), target.job(run_id)


def _copy_folder(here: JobFolder, there: JobFolder) -> list[Path]:
    manifest = here.manifest()
    if manifest is None:
        names = [name for name in ("job.json", "FAILED.json", "tune.json") if (here.path / name).exists()]
        return [path for name in names for path in _copy_file(here.path / name, there.path / name)]
    wrong = here.verify()
    if wrong:
        raise CorruptFile(here.path, "; ".join(wrong))
    listed = dict(manifest["files"])
    left_out: dict[str, dict[str, Any]] = {}
    written: list[Path] = []
    for name in manifest["files"]:
        if name == WEIGHTS:
            continue
        data = files.read_bytes(here.path / name)
        thinned = _thinned(here, name, data)
        if thinned != data:
            data = thinned
            left_out[name] = listed[name]
            listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        written += _put(data, there.path / name)
    weights = "omitted" if WEIGHTS in listed else manifest["weights"]
    small = {**manifest, "files": listed, "weights": weights, **({"thinned_from": left_out} if left_out else {})}
    if there.manifest() != small:
        there.path.mkdir(parents=True, exist_ok=True)
        (there.path / "FAILED.json").unlink(missing_ok=True)
        files.write_json(there.path / "DONE", small)
        written.append(there.path / "DONE")
    return written


def _thinned(folder: JobFolder, name: str, data: bytes) -> bytes:
    try:
        return THINNED[name](folder, data) if name in THINNED else data
    except (KeyError, TypeError) as error:
        raise CorruptFile(folder.path / name, "not what a run writes") from error


def _evaluated_steps(folder: JobFolder, data: bytes) -> bytes:
    """The rows of `steps.jsonl` after which quality was measured, and the last row, each with its own bytes."""
    points = set(folder.spec()["recipe"]["evaluate_at"])
    last = max((row["step"] for row in folder.each_row(STEPS)), default=0)
    return _chosen(data, (row["step"] in points or row["step"] == last for row in folder.each_row(STEPS)))


def _final_loads(folder: JobFolder, data: bytes) -> bytes:
    """The rows of `records.jsonl` without the load of single experts before the last evaluation."""
    last = max((record.step or 0 for record in folder.each_record()), default=0)
    return _chosen(data, (r.step == last or not r.metric.startswith(LOADS) for r in folder.each_record()))


def _chosen(data: bytes, keep: Iterable[bool]) -> bytes:
    lines = data.split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    return b"".join(line + b"\n" for line, kept in zip(lines, keep, strict=True) if kept)


THINNED = {STEPS: _evaluated_steps, RECORDS: _final_loads}
"""Files of which only some rows are copied."""


def _copy_file(here: Path, there: Path) -> list[Path]:
    return _put(files.read_bytes(here), there)


def _add_rows(here: Path, there: Path) -> list[Path]:
    """Adds the rows of a file of JSON Lines that the other does not have yet."""
    known = files.read_lines(there)
    rows = [row for row in files.read_lines(here) if row not in known]
    if not rows:
        return []
    files.append_lines(there, rows)
    return [there]


def _put(data: bytes, there: Path) -> list[Path]:
    if there.exists() and files.read_bytes(there) == data:
        return []
    there.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(there, data)
    return [there]
