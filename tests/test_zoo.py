"""Published systems: our counts against what their publishers say."""

from __future__ import annotations

import pytest

from moebench.costs import parameters
from moebench.spec.words import known_systems
from moebench.zoo import system


@pytest.mark.parametrize("name", known_systems())
def test_counts_are_within_half_a_percent_of_the_published(name: str) -> None:
    found = system(name)
    counted = parameters(found.architecture)
    assert found.published_total is not None
    assert counted.total == pytest.approx(found.published_total, rel=0.005)
    if found.published_active is not None:
        assert counted.active == pytest.approx(found.published_active, rel=0.005)


@pytest.mark.parametrize(("name", "total"), [("mixtral-8x7b", 46_702_792_704), ("mistral-7b", 7_241_732_096)])
def test_exact_totals(name: str, total: int) -> None:
    assert parameters(system(name).architecture).total == total


def test_mixtral_8x7b_by_hand() -> None:
    attention = 4096 * (32 * 128) * 2 + 4096 * (8 * 128) * 2
    expert, router, norms, tables = 3 * 4096 * 14336, 4096 * 8, 2 * 4096, 2 * 32000 * 4096
    shared = 32 * (attention + router + norms) + 4096 + tables
    counted = parameters(system("mixtral-8x7b").architecture)
    assert counted.total == shared + 32 * 8 * expert == 46_702_792_704
    assert counted.active == shared + 32 * 2 * expert == 12_879_925_248


def test_mistral_7b_is_mixtral_with_one_expert_and_no_router() -> None:
    mixtral, mistral = (parameters(system(name).architecture).total for name in ("mixtral-8x7b", "mistral-7b"))
    assert mixtral - mistral == 32 * (7 * 3 * 4096 * 14336 + 4096 * 8)


@pytest.mark.parametrize("name", known_systems())
def test_every_system_names_its_source(name: str) -> None:
    assert len(system(name).source) > 10
    assert 2017 <= system(name).year <= 2100


def test_an_unknown_system_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="mixtral-8x7b"):
        system("mixtral")
