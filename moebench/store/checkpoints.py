"""Checkpoints of a run under way: the last two, each with its hash, so that a bad one costs work but never bits.

`checkpoint.json` lists them, newest first, and is replaced only after the checkpoint's own file is in place; it
carries a hash of itself. A checkpoint that does not fit its hash is put aside and the one before it is used; with none
left the run starts anew. What is inside a checkpoint is the training loop's business.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from moebench.identity import digest_of
from moebench.store import files
from moebench.store.files import CorruptFile
from moebench.store.live import JobFolder, put_aside

_OWN_FILE = re.compile(r"checkpoint-[0-9]{1,20}\.safetensors")
KEPT = 2
"""Checkpoints kept: the newest may be the one that a bad disk spoilt."""


class Checkpoints:
    """The checkpoints of one run. The caller holds the folder's lock."""

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder.path
        self._index = folder.path / "checkpoint.json"

    def save(self, step: int, data: bytes, meta: dict[str, Any]) -> None:
        """Keeps `data` (safetensors) and `meta` (JSON) as the state after `step`; drops all but the last two.

        Raises OSError when the disk refuses; earlier checkpoints are then as they were.
        """
        name = f"checkpoint-{step}.safetensors"
        files.write_bytes(self._folder / name, data)
        entry = {"step": step, "file": name, "sha256": hashlib.sha256(data).hexdigest(), "meta": meta}
        kept = [entry, *(old for old in self._entries() if old["step"] < step)][:KEPT]
        files.write_json(self._index, {"checkpoints": kept, "seal": digest_of(kept, length=64)})
        names = {old["file"] for old in kept}
        for path in self._folder.glob("checkpoint-*.safetensors"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def load(self) -> tuple[int, bytes, dict[str, Any]] | None:
        """The newest checkpoint that fits its hash as (step, data, meta), or None. Puts bad ones aside."""
        for entry in self._entries():
            path = self._folder / entry["file"]
            try:
                with files.open_regular(path) as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            except CorruptFile:
                data = b""
            if hashlib.sha256(data).hexdigest() == entry["sha256"]:
                return entry["step"], data, entry["meta"]
            put_aside(path)
        return None

    def _entries(self) -> list[dict[str, Any]]:
        """The list in `checkpoint.json`, newest first; a spoilt list is put aside and counts as none."""
        try:
            index = files.read_json(self._index)
            listed: Any = index.get("checkpoints") if isinstance(index, dict) else None
            sealed = isinstance(listed, list) and index.get("seal") == digest_of(listed, length=64)
            if sealed and all(map(_is_entry, listed)):
                return list(listed)
        except FileNotFoundError:
            return []
        except CorruptFile:
            pass
        put_aside(self._index)
        return []


def _is_entry(entry: object) -> bool:
    """Whether this is what `save` writes: anyone can seal a list, and a file it names is read and may be put aside."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        return False
    kinds = {"step": int, "sha256": str, "meta": dict}
    right = all(isinstance(entry.get(key), kind) for key, kind in kinds.items())
    return right and _OWN_FILE.fullmatch(entry["file"]) is not None
