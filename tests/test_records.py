"""One number or the reason why there is none; names with labels; what every metric says of itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moebench.metrics import METRICS, impossible, metric_of, record
from moebench.metrics.metric import Record
from moebench.metrics.ref import MetricRef, labelled

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
    ref = MetricRef.parse("routing.tokens[layer=0, expert=3]")
    assert ref == MetricRef("routing.tokens", (("layer", "0"), ("expert", "3")))
    assert (ref.group, ref.get("expert"), ref.get("domain")) == ("routing", "3", None)
    assert str(ref) == "routing.tokens[layer=0,expert=3]"
    assert MetricRef.parse("train.tokens") == MetricRef("train.tokens")


@pytest.mark.parametrize(
    "name", ["", "Train.tokens", "a..b", "a[b]", "a[=1]", "a[b=]", "a[b=1", "a[b=1]]", "a b", "a[b=1]c"]
)
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write"):
        MetricRef.parse(name)


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), WORD, max_size=4))
def test_labels_survive_the_way_through_a_name(labels: dict[str, str]) -> None:
    ref = MetricRef.parse(labelled("routing.tokens", **labels))
    assert ref == MetricRef.of("routing.tokens", **labels)
    assert (ref.base, dict(ref.labels)) == ("routing.tokens", labels)


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


@pytest.mark.parametrize(
    ("metric", "value", "why"),
    [
        ("speed.train_utilisation", 1.07, "1.07 is above 1: impossible"),
        ("routing.dropped_share", 1.07, "1.07 is above 1: impossible"),
        ("routing.entropy", -0.1, "-0.1 is below 0: impossible"),
        ("test.bits_per_byte[domain=code]", -0.5, "-0.5 is below 0: impossible"),
        ("speed.decode_step_s[batch=8]", 0, "0 is not above 0: impossible"),
        ("speed.prefill_s[tokens=64]", -1e-9, "-1e-09 is not above 0: impossible"),
        ("memory.train_peak_bytes", -1, "-1 is below 0: impossible"),
        ("routing.dead_experts", 0.5, "0.5 is no whole number: impossible"),
        ("routing.max_over_mean", 0.5, "0.5 is below 1: impossible"),
    ],
)
def test_an_impossible_value_is_absent_with_its_reason(metric: str, value: float, why: str) -> None:
    made = record(metric, value)
    assert (made.value, made.reason) == (None, f"{metric} {why}")
    assert impossible(metric, value) == made.reason


@pytest.mark.parametrize(
    ("metric", "value"),
    [("routing.entropy", 1 + 1e-9), ("routing.dropped_share", 0), ("train.model_flops", 1.5e19), ("train.tokens", 4e6)],
)
def test_rounding_and_bounds_themselves_are_possible(metric: str, value: float) -> None:
    assert record(metric, value).value == value


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_range(name: str) -> None:
    within = METRICS[name].within
    assert within.low is not None or within.above is not None or within.whole


@pytest.mark.parametrize("value", [True, "1.5", "0"])
def test_a_word_or_a_yes_is_no_value(value: object) -> None:
    for field in ("value", "step", "version"):
        row = {"metric": "train.tokens", "value": 1, "version": 1, field: value}
        with pytest.raises(ValidationError, match="valid"):
            Record.model_validate(row)
