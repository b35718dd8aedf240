"""What a checkpoint's folder holds: safetensors headers, the tokenizer's files, and what is refused for what it is.

Headers alone are read. A file that ends before its header says, a tensor that is listed and not there, an index that
leads out of the folder, weights in pickle: each is refused by name with what to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moebench.checkpoints.located import CheckpointError
from moebench.store.files import read_json
from moebench.text import listed, plain, quoted

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tiktoken.model")
"""Any of which a tokenizer can be read from; the first is read where it is there."""
BESIDE = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tiktoken.model")  # fmt: skip
"""Files that decide what is measured, beside the weights."""
MOST_HEADER_BYTES = 100 * 2**20
"""As the format has it."""
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
        "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}  # fmt: skip
"""Of one number, by the format's word for its type."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor in a file."""

    dtype: str
    """As safetensors writes it: F32, BF16, U8, ..."""
    shape: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The weights of a folder, by their headers."""

    files: tuple[str, ...]
    """Names of the files of weights."""
    tensors: Mapping[str, Stored]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.tensors.values())


def contents(folder: Path) -> Contents:
    """The weights of a folder. Raises CheckpointError when it has none that are read here, or not all of them."""
    listed_in = _index(folder)
    names = tuple(sorted(set(listed_in.values()))) if listed_in else (WHOLE,)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise _absent(folder, missing)
    tensors: dict[str, Stored] = {}
    for name in names:
        for key, stored in header(folder / name).items():
            if key in tensors:
                raise CheckpointError(f"{folder}: the tensor {quoted(key)} stands in two files")
            tensors[key] = stored
    if lacking := sorted(set(listed_in) - set(tensors)):
        raise CheckpointError(f"{folder}: {INDEX} lists {listed(lacking[:3], last='and')}, which no file has")
    return Contents(files=names, tensors=tensors)


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> file, where there are several files; names of files of this folder alone."""
    path = folder / INDEX
    if not path.exists():
        return {}
    try:
        found = read_json(path)["weight_map"]
        rows = {str(key): str(name) for key, name in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: no index of weights: {error}") from None
    for name in set(rows.values()):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path}: {quoted(name)} is not a safetensors file of this folder")
    if not rows:
        raise CheckpointError(f"{path}: it lists no tensor")
    return rows


def _absent(folder: Path, missing: list[str]) -> CheckpointError:
    """Why there are no weights: another format, an adapter, or an unfinished download."""
    pickled = sorted({path.name for pattern in PICKLED for path in folder.glob(pattern)})
    if pickled and not list(folder.glob("*.safetensors")):
        return CheckpointError(
            f"{folder}: its weights are in {pickled[0]}, pickle or another format that can run code when it is read",
            hint="take the repository's safetensors (often a revision such as refs/pr/1), or convert it where you "
            "trust it: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)",
        )
    if list(folder.glob("adapter_*.safetensors")) or (folder / "adapter_config.json").exists():
        return CheckpointError(f"{folder} is an adapter, not a model", hint="merge it into its model and save that")
    if list(folder.glob("*.gguf")):
        return CheckpointError(f"{folder}: GGUF is not read", hint="take the repository's safetensors")
    return CheckpointError(
        f"{folder}: {listed(missing[:3], last='and')} {'is' if len(missing) == 1 else 'are'} not there",
        hint="download the checkpoint again, whole",
    )


def header(path: Path) -> dict[str, Stored]:
    """Name -> tensor of one safetensors file. Raises CheckpointError for a file that is cut short or no such file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
            raise CheckpointError(f"{path}: no safetensors file, or cut short", hint="download it again")
        text = stream.read(length)
    try:
        rows: dict[str, Any] = json.loads(text)
        found = dict(_tensors(rows))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header does not read: {plain(error, most=120)}") from None
    expected = 8 + length + sum(stored.num_bytes for stored in found.values())
    if expected != size:
        what = f"{expected - size:,} bytes short" if size < expected else f"{size - expected:,} bytes too long"
        raise CheckpointError(f"{path}: {what} of what its header says", hint="download it again")
    return found


def _tensors(rows: Mapping[str, Any]) -> Iterator[tuple[str, Stored]]:
    """Each tensor, one behind the other, as many bytes as its shape takes. Raises ValueError for what cannot be."""
    spans: list[tuple[int, int]] = []
    for name, row in rows.items():
        if name == "__metadata__":
            continue
        dtype, shape, (first, stop) = str(row["dtype"]), tuple(row["shape"]), row["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (first, stop, *shape)):
            raise ValueError(f"{quoted(name)} has impossible places")
        if dtype not in BITS:
            raise ValueError(f"{quoted(name)} is of {quoted(dtype)}, which is no type that is known")
        if 8 * (stop - first) != math.prod(shape) * BITS[dtype]:
            raise ValueError(f"{quoted(name)} has not as many bytes as its shape takes")
        spans.append((first, stop))
        yield str(name), Stored(dtype=dtype, shape=shape, num_bytes=stop - first)
    spans.sort()
    if any(stop != first for (_, stop), (first, _) in zip([(0, 0), *spans], spans, strict=False)):
        raise ValueError("its tensors do not stand one behind the other")


def tokenizer_file(folder: Path) -> str:
    """The file that its tokenizer is read from. Raises CheckpointError where there is none."""
    found = next((name for name in TOKENIZERS if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{folder}: no tokenizer ({listed(TOKENIZERS)})", hint="put the files of its own tokenizer into the folder"
        )
    return found


def largest_id(folder: Path) -> int | None:
    """The largest id of a tokenizer, where its file is JSON."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        vocab = value["model"]["vocab"]
        ids = list(vocab.values()) if isinstance(vocab, dict) else [len(vocab) - 1]
        ids += [token["id"] for token in value.get("added_tokens") or []]
        if odd := [number for number in ids if type(number) is not int or number < 0]:
            raise ValueError(f"{quoted(odd[0])} is no id")
        return max(ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: no tokenizer of the library `tokenizers`: {plain(error, most=120)}") from None
