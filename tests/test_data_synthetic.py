"""Markov sources: the entropy by hand, and the true model's cost of the text drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moebench.data.prepare import prepare
from moebench.data.sources.synthetic import (
    SyntheticData,
    entropy_bits,
    entropy_rate_bits,
    sample,
    source_alphabet,
    source_table,
    stationary,
    transitions,
    uniform,
)
from moebench.seeds import generator

SPEC = SyntheticData(source="synthetic", sources=3, symbols=6, order=2, documents=300, document_bytes=500)


def h(p: float) -> float:
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def test_entropy_of_a_two_state_chain_by_hand() -> None:
    table = np.array([[0.9, 0.1], [0.3, 0.7]])  # keeps (3/4, 1/4): 3/4 * 0.1 = 1/4 * 0.3
    assert stationary(table) == pytest.approx([0.75, 0.25], abs=1e-12)
    assert entropy_rate_bits(table, stationary(table)) == pytest.approx(0.75 * h(0.1) + 0.25 * h(0.3), abs=1e-12)
    assert entropy_bits(stationary(table)) == pytest.approx(h(0.25), abs=1e-12)


def test_a_fair_coin_of_any_order_costs_one_bit_and_a_sure_thing_none() -> None:
    for order in (1, 2, 3):
        table = np.full((2**order, 2), 0.5)
        assert entropy_rate_bits(table, stationary(table)) == pytest.approx(1.0)
    assert entropy_bits(np.array([[1.0, 0.0]])).tolist() == [0.0]


def test_second_order_states_shift_oldest_first() -> None:
    # After (a, b) comes a almost surely when a != b: the chain repeats 0 1 0 1 or rests at 00 or 11.
    table = np.array([[0.5, 0.5], [0.99, 0.01], [0.01, 0.99], [0.5, 0.5]])
    kept = stationary(table)
    shifted = np.zeros(4)
    for state in range(4):
        for symbol in range(2):
            shifted[(2 * state + symbol) % 4] += kept[state] * table[state, symbol]
    assert shifted == pytest.approx(kept, abs=1e-12)
    assert kept[1] > 5 * kept[0]


def test_a_periodic_chain_is_refused() -> None:
    table = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    with pytest.raises(ArithmeticError):
        stationary(table)


def test_tables_are_distributions_without_zeros() -> None:
    table = transitions(generator(0, "x").bit_generator, symbols=5, order=3)
    assert table.shape == (125, 5)
    assert table.sum(axis=1) == pytest.approx(np.ones(125))
    assert table.min() >= 0.01 / 5


def test_uniform_draws_fill_the_unit_interval() -> None:
    drawn = uniform(generator(0, "x").bit_generator, 100, 200)
    assert 0 <= drawn.min() < 0.001 < 0.999 < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)


def test_samples_follow_the_table_from_the_first_symbol() -> None:
    table = np.array([[0.9, 0.1], [0.3, 0.7]])
    drawn = sample(generator(0, "x").bit_generator, table, stationary(table), documents=4000, length=20)
    assert drawn.mean(axis=0) == pytest.approx(np.full(20, 0.25), abs=0.03)
    after_one = drawn[:, 1:][drawn[:, :-1] == 1]
    assert after_one.mean() == pytest.approx(0.7, abs=0.02)


def test_the_true_model_costs_the_stated_entropy(tmp_path: Path) -> None:
    corpus = prepare(SPEC, base=tmp_path, cache=tmp_path)
    total, count = 0.0, 0
    for split in ("train", "tune", "test"):
        for one in corpus.documents(split):
            number = int(one.domain.removeprefix("source-"))
            symbol_of = np.zeros(256, dtype=np.int64)
            symbol_of[source_alphabet(SPEC, number)] = np.arange(SPEC.symbols)
            symbols = symbol_of[corpus.tokens(split)[one.start : one.stop]]
            states = symbols[:-2] * SPEC.symbols + symbols[1:-1]
            total -= np.log2(source_table(SPEC, number)[states, symbols[2:]]).sum()
            count += len(states)
    assert count == 300 * 498
    assert corpus.facts.entropy_bits_per_byte is not None
    # The standard deviation of a symbol's cost is about 1.3 bits: four standard errors.
    assert total / count == pytest.approx(corpus.facts.entropy_bits_per_byte, abs=4 * 1.3 / np.sqrt(count))


def test_each_source_is_a_domain_with_its_own_alphabet_in_every_split(tmp_path: Path) -> None:
    corpus = prepare(SPEC, base=tmp_path, cache=tmp_path)
    assert corpus.facts.domains == ("source-0", "source-1", "source-2")
    for split in ("train", "tune", "test"):
        assert {one.domain for one in corpus.documents(split)} == set(corpus.facts.domains)
    alphabets = {bytes(sorted(source_alphabet(SPEC, number).tolist())) for number in range(3)}
    assert len(alphabets) == 3
    assert all(len(set(alphabet)) == SPEC.symbols and min(alphabet) > 32 for alphabet in alphabets)


def test_the_same_spec_gives_the_same_bytes_and_another_spec_others() -> None:
    first, again = SPEC.gather(Path()), SPEC.gather(Path())
    assert first == again
    other = SPEC.model_copy(update={"symbols": 7}).gather(Path())
    assert first.texts[0].body != other.texts[0].body


def test_the_note_adds_the_cost_of_the_start() -> None:
    spec = SPEC.model_copy(update={"sources": 1})
    found = spec.gather(Path())
    rate = found.entropy_bits_per_byte
    assert rate is not None
    start = float(entropy_bits(stationary(source_table(spec, 0))))
    assert f"whole documents cost {(start + 498 * rate) / 500:.4f} bits" in found.notes[1]


def test_more_sources_than_documents_use_a_document_each() -> None:
    spec = SPEC.model_copy(update={"sources": 64, "documents": 10})
    assert len(spec.gather(Path()).texts) == 10
