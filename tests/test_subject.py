"""Measuring code sees the protocol and nothing else: a subject by hand, whose tokens are words of several bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moebench.data.corpus import Document
from moebench.metrics import MEASUREMENTS, METRICS
from moebench.metrics.measurement import NotFinite
from moebench.metrics.quality import evaluate
from moebench.metrics.speed import Racer, race
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import generate
from moebench.models.subject import Cache, LayerRouting, Pass, Scores, Subject
from moebench.planning.types import SpeedPlan
from tests.support.small_models import architecture, built, dense, moe, odd, tokens

pytestmark = pytest.mark.numeric

WORDS = (b"", b"a", b"the ", b"mixture")
"""Id -> text; 0 stands between documents."""
PROBABILITY = (1 / 8, 1 / 2, 1 / 4, 1 / 8)


class Words:
    """A tokenizer whose tokens stand for 0, 1, 4 and 7 bytes."""

    start = end = 0
    adds_start = False
    token_bytes = np.array([len(word) for word in WORDS])

    def encode(self, text: bytes) -> list[int]:
        ids = []
        while text:
            ids.append(next(i for i, word in enumerate(WORDS) if word and text.startswith(word)))
            text = text[len(WORDS[ids[-1]]) :]
        return ids

    def decode(self, ids: Sequence[int]) -> bytes:
        return b"".join(WORDS[i] for i in ids)


@dataclass
class Counted:
    """A cache that only knows how much it holds."""

    length: int = 0
    tensors: Sequence[Tensor] = ()

    def cut(self, length: int) -> None:
        self.length = length

    def share(self, other: Any, row_B: Tensor | None = None) -> None:
        self.length = other.length


class Unigram:
    """Gives every token the same probability wherever it stands; sends even positions to expert 0 and odd ones to 1."""

    tokenizer, context, mixtures, experts = Words(), 4, (3,), 2
    device, dtype, counts = torch.device("cpu"), torch.float32, architecture(dense()).blueprint

    def __init__(self, probability: tuple[float, ...] = PROBABILITY) -> None:
        self.weights = nn.Linear(4, 4, bias=False)
        self.logp_V = torch.tensor(probability).log()

    def score(
        self, tokens_BT: Tensor, targets_BT: Tensor, *, greedy: bool = False, cache: Cache | None = None
    ) -> Scores:
        first = targets_BT == int(self.logp_V.argmax())
        routings = self.routings(tokens_BT)
        return Scores(logprob_BT=self.logp_V[targets_BT], greedy_BT=first if greedy else None, routings=routings)

    def routings(self, tokens_BT: Tensor) -> tuple[LayerRouting, ...]:
        row_N = torch.arange(tokens_BT.numel())
        return (LayerRouting(layer=3, token_N=row_N, expert_N=row_N % 2, dropped=0),)

    def new_cache(self, batch: int, room: int | None = None) -> Cache:
        return Counted()

    def extend(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        assert isinstance(cache, Counted)
        cache.length += tokens_BT.shape[1]
        return self.logp_V.expand(tokens_BT.shape[0], -1)


class Step:
    """A training step on that subject's weights, which are 4 x 4."""

    device, sequences = torch.device("cpu"), 2

    def __init__(self, weights: nn.Module) -> None:
        self.weights = weights
        self.optimizer = torch.optim.AdamW(weights.parameters())

    def draws(self) -> None:
        return None

    def tally(self, parts: object) -> int:
        return 0

    def backward(self, batch_BX: Tensor, draws: torch.Generator | None, *, share: float = 1.0) -> Pass:
        loss = self.weights(torch.ones(batch_BX.shape[0], 4)).square().mean() * share
        loss.backward()
        return Pass(loss=loss.detach(), bits=loss.detach(), computed=batch_BX[:, 1:].numel(), dropped=0)

    def flops(self, passes: Sequence[Pass], *, sequences: int) -> tuple[int, int]:
        model = 6 * self.weights.weight.numel() * sequences * len(passes)
        return model, 2 * model

    def countable(self) -> AbstractContextManager[None]:
        return nullcontext()


TEXT = SimpleNamespace(
    inputs=np.array([[0, 1, 2, 3], [0, 3, 0, 0], [2, 1, 0, 0]]),
    targets=np.array([[1, 2, 3, 1], [3, 2, 0, 0], [1, 3, 0, 0]]),
    mask=np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool),
    document=np.array([0, 1, 0]),
    text_bytes=None,
    asked=None,
)
DOCUMENTS = [
    Document(name="one", domain="code", start=1, stop=2),
    Document(name="two", domain="prose", start=3, stop=4),
]


def measured(name: str, subject: Subject) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    context: Any = SimpleNamespace(subject=subject, split="test", text=TEXT, documents=DOCUMENTS, step=7)
    made = MEASUREMENTS[name].measure(context)
    assert {record.step for record in made.records} == {7}
    return {record.metric: record.value for record in made.records}, made.items or []


def test_bits_per_byte_are_bits_of_scored_tokens_over_the_bytes_they_stand_for() -> None:
    """By hand: ids 1, 2, 3 cost 1, 2, 3 bits and stand for 1, 4, 7 bytes."""
    values, items = measured("quality", Unigram())
    # Scored: [1 2 3 1], [3 2], [1]: 7 + 5 + 1 bits over 13 + 11 + 1 bytes.
    assert values["test.bits_per_byte"] == pytest.approx(13 / 25, rel=1e-6)
    assert values["test.bits_per_byte[domain=code]"] == pytest.approx(8 / 14, rel=1e-6)
    assert values["test.bits_per_byte[domain=prose]"] == pytest.approx(5 / 11, rel=1e-6)
    assert (values["test.scored_bytes"], values["test.scored_documents"]) == (25, 2)
    assert values["test.scored_bytes[domain=code]"] == 14
    assert items == [
        {"document": "one", "domain": "code", "bytes": 14, "bits": pytest.approx(8, rel=1e-6)},
        {"document": "two", "domain": "prose", "bytes": 11, "bits": pytest.approx(5, rel=1e-6)},
    ]


def test_experts_of_each_domain_are_those_of_its_scored_tokens() -> None:
    """Of windows of 4 positions, experts alternate; layer 3 is the one mixture."""
    values, _ = measured("quality", Unigram())
    tokens_of = {
        (domain, expert): values[f"routing.domain_tokens[layer=3,expert={expert},domain={domain}]"]
        for domain in ("code", "prose")
        for expert in (0, 1)
    }
    assert tokens_of == {("code", 0): 3, ("code", 1): 2, ("prose", 0): 1, ("prose", 1): 1}


def test_accuracy_is_the_share_of_scored_tokens_that_are_the_first_choice() -> None:
    """Id 1 is the likeliest: right in 3 of 7 scored tokens, 3 of 5 of code, none of prose."""
    values, items = measured("accuracy", Unigram())
    assert values == {
        "test.accuracy": 3 / 7,
        "test.accuracy[domain=code]": 3 / 5,
        "test.accuracy[domain=prose]": 0,
    }
    assert items == [
        {"document": "one", "domain": "code", "tokens": 5, "greedy": 3},
        {"document": "two", "domain": "prose", "tokens": 2, "greedy": 0},
    ]


def test_a_uniform_model_of_any_vocabulary_pays_its_size_in_bits_a_token() -> None:
    values, _ = measured("quality", Unigram((1 / 4,) * 4))
    assert values["test.bits_per_byte"] == pytest.approx(7 * math.log2(4) / 25, rel=1e-6)


def test_a_cross_entropy_that_is_not_finite_is_no_quality() -> None:
    with pytest.raises(NotFinite, match="cross-entropy"):
        evaluate(Unigram((0.5, 0.0, 0.25, 0.25)), TEXT)  # type: ignore[arg-type]


def test_text_is_written_with_the_subjects_own_tokens() -> None:
    """The likeliest is always `a`; the context of 4 tokens is passed on the way."""
    assert generate(Unigram(), b"the mixture", tokens=6, temperature=0, seed=0) == b"the mixture" + b"a" * 6


def test_metrics_that_are_measured_together_are_declared_together() -> None:
    for name, measurement in MEASUREMENTS.items():
        assert measurement.name == name
        assert all(METRICS[metric.name] is metric for metric in measurement.metrics)


def test_speed_times_any_subject() -> None:
    """Experts of a decoding step and assignments of a training step are those that the subject tells."""
    subject = Unigram()
    racer = Racer(name="words", subject=subject, trainable=Step(subject.weights))
    asked: dict[str, Any] = {"prefill": (2,), "decode_batches": (1,), "train_step": True, "seconds": 0.01}
    plan = SpeedPlan(id="s", models=("words",), baseline="words", processes=(0,), **asked)
    before = subject.weights.weight.clone()
    race_of = race([racer], plan, lambda rows: np.ones((rows, 5), dtype=np.int64), process=0, seconds=0.01)
    timed = ["speed.train_step_s", "speed.prefill_s[tokens=2]", "speed.decode_step_s[batch=1]"]
    assert list(race_of.samples["words"]) == timed
    assert race_of.routed == {"words": {"speed.train_step_s": 8.0, "speed.decode_step_s[batch=1]": 1.0}}
    used = 6 * 16 * 2 / np.median(race_of.samples["words"]["speed.train_step_s"]) / race_of.peak_flops
    assert race_of.derived["words"]["speed.train_utilisation"] == pytest.approx(used)
    assert torch.equal(subject.weights.weight, before)


def test_memory_and_flops_are_measured_on_any_subject() -> None:
    """16 weights of 4 bytes, two moments each and a count of steps; 2 rows times 16 weights, there and back to them."""
    subject = Unigram()
    context: Any = SimpleNamespace(
        subject=subject, trainable=Step(subject.weights), batch=np.ones((2, 5), dtype=np.int64), step=7
    )
    values = {r.metric: r.value for name in ("flops", "memory") for r in MEASUREMENTS[name].measure(context).records}
    assert values["train.counted_flops"] == 2 * 2 * 16 * 2
    assert values["memory.train_peak_bytes[part=weights]"] == 64
    assert values["memory.train_peak_bytes[part=optimizer]"] == 2 * 64 + 4
    assert values["memory.inference_peak_bytes[part=kv_cache]"] == 0


# ------------------------------------------------------------------------------------------------ the decoder


@pytest.mark.parametrize("a", [architecture(dense()), architecture(moe())], ids=["dense", "moe"])
def test_scores_of_the_decoder_are_those_of_its_logits(a: Any) -> None:
    model, ids, targets = built(a).eval(), tokens(3, 16), tokens(3, 16, seed=1)
    scores = DecoderSubject(model).score(ids, targets, greedy=True)
    with torch.inference_mode():
        logp_BTV = model(ids).logits_BTV.log_softmax(-1)
    torch.testing.assert_close(scores.logprob_BT, logp_BTV.gather(2, targets[:, :, None])[:, :, 0])
    assert scores.greedy_BT is not None
    assert torch.equal(scores.greedy_BT, logp_BTV.argmax(-1) == targets)
    assert [routing.layer for routing in scores.routings] == list(a.moe_layers)
    assert DecoderSubject(model).score(ids, targets).greedy_BT is None


def test_extending_a_cache_gives_the_logits_after_the_last_token_and_cutting_it_goes_back() -> None:
    model, ids = built(architecture(moe())), tokens(2, 12)
    subject = DecoderSubject(model)
    with torch.inference_mode():
        whole_BTV = model.eval()(ids).logits_BTV
    cache = subject.new_cache(2)
    torch.testing.assert_close(subject.extend(ids[:, :5], cache), whole_BTV[:, 4])
    torch.testing.assert_close(subject.extend(ids[:, 5:6], cache), whole_BTV[:, 5])
    subject.extend(ids[:, 6:], cache)
    assert cache.length == 12
    cache.cut(5)
    torch.testing.assert_close(subject.extend(ids[:, 5:7], cache), whole_BTV[:, 6])


@pytest.mark.parametrize("a", [odd(dense()), architecture(moe())], ids=["grouped-query", "moe"])
def test_what_follows_a_shared_beginning_is_scored_as_the_whole(a: Any) -> None:
    """Two beginnings of 5 tokens, the second continued twice; caches have room for what they will hold."""
    model, ids, targets = built(a), tokens(3, 12), tokens(3, 12, seed=1)
    subject, rows = DecoderSubject(model), torch.tensor([0, 1, 1])
    ids[2, :5] = ids[1, :5]
    whole = subject.score(ids, targets, greedy=True)
    beginnings, cache = subject.new_cache(2, 5), subject.new_cache(3, 12)
    subject.extend(ids[:2, :5], beginnings)
    cache.share(beginnings, rows)
    rest = subject.score(ids[:, 5:], targets[:, 5:], greedy=True, cache=cache)
    assert (beginnings.length, cache.length) == (5, 12)
    torch.testing.assert_close(rest.logprob_BT, whole.logprob_BT[:, 5:])
    assert rest.greedy_BT is not None
    assert whole.greedy_BT is not None
    assert torch.equal(rest.greedy_BT, whole.greedy_BT[:, 5:])
    assert [routing.token_N.max() for routing in rest.routings] == [3 * 7 - 1 for _ in a.moe_layers]


def test_alternatives_of_one_position_are_scored_together() -> None:
    subject, ids = DecoderSubject(built(architecture(moe()))), tokens(2, 6)
    first, second = (subject.score(ids, tokens(2, 6, seed=seed), greedy=True) for seed in (1, 2))
    both = subject.score(ids, torch.stack([tokens(2, 6, seed=seed) for seed in (1, 2)], dim=-1), greedy=True)
    torch.testing.assert_close(both.logprob_BT, torch.stack([first.logprob_BT, second.logprob_BT], dim=-1))
    assert first.greedy_BT is not None
    assert second.greedy_BT is not None
    assert both.greedy_BT is not None
    assert torch.equal(both.greedy_BT, torch.stack([first.greedy_BT, second.greedy_BT], dim=-1))


def test_bytes_are_tokens_of_one_byte() -> None:
    tokenizer = DecoderSubject(built(architecture(dense()))).tokenizer
    assert tokenizer.decode(tokenizer.encode(b"caf\xc3\xa9\x00\xff")) == b"caf\xc3\xa9\x00\xff"
    assert tokenizer.token_bytes.tolist() == [1] * 256
