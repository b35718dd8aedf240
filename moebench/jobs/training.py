"""Training: a generator of step facts.

`train` knows a model, an optimizer and a corpus; it writes no files and evaluates nothing. Its whole state is in
`State`, which goes to bytes and back without loss, so a killed run goes on from a checkpoint and ends with the bits it
would have had. Nothing here reads a clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from moebench.counting.flops import train_step_flops
from moebench.counting.kernels import executed_step_flops, tally_flops
from moebench.counting.trained import Routed, step_flops
from moebench.data.batches import roll, train_batch
from moebench.data.corpus import Corpus
from moebench.jobs.optimizers import make_optimizer, set_rate
from moebench.jobs.recipe import Recipe, Run
from moebench.models.decoder import Output, Transformer, build
from moebench.models.decoder.subject import experts_one_by_one
from moebench.models.decoder.trained import Chosen, adapt, chosen_of
from moebench.models.decoder.transformer import cross_entropy_bits
from moebench.models.routers.losses import Tally
from moebench.models.subject import Pass
from moebench.seeds import derive

EXPLODED = 3.0
"""A loss beyond this many times the uniform model's is called diverged."""


COUNTERS = ("step", "model_flops", "executed_flops", "pairs_computed", "pairs_dropped", "branches", "branch_flops")
"""Of a state, whole numbers that travel with it."""


class Diverged(Exception):  # noqa: N818  an outcome of training, no error
    """The loss or the gradient stopped being a number, or the loss exploded."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Facts of one optimizer step."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Training cross-entropy in bits per token, auxiliary losses left out."""
    grad_norm: float
    """Before clipping."""
    digest: str
    """Rolling digest of all tokens consumed so far, 16 hex digits."""


@dataclass(kw_only=True)
class State:
    """Everything that training carries from one step to the next."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    step: int = 0
    digest: bytes = b""
    model_flops: int = 0
    """Spent so far, counting the pairs really routed."""
    executed_flops: int = 0
    pairs_computed: int = 0
    """(token, expert) pairs computed in training so far."""
    pairs_dropped: int = 0
    """Assignments dropped (over capacity) in training so far."""
    branches: int = 0
    """Decay branches that are done."""
    branch_flops: int = 0
    """Executed in branches so far."""

    def to_bytes(self) -> bytes:
        """The state as safetensors; the counters travel in its metadata."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = value
        counters = {"digest": self.digest.hex(), **{name: getattr(self, name) for name in COUNTERS}}
        return safetensors.torch.save(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            metadata={"state": json.dumps(counters)},
        )

    def load_bytes(self, data: bytes) -> None:
        """Restores what `to_bytes` wrote. Raises KeyError or ValueError when it is another model's state."""
        tensors = safetensors.torch.load(data)
        self.model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
        device = self.model.embedding.device
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            prefix = f"optimizer.{name}."
            found = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            self.optimizer.state[parameter] = {key: value.to(device) for key, value in found.items()}
        counters = _metadata(data)
        self.digest = bytes.fromhex(counters["digest"])
        for name in COUNTERS:
            setattr(self, name, counters[name])


def _metadata(data: bytes) -> dict[str, Any]:
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    counters: dict[str, Any] = json.loads(header["__metadata__"]["state"])
    return counters


def start(run: Run, *, is_loaded: bool = False, chosen: Chosen | None = None) -> State:
    """A model with its initial weights and a fresh optimizer; without them where weights are loaded into it next.

    Raises what `model_of` raises.
    """
    return begin(model_of(run, is_loaded=is_loaded), run, chosen=chosen)


def begin(model: Transformer, run: Run, *, chosen: Chosen | None = None) -> State:
    """A model that is all there, with what of it is trained and a fresh optimizer; `chosen` as in `adapt`."""
    if run.recipe.trained is not None:
        adapt(model, run.recipe.trained, seed=run.seed, chosen=chosen)
    return State(model=model, optimizer=make_optimizer(model, run.recipe))


def model_of(run: Run, *, is_loaded: bool = False) -> Transformer:
    """A model with its initial weights; without them where weights are loaded into it next.

    Raises PluginError when the code of an installed package's router is not what was planned.
    """
    return build(
        run.architecture,
        seed=None if is_loaded else run.seed,
        dtype=run.recipe.dtype,
        device=run.device,
        backend=None if run.backend == "none" else run.backend,
        kernels=run.kernels,
    )


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of step `step`, counted from 0: linear warm-up, then decay to `final_lr_share` of the peak.

    Of `wsd` (Hu et al. 2024, arXiv:2404.06395; Hagele et al. 2024, arXiv:2405.18392) it falls in a line over the
    cooldown alone, its first step included.
    """
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    if recipe.decay == "none":
        return recipe.lr
    if recipe.decay == "wsd":
        fallen = max(0, step + 1 - recipe.leaves_at(recipe.steps)) / recipe.cooldown_steps(recipe.steps)
        return recipe.lr * (1 - (1 - recipe.final_lr_share) * fallen)
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - 1 - recipe.warmup_steps)
    left = 0.5 * (1 + math.cos(math.pi * done)) if recipe.decay == "cosine" else 1 - done
    return recipe.lr * (recipe.final_lr_share + (1 - recipe.final_lr_share) * left)


def training_loss(run: Run, output: Output, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """(loss to minimise in nats, cross-entropy in bits per token). Only the first holds auxiliary losses."""
    bits = cross_entropy_bits(output.logits_BTV, targets_BT).mean()
    loss = bits * math.log(2)
    a = run.architecture
    for name in a.router.losses if a.router is not None else ():
        # Each the mean over the layers that have it, times the mixture's coefficient of the same name.
        losses = [routing.losses[name] for routing in output.routings if name in routing.losses]
        if losses:
            loss = loss + getattr(a.ffn, name) * torch.stack(losses).mean()
    return loss, bits


def chance(run: Run, *, step: int, part: int = 0) -> torch.Generator | None:
    """What the routers of a run draw from in one micro-batch of one step, so that a resumed run draws the same."""
    if not run.architecture.moe_layers:
        return None
    generator = torch.Generator(device=run.device)
    return generator.manual_seed(derive(run.seed, f"route.{step}.{part}"))


def train(state: State, run: Run, corpus: Corpus) -> Iterator[Step]:
    """Takes the steps that are left, yielding the facts of each after the weights have moved.

    Raises Diverged, with the step and what was seen, before a step that would use a bad gradient.
    """
    recipe = run.recipe
    state.model.train()
    while state.step < recipe.steps:
        batch = batch_of(run, corpus, state.step)
        set_rate(state.optimizer, learning_rate(recipe, state.step))
        loss, passes, tallied = _accumulate(state, run, torch.from_numpy(batch).to(run.device))
        limit = math.inf if recipe.clip is None else recipe.clip
        grad_norm = float(torch.nn.utils.clip_grad_norm_(state.model.parameters(), limit))
        _check(loss, grad_norm, step=state.step + 1, vocab=run.architecture.vocab)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.model.after_step()
        state.step += 1
        if recipe.permute_experts_every is not None and state.step % recipe.permute_experts_every == 0:
            state.model.permute_experts(derive(run.seed, f"permute.{state.step}"))
        state.digest = roll(state.digest, batch)
        _count(state, run, sequences=batch.shape[0], passes=passes, tallied=tallied)
        yield Step(step=state.step, loss=loss, grad_norm=grad_norm, digest=state.digest.hex()[:16])


def batch_of(run: Run, corpus: Corpus, step: int) -> NDArray[Any]:
    """The text of one step of a run, [B, context + 1]."""
    recipe = run.recipe
    return train_batch(
        corpus,
        seed=run.seed,
        step=step,
        batch_tokens=recipe.batch_tokens,
        shuffled=recipe.shuffled,
        corrupt=recipe.corrupt,
    )


@contextmanager
def branched(state: State) -> Iterator[State]:
    """The state, to be trained on in another way: afterwards it is what it was, to the bit."""
    kept = state.to_bytes()
    try:
        yield state
    finally:
        state.load_bytes(kept)


def _accumulate(state: State, run: Run, batch_BX: Tensor) -> tuple[float, list[Pass], int]:
    """Gradients of one batch, micro-batch by micro-batch; returns the loss in bits per token, every pass, and the
    assignments of the pass before them."""
    step = TrainingStep(state, run)
    parts = torch.split(batch_BX, step.sequences)

    def drawn() -> Iterator[tuple[Tensor, torch.Generator | None]]:
        return ((part_BX, chance(run, step=state.step, part=index)) for index, part_BX in enumerate(parts))

    tallied = step.tally(drawn())
    total_bits, passes = 0.0, list[Pass]()
    for part_BX, draws in drawn():
        share = part_BX.shape[0] / batch_BX.shape[0]
        passes.append(step.backward(part_BX, draws, share=share))
        total_bits += float(passes[-1].bits) * share
    return total_bits, passes, tallied


class TrainingStep:
    """A state in training as a `Trainable`: the one path of training, timing and counting through the model."""

    def __init__(self, state: State, run: Run) -> None:
        self.run, self.weights, self.optimizer = run, state.model, state.optimizer
        self.sequences = run.recipe.micro_batch_tokens // run.architecture.context

    @property
    def device(self) -> torch.device:
        return self.weights.embedding.device

    def draws(self) -> torch.Generator | None:
        return chance(self.run, step=0)

    @torch.no_grad()
    def tally(self, parts: Iterable[tuple[Tensor, torch.Generator | None]]) -> int:
        if self.run.losses_over == "micro_batch":
            return 0
        self.weights.train()
        for router in self.weights.routers:
            router.tally = Tally()
        routed = (self.weights.route(batch_BX[:, :-1], generator=draws)[:-1] for batch_BX, draws in parts)
        return sum(routing.token_N.numel() for routings in routed for routing in routings)

    def backward(self, batch_BX: Tensor, draws: torch.Generator | None, *, share: float = 1.0) -> Pass:
        if not self.weights.training:
            self.weights.train()
        for router in self.weights.routers if self.run.losses_over == "batch" else ():
            if router.tally is not None:
                router.tally.share = share
        output = self.weights(batch_BX[:, :-1], generator=draws)
        loss, bits = training_loss(self.run, output, batch_BX[:, 1:])
        computed = sum(routing.token_N.numel() for routing in output.routings)
        dropped = sum(routing.dropped for routing in output.routings)
        routed = () if self.run.recipe.trained is None else tuple(self._routed(output))
        del output  # so that the backward holds what its graph does, and no more
        (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]
        return Pass(loss=loss.detach(), bits=bits.detach(), computed=computed, dropped=dropped, routed=routed)

    def _routed(self, output: Output) -> Iterator[Routed]:
        """Pairs of each mixture, and of those the ones whose expert is trained."""
        trained, a = self.run.recipe.trained, self.run.architecture
        assert trained is not None
        for layer, routing in zip(a.moe_layers, output.routings, strict=True):
            apart, computed = chosen_of(self.weights, layer), routing.expert_N.numel()
            if apart is None:
                yield Routed(computed, computed if trained.has("experts") else 0)
            else:
                yield Routed(computed, int(torch.isin(routing.expert_N, torch.tensor(apart)).sum()))

    def flops(self, passes: Sequence[Pass], *, sequences: int) -> tuple[int, int]:
        a, trained, computed = self.run.architecture, self.run.recipe.trained, sum(done.computed for done in passes)
        if trained is not None:
            by_mixture = zip(*(done.routed for done in passes), strict=True)
            routed = [Routed(*map(sum, zip(*of_one, strict=True))) for of_one in by_mixture]
            step = step_flops(a.blueprint, a.in_order, trained, sequences=sequences, length=a.context, routed=routed)
            return step.model, step.executed
        sizes = {"sequences": sequences, "length": a.context, "assignments": computed}
        fused = self.run.kernels == "fused"
        return train_step_flops(a.blueprint, **sizes), executed_step_flops(a.blueprint, **sizes, fused=fused)

    def countable(self) -> AbstractContextManager[None]:
        return experts_one_by_one(self.weights)


def _check(loss: float, grad_norm: float, *, step: int, vocab: int) -> None:
    if not math.isfinite(loss) or not math.isfinite(grad_norm):
        raise Diverged(f"step {step}: loss {loss} bits/token, gradient norm {grad_norm}")
    if loss > EXPLODED * math.log2(vocab):
        raise Diverged(f"step {step}: loss {loss:.1f} bits/token, over {EXPLODED:g} times a uniform guess")


def _count(state: State, run: Run, *, sequences: int, passes: list[Pass], tallied: int) -> None:
    a = run.architecture
    state.pairs_computed += sum(done.computed for done in passes)
    state.pairs_dropped += sum(done.dropped for done in passes)
    model, executed = TrainingStep(state, run).flops(passes, sequences=sequences)
    state.model_flops += model
    state.executed_flops += executed
    if run.losses_over == "batch" and a.router is not None:
        before, router = a.up_to_last_router, a.router.counts
        state.executed_flops += tally_flops(before, router, sequences=sequences, length=a.context, assignments=tallied)
