"""Bytes over links by formula: by hand, laid out as they can be, and printed as MODELLED and never as measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moebench import api
from moebench.counting import communication
from moebench.counting.blueprint import Blueprint
from moebench.counting.flops import train_flops_per_token
from moebench.suite.errors import SuiteError
from moebench.systems import system
from tests.support import tiny_suites
from tests.support.builders import claim, evidence_of, judged

HEAD = "suite: links\nquestion: What does sending cost?\nclaims:\n"
SHARE = "modelled.expert_parallel_share[devices=8,flops_per_byte=1000,straggler={}]"


def blueprint(name: str) -> Blueprint:
    found = system(name).blueprint
    assert found is not None
    return found


def written(folder: Path, text: str) -> Path:
    (folder / "suite.yaml").write_text(HEAD + text)
    return folder / "suite.yaml"


# ---------------------------------------------------------------------------------------------- by hand


def test_a_token_of_mixtral_goes_to_two_experts_and_back_in_each_layer() -> None:
    b = blueprint("mixtral-8x7b")
    by_hand = 32 * 2 * 2 * 4096 * (1 - 1 / 8) * 2  # layers, there and back, experts, width, share that leaves, bytes
    assert communication.expert_parallel_bytes(b, devices=8) == by_hand == 917_504


def test_a_matrix_cut_in_eight_is_summed_twice_a_layer() -> None:
    b = blueprint("llama-2-70b")
    assert communication.tensor_parallel_bytes(b, devices=8) == 80 * 2 * 2 * 8192 * (7 / 8) * 2


def test_gradients_are_spread_over_the_tokens_of_a_step() -> None:
    b = blueprint("mistral-7b")
    total = 7_241_732_096
    assert communication.data_parallel_bytes(b, devices=2, tokens=1000) == pytest.approx(2 * total * 0.5 * 2 / 1000)


def test_a_share_is_sending_over_sending_and_computing() -> None:
    b = blueprint("mixtral-8x7b")
    sent, flops = 2 * 917_504 * 1000, train_flops_per_token(b, context=2048)
    share = communication.expert_parallel_share(b, devices=8, flops_per_byte=1000, straggler=1)
    assert share == pytest.approx(sent / (sent + flops))


def test_a_straggler_takes_its_own_experts_and_messages_longer_and_nothing_else() -> None:
    b = blueprint("mixtral-8x7b")
    sent, flops = 2 * 917_504 * 1000, train_flops_per_token(b, context=2048)
    experts = 6 * 32 * 2 * 3 * 4096 * 14336
    share = communication.expert_parallel_share(b, devices=8, flops_per_byte=1000, straggler=3)
    assert share == pytest.approx(3 * sent / (3 * sent + flops + 2 * experts))


def test_more_devices_send_more_and_faster_links_cost_less() -> None:
    b = blueprint("deepseek-v3")
    shares = [
        communication.expert_parallel_share(b, devices=d, flops_per_byte=f, straggler=1)
        for d, f in ((8, 100), (8, 1000), (64, 1000))
    ]
    assert shares == sorted(shares)
    assert len(set(shares)) == 3


def test_what_cannot_be_laid_out_so_has_no_number() -> None:
    with pytest.raises(LookupError, match="8 experts are not spread over 16 devices"):
        communication.expert_parallel_bytes(blueprint("mixtral-8x7b"), devices=16)
    with pytest.raises(LookupError, match="dense"):
        communication.expert_parallel_share(blueprint("llama-2-7b"), devices=2, flops_per_byte=1, straggler=1)


# ---------------------------------------------------------------------------------------------- as a reader sees it


def test_every_view_says_modelled_and_none_says_measured_or_exact(tmp_path: Path) -> None:
    text = f"  one: {{model: mixtral-8x7b, metric: '{SHARE.format(1)}', test: {{kind: at_least, value: 10%}}}}\n"
    text += f"  all: {{systems: {{kind: moe, since: 2024}}, metric: '{SHARE.format(2)}', "
    text += "test: {kind: at_least, value: 1%, in: every}}\n"
    text += f"  middle: {{systems: {{kind: moe, since: 2024}}, metric: '{SHARE.format(1)}', "
    text += "test: {kind: at_least, value: 10%, in: median}}\n"
    text += "  pair: {compare: {treatment: olmoe-1b-7b, baseline: olmo-1b}, "
    text += "metric: 'modelled.tensor_parallel_bytes[devices=2]', test: {kind: ratio_within, low: 0.9, high: 1.1}}\n"
    outcome = api.run(written(tmp_path, text), results=tmp_path / "results", reports=tmp_path / "reports")
    assert [v.state for v in outcome.verdicts] == ["refuted", "supported", "refuted", "supported"]
    for verdict in outcome.verdicts:
        assert "MODELLED, not measured" in verdict.caveats
        assert "MODELLED by formula for the links that the claim states: measured nowhere" in verdict.scope
        assert verdict.metric.startswith("modelled.")
        assert any(note.startswith("MODELLED: ") for note in verdict.notes)
        assert verdict.method == "formula"
    page = (tmp_path / "reports/links/index.md").read_text().partition("## Provenance")[0]
    assert "Modelled by formula, not measured: 2 supported, 2 refuted." in page
    assert "Counted exactly" not in page
    rows = [line for line in page.splitlines() if "**SUPPORTED**" in line or "**REFUTED**" in line]
    assert len(rows) == 4
    assert all("modelled" in row and "MODELLED, not measured" in row and "exact" not in row for row in rows)
    told = json.loads((tmp_path / "reports/links/claims.json").read_text())
    assert all("MODELLED, not measured" in claim["caveats"] for claim in told["claims"])


def test_how_a_claim_will_be_judged_says_it_too(tmp_path: Path) -> None:
    from moebench.planning.understood import understood
    from moebench.suite.load import load_suite

    text = f"  one: {{model: mixtral-8x7b, metric: '{SHARE.format(1)}', test: {{kind: at_least, value: 10%}}}}\n"
    assert understood(load_suite(written(tmp_path, text)).spec, "one").endswith("MODELLED by formula, not measured")


def test_a_model_of_a_suite_is_laid_out_alike(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "suite: links\nquestion: What does sending cost?\nseeds: 2\ndata: {source: stdlib, context: 64}\n"
        "train: {budget: {steps: 2}, batch_tokens: 64}\n"
        "models:\n  moe: {layers: 3, width: 16, heads: 2, ffn: {kind: moe, experts: 4, top_k: 2, expert_hidden: 16}}\n"
        "claims:\n  sends: {model: moe, metric: 'modelled.expert_parallel_bytes[devices=4]', "
        f"test: {{kind: exact, value: {3 * 2 * 2 * 16 * 3 // 4 * 2}}}}}\n"
    )
    from moebench.claims.judge import judge
    from moebench.environment import environment
    from moebench.reader.evidence import gather
    from moebench.store import Results

    results = Results(tmp_path / "results")
    plan = api.plan(tmp_path / "suite.yaml", results=results.root)
    (verdict,) = judge(gather(results, results.save_plan(plan, environment(1, "cpu"))))
    assert verdict.state == "supported"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("devices=1,flops_per_byte=1000,straggler=1", "below 2"),
        ("devices=8,flops_per_byte=0,straggler=1", "not above 0"),
        ("devices=8,flops_per_byte=1000,straggler=0.5", "below 1"),
        ("devices=8,flops_per_byte=1000", "needs the label 'straggler'"),
        ("devices=8.5,flops_per_byte=1000,straggler=1", "no whole number"),
        ("devices=16,flops_per_byte=1000,straggler=1", "8 experts are not spread over 16 devices"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(tmp_path: Path, labels: str, words: str) -> None:
    metric = f"modelled.expert_parallel_share[{labels}]"
    text = f"  one: {{model: mixtral-8x7b, metric: '{metric}', test: {{kind: at_least, value: 10%}}}}\n"
    with pytest.raises(SuiteError) as error:
        api.validate(written(tmp_path, text))
    assert words in str(error.value)
    assert "suite.yaml:4:" in str(error.value)


# ---------------------------------------------------------------------------------------------- from recorded loads


AT_LOADS = "modelled.expert_parallel_share_at_loads[devices=2,flops_per_byte=1000]"


def test_a_straggler_factor_may_be_that_of_recorded_loads() -> None:
    factors = [1.1, 1.2, 1.3, 1.15, 1.25, 1.2, 1.1, 1.3]
    block = claim({"kind": "at_least", "value": "1%"}, AT_LOADS, model="moe")
    values = {"moe": {"simulated.straggler_factor[devices=2]": factors}, "dense": {}}
    verdict = judged(evidence_of(values, {"c": block}))
    b = evidence_of(values, {"c": block}).plan.decoders["moe"].blueprint
    shares = [
        communication.expert_parallel_share(b, devices=2, flops_per_byte=1000, straggler=factor) for factor in factors
    ]
    assert verdict.estimate == pytest.approx(sum(shares) / len(shares))
    assert (verdict.n, verdict.units, verdict.state) == (8, "seeds", "supported")
    assert verdict.low is not None
    assert verdict.low < verdict.estimate
    assert verdict.method == "formula, exact sign flips over seeds"
    assert verdict.modelled
    assert "MODELLED, not measured" in verdict.caveats
    assert "measured nowhere" in verdict.scope


def test_without_recorded_loads_there_is_no_number() -> None:
    block = claim({"kind": "at_least", "value": "1%"}, AT_LOADS, model="moe")
    verdict = judged(evidence_of({"moe": {"routing.entropy": [0.9] * 8}, "dense": {}}, {"c": block}))
    assert verdict.state == "not_tested"
    assert "simulated.straggler_factor[devices=2]" in verdict.reason


def test_loads_are_recorded_where_a_suite_asks_for_them(tmp_path: Path) -> None:
    text = tiny_suites.write(tmp_path, claims={"c": claim({"kind": "at_least", "value": "1%"}, AT_LOADS, model="moe")})
    with pytest.raises(SuiteError, match=r"put stragglers into measure\.probes"):
        api.validate(text)
