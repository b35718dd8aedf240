"""The adapter against lm-eval's own `hf` model on the exported checkpoint: equal scores, each beginning read once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.checkpoints.described import describe
from moebench.checkpoints.located import locate
from moebench.data.tokenizer import TrainedBPE, make
from moebench.metrics.measurement import NotFinite
from moebench.models.convert.export import export_checkpoint
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.hf.loading import load
from moebench.models.subject import Subject
from moebench.tasks.scoring import Span, score_spans
from moebench.tasks.writing import Sampling, write
from tests.support import small_checkpoints
from tests.support.small_models import architecture, built, dense, moe

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("default")  # of transformers, datasets and what they import

CONTEXT = 48


@pytest.fixture(scope="module")
def subject() -> DecoderSubject:
    """A mixture whose logits differ: sharper than at its initial values."""
    model = built(architecture(moe(), context=CONTEXT))
    with torch.no_grad():
        model.embedding.mul_(2)
    return DecoderSubject(model)


def ours_and_hf(subject: Subject, folder: Path) -> tuple[Any, Any]:
    """The adapter and lm-eval's `hf` on the same weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        from moebench.tasks.adapter import Adapter

        return Adapter(subject), HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)


@pytest.fixture(scope="module")
def both(subject: DecoderSubject, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Of a mixture whose tokens are bytes."""
    folder = tmp_path_factory.mktemp("bytes")
    export_checkpoint(subject.weights, folder)
    return ours_and_hf(subject, folder)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Of a decoder whose tokens are pieces that were learned from a text."""
    folder = tmp_path_factory.mktemp("words")
    learned = make(TrainedBPE(bpe=300), base=folder, texts=[text.encode() for pair in LIKELIHOODS for text in pair])
    model = built(architecture(dense(), context=CONTEXT, vocab=300))
    with torch.no_grad():
        model.embedding.mul_(2)
    export_checkpoint(model, folder, learned)
    return ours_and_hf(DecoderSubject(model, learned), folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Of a checkpoint whose tokenizer puts spaces before words."""
    folder = tmp_path_factory.mktemp("checkpoint")
    small_checkpoints.save(folder, "mixtral", tokenizer="metaspace", steps=5)
    _, blueprint = describe(locate(str(folder), base=folder), cache=None)
    return ours_and_hf(load(folder, blueprint, dtype="float32"), folder)


def pair_of(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    ours, theirs = request.getfixturevalue(request.param)
    return ours, theirs


pair = pytest.fixture(params=["both", "words", "checkpoint"])(pair_of)


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]  # type: ignore[arg-type]


class Counting(DecoderSubject):
    """Counts tokens that go through the model, and calls."""

    def __init__(self, one: DecoderSubject) -> None:
        super().__init__(one.weights)
        self.scored, self.read = 0, 0

    def score(self, tokens_BT: Any, *args: Any, **kwargs: Any) -> Any:
        self.scored += tokens_BT.numel()
        return super().score(tokens_BT, *args, **kwargs)

    def extend(self, tokens_BT: Any, cache: Any) -> Any:
        self.read += tokens_BT.numel()
        return super().extend(tokens_BT, cache)


def spans_of(texts: Sequence[tuple[str, str]]) -> list[Span]:
    return [
        Span(ids=np.array(list((context + ending).encode()))[-(CONTEXT + 1) :], scored=len(ending.encode()))
        for context, ending in texts
    ]


LIKELIHOODS = [
    ("the cat", " sat"),
    ("the cat", " ran away"),
    ("the cat ", "space goes over"),
    ("", "no context"),
    ("longer than the context, so that it is cut on the left", " yes"),
    ("longer than the context, so that it is cut on the left", " no, and never"),
    ("a", "b" * CONTEXT),
    ("é and ü", "ö€"),
    ("twice", " the same"),
    ("twice", " the same"),
    *((f"{n}. choose one of the letters" + "." * n, f" {letter}") for n in range(7) for letter in "ABCD"),
    *((f"{n}. which ending" + "?" * (n % 3), word) for n in range(5) for word in (" is", " was it, then", " are")),
]


def test_loglikelihoods_are_those_of_hf(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    asked = requests("loglikelihood", *LIKELIHOODS)
    expected = theirs.loglikelihood(asked, disable_tqdm=True)
    found = ours.loglikelihood(asked, disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4, rel=0)
    assert [one[1] for one in found] == [one[1] for one in expected]


def test_the_token_that_begins_texts_is_itself_where_it_is_written(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    asked = requests(
        "loglikelihood", ("", "\0begins with it"), ("\0a context that begins with it", "c"), ("two\0texts", "\0")
    )
    expected = [one[0] for one in theirs.loglikelihood(asked, disable_tqdm=True)]
    assert [one[0] for one in ours.loglikelihood(asked)] == pytest.approx(expected, abs=1e-4, rel=0)


def test_what_the_model_would_write_itself_is_greedy_and_nothing_else(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    (written,) = ours.generate_until(requests("generate_until", ("the cat", {"until": [], "max_gen_toks": 3})))
    assert written.isascii()
    asked = requests("loglikelihood", ("the cat", written), ("the cat", written[:-1] + "~"), ("the cat", "~" + written))
    assert [one[1] for one in ours.loglikelihood(asked, disable_tqdm=True)] == [True, False, False]
    assert [one[1] for one in theirs.loglikelihood(asked, disable_tqdm=True)] == [True, False, False]


def test_rolling_loglikelihoods_are_those_of_hf(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    texts = ["", "a", "b" * CONTEXT, "c" * (CONTEXT + 1), "it rolls on and on, " * 9, "zero\0inside"]
    asked = requests("loglikelihood_rolling", *((text,) for text in texts))
    expected = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours.loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-4, rel=1e-7)


WRITTEN = [
    ("the cat sat on", {"until": ["\n"], "max_gen_toks": 12}),
    ("hello", {"until": ["e", "n"], "max_gen_toks": 12}),
    ("a much longer prompt than", {"until": ["\n"], "max_gen_toks": 12}),
    ("cut on the left, for it does not fit the context of the model", {"until": [], "max_gen_toks": 20}),
    ("no sampling", {"until": "q", "max_gen_toks": 8, "temperature": 0.0, "do_sample": False}),
    ("other name", {"until": ["\n\n"], "max_new_tokens": 5}),
    ("é€" * 4, {"until": ["\n"], "max_gen_toks": 12}),
]


def test_texts_are_written_as_hf_writes_them(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    asked = requests("generate_until", *WRITTEN)
    expected = theirs.generate_until(asked, disable_tqdm=True)
    assert list(map(readable, ours.generate_until(asked))) == list(map(readable, expected))
    first = next(text for text in expected if len(text) > 2)
    stopped = requests(
        "generate_until", *((one, {"until": [first[1:3]], "max_gen_toks": 12}) for one, _ in WRITTEN[:3])
    )
    expected = theirs.generate_until(stopped, disable_tqdm=True)
    assert list(map(readable, ours.generate_until(stopped))) == list(map(readable, expected))


def readable(text: str) -> str:
    """Up to the first byte that is no character: tokenizers differ in what they make of those."""
    return text.partition("\ufffd")[0]


def test_a_text_ends_at_the_token_that_ends_texts(both: tuple[Any, Any], subject: DecoderSubject) -> None:
    """Of a model that always ends: nothing is written, whatever the prompt."""
    ended = built(architecture(dense(), context=CONTEXT, tied_embeddings=False))
    with torch.no_grad():
        ended.norm.weight.zero_()  # all logits are equal, so the first id is the first choice
    ours = type(both[0])(DecoderSubject(ended))
    assert ours.generate_until(requests("generate_until", ("x", {"until": [], "max_gen_toks": 9}))) == [""]


def test_what_hf_stops_at_is_refused_in_words(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    refused = {
        "has no token": requests("loglikelihood", ("context", "")),
        f"does not fit the model's context of {CONTEXT}": requests("loglikelihood", ("a", "b" * (CONTEXT + 1))),
        "smaller max_gen_toks": requests("generate_until", ("a", {"until": ["x"], "max_gen_toks": CONTEXT})),
        "num_beams: not known": requests("generate_until", ("a", {"num_beams": 4, "max_gen_toks": 4})),
    }
    for words, asked in refused.items():
        kind = asked[0].request_type
        with pytest.raises(ValueError, match=words):
            getattr(ours, kind)(asked)
        if "num_beams" not in words:
            with pytest.raises(AssertionError):
                getattr(theirs, kind)(asked)


def test_progress_is_told_as_requests_are_done(subject: DecoderSubject, both: tuple[Any, Any]) -> None:
    told: list[tuple[str, int, int]] = []
    ours = type(both[0])(subject, rows=4, on_progress=lambda *what: told.append(what))
    ours.loglikelihood(requests("loglikelihood", *LIKELIHOODS), disable_tqdm=True)
    ours.generate_until(requests("generate_until", *WRITTEN))
    for kind, count in (("loglikelihood", len(LIKELIHOODS)), ("generate_until", len(WRITTEN))):
        done = [one[1] for one in told if one[0] == kind]
        assert done == sorted(done)
        assert (done[-1], {one[2] for one in told if one[0] == kind}) == (count, {count})


# ------------------------------------------------------------------------------------------------ batching


def test_choices_share_their_question(subject: DecoderSubject) -> None:
    """Six questions of 30 tokens, each with four endings of 8: but for the last, its tokens are read once, and the last
    and all but one of the ending's with each ending.
    """
    texts = [(question * 30, f"{choice}ending.") for question in "uvwxyz" for choice in "abcd"]
    counted = Counting(subject)
    score_spans(counted, spans_of(texts))
    assert (counted.read, counted.scored) == (6 * 29, 24 * 8)


def test_letters_are_read_once(subject: DecoderSubject) -> None:
    """Alternatives for the last token cost nothing more."""
    counted = Counting(subject)
    score_spans(counted, spans_of([("a question of some length", f" {letter}") for letter in "ABCD"]))
    assert (counted.read, counted.scored) == (0, 26)


def test_examples_before_all_questions_are_read_once(subject: DecoderSubject) -> None:
    """The 31 tokens that all begin with, once; then the 4 and 1 that are left of each."""
    counted = Counting(subject)
    score_spans(counted, spans_of([("x" * 31 + letter * 4, " y") for letter in "abcdefghijklmnopqrst"]))
    assert counted.read == 31
    assert counted.scored == 20 * (4 + 1)


AB = st.text("ab", min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.tuples(st.sampled_from(["", "ab", "abab"]), AB, AB), min_size=1, max_size=12),
    rows=st.sampled_from([None, 1, 3]),
)
def test_a_score_depends_on_nothing_that_is_scored_with_it(
    subject: DecoderSubject, texts: list[tuple[str, str, str]], rows: int | None
) -> None:
    """Whatever is shared, cut, padded or batched: the score is that of the span alone."""
    spans = spans_of([(first * 5 + context, ending) for first, context, ending in texts])
    together = score_spans(subject, spans, rows=rows)
    for span, score in zip(spans, together, strict=True):
        ids = torch.from_numpy(span.ids)[None]
        alone = subject.score(ids[:, :-1], ids[:, 1:], greedy=True)
        assert score.logprob == pytest.approx(float(alone.logprob_BT[0, -span.scored :].sum()), abs=1e-4)


def test_texts_depend_on_no_batch_mate(subject: DecoderSubject) -> None:
    prompts = [np.arange(1, 2 + length) for length in (3, 9, 9, 1, 14)]
    most: dict[str, Any] = {"most": 9, "sampling": Sampling(), "is_done": lambda written: written[-1] % 7 == 0}
    together = write(subject, prompts, **most)
    assert together == [write(subject, [prompt], **most)[0] for prompt in prompts]
    assert all(len(text) <= 9 for text in together)


def test_sampling_follows_the_distribution_of_what_it_leaves() -> None:
    """Of probabilities 1/2, 1/4, 1/8, 1/8: the first two of top 2, the first of top_p 1/2, the sharper at half."""
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(20_000, -1)

    def shares(**options: Any) -> list[float]:
        drawn = Sampling(seed=0, **options).chooser(torch.device("cpu"))(logits)
        return [float((drawn == token).float().mean()) for token in range(4)]

    near = {"abs": 0.02}
    assert shares(temperature=1.0) == pytest.approx([0.5, 0.25, 0.125, 0.125], **near)
    assert shares(temperature=1.0, top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0], **near)
    assert shares(temperature=1.0, top_p=0.5) == [1, 0, 0, 0]
    assert shares(temperature=0.5) == pytest.approx([16 / 22, 4 / 22, 1 / 22, 1 / 22], **near)
    assert shares() == [1, 0, 0, 0]


def test_prompts_that_do_not_fit_are_counted(subject: DecoderSubject) -> None:
    from moebench.tasks.adapter import Adapter

    ours, room = Adapter(subject), subject.context
    ours.loglikelihood(requests("loglikelihood", ("a" * (room - 1), "b"), ("a" * room, "bc"), ("", "d")))
    assert (ours.read, ours.cut) == (3, 1)
    ours.generate_until(requests("generate_until", *((text, {"until": ["\n"], "max_gen_toks": 4}) for text in "a" * 2)))
    assert (ours.read, ours.cut) == (5, 1)
    ours.generate_until(requests("generate_until", ("a" * room, {"until": ["\n"], "max_gen_toks": 4})))
    assert (ours.read, ours.cut) == (6, 2)


def test_a_score_that_is_no_number_is_none(subject: DecoderSubject) -> None:
    broken = built(architecture(dense(), context=CONTEXT))
    with torch.no_grad():
        broken.embedding.fill_(float("nan"))
    with pytest.raises(NotFinite, match="log-probability"):
        score_spans(DecoderSubject(broken), spans_of([("a", "b")]))


def test_nothing_of_a_model_is_used_but_the_protocol(subject: DecoderSubject) -> None:
    """A subject by hand: every token follows with the share of its id."""
    logp_V = torch.arange(1.0, 257.0).div(sum(range(1, 257))).log()
    by_hand = SimpleNamespace(
        context=CONTEXT,
        device=torch.device("cpu"),
        counts=subject.counts,
        score=lambda tokens, targets, greedy, cache: SimpleNamespace(
            logprob_BT=logp_V[targets], greedy_BT=targets == 255
        ),
    )
    (score,) = score_spans(by_hand, spans_of([("a", "bc")]))  # type: ignore[arg-type]
    assert score.logprob == pytest.approx(float(logp_V[98] + logp_V[99]))
