"""Tasks with known answers: the answers are right, what is held out never trains, and what is tested is told apart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from moebench.data.batches import evaluation_windows
from moebench.data.corpus import Corpus, corpus_digest
from moebench.data.documents import DataError, Text
from moebench.data.prepare import prepare
from moebench.data.sources.tasks import TasksData
from moebench.data.tasks import TASKS
from moebench.data.tasks.modular import Modular
from moebench.data.tasks.task import ALPHABET

EVERY = {kind: {"kind": kind} for kind in TASKS}
SMALL: dict[str, Any] = {"source": "tasks", "context": 32, "task_tokens": 8000, "questions": 64}


def data(tasks: Mapping[str, Any] = EVERY, **changes: Any) -> TasksData:
    return TasksData.model_validate({**SMALL, "tasks": tasks, **changes})


def texts(spec: TasksData) -> list[Text]:
    return list(spec.gather(Path()).texts)


def corpus(tmp_path: Path, tasks: Mapping[str, Any] = EVERY, **changes: Any) -> Corpus:
    return prepare(data(tasks, **changes), base=tmp_path, cache=tmp_path / "cache")


def question(text: Text) -> tuple[list[int], list[int]]:
    """Prompt and answer as symbols, without the mark of the task and what asks."""
    assert text.answer is not None
    prompt, answer = text.body[1 : text.answer.start].rstrip(b"|"), text.body[text.answer.start :]
    return [ALPHABET.index(byte) for byte in prompt], [ALPHABET.index(byte) for byte in answer]


def answers(kind: str, **spec: Any) -> list[tuple[list[int], list[int]]]:
    return [question(text) for text in texts(data({"it": {"kind": kind, **spec}}))]


# ---------------------------------------------------------------------------------------------- the answers are right


def test_a_fact_has_one_value_wherever_it_stands() -> None:
    asked = answers("facts", pairs=100)
    values = {tuple(prompt): answer for prompt, answer in asked}
    assert len(values) == 100
    assert all(values[tuple(prompt)] == answer for prompt, answer in asked)
    assert len({tuple(value) for value in values.values()}) > 90, "values are drawn, not shared"


def test_a_chain_applies_the_functions_that_stand_alone_in_training() -> None:
    asked = answers("chain", symbols=8, functions=8)
    tables = {(x, f): y for (x, f), (y,) in (one for one in asked if len(one[0]) == 2)}
    longer = [one for one in asked if len(one[0]) == 3]
    assert len(tables) == 64
    assert longer
    assert all(tables[tables[x, f], g] == y for (x, f, g), (y,) in longer)


def test_a_path_follows_the_edges_of_its_prompt() -> None:
    for prompt, (end,) in answers("path", edges=5, steps=2):
        edges = dict(zip(prompt[:-1:2], prompt[1:-1:2], strict=True))
        assert len(edges) == 5
        assert edges[edges[prompt[-1]]] == end


def test_sums_are_sums() -> None:
    assert all(sum(terms) % 10 == total for terms, (total,) in answers("modular", modulus=10, terms=3))


def test_copies_are_copies() -> None:
    assert all(prompt == answer for prompt, answer in answers("copy"))


def test_a_word_is_spelled_backwards_by_the_table_of_its_rule_with_its_ending() -> None:
    tables: dict[tuple[int, int], int] = {}
    endings: dict[int, list[int]] = {}
    for (rule, *word), answer in answers("transduce"):
        for letter, spelled in zip(reversed(word), answer[:-2], strict=True):
            assert tables.setdefault((rule, letter), spelled) == spelled
        assert endings.setdefault(rule, answer[-2:]) == answer[-2:]
    assert len({tuple(tables.get((rule, letter), 99) for letter in range(16)) for rule in endings}) == 8


def test_a_bracket_closes_the_last_that_is_open() -> None:
    for prompt, (closing,) in answers("brackets", kinds=4, depth=3):
        stack: list[int] = []
        for symbol in prompt:
            if symbol < 4:
                stack.append(symbol)
            else:
                assert stack.pop() == symbol - 4
            assert len(stack) <= 3
        assert closing == stack[-1] + 4


def test_the_ceiling_of_a_markov_task_is_what_the_best_reader_gets_and_no_more() -> None:
    spec = {"kind": "markov", "order": 1, "symbols": 4, "length": 8}
    asked = [question(text) for text in texts(data({"it": spec}, task_tokens=100_000))]
    counts = np.zeros((4, 4))
    for prompt, (last,) in asked:
        counts[prompt[-1], last] += 1
    share = counts.max(axis=1).sum() / counts.sum()
    rows = counts / counts.sum(axis=1, keepdims=True)
    bits = -(counts * np.log2(rows, where=rows > 0, out=np.zeros_like(rows))).sum() / counts.sum()
    task = data({"it": spec}).tasks["it"]
    assert task.ceiling().accuracy == pytest.approx(share, abs=0.01)
    assert task.ceiling().bits == pytest.approx(bits, abs=0.03)
    alone = counts.sum(axis=0) / counts.sum()
    assert task.chance().accuracy == pytest.approx(alone.max(), abs=0.01)
    assert task.ceiling().accuracy > task.chance().accuracy


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "markov"])
def test_chance_is_what_guessing_an_answer_of_that_form_gets(kind: str) -> None:
    task = data({"it": {"kind": kind}}).tasks["it"]
    chance = task.chance()
    assert chance.accuracy == pytest.approx(2**-chance.bits)
    assert task.ceiling().bits == 0


# ---------------------------------------------------------------------------------------------- what is tested on


def test_every_task_has_as_many_training_tokens() -> None:
    """Shares decide what is learned: a task with more of them would look easier."""
    tokens: dict[str, int] = {}
    for text in texts(data()):
        if text.split == "train":
            tokens[text.domain] = tokens.get(text.domain, 0) + 1 + len(text.body)
    assert tokens.keys() == EVERY.keys()
    assert all(0.99 * 8000 <= number <= 8000 for number in tokens.values()), tokens


def test_documents_of_all_tasks_stand_in_one_random_order() -> None:
    """Were the facts written in one order again and again, what stands before one would give it away."""
    training = [text for text in texts(data({"a": {"kind": "facts", "pairs": 64}})) if text.split == "train"]
    follows: dict[bytes, set[bytes]] = {}
    for one, other in pairwise(training):
        follows.setdefault(one.body, set()).add(other.body)
    assert np.mean([len(after) for after in follows.values()]) > 10
    mixed = [
        text.domain for text in texts(data({"a": {"kind": "copy"}, "b": {"kind": "facts"}})) if text.split == "train"
    ]
    assert 0.3 < np.mean([one != other for one, other in pairwise(mixed)]) < 0.6


@pytest.mark.parametrize("kind", ["chain", "modular"])
def test_a_fifth_of_what_can_be_learned_by_heart_never_trains_and_both_parts_are_tested(kind: str) -> None:
    """A sum that trained is recalled, not added: it would pass for arithmetic."""
    every = texts(data({"it": {"kind": kind}}, task_tokens=60_000, questions=200))
    trained = {text.body for text in every if text.split == "train"}
    tested = {
        seen: {t.body for t in every if t.split == "test" and t.answer and t.answer.seen is seen}
        for seen in (True, False)
    }
    tuned = {text.body for text in every if text.split == "tune" and text.answer and not text.answer.seen}
    assert tested[True] <= trained
    assert not tested[False] & trained
    assert not tuned & trained
    assert not tuned & tested[False]
    number = {"chain": 16 * 8**2, "modular": 1000}[kind]
    assert len(tuned | tested[False]) == round(0.2 * number)
    assert len(tested[True]) == 100


def test_what_is_recalled_is_tested_on_what_was_trained_and_is_no_leak(tmp_path: Path) -> None:
    found = corpus(tmp_path, {"recall": {"kind": "facts", "pairs": 64}})
    known = found.facts.tasks["recall"]
    assert known.tested_on == "training"
    assert known.questions == {"seen": 64, "new": 0}
    assert found.facts.leak_share == 0
    assert "recall is tested on what was trained" in found.facts.notes[0]


def test_a_question_that_is_to_be_new_and_trained_all_the_same_is_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of 50 bytes never find one: questions are shorter."""
    few = {"sums": {"kind": "modular", "modulus": 5}}
    assert corpus(tmp_path / "whole", few).facts.leak_share == 0
    monkeypatch.setattr(Modular, "besides", lambda self: self.all(None))  # type: ignore[arg-type]
    broken = corpus(tmp_path / "broken", few).facts
    assert broken.leak_share == 1
    assert "100.0% of the test split's questions that are to be new also occur" in " ".join(broken.notes)


def test_words_of_which_there_are_few_are_held_out_too(tmp_path: Path) -> None:
    """Drawn at random from 2,048 words, a test would be a quarter of words that were spelled in training."""
    words = {"words": {"kind": "transduce", "letters": 8, "rules": 4, "length": 3}}
    assert corpus(tmp_path, words, task_tokens=50_000, questions=256).facts.leak_share == 0
    with pytest.raises(DataError, match="those tested are nearly all there are"):
        texts(data({"words": {"kind": "transduce", "letters": 2, "rules": 2, "length": 2}}))


def test_a_task_with_too_few_questions_to_hold_some_out_is_refused() -> None:
    with pytest.raises(DataError, match="sums has 81 questions, and the 16 held out are too few"):
        texts(data({"sums": {"kind": "modular", "modulus": 3, "terms": 4}}))


@pytest.mark.parametrize(
    ("tasks", "changes", "message"),
    [
        (EVERY, {"context": 16}, "a question of copy with its answer has 18 bytes, more than the context, 16"),
        (EVERY, {"tokenizer": {"bpe": 300}}, "made of bytes"),
        ({"a": {"kind": "facts", "pairs": 5000}}, {}, "5,000 pairs need as many keys"),
        ({"a": {"kind": "brackets", "length": 8}}, {}, "may balance"),
        ({"a": {"kind": "path", "edges": 4, "steps": 4}}, {}, "ends where it began"),
        ({"a": {"kind": "chain", "hops": 1}}, {}, "greater than or equal to 2"),
        ({"a": {"kind": "markov", "length": 4, "order": 3}}, {}, None),
    ],
)
def test_what_cannot_be_asked_is_refused(tasks: Any, changes: Any, message: str | None) -> None:
    if message is None:
        data(tasks, **changes)
        return
    with pytest.raises(ValidationError, match=message):
        data(tasks, **changes)


# ---------------------------------------------------------------------------------------------- the answers travel


def test_the_answers_travel_with_the_windows(tmp_path: Path) -> None:
    found = corpus(tmp_path)
    windows = evaluation_windows(found, "test", tokens=10**6)
    asked = windows.asked
    assert asked is not None
    assert set(asked.task) == set(EVERY)
    by_name = {text.name: text for text in texts(data()) if text.split == "test"}
    documents = found.documents("test")
    for row, index in enumerate(windows.document.tolist()):
        text = by_name[documents[index].name]
        assert text.answer is not None
        assert bytes(windows.targets[row][asked.mask[row]].tolist()) == text.body[text.answer.start :]
        assert bytes(windows.targets[row][windows.mask[row]].tolist()) == text.body
        assert asked.seen[row] == text.answer.seen
        assert asked.counts[row] == (text.answer.seen == (text.domain == "facts"))
    assert asked.facts == {"facts": (512, 12.0)}


def test_a_stored_corpus_has_its_answers_and_one_whose_answers_were_changed_is_made_anew(tmp_path: Path) -> None:
    first = corpus(tmp_path)
    again = corpus(tmp_path)
    assert all((first.answers[split] == again.answers[split]).all() for split in ("train", "tune", "test"))
    (file,) = (tmp_path / "cache").glob("*/test.answers.bin")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert (corpus(tmp_path).answers["test"] == first.answers["test"]).all()
    assert file.read_bytes() == whole


def test_other_answers_are_other_data(tmp_path: Path) -> None:
    some = corpus(tmp_path / "some", {"a": {"kind": "copy"}})
    moved = {split: rows.copy() for split, rows in some.answers.items()}
    moved["test"]["start"] += 1
    tokens = {split: some.tokens(split) for split in moved}
    documents = {split: some.documents(split) for split in moved}
    assert corpus_digest(tokens, documents, answers=some.answers) == some.digest
    assert corpus_digest(tokens, documents, answers=moved) != some.digest


def test_the_same_spec_gives_the_same_questions_everywhere(tmp_path: Path) -> None:
    assert corpus(tmp_path).digest[:16] == "5b70d81750b0355c"


def test_no_model_reads_tasks_under_another_tokenizer(tmp_path: Path) -> None:
    spec = data({"a": {"kind": "copy"}}).model_copy(update={"tokenizer": {"bpe": 300}})
    with pytest.raises(DataError, match="made of bytes"):
        prepare(spec, base=tmp_path, cache=tmp_path / "cache")
