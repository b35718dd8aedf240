"""One number or the reason why there is none; names with labels; what every metric says of itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moebench.records import METRICS, Record, labelled, metric_of, parse_metric, record

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=12)


def test_a_record_has_a_value_or_a_reason() -> None:
    assert record("train.tokens", 4096, step=1).value == 4096
    assert record("train.tokens", reason="not run").value is None
    for value, reason in ((None, None), (1.0, "and a reason")):
        with pytest.raises(ValidationError, match="a value or a reason"):
            record("train.tokens", value, reason=reason)


def test_zero_is_a_measurement() -> None:
    assert record("routing.dead_experts", 0).value == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_measurement(value: float) -> None:
    with pytest.raises(ValidationError):
        record("test.bits_per_byte", value)


def test_records_are_stamped_with_the_version_of_their_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "train.tokens", METRICS["train.tokens"].model_copy(update={"version": 7}))
    assert record("train.tokens", 1).version == 7


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record("train.tokens", 1).value = 2  # type: ignore[misc]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Record.model_validate({"metric": "train.tokens", "value": 1, "unit": "tokens"})


def test_an_unknown_metric_or_label_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"train\.tokens"):
        record("train.token", 1)
    with pytest.raises(KeyError, match="no label expert; allowed: layer"):
        record("init.ffn_output_rms[expert=1]", 1.0)
    with pytest.raises(KeyError, match="allowed: none"):
        record("train.tokens[layer=1]", 1)


def test_labels_are_read_from_brackets() -> None:
    assert parse_metric("routing.tokens[layer=0, expert=3]") == ("routing.tokens", {"layer": "0", "expert": "3"})
    assert parse_metric("train.tokens") == ("train.tokens", {})


@pytest.mark.parametrize(
    "name", ["", "Train.tokens", "a..b", "a[b]", "a[=1]", "a[b=]", "a[b=1", "a[b=1]]", "a b", "a[b=1]c"]
)
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_metric(name)


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), WORD, max_size=4))
def test_labels_survive_the_way_through_a_name(labels: dict[str, str]) -> None:
    assert parse_metric(labelled("routing.tokens", **labels)) == ("routing.tokens", labels)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric_of(name) is metric
    assert metric.unit
    assert len(metric.says) > 10
    assert not metric.says.endswith(".")


def test_a_metric_with_labels_is_found_with_and_without_them() -> None:
    assert metric_of("test.bits_per_byte[domain=code]") is metric_of("test.bits_per_byte")
