"""What of the suite's text a model is trained on: `data:` inside a model, beside its tokenizer.

A view changes training alone. The tune and test splits stay the suite's, so that losses are of the same text. These
are words; `data.selection` takes the documents and `data.batches` replaces tokens.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from moebench.amounts import Amount, FieldError
from moebench.frozen import Frozen, later

Domain = Annotated[str, Field(min_length=1, max_length=200)]


def _share(value: Any) -> Any:
    """`10%` as the number that it is; a sweep needs numbers."""
    if not isinstance(value, str):
        return value
    amount = Amount.model_validate(value)
    return amount.value


Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str)]


def _listed(value: Any) -> Any:
    """One domain as the list of it."""
    return [value] if isinstance(value, str) else value


Domains = Annotated[list[Domain], BeforeValidator(_listed, json_schema_input_type=Domain | list[Domain])]


class TrainingView(Frozen):
    """Which documents of the training split, in which shares, and how much of them is replaced."""

    limit: Annotated[float, Field(ge=1)] | None = later()
    """Bytes of different text, to within half a document of each domain: whole documents in the order of a hash, the
    domains in their shares; all when absent."""
    domains: Domains = later([])
    """The domains that are kept; all when absent."""
    holdout: Domains = later([])
    """Domains that are left out."""
    mix: dict[Domain, Annotated[Share, Field(ge=0, le=1)]] = later({})
    """Domain -> its share of the training split. What is left of the shares goes to the other domains by their size;
    where nothing is left they are left out. Documents of what is too much are left out, and none is repeated."""
    corrupt: Annotated[Share, Field(ge=0, lt=1)] = later(0.0)
    """Share of the training tokens replaced by tokens from random places of the same text, anew at each step."""

    @model_validator(mode="after")
    def _domains_once(self) -> Any:
        if self.domains and self.holdout:
            raise FieldError("holdout", "domains says what is kept and holdout what is left out: give one of the two")
        for name in self.mix:
            if name in self.holdout or (self.domains and name not in self.domains):
                raise FieldError("mix", f"{name} has a share in mix and is left out")
        whole = sum(self.mix.values())
        if self.mix and not 0 < whole <= 1 + 1e-9:
            raise FieldError("mix", f"the shares of mix add up to {whole:.4g}: they are parts of 1")
        return self

    @property
    def selection(self) -> TrainingView:
        """What of it chooses documents."""
        return self.as_view(corrupt=0.0)

    @property
    def selects(self) -> bool:
        """Whether it leaves out anything of the training split."""
        return bool(self.limit or self.domains or self.holdout or self.mix)

    @property
    def named(self) -> tuple[str, ...]:
        """The domains that it names."""
        return tuple(dict.fromkeys((*self.domains, *self.holdout, *self.mix)))

    def as_view(self, **changes: Any) -> TrainingView:
        """The view alone, without what a model's `data:` says besides."""
        own = {name: getattr(self, name) for name in TrainingView.model_fields}
        return TrainingView(**{**own, **changes})

    def __str__(self) -> str:
        words = [f"limit: {self.limit:g}"] if self.limit else []
        words += [f"{key}: [{', '.join(some)}]" for key in ("domains", "holdout") if (some := getattr(self, key))]
        shares = ", ".join(f"{name}: {share:.4g}" for name, share in self.mix.items())
        words += [f"mix: {{{shares}}}"] if shares else []
        words += [f"corrupt: {self.corrupt:g}"] if self.corrupt else []
        return f"{{{', '.join(words)}}}"


WHOLE = TrainingView()
"""All of the training split, as it is."""
