"""Several sources as one, the training split mixed by weight: `mixture: [{source: stdlib, weight: 2}, ...]`.

All documents are divided into the splits together, so that copies across sources stay on one side; then training
documents are left out until the shares of the bytes are those of the weights (`mixing`). The source that is scarcest
for its weight is kept whole, and no document stands there twice. Names and domains begin with the source's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from moebench.data.documents import DataError, Gathered, Part, Stream, Text
from moebench.data.sources.hub import HubData
from moebench.data.sources.plugin import PluginData
from moebench.data.sources.python import PythonData
from moebench.data.sources.source import DataSource
from moebench.data.sources.stdlib import StdlibData
from moebench.data.sources.synthetic import SyntheticData
from moebench.data.sources.text import TextData


class Weighted(DataSource):
    """What a source has beside its own in a mixture."""

    weight: Annotated[float, Field(gt=0, le=1e6)]
    """Its share of the training bytes, beside those of the others."""


class WeightedStdlib(StdlibData, Weighted):
    """The standard library, in a mixture."""


class WeightedPython(PythonData, Weighted):
    """Installed packages, in a mixture."""


class WeightedText(TextData, Weighted):
    """The user's own files, in a mixture."""


class WeightedHub(HubData, Weighted):
    """A data set of the hub, in a mixture."""


class WeightedSynthetic(SyntheticData, Weighted):
    """Markov sources, in a mixture."""


class WeightedPlugin(PluginData, Weighted):
    """A source of an installed package, in a mixture."""


PARTS = (WeightedStdlib, WeightedPython, WeightedText, WeightedHub, WeightedSynthetic, WeightedPlugin)

if TYPE_CHECKING:
    PartSpec = Weighted
else:
    PartSpec = Annotated[Union[PARTS], Field(discriminator="source")]  # noqa: UP007


class MixtureData(DataSource):
    """Several sources as one, the training split mixed by weight."""

    says = "several sources as one, the training split mixed by weight; domains begin with the source's word"
    scope = "a mixture of sources"

    source: Literal["mixture"]
    """mixture: of other sources."""
    mixture: list[PartSpec] = Field(min_length=2, max_length=16)
    """The sources, each as it would be written alone, with its weight."""

    @model_validator(mode="after")
    def _one_window(self) -> MixtureData:
        for part in self.mixture:
            for key in ("context", "tokenizer"):
                if getattr(part, key) != DataSource.model_fields[key].default:  # a stored plan has the defaults
                    raise ValueError(f"{key} is of the whole mixture: write it beside `mixture`")
        return self

    @property
    def labels(self) -> list[str]:
        """What each source is called: its word, numbered where it stands more than once."""
        words = [part.source for part in self.mixture]
        return [
            word if words.count(word) == 1 else f"{word}-{words[: place + 1].count(word)}"
            for place, word in enumerate(words)
        ]

    def gather(self, base: Path) -> Gathered:
        """The texts of all sources, one source after the other. Raises DataError when one cannot be had."""
        found = {label: part.gather(base) for label, part in zip(self.labels, self.mixture, strict=True)}
        plugins = [one.plugin for one in found.values() if one.plugin is not None]
        if len({plugin.sha256 for plugin in plugins}) > 1:
            raise DataError("a mixture holds sources of one installed package: put them into one package")
        notes: list[str] = []

        def read() -> Iterator[Text]:
            for label, one in found.items():
                for text in one.texts:
                    name, group = f"{label}/{text.name}", f"{label}/{text.group}"
                    yield replace(text, name=name, group=group, domain=f"{label}.{text.domain}")
            notes[:] = [f"{label}: {note}" for label, one in found.items() for note in one.notes]

        return Gathered(
            texts=Stream(read),
            notes=notes,
            versions={name: version for one in found.values() for name, version in one.versions.items()},
            plugin=plugins[0] if plugins else None,
            independent=all(one.independent for one in found.values()),
            parts=tuple(
                Part(label=label, weight=part.weight, most_domains=one.most_domains, independent=one.independent)
                for (label, one), part in zip(found.items(), self.mixture, strict=True)
            ),
        )

    def domains(self) -> tuple[str, ...]:
        each = [part.domains() for part in self.mixture]
        if not all(each):
            return ()
        return tuple(f"{label}.{name}" for label, names in zip(self.labels, each, strict=True) for name in names)

    def fingerprint(self, base: Path) -> Any:
        """Those of all sources."""
        return [part.fingerprint(base) for part in self.mixture]
