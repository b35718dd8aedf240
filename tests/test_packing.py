"""Packed numbers and folded JSON read back exactly, and what is not so written is refused."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.store.packing import fold, number_of, number_text, pack, unfold, unpack

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NUMBER = FINITE | SINGLE | st.integers(-(2**63) + 1, 2**63 - 1)
TEXT = st.text("abcdefgh", max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=30,
)


def exactly(value: object) -> str:
    """Tells 1 from 1.0 and 0.0 from -0.0, but not one order of keys from another."""
    return json.dumps(value, sort_keys=True)


@given(NUMBER)
def test_a_number_reads_back_exactly(value: float) -> None:
    assert exactly(number_of(number_text(value))) == exactly(value)


@given(
    st.lists(NUMBER, max_size=30)
    | st.lists(st.integers(0, 10**6), max_size=30)
    | st.lists(st.integers(0, 10**10).map(lambda n: n / 1e9), max_size=30)
    | st.lists(st.integers(0, 2**45).map(lambda n: n / 2**33), max_size=30)
)
def test_many_numbers_read_back_exactly_from_one_word(values: list[float]) -> None:
    word = pack(values)
    assert exactly(unpack(word)) == exactly(values)
    assert word.isascii()
    assert not set(word) & set(' \t\n"\\')


def test_the_forms_are_short() -> None:
    assert number_text(struct.unpack("<f", struct.pack("<f", 0.1))[0]) == "0.1f"
    assert number_text(0.1) == "0.1"
    assert pack([0, 63, 1]) == "iBA_B"
    assert pack([2e-9, 1e-9]) == "nED"  # 2, then -1
    assert len(pack([749.0499851573259] * 100)) < 810


@pytest.mark.parametrize("values", [[math.nan], [1.0, math.inf]])
def test_what_is_not_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        pack(values)


@pytest.mark.parametrize(
    "word", ["", "x1", "i", "iA", "iCABC", "iB!", "n!", "ng", "g99:BA", "g:BA", "w1,nan", "w1_0", "winf"]
)
def test_no_other_word_reads(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(word)


@given(JSON)
def test_json_unfolds_to_what_was_folded(value: object) -> None:
    assert exactly(unfold(json.loads(json.dumps(fold(value))))) == exactly(value)


def test_what_repeats_stands_once() -> None:
    machine = {"machine": "2-core x86_64 CPU", "threads": 1, "packages": {"torch": "2.13.0+cpu"}, "notes": "-" * 50}
    rows = [{"seed": seed, "environment": machine, "at": {"day": seed, "year": 2026}} for seed in range(8)]
    text = json.dumps(fold({"a": rows, "b": [machine, machine]}))
    assert text.count("2-core") == 1
    assert text.count("2026") == 1


def test_keys_of_folded_json_are_not_folded() -> None:
    with pytest.raises(ValueError, match="only folded JSON has"):
        fold({"a": {"$": 0}, "b": [{"$runs": 1}]})


def test_what_unfolds_without_end_is_refused() -> None:
    shared: list[object] = ["x" * 30]
    shared += [[{"$": n}] * 10 for n in range(30)]
    with pytest.raises(ValueError, match="unfolds to more"):
        unfold({"shared": shared, "value": {"$": 30}})
    with pytest.raises(ValueError, match="unfolds to more"):
        unfold({"shared": [], "value": {"$rows": 10**12, "of": {"$runs": [[1, 10**12]]}}})


@pytest.mark.parametrize(
    "folded", [{}, {"shared": []}, {"shared": [], "value": {"$": 0}}, {"shared": [], "value": {"$rows": 2, "of": [1]}}]
)
def test_no_other_json_unfolds(folded: object) -> None:
    with pytest.raises((ValueError, KeyError, IndexError, TypeError)):
        unfold(folded)
