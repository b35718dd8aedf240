"""What a training run says of itself as it goes, and the scale of its layers at initialisation.

A train job records these; nothing here can be measured once it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from moebench.metrics.metric import SHARE, Metric, Record

if TYPE_CHECKING:
    from moebench.models.architecture import Architecture


def _budget(_: Architecture) -> str:
    return "it is what the suite's budget says"


def _start(_: Architecture) -> str:
    return "it is where the suite has it start"


def _has_room(a: Architecture) -> str | None:
    """Why no assignment can go over capacity in training."""
    ffn = a.ffn
    if ffn.kind == "dense":
        return "0 by construction, as there is no router"
    if not a.drops(training=True):
        return f"0 by construction, as {ffn.router} has no capacity_factor here"
    most = Fraction(ffn.experts, ffn.top_k)
    ours = a.router is not None and a.router.code is None
    if ours and ffn.capacity_factor is not None and Fraction(str(ffn.capacity_factor)) >= most:
        return (
            f"0 by construction, as with capacity_factor {ffn.capacity_factor:g} every expert has room for every token"
        )
    return None


BITS_PER_TOKEN = Metric(
    name="train.bits_per_token",
    unit="bits/token",
    rests_on_loss=True,
    says="training cross-entropy over the last tenth of the steps",
    cannot="generalisation: the text may have been read before, and weights move while it is measured",
)
TOKENS = Metric(
    name="train.tokens",
    unit="tokens",
    better="neither",
    fixed=_budget,
    says="tokens trained on so far",
    cannot="anything measured: it is the suite's budget",
)
EPOCHS = Metric(
    name="train.epochs",
    unit="epochs",
    better="neither",
    fixed=_budget,
    says="how often the training split was read",
    cannot="anything measured: it is the suite's budget over its text",
)
MODEL_FLOPS = Metric(
    name="train.model_flops",
    unit="FLOPs",
    same_each_time=True,
    says="model FLOPs spent so far, tokens really routed",
    cannot="time, or what the kernels really did: train.executed_flops",
)
EXECUTED_FLOPS = Metric(
    name="train.executed_flops",
    unit="FLOPs",
    same_each_time=True,
    says="FLOPs spent so far as the kernels run them: model FLOPs, recomputation and padding",
    cannot="time; norms, activations and the optimizer are not counted",
)
DROPPED_SHARE = Metric(
    name="train.dropped_share",
    unit="1",
    within=SHARE,
    fixed=_has_room,
    says="share of assignments dropped over capacity in training so far",
    cannot="anything about evaluation, where no assignment is dropped; it depends on the micro-batch that "
    "a capacity is shared over",
)
UNIGRAM = Metric(
    name="control.unigram_bits_per_byte",
    unit="bits/byte",
    better="neither",
    unclaimable=("is of the text that is scored and of no model", None),
    says="what the scored text costs who knows only how often each token occurs in training: of shuffled runs",
    cannot="anything about a model: it is what none beats on text in random order",
)
FFN_OUTPUT_RMS = Metric(
    name="init.ffn_output_rms",
    unit="1",
    better="neither",
    labels=("layer",),
    says="root mean square of the FFN's output at initialisation",
    cannot="anything about trained models",
)

LOOK = Metric(
    name="train.tune_bits_per_byte",
    unit="bits/byte",
    rests_on_loss=True,
    unclaimable=("is what weights are chosen by", "a claim is about the test split: use test.bits_per_byte"),
    says="cross-entropy on the tune split at an evaluation point, of runs that keep the best (`keep: best_on_tune`)",
    cannot="anything about the test split: weights were chosen by it",
)
KEPT = Metric(
    name="train.kept_tokens",
    unit="tokens",
    better="neither",
    says="tokens trained on by the weights that a run with `keep: best_on_tune` leaves",
    cannot="where between two evaluation points the loss was lowest; the whole budget is spent in any case",
)

START_LOSS = Metric(
    name="start.bits_per_byte",
    unit="bits/byte",
    rests_on_loss=True,
    says="cross-entropy before the first step, on the text of the evaluation points, where another's weights are",
    cannot="what the stage made of it: with this, stages that start alike are told from those that do not",
)
START_SHARE = Metric(
    name="start.share",
    unit="1",
    better="neither",
    within=SHARE,
    fixed=_start,
    says="share of the other's steps that a model has behind it which is trained on from there",
    cannot="a loss: two models that start at one share start at two losses",
)

METRICS = (
    BITS_PER_TOKEN, TOKENS, EPOCHS, MODEL_FLOPS, EXECUTED_FLOPS, DROPPED_SHARE, UNIGRAM, FFN_OUTPUT_RMS, LOOK, KEPT,
    START_LOSS, START_SHARE,
)  # fmt: skip


def initial(rms: Sequence[float]) -> list[Record]:
    """The scale of each layer's FFN before the first step: dense and MoE must not differ by accident."""
    return [FFN_OUTPUT_RMS.record(value, layer=layer, step=0) for layer, value in enumerate(rms)]


def started(loss: float, *, share: float) -> list[Record]:
    """Where a model starts that is trained on from another."""
    return [START_LOSS.record(loss, step=0), START_SHARE.record(share, step=0)]


def spent(*, step: int, tokens: int, model_flops: int, executed_flops: int) -> Iterator[Record]:
    """What training has cost by an evaluation point."""
    yield TOKENS.record(tokens, step=step)
    yield MODEL_FLOPS.record(model_flops, step=step)
    yield EXECUTED_FLOPS.record(executed_flops, step=step)


def dropped_share(*, step: int, dropped: int, computed: int) -> Record:
    """Of the assignments so far."""
    return DROPPED_SHARE.record(dropped / (dropped + computed), step=step)


def ended(losses: Sequence[float], *, epochs: float | None, step: int) -> Iterator[Record]:
    """At the end: the mean of the last steps' losses, in bits, and how often the text was read."""
    yield BITS_PER_TOKEN.record(sum(losses) / len(losses), step=step)
    yield EPOCHS.record(epochs, step=step)
