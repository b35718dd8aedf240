"""Published systems as YAML, counted exactly: one file for a maker or a line of papers, a mapping from system's name.

Each gives a model's sizes as its own `config` of a transformers family, or as a `blueprint` where there is no such
family; a system that cannot be counted says what is known in `describes`. Beside them stand what its publisher counts,
in the publisher's own digits, the sources, and how a suite would write it. `undisclosed` names the systems whose makers
publish no sizes; they have no numbers here.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal

from pydantic import model_validator

from moebench.counting.blueprint import Blueprint, Experts, LatentAttention, Lstm, Mixer
from moebench.counting.weights import ParameterCount, active_without_input_tables, parameters
from moebench.frozen import Frozen
from moebench.suite.words import known_systems, system_files
from moebench.systems.configs import read_config
from moebench.tables import table
from moebench.text import nearest, quoted

_FIGURE = re.compile(r"(\d+)(?:\.(\d+))?([MBT])")
_UNDISCLOSED = "systems/undisclosed/systems.yaml"
_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


class Figure(Frozen):
    """A published figure, such as 46.7B, and so how far its rounding reaches."""

    text: str

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _readable(self) -> Figure:
        if not _FIGURE.fullmatch(self.text):
            raise ValueError(f"{self.text!r} is no figure such as 46.7B, 8.9M or 1.2T")
        return self

    @property
    def _parts(self) -> tuple[int, str, int]:
        found = _FIGURE.fullmatch(self.text)
        assert found is not None
        return int(found[1] + (found[2] or "")), found[2] or "", _UNITS[found[3]]

    @property
    def value(self) -> float:
        digits, decimals, unit = self._parts
        return float(digits * unit / 10 ** len(decimals))

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit printed."""
        _, decimals, unit = self._parts
        return float(unit / 10 ** len(decimals) / 2)

    def holds(self, count: int) -> bool:
        """Whether a count rounds to this figure."""
        return abs(count - self.value) <= self.rounding


class Published(Frozen):
    """What a publisher says; None when it does not."""

    total: Figure | None = None
    active: Figure | None = None
    active_counts: Literal["all", "without_input_tables"] = "all"
    """Which of the two conventions the active figure follows, as found by counting."""

    @property
    def figures(self) -> dict[str, Figure]:
        """Those that there are, by what they count: total, active."""
        figures = {"total": self.total, "active": self.active}
        return {part: figure for part, figure in figures.items() if figure is not None}


class System(Frozen):
    """A published system."""

    name: str
    family: str
    """Its maker, or the line of papers it belongs to: the file it stands in."""
    year: int
    published: Published = Published()
    source: str
    note: str | None = None
    discrepancy: str | None = None
    """Why a published figure is not what the published sizes give; None where it is, within its rounding."""
    describes: str | None = None
    """What is known of a system that cannot be counted."""
    design: str | None = None
    """Its routing and experts in the words of a suite: a name of suite/designs.yaml."""
    differs: str | None = None
    """Where it differs from those words."""
    suite: str | None = None
    """Words of its own, where no design has them: fields of a model's `ffn`, and `qk_norm`."""
    apart: str | None = None
    """What it has that its own words do not say."""
    experts_are: Literal["networks of a layer", "whole models"] = "networks of a layer"
    """Of a mixture: what one of its experts is."""
    blueprint: Blueprint | None = None
    """None for a system that cannot be counted."""

    @property
    def kind(self) -> str:
        """dense or moe."""
        if self.blueprint is None:
            return "dense" if self.design is None else "moe"
        return "moe" if self.blueprint.mixtures else "dense"

    @property
    def parameters(self) -> ParameterCount:
        """Its parameters. Raises LookupError with the reason when it cannot be counted."""
        if self.blueprint is None:
            raise LookupError(f"{self.name} cannot be counted: {self.describes}")
        return parameters(self.blueprint)

    @property
    def active_by_convention(self) -> int:
        """Active parameters in the convention of the published figure."""
        count = self.parameters
        assert self.blueprint is not None
        if self.published.active_counts == "all":
            return count.active
        return active_without_input_tables(self.blueprint)


class Undisclosed(Frozen):
    """A system that is often argued about and whose sizes are not published."""

    name: str
    says: str


def _letters(name: str) -> str:
    """`GPT-4`, `gpt_4` and `GPT4` are one name."""
    return re.sub(r"[\W_]+", "", name.lower())


@cache
def system(name: str) -> System:
    """A published system by name. Raises KeyError with the known names, or saying that it is undisclosed."""
    if name not in known_systems():
        for one in undisclosed():
            if _letters(name).startswith(_letters(one.name)):
                raise KeyError(f"{name}: {one.says}; there is nothing to count")
        hint = nearest(name, known_systems()) or "`moebench list models` names them"
        raise KeyError(f"no published system {quoted(name)}: {hint}")
    file = system_files()[name]
    values = dict(table(file)[name])
    if (config := values.pop("config", None)) is not None:
        values["blueprint"], _ = read_config(config)
    return System(name=name, family=file.stem, **values)


def systems() -> tuple[System, ...]:
    """All published systems, the oldest first."""
    return tuple(sorted(map(system, known_systems()), key=lambda one: (one.year, one.name)))


@cache
def undisclosed() -> tuple[Undisclosed, ...]:
    """Systems listed so that no one need guess why they are missing."""
    return tuple(Undisclosed.model_validate(one) for one in table(_UNDISCLOSED))


def shape(b: Blueprint) -> str:
    """`32 x 4096, 32 heads on 8, 8 experts of 14336, top-2`, in one line."""
    words = [f"{b.depth} x {b.width}"]
    if len(b.stacks) == 2:
        words.append(" + ".join(f"{sum(layer.times for layer in stack.layers)} {stack.kind}" for stack in b.stacks))
    words += dict.fromkeys(_mixer_words(layer.mixer) for layer in b.layers if layer.mixer is not None)
    moe = sum(times for times, _ in b.mixtures)
    for ffn in dict.fromkeys(layer.ffn for layer in b.layers if layer.ffn is not None):
        if isinstance(ffn, Experts):
            shared = f" + {ffn.shared.hidden} shared" if ffn.shared is not None and ffn.shared.hidden else ""
            where = f" in {moe} layer{'s' if moe > 1 else ''}" if moe != b.depth else ""
            words.append(f"{ffn.experts} experts of {ffn.hidden}{shared}{where}, top-{ffn.top_k}")
        else:
            words.append(f"FFN {ffn.hidden}")
    return ", ".join(words)


def _mixer_words(mixer: Mixer) -> str:
    if isinstance(mixer, Lstm):
        return "LSTM"
    if isinstance(mixer, LatentAttention):
        return f"{mixer.heads} heads on a latent of {mixer.kv_rank}"
    return f"{mixer.heads} heads" + (f" on {mixer.kv_heads}" if mixer.kv_heads != mixer.heads else "")
