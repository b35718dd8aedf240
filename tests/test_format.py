"""Numbers are written one way: digits by the half-width, units and signs on every interval, prefixes for quantities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.claims.verdict import Verdict
from moebench.format import MINUS, NBSP, bracket, digits_for, interval, significant
from moebench.text import shown_path


def plain(text: str) -> str:
    return text.replace(NBSP, " ").replace(MINUS, "-")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((1.028, 0.985, 1.07, "ratio"), "1.028× [0.985, 1.070]"),
        ((0.1, 0.0004, 0.2, "%"), "+0.10% [0.00, +0.20]"),
        ((-123_456.0, -234_567.0, -12_345.0, "bytes"), "-123 [-235, -12] kB"),
        ((1_284_000.0, 1_200_000.0, 1_368_000.0, "bytes"), "1.284 [1.200, 1.368] MB"),
        ((0.00194, 0.0018, 0.0021, "s"), "1.94 [1.80, 2.10] ms"),
        ((7.02e5, 6.9e5, 7.1e5, "FLOPs/token"), "702 [690, 710] kFLOPs/token"),
        ((-0.02613, -0.02696, -0.0253, "bits/byte per doubling of ffn.experts"),
         "-0.02613 [-0.02696, -0.02530] bits/byte per doubling of ffn.experts"),
        ((1.06, "not reached", 1.19, "ratio"), "1.06× [not reached, 1.19]"),
        ((5.0, 5.0 - 1e-13, 5.0 + 1e-13, "%"), "+5.00% [+5.00, +5.00]"),
        ((0.0, -1.0, 1.0, "%"), "0.0% [-1.0, +1.0]"),
    ],
)  # fmt: skip
def test_an_interval_has_its_digits_unit_and_sign(args: tuple[float, float, float, str], text: str) -> None:
    assert plain(interval(*args)) == text


def test_an_interval_without_an_estimate_has_its_unit_too() -> None:
    assert plain(bracket(-1.1, -0.74, "%")) == "[-1.10, -0.74]%"
    assert plain(bracket(-0.0306, -0.0211, "bits/byte", signed=True)) == "[-0.0306, -0.0211] bits/byte"


@given(st.floats(1e-6, 1e6))
def test_two_digits_of_the_half_width_are_shown(half: float) -> None:
    shown = f"{half:.{digits_for(half)}f}"
    figures = shown.replace(".", "").lstrip("0")
    assert len(figures) >= 2
    assert half >= 100 or len(figures) == 2 or float(shown) >= 10


def test_without_an_interval_three_digits_are_shown() -> None:
    assert [significant(x) for x in (0.99949, 0.012345, 123.4, 1234.5, 0.0)] == ["0.999", "0.0123", "123", "1,234", "0"]


def verdict(**fields: object) -> Verdict:
    facts = {
        "id": "c", "says": "It is so.", "state": "inconclusive", "kind": "ratio_at_least", "family": "exploratory",
        "metric": "flops_to_quality", "treatment": "moe", "baseline": "dense", "unit": "ratio", "asked": ">= 1.2x",
        "reason": "", "scope": "",
    }  # fmt: skip
    return Verdict.model_validate({**facts, **fields})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"estimate": 1.06, "low": 0.0, "high": 1.19}, "1.06× [not reached, 1.19]"),
        ({"estimate": 1.06, "low": 0.9, "unbounded": ("high",)}, "1.06× [0.90, baseline not reached]"),
        ({"unbounded": ("estimate", "high"), "low": 1.2}, "baseline not reached"),
        ({"estimate": 0.0, "low": 0.0, "high": 1.12}, "not reached; at most 1.12×"),
        ({"kind": "superior", "metric": "test.bits_per_byte", "unit": "%", "estimate": -1.0, "low": -3.5,
          "unbounded": ("high",)}, "-1.0% [-3.5, diverged]"),
        ({"kind": "superior", "metric": "test.bits_per_byte", "unit": "bits/byte", "estimate": -1.0, "high": 0.5,
          "unbounded": ("low",)}, "-1.0 [baseline diverged, +0.5] bits/byte"),
        ({"kind": "trend", "metric": "test.bits_per_byte", "unit": "bits/byte per doubling of x", "estimate": -1.0,
          "low": -2.0, "unbounded": ("high",)}, "-1.0 [-2.0, ∞] bits/byte per doubling of x"),
        ({"kind": "exact", "metric": "cost.total_params", "unit": "parameters", "estimate": 117_200.0, "low": 117_200.0,
          "high": 117_200.0}, "117,200 parameters"),
        ({}, ""),
    ],
)  # fmt: skip
def test_an_end_that_is_not_a_number_says_what_it_means(fields: dict[str, object], text: str) -> None:
    assert plain(verdict(**fields).effect) == text


def test_an_infinite_half_width_leaves_digits_alone() -> None:
    assert digits_for(math.inf) == 3


def test_a_path_is_shown_without_the_folders_of_this_machine() -> None:
    given = ("/home/me/ours.csv", "~/ours.csv", "logs/ours.csv", "allenai/OLMoE-1B-7B-0924")
    assert [shown_path(path) for path in given] == ["ours.csv", "ours.csv", "logs/ours.csv", "allenai/OLMoE-1B-7B-0924"]
