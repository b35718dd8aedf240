"""Planned = built: a plan that is to be carried out is refused where the models would be others than it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.counting.costs import costs_of
from moebench.models.architecture import Architecture
from moebench.models.routers import ROUTERS
from moebench.models.routers.softmax_topk import SoftmaxTopK
from moebench.planning import built
from moebench.planning.feasibility import PlanError
from moebench.planning.types import PlannedModel
from moebench.suite.errors import SuiteError
from tests.support import tiny_suites
from tests.support.small_models import architecture, dense, moe, recipe
from tests.support.small_plugins import ROUTER, Installed
from tests.support.small_routers import VARIANTS, model_of


def planned(a: Architecture, **counts: int) -> PlannedModel:
    costs = costs_of(a.blueprint, dtype="float32")
    costs = costs.model_copy(update={"params": costs.params.model_copy(update=counts)})
    return PlannedModel(architecture=a, recipe=recipe(), costs=costs, expected_train_flops=1.0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("word", ROUTERS)
def test_what_is_planned_is_built(word: str, variant: str) -> None:
    built.check({"moe": planned(model_of(word, variant)), "dense": planned(architecture(dense()))})


def test_it_is_built_without_memory() -> None:
    """A mixture of 1.2 T parameters."""
    a = architecture(moe(1024, 8, 12_000), layers=8, width=4096, head_dim=64)
    assert costs_of(a.blueprint, dtype="float32").params.total > 10**12
    built.check({"huge": planned(a)})


def test_another_number_of_parameters_is_refused_with_both() -> None:
    a = model_of("switch")
    total = costs_of(a.blueprint, dtype="float32").params.total
    with pytest.raises(PlanError) as raised:
        built.check({"good": planned(a), "bad": planned(a, total=total + 1)})
    (misfit,) = raised.value.problems
    assert misfit.at == ("models", "bad")
    assert misfit.message == f"bad has {total:,} parameters as built, {total + 1:,} as planned"


def test_so_is_that_of_a_router() -> None:
    a = model_of("hierarchical")
    assert a.router is not None
    right = a.router.parameters
    a = a.model_copy(update={"router": a.router.model_copy(update={"parameters": right - 1})})
    with pytest.raises(
        PlanError, match=rf"a router of moe has {right:,} parameters as built, {right - 1:,} as planned"
    ):
        built.check({"moe": planned(a)})


FFN = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
MODELS: dict[str, Any] = {
    "moe": {"layers": 2, "width": 16, "heads": 2, "ffn": FFN},
    "dense": {"base": "moe", "ffn": {"kind": "dense", "hidden": 24}},
}  # fmt: skip


def refused(suite: Path, results: Path) -> str:
    with pytest.raises(SuiteError) as raised:
        api.plan(suite, results=results)
    assert not (results / "plans").exists()
    return str(raised.value)


def test_a_plan_with_a_wrong_count_is_refused_at_the_models_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tiny_suites.write(tmp_path, models=MODELS)
    api.plan(suite, results=tmp_path / "results")
    monkeypatch.setattr(SoftmaxTopK, "rows", classmethod(lambda cls, ffn: ffn.experts + 1))
    api.validate(suite)
    said = refused(suite, tmp_path / "others")
    line = next(n for n, text in enumerate(suite.read_text().splitlines(), start=1) if re.match(r" *moe:", text))
    assert f"tiny.yaml:{line}:" in said
    assert "a router of moe has 64 parameters as built, 80 as planned" in said


def test_so_is_a_router_of_a_package_that_is_built_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Installed(tmp_path, monkeypatch)
    shape = "torch.empty(ffn.experts, width)"
    package.install(ROUTER.replace(shape, shape.replace("width", "width + (torch.empty(0).device.type == 'meta')")))
    ffn = {**FFN, "router": "mine"}
    suite = tiny_suites.write(tmp_path, models={**MODELS, "moe": {**MODELS["moe"], "ffn": ffn}})
    assert "a router of moe has 68 parameters as built, 64 as planned" in refused(suite, tmp_path / "results")
    package.install(ROUTER.replace("layer=layer)\n", "layer=layer)\n            torch.empty(1).sum().item()\n", 1))
    assert "moe cannot be built on torch's meta device" in refused(suite, tmp_path / "results")


def test_a_suite_is_checked_without_torch(tmp_path: Path) -> None:
    suite = tiny_suites.write(tmp_path, models=MODELS)
    code = f"import sys; from moebench import api; api.validate({str(suite)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
