"""What a stage of training moves of the model that it starts from: parts of it, some experts, or low-rank adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from moebench.amounts import Amount, FieldError, Name
from moebench.counting.trained import Lora, Part, Trained
from moebench.frozen import Frozen, later

if TYPE_CHECKING:
    from moebench.suite.model import DenseFFN, MoEFFN

Word = Literal["router", "experts", "attention", "ffn", "norms", "embedding"]
"""Of a part: ffn is every feed-forward network, those of experts too, and experts are those of a mixture alone."""
ALL = "all"
PARTS: dict[str, tuple[Part, ...]] = {
    "router": ("router",),
    "experts": ("experts",),
    "attention": ("attention",),
    "ffn": ("dense", "experts"),
    "norms": ("norms",),
    "embedding": ("embedding",),
}
"""Word -> the parts that parameters are told apart by."""


class At(Frozen):
    """Where of the other's training a model starts, when not at its end."""

    reach: Name | PositiveFloat | None = None
    """Where its loss on the tune split first is no more than that of a model of the suite at its end, or than a number
    of bits per byte: what starts there starts from an equal loss."""
    share: Amount | None = None
    """After so much of its steps."""

    @model_validator(mode="after")
    def _one(self) -> At:
        if (self.reach is None) == (self.share is None):
            raise ValueError("give one of reach and share, such as at: {reach: MODEL} or at: {share: 10%}")
        if self.share is not None and not (self.share.relative and 0 < self.share.value < 1):
            raise FieldError("share", "share is a part of the other's steps, such as 10%")
        return self


class SomeExperts(Frozen):
    """Some experts of every mixture, alone or in a list of parts: {experts: 25%, by: load}."""

    experts: Amount
    """Share of the experts of a mixture, or their number."""
    by: Literal["load", "chance"] = "load"
    """load: those that most of the stage's own first tokens go to (ESFT, Wang et al. 2024, arXiv:2407.01906);
    chance: drawn, the control of it."""

    @model_validator(mode="after")
    def _some(self) -> SomeExperts:
        value = self.experts.value
        if value <= 0 or (value >= 1 if self.experts.relative else value != int(value)):
            raise FieldError("experts", "experts is a share below 100%, or a whole number of them")
        return self

    def of(self, experts: int) -> int:
        """Their number of so many, at least 1."""
        return max(1, round(self.experts.value * experts)) if self.experts.relative else int(self.experts.value)


class LoraSpec(Frozen):
    """Low-rank adapters beside frozen matrices (Hu et al. 2021, arXiv:2106.09685), named and filled as peft's."""

    rank: Annotated[int, Field(ge=1, le=4096)]
    """Of each adapter; at most the smaller side of each matrix."""
    on: list[Literal["attention", "experts", "ffn"]] = Field(default=["attention", "ffn"], min_length=1)
    """Matrices that have one: of attention, of every expert, or of every feed-forward network, experts among them."""
    alpha: PositiveFloat | None = None
    """Their products are scaled by alpha / rank; as `rank` when absent, which scales by 1."""


def _listed(value: Any) -> Any:
    """One part as the list of it; `all` as none."""
    if value in (ALL, [ALL]):
        return None
    return [value] if isinstance(value, str | dict) else value


def _tag(value: Any) -> str:
    return "part" if isinstance(value, str) else "some"


OnePart = Annotated[Annotated[Word, Tag("part")] | Annotated[SomeExperts, Tag("some")], Discriminator(_tag)]
Trainable = Annotated[
    Annotated[list[OnePart], Field(min_length=1)] | None,
    BeforeValidator(_listed, json_schema_input_type=Literal["all"] | Word | SomeExperts | list[Word | SomeExperts]),
]


class Adaptation(Frozen):
    """What is trained of a model that starts from another; all of it when nothing is said."""

    trainable: Trainable = later()
    """Parts that are trained: all, router, experts, attention, ffn, norms, embedding, {experts: 25%, by: load}, or a
    list of them; with `lora` those that are trained beside the adapters. All else stays as it is, bit for bit."""
    lora: LoraSpec | None = later()
    """Adapters that are trained in place of the weights: {rank: 4, on: [attention, ffn]}."""

    def trained(self, ffn: DenseFFN | MoEFFN) -> Trained | None:
        """What that is of a model with such networks, in integers; None for all of it."""
        if self.trainable is None and self.lora is None:
            return None
        words = [one for one in self.trainable or () if isinstance(one, str)]
        some = next((one for one in self.trainable or () if isinstance(one, SomeExperts)), None)
        parts: set[Part] = {part for word in words for part in PARTS[word]}
        if some is not None:
            parts.add("experts")
        experts = getattr(ffn, "experts", None)
        return Trained(
            parts=tuple(sorted(parts)),
            experts=None if some is None or experts is None else some.of(experts),
            by=None if some is None or experts is None else some.by,
            lora=None if self.lora is None else self._adapters(self.lora),
        )

    @staticmethod
    def _adapters(lora: LoraSpec) -> Lora:
        on = {part for word in lora.on for part in PARTS[word]}
        return Lora(rank=lora.rank, on=tuple(sorted(on)), alpha=lora.alpha or float(lora.rank))

    def misfits(self, ffn: DenseFFN | MoEFFN) -> Iterator[tuple[str, str, str | None]]:
        """(field, what is wrong, what would do) with it for a model with such networks."""
        mixture, experts = ffn.kind == "moe", getattr(ffn, "experts", 0)
        listed = self.trainable or []
        some = [one for one in listed if isinstance(one, SomeExperts)]
        for word in ("router", "experts"):
            if not mixture and (word in listed or (word == "experts" and some)):
                yield "trainable", f"a dense model has no {word}", "`ffn` is its feed-forward networks"
        if not mixture and self.lora is not None and "experts" in self.lora.on:
            yield "lora.on", "a dense model has no experts", "`ffn` is its feed-forward networks"
        if len(some) > 1 or (some and {"experts", "ffn"} & set(listed)):
            yield "trainable", "which experts are trained is said twice", "leave one of them out"
        if mixture and some and not some[0].of(experts) < experts:
            yield "trainable", f"these are all of the {experts} experts", "write experts"
        repeated = {word for word in listed if isinstance(word, str) and listed.count(word) > 1}
        for word in sorted(map(str, repeated)):
            yield "trainable", f"{word} is named twice", "leave one of them out"
        if self.lora is not None:
            doubly = [word for word in self.lora.on if {*PARTS[word]} & {p for one in listed for p in _parts(one)}]
            if doubly:
                yield "lora.on", f"{doubly[0]} is trained, and has adapters too", "leave it out of `trainable`"


def _parts(one: Word | SomeExperts) -> tuple[Part, ...]:
    return ("experts",) if isinstance(one, SomeExperts) else PARTS[one]
