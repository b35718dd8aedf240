"""A checkpoint's weights in our decoder: safetensors alone, a tensor at a time, numbers as they are stored."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch

from moebench.checkpoints.contents import contents
from moebench.checkpoints.digest import digest as digest_of_files
from moebench.checkpoints.located import CheckpointError
from moebench.models.convert.families import Family
from moebench.models.convert.stored import check, described
from moebench.models.convert.tensors import pieces
from moebench.models.decoder import Transformer, build
from moebench.text import plain


def load_native(
    folder: Path, *, context: int | None = None, dtype: str = "float32", device: str = "cpu", backend: str | None = None
) -> Transformer:
    """Our decoder with a checkpoint's weights, in evaluation. Raises CheckpointError for one that it does not compute.

    `dtype` is that of products; weights are float32.
    """
    a, family = described(folder, context=context)
    check(folder, a, family)  # before anything of that size is made
    model = build(a, seed=None, dtype=dtype, backend=backend)
    fill(model, folder, family)
    return model.to(device).eval()


@torch.no_grad()
def fill(model: Transformer, folder: Path, family: Family) -> None:
    """Copies a checkpoint's weights into a model of its architecture, on whatever device.

    Raises CheckpointError where the files do not hold them.
    """
    held = check(folder, model.architecture, family)
    places = {piece.theirs: piece for piece in pieces(model.architecture, family)}
    state = model.state_dict()
    for name in held.files:
        try:
            with safetensors.safe_open(folder / name, framework="pt") as stream:
                for key in places.keys() & set(stream.keys()):
                    place = places[key].view(state[places[key].ours])
                    place.copy_(stream.get_tensor(key).view(place.shape))
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{folder / name}: it does not read: {plain(error, most=200)}") from None


def begin_from(model: Transformer, folder: Path, *, digest: str, cache: Path | None) -> None:
    """Gives a model the weights of a checkpoint, once its files are those that were planned.

    Raises CheckpointError when they have changed since.
    """
    held = contents(folder)
    if (found := digest_of_files(folder, held.files, cache=cache)) != digest:
        told = f"the weights in {folder.name} have digest {found[:12]}, the plan {digest[:12]}: they have changed"
        raise CheckpointError(told, hint="plan again")
    fill(model, folder, described(folder)[1])
