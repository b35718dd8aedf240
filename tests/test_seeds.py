"""Seeds: one number per (seed, purpose), stable for ever."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from moebench.seeds import derive, generator


def test_derive_is_the_first_eight_bytes_of_a_stated_hash() -> None:
    assert derive(3, "order.0") == int.from_bytes(hashlib.sha256(b"3/order.0").digest()[:8], "big")
    assert derive(0, "init") == 3038139617124118876  # a literal: a change here would change every run


@given(st.integers(0, 2**31), st.text(max_size=20))
def test_derived_seeds_fit_in_64_bits(seed: int, purpose: str) -> None:
    assert 0 <= derive(seed, purpose) < 2**64


def test_other_seed_or_purpose_gives_another_number() -> None:
    numbers = {derive(seed, purpose) for seed in range(20) for purpose in ("order.0", "order.1", "init")}
    assert len(numbers) == 60


def test_a_generator_is_fresh_and_draws_the_same_each_time() -> None:
    first, second = generator(5, "a"), generator(5, "a")
    assert first.bit_generator.random_raw(4).tolist() == second.bit_generator.random_raw(4).tolist()
    assert first.bit_generator.random_raw(4).tolist() != generator(5, "a").bit_generator.random_raw(4).tolist()


def test_drawing_more_for_one_purpose_does_not_shift_another() -> None:
    before = generator(5, "order.0").bit_generator.random_raw(4).tolist()
    generator(5, "init").bit_generator.random_raw(1000)
    assert generator(5, "order.0").bit_generator.random_raw(4).tolist() == before
