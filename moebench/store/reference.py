"""A small copy of results to commit: everything but the weights, whose hashes stay in the manifests.

The copy is a results folder of its own, from which a report is built like from any other; `run` never takes a run
from it. Copying again changes nothing that is already there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from moebench.plan import Plan, StoredPlan
from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.store.folders import WEIGHTS, RunFolder
from moebench.store.results import Results


def export_reference(results_root: Path, stored_plans: Iterable[StoredPlan], target_root: Path) -> list[Path]:
    """Copies plans and the finished runs, speed sessions and sweeps they use; returns the files written.

    A run that failed is copied as its failure, so that the report can count it. Raises CorruptFile when a finished
    folder is not whole; folders copied before it stay.
    """
    source, target = Results(results_root), Results(target_root)
    written: list[Path] = []
    for stored in stored_plans:
        for here, there in _folders(source, target, stored.plan):
            written += _copy_folder(here, there)
        written += _copy_file(source.plan_path(stored.plan), target.plan_path(stored.plan))
    return written


def _folders(source: Results, target: Results, plan: Plan) -> Iterator[tuple[RunFolder, RunFolder]]:
    ids = [run.id for run in plan.runs]
    if plan.tune is not None:
        ids += [run_id for *_, run_id in plan.tune.runs]
        yield source.tune(plan.tune.id), target.tune(plan.tune.id)
    if plan.speed is not None:
        yield source.speed(plan.speed.id), target.speed(plan.speed.id)
    for run_id in dict.fromkeys(ids):
        yield source.run(run_id), target.run(run_id)


def _copy_folder(here: RunFolder, there: RunFolder) -> list[Path]:
    manifest = here.manifest()
    if manifest is None:
        names = [name for name in ("run.json", "FAILED.json", "tune.json") if (here.path / name).exists()]
        return [path for name in names for path in _copy_file(here.path / name, there.path / name)]
    wrong = here.verify()
    if wrong:
        raise CorruptFile(here.path, "; ".join(wrong))
    written = [
        path
        for name in manifest["files"]
        if name != WEIGHTS
        for path in _copy_file(here.path / name, there.path / name)
    ]
    omitted = {**manifest, "weights": "omitted" if WEIGHTS in manifest["files"] else manifest["weights"]}
    if there.manifest() != omitted:
        there.path.mkdir(parents=True, exist_ok=True)
        (there.path / "FAILED.json").unlink(missing_ok=True)
        files.write_json(there.path / "DONE", omitted)
        written.append(there.path / "DONE")
    return written


def _copy_file(here: Path, there: Path) -> list[Path]:
    data = files.read_bytes(here)
    if there.exists() and files.read_bytes(there) == data:
        return []
    there.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(there, data)
    return [there]
