"""Training in integers, and one run of it: everything that decides the bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import field_serializer

from moebench.counting.trained import Trained
from moebench.frozen import Frozen, later
from moebench.identity import digest_of, job_id
from moebench.models.architecture import Architecture, Kernels, deciding
from moebench.models.transforms import Stage
from moebench.suite.model import DenseFFN

TRAINING_VERSION = 2
"""Raised by hand when the same run would give other bits; the golden-loss test notices when it should have been."""


ONLY_EVALUATED = frozenset({"evaluate_at", "eval_tokens", "final_eval_tokens", "windows_per_document", "branches"})
"""Keys of a recipe that decide what is scored and nothing of the training."""


class Until(Frozen):
    """How far a run is taken again: to a step, or to where its loss on the tune split first is no more than a number,
    or than that of another run at its end."""

    steps: int | None = later()
    bits_per_byte: float | None = later()
    other: str | None = later()
    """Hash of how that other one was trained."""


class Derivation(Stage):
    """How a run comes of the run of another model with the same seed, which its job has for an input."""

    training: str
    """Hash of how that was trained, as plans tell it: `training_of` it."""
    at: Until | None = later()
    """The point of that run which it starts from; None for its end."""


def training_of(
    architecture: Mapping[str, Any],
    recipe: Mapping[str, Any],
    data_digest: str,
    start: str | None = None,
    derived: Mapping[str, Any] | None = None,
) -> str:
    """Hash of what decides a model's training but for the seed, from an architecture and a recipe as JSON; `derived`
    is its `Derivation`, as JSON too."""
    scored = ONLY_EVALUATED - ({"evaluate_at", "eval_tokens"} if "keep" in recipe else set())
    trained = {key: value for key, value in recipe.items() if key not in scored}
    begun = [one for one in (start, derived) if one is not None]
    return digest_of([deciding(architecture), trained, data_digest, *begun])


class Recipe(Frozen):
    """Training in integers: everything that decides the bits."""

    steps: int
    """0 for a model that is counted and timed at its initial values."""
    batch_tokens: int
    micro_batch_tokens: int
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: for the matrices of attention and feed-forward networks, with AdamW for all else."""
    lr: float
    router_lr: float = 1.0
    """Rate of the routers' parameters, as a multiple of `lr`."""
    betas: tuple[float, float]
    eps: float
    momentum: float | None = None
    """Of Muon; None with AdamW alone."""
    weight_decay: float
    clip: float | None
    warmup_steps: int
    decay: Literal["cosine", "linear", "none", "wsd"]
    cooldown: float | None = None
    """Share of the steps, at the end, over which `wsd` decays; None with other schedules."""
    branches: tuple[int, ...] = ()
    """Smaller budgets in steps, rising: what a run of each would reach is found by a branch of this one."""
    final_lr_share: float
    dtype: Literal["float32", "bfloat16"]
    """Of products and activations; of the weights too in a recipe of no steps, else they are float32."""
    evaluate_at: tuple[int, ...]
    """Steps after which quality is measured; the last is `steps`."""
    eval_tokens: int
    final_eval_tokens: int
    windows_per_document: int | None = None
    """Windows that an evaluation scores of one document at most; None for no limit."""
    keep: Literal["last", "best_on_tune"] = later("last")
    """Which weights a run leaves: the last, or those with the lowest loss on the tune split at `evaluate_at`."""
    split: Literal["test", "tune"]
    """Which split is evaluated: `tune` only in a learning-rate sweep."""
    shuffled: bool = later(False)
    """Whether the tokens of each split stand in a random order, trained on and scored: a control."""
    corrupt: float = later(0.0)
    """Share of the training tokens replaced by tokens from random places of the training split."""
    trained: Trained | None = later()
    """What of the model is trained; None for all of it."""
    permute_experts_every: int | None = later()
    """Steps after which the experts of each mixture change places behind their router, time and again: a control."""

    @classmethod
    def untrained(cls, *, dtype: Literal["float32", "bfloat16"], context: int) -> Recipe:
        """The recipe of a model that is never trained, and never evaluated."""
        return cls(
            steps=0,
            batch_tokens=context,
            micro_batch_tokens=context,
            lr=0.0,
            betas=(0.0, 0.0),
            eps=0.0,
            weight_decay=0.0,
            clip=None,
            warmup_steps=0,
            decay="none",
            final_lr_share=1.0,
            dtype=dtype,
            evaluate_at=(),
            eval_tokens=0,
            final_eval_tokens=0,
            windows_per_document=None,
            split="test",
        )

    @property
    def schedule(self) -> tuple[Any, ...]:
        """What two runs must share for the points of their curves to mean the same."""
        down = (self.decay, self.cooldown, self.final_lr_share)
        return (self.steps, self.batch_tokens, self.warmup_steps, *down, self.evaluate_at, self.branches)

    @property
    def looks(self) -> tuple[Any, ...]:
        """What two runs must share for neither to have had more to choose from."""
        return () if self.keep == "last" else (self.keep, len(self.evaluate_at), self.eval_tokens)

    @property
    def trains(self) -> bool:
        return self.steps > 0

    @property
    def micro_batches(self) -> int:
        """Of a batch, the last one perhaps smaller."""
        return -(-self.batch_tokens // self.micro_batch_tokens)

    def cooldown_steps(self, steps: int) -> int:
        """Over which the rate of a run of so many steps falls at its end; 0 with other schedules than `wsd`."""
        return 0 if self.cooldown is None else max(1, round(self.cooldown * steps))

    def leaves_at(self, branch: int) -> int:
        """Steps of the trunk after which the branch with this budget leaves it."""
        return branch - self.cooldown_steps(branch)

    def branch(self, steps: int) -> Recipe:
        """What trains a branch: the recipe of a separate run with its budget and as many steps of warm-up."""
        return self.model_copy(update={"steps": steps, "evaluate_at": (steps,), "branches": ()})

    def taken(self, step: int, branches: int) -> int:
        """Steps taken in all, those of the first so many branches among them."""
        return step + sum(map(self.cooldown_steps, self.branches[:branches]))

    @property
    def all_steps(self) -> int:
        """Steps of the run and of its branches together."""
        return self.taken(self.steps, len(self.branches))

    def epochs(self, *, stream: int, context: int) -> float | None:
        """How often a training split of `stream` tokens is read; None when it holds no window at every offset."""
        windows = (stream - context) // context
        return self.steps * (self.batch_tokens // context) / windows if windows > 0 else None


def not_of_batch(a: Architecture, recipe: Recipe) -> Iterator[str]:
    """Where gradients of micro-batches do not add up to those of their batch, in words."""
    if recipe.micro_batches < 2 or isinstance(a.ffn, DenseFFN):
        return
    if a.ffn.capacity_factor is not None:
        part = f"{recipe.micro_batch_tokens:,} of the batch's {recipe.batch_tokens:,} tokens"
        yield f"an expert has room for its share of a micro-batch, {part}, and drops other pairs than of the batch"
    if a.ffn.balance_over == "micro_batch" and a.ffn.balance_loss:
        yield "its balance loss is that of each micro-batch, as asked"
    if a.losses_of_batch and a.router is not None and a.router.code is not None:
        losses, known = " and ".join(a.losses_of_batch), "they are where it takes them by `balanced` or `over_batch`"
        yield f"whether {losses} of {a.ffn.router}, of an installed package, are of the batch is not known: {known}"


class Run(Frozen):
    """One model, one seed, one budget. Its id is a hash of what decides the bits; names are not among it."""

    architecture: Architecture
    recipe: Recipe
    seed: int
    data_digest: str
    device: Literal["cpu", "cuda"]
    backend: str
    """Expert compute, a word of `models.decoder.experts.BACKENDS`; 'none' for a dense model."""
    kernels: Kernels = "unfused"
    """How norms and attention are computed in training: `unfused`, of torch's functions, or `fused` into functions with
    a backward by hand."""
    losses_over: Literal["micro_batch", "batch"] = "micro_batch"
    """Tokens over which a router's losses of sums are taken. `batch`, in a run whose micro-batches would each give
    another loss: a pass without gradients goes first. Else `micro_batch`."""
    torch: str
    """Major and minor version of torch."""
    start: str | None = later()
    """Digest of the checkpoint whose weights it starts from; None where they are drawn."""
    derived: Derivation | None = later()
    """How it comes of another run; None where it does not."""
    training_version: int = TRAINING_VERSION

    @property
    def trains(self) -> bool:
        """Whether weights are trained, and not another run's changed."""
        return self.recipe.trains and (self.derived is None or self.derived.transform is None)

    @property
    def id(self) -> str:
        """Of the job that trains it, where that starts from no other."""
        return job_id("train", self.model_dump(mode="json"))

    @field_serializer("architecture")
    def _decides(self, architecture: Architecture) -> dict[str, Any]:
        return architecture.identity
