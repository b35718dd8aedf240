"""Splits: disjoint, by group, of the stated sizes, and a function of names and bytes alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.data.documents import DataError, Gathered, Text
from moebench.data.splits import HELD_OUT_SHARE, SPLITS, grouped, split
from tests.support.small_corpora import text, words


def many(count: int = 200, size: int = 400, domains: int = 1) -> list[Text]:
    return [text(f"{i % domains}/{i}", words(i, size), domain=f"d{i % domains}") for i in range(count)]


def names(texts: list[Text]) -> set[str]:
    return {one.name for one in texts}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=3, max_size=60), st.integers(1, 4))
def test_three_splits_disjoint_complete_and_not_empty(sizes: list[int], domains: int) -> None:
    texts = [text(f"{i}", b"%d:" % i + words(i, size), domain=f"d{i % domains}") for i, size in enumerate(sizes)]
    splits = split(Gathered(texts=texts))
    assert sorted(one.name for name in SPLITS for one in splits[name]) == sorted(one.name for one in texts)
    assert all(splits[name] for name in SPLITS)


def test_held_out_shares_are_reached_in_every_domain() -> None:
    splits = split(Gathered(texts=many(domains=3)))
    for domain in ("d0", "d1", "d2"):
        share = {name: sum(len(one.body) for one in splits[name] if one.domain == domain) for name in SPLITS}
        for name in ("tune", "test"):
            assert share[name] / sum(share.values()) == pytest.approx(HELD_OUT_SHARE, abs=0.02)


def test_the_choice_does_not_depend_on_the_order_of_the_documents() -> None:
    texts = many()
    shuffled = random.Random(0).sample(texts, len(texts))
    assert {k: names(v) for k, v in split(Gathered(texts=texts)).items()} == {
        k: names(v) for k, v in split(Gathered(texts=shuffled)).items()
    }


def test_a_new_document_moves_few_others() -> None:
    texts = many()
    before, after = split(Gathered(texts=texts)), split(Gathered(texts=[*texts, text("new", words(999, 400))]))
    moved = sum(len(names(before[name]) - names(after[name])) for name in SPLITS)
    assert moved <= 4


def test_texts_of_one_group_stay_together() -> None:
    texts = [
        text(f"{kind}/{i}", words(1000 * k + i, 400), domain=kind, group=str(i))
        for i in range(100)
        for k, kind in enumerate(("code", "docstrings"))
    ]
    splits = split(Gathered(texts=texts))
    groups = [{one.group for one in splits[name]} for name in SPLITS]
    assert all(len(splits[name]) == 2 * len(group) for name, group in zip(SPLITS, groups, strict=True))


def test_near_duplicates_stay_together_and_nothing_leaks() -> None:
    originals = many(60, 1000)
    copies = [text(f"copy-{one.name}", one.body[100:] + words(7000 + i, 50)) for i, one in enumerate(originals)]
    splits = split(Gathered(texts=[*originals, *copies]))
    for name in SPLITS:
        own = names(splits[name])
        assert {f"copy-{one}" for one in own if not one.startswith("copy-")} == {
            one for one in own if one.startswith("copy-")
        }


def test_independent_documents_are_not_compared() -> None:
    texts = [text(str(i), b"the same" * 50) for i in range(30)]
    assert len(split(Gathered(texts=texts, independent=True))["test"]) == 3
    with pytest.raises(DataError, match="1 groups of near-duplicates"):
        split(Gathered(texts=texts))


def test_too_few_documents_are_refused_with_advice() -> None:
    with pytest.raises(DataError, match="at least three documents"):
        split(Gathered(texts=many(2)))


def test_grouping_is_transitive() -> None:
    texts = [text(str(i), b"x", group="g" if i in (0, 5) else None) for i in range(6)]
    assert grouped(texts, [(4, 3), (1, 3), (2, 5)]) == [[0, 2, 5], [1, 3, 4]]


def test_domains_of_one_or_two_documents_are_pooled() -> None:
    texts = [text(str(i), words(i, 500), domain=f"d{i}") for i in range(30)]
    splits = split(Gathered(texts=texts))
    assert [len(splits[name]) for name in SPLITS] == [24, 3, 3]
