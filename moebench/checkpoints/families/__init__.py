"""Families of checkpoints: what one does otherwise than Llama, one file each.

`systems.configs` says which families there are and counts them; a family that is not named here does nothing otherwise.
Another is its file and a line in `FAMILIES`.
"""

from __future__ import annotations

from moebench.checkpoints.families.dbrx import Dbrx
from moebench.checkpoints.families.family import Family as Family
from moebench.checkpoints.families.gpt_oss import GptOss
from moebench.checkpoints.families.granite import Granite
from moebench.checkpoints.families.llama4 import Llama4

FAMILIES: dict[str, Family] = {
    "dbrx": Dbrx(),
    "gpt_oss": GptOss(),
    "granite": Granite(),
    "granitemoe": Granite(),
    "granitemoeshared": Granite(),
    "llama4_text": Llama4(),
}
"""`model_type` -> what it does otherwise."""

_USUAL = Family()


def family_of(model_type: str) -> Family:
    """What a family does."""
    return FAMILIES.get(model_type, _USUAL)
