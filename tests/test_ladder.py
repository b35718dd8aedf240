"""Ladders in a suite: models that grow together, rung by rung, what is refused, and what a plan says of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.types import SuiteSpec
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites

LADDER = {"width": [8, 16, 32], "heads": [2, 2, 4], "ffn.hidden": [16, 32, 64]}
RUNGS = ["dense.width-8", "dense.width-16", "dense.width-32"]
SHAPE = {"layers": 2, "width": 16, "heads": 2, "ffn": {"kind": "dense"}}
WORTH = {
    "says": "It is.", "metric": "effective_params", "target": {"ladder": "dense"},
    "compare": {"treatment": "moe", "baseline": "dense.width-16"}, "test": {"kind": "ratio_at_least", "value": 2},
}  # fmt: skip


def models(ladder: dict[str, Any], **more: Any) -> dict[str, Any]:
    moe = {**SHAPE, "ffn": {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}}
    return copy.deepcopy({"moe": moe, "dense": {**SHAPE, "ladder": ladder}}) | {
        name: copy.deepcopy(model) for name, model in more.items()
    }  # copies: no YAML anchors


def loaded(folder: Path, ladder: dict[str, Any] = LADDER, *, claim: Any = WORTH, **more: Any) -> SuiteSpec:
    changes = {"claims": {"worth": claim}} if claim else {}
    return load_suite(tiny_suites.write(folder, models=models(ladder, **more), **changes)).spec


def test_a_rung_takes_one_value_of_every_list(tmp_path: Path) -> None:
    spec = loaded(tmp_path, {**LADDER, "train.optimizer.lr": [4e-2, 2e-2, 1e-2]})
    assert spec.ladders == {"dense": RUNGS}
    assert spec.sweeps["dense"] == {name: {"width": size} for name, size in zip(RUNGS, (8, 16, 32), strict=True)}
    top = spec.decoders["dense.width-32"]
    assert (top.width, top.heads, top.ffn.hidden) == (32, 4, 64)
    assert [one.train.optimizer.lr for one in map(spec.decoders.__getitem__, RUNGS) if one.train] == [4e-2, 2e-2, 1e-2]


def test_a_value_may_be_a_list_where_it_names_no_rung(tmp_path: Path) -> None:
    wsd = {"decay": "wsd", "cooldown": "20%"}
    climbing = {**LADDER, "train.schedule": [1, 2, 3]}
    with pytest.raises(SuiteError, match="schedule"):
        loaded(tmp_path, climbing)
    shape = {
        **SHAPE,
        "train": {"schedule": wsd},
        "ladder": {**LADDER, "train.schedule.branches": [[], ["40%", "60%"], []]},
    }
    spec = loaded(tmp_path, long=shape)
    trains = [spec.decoders[f"long.width-{size}"].train for size in (8, 16, 32)]
    assert [len(train.schedule.branches) for train in trains if train and train.schedule] == [0, 2, 0]
    with pytest.raises(SuiteError, match="must be a number or a plain word, not a list"):
        loaded(tmp_path, {"ffn.hidden": [[8], [16], [32]]}, claim=None)


def test_the_resolved_suite_has_its_ladders(tmp_path: Path) -> None:
    spec = loaded(tmp_path)
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(spec))
    assert load_suite(again).spec == spec


def test_mixtures_climb_beside_their_rungs(tmp_path: Path) -> None:
    family = {
        "base": "moe",
        "ladder": {**{key: LADDER[key] for key in ("width", "heads")}, "match.to": RUNGS},
        "match": {"on": "train_flops", "by": "ffn.expert_hidden", "step": 1, "tolerance": "20%"},
    }
    spec = loaded(tmp_path, family=family)
    matched = [spec.decoders[f"family.width-{size}"].match for size in (8, 16, 32)]
    assert [match.to for match in matched if match is not None] == RUNGS


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ({"width": [8, 16]}, "a ladder has 3 to 12 rungs, not 2"),
        ({"width": [*range(2, 30, 2)]}, "a ladder has 3 to 12 rungs, not 14"),
        ({"width": [8, 16, 32], "heads": [2, 2]}, "'heads' has 2 values and 'width' has 3"),
        ({"width": [8, 32, 16]}, "16 comes after 32"),
        ({"width": [8, 16, 16]}, "16 comes after 16"),
        ({"ffn.kind": ["dense", "moe", "moe"]}, "the first key of a ladder names its rungs and needs numbers"),
        ({"width": 8}, "ladder needs a list of values for 'width'"),
        ({}, "ladder must map keys to lists of values"),
        ({"widths": [8, 16, 32]}, "unknown key 'widths'"),
        ({"base": ["moe", "moe", "moe"]}, "'base' cannot be swept"),
    ],
)
def test_what_is_no_ladder_is_refused(tmp_path: Path, ladder: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        loaded(tmp_path, ladder, claim=None)


def test_a_model_is_swept_or_a_ladder(tmp_path: Path) -> None:
    both = {**SHAPE, "ladder": LADDER, "sweep": {"layers": [1, 2]}}
    with pytest.raises(SuiteError, match="a model is swept or a ladder, not both"):
        loaded(tmp_path, both=both)
    with pytest.raises(SuiteError, match="base cannot be 'dense', which is a ladder of several models"):
        loaded(tmp_path, more={"base": "dense"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": {"ladder": "moe"}}, "no ladder of this suite is called 'moe'"),
        ({"target": {"ladder": "dens"}}, "no ladder of this suite is called 'dens'"),
        ({"target": {"reach": "moe"}}, "effective_params takes a target of another form"),
        ({"target": {}}, "one of the two"),
        ({"target": {"reach": 2.0, "ladder": "dense"}}, "one of the two"),
        ({"target": None}, "effective_params needs a target"),
        ({"metric": "flops_to_quality"}, "flops_to_quality takes a target of another form"),
        ({"metric": "test.bits_per_byte"}, "test.bits_per_byte takes no target"),
        ({"compare": {"treatment": "moe", "baseline": "dense"}}, "dense is a ladder of several models"),
        ({"target": {"ladder": "mixed"}}, "mixed.width-8 is a mixture"),
    ],
)
def test_a_claim_names_a_ladder_of_dense_models(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    mixed = {"base": "moe", "ladder": {"width": [8, 16, 32]}}
    with pytest.raises(SuiteError, match=message):
        loaded(tmp_path, claim={**WORTH, **change}, mixed=mixed)


def test_a_rung_no_larger_than_the_one_below_is_refused_when_planned(tmp_path: Path) -> None:
    ladder = {"width": [8, 10, 12], "heads": [2, 1, 2], "ffn.hidden": [64, 16, 16]}
    with pytest.raises(
        SuiteError, match=r"dense\.width-10 has [0-9,]+ parameters and dense\.width-8, the rung below it"
    ):
        tiny_suites.planned(tmp_path, models=models(ladder))


def test_a_plan_names_dimensions_that_do_not_grow(tmp_path: Path) -> None:
    plan = tiny_suites.planned(tmp_path, models=models(LADDER)).plan
    assert [note for note in plan.warnings if note.startswith("dense:")] == [
        "dense: layers do not grow, so its rungs are shapes as well as sizes"
    ]
    wavy = {**LADDER, "layers": [1, 2, 3], "heads": [4, 2, 4]}
    (tmp_path / "wavy").mkdir()
    plan = tiny_suites.planned(tmp_path / "wavy", models=models(wavy)).plan
    assert "dense: heads do not grow everywhere, so its rungs are shapes as well as sizes" in plan.warnings


def test_a_plan_tells_what_was_trained_for_longer_than_its_ladder(tmp_path: Path) -> None:
    of_moe = models(LADDER)
    of_moe["moe"]["train"] = {"budget": {"steps": 24}}
    plan = tiny_suites.planned(tmp_path, models=of_moe, claims={"worth": WORTH}).plan
    told = "claims.worth: moe is trained on 3,072 tokens and dense.width-8 on 1,536, so it will be INVALID"
    assert told in plan.warnings


def test_every_rung_is_among_the_models_of_a_claim(tmp_path: Path) -> None:
    plan = tiny_suites.planned(tmp_path, models=models(LADDER), claims={"worth": WORTH}).plan
    assert plan.models_of(plan.spec.claims["worth"]) == ("moe", "dense.width-16", "dense.width-8", "dense.width-32")
