"""The JSON schema of suites is the one the types give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from moebench.suite.schema import schema
from tests.support.suite_texts import PRINTED

HERE = Path(__file__).parent


def test_the_committed_schema_is_the_one_the_types_give() -> None:
    committed = (HERE.parent / "moebench.schema.json").read_text()
    assert json.loads(committed) == schema(), "run `moebench schema > moebench.schema.json`"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sede": 8}, {"seeds": 0}, {"seeds": "8"}, {"models": {"../x": {}}}, {"models": {"m": {"widht": 8}}},
        {"train": {"optimizer": {"lr": -1}}}, {"claims": {"a": {"test": {"kind": "superb"}}}},
        {"scales": {"nano": {"suite": "other"}}}, {"models": {"m": {"match": {"tolerance": "1x"}}}},
        {"models": {"m": {"ffn": {"kind": "moe", "capacity": 1}}}}, {"models": {"m": {"ffn": {"capacity_factor": 0}}}},
        {"models": {"m": {"ffn": {"activation": "swish"}}}}, {"models": {"m": {"ffn": {"balance_over": "token"}}}},
        {"models": {"m": {"ffn": {"every": 1}}}}, {"models": {"m": {"ffn": {"groups": 2.5}}}},
        {"models": {"m": {"match": {"step": 0}}}}, {"models": {"m": {"qk_norm": True}}}, {"tune": {"models": "dense"}},
    ],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(wrong: dict[str, Any]) -> None:
    good = YAML(typ="safe").load(PRINTED)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate({**good, **wrong})


def test_every_key_of_the_schema_is_described() -> None:
    made = schema()
    for name, definition in made["$defs"].items():
        assert definition.get("description"), name
        for key, field in definition.get("properties", {}).items():
            assert "description" in field or "$ref" in field, f"{name}.{key}"
