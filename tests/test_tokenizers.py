"""Tokenizers: every id stands for known bytes, whatever made the vocabulary, so that bits per byte mean the same.

What cannot keep that is refused in words; a corpus under another tokenizer is the same text.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench import api
from moebench.claims import coverage
from moebench.claims.judge import judge
from moebench.data import tokenizer as tokenizers
from moebench.data.batches import Windows, evaluation_windows
from moebench.data.corpus import Corpus
from moebench.data.documents import DataError
from moebench.data.sources.tokenizer import TokenizerFile, TokenizerOfCheckpoint, TrainedBPE
from moebench.data.tokenizer import BYTES, AnyTokenizer, Subwords
from moebench.data.views import view
from moebench.metrics.quality import evaluate
from moebench.models.decoder import build
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import generate, load_trained
from moebench.models.subject import Scores
from moebench.reader.evidence import Evidence, gather
from moebench.store import Results
from moebench.systems.inspection import inspect_model
from tests.support import small_checkpoints, small_corpora, tiny_suites
from tests.support.small_models import architecture, dense

TEXTS = [small_checkpoints.TEXT.encode(), b"a  b\n\n\tc \r\n", "naïve 日本 <|endoftext|> </s> ▁ Ġ".encode()]


def saved(folder: Path, library: Any, **config: Any) -> Path:
    """A tokenizer.json, and what stands beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(library.to_str())
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AnyTokenizer]:
    """One of each way to have a tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    metaspace = saved(folder / "metaspace", small_checkpoints.metaspace(), bos_token="<s>", eos_token="</s>")
    saved(folder / "level", small_checkpoints.byte_level(), bos_token=None, eos_token={"content": "<|endoftext|>"})
    (folder / "level" / "config.json").write_text(json.dumps({"vocab_size": 316}))
    return {
        "bytes": tokenizers.make("bytes", base=folder),
        "bpe": tokenizers.make(TrainedBPE(bpe=300), base=folder, texts=TEXTS),
        "file": tokenizers.make(TokenizerFile(file=str(metaspace)), base=folder),
        "checkpoint": tokenizers.make(TokenizerOfCheckpoint(checkpoint="level"), base=folder),
    }


WAYS = ("bytes", "bpe", "file", "checkpoint")


# ---------------------------------------------------------------------------------------------- two laws


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(text=st.binary(max_size=60) | st.text(max_size=30).map(str.encode) | st.sampled_from(TEXTS))
def test_any_bytes_come_back_and_their_tokens_stand_for_all_of_them(
    known: dict[str, AnyTokenizer], way: str, text: bytes
) -> None:
    made = known[way]
    ids = made.encode(text)
    assert made.decode(ids) == text
    assert made.token_bytes[ids].sum() == len(text)
    assert made.start not in ids or way == "bytes"


def test_text_that_is_no_utf8_is_read_byte_by_byte(known: dict[str, AnyTokenizer]) -> None:
    made = known["bpe"]
    ids = made.encode(b"the small\xff\xfe cat")
    assert ids == [*made.encode(b"the small"), *made.encode(b"\xff"), *made.encode(b"\xfe"), *made.encode(b" cat")]
    assert len(made.encode(b"\xff")) == 1


def test_the_name_of_a_special_token_in_a_text_is_text(known: dict[str, AnyTokenizer]) -> None:
    for way, name in (("bpe", b"<|endoftext|>"), ("file", b"</s>")):
        ids = known[way].encode(b"a" + name)
        assert len(ids) > 2
        assert known[way].token_bytes[ids].all()


def test_starts_and_ends_are_those_that_the_files_name(known: dict[str, AnyTokenizer]) -> None:
    ours, file, checkpoint = (known[way] for way in WAYS[1:])
    assert (ours.start, ours.end, ours.vocab, ours.adds_start) == (0, 0, 300, False)
    assert (file.start, file.end) == (0, 1)
    assert (checkpoint.start, checkpoint.end, checkpoint.vocab) == (0, 0, 316)
    assert all(one.token_bytes[one.start] == 0 for one in (ours, file, checkpoint))


def test_ids_are_those_of_the_library(known: dict[str, AnyTokenizer]) -> None:
    """Whatever is not text that a normalizer changes."""
    text = small_checkpoints.TEXT
    assert known["checkpoint"].encode(text.encode()) == small_checkpoints.byte_level().encode(text).ids


def test_a_file_that_puts_a_space_before_text_is_used_without(known: dict[str, AnyTokenizer]) -> None:
    assert known["file"].decode(known["file"].encode(b"the")) == b"the"
    assert small_checkpoints.metaspace().encode("the").tokens[0] == "▁the"


def test_texts_are_encoded_alike_one_by_one_and_together(
    known: dict[str, AnyTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = known["bpe"]
    assert isinstance(made, Subwords)
    alone = [made.encode(text) for text in TEXTS]
    assert [ids.tolist() for ids in made.encode_all(TEXTS * 3)] == alone * 3
    monkeypatch.setattr(tokenizers, "PIECE_BYTES", 100)
    small = [ids.tolist() for ids in made.encode_all(TEXTS)]
    assert [made.decode(ids) for ids in small] == TEXTS
    assert small[0] == alone[0], "cut after line feeds, where no word goes on"
    assert made.decode(made.encode("é".encode() * 200)) == "é".encode() * 200


# ---------------------------------------------------------------------------------------------- learning merges


def test_the_same_texts_teach_the_same_merges_and_others_do_not() -> None:
    one, again, other = (tokenizers.train(texts, vocab=300) for texts in (TEXTS, TEXTS, [b"other words, other merges"]))
    assert (one.file, one.digest) == (again.file, again.digest)
    assert one.digest != other.digest


def test_text_that_gives_fewer_merges_gives_a_smaller_vocabulary_and_says_so(tmp_path: Path) -> None:
    found = view(CORPUS, TrainedBPE(bpe=2**14), base=tmp_path, cache=tmp_path)
    assert 257 < found.vocab < 2**14
    assert any(f"{found.vocab:,} of the 16,384 tokens asked" in note for note in found.facts.notes)


# ---------------------------------------------------------------------------------------------- a view of a corpus

CORPUS = small_corpora.corpus(
    train=[small_corpora.text(f"t{seed}", small_corpora.words(seed, 3000)) for seed in range(3)],
    tune=[small_corpora.text("u", small_corpora.words(7, 500))],
    test=[small_corpora.text(f"x{seed}", small_corpora.words(seed, 700)) for seed in range(8, 11)],
    context=16,
)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return view(CORPUS, TrainedBPE(bpe=320), base=Path(), cache=tmp_path_factory.mktemp("cache"))


def test_a_view_is_the_same_text_in_fewer_tokens(merged: Corpus) -> None:
    assert merged.vocab == 320
    assert merged.tokens("train").dtype == np.uint16
    for split in ("train", "tune", "test"):
        ours, theirs = merged.tokens(split), CORPUS.tokens(split)
        assert len(ours) == merged.facts.tokens[split] < len(theirs)
        for one, other in zip(merged.documents(split), CORPUS.documents(split), strict=True):
            assert ours[one.start - 1] == merged.tokenizer.start
            body = theirs[other.start : other.stop].tobytes()
            assert merged.tokenizer.decode(ours[one.start : one.stop].tolist()) == body
            assert (one.name, one.domain) == (other.name, other.domain)
        assert merged.text_digest(split) == CORPUS.text_digest(split) != merged.split_digest(split)
        assert merged.facts.bytes_of(split) == CORPUS.facts.bytes_of(split)
    assert merged.facts.text_digest == CORPUS.digest != merged.digest
    assert merged.facts.tokenizer == merged.tokenizer.digest


def test_merges_are_learned_from_the_training_split_alone(tmp_path: Path, merged: Corpus) -> None:
    changed = small_corpora.corpus(
        train=[small_corpora.text(f"t{seed}", small_corpora.words(seed, 3000)) for seed in range(3)],
        tune=[small_corpora.text("u", b"zq" * 900)],
        test=[small_corpora.text("x", b"qz" * 900)],
        context=16,
    )
    again = view(changed, TrainedBPE(bpe=320), base=tmp_path, cache=tmp_path)
    assert again.tokenizer.digest == merged.tokenizer.digest
    assert again.digest != merged.digest


def test_a_view_is_read_from_its_cache_and_made_again_when_that_is_damaged(
    tmp_path: Path, merged: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = view(CORPUS, TrainedBPE(bpe=320), base=tmp_path, cache=tmp_path)
    assert first.facts == merged.facts
    with monkeypatch.context() as patch:
        patch.setattr("moebench.data.views.make", lambda *_, **__: pytest.fail("made again"))
        assert view(CORPUS, TrainedBPE(bpe=320), base=tmp_path, cache=tmp_path).digest == first.digest
    for name in ("tokenizer.json", "test.bin"):
        [file] = tmp_path.rglob(name)
        del first
        file.write_bytes(file.read_bytes()[:-40])
        first = view(CORPUS, TrainedBPE(bpe=320), base=tmp_path, cache=tmp_path)
        assert first.facts == merged.facts


def test_streams_take_the_narrowest_type() -> None:
    from moebench.data.corpus import width_of

    sizes = {256: "uint8", 257: "uint16", 65536: "uint16", 65537: "uint32"}
    assert {vocab: width_of(vocab).name for vocab in sizes} == sizes


# ---------------------------------------------------------------------------------------------- bits per byte


def scored(corpus: Corpus) -> Windows:
    return evaluation_windows(corpus, "test", tokens=10**6)


def test_a_uniform_guess_costs_the_bits_of_its_vocabulary_over_the_bytes_of_its_tokens(merged: Corpus) -> None:
    a = architecture(dense(), vocab=merged.vocab, context=16)
    model = build(a, seed=0)
    with torch.no_grad():
        model.norm.weight.zero_()
    seen = evaluate(DecoderSubject(model, merged.tokenizer), scored(merged))
    num_bytes = sum(one.stop - one.start for one in CORPUS.documents("test"))
    tokens = len(merged.tokens("test")) - len(merged.documents("test"))
    assert seen.bytes_N.sum() == num_bytes == 2100
    assert seen.bits_per_byte() == pytest.approx(tokens * np.log2(320) / num_bytes, rel=1e-6)


class Converted:
    """A Markov chain over bytes as a subject of any tokenizer: a token costs what its bytes do after those before."""

    experts, mixtures, device = 0, (), torch.device("cpu")

    def __init__(self, tokenizer: AnyTokenizer, nats_PB: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self.tokenizer, self.nats_PB = tokenizer, nats_PB

    def score(self, tokens_BT: torch.Tensor, targets_BT: torch.Tensor, *, greedy: bool = False) -> Scores:
        pairs = zip(tokens_BT.flatten().tolist(), targets_BT.flatten().tolist(), strict=True)
        nats = [self._nats(before, target) for before, target in pairs]
        return Scores(logprob_BT=-torch.tensor(nats).view_as(targets_BT), greedy_BT=None, routings=())

    def _nats(self, before: int, target: int) -> float:
        at_start = before == self.tokenizer.start
        text = (b"" if at_start else self.tokenizer.decode([before])[-1:]) + self.tokenizer.decode([target])
        text = b"\0" + text if at_start else text
        return float(sum(self.nats_PB[a, b] for a, b in itertools.pairwise(text)))


def test_a_model_costs_the_same_under_two_tokenizers_of_one_text(merged: Corpus) -> None:
    draws = np.random.default_rng(3).dirichlet(np.ones(256), size=256)
    nats_PB = -np.log(draws)
    by_hand = 0.0
    for one in CORPUS.documents("test"):
        text = b"\0" + CORPUS.tokens("test")[one.start : one.stop].tobytes()
        by_hand += sum(nats_PB[a, b] for a, b in itertools.pairwise(text))
    by_hand /= 2100 * np.log(2)
    found = []
    for corpus in (CORPUS, merged):
        subject: Any = Converted(corpus.tokenizer, nats_PB)
        found.append(evaluate(subject, scored(corpus)).bits_per_byte())
    assert found == pytest.approx([by_hand, by_hand], rel=1e-6)


def test_what_a_unigram_model_costs_is_over_bytes_too(merged: Corpus) -> None:
    train, test = merged.tokens("train").astype(int), merged.tokens("test").astype(int)
    counts = {token: 1 + int((train == token).sum()) for token in set(test.tolist())}
    total = 320 + int((train != merged.tokenizer.start).sum())
    bits = -sum(np.log2(counts[token] / total) for token in test.tolist() if token != merged.tokenizer.start)
    assert merged.facts.unigram_bits_per_byte == pytest.approx(bits / 2100)


# ---------------------------------------------------------------------------------------------- what is refused


def changed(**edits: Callable[[dict[str, Any]], object]) -> str:
    content = json.loads(small_checkpoints.byte_level().to_str())
    for edit in edits.values():
        edit(content)
    return json.dumps(content)


def _without_letters(content: dict[str, Any]) -> None:
    content["model"]["vocab"] = {k: v for k, v in content["model"]["vocab"].items() if k != "ÿ"}


HOSTILE: dict[str, tuple[str, str]] = {
    "truncated": (small_checkpoints.byte_level().to_str()[:500], "is the file cut short"),
    "empty": ("", "is the file cut short"),
    "deep": ("[" * 100_000, "is the file cut short"),
    "a list": ("[1, 2]", "is not a tokenizer in the format"),
    "no tokenizer": ('{"model_type": "llama"}', "is not a tokenizer in the format"),
    "odd types": ('{"model": {"type": "BPE", "vocab": 7, "merges": []}}', "is not a tokenizer in the format"),
    "huge": (changed(a=lambda c: c["model"]["vocab"].update(huge=10**12)), "ids up to 1,000,000,000,000"),
    "negative": (changed(a=lambda c: c["model"]["vocab"].update(less=-1)), "no whole numbers from 0"),
    "twice": (changed(a=lambda c: c["model"]["vocab"].update(again=5)), "one id to two pieces"),
    "word level": (
        changed(a=lambda c: c.update(pre_tokenizer={"type": "Whitespace"}, model={**c["model"], "type": "WordLevel"})),
        "has no token for every byte",
    ),
    "a byte is missing": (changed(a=_without_letters), "no token for 1 of the 256 bytes, such as 0xFF"),
    "no start": (changed(a=lambda c: c.update(added_tokens=[])), "which token stands before a text"),
    "another version": (
        changed(a=lambda c: c.update(pre_tokenizer={"type": "ByteLevel", "use_regex": "?"})),
        "read it",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_cannot_serve_is_refused_in_words(tmp_path: Path, what: str) -> None:
    text, words = HOSTILE[what]
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        tokenizers.make(TokenizerFile(file="tokenizer.json"), base=tmp_path).encode(b"some text")
    assert "tokenizer.json" in str(caught.value)


def test_a_tokenizer_that_changes_text_is_refused_when_it_does(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(changed(a=lambda c: c.update(normalizer={"type": "Lowercase"})))
    made = tokenizers.read(tmp_path / "tokenizer.json")
    assert made.decode(made.encode(b"small")) == b"small"
    with pytest.raises(DataError, match="do not stand for the text"):
        made.encode(b"Large")
    (tmp_path / "tokenizer.json").write_text(changed(a=lambda c: c.update(normalizer={"type": "NFC"})))
    made = tokenizers.read(tmp_path / "tokenizer.json")
    assert made.decode(made.encode("e\u0301".encode())) == "e\u0301".encode(), "normalizing to NFC is left out"


def test_a_folder_without_a_tokenizer_or_with_that_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no checkpoint at"):
        tokenizers.of_checkpoint(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read: No such file"):
        tokenizers.of_checkpoint(tmp_path)
    saved(tmp_path, small_checkpoints.byte_level())
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 300}))
    with pytest.raises(DataError, match=r"has 316 tokens, its config\.json says 300"):
        tokenizers.of_checkpoint(tmp_path)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(DataError, match=r"pip install 'moebench\[data\]'"):
        tokenizers.train([b"text"], vocab=300)
    assert BYTES.encode(b"text") == list(b"text")


def test_random_vocabularies_keep_the_laws() -> None:
    """Of whatever text they were learned from, they read any other."""
    draws = random.Random(1)
    for _ in range(5):
        made = tokenizers.train([draws.randbytes(400), small_corpora.words(draws.randrange(99), 400)], vocab=290)
        text = draws.randbytes(300)
        assert made.decode(made.encode(text)) == text


# ---------------------------------------------------------------------------------------------- in a suite

DATA = {**tiny_suites.SYNTHETIC, "context": 16}
DENSE = {"layers": 1, "width": 8, "heads": 2, "ffn": {"kind": "dense", "hidden": 8}}
SPEC: dict[str, Any] = {
    "seeds": 2,
    "models": {
        "dense": DENSE,
        "wide": {"base": "dense", "ffn": {"hidden": 12}},
        "dense_bpe": {"base": "dense", "data": {"tokenizer": {"bpe": 300}}},
        "wide_bpe": {"base": "wide", "data": {"tokenizer": {"bpe": 300}}},
    },
    "train": {"budget": {"steps": 2}, "evaluate": {"points": 1, "tokens": 256, "final_tokens": 2000}},
    "measure": {"memory": False},
    "claims": {
        "across": tiny_suites.claim(compare={"treatment": "dense_bpe", "baseline": "dense"}),
        "by_tokens": tiny_suites.claim(
            compare={"treatment": "dense_bpe", "baseline": "dense"},
            metric="cost.train_flops_per_token",
            test={"kind": "ratio_at_least", "value": 1.0},
        ),
        "pairs": tiny_suites.claim(
            compare={"treatment": "wide", "baseline": "dense"},
            minus={"treatment": "wide_bpe", "baseline": "dense_bpe"},
            test={"kind": "interaction", "margin": "0.5%"},
        ),
    },
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    folder = tmp_path_factory.mktemp("suite")
    found = tiny_suites.call_run(tiny_suites.write(folder, **SPEC))
    assert found.exit_code == 0, found.output
    return api.prepare_plan(folder / "tiny.yaml", results=folder / "results")


@pytest.fixture(scope="module")
def evidence(ran: api.Planned) -> Evidence:
    results = Results(ran.results)
    return gather(results, next(one for one in results.plans() if one.plan.id == ran.plan.id))


def test_each_model_has_the_vocabulary_and_the_data_of_its_tokenizer(ran: api.Planned) -> None:
    plan = ran.plan
    assert {name: a.architecture.vocab for name, a in plan.decoders.items()} == {
        "dense": 256, "wide": 256, "dense_bpe": 300, "wide_bpe": 300,
    }  # fmt: skip
    assert set(plan.views) == {"dense_bpe", "wide_bpe"}
    assert plan.data_of("wide_bpe").digest == plan.data_of("dense_bpe").digest != plan.data.digest
    assert plan.data_of("wide_bpe").text_digest == plan.data.digest
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan
    with pytest.raises(ValueError, match="does not say what its models read"):
        type(plan).model_validate({**plan.model_dump(mode="json"), "views": {}})


def test_a_run_keeps_its_tokenizer_and_says_which_text_it_was_tested_on(ran: api.Planned) -> None:
    folders = {run.model: Results(ran.results).job(run.id) for run in ran.plan.runs}
    texts = {folder.job_json()["data_splits"]["test"]["digest"] for folder in folders.values()}
    assert len(texts) == 1, "the text's, not the tokens'"
    assert not folders["dense"].has("tokenizer.json")
    kept = folders["dense_bpe"]
    assert "tokenizer.json" in (kept.manifest() or {})["files"]
    made = tokenizers.tokenizer_of(kept.path)
    assert made.digest == ran.plan.data_of("dense_bpe").tokenizer
    assert (made.vocab, made.adds_start) == (300, False)
    assert tokenizers.tokenizer_of(folders["dense"].path) is BYTES


def test_what_was_scored_is_told_in_bytes_and_is_the_same_text(ran: api.Planned, evidence: Evidence) -> None:
    scored = {run.model: run.values["test.scored_bytes"] for run in evidence.outcomes}
    assert set(scored.values()) == {ran.plan.data.bytes_of("test")}
    text = coverage.scored(evidence, "test.bits_per_byte", ["dense_bpe"])
    assert text is not None
    facts = ran.plan.data_of("dense_bpe")
    a_token = scored["dense_bpe"] / (facts.tokens["test"] - facts.documents["test"])
    assert text.asked_bytes == round(2000 * a_token)


def test_quality_by_bytes_compares_across_tokenizers_and_nothing_by_tokens_does(evidence: Evidence) -> None:
    verdicts = {verdict.id: verdict for verdict in judge(evidence)}
    for name in ("across", "pairs"):  # two steps teach nothing: that is the first thing that is wrong
        assert "learned nothing" in verdicts[name].reason, verdicts[name].reason
    assert verdicts["by_tokens"].state == "invalid"
    assert (
        "dense_bpe and dense read different tokens, so cost.train_flops_per_token cannot"
        in verdicts["by_tokens"].reason
    )
    other = evidence.plan.views["dense_bpe"]
    assert other.text is not None
    elsewhere = other.model_copy(update={"text": other.text.model_copy(update={"digest": "0" * 64})})
    plan = evidence.plan.model_copy(update={"views": {**evidence.plan.views, "dense_bpe": elsewhere}})
    changed = replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan}))
    assert "dense_bpe and dense read different texts" in {v.id: v for v in judge(changed)}["across"].reason


def test_text_goes_on_in_the_words_of_the_tokenizer(ran: api.Planned) -> None:
    folder = next(Results(ran.results).job(run.id) for run in ran.plan.runs if run.model == "dense_bpe")
    subject = DecoderSubject(load_trained(ran.results, folder.id), tokenizers.tokenizer_of(folder.path))
    assert generate(subject, b"abc", tokens=5, temperature=0, seed=0).startswith(b"abc")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {**DATA, "tokenizer": "words"}}, "a tokenizer is bytes, {bpe: 4096}"),
        ({"data": {**DATA, "tokenizer": {"bpe": 200}}}, "bpe must be at least 257"),
        ({"data": {**DATA, "tokenizer": {"file": "no.json"}}}, "no.json cannot be read"),
        ({"models": {"x": {**DENSE, "data": {"tokenizer": {"checkpoint": "no"}}}}}, "no checkpoint at"),
        ({"models": {"x": {**DENSE, "data": {"context": 8}}}}, "unknown key 'context'"),
        (
            {"models": SPEC["models"], "measure": {"speed": {"train_step": True}}},
            "dense_bpe reads another tokenizer than the suite's",
        ),
    ],
)
def test_what_a_suite_cannot_have_is_told_at_its_place(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    found = tiny_suites.call("validate", tiny_suites.write(tmp_path, **changes))
    assert found.exit_code == 2
    assert words in found.output
    assert "tiny.yaml:" in found.output


def test_a_tokenizer_is_found_beside_the_suite_and_merges_replace_it(tmp_path: Path) -> None:
    saved(tmp_path / "own", small_checkpoints.byte_level())
    made = tiny_suites.planned(tmp_path, data={**DATA, "tokenizer": {"file": "own/tokenizer.json"}})
    assert {a.architecture.vocab for a in made.plan.decoders.values()} == {316}
    assert made.plan.views == {}
    again = api.prepare_plan(made.loaded.path, sets=["data.tokenizer.bpe=280"], results=tmp_path / "results")
    assert {a.architecture.vocab for a in again.plan.decoders.values()} == {280}


def test_a_model_is_inspected_with_the_words_of_its_tokenizer(tmp_path: Path) -> None:
    path = tiny_suites.write(tmp_path, **SPEC)
    sizes = {model: inspect_model(f"{path}:{model}")["params"]["total"] for model in ("dense", "dense_bpe")}
    assert sizes["dense_bpe"] - sizes["dense"] == (300 - 256) * 8
