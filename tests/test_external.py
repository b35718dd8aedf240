"""Results from elsewhere: what is read of them, what is refused with its line, and how a suite takes them in."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from moebench import api
from moebench.claims.judge import judge
from moebench.cli.commands import main
from moebench.environment import environment
from moebench.external import Read, ResultsError, read
from moebench.jobs import imported
from moebench.reader.evidence import Evidence, gather
from moebench.store import JobFolder, Results, open_results, read_lines
from moebench.store.reference import write_bundle
from moebench.suite.errors import SuiteError
from tests.support import golden_results

HEADER = "model,seed,metric,value\n"
LOSS = "paloma.macro_loss"
SEEDS = range(8)
TABLE = HEADER + "".join(
    f"{model},{seed},{LOSS},{base + seed / 100:.2f}\n"
    for model, base in (("moe", 2.8), ("dense", 3.0))
    for seed in SEEDS
)
SUITE = """\
suite: elsewhere
question: Is it so?
seeds: 8
models:
  moe: {results: ours.csv, total_params: 483000000, active_params: 20800000}
  dense: {results: ours.csv, active_params: 18100000}
metrics: {paloma.macro_loss: {unit: nats/token, better: lower, per: seed}}
claims:
  better: {compare: {treatment: moe, baseline: dense}, metric: paloma.macro_loss, family: primary,
           test: {kind: superior, margin: 1%}}
  bigger: {compare: {treatment: moe, baseline: dense}, metric: cost.active_params,
           test: {kind: ratio_at_least, value: 0.5}}
"""


def table(tmp_path: Path, text: str | bytes, name: str = "ours.csv") -> Read:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path)


def refused(tmp_path: Path, text: str | bytes, name: str = "ours.csv") -> str:
    with pytest.raises(ResultsError) as caught:
        table(tmp_path, text, name)
    return str(caught.value).removeprefix(str(tmp_path / name))


def finals(found: Read) -> dict[tuple[str, int | None, str], float]:
    return {(model, seed, name): c.final for model, seed, run in found.runs() for name, c in run.columns.items()}


# ---------------------------------------------------------------------------------------------- tables that read


def test_a_tidy_table(tmp_path: Path) -> None:
    found = table(tmp_path, TABLE)
    assert finals(found)["moe", 3, LOSS] == 2.83
    assert {model: sorted(runs) for model, runs in found.models.items()} == {"moe": [*SEEDS], "dense": [*SEEDS]}
    assert finals(table(tmp_path, "\ufeff" + TABLE.replace("\n", "\r\n"))) == finals(found), "a BOM, Windows' lines"
    assert finals(table(tmp_path, TABLE.replace(",", ";"))) == finals(found), "a spreadsheet's semicolons"
    assert finals(table(tmp_path, TABLE.replace(",", "\t"))) == finals(found)
    rows = [line.split(",") for line in TABLE.splitlines()[1:]]
    lines = [json.dumps({"model": m, "seed": int(s), "metric": k, "value": float(v)}) for m, s, k, v in rows]
    assert finals(table(tmp_path, "\n".join(lines), "ours.jsonl")) == finals(found)


def test_steps_make_a_curve_whose_last_counts(tmp_path: Path) -> None:
    found = table(tmp_path, f"model,seed,metric,value,step\na,0,{LOSS},3.5,100\na,0,{LOSS},2.5,300\na,0,{LOSS},3,200\n")
    assert finals(found) == {("a", 0, LOSS): 2.5}


def test_items_make_a_mean_and_groups_cluster_them(tmp_path: Path) -> None:
    rows = (
        "a,exam.acc,1,q1,p1,\na,exam.acc,0,q2,p1,\na,exam.loss,6.0,q1,,4\na,exam.loss,3.0,q2,NA,2\na,exam.acc,0.5,,,\n"
    )
    found = table(tmp_path, "model,metric,value,item,group,size\n" + rows)
    assert finals(found) == {("a", None, "exam.acc"): 0.5, ("a", None, "exam.loss"): 1.5}
    column = found.models["a"][None].columns["exam.acc"]
    assert [found.names.words[group] for group in column.groups] == ["p1", "p1"]


def test_what_load_gives_reads_back(tmp_path: Path) -> None:
    """Counts have no seed and are of the model; pandas writes an index, and whole numbers with gaps as 3.0."""
    text = (
        ",suite,model,seed,metric,value,unit,step,run,plan,ffn.experts\n"
        "0,mine,moe,,cost.total_params,110000,parameters,,,p,8.0\n"
        "1,mine,moe,3.0,test.bits_per_byte,2.1,bits/byte,250,r,p,8.0\n"
        "2,mine,moe,3.0,memory.train_peak_bytes,1000,bytes,,r,p,8.0\n"
    )
    found = table(tmp_path, text)
    assert finals(found)["moe", 3, "test.bits_per_byte"] == 2.1
    assert found.facts == {"moe": {"cost.total_params": 110000.0}}
    assert found.notes == []


def test_columns_that_are_not_read_are_said(tmp_path: Path) -> None:
    assert table(tmp_path, "model,metric,value,remark\na,x.y,1,fine\n").notes == ["columns that are not read: remark"]


# ---------------------------------------------------------------------------------------------- tables that do not

ROW = f"a,0,{LOSS},"
WRONG = {
    "text for a number": (HEADER + ROW + "2.5\n" + f"a,1,{LOSS},oops\n", ":3: 'oops' is not a number"),
    "a decimal comma": (HEADER.replace(",", ";") + f"a;0;{LOSS};2,5\n", ":2: '2,5' is not a number (with a point"),
    "NaN": (HEADER + ROW + "nan\n", ":2: nan is no measurement: write diverged where a run diverged"),
    "infinity": (HEADER + ROW + "-inf\n", ":2: -inf is no measurement"),
    "underscores": (HEADER + ROW + "1_0\n", ":2: '1_0' is not a number"),
    "no value": (HEADER + ROW + "\n", ":2: there is no value: leave the row out"),
    "a row twice": (HEADER + (ROW + "2.5\n") * 2, f":3: {LOSS} of a with seed 0 is there twice"),
    "a step twice": (
        "model,metric,value,step\n" + f"a,{LOSS},2,1\na,{LOSS},2,2\na,{LOSS},3,1\n",
        f":4: step 1 of {LOSS} of a is there twice",
    ),
    "an item twice": (
        "model,metric,value,item\na,e.acc,1,q1\na,e.acc,0,q2\na,e.acc,0,q1\n",
        ":4: item 'q1' of e.acc of a is there twice",
    ),
    "two units": (
        "model,seed,metric,value,unit\n" + f"a,0,{LOSS},2,nats\na,0,{LOSS},3,bits\n",
        f":3: {LOSS} in 'bits', above it is in 'nats'",
    ),
    "items that do not add up": (
        "model,metric,value,item\na,e.acc,1,q1\na,e.acc,0,q2\na,e.acc,0.7,\n",
        ": e.acc of a is 0.7 in the row without an item, but its items give 0.5",
    ),
    "a seed that is none": (HEADER + f"a,1.5,{LOSS},2\n", ":2: seed '1.5' is no whole number from 0"),
    "a seed left out": (HEADER + f"a,0,{LOSS},2\na,,{LOSS},3\n", f": {LOSS} of a has no seed, though other rows"),
    "a metric that is none": (HEADER + "a,0,My Loss,2\n", ":2: 'My Loss' is not a metric name"),
    "no model": (HEADER + f",0,{LOSS},2\n", ":2: there is no model"),
    "too few cells": (HEADER + "a,0\n", ":2: 2 cells, the header has 4 columns"),
    "no such column": ("model,seed,loss,value\na,0,2,3\n", ":1: has no column metric: its header"),
    "a mistyped column": ("model,metric,value,steps\na,x.y,1,2\n", ":1: column 'steps' is not known: did you mean"),
    "a column twice": ("model,metric,value,value\na,x.y,1,2\n", ":1: has the column value twice"),
    "a size that is none": ("model,metric,value,item,size\na,x.y,1,q,0\n", ":2: size '0' is no number above 0"),
    "nothing": ("", ": is empty"),
    "a header alone": (HEADER, ": holds no numbers"),
    "other bytes": (HEADER.encode("utf-16"), ":1: is no UTF-8 text: save it as UTF-8"),
    "a NUL": (HEADER.encode() + b"a,0,x.y,1\x002\n", ":2: "),
    "a huge field": (HEADER + f"a,0,{LOSS},{'9' * 200_000}\n", ":2: is no csv: field larger than field limit"),
    "a huge line": (HEADER + "a" * (1 << 21), ":2: longer than 1,048,576 bytes"),
    "an open quote": (HEADER + 'a,0,"x.y,1\n', ": is no csv: unexpected end of data"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_table_that_cannot_be_taken_is_refused_with_its_line(tmp_path: Path, what: str) -> None:
    text, reason = WRONG[what]
    assert reason in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", ":1: is no JSON"),
        ("[]", ":1: a row is a JSON object"),
        ('{"model": "a", "metric": "x.y", "value": "2"}', ":1: value is '2', not a number"),
        ('{"model": "a", "metric": "x.y", "value": true}', ":1: value is 'True', not a number"),
        ('{"model": "a", "metric": "x.y", "value": NaN}', ":1: nan is no measurement"),
        ('{"model": "a", "metric": "x.y"}', ":1: has no column value"),
        ("[" * 100_000, ":1: is no JSON"),
    ],
)
def test_json_lines_that_cannot_be_taken(tmp_path: Path, line: str, reason: str) -> None:
    assert reason in refused(tmp_path, line + "\n", "ours.jsonl")


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name, reason in (("pipe.csv", "is no plain file"), ("none.csv", "cannot be read: No such file")):
        with pytest.raises(ResultsError, match=reason):
            read(tmp_path / name)
    (tmp_path / "ours.csv").write_text(TABLE)
    (tmp_path / "link.csv").symlink_to("ours.csv")
    assert finals(read(tmp_path / "link.csv")) == finals(read(tmp_path / "ours.csv")), "the user's own link"


def test_two_hundred_thousand_rows_take_little_memory(tmp_path: Path) -> None:
    """A tenth of two million: 48 bytes a row beside what Python itself takes."""
    rows = (f"moe,{seed},{LOSS},{3 + 1 / (step + 1)},{step}\n" for seed in range(10) for step in range(20_000))
    (tmp_path / "many.csv").write_text("model,seed,metric,value,step\n" + "".join(rows))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(tmp_path / "many.csv")
    assert len(found.models["moe"][0].columns[LOSS].steps) == 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000, "KiB"


# ---------------------------------------------------------------------------------------------- in a suite


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.csv").write_text(TABLE)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path


def done(here: Path, suite: str = SUITE) -> Evidence:
    """Plans the suite and does its jobs in this process, without a report."""
    (here / "suite.yaml").write_text(suite)
    planned = api.prepare_plan(here / "suite.yaml", results=here / "results")
    results = Results(here / "results")
    stored = results.save_plan(planned.plan, environment(1))
    for job in planned.graph.jobs:
        folder = results.job(job.id)
        folder.path.mkdir(parents=True, exist_ok=True)
        imported.execute(job, root=here / "results", on_event=lambda _event: None, should_stop=lambda: False)
    return gather(results, stored)


def planning(here: Path, suite: str = SUITE) -> str:
    (here / "suite.yaml").write_text(suite)
    with pytest.raises(SuiteError) as caught:
        api.prepare_plan(here / "suite.yaml", results=here / "results")
    assert not (here / "results").exists(), "nothing is written"
    return str(caught.value)


def test_a_suite_of_numbers_from_elsewhere_is_judged_and_says_what_is_not_verified(here: Path) -> None:
    better, bigger = judge(done(here))
    assert (better.state, better.n, better.p_adjusted) == ("supported", 8, 2**-8)
    assert "measured elsewhere (ours.csv): equal data, tuning and hardware are declared by the user" in better.scope
    assert (bigger.state, bigger.effect) == ("supported", "0.870×")
    assert not any("measured elsewhere" in note for note in bigger.notes)


def test_the_results_folder_is_enough(here: Path, tmp_path: Path) -> None:
    evidence = done(here)
    (here / "ours.csv").unlink()
    stored = Results(here / "results").plans()[0]
    again = gather(Results(here / "results"), stored)
    assert judge(again) == judge(evidence)
    write_bundle(Results(here / "results"), stored, here / "bundle")
    bundled = open_results(here / "bundle")
    assert judge(gather(bundled, bundled.plans()[0])) == judge(evidence)
    source = JobFolder(next((here / "results" / "jobs").iterdir())).job_json()["source"]
    assert (source["name"], source["form"], len(source["sha256"])) == ("ours.csv", "table", 64)


def test_another_file_is_another_job_and_a_changed_one_is_refused(here: Path) -> None:
    def ids() -> set[str]:
        return {job.id for job in api.prepare_plan(here / "suite.yaml", results=here / "results").plan.jobs}

    before = api.prepare_plan(here / "suite.yaml", results=here / "results").graph.jobs
    first = ids()
    assert first == ids()
    (here / "ours.csv").write_text(TABLE.replace("2.83", "2.84"))
    assert first.isdisjoint(ids())
    Results(here / "results").job(before[0].id).path.mkdir(parents=True)
    with pytest.raises(ValueError, match="is not what it was when this was planned"):
        imported.execute(before[0], root=here / "results", on_event=lambda _event: None, should_stop=lambda: False)


def test_the_worst_is_kept_of_a_run_that_diverged(here: Path) -> None:
    (here / "ours.csv").write_text(TABLE.replace("2.83", "diverged"))
    evidence = done(here)
    lost = evidence.outcome("moe", 3)
    assert lost is not None
    assert (lost.status, lost.reason) == ("diverged", "its results say so")
    verdict = judge(evidence)[0]
    assert verdict.unbounded == ("high",)
    assert verdict.effect.endswith("diverged]"), "said where the suite's metrics are not in force"


def test_a_curve_that_ends_before_those_of_other_seeds_is_told(here: Path) -> None:
    rows = [f"moe,{seed},{LOSS},{3 - step / 1000},{step}\n" for seed in SEEDS for step in (100, 200)]
    rows = [row for row in rows if not row.startswith("moe,3") or row.endswith(",100\n")]
    dense = "".join(f"dense,{seed},{LOSS},{3.0 + seed / 100},\n" for seed in SEEDS)
    (here / "ours.csv").write_text("model,seed,metric,value,step\n" + "".join(rows) + dense)
    found = run("plan", "suite.yaml")
    assert found.exit_code == 0, found.output
    told = f"moe: {LOSS} ends before step 200 with seed 3 (step 100): what stands there counts as its final value"
    assert told in " ".join(found.output.split())


def test_long_curves_are_kept_in_part_and_their_end_whole(here: Path) -> None:
    rows = [f"{m},{s},{LOSS},{5 - t / 5000},{t}\n" for m in ("moe", "dense") for s in SEEDS for t in range(2500)]
    (here / "ours.csv").write_text("model,seed,metric,value,step\n" + "".join(rows))
    evidence = done(here)
    run = evidence.outcomes[0]
    assert len(run.curves[LOSS]) == imported.MOST_POINTS
    assert run.values[LOSS] == 5 - 2499 / 5000


REFUSED = {
    "a missing seed": (
        TABLE.replace(f"moe,3,{LOSS},2.83\n", ""), SUITE,
        "no run of moe with seed 3",
    ),
    "a missing number": (
        TABLE.replace(f"moe,3,{LOSS}", "moe,3,paloma.other"), SUITE, f"moe has no {LOSS} with seed 3",
    ),
    "no such metric": (TABLE.replace(LOSS, "paloma.loss"), SUITE, f"moe has no {LOSS}: it has paloma.loss"),
    "no such model": (
        TABLE, SUITE.replace("  moe: {", "  moe: {model: mixture, "), "has no model 'mixture': it has dense and moe",
    ),
    "another unit": (
        HEADER.strip() + ",unit\n" + "".join(line + ",bits/byte\n" for line in TABLE.splitlines()[1:]), SUITE,
        f"line 2: {LOSS} of moe is in 'bits/byte', its unit is nats/token",
    ),
    "one seed asked for": (TABLE, SUITE.replace("seeds: 8\n", ""), "give the suite `seeds: [0, 1, 2, 3, 4, 5, 6, 7]`"),
    "what cannot be": (
        TABLE.replace(LOSS, "test.bits_per_byte").replace("2.83", "-2.83"),
        SUITE.replace(f"metric: {LOSS}", "metric: test.bits_per_byte"), "test.bits_per_byte -2.83 is below 0",
    ),
    "no config": (TABLE, SUITE.replace("  moe: {", "  moe: {config: none.json, "), "none.json"),
    "no file": (TABLE, SUITE.replace("ours.csv, total", "theirs.csv, total"), "theirs.csv: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_at_its_key_and_nothing_is_written(here: Path, what: str) -> None:
    text, suite, reason = REFUSED[what]
    (here / "ours.csv").write_text(text)
    said = planning(here, suite)
    assert reason in said
    assert "suite.yaml:5:" in said or what == "one seed asked for"


def test_a_file_is_refused_before_any_data_are_made_ready(here: Path) -> None:
    ours = "models:\n  own: {layers: 1, width: 16, heads: 2, ffn: {kind: dense, hidden: 16}}\n"
    recipe = "data: {source: stdlib}\ntrain: {budget: {steps: 2}, batch_tokens: 256}\n"
    mixed = SUITE.replace("models:\n", recipe + ours)
    assert "theirs.csv: cannot be read" in planning(
        here, mixed.replace("dense: {results: ours", "dense: {results: theirs")
    )


def test_the_command_line_ends_with_2(here: Path) -> None:
    (here / "ours.csv").write_text(TABLE.replace("2.83", "oops"))
    found = run("run", "suite.yaml")
    assert found.exit_code == 2
    assert "'oops' is not a number" in found.stderr
    assert sorted(path.name for path in here.iterdir()) == ["ours.csv", "suite.yaml"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_a_config_counts_the_model(here: Path) -> None:
    config = {
        "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256, "num_local_experts": 4,
        "num_experts_per_tok": 2, "max_position_embeddings": 128,
    }  # fmt: skip
    (here / "config.json").write_text(json.dumps(config))
    suite = SUITE.replace(
        "results: ours.csv, total_params: 483000000, active_params: 20800000", "results: ours.csv, config: config.json"
    )
    plan = done(here, suite).plan
    assert plan.counts("moe")["cost.total_params"] > plan.counts("moe")["cost.active_params"] > 0
    assert plan.counts("dense") == {"cost.active_params": 18100000}


def test_single_runs_of_a_published_table_decide_nothing(here: Path) -> None:
    (here / "ours.csv").write_text(
        f"model,metric,value,unit\nmoe,{LOSS},3.156,nats/token\ndense,{LOSS},3.676,nats/token\n"
    )
    verdict = judge(done(here))[0]
    assert verdict.state == "inconclusive"
    assert verdict.needs is not None
    assert verdict.needs.startswith(
        "needs at least 6 runs of each model: 6 decide if their difference has an SD of 9.2%"
    )
    assert (verdict.low, verdict.p) == (None, None)


def test_items_of_a_table_decide(here: Path) -> None:
    def answers(model: str, right: Iterable[int]) -> Iterable[str]:
        return (f"{model},{LOSS},{2 + (i in right) / 10 + i % 7},q{i},g{i // 2}\n" for i in range(200))

    rows = [*answers("moe", range(0, 200, 9)), *answers("dense", range(0, 200, 2))]
    (here / "ours.csv").write_text("model,metric,value,item,group\n" + "".join(rows))
    evidence = done(here)
    verdict = judge(evidence)[0]
    assert (verdict.units, verdict.n) == ("items", 200)
    assert "200 items in 100 groups" in verdict.scope
    written = read_lines(Results(here / "results").job(evidence.outcomes[0].run_id).path / "items.jsonl")
    assert written[0] == {"metric": LOSS, "item": "q0", "group": "g0", "size": 1.0, "value": 2.1}
    bundle = here / "bundle"
    write_bundle(Results(here / "results"), Results(here / "results").plans()[0], bundle)
    assert judge(gather(open_results(bundle), open_results(bundle).plans()[0]))[0] == verdict


def test_nothing_of_a_suite_leads_elsewhere(here: Path) -> None:
    """A file is the user's to name; what it holds is shown in an error on one line, and cut."""
    (here / "ours.csv").write_text("root:x:0:0\x1b[2J:" + "secret" * 100 + "\n")
    said = planning(here)
    assert "\x1b" not in said
    assert len(said) < 2000, "two models name it"


def test_rows_are_kept_as_json(here: Path) -> None:
    evidence = done(here)
    folder = Results(here / "results").job(evidence.outcomes[0].run_id)
    expected: list[dict[str, Any]] = [{"metric": LOSS, "value": 2.8, "version": 1}]
    assert read_lines(folder.path / "records.jsonl") == expected


def test_what_load_wrote_is_judged_as_its_runs_were(here: Path) -> None:
    """Counts, losses, curves and memory of another results folder; its timings are left out, and that is said."""
    golden_results.write(here / "theirs", seeds=6)
    frame = api.load(here / "theirs")
    wanted = ("test.bits_per_byte", "curve.", "train.tokens", "train.model_flops", "cost.", "speed.train_step_s")
    frame[frame["metric"].str.startswith(wanted)].to_csv(here / "ours.csv")
    block = "{treatment: moe, baseline: dense}"
    suite = f"""\
suite: loaded
question: Is it so?
seeds: 6
models: {{moe: {{results: ours.csv, model: moe_8x2}}, dense: {{results: ours.csv}}}}
claims:
  better: {{compare: {block}, metric: test.bits_per_byte, test: {{kind: superior, margin: 0.5%}}}}
  sooner: {{compare: {block}, metric: flops_to_quality, target: {{reach: 2.3}},
           test: {{kind: ratio_at_least, value: 1}}}}
  slower: {{compare: {block}, metric: seconds_to_quality, target: {{reach: 2.3}},
           test: {{kind: ratio_at_least, value: 1}}}}
  equal: {{compare: {block}, metric: cost.active_params, test: {{kind: ratio_within, low: 0.9, high: 1.1}}}}
"""
    evidence = done(here, suite.replace("claims:", "measure: {speed: {}}\nclaims:"))
    better, sooner, slower, equal = judge(evidence)
    theirs = Results(here / "theirs")
    own = {run.seed: run for run in gather(theirs, theirs.plans()[0]).outcomes_of(["moe_8x2"])}
    assert {run.seed: run.values["test.bits_per_byte"] for run in evidence.outcomes_of(["moe"])} == {
        seed: run.values["test.bits_per_byte"] for seed, run in own.items()
    }
    assert (better.state, better.n) == ("supported", 6)
    assert sooner.state in ("supported", "inconclusive")
    assert (slower.state, "is not trained here" in slower.reason) == ("not_tested", True)
    assert equal.state == "supported"
    assert any("timings of the table are left out" in note for note in evidence.plan.warnings)


def test_a_ladder_of_models_has_a_trend(here: Path) -> None:
    sizes = {20_000_000: 3.1, 60_000_000: 2.9, 160_000_000: 2.7}
    rows = [f"moe.active_params-{n},{s},{LOSS},{b + s / 1000}\n" for n, b in sizes.items() for s in SEEDS]
    (here / "ours.csv").write_text(HEADER + "".join(rows))
    suite = SUITE[: SUITE.index("  moe:")] + (
        "  moe: {results: ours.csv, sweep: {active_params: [20000000, 60000000, 160000000]}}\n"
        "metrics: {paloma.macro_loss: {unit: nats/token, better: lower}}\nclaims:\n"
        "  falls: {over: moe, along: active_params, metric: paloma.macro_loss, test: {kind: trend, sign: falling}}\n"
    )
    (verdict,) = judge(done(here, suite))
    assert (verdict.state, verdict.unit) == ("supported", "nats/token per doubling of active_params")


def test_what_is_declared_per_item_needs_items(here: Path) -> None:
    assert "is declared per item: a row needs the column item" in planning(
        here, SUITE.replace("per: seed", "per: item")
    )


def lm_eval_folder(path: Path, results: dict[str, Any], samples: dict[str, list[dict[str, Any]]], **told: Any) -> Path:
    """What lm-eval would write, by hand."""
    (path / "m").mkdir(parents=True, exist_ok=True)
    date = told.pop("date", "2026-11-26T12-00-00.000001")
    (path / "m" / f"results_{date}.json").write_text(json.dumps({"results": results, "model_name": "m", **told}))
    for task, rows in samples.items():
        text = "".join(json.dumps({"doc_id": n, "filter": "none", **row}) + "\n" for n, row in enumerate(rows))
        (path / "m" / f"samples_{task}_{date}.jsonl").write_text(text)
    return path


def test_a_group_of_tasks_has_the_items_of_its_tasks(tmp_path: Path) -> None:
    rows = {
        task: [{"doc_hash": f"h{n}", "acc": float(n < k)} for n in range(4)] for task, k in (("one", 1), ("two", 3))
    }
    results = {"all": {"acc,none": 0.5}, "one": {"acc,none": 0.25}, "two": {"acc,none": 0.75}}
    found = read(
        lm_eval_folder(tmp_path / "a", results, rows, group_subtasks={"all": ["one", "two"], "one": [], "two": []})
    )
    column = found.models["m"][None].columns["lm_eval.acc[task=all]"]
    assert [found.names.words[item] for item in column.items][:5] == ["one:h0", "one:h1", "one:h2", "one:h3", "two:h0"]
    assert found.notes == []


def test_the_newest_results_of_a_task_count_and_a_metric_that_is_no_mean_has_no_items(tmp_path: Path) -> None:
    rows = {"one": [{"doc_hash": "h", "acc": 1.0, "f1": 1.0}, {"doc_hash": "h", "acc": 0.0, "f1": 1.0}]}
    lm_eval_folder(tmp_path / "a", {"one": {"acc,none": 0.0}}, {}, date="2026-11-25T12-00-00.000001")
    numbers = {"acc,none": 0.5, "f1,none": 0.8, "acc_stderr,none": "N/A", "perplexity,none": 1e40}
    lm_eval_folder(tmp_path / "a", {"one": numbers}, rows)
    found = read(tmp_path / "a")
    columns = found.models["m"][None].columns
    assert (columns["lm_eval.acc[task=one]"].final, columns["lm_eval.f1[task=one]"].final) == (0.5, 0.8)
    words = [found.names.words[item] for item in columns["lm_eval.acc[task=one]"].items]
    assert words == ["h", "h#1"], "two documents that are equal are two"
    groups = [found.names.words[group] for group in columns["lm_eval.acc[task=one]"].groups]
    assert groups == ["h", "h"], "and one cluster"
    assert len(columns["lm_eval.f1[task=one]"].items) == 0
    assert "perplexity of one: 1e+40 is beyond any measurement" in found.notes, "it costs no other number"
    about = {note.split(":")[0] for note in found.notes}
    assert about == {"one of m", "f1 of one is no mean over its samples", "perplexity of one"}


def test_questions_about_one_passage_are_one_cluster(tmp_path: Path) -> None:
    """As in the tasks that are carried out here: by a field that all have, and that tells them apart."""

    def groups(*docs: dict[str, Any]) -> list[str]:
        rows = [{"doc_hash": f"h{n}", "acc": float(n % 2), "doc": doc} for n, doc in enumerate(docs)]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        found = read(lm_eval_folder(folder, {"one": {"acc,none": 0.5}}, {"one": rows}))
        return [found.names.words[group] for group in found.models["m"][None].columns["lm_eval.acc[task=one]"].groups]

    assert groups({"group": "a"}, {"group": "a"}, {"group": "b"}, {"group": 3}) == ["a", "a", "b", "3"]
    assert groups({"group": "a", "subject": "x"}, {"group": "a", "subject": "y"}) == ["x", "y"]
    assert groups({"group": "a"}, {"group": "b"}, {}, {"group": "b"}) == ["", "", "", ""]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON"),
        ("[]", "is no file of lm-eval's results"),
        ('{"results": []}', "is no file of lm-eval's results: its results are no object"),
        ('{"results": {}}', "its results hold no numbers"),
    ],
)
def test_folders_that_lm_eval_did_not_write(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ResultsError, match="holds no results of lm-eval"):
        read(tmp_path)
    (tmp_path / "results_2026-11-26T12-00-00.json").write_text(text)
    with pytest.raises(ResultsError, match=reason):
        read(tmp_path)


def test_links_in_a_folder_lead_nowhere(tmp_path: Path) -> None:
    lm_eval_folder(tmp_path / "a", {"one": {"acc,none": 0.5}}, {"one": [{"doc_hash": "h", "acc": 0.5}]})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "m").symlink_to(tmp_path / "a" / "m")
    with pytest.raises(ResultsError, match="holds no results of lm-eval"):
        read(tmp_path / "b")


def test_plan_says_where_numbers_are_from_and_over_what_they_are_judged(here: Path) -> None:
    found = run("plan", "suite.yaml")
    assert found.exit_code == 0, found.output
    for said in ("measured elsewhere", "ours.csv", "483,000,000", "primary, of 1", "nothing is trained"):
        assert said in found.stdout
