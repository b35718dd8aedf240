"""Writes a bundle: a suite's results in a few text files to commit.

Left out, with the hashes of the originals in MANIFEST: weights; of the training steps all but the digests of those that
were evaluated; the load of single experts before the last evaluation; times of other work than training; the runs of
learning-rate sweeps, of which the summary is kept; of the short runs of controls what no control reads (documents,
routing, times); which model a speed session timed when, and where the bundle would be too large the order of its
samples. A report from the bundle says what one from the originals does.
`run` never takes a job from it. Writing again what is there already changes no file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moebench.identity import canonical, digest_of
from moebench.planning.types import Plan, PlannedJob, StoredPlan, TunePlan
from moebench.store import columns, files
from moebench.store.bundle import FACTS, FILES, MANIFEST, SAMPLES, VERSION
from moebench.store.files import CorruptFile
from moebench.store.folder import JOB, PROCESS, Folder
from moebench.store.packing import fold
from moebench.store.source import Source

LOADS = "routing.tokens["
ITEMS = "items.jsonl"
MOST_BYTES = 416 * 2**10
"""What a bundle should be within: 18 designs of 8 seeds and their controls take 411 KiB."""
ROOM = 1000
"""Bytes of it for MANIFEST, beside what was left out."""
LINE = 100
"""Characters beyond which JSON goes on the next line."""

Rows = list[dict[str, Any]]


def write_bundle(source: Source, stored: StoredPlan, path: Path) -> list[Path]:
    """Writes the bundle of a plan into the folder `path`; returns the files written, none where all are there already.

    Plans of the same models or claims are kept beside it, with when their runs were done: what was looked at, left out
    or withdrawn before is part of a verdict. A job that failed is kept as its failure, so that the report can count it.
    Raises CorruptFile when a finished folder is not whole.
    """
    akin = [other for other in source.known_plans() if other != stored and stored.plan.akin(other.plan)]
    groups = _groups(source, stored.plan)
    digested = _digested_steps(groups, stored.plan)
    of_controls = {_group(job) for job in (stored.plan.controls.jobs if stored.plan.controls is not None else ())}
    whole_of: dict[str, dict[str, bool]] = {}
    rows: dict[str, dict[str, list[Rows]]] = {name: {} for name in columns.TABLES}
    samples: dict[str, dict[int, Any]] = {}
    jobs: dict[str, list[dict[str, Any]]] = {}
    for group, folders in groups.items():
        entries = [_entry(folder) for folder in folders]
        jobs.setdefault(group.partition(" ")[0], []).extend({"group": group, **entry} for entry in entries)
        thinned = {}
        for name in columns.TABLES:
            if any(name in entry["rows"] for entry in entries):
                keep = _kept_of_control if group in of_controls else _kept
                kept, whole = zip(*(keep(folder, name, digested) for folder in folders), strict=True)
                rows[name][group] = list(kept)
                thinned[name] = all(whole)
        for number, entry in enumerate(entries):
            if (process := entry["files"].get(PROCESS)) is not None:
                process.pop("order", None)
                samples.setdefault(group, {})[number] = process.pop("samples", {})
        whole_of[group] = thinned
    left_out = _left_out(groups, whole_of)
    facts = {
        "plans": [stored.model_dump(mode="json")],
        "akin": [other.model_dump(mode="json") for other in akin],
        "jobs": jobs,
        **_sweeps(source, stored.plan, left_out),
        **_notes(source, [stored, *akin]),
    }
    texts = {FACTS: _lines(fold(facts)) + "\n"}
    for name, (file, write, read) in columns.TABLES.items():
        texts[file] = _table(path / file, rows[name], write, read)
    texts[SAMPLES] = columns.text_of(columns.samples_written(samples))
    if sum(map(len, (*texts.values(), _lines(left_out)))) > MOST_BYTES - ROOM and samples:
        texts[SAMPLES] = columns.text_of(columns.samples_written(samples, ordered=False))
        left_out["order of the samples"] = {}
    return _put(path, stored.plan.title, {name: text.encode() for name, text in texts.items() if text}, left_out)


# ---------------------------------------------------------------------------------------------- what is kept


def _groups(source: Source, plan: Plan) -> dict[str, list[Folder]]:
    """The jobs of a plan that ran to an end or failed, by kind and model, in the plan's order."""
    groups: dict[str, list[Folder]] = {}
    for job in plan.every_job:
        folder = source.job(job.id)
        status = folder.status()
        if status in ("completed", "diverged", "corrupt") and (wrong := folder.verify()):
            raise CorruptFile(folder.path, "; ".join(wrong))
        if status in ("completed", "diverged", "failed"):
            groups.setdefault(_group(job), []).append(folder)
    return groups


def _group(job: PlannedJob) -> str:
    return " ".join(filter(None, [job.kind, job.measurement, job.model]))


def _listed(folders: Iterable[Folder]) -> list[tuple[str, dict[str, Any]]]:
    """Name, hash and size of each file that was written, of a thinned one those of its original."""
    manifests = [folder.manifest() or {"files": {}} for folder in folders]
    return [entry for one in manifests for entry in {**one["files"], **one.get("thinned_from", {})}.items()]


def _left_out(groups: Mapping[str, Sequence[Folder]], whole: Mapping[str, Mapping[str, bool]]) -> dict[str, Any]:
    """The files that are not kept whole, by name and kind of job, with their originals."""
    gone: dict[str, list[Folder]] = {}
    for group, folders in groups.items():
        for name in {name: None for name, _ in _listed(folders)}:
            if not whole[group].get(name, name.endswith(".json") and name != PROCESS):
                gone.setdefault(f"{name} of {group.partition(' ')[0]}", []).extend(folders)
    return {what: _originals(folders, what.partition(" ")[0]) for what, folders in gone.items()}


def _originals(folders: Sequence[Folder], name: str) -> dict[str, Any]:
    """Size of all files of one name, and the hash of their hashes in order."""
    entries = [entry for listed, entry in _listed(folders) if listed == name]
    hashes = "".join(entry["sha256"] for entry in entries)
    return {"sha256": hashlib.sha256(hashes.encode()).hexdigest(), "bytes": sum(entry["bytes"] for entry in entries)}


def _entry(folder: Folder) -> dict[str, Any]:
    """What is kept of a job without its rows."""
    manifest = folder.manifest()
    done = None
    if manifest is not None:
        done = {key: manifest[key] for key in ("status", "reason", "finished")} | {"files": {}, "weights": "omitted"}
    names = (JOB, *(() if manifest is None else sorted(manifest["files"].keys() - {JOB})))
    return {
        "id": None if folder.has(JOB) else folder.id,
        "files": {name: folder.read(name) for name in names if name.endswith(".json") and folder.has(name)},
        "rows": [name for name in names if name in columns.TABLES],
        "done": done,
        "failed": None if manifest is not None else folder.failure(),
    }


def _digested_steps(groups: Mapping[str, Sequence[Folder]], plan: Plan) -> set[int]:
    """Steps whose digests are compared: where any model is evaluated, and where a run diverged."""
    every = [*plan.decoders.values(), *(plan.controls.models.values() if plan.controls is not None else ())]
    steps = {step for model in every for step in (*model.recipe.evaluate_at, model.recipe.steps)}
    diverged = (folder for folders in groups.values() for folder in folders if folder.status() == "diverged")
    return steps | {max((row["step"] for row in folder.each_row("steps.jsonl")), default=0) for folder in diverged}


def _kept(folder: Folder, name: str, digested: set[int]) -> tuple[Rows, bool]:
    """The rows of one file that are kept, and whether these are all, with all that they say."""
    try:
        rows = list(folder.each_row(name))
        if name == "steps.jsonl":
            ends = {row["step"] for row in (*rows[:1], *rows[-1:])}
            kept = [row for row in rows if row["step"] in digested | ends]
            return [{key: row[key] for key in ("step", "digest") if key in row} for row in kept], False
        if name == "timed.jsonl":
            return [row for row in rows if row["what"] == "train"], False
        if name == "records.jsonl":
            last = max((row.get("step") or 0 for row in rows), default=0)
            kept = [row for row in rows if row.get("step") == last or not row["metric"].startswith(LOADS)]
            return kept, len(kept) == len(rows)
        return rows, True
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(folder.path / name, "not what a job writes") from error


def _kept_of_control(folder: Folder, name: str, digested: set[int]) -> tuple[Rows, bool]:
    """The same of a control's short run: of its documents, routing and times nothing is read."""
    if name in (ITEMS, "timed.jsonl"):
        return [], False
    rows, whole = _kept(folder, name, digested)
    if name != "records.jsonl":
        return rows, whole
    told = [row for row in rows if not row["metric"].startswith(("routing.", "init."))]
    return told, whole and len(told) == len(rows)


def _sweeps(source: Source, plan: Plan, left_out: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The summary of the plan's learning-rate sweep, as it is in its folder."""
    if plan.tune is None or (folder := source.tune(plan.tune.id)).status() != "completed":
        return {"sweeps": {}}
    if wrong := folder.verify():
        raise CorruptFile(folder.path, "; ".join(wrong))
    told = folder.read("tune.json").get("extended")
    tune = plan.tune if told is None else TunePlan.model_validate(told)
    runs = [manifest for *_, run in tune.runs if (manifest := source.job(run).manifest()) is not None]
    if runs:
        written = [entry for manifest in runs for entry in manifest["files"].values()]
        left_out["runs of the sweep"] = {
            "sha256": digest_of([entry["sha256"] for entry in written], length=64),
            "bytes": sum(entry["bytes"] for entry in written),
        }
    return {"sweeps": {plan.tune.id: _entry(folder)}}


def _notes(source: Source, stored: Sequence[StoredPlan]) -> dict[str, Any]:
    """When jobs of these plans were first done and timed, those too that are not kept."""
    plans = [one.plan for one in stored]
    own = {run.id for run in plans[0].runs}
    noted = [row for row in source.done_notes() if any(row.get("run") == run.id for one in plans for run in one.runs)]
    known = {row.get("run") for row in noted} | own
    for plan in plans[1:]:
        for run in plan.runs:
            if run.id not in known and (manifest := source.job(run.id).manifest()) is not None:
                about = {"run": run.id, "seed": run.seed, "training": plan.training(run.model)}
                noted.append({**about, "at": manifest["finished"]})
                known.add(run.id)
    sessions = {plan.speed.id for plan in plans if plan.speed is not None}
    timed = {name: rows for name, rows in source.timed_notes().items() if name in sessions}
    return {"done": noted, "timed": timed}


# ---------------------------------------------------------------------------------------------- files


def _table(path: Path, groups: columns.Groups, write: Any, read: columns.Reader) -> str:
    """The text of one file of rows. Raises CorruptFile where it would not read back as it was."""
    if not groups:
        return ""
    try:
        text = columns.text_of(write(groups))
        sections = columns.sections_of(text)
        for group, jobs in groups.items():
            for number, rows in enumerate(jobs):
                again = list(read(sections, group, number))
                if sorted(map(canonical, again)) != sorted(map(canonical, rows)):
                    raise ValueError(f"the rows of job {number + 1} of {group} cannot be written in columns")
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(path, f"not what a job writes: {error}") from error
    return text


def _lines(value: Any) -> str:
    """JSON of many short lines: what is longer than a line is written an element a line."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    if len(text) <= LINE or not isinstance(value, dict | list):
        return text
    if isinstance(value, dict):
        return "{" + ",\n".join(f"{json.dumps(key)}:{_lines(inner)}" for key, inner in value.items()) + "}"
    return "[" + ",\n".join(map(_lines, value)) + "]"


def _put(path: Path, title: str, texts: Mapping[str, bytes], left_out: dict[str, dict[str, Any]]) -> list[Path]:
    """Writes what is new, MANIFEST last; while another is written there is none."""
    listed = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in texts.items()}
    manifest = {"bundle": VERSION, "suite": title, "files": listed, "left_out": left_out}
    new = {name: data for name, data in texts.items() if _now(path / name) != data}
    if not new and _now(path / MANIFEST) == (_lines(manifest) + "\n").encode():
        return []
    path.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, *(name for name in FILES if name not in texts)):
        (path / name).unlink(missing_ok=True)
    for name, data in (*new.items(), (MANIFEST, (_lines(manifest) + "\n").encode())):
        files.write_bytes(path / name, data)
    return [*(path / name for name in new), path / MANIFEST]


def _now(path: Path) -> bytes | None:
    return files.read_bytes(path) if path.exists() else None
