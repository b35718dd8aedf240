"""A resolved suite can be written out and read again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from moebench.jobs.recipe import Run
from moebench.planning.types import Plan
from moebench.store import open_results
from moebench.store.packing import unfold
from moebench.suite.model import DenseFFN, Match, ModelSpec, MoEFFN
from moebench.suite.schema import schema
from moebench.suite.types import Tune
from moebench.suite.write import resolved_yaml
from tests.support.suite_texts import KINDS, PRINTED, VARIANTS, load

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "text",
    [
        PRINTED,
        KINDS,
        PRINTED.replace("batch_tokens: 4096,", "batch_tokens: 4096, clip: null,"),
        PRINTED.replace("says: At equal", "says: 'true: \"[#] 1e5, \u00e9\U0001f600' # At equal"),
        PRINTED.replace("says: At equal", "says: '1e5' # At equal"),
        PRINTED.replace("says: At equal", "says: 'null' # At equal"),
        PRINTED.replace("dense:       {base", "dense:       {train: {optimizer: {lr: 1e-9}}, base"),
    ],
)
def test_the_resolved_suite_loads_to_the_same_spec(tmp_path: Path, text: str) -> None:
    spec = load(tmp_path, text)
    written = resolved_yaml(spec)
    assert load(tmp_path, written, "resolved.yaml") == spec
    for word in ("base:", "sweep:", "extends:", "scales:"):
        assert not re.search(rf"\b{word}", written)
    jsonschema.Draft202012Validator(schema()).validate(YAML(typ="safe").load(written))


def test_a_resolved_suite_keeps_the_name_of_its_scale(tmp_path: Path) -> None:
    spec = load(tmp_path, PRINTED + "scales: {nano: {seeds: 2}}\n", scale="nano")
    assert load(tmp_path, resolved_yaml(spec), "resolved.yaml") == spec


def since_2(field: Any) -> bool:
    """Whether a field is left out of dumps at its default: those that version 1 did not have."""
    return field.exclude_if is not None


NEW = {
    (cls.__name__, name)
    for cls in (DenseFFN, MoEFFN, Match, ModelSpec, Tune)
    for name, field in cls.model_fields.items()
    if since_2(field)
}


def test_every_new_field_comes_back_from_the_resolved_suite(tmp_path: Path) -> None:
    spec = load(tmp_path, VARIANTS)
    written = resolved_yaml(spec)
    assert load(tmp_path, written, "resolved.yaml") == spec
    jsonschema.Draft202012Validator(schema()).validate(YAML(typ="safe").load(VARIANTS))
    jsonschema.Draft202012Validator(schema()).validate(YAML(typ="safe").load(written))
    parts = [part for m in spec.models.values() for part in (m, m.ffn, m.match) if part] + [spec.tune]
    given = {(type(p).__name__, name) for p in parts for name in p.model_dump(exclude_defaults=True) if p}
    assert given >= NEW
    assert len(NEW) >= 20


def test_dumps_of_what_version_1_could_say_hold_no_new_key(tmp_path: Path) -> None:
    """Run and plan ids are hashes of dumps: a new key at its default would make every finished run count as missing."""
    old = load(tmp_path, PRINTED)
    dumps = [part.model_dump(mode="json") for m in old.models.values() for part in (m, m.ffn, m.match) if part]
    assert not {name for _, name in NEW} & {key for dump in dumps for key in dump}


@pytest.mark.parametrize(
    "path", sorted((HERE.parent / "results/reference").glob("*/*/facts.json")), ids=lambda path: path.parent.name
)
def test_plans_of_version_1_keep_their_spec_their_id_and_the_ids_of_their_runs(path: Path) -> None:
    (stored,) = unfold(json.loads(path.read_text()))["plans"]
    plan = Plan.model_validate(stored["plan"])
    dumped = plan.model_dump(mode="json")
    for key in ("spec", "models", "claim_hashes"):
        assert dumped[key] == stored["plan"][key], key
    for name, model in dumped["models"].items():
        facts = model["architecture"].get("router")
        assert (facts is None) == (stored["plan"]["models"][name]["architecture"]["ffn"]["kind"] == "dense")
    source = open_results(path.parent)
    assert source.plans()[0].plan.id == plan.id
    assert plan.runs
    for planned in plan.runs:
        assert Run.model_validate(source.job(planned.id).spec()).id == planned.id
