"""Exported models of every family, bytes or words for tokens: lm-eval's own `hf` scores them as our adapter does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from moebench.data.tokenizer import BYTES, AnyTokenizer, train
from moebench.models.convert.config import family_of
from moebench.models.convert.export import export_checkpoint
from moebench.models.convert.families import FAMILIES
from moebench.models.decoder.subject import DecoderSubject
from moebench.suite.attention import RopeScaling
from tests.support.small_models import architecture, built, dense, moe

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("default")  # of transformers, datasets and what they import

CONTEXT = 48
OSS: dict[str, Any] = {"router": "topk_softmax", "activation": "swiglu_clamped", "bias": True}
YARN = RopeScaling(kind="yarn", factor=4, original_context=12)
SHAPES = {
    "Llama": architecture(dense(), context=CONTEXT, rope_scaling=YARN),
    "Qwen3": architecture(dense(), context=CONTEXT, qk_norm="per_head"),
    "Mistral": architecture(dense(), context=CONTEXT, window=9),
    "Qwen2": architecture(dense(), context=CONTEXT, attention_bias="qkv"),
    "Mixtral": architecture(moe(), context=CONTEXT, kv_heads=2, tied_embeddings=False),
    "OLMoE": architecture(moe(renormalise=False), context=CONTEXT, qk_norm="full"),
    "Qwen3-MoE": architecture(moe(every=2, dense_hidden=24), context=CONTEXT, qk_norm="per_head"),
    "Qwen2-MoE": architecture(moe(shared_hidden=16, shared_gate=True), context=CONTEXT),
    "GLM-4-MoE": architecture(moe(router="sigmoid_bias", shared_hidden=16), context=CONTEXT),
    "gpt-oss": architecture(moe(**OSS), context=CONTEXT, attention_sinks=True, window=9, full_every=2),
}
TEXT = "the cat sat on the mat, and the dog ran after the cat; naïve café, 日本\n"
WORDS = train([TEXT.encode()] * 3, vocab=300)
CASES = {(name, "bytes"): BYTES for name in SHAPES} | {
    (name, "words"): WORDS for name in ("Llama", "Mixtral", "gpt-oss")
}


def requests(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]  # type: ignore[arg-type]


def both(folder: Path, name: str, tokens: AnyTokenizer) -> tuple[Any, Any]:
    """The adapter and lm-eval's `hf`, on a model with more rows than there are words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.models.huggingface import HFLM

        from moebench.tasks.adapter import Adapter

        model = built(SHAPES[name].model_copy(update={"vocab": tokens.vocab + 20 * (tokens is WORDS)})).eval()
        export_checkpoint(model, folder, tokens)
        theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=3)
        return Adapter(DecoderSubject(model, tokens)), theirs


@pytest.mark.parametrize(("name", "tokens"), CASES)
def test_scores_and_texts_are_those_of_hf(tmp_path: Path, name: str, tokens: str) -> None:
    ours, theirs = both(tmp_path, name, CASES[name, tokens])
    assert ours.prefix_token_id == theirs.prefix_token_id
    assert ours.max_length == theirs.max_length == CONTEXT
    asked = requests(
        "loglikelihood", ("the cat", " sat"), ("the cat", " ran after"), ("the ", "cat"), ("", "no context"),
        (TEXT * 2, " yes"), (TEXT * 2, " no"), ("naïve café", " 日"), ("日本", " é"),
    )  # fmt: skip
    expected, found = theirs.loglikelihood(asked, disable_tqdm=True), ours.loglikelihood(asked, disable_tqdm=True)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4, rel=0)
    assert [one[1] for one in found] == [one[1] for one in expected]
    assert len({round(one[0], 3) for one in found}) == len(asked)
    asked = requests("loglikelihood_rolling", (TEXT * 3,), ("the cat",), ("",))
    expected = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours.loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-4, rel=1e-7)
    asked = requests("generate_until", *((text, {"until": ["\n"], "max_gen_toks": 8}) for text in ("the cat", TEXT)))
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)


def test_every_family_that_is_exported_is_scored_here() -> None:
    assert {family_of(a).name: name for name, a in SHAPES.items()} == {family.name: family.name for family in FAMILIES}
