"""A data set of the Hugging Face hub, from this machine's cache or a folder where it was saved; a row is a document.

Nothing is downloaded unless `online: true` is said, and then only rows, streamed, of the commit that is named. What
lies in the cache or a folder is read here: Parquet, JSON Lines and Arrow files, as the hub and `datasets` lay them out.
No code of a data set is ever run: none is looked for, and `datasets` has no way to run one any more. However it lies,
the rows of a split are numbered from 0, so the same rows are the same data.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from moebench.data.documents import DataError, Gathered, Stream, Text
from moebench.data.sources.records import (
    MOST_DOMAINS,
    Kind,
    Reader,
    RecordSource,
    Row,
    kind_of,
    rows_of,
    up_to,
)
from moebench.data.sources.unpack import Budget
from moebench.frozen import later
from moebench.text import plain

_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPLITS = ("train", "training", "test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev")
"""Words in the paths of files that name a split."""
_MOST_CARD_BYTES = 1 << 22

Word = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=200)]


class HubData(RecordSource):
    """A data set of the Hugging Face hub by its name, from this machine's cache, or a folder it was saved in."""

    says = "a data set of the Hugging Face hub, from this machine's cache or a folder; offline unless asked"
    scope = "a data set of the hub"

    source: Literal["hub"]
    """hub: a Hugging Face data set."""
    name: Annotated[str, Field(min_length=1, max_length=1000)]
    """Its name on the hub, or a folder, relative to the suite file."""
    config: Word | None = later()
    """The configuration, or subset; absent: the only one, or that called default."""
    split: Word = later("train")
    """Which of its splits is read; it is divided here into train, tune and test."""
    revision: str | None = later(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$", max_length=200)
    """Commit, branch or tag; absent: the one that the cache has as main."""
    online: bool = later(False)
    """Whether it may be streamed from the hub. The revision must then be a commit of 40 digits."""

    def gather(self, base: Path) -> Gathered:
        """Its documents. Raises DataError when it is not there or has no such config, split or field."""
        notes: list[str] = []
        found = _found(self, base)

        def read() -> Iterator[Text]:
            reader, beyond = Reader(self), list[str]()
            rows = zip(itertools.count(), _streamed(self) if found is None else found.rows(self), strict=False)
            place = f"{self.name}, split {self.split}"
            texts = reader.texts(rows, place=place, name=self.split, domain="all")
            yield from up_to(texts, self.limit, beyond)
            notes[:] = [self._told(found), *reader.notes, *beyond]

        return Gathered(texts=Stream(read), notes=notes, most_domains=MOST_DOMAINS)

    def _told(self, found: _Found | None) -> str:
        """What was read, with its commit."""
        commit = self.revision if found is None else found.commit
        parts = [self.name, *([f"config {self.config}"] if self.config else []), f"split {self.split}"]
        return ", ".join([*parts, *([f"commit {commit}"] if commit else [])])

    def fingerprint(self, base: Path) -> Any:
        """The commit, and path, size and time of change of every file that is read; of what is streamed its commit."""
        found = _found(self, base)
        if found is None:
            return [self.name, _commit_of(self)]
        states = [(path.relative_to(found.folder).as_posix(), path.stat()) for path in found.files]
        return [found.commit, [(name, state.st_size, state.st_mtime_ns) for name, state in states]]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The files of one split."""

    folder: Path
    files: Mapping[Path, Kind]
    commit: str | None
    """None of a folder of the user's own."""

    def rows(self, spec: HubData) -> Iterator[Row]:
        budget = Budget()
        for path, kind in self.files.items():
            yield from (row for _, row in rows_of(path, kind, spec=spec, budget=budget))


def _found(spec: HubData, base: Path) -> _Found | None:
    """Where a data set lies, and the files of its split; None for one that is streamed. Raises DataError."""
    folder = base / Path(spec.name).expanduser()
    if folder.is_dir():
        if spec.revision is not None:
            raise DataError(f"{folder} is a folder, which has no revisions: leave `revision` out")
        return _Found(folder=folder, files=_files_of(folder, spec), commit=None)
    if not _NAME.fullmatch(spec.name):
        raise DataError(f"there is no folder {folder}, and {plain(spec.name)!r} is no name of the hub")
    if spec.online:
        _commit_of(spec)
        return None
    snapshot, commit = _snapshot(spec)
    if snapshot is not None:
        return _Found(folder=snapshot, files=_files_of(snapshot, spec), commit=commit)
    prepared = _prepared(spec)
    if prepared is not None:
        return prepared
    at = f" --revision {spec.revision}" if spec.revision else ""
    raise DataError(
        f"{spec.name} is neither a folder nor in this machine's cache of the hub ({_cache('HF_HUB_CACHE', 'hub')}): "
        f"`hf download --repo-type dataset {spec.name}{at}` puts it there; or say `online: true` with a `revision`"
    )


def _cache(variable: str, folder: str) -> Path:
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    return Path(os.environ.get(variable) or Path(home, folder))


def _snapshot(spec: HubData) -> tuple[Path | None, str | None]:
    """The files of a commit as `huggingface_hub` keeps them, and the commit; None where they are not there."""
    root = _cache("HF_HUB_CACHE", "hub") / f"datasets--{spec.name.replace('/', '--')}"
    asked = spec.revision or "main"
    reference = root / "refs" / asked
    commit = asked
    if not _COMMIT.fullmatch(asked) and reference.is_file():
        commit = reference.read_text().strip()
    snapshot = root / "snapshots" / commit
    is_there = _COMMIT.fullmatch(commit) is not None and snapshot.is_dir()
    return (snapshot, commit) if is_there else (None, None)


def _prepared(spec: HubData) -> _Found | None:
    """The Arrow files that `datasets` made of it, in the folder CONFIG/VERSION/COMMIT of its cache; else None."""
    owner, _, word = spec.name.rpartition("/")
    snake = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", word)).lower()
    root = _cache("HF_DATASETS_CACHE", "datasets") / "___".join(filter(None, (owner, snake)))
    versions = [path.parent for path in root.glob(f"{spec.config or '*'}/*/*/dataset_info.json")]
    if spec.revision is not None:
        versions = [path for path in versions if path.name == spec.revision]
    configs = sorted({path.parent.parent.name for path in versions})
    if len(configs) > 1:
        raise DataError(f"{spec.name} has several configurations here: choose one of {', '.join(configs)} as `config`")
    if not versions:
        return None
    folder = max(versions, key=lambda path: path.stat().st_mtime_ns)
    arrows = sorted(folder.glob("*.arrow"))
    files = [path for path in arrows if re.fullmatch(rf".*-{re.escape(spec.split)}(-\d+-of-\d+)?", path.stem)]
    if not files:
        known = sorted({re.sub(r"(-\d+-of-\d+)?$", "", path.stem).rpartition("-")[2] for path in arrows})
        raise DataError(f"{spec.name} has no split {spec.split!r} here: it has {', '.join(known)}")
    return _Found(folder=folder, files=dict.fromkeys(files, "arrow"), commit=folder.name)


# ------------------------------------------------------------------------------------------------ folders


def _files_of(folder: Path, spec: HubData) -> dict[Path, Kind]:
    """The files of a split in a folder: as `save_to_disk` wrote them, or as the hub lays them out."""
    if (folder / "dataset_dict.json").is_file():
        splits = _json(folder / "dataset_dict.json").get("splits")
        known = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
        if spec.split not in known:
            raise DataError(f"{folder} has no split {spec.split!r}: it has {', '.join(map(plain, known))}")
        folder = folder / spec.split
    if (folder / "state.json").is_file():
        return dict.fromkeys(_saved(folder), "arrow")
    return _laid_out(folder, spec)


def _saved(folder: Path) -> list[Path]:
    """The Arrow files that `save_to_disk` lists in its state."""
    listed = _json(folder / "state.json").get("_data_files")
    names = [file.get("filename") for file in listed if isinstance(file, dict)] if isinstance(listed, list) else []
    paths = [folder / name for name in names if isinstance(name, str) and Path(name).name == name]
    if not paths or len(paths) < len(names) or not all(path.is_file() for path in paths):
        raise DataError(f"{folder} is no data set that was saved whole: its state.json lists files that are not there")
    return paths


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()[:_MOST_CARD_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({plain(str(error), most=100)}): save the data set again") from None
    return value if isinstance(value, dict) else {}


def _laid_out(folder: Path, spec: HubData) -> dict[Path, Kind]:
    """Parquet and JSON Lines files under a folder that belong to a config and a split.

    Which do is said by the data set's card where it has one, else by the words in their paths.
    """
    files = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if (kind := kind_of(path)) is not None:
                files[path] = kind
    if not files:
        raise DataError(f"{folder} holds no Parquet or JSON Lines file, and nothing that `save_to_disk` wrote")
    inside = {path.relative_to(folder).as_posix(): path for path in files}
    if (patterns := _patterns(folder, spec)) is not None:
        chosen = [name for name in inside if any(fnmatch(name, pattern) for pattern in patterns)]
    else:
        chosen = _by_words(list(inside), spec, folder)
    if not chosen:
        raise DataError(f"{folder} has no file of its split {spec.split!r} here: {', '.join(sorted(inside)[:10])}")
    return {inside[name]: files[inside[name]] for name in sorted(chosen)}


def _by_words(names: Sequence[str], spec: HubData, folder: Path) -> list[str]:
    """Names of files by config, which is a folder, and split, a word in the name; all, where none names one."""
    if spec.config is not None:
        under = [name for name in names if spec.config in name.split("/")[:-1]]
        if not under:
            known = sorted({name.split("/")[0] for name in names if "/" in name})
            raise DataError(f"{folder} has no configuration {spec.config!r}: its folders are {', '.join(known)}")
        names = under
    of_split = {name: _split_in(name) for name in names}
    known = sorted({split for split in of_split.values() if split is not None})
    if not known:
        if spec.split != "train":
            raise DataError(f"no file of {folder} names a split: all are read as `split: train`")
        return list(names)
    chosen = [name for name, split in of_split.items() if split == spec.split]
    if not chosen:
        raise DataError(f"{folder} has no split {spec.split!r}: it has {', '.join(known)}")
    return chosen


def _split_in(name: str) -> str | None:
    """The split that a file's path names, the last word first."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in reversed(words) if word in _SPLITS), None)


def _patterns(folder: Path, spec: HubData) -> list[str] | None:
    """What the card of a data set says the files of a config and split are called; None where it says nothing."""
    configs = _configs(folder / "README.md")
    if not configs:
        return None
    names = list(configs)
    name = spec.config or ("default" if "default" in configs else names[0] if len(names) == 1 else None)
    if name not in configs:
        asked = f"no configuration {spec.config!r}" if spec.config else "several configurations"
        raise DataError(f"{spec.name} has {asked}: choose one of {', '.join(map(plain, names))} as `config`")
    splits = configs[name]
    if spec.split not in splits:
        raise DataError(f"{spec.name} has no split {spec.split!r}: it has {', '.join(map(plain, splits))}")
    return splits[spec.split]


def _configs(card: Path) -> dict[str, dict[str, list[str]]]:
    """Config -> split -> patterns of files, from the head of a card; what is not of that shape is left out."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = card.read_bytes()[:_MOST_CARD_BYTES].decode()
    except (OSError, UnicodeDecodeError):
        return {}
    head = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    try:
        told = YAML(typ="safe", pure=True).load(head[1]) if head else None
    except (YAMLError, ValueError, RecursionError):
        return {}
    listed = told.get("configs") if isinstance(told, dict) else None
    configs = {}
    for config in listed if isinstance(listed, list) else []:
        if isinstance(config, dict) and isinstance(config.get("config_name"), str):
            configs[config["config_name"]] = _splits_of(config.get("data_files"))
    return {name: splits for name, splits in configs.items() if splits}


def _splits_of(told: Any) -> dict[str, list[str]]:
    """Split -> patterns, of a card's `data_files`: a pattern, a list of them, or a list of split and path."""
    splits: dict[str, list[str]] = {}
    for one in told if isinstance(told, list) else [told]:
        split, paths = (one.get("split"), one.get("path")) if isinstance(one, dict) else ("train", one)
        some = [path for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str)]
        if isinstance(split, str) and some:
            splits.setdefault(split, []).extend(some)
    return splits


# ------------------------------------------------------------------------------------------------ online


def _commit_of(spec: HubData) -> str:
    if spec.revision is None or not _COMMIT.fullmatch(spec.revision):
        raise DataError(
            f"{spec.name} may be streamed only at a commit, so that it is the same data the next time: give its 40 "
            f"digits as `revision` (https://huggingface.co/datasets/{spec.name}/commits/main)"
        )
    return spec.revision


def _streamed(spec: HubData) -> Iterator[Row]:
    """Its rows from the hub. Raises DataError."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise DataError(f"{spec.name} is streamed by datasets: pip install 'moebench[data]'") from None
    try:
        yield from load_dataset(spec.name, spec.config, split=spec.split, revision=_commit_of(spec), streaming=True)
    except Exception as error:  # of a dozen libraries: of the network, of files, of columns
        why = plain(str(error).splitlines()[0] if str(error) else type(error).__name__, most=300)
        raise DataError(f"{spec.name} cannot be streamed from the hub ({why})") from error
