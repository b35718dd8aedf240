"""What tokens cost by how often their trigrams stood in training: the parts are equal, and of the text alone.

It would mislead if parts depended on the model, if a gain in percent were taken for one in bits, or if what a window
has not seen were counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench import api
from moebench.data.selection import select
from moebench.jobs import loop
from moebench.jobs.measuring import RunContext, load_state
from moebench.jobs.recipe import Run
from moebench.metrics import rarity
from moebench.metrics.ref import labelled
from moebench.reader.evidence import gather
from moebench.store import Results
from moebench.suite.view import TrainingView
from tests.support import small_corpora, tiny_suites
from tests.support.builders import claim, evidence_of, judged
from tests.support.suite_texts import messages

FEW = st.lists(st.integers(0, 4), max_size=60)


@given(FEW, FEW)
def test_occurrences_are_counted_as_by_hand(text: list[int], asked: list[int]) -> None:
    triples = list(zip(asked, asked[1:], asked[2:], strict=False))
    known = Counter(zip(text, text[1:], text[2:], strict=False))
    wanted = rarity.keys(tuple(np.array(column) for column in zip(*triples, strict=True)), 5) if triples else []
    found = rarity.occurrences(np.array(wanted, dtype=np.int64), np.array(text, dtype=np.uint8), 5)
    assert found.tolist() == [known[triple] for triple in triples]


def test_no_trigram_is_lost_between_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = np.random.default_rng(0).integers(0, 7, 1000).astype(np.uint8)
    whole = np.concatenate(list(rarity.trigrams(stream, 7)))
    monkeypatch.setattr(rarity, "AT_ONCE", 13)
    assert np.array_equal(np.concatenate(list(rarity.trigrams(stream, 7))), whole)
    assert len(whole) == 998


def test_large_vocabularies_have_no_collisions() -> None:
    most = np.array([2**20 - 1])
    assert rarity.keys((most, most, most), 2**20)[0] == 2**60 - 1


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(0, 9))
def test_parts_are_equal_and_rise_with_frequency(counts: list[int], seed: int) -> None:
    count_P = np.array(counts)
    key_P = np.random.default_rng(seed).integers(0, 20, len(counts))
    part_P = rarity.parts_of(key_P, count_P)
    sizes = np.bincount(part_P, minlength=10)
    assert sizes.max() - sizes.min() <= 1
    for part in range(9):
        here, above = count_P[part_P == part], count_P[part_P > part]
        assert not len(here) or not len(above) or here.max() <= above.min()
    order = np.random.default_rng(seed).permutation(len(counts))
    if len(set(key_P.tolist())) == len(counts):
        assert np.array_equal(rarity.parts_of(key_P[order], count_P[order]), part_P[order])


# ---------------------------------------------------------------------------------------------- of runs

SPEC: dict[str, Any] = {"seeds": 1, "measure": {"memory": False, "quality": ["bits_per_byte", "rarity"]}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    folder = tmp_path_factory.mktemp("rarity")
    train = {"budget": {"steps": 60}, "evaluate": {"points": 1, "tokens": 512, "final_tokens": 2000}}
    models = {
        "moe": tiny_suites.suite()["models"]["moe"],
        "bpe": {"base": "moe", "data": {"tokenizer": {"bpe": 280}}},
    }
    found = tiny_suites.call_run(tiny_suites.write(folder, **SPEC, train=train, models=models))
    assert found.exit_code == 0, found.output
    return api.prepare_plan(folder / "tiny.yaml", results=folder / "results")


@pytest.mark.parametrize("model", ["moe", "bpe"])
def test_deciles_add_up_to_what_is_scored(ran: api.Planned, model: str) -> None:
    job = next(job for job in ran.graph.jobs if job.kind == "train" and job.model == model)
    run, folder = Run.model_validate(job.spec), Results(ran.results).job(job.id)
    corpus = loop.corpus_of(job, run.data_digest, ran.results)
    context = RunContext(run, load_state(run, folder), corpus)
    measured = rarity._measure(context)
    values = {record.metric: record.value for record in measured.records}
    names = [labelled("test.bits_by_rarity", decile=part) for part in range(1, 11)]
    assert list(values) == names
    rows = [row for row in measured.items or [] if row["size"]]
    assert all(row["value"] * 2**20 == int(row["value"] * 2**20) for row in rows), "few digits each"
    text = context.text
    scored = text.mask.copy()
    scored[:, 0] = False
    assert sum(row["size"] for row in rows) == corpus.tokenizer.token_bytes[text.targets[scored]].sum()
    for name in names:
        size = sum(row["size"] for row in rows if row["metric"] == name)
        assert values[name] == pytest.approx(sum(row["value"] for row in rows if row["metric"] == name) / size)
    assert values[names[0]] > values[names[-1]], "a trigram that was never seen costs more than the most frequent"


def test_items_are_read_and_the_same_for_every_model(ran: api.Planned) -> None:
    results = Results(ran.results)
    evidence = gather(results, next(iter(results.plans())))
    outcome = next(one for one in evidence.outcomes if one.model == "moe")
    metric = labelled("test.bits_by_rarity", decile=1)
    items = outcome.items[metric]
    assert outcome.values[metric] == pytest.approx(math.fsum(i.value for i in items) / math.fsum(i.size for i in items))


def test_what_was_trained_elsewhere_has_none() -> None:
    class Unknown:
        training_tokens, step = None, None

    records = rarity._measure(Unknown()).records  # type: ignore[arg-type]
    assert {record.reason for record in records} == {"what it was trained on is not known"}
    assert len(records) == 10


def test_it_is_asked_for_by_its_name(tmp_path: Path) -> None:
    text = """\
suite: x
question: Is it so?
seeds: 8
data: {source: stdlib, context: 64}
train: {budget: {tokens: 1.0e6}, batch_tokens: 1024}
models:
  dense: {layers: 2, width: 32, heads: 4, ffn: {kind: dense, hidden: 99}}
  wide: {base: dense, ffn: {hidden: 120}}
claims:
  c:
    compare: {treatment: wide, baseline: dense}
    metric: test.bits_by_rarity[decile=1]
    minus: test.bits_by_rarity[decile=11]
    test: {kind: superior, margin: 0%}
"""
    told = messages(tmp_path, text)
    assert "rarity" in told
    assert "11" in told


# ---------------------------------------------------------------------------------------------- how it would mislead


def gains(rare: Sequence[float], frequent: Sequence[float], margin: float | str) -> str:
    """The verdict on a gain of 4% of 8 bits on rare tokens against one of 6% of a third of a bit on frequent ones."""
    first, last = (labelled("test.bits_by_rarity", decile=part) for part in (1, 10))
    values = {"moe": {first: rare, last: frequent}, "dense": {first: [8.0] * 8, last: [1 / 3] * 8}}
    block = claim({"kind": "superior", "margin": margin}, last, minus=first)
    return judged(evidence_of(values, {"c": block})).state


def test_a_gain_in_percent_is_another_than_in_bits() -> None:
    """Less in percent on rare tokens, and more in bits: a suite that says the one must not be read as the other."""
    jitter = np.linspace(-1, 1, 8) / 1e4
    rare, frequent = (8 * (0.96 + jitter)).tolist(), ((0.94 + jitter) / 3).tolist()
    assert gains(rare, frequent, "0%") == "supported"
    assert gains(rare, frequent, 0.0) == "refuted"


def test_what_is_left_out_takes_words_with_it(tmp_path: Path) -> None:
    """A domain in an alphabet of its own is new in all it says; one in the others' words is not."""
    letters = [small_corpora.text(f"a/{i}", small_corpora.words(i, 400), domain="a") for i in range(8)]
    same = [small_corpora.text(f"b/{i}", one.body, domain="b") for i, one in enumerate(letters[:2])]
    digits = [small_corpora.text(f"c/{i}", bytes(b"0123456789" * 30), domain="c") for i in range(2)]
    corpus = small_corpora.corpus(train=[*letters, *same, *digits], tune=letters[:1], test=[*same, *digits], context=16)
    assert "unseen" not in corpus.facts.model_dump(mode="json")
    part = select(corpus, TrainingView(holdout=["b", "c"]), cache=tmp_path).facts
    assert part.unseen == {"b": 0.0, "c": 1.0}
    assert select(corpus, TrainingView(domains=["a", "b", "c"], limit=3800), cache=tmp_path).facts.unseen == {}
