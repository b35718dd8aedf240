"""Routers and sources of installed packages: what they declare is read and tried, and their code is part of what runs."""
# ruff: noqa: E501 - a case is one line

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.cli.console.lists import LISTS
from moebench.counting.flops import train_flops_per_token
from moebench.counting.weights import parameters
from moebench.data import DataError
from moebench.data.prepare import prepare
from moebench.data.sources.plugin import PluginData
from moebench.jobs.loop import execute
from moebench.jobs.training import start
from moebench.models.architecture import Architecture
from moebench.models.decoder import build
from moebench.models.routers import facts_of
from moebench.planning.types import Plan
from moebench.plugins import PluginError
from moebench.reader.evidence import Evidence
from moebench.store import Results
from moebench.suite.errors import SuiteError
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites
from tests.support.builders import claim, evidence_of
from tests.support.small_plugins import PEEK, ROUTER, SOURCE, Installed

SOURCES = "[moebench.sources]\nwords = words:SOURCE\n"
PEEKS = "[moebench.routers]\nmine = mine:Peek\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


def models(**ffn: Any) -> dict[str, Any]:
    mixture = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16, "router": "mine", **ffn}
    moe = {"layers": 2, "width": 16, "heads": 2, "ffn": mixture}
    return {"moe": moe, "dense": {"base": "moe", "ffn": {"kind": "dense", "hidden": 24}}}


def planned(folder: Path, **ffn: Any) -> api.Planned:
    return tiny_suites.planned(folder, models=models(**ffn))


def refused(folder: Path, **ffn: Any) -> str:
    """What `validate`, and so `plan` and `run`, says of a suite with the package's router."""
    with pytest.raises(SuiteError) as raised:
        api.validate(tiny_suites.write(folder, models=models(**ffn)))
    return str(raised.value)


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


# ------------------------------------------------------------------------------------------ what it declares


def test_a_router_that_does_not_say_whether_it_is_causal_is_refused_with_the_words_to_add(
    package: Installed, tmp_path: Path
) -> None:
    package.install(edited(ROUTER, "causal = True  # a token's experts depend on no later token", "pass"))
    said = refused(tmp_path)
    assert "tiny.yaml:" in said
    assert "does not say whether it is causal" in said
    assert "causal = True  # a token's experts depend on no later token" in said
    assert "mine.py:" in said


def test_a_router_says_it_itself_and_not_by_what_it_inherits(package: Installed, tmp_path: Path) -> None:
    package.install(
        "from moebench.models.routers.softmax_topk import SoftmaxTopK\nclass Nearest(SoftmaxTopK):\n    pass\n",
    )
    assert "does not say whether it is causal" in refused(tmp_path)


def test_a_router_that_sees_later_tokens_and_says_so_gives_no_verdict_on_quality(
    package: Installed, tmp_path: Path
) -> None:
    """The report knows it from the plan alone, for the package may be gone by then; it is told before the loss is."""
    package.install(PEEK, PEEKS)
    made = planned(tmp_path, top_k=1)
    assert any("sees future tokens" in warning for warning in made.plan.warnings)
    stored = Plan.model_validate_json(made.plan.model_dump_json())
    package.install("", "")
    values = {"moe": {"test.bits_per_byte": [0.12] * 8}, "dense": {"test.bits_per_byte": [1.4] * 8}}
    evidence = evidence_of(values, {"c": claim({"kind": "superior", "margin": "0.5%"})})
    verdict = judge_of(evidence, stored.models["moe"].architecture)
    assert verdict.state == "invalid"
    assert "router mine says causal = False" in str(verdict.reason)


def judge_of(evidence: Evidence, a: Architecture) -> Verdict:
    """The verdict when the mixture of the plan has the router of an architecture."""
    plan = evidence.plan
    routed = plan.models["moe"].architecture.model_copy(update={"ffn": a.ffn, "router": a.router})
    moe = plan.models["moe"].model_copy(update={"architecture": routed})
    data = plan.data.model_copy(update={"entropy_bits_per_byte": 1.354})
    plan = plan.model_copy(update={"data": data})
    stored = evidence.stored.model_copy(
        update={"plan": plan.model_copy(update={"models": {**plan.models, "moe": moe}})}
    )
    return judge(replace(evidence, stored=stored))[0]


def test_a_plan_of_before_that_knows_nothing_of_a_router_gives_no_verdict_on_quality(
    package: Installed, tmp_path: Path
) -> None:
    package.install(ROUTER)
    made = planned(tmp_path)
    a = made.plan.models["moe"].architecture
    values = {name: {"test.bits_per_byte": [2.0] * 8} for name in ("moe", "dense")}
    evidence = evidence_of(values, {"c": claim({"kind": "superior", "margin": "0.5%"})})
    verdict = judge_of(evidence, a.model_copy(update={"router": None}))
    assert verdict.state == "invalid"
    assert "plan and run it again" in str(verdict.reason)


def test_a_router_that_says_it_is_causal_and_is_not_is_refused(package: Installed, tmp_path: Path) -> None:
    package.install(edited(PEEK, "causal = False", "causal = True"), PEEKS)
    assert "change with later tokens" in refused(tmp_path, top_k=1)


def test_a_router_that_looks_at_other_sequences_is_not_causal(package: Installed, tmp_path: Path) -> None:
    package.install(edited(ROUTER, "x_TD[:, None].float()", "(x_TD - x_TD.mean(0))[:, None].float()"))
    assert "other sequences" in refused(tmp_path)


def test_one_that_sees_later_tokens_cannot_decode(package: Installed, tmp_path: Path) -> None:
    package.install(PEEK, PEEKS)
    measure = {"speed": {"decode": {"batch": [1]}}}
    with pytest.raises(SuiteError, match="moe cannot decode: its router mine looks at later tokens"):
        api.validate(tiny_suites.write(tmp_path, models=models(top_k=1), measure=measure))


@pytest.mark.parametrize("option", [{"top_p": 0.5}, {"groups": 2, "groups_chosen": 1}, {"bias_rate": 0.1}])
def test_options_it_does_not_read_are_refused_as_for_ours(
    package: Installed, tmp_path: Path, option: dict[str, Any]
) -> None:
    package.install(ROUTER)
    said = refused(tmp_path, **option)
    assert f"the router mine does not use {' or '.join(option)}" in said
    assert "capacity_factor, jitter" in said
    package.install(edited(ROUTER, '"jitter")', f'"jitter", {", ".join(map(repr, option))})'))
    assert planned(tmp_path, **option).plan.models["moe"].architecture.router.code is not None


def test_a_loss_it_does_not_give_takes_no_coefficient(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    assert "the router mine does not use balance_loss: it has no loss" in refused(tmp_path, balance_loss=0.1)
    assert planned(tmp_path, balance_loss=0).plan.models["moe"].architecture.router.code is not None


def test_a_loss_it_gives_is_declared(package: Installed, tmp_path: Path) -> None:
    given = edited(ROUTER, "losses={}", 'losses={"z_loss": lambda: scores_TE.sum()}')
    package.install(given)
    assert "the router mine does not use z_loss" in refused(tmp_path, z_loss=0.1)
    package.install(edited(given, "causal = True", 'causal = True\n        auxiliary = ("z_loss",)'))
    assert planned(tmp_path, z_loss=0.1).plan.router_losses == {"mine": ("z_loss",)}


def test_a_loss_that_is_given_but_not_declared_is_refused(package: Installed, tmp_path: Path) -> None:
    package.install(edited(ROUTER, "losses={}", 'losses={"balance_loss": lambda: scores_TE.sum()}'))
    assert "gives balance_loss without declaring it: write `auxiliary = ('balance_loss',)`" in refused(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("options", '("toppp",)'), ("auxiliary", '"z_loss"')])
def test_words_that_no_mixture_has_are_refused(package: Installed, tmp_path: Path, name: str, value: str) -> None:
    package.install(edited(ROUTER, "# the base class reads these two", f"\n        {name} = {value}"))
    assert f"{name} of " in refused(tmp_path)


def test_a_resolved_suite_is_valid_again(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    plan = planned(tmp_path).plan
    path = tmp_path / "again.yaml"
    path.write_text(resolved_yaml(plan.solved_spec(), losses=plan.router_losses))
    assert api.validate(path)[0].spec.models["moe"].ffn == plan.spec.models["moe"].ffn


def test_it_is_listed_by_its_first_line(package: Installed) -> None:
    package.install(ROUTER)
    rows = {row[0]: row for row in LISTS["routers"]()}
    assert rows["mine"][1:3] == ("The experts whose vectors lie nearest to the token.", "yes")
    assert "mine-of-them 1.0" in str(rows["mine"][4])
    package.install("import nothing_of_that_name")
    assert "does not load" in str({row[0]: row for row in LISTS["routers"]()}["mine"][1])


# ------------------------------------------------------------------------------------------ counts


WIDE = """\
            self.hidden = nn.Parameter(torch.zeros(3 * width, width))
            self.table = nn.Parameter(torch.zeros(vocab), requires_grad=False)
"""
SAYS = """
        @classmethod
        def multiply_adds(cls, ffn, *, width, training):
            return width * ffn.experts + 3 * width * width
"""


def wide(*, says: str = SAYS) -> str:
    """A router with more weights than a projection, some of them never trained."""
    weight = "            self.weight = nn.Parameter(torch.empty(ffn.experts, width))\n"
    return edited(
        edited(ROUTER, weight, weight + WIDE), "        @torch.no_grad()\n", says[1:] + "\n        @torch.no_grad()\n"
    )


def test_the_plan_counts_what_is_built(package: Installed, tmp_path: Path) -> None:
    package.install(wide())
    model = planned(tmp_path).plan.models["moe"]
    built = build(model.architecture, seed=0)
    assert model.costs.params.total == sum(parameter.numel() for parameter in built.parameters())
    projection, more, never = 4 * 16, 3 * 16 * 16, 256
    softmax = model.architecture.ffn.model_copy(update={"router": "softmax_topk"})
    plain = model.architecture.model_copy(update={"router": facts_of(softmax, width=16)})
    assert model.costs.params.active == parameters(plain.blueprint).active + 2 * (more + never)
    assert model.costs.train_state_bytes == 16 * model.costs.params.total - 12 * 2 * never
    flops = 3 * 2 * 2 * more
    assert model.costs.train_flops_per_token == train_flops_per_token(plain.blueprint) + flops
    assert model.architecture.router.code is not None
    assert model.architecture.router.multiply_adds == projection + more


def test_a_match_is_solved_with_what_is_built(package: Installed, tmp_path: Path) -> None:
    package.install(wide())
    dense = {"base": "moe", "ffn": {"kind": "dense"}, "match": {"to": "moe", "on": "active_params"}}
    plan = tiny_suites.planned(tmp_path, models={**models(), "dense": dense}).plan
    active = {name: model.costs.params.active for name, model in plan.models.items()}
    assert active["dense"] == pytest.approx(active["moe"], rel=0.01)


def test_weights_that_are_no_projection_need_their_multiply_adds_told(package: Installed, tmp_path: Path) -> None:
    package.install(wide(says="\n"))
    said = refused(tmp_path)
    assert f"has {4 * 16 + 3 * 16 * 16:,} weights, one projection of the width to the experts has 64" in said
    assert "def multiply_adds(cls, ffn, *, width, training)" in said


def test_a_router_whose_size_depends_on_the_width_that_a_match_solves_is_refused(
    package: Installed, tmp_path: Path
) -> None:
    package.install(edited(wide(), "3 * width, width", "ffn.expert_hidden or 1, width"))
    shape = models(expert_hidden=None)["moe"]
    match = {"to": "dense", "on": "total_params", "tolerance": "30%"}
    dense = {**shape, "ffn": {"kind": "dense", "hidden": 200}}
    with pytest.raises(SuiteError, match=r"parameters as built, .* as planned"):
        api.validate(tiny_suites.write(tmp_path, models={"moe": {**shape, "match": match}, "dense": dense}))


def test_a_router_that_gives_tokens_fewer_experts_is_planned_as_a_bound(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    plugin = planned(tmp_path).plan.models["moe"].architecture.router
    assert plugin is not None
    assert plugin.fewer is None
    package.install(edited(ROUTER, "topk(self.top_k, dim=1)", "topk(1, dim=1)"))
    plugin = planned(tmp_path).plan.models["moe"].architecture.router
    assert plugin is not None
    assert plugin.fewer == "always"


# ------------------------------------------------------------------------------------------ what fails, fails early


BROKEN = {
    "does not import": ("import torch\n", "import torch, no_such_module\n", "No module named 'no_such_module'", 4),
    "does not compile": ("class Nearest(Router):", "class Nearest(Router:", "SyntaxError", 11),
    "does not build": ("torch.empty(ffn.experts, width)", "torch.empty(ffn.expert, width)", "AttributeError", 20),
    "does not route": (".topk(self.top_k, dim=1)", ".topk(1000, dim=1)", "RuntimeError", 24),
    "does not fill its weights": ("std=1.0)", "sdt=1.0)", "TypeError", 29),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_router_that_cannot_work_is_refused_with_file_line_and_cause(
    package: Installed, tmp_path: Path, name: str
) -> None:
    old, new, cause, line = BROKEN[name]
    package.install(edited(ROUTER, old, new))
    said = refused(tmp_path)
    assert f"{package.site / 'mine.py'}:{line}" in said
    assert cause in said
    assert not (tmp_path / "results").exists()


WRONG = {
    "no router": ("class Nearest(Router):", "class Nearest(nn.Module):", "no subclass of moebench.models.routers.Router"),
    "no routing": ("return self.full_routing(experts_TK, weights_TK, losses={})", "return experts_TK", "Routing is needed"),
    "no such expert": ("self.full_routing(experts_TK,", "self.full_routing(experts_TK + 1,", "experts outside 0 to 3"),
    "no whole experts": ("self.full_routing(experts_TK,", "self.full_routing(experts_TK.int(),", "both are int64"),
    "no number": ("self.full_routing(experts_TK, weights_TK,", "self.full_routing(experts_TK, weights_TK / 0,", "not finite"),
    "chance of its own": ("normal_(self.weight, seed, prefix, std=1.0)", "self.weight.normal_()", "not of the seed"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_router_that_does_not_keep_the_contract_is_refused(package: Installed, tmp_path: Path, name: str) -> None:
    old, new, said = WRONG[name]
    package.install(edited(ROUTER, old, new))
    found = refused(tmp_path)
    assert said in found
    assert "mine.py:" in found


def test_one_expert_whose_weight_is_always_1_is_refused(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    assert planned(tmp_path, top_k=1).plan.models["moe"].architecture.router.code is not None
    package.install(
        edited(
            ROUTER, "return self", "weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)\n            return self"
        )
    )
    assert "learns nothing from the loss" in refused(tmp_path, top_k=1)
    assert planned(tmp_path, top_k=2).plan.models["moe"].architecture.router.code is not None


def test_words_of_a_package_reach_the_terminal_as_plain_text(package: Installed, tmp_path: Path) -> None:
    package.install("raise ValueError('red \\x1b[31m and \\u202e back')")
    said = refused(tmp_path)
    assert "\x1b" not in said
    assert "\u202e" not in said


# ------------------------------------------------------------------------------------------ its code


def ids(made: api.Planned) -> set[str]:
    return {run.id for run in made.plan.runs if run.model == "moe"}


def test_other_code_or_another_version_is_another_run(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    first = planned(tmp_path)
    assert ids(planned(tmp_path)) == ids(first)
    package.install(ROUTER)
    assert ids(planned(tmp_path)) == ids(first), "installed again as it was"
    package.install(ROUTER, version="1.1")
    newer = planned(tmp_path)
    package.install(edited(ROUTER, ".neg()", ".mul(-2)"))
    other = planned(tmp_path)
    assert len(ids(first) | ids(newer) | ids(other)) == 3 * len(ids(first))
    assert len({made.plan.id for made in (first, newer, other)}) == 3
    dense = [{run.id for run in made.plan.runs if run.model == "dense"} for made in (first, newer, other)]
    assert dense[0] == dense[1] == dense[2]


@pytest.mark.parametrize("helper", ["mine/helper.py", "beside.py"])
def test_a_helper_of_the_package_is_its_code_too(package: Installed, tmp_path: Path, helper: str) -> None:
    points = "[moebench.routers]\nmine = mine.routers:Nearest\n"
    files = {"mine/__init__.py": "", "mine/routers.py": ROUTER, helper: "FACTOR = 1\n"}
    package.install(files, points)
    first = planned(tmp_path)
    package.install({**files, helper: "FACTOR = 2\n"}, points)
    assert not ids(first) & ids(planned(tmp_path))


def test_the_package_its_version_and_code_are_told(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    made = planned(tmp_path)
    plugin = made.plan.routers["mine"]
    assert (plugin.code.package, plugin.code.version, len(plugin.code.sha256)) == ("mine-of-them", "1.0", 64)
    run = tiny_suites.run_of(made)
    task = tiny_suites.job_of(made, run)
    assert execute(task, root=made.results, on_event=lambda _: None, should_stop=lambda: False) == "completed"
    told = json.loads((Results(made.results).job(run.id).path / "job.json").read_text())
    assert told["job"]["spec"]["architecture"]["router"]["code"] == plugin.code.model_dump()


def test_a_suite_of_our_own_routers_says_nothing_of_packages(tmp_path: Path) -> None:
    made = json.dumps(tiny_suites.planned(tmp_path).plan.model_dump(mode="json"))
    assert "plugin" not in made
    assert '"router": {"causal": true' in made
    assert '"code"' not in made


def test_code_that_changed_after_the_plan_is_not_trained(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    run = tiny_suites.run_of(planned(tmp_path))
    start(run)
    package.install(edited(ROUTER, ".neg()", ".mul(-2)"))
    with pytest.raises(PluginError, match="plan again"):
        start(run)


def test_code_that_changed_under_a_running_python_is_not_planned(package: Installed, tmp_path: Path) -> None:
    package.install(ROUTER)
    planned(tmp_path)
    path = package.site / "mine.py"
    path.write_text(path.read_text() + "\n")
    assert "start Python again" in refused(tmp_path)


def test_two_packages_of_one_name_are_refused(package: Installed, tmp_path: Path) -> None:
    package.install({"mine.py": ROUTER}, "[moebench.routers]\nmine = mine:Nearest\n")
    other = package.site / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[moebench.routers]\nmine = theirs:Nearest\n")
    package.forget()
    assert "two installed packages offer 'mine'" in refused(tmp_path)


# ------------------------------------------------------------------------------------------ sources


def words_of(folder: Path, text: str = SOURCE, **other: Any) -> Any:
    return prepare(PluginData(source="plugin", name="words", context=8), base=folder, cache=folder / "data")


def test_text_of_other_code_is_gathered_again_and_is_other_data(package: Installed, tmp_path: Path) -> None:
    package.install({"words.py": SOURCE}, SOURCES)
    first = words_of(tmp_path)
    assert first.facts.plugin is not None
    assert str(first.facts.plugin).startswith("mine-of-them 1.0, sha256 ")
    assert words_of(tmp_path).digest == first.digest
    package.install({"words.py": edited(SOURCE, "plain words ", "other words ")}, SOURCES)
    other = words_of(tmp_path)
    assert bytes(other.tokens("train"))[1:6] == b"other"
    package.install({"words.py": SOURCE}, SOURCES, version="2.0")
    newer = words_of(tmp_path)
    assert len({first.digest, other.digest, newer.digest}) == 3
    assert newer.split_digest("test") == first.split_digest("test"), "the same test, whatever gave it"


def test_a_source_that_fails_says_where(package: Installed, tmp_path: Path) -> None:
    package.install({"words.py": edited(SOURCE, "WORD * 40", "WORD / 40")}, SOURCES)
    with pytest.raises(DataError, match=r"words\.py:\d+: TypeError"):
        words_of(tmp_path)
    package.install({"words.py": "import nothing_of_that_name"}, SOURCES)
    with pytest.raises(DataError, match=r"words\.py:1: ModuleNotFoundError"):
        words_of(tmp_path)
