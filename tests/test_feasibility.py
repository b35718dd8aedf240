"""What cannot be had is refused before anything is read, at its place, all at once; what is unusual is noted."""
# ruff: noqa: E501 - a case is one line

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from moebench import api
from moebench.metrics import METRICS
from moebench.metrics.probes import PROBES
from moebench.metrics.ref import labelled
from moebench.suite.errors import Problem, SuiteError
from moebench.suite.load import load_suite

GOOD = """\
suite: good
question: Is this suite good?
seeds: 8
data: {source: synthetic, context: 64, documents: 60, document_bytes: 512}
train:
  budget: {tokens: 4.096e5}
  batch_tokens: 4096
  schedule: {warmup: 5%}
models:
  moe:
    layers: 4
    width: 64
    heads: 4
    ffn: {kind: moe, experts: 8, top_k: 2, expert_hidden: 64, every: 2, dense_hidden: 128}
  dense:
    base: moe
    ffn: {kind: dense}
    match: {to: moe, on: active_params, by: ffn.hidden}
  small:
    base: dense
    match: {on: total_params}
measure:
  speed: {train_step: true, prefill: [32, 64], decode: {batch: [1, 8]}}
claims:
  better:
    compare: {treatment: moe, baseline: dense}
    metric: test.bits_per_byte
    test: {kind: superior, margin: 0.5%}
    family: primary
"""

MATCHES = """\
  fine:
    base: moe
    ffn: {kind: moe, experts: 16, top_k: 4, every: null, dense_hidden: null}
    match: {to: dense, on: active_params, by: ffn.expert_hidden, tolerance: 0.5%}
  finer:
    base: fine
    match: {tolerance: 0.01%}
  deep:
    base: dense
    layers: 40
    match: {to: moe, on: total_params}
measure:
"""

PRIMARY = "    family: primary\n"

UNPLANNABLE: dict[str, tuple[str, str, str, str]] = {
    # ---- training
    "a warm-up as long as the run": ("warmup: 5%", "warmup: §100", "a warm-up of 100 steps takes all of the run, 100 steps", "give fewer steps, such as 5"),
    "a warm-up longer than the run": ("warmup: 5%", "warmup: §2000", "a warm-up of 2,000 steps takes all of the run", "a share such as 5%"),
    "a warm-up longer than a run in FLOPs": ("{tokens: 4.096e5}\n  batch_tokens: 4096\n  schedule: {warmup: 5%}", "{flops: 1.0e11}\n  batch_tokens: 4096\n  schedule: {warmup: §200}", "takes all of moe's run", ""),
    "a warm-up longer than a run in steps": ("{tokens: 4.096e5}\n  batch_tokens: 4096\n  schedule: {warmup: 5%}", "{steps: 30}\n  batch_tokens: 4096\n  schedule: {warmup: §30}", "takes all of the run, 30 steps", ""),
    "a warm-up of nearly all": ("warmup: 5%", "warmup: §99.9%", "a warm-up of 99.9% takes all of the run, 100 steps", ""),
    "a budget in FLOPs less than a step": ("{tokens: 4.096e5}", "{flops: §1.0e6}", "a budget of 1e+06 FLOPs is less than one step of moe", ""),
    "a budget for ever": ("{tokens: 4.096e5}", "{tokens: 1.0e20}", "this budget is 2.44e+16 steps of moe", ""),
    # ---- matches
    "a match in steps of eight": ("measure:\n", MATCHES.replace("    match: {to: dense, on", "    §match: {to: dense, on"), "fine cannot match dense: no multiple of 8 for ffn.expert_hidden brings active_params within 0.50%", "`step: 1` gives"),
    "a match that no step reaches": ("measure:\n", MATCHES.replace("    match: {tolerance", "    §match: {tolerance"), "finer cannot match dense", "would accept the nearest"),
    "a match of what is larger anyhow": ("measure:\n", MATCHES.replace("    match: {to: moe", "    §match: {to: moe"), "deep cannot match moe", "already larger with the smallest FFN: give it fewer layers"),
    "a tolerance of one parameter": ("by: ffn.hidden}", "by: ffn.hidden, tolerance: 1}", "dense cannot match moe", "write 1% for a share"),
    # ---- claims
    "primary claims with too few seeds": ("seeds: 8", "seeds: 5", "with 5 pairs no outcome could reach significance", "give 6 seeds"),
    "a domain that is not there": ("test.bits_per_byte", "§test.bits_per_byte[domain=python]", "the data have no domain 'python'", "its domains are source-0, source-1, source-2 and source-3"),
    "a domain that is nearly one": ("test.bits_per_byte", "§test.bits_per_byte[domain=source_1]", "no domain 'source_1'", "did you mean 'source-1'?"),
}  # fmt: skip


def planning_problems(path: Path) -> tuple[Problem, ...]:
    load_suite(path)
    with pytest.raises(SuiteError) as caught:
        api.validate(path)
    return caught.value.problems


def test_the_suite_that_is_edited_below_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    api.validate(tmp_path / "good.yaml")


@pytest.mark.parametrize("case", UNPLANNABLE)
def test_what_cannot_be_planned_is_refused_at_its_place_with_advice(tmp_path: Path, case: str) -> None:
    old, new, message, hint = UNPLANNABLE[case]
    assert old in GOOD
    before, mark, after = GOOD.replace(old, new, 1).partition("§")
    (tmp_path / "broken.yaml").write_text(before + after)
    found = planning_problems(tmp_path / "broken.yaml")
    about = [problem for problem in found if message in problem.message]
    assert about, [problem.message for problem in found]
    assert hint in (about[0].hint or "")
    if mark:
        assert (about[0].line, about[0].column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_all_matches_that_cannot_be_had_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(GOOD.replace("measure:\n", MATCHES, 1))
    found = planning_problems(tmp_path / "broken.yaml")
    assert [problem.message.split(" cannot")[0] for problem in found] == ["fine", "finer", "deep"]
    assert [problem.line for problem in found] == [25, 28, 32]


def test_one_recipe_of_many_models_is_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(GOOD.replace("warmup: 5%", "warmup: 500"))
    assert len(planning_problems(tmp_path / "broken.yaml")) == 1


def test_the_size_and_step_that_are_advised_do(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(GOOD.replace("measure:\n", MATCHES.split("  finer")[0] + "measure:\n", 1))
    [problem] = planning_problems(tmp_path / "broken.yaml")
    advised = re.match(r"`step: (\d)` gives (\d+) \(([-+][\d.]+)%\), or a tolerance of ([\d.]+)%", problem.hint or "")
    assert advised is not None, problem.hint
    step, size, residual, tolerance = advised.groups()
    text = (tmp_path / "broken.yaml").read_text()
    (tmp_path / "good.yaml").write_text(text.replace("tolerance: 0.5%", f"tolerance: 0.5%, step: {step}"))
    [match] = [match for match in api.plan(tmp_path / "good.yaml", results=tmp_path).matches if match.model == "fine"]
    assert (match.size, round(100 * match.residual, 2)) == (int(size), float(residual))
    (tmp_path / "good.yaml").write_text(text.replace("tolerance: 0.5%", f"tolerance: {tolerance}%"))
    api.validate(tmp_path / "good.yaml")


# ------------------------------------------------------------------------------------------------ labels

VALID = {
    "layer": "1", "expert": "0", "domain": "source-0", "part": "weights", "tokens": "64", "batch": "8", "decile": "3",
    "cache": "half", "length": "32", "memory": "4000000", "resident": "2", "devices": "4", "context": "64", "bits": "8",
    "flops_per_byte": "1000", "straggler": "1.5",
}  # fmt: skip
WRONG = {
    "layer": ["4", "01", "-1", "x", "0" * 30],
    "expert": ["8", "00", "x"],
    "domain": ["python", "Source-0", "source-4"],
    "part": ["weight", "kv-cache", "x"],
    "tokens": ["16", "064", "x"],
    "batch": ["16", "x", "08"],
    "decile": ["0", "11", "x"],
    "cache": ["third", "x"],
    "length": ["16", "x"],
    "memory": ["1", "x"],
    "resident": ["3", "x"],
    "devices": ["3", "x"],
}
NO_AMOUNTS = ["0", "-1", "x"]


def labels() -> list[tuple[str, str]]:
    """Every metric with every label; tasks are held against their source in test_answers."""
    return [
        (name, label)
        for name, metric in METRICS.items()
        for label in metric.labels
        if not name.startswith("tune.") and "task" not in metric.labels
    ]


def claiming(metric: str) -> str:
    """The suite with a claim about a number of one model: a wrong label is refused, whatever the test."""
    claim = f"  count:\n    over: sweep\n    along: ffn.top_k\n    metric: {metric}\n    test: {{kind: trend, sign: rising}}\n"
    sweep = "  sweep:\n    base: moe\n    sweep: {ffn.top_k: [1, 2, 4]}\n    ffn: {renormalise: false}\nmeasure:\n"
    sweep += "  quality: [bits_per_byte, accuracy, rarity]\n"
    sweep += f"  probes: [{', '.join(PROBES)}]\n"
    serving = "inputs: {count: 16, tokens: 32}, memory_budget: {bytes: 4.0e6, tokens: 32}, layer_parts: true"
    serving += ", offload: {resident: [2, 4], copy_bytes_per_s: 3.0e9}"
    good = GOOD.replace("decode: {batch: [1, 8]}}", f"decode: {{batch: [1, 8]}}, {serving}}}")
    return good.replace("measure:\n", sweep, 1) + claim


def valid(metric: str) -> dict[str, str]:
    """Values of its labels that there will be."""
    of_parts = {"part": "router"} if "_part_s" in metric else {}
    return {name: VALID[name] for name in METRICS[metric].labels} | of_parts


@pytest.mark.parametrize(("metric", "label"), labels())
def test_every_label_of_every_metric_is_held_against_what_will_exist(tmp_path: Path, metric: str, label: str) -> None:
    for value in NO_AMOUNTS if label in METRICS[metric].amounts else WRONG[label]:
        given = valid(metric) | {label: value}
        (tmp_path / "broken.yaml").write_text(claiming(labelled(metric, **given)))
        with pytest.raises(SuiteError) as caught:
            api.validate(tmp_path / "broken.yaml")
        [problem] = caught.value.problems
        assert value in problem.message
        assert problem.hint, problem
    (tmp_path / "good.yaml").write_text(claiming(labelled(metric, **valid(metric))))
    api.validate(tmp_path / "good.yaml")


def test_a_layer_that_is_no_mixture_has_no_experts_to_claim_about(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(claiming("routing.tokens[layer=0,expert=0]"))
    with pytest.raises(SuiteError, match=r"(?s)layer '0' is not one of a model.*its mixtures are layers 1 and 3"):
        api.validate(tmp_path / "broken.yaml")
    (tmp_path / "good.yaml").write_text(claiming("init.ffn_output_rms[layer=0]"))
    api.validate(tmp_path / "good.yaml")


def test_the_parts_of_memory_are_those_that_are_measured() -> None:
    from moebench.metrics import memory

    assert METRICS["memory.train_peak_bytes"].values["part"] == (*memory._PARTS.values(), "activations")
    assert METRICS["memory.inference_peak_bytes"].values["part"] == ("weights", "activations", "kv_cache")


def test_a_domain_of_files_is_checked_by_plan_at_its_place(tmp_path: Path) -> None:
    for domain in ("cmake", "perl"):
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "corpus" / domain / f"{number}.txt").write_text(
                f"{domain} {number} {number * 7919} ".join("abcdefghij") * 30
            )
    text = GOOD.replace(
        "{source: synthetic, context: 64, documents: 60, document_bytes: 512}",
        "{source: text, files: [corpus], context: 64}",
    )
    (tmp_path / "suite.yaml").write_text(text.replace("test.bits_per_byte", "test.bits_per_byte[domain=python]"))
    api.validate(tmp_path / "suite.yaml")
    with pytest.raises(SuiteError) as caught:
        api.plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    [problem] = caught.value.problems
    assert "no domain 'python'" in problem.message
    assert "cmake and perl" in (problem.hint or "")
    assert text.splitlines()[problem.line - 1].lstrip().startswith("metric:")


def test_a_domain_of_too_few_documents_says_so(tmp_path: Path) -> None:
    for domain, documents in (("general", 12), ("mine", 2)):
        (tmp_path / "corpus" / domain).mkdir(parents=True)
        for number in range(documents):
            words = f"{domain} {number} {number * 7919} ".join("abcdefghij") * 30
            (tmp_path / "corpus" / domain / f"{number}.txt").write_text(words)
    text = GOOD.replace(
        "{source: synthetic, context: 64, documents: 60, document_bytes: 512}",
        "{source: text, files: [corpus], context: 64}",
    )
    (tmp_path / "suite.yaml").write_text(text.replace("test.bits_per_byte", "test.bits_per_byte[domain=mine]"))
    with pytest.raises(SuiteError) as caught:
        api.plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    [problem] = caught.value.problems
    assert problem.message == "the data have no domain 'mine' in its test split"
    assert problem.hint == "its documents are too few to be split into training, tuning and testing: add more of them"


def test_a_quality_below_the_entropy_of_the_text_cannot_be_a_target(tmp_path: Path) -> None:
    claim = "  cheap:\n    compare: {treatment: moe, baseline: dense}\n    metric: flops_to_quality\n"
    claim += "    test: {kind: ratio_at_least, value: 1.2}\n    target: {reach: 0.3}\n"
    (tmp_path / "suite.yaml").write_text(GOOD + claim)
    with pytest.raises(
        SuiteError, match=r"suite.yaml:34:21: no model reaches 0.3 bits/byte: the entropy of the text is"
    ):
        api.plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    (tmp_path / "suite.yaml").write_text(GOOD + claim.replace("0.3", "5.0"))
    api.plan(tmp_path / "suite.yaml", results=tmp_path / "results")


# ------------------------------------------------------------------------------------------------ notes


def notes(tmp_path: Path, *changes: tuple[str, str]) -> tuple[str, ...]:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "suite.yaml").write_text(text)
    plan = api.plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    return tuple(note for note in plan.warnings if note not in plan.data.notes)


def test_a_usual_suite_has_no_notes_of_its_own(tmp_path: Path) -> None:
    evaluate = ("  schedule", "  evaluate: {tokens: 1024, final_tokens: 2048}\n  schedule")
    assert [note for note in notes(tmp_path, evaluate) if "reads the training split" not in note] == []


def test_validate_tells_the_notes_that_need_no_data(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(GOOD.replace("margin: 0.5%", "margin: 0.5"))
    _, told = api.validate(tmp_path / "suite.yaml")
    assert [note for note in told if "plausible" in note]


def test_a_smoke_run_is_held_against_its_data_and_not_against_its_length(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(GOOD.replace("warmup: 5%", "warmup: 99"))
    assert api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results", smoke=True).plan.asked.smoke
    (tmp_path / "suite.yaml").write_text(GOOD.replace("test.bits_per_byte", "test.bits_per_byte[domain=python]"))
    with pytest.raises(SuiteError, match="no domain 'python'"):
        api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results", smoke=True)


def test_a_suite_without_claims_is_noted(tmp_path: Path) -> None:
    assert any("makes no claims" in note for note in notes(tmp_path, (GOOD[GOOD.index("claims:") :], "")))


@pytest.mark.parametrize("rate", ["1.0e-6", "3", "0.5"])
def test_an_unusual_learning_rate_is_noted(tmp_path: Path, rate: str) -> None:
    [note] = [
        n for n in notes(tmp_path, ("  batch_tokens", f"  optimizer: {{lr: {rate}}}\n  batch_tokens")) if "rate" in n
    ]
    assert "of moe, dense and small is outside the usual range, 1e-05 to 0.3" in note


@pytest.mark.parametrize(
    ("ffn", "told"),
    [
        ("top_k: 2", ["balance loss of a batch in micro-batches: a pass without gradients goes first, 26% more FLOPs"]),
        ("top_k: 2, balance_over: sequence", []),
        ("top_k: 2, balance_over: micro_batch", ["its balance loss is that of each micro-batch, as asked"]),
        (
            "top_k: 2, balance_loss: 0, router: noisy_topk",
            ["noise is drawn for each micro-batch: gradients are those of the batch, with other draws than at once"],
        ),
        (
            "top_k: 2, balance_loss: 0, capacity_factor: 1.5",
            [
                "an expert has room for its share of a micro-batch, 1,024 of the batch's 4,096 tokens, and drops other "
                "pairs than of the batch"
            ],
        ),
    ],
)
def test_where_micro_batches_are_not_their_batch_is_noted(tmp_path: Path, ffn: str, told: list[str]) -> None:
    asked = ("  batch_tokens: 4096", "  batch_tokens: 4096\n  micro_batch_tokens: 1024")
    found = [note for note in notes(tmp_path, ("top_k: 2", ffn), asked) if "micro-batch" in note]
    assert found == [f"moe: {words}" for words in told]
    assert not [note for note in notes(tmp_path, ("top_k: 2", ffn)) if "micro-batch" in note]


def test_too_few_seeds_or_processes_for_any_verdict_are_noted(tmp_path: Path) -> None:
    timed = ("test.bits_per_byte", "speed.train_step_s")
    changes = (
        ("    family: primary\n", ""),
        ("seeds: 8", "seeds: 2"),
        ("{train_step: true", "{processes: 3, train_step: true"),
    )
    assert [n for n in notes(tmp_path, *changes) if "verdict" in n] == [
        "2 seeds: no verdict over seeds is possible below 6"
    ]
    [note] = [n for n in notes(tmp_path, *changes, timed) if "verdict" in n]
    assert note == "3 processes: no verdict over processes is possible below 6"


def test_a_long_warm_up_is_noted(tmp_path: Path) -> None:
    assert any("80 of 100 steps, more than half" in note for note in notes(tmp_path, ("warmup: 5%", "warmup: 80%")))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("{kind: superior, margin: 0.5}", "a margin of 0.5 bits/byte is larger than a plausible effect"),
        ("{kind: superior, margin: 0.5}", "it can hardly be supported; is 0.5% meant?"),
        ("{kind: superior, margin: 20%}", "a margin of 20% is larger"),
        ("{kind: equivalent, margin: 0.5}", "nearly anything passes"),
        ("{kind: non_inferior, margin: 0.2}", "nearly anything passes; is 0.2% meant?"),
        ("{kind: ratio_at_least, value: 1.5}", "a factor of 1.5 is larger"),
    ],
)
def test_a_margin_beyond_a_plausible_effect_is_noted_with_the_rule(tmp_path: Path, test: str, words: str) -> None:
    [note] = [n for n in notes(tmp_path, ("{kind: superior, margin: 0.5%}", test)) if "plausible" in n]
    assert words in note
    assert "seldom differ by more than 5%, or 0.1 bits/byte" in note


@pytest.mark.parametrize("test", ["{kind: superior, margin: 0.05}", "{kind: equivalent, margin: 5%}"])
def test_a_plausible_margin_is_not_noted(tmp_path: Path, test: str) -> None:
    assert not any("plausible" in n for n in notes(tmp_path, ("{kind: superior, margin: 0.5%}", test)))


def test_validating_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(GOOD)
    code = "import sys; from moebench import api; api.validate(sys.argv[1]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "suite.yaml")], check=True)
