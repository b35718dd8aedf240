"""Speed: the only timer. One process of a speed session times every model of a suite, block by block, in rotation.

Absolute times on a shared machine drift by tens of percent, so the datum is a ratio within one process: all models are
loaded with trained weights, the baseline twice (raced against itself), and timed in turns (A B C, C B A, ...) so that a
drift touches all alike. Raw samples are kept; medians and intervals over processes belong to the report.

What is timed: a training step (forward, backward, optimizer) on one micro-batch; prefill of a prompt into an empty
cache (time to first token); one decoding step of a batch from the middle of the context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean, median

import safetensors.torch
import torch

from moebench.counting.flops import train_step_flops
from moebench.counting.memory import decode_bytes
from moebench.data.batches import train_batch
from moebench.data.corpus import Corpus
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, chance, start, training_loss
from moebench.metrics.declared import labelled
from moebench.models.decoder import KVCache, Transformer
from moebench.planning.types import SpeedPlan
from moebench.store import JobFolder

AGAIN = "~again"
"""Suffix of the baseline's second copy."""
MIN_BLOCKS, MAX_SAMPLES = 8, 2000
ROWS_AT_ONCE = 16
NANOSECOND = 9
"""Decimals of a second that the clock resolves; more would only fill the disk."""
Timed = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Racer:
    """One model in the race: its trained state and the run it came from."""

    name: str
    state: State
    run: Run
    routed: dict[str, list[float]] = field(default_factory=dict)
    """Timed metric -> what a mixture routed: pairs of each training step over all layers; experts of one layer that a
    decoding step reads, mean of layers and positions."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """What one process measured, ready for `speed/<id>/process-<i>.json`."""

    order: list[str]
    samples: dict[str, dict[str, list[float]]]
    """Model -> metric -> seconds."""
    steady: dict[str, dict[str, bool]]
    derived: dict[str, dict[str, float]]
    routed: dict[str, dict[str, float]]
    """Model -> timed metric -> mean of `Racer.routed`: what the derived figures rest on."""
    peak_flops: float
    """In the dtype of the first model."""
    peak_bandwidth: float


def load_racer(name: str, folder: JobFolder) -> Racer:
    """A racer with the trained weights of a completed run and a fresh optimizer."""
    run = Run.model_validate(folder.job_json()["run"])
    state = start(run)
    state.model.load_state_dict(safetensors.torch.load_file(folder.path / "model.safetensors"))
    return Racer(name=name, state=state, run=run)


def race(racers: list[Racer], plan: SpeedPlan, corpus: Corpus, *, process: int, seconds: float) -> Race:
    """Times all racers for about `seconds`, sharing the time equally between what is measured."""
    device = racers[0].run.device
    dtypes = dict.fromkeys(racer.state.model.dtype for racer in racers)
    peaks = {dtype: measure_peak_flops(device, dtype) for dtype in dtypes}
    peak_bandwidth = measure_peak_bandwidth(device)
    contests = list(_contests(racers, plan, corpus))
    samples: dict[str, dict[str, list[float]]] = {racer.name: {} for racer in racers}
    order: list[str] = []
    for metric, timed in contests:
        found, blocks = _rotate(timed, device=device, seconds=seconds / len(contests), shift=process)
        order = order or blocks
        for name, values in found.items():
            samples[name][metric] = values
    steady = {name: {metric: is_steady(v) for metric, v in found.items()} for name, found in samples.items()}
    derived = {r.name: _derived(r, samples[r.name], peaks[r.state.model.dtype], peak_bandwidth) for r in racers}
    return Race(
        order=order,
        samples=samples,
        steady=steady,
        derived=derived,
        routed={r.name: {metric: fmean(values) for metric, values in r.routed.items()} for r in racers},
        peak_flops=peaks[racers[0].state.model.dtype],
        peak_bandwidth=peak_bandwidth,
    )


def _contests(racers: list[Racer], plan: SpeedPlan, corpus: Corpus) -> Iterator[tuple[str, dict[str, Timed]]]:
    """(metric, model -> what to time), one contest after the other."""
    if plan.train_step:
        yield "speed.train_step_s", {r.name: _train_step(r, corpus) for r in racers}
    for tokens in plan.prefill:
        metric = labelled("speed.prefill_s", tokens=tokens)
        yield metric, {r.name: _prefill(r, corpus, tokens=tokens) for r in racers}
    for batch in plan.decode_batches:
        metric = labelled("speed.decode_step_s", batch=batch)
        yield metric, {r.name: _decode_step(r, corpus, batch=batch) for r in racers}


def _train_step(racer: Racer, corpus: Corpus) -> Timed:
    run, model, optimizer = racer.run, racer.state.model, racer.state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the weights stay as trained, so every block times the same routing
        group["weight_decay"] = 0.0
    batch = _text(racer, corpus, rows=run.recipe.micro_batch_tokens // run.architecture.context)

    generator = chance(run, step=0)
    pairs: list[float] = []
    if run.architecture.moe_layers:
        racer.routed["speed.train_step_s"] = pairs

    def step() -> None:
        _set_mode(model, training=True)
        output = model(batch[:, :-1], generator=generator)
        loss, _ = training_loss(run, output, batch[:, 1:])
        pairs.append(sum(routing.token_N.numel() for routing in output.routings))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _prefill(racer: Racer, corpus: Corpus, *, tokens: int) -> Timed:
    model, prompt = racer.state.model, _text(racer, corpus, rows=1)[:, :tokens]

    @torch.inference_mode()
    def prefill() -> None:
        _set_mode(model, training=False)
        model(prompt, cache=model.new_cache(1))

    return prefill


def _decode_step(racer: Racer, corpus: Corpus, *, batch: int) -> Timed:
    model, half = racer.state.model, racer.run.architecture.context // 2
    text = _text(racer, corpus, rows=batch)
    _set_mode(model, training=False)
    if racer.run.architecture.moe_layers:
        racer.routed[labelled("speed.decode_step_s", batch=batch)] = [_experts_read(model, text[:, :-1], start=half)]
    with torch.inference_mode():
        cache: KVCache = model.new_cache(batch)
        model(text[:, :half], cache=cache)

    @torch.inference_mode()
    def decode() -> None:
        _set_mode(model, training=False)
        # Each call decodes the next real token; at the context's end it goes back to the middle.
        if cache.length >= cache.capacity:
            cache.length = half
        model(text[:, cache.length : cache.length + 1], cache=cache)

    return decode


@torch.inference_mode()
def _experts_read(model: Transformer, tokens_BT: torch.Tensor, *, start: int) -> float:
    """Experts of one layer that a decoding step of this batch uses, mean of the layers and the positions from `start`.

    Read off the whole sequences, a few at a time: routers that can decode route a token alike whatever follows it.
    """
    length, experts = tokens_BT.shape[1], int(getattr(model.architecture.ffn, "experts", 0))
    used_LTE = torch.zeros(len(model.architecture.moe_layers), length, experts, dtype=torch.bool)
    for part_BT in torch.split(tokens_BT, ROWS_AT_ONCE):
        for layer, routing in enumerate(model(part_BT).routings):
            used_LTE[layer, (routing.token_N % length).cpu(), routing.expert_N.cpu()] = True
    return float(used_LTE[:, start:].sum(2).double().mean())


def _set_mode(model: Transformer, *, training: bool) -> None:
    """Only when it changes: walking all modules would be timed too."""
    if model.training != training:
        model.train(training)


def _text(racer: Racer, corpus: Corpus, *, rows: int) -> torch.Tensor:
    """`rows` windows of training text, [rows, context + 1], the same for every model."""
    context = racer.run.architecture.context
    batch = train_batch(corpus, seed=0, step=0, batch_tokens=rows * context)
    return torch.from_numpy(batch).to(racer.run.device)


def _rotate(
    timed: Mapping[str, Timed], *, device: str, seconds: float, shift: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Times every entry in blocks of alternating order until the time is up; returns samples and the blocks' order."""
    names = list(timed)
    names = names[shift % len(names) :] + names[: shift % len(names)]
    per_call = {name: _warm_up(timed[name], device) for name in names}
    share = seconds / len(names)
    calls = {name: max(1, min(50, round(share / MIN_BLOCKS / per_call[name]))) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    blocks: list[str] = []
    deadline = time.perf_counter() + seconds
    turn = 0
    while turn < 2 or (time.perf_counter() < deadline and len(samples[names[0]]) < MAX_SAMPLES):
        for name in names if turn % 2 == 0 else names[::-1]:
            blocks.append(name)
            samples[name].extend(round(time_call(timed[name], device), NANOSECOND) for _ in range(calls[name]))
        turn += 1
    return samples, blocks


def time_call(call: Timed, device: str) -> float:
    """Seconds of one call; on a GPU until its work is done."""
    _synchronise(device)
    began = time.perf_counter()
    call()
    _synchronise(device)
    return time.perf_counter() - began


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _warm_up(call: Timed, device: str) -> float:
    """Calls until the newer half of the samples is no faster than the older by 5%, at most 40; gives the median."""
    seen: list[float] = [time_call(call, device) for _ in range(4)]
    while len(seen) < 40 and median(seen[len(seen) // 2 :]) < 0.95 * median(seen[: len(seen) // 2]):
        seen.extend(time_call(call, device) for _ in range(2))
    return median(seen[len(seen) // 2 :])


def is_steady(samples: list[float]) -> bool:
    """Whether the two halves of the samples agree to 10% in their medians."""
    half = len(samples) // 2
    if half == 0:
        return False
    return abs(median(samples[half:]) / median(samples[:half]) - 1) <= 0.10


def measure_peak_flops(device: str, dtype: torch.dtype) -> float:
    """Best rate of a large matrix product in `dtype`, FLOPs per second, best of 8."""
    n = 4096 if device == "cuda" else 768
    a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
    best = min(time_call(lambda: torch.mm(a, b), device) for _ in range(8))
    return 2 * n**3 / best


def measure_peak_bandwidth(device: str) -> float:
    """Best rate of summing an array too large for any cache, bytes per second, best of 6."""
    array = torch.ones((2**30 if device == "cuda" else 2**26) // 4, dtype=torch.float32, device=device)
    best = min(time_call(array.sum, device) for _ in range(6))
    return array.numel() * 4 / best


def _derived(
    racer: Racer, samples: Mapping[str, list[float]], peak_flops: float, peak_bandwidth: float
) -> dict[str, float]:
    """Utilisations, from medians and the peaks measured in this same process."""
    a, recipe = racer.run.architecture, racer.run.recipe
    found: dict[str, float] = {}
    for metric, values in samples.items():
        if metric == "speed.train_step_s":
            sequences, pairs = recipe.micro_batch_tokens // a.context, racer.routed.get(metric)
            computed = None if pairs is None else round(fmean(pairs))
            flops = train_step_flops(a.blueprint, sequences=sequences, length=a.context, assignments=computed)
            found["speed.train_utilisation"] = flops / median(values) / peak_flops
        elif metric.startswith("speed.decode_step_s"):
            batch = int(metric.split("batch=")[1].rstrip("]"))
            # Weights are float32 in memory whatever the dtype of the products, in which the cache is.
            touched = fmean(racer.routed.get(metric, [1.0]))
            cached = a.context * 3 // 4
            read = decode_bytes(
                a.blueprint, "float32", batch=batch, cached=cached, cache_dtype=recipe.dtype, touched=touched
            )
            name = labelled("speed.decode_bandwidth_utilisation", batch=batch)
            found[name] = read / median(values) / peak_bandwidth
    return found
