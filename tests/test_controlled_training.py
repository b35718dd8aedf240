"""Training that is spoilt on purpose: text in random order, experts that change places behind their router."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from moebench.data.batches import evaluation_windows, train_batch, unigram_bits_per_byte
from moebench.jobs.measuring import scored_windows
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, start, train
from moebench.metrics.quality import evaluate
from moebench.models.decoder.subject import DecoderSubject
from tests.support import small_corpora
from tests.support.small_models import architecture, dense, moe, recipe, run

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)


def trained(chosen: Run) -> State:
    state = start(chosen)
    for _ in train(state, chosen, CORPUS):
        pass
    return state


def over_unigram(chosen: Run) -> float:
    """Bits per byte of a trained model on shuffled text over those of a unigram model."""
    text = scored_windows(CORPUS, chosen.recipe, tokens=chosen.recipe.final_eval_tokens)
    loss = evaluate(DecoderSubject(trained(chosen).model, CORPUS.tokenizer), text).bits_per_byte()
    return loss / unigram_bits_per_byte(CORPUS, text)


# ------------------------------------------------------------------------------------------ shuffled text


def test_an_epoch_of_shuffled_text_has_the_tokens_of_the_split_in_another_order() -> None:
    stream, context = CORPUS.tokens("train"), CORPUS.context
    windows = (len(stream) - context) // context
    told = train_batch(CORPUS, seed=0, step=0, batch_tokens=windows * context)
    shuffled = train_batch(CORPUS, seed=0, step=0, batch_tokens=windows * context, shuffled=True)
    of_told, of_shuffled = (np.bincount(some[:, 1:].ravel(), minlength=256) for some in (told, shuffled))
    assert np.abs(of_told - of_shuffled).sum() <= 2 * (len(stream) - windows * context)
    assert np.mean(told == shuffled) < 0.2


def test_every_seed_reads_the_same_disorder_so_that_runs_can_be_compared() -> None:
    windows = [evaluation_windows(CORPUS, "test", tokens=500, shuffled=True) for _ in range(2)]
    assert np.array_equal(windows[0].targets, windows[1].targets)
    plain = evaluation_windows(CORPUS, "test", tokens=500)
    assert np.array_equal(plain.mask, windows[0].mask)
    assert np.array_equal(plain.document, windows[0].document)
    scored = windows[0].inputs[:, 1:] == windows[0].targets[:, :-1]
    assert scored[windows[0].mask[:, 1:]].all()  # the input of a position is still the target of the one before


def test_no_token_of_shuffled_text_tells_the_next() -> None:
    batch = train_batch(CORPUS, seed=0, step=0, batch_tokens=4096 // 16 * 16, shuffled=True)
    pairs = np.zeros((256, 256))
    np.add.at(pairs, (batch[:, :-1].ravel(), batch[:, 1:].ravel()), 1)
    rows, columns = pairs.sum(1, keepdims=True), pairs.sum(0, keepdims=True)
    expected = rows * columns / pairs.sum()
    often = expected > 5
    assert often.sum() > 50
    assert np.sum((pairs - expected)[often] ** 2 / expected[often]) / often.sum() < 1.3  # chi-squared over its mean


SHUFFLED = {"shuffled": True, "steps": 60, "batch_tokens": 256, "micro_batch_tokens": 256, "lr": 1e-2}


@pytest.mark.parametrize("ffn", [dense(24), moe(4, 2, 16)], ids=["dense", "moe"])
def test_no_honest_model_beats_a_unigram_model_on_it(ffn: object) -> None:
    chosen = run(architecture(ffn), data_digest=CORPUS.digest, final_eval_tokens=4096, **SHUFFLED)  # type: ignore[arg-type]
    assert 0.995 < over_unigram(chosen) < 1.1


def test_a_model_that_sees_the_next_token_does(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = F.scaled_dot_product_attention

    def leaking(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object) -> torch.Tensor:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril(1)
        return honest(query, key, value, attn_mask=mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", leaking)
    chosen = run(architecture(dense(24)), data_digest=CORPUS.digest, final_eval_tokens=4096, **SHUFFLED)
    assert over_unigram(chosen) < 0.9


# ------------------------------------------------------------------------------------------ permuted experts


def handicapped(**changes: int) -> Run:
    return run(architecture(moe(4, 2, 16)), data_digest=CORPUS.digest, permute_experts_every=3, **changes)


def test_experts_change_places_and_none_is_lost() -> None:
    state = start(handicapped(steps=1))
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    state.model.permute_experts(seed=5)
    for name, value in state.model.state_dict().items():
        if not name.endswith(("ffn.gate_up", "ffn.down")):
            assert torch.equal(value, before[name])
            continue
        places = [[torch.equal(new, old) for old in before[name]].index(True) for new in value]
        assert sorted(places) == [0, 1, 2, 3]
    assert any(not torch.equal(value, before[name]) for name, value in state.model.state_dict().items())


def test_a_resumed_run_permutes_as_it_would_have() -> None:
    chosen = handicapped(steps=8)
    whole = trained(chosen)
    half = start(chosen)
    for step in train(half, chosen, CORPUS):
        if step.step == 5:
            break
    again = start(chosen, is_loaded=True)
    again.load_bytes(half.to_bytes())
    for _ in train(again, chosen, CORPUS):
        pass
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_it_trains_to_other_weights_and_a_dense_model_to_the_same() -> None:
    told = run(architecture(moe(4, 2, 16)), data_digest=CORPUS.digest, steps=8)
    assert not torch.equal(trained(told).model.embedding, trained(handicapped(steps=8)).model.embedding)
    plain = [
        run(architecture(dense(24)), data_digest=CORPUS.digest, steps=4, **more)
        for more in ({}, {"permute_experts_every": 1})
    ]
    assert torch.equal(*(trained(one).model.embedding for one in plain))


def test_recipes_without_them_are_written_as_they_were() -> None:
    assert not {"shuffled", "permute_experts_every"} & recipe().model_dump().keys()
    assert {"shuffled", "permute_experts_every"} <= recipe(shuffled=True, permute_experts_every=3).model_dump().keys()
