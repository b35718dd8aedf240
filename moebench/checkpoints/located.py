"""Where a checkpoint lies: a folder, or a name of the Hugging Face hub in this machine's cache.

No network: a name that is not in the cache is refused with what to download, unless the suite says `online: true`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from moebench.text import plain, quoted

WANTED, UNWANTED = ("*.json", "*.safetensors", "tokenizer*", "merges.txt"), ("*/*", "consolidated*")
"""What is downloaded of a repository and what is not: no pickle, no code, no second copy in a folder within."""
INSTALL = "pip install 'moebench[hf]'"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class CheckpointError(ValueError):
    """A checkpoint that cannot be measured here; the message says why, `hint` what would do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(plain(message, most=600) + (f": {hint}" if hint else ""))
        self.message, self.hint = plain(message, most=600), hint


@dataclass(frozen=True, kw_only=True)
class Located:
    """A folder with a checkpoint."""

    asked: str
    """As the suite names it."""
    folder: Path
    revision: str | None
    """The commit, of a name of the hub."""


def locate(asked: str, *, base: Path, revision: str | None = None, online: bool = False) -> Located:
    """The folder of a checkpoint; relative paths start from `base`. Raises CheckpointError where there is none."""
    typed = Path(asked).expanduser()
    folder = typed if typed.is_absolute() else base / typed
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{asked} is a folder, which has no revisions", hint="leave `revision` out")
        return Located(asked=asked, folder=folder.resolve(), revision=None)
    if not _HUB_NAME.fullmatch(asked):
        raise CheckpointError(
            f"there is no folder {quoted(asked)}", hint="give a folder, or a name such as Qwen/Qwen3-8B"
        )
    return _of_the_hub(asked, revision, online=online)


def _of_the_hub(name: str, revision: str | None, *, online: bool) -> Located:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise CheckpointError(
            f"{name} is looked up with huggingface_hub, which is not installed", hint=INSTALL
        ) from None
    try:
        found = snapshot_download(
            name,
            revision=revision,
            local_files_only=not online,
            allow_patterns=list(WANTED),
            ignore_patterns=list(UNWANTED),
        )
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        if online:
            raise CheckpointError(f"{name} cannot be downloaded: {error}") from None
        at = f" --revision {revision}" if revision is not None else ""
        patterns = " ".join([*(f"--include '{p}'" for p in WANTED), *(f"--exclude '{p}'" for p in UNWANTED)])
        raise CheckpointError(
            f"{name} is neither a folder nor in this machine's cache of the hub ({HF_HUB_CACHE})",
            hint=f"`hf download {name}{at} {patterns}` puts it there; or say `online: true` for it",
        ) from None
    folder = Path(found)
    return Located(asked=name, folder=folder, revision=folder.name)
