"""A training recipe as a suite says it: budget, batch, optimizer, schedule, evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from moebench.amounts import Amount, FieldError
from moebench.frozen import Frozen, later


class Budget(Frozen):
    """How long to train, in exactly one currency. The plan turns it into a whole number of steps."""

    tokens: PositiveFloat | None = None
    """Training tokens."""
    flops: PositiveFloat | None = None
    """Model FLOPs, forward and backward."""
    steps: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Optimizer steps."""
    seconds: PositiveFloat | None = None
    """Turned into steps by a stored calibration of this machine."""

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name in ("tokens", "flops", "steps", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            many = "such as {tokens: 1.0e6}" if not given else f"not both {' and '.join(given)}"
            raise ValueError(f"give exactly one of tokens, flops, steps or seconds, {many}")
        return self


MUON_MOMENTUM = 0.95


class Optimizer(Frozen):
    """AdamW with decoupled decay; or Muon for matrices, with AdamW for the rest. Norms and biases are not decayed."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: the matrices of attention and of each expert by Muon, embeddings, head, routers, norms, biases by AdamW."""
    lr: PositiveFloat = 3.0e-3
    """Peak learning rate; Muon's updates are scaled so that AdamW's rates and decay suit them."""
    router_lr: PositiveFloat = later(1.0)
    """Rate of the routers' parameters, as a multiple of `lr`."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay rates of the first and second moment."""
    eps: PositiveFloat = 1.0e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, times the learning rate at each step."""
    momentum: float | None = later(ge=0, lt=1)
    """Of Muon; 0.95 when absent."""

    @model_validator(mode="after")
    def _momentum_of_muon(self) -> Optimizer:
        if self.momentum is not None and self.name != "muon":
            raise FieldError("momentum", "momentum is Muon's: AdamW has its first beta, or write `name: muon`")
        return self


COOLDOWN = 0.2


class Schedule(Frozen):
    """Learning rate over the run: linear warm-up, then a decay to `final` of the peak."""

    warmup: Amount = Amount(value=0.05, relative=True)
    """A share of the steps (`5%`) or a number of steps."""
    decay: Literal["cosine", "linear", "none", "wsd"] = "cosine"
    """Shape of the way down after the warm-up; none stays at the peak, and wsd (warm-up, stable, decay) until it falls
    in a line over the last part of the steps."""
    final: Amount = Amount(value=0.1, relative=True)
    """Learning rate at the last step, as a share of the peak."""
    cooldown: Amount | None = later()
    """Part of the steps over which wsd decays, 20% when absent."""
    branches: Annotated[tuple[Amount, ...], Field(max_length=32)] = later(())
    """Smaller budgets, as shares of this one, rising: with wsd the final, decayed loss of a run of each is found by a
    branch of this run, which costs its cooldown alone."""

    @model_validator(mode="after")
    def _shares(self) -> Schedule:
        if self.warmup.value < 0 or (self.warmup.relative and self.warmup.value >= 1):
            raise FieldError("warmup", "warmup must be a share of the steps below 100%, or a number of steps")
        if not self.final.relative or not 0 <= self.final.value <= 1:
            raise FieldError("final", "final is a share of the peak, from 0% to 100%")
        return self

    @model_validator(mode="after")
    def _stable(self) -> Schedule:
        if self.decay != "wsd":
            for name in ("cooldown", "branches"):
                if getattr(self, name):
                    raise FieldError(name, f"{name} is of the schedule wsd: write `decay: wsd`")
            return self
        if self.cooldown is not None and not (self.cooldown.relative and 0 < self.cooldown.value < 1):
            raise FieldError("cooldown", "cooldown is a share of the steps between 0% and 100%")
        shares = [one.value for one in self.branches]
        if not all(one.relative and 0 < one.value < 1 for one in self.branches) or shares != sorted(set(shares)):
            raise FieldError("branches", "branches are rising shares of the budget between 0% and 100%")
        if shares and self.warmup.relative and self.warmup.value > shares[0] * (1 - self.cooldown_share):
            left = f"the branch of {self.branches[0]} leaves at {shares[0] * (1 - self.cooldown_share):.0%}"
            raise FieldError("branches", f"{left}, within the warm-up of {self.warmup}: drop it, or warm up less")
        return self

    @property
    def cooldown_share(self) -> float:
        """Of the steps of a run with wsd."""
        return COOLDOWN if self.cooldown is None else self.cooldown.value


class Evaluation(Frozen):
    """When quality is measured, and on how much text."""

    points: Annotated[int, Field(ge=1, le=1000)] = 8
    """Evaluations over the run, evenly spaced, the last after the last step."""
    tokens: Annotated[int, Field(ge=256)] = 32768
    """Tokens of the split read at each point."""
    final_tokens: Annotated[int, Field(ge=256)] = 131072
    """Tokens of the split read after the last step; the first `tokens` of them are those of the points."""
    windows_per_document: int | None = later(ge=1, le=10**6)
    """Windows of one document read at most; no limit when absent: every document gives its first window before any
    gives its second, and so on until `tokens` are read."""
    keep: Literal["last", "best_on_tune"] = later("last")
    """Which weights are measured in the end: those after the last step, or those of the evaluation point at which
    `tokens` of the tune split cost least (early stopping; the whole budget is spent)."""


class TrainSpec(Frozen):
    """A training recipe. A model may override any key."""

    budget: Budget
    """How long to train."""
    batch_tokens: Annotated[int, Field(ge=1, le=2**31)] = 4096
    """Tokens in one optimizer step."""
    micro_batch_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Tokens in one forward and backward; the whole batch when absent."""
    optimizer: Optimizer = Optimizer()
    """AdamW or Muon, and its settings."""
    schedule: Schedule = Schedule()
    """Learning rate over the run."""
    clip: PositiveFloat | None = 1.0
    """Largest gradient norm; null for no clipping."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products and activations; weights and optimizer state stay float32."""
    evaluate: Evaluation = Evaluation()
    """When quality is measured, and on how much text."""
    checkpoint_seconds: PositiveFloat = 30.0
    """A checkpoint is written at the first step after this long, and at every evaluation point. Decides no bits."""

    @model_validator(mode="after")
    def _one_end(self) -> TrainSpec:
        if self.schedule.branches and self.evaluate.keep != "last":
            raise FieldError("schedule", "branches are of the last weights, and `evaluate: {keep: ...}` is of the best")
        return self
