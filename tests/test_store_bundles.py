"""Bundles: results of a suite in a few text files, packed, read like the folders they were written from."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from moebench import store
from moebench.claims.judge import judge
from moebench.cli.commands import main
from moebench.identity import canonical
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.evidence import gather
from moebench.reporting import build
from moebench.reporting.compare import compare_folders
from moebench.reporting.study import load
from moebench.store import CorruptFile, Folder, Results, Source, open_results, write_bundle
from moebench.store.bundle import FACTS, FILES, MANIFEST
from moebench.store.packing import fold, number_of, number_text, pack, unfold, unpack
from tests.support import golden_results

Golden = tuple[Path, Plan]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    root = tmp_path_factory.mktemp("golden")
    return root, golden_results.write(root, seeds=2)


@pytest.fixture(scope="module")
def bundled(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden suite's bundle, in a folder of bundles."""
    path = tmp_path_factory.mktemp("machine") / "golden"
    write_bundle(*stored(golden[0]), path)
    return path


def stored(root: Path) -> tuple[Source, StoredPlan]:
    source = open_results(root)
    return source, source.plans()[0]


def rows(folder: Folder, name: str) -> list[str]:
    return sorted(map(canonical, folder.each_row(name)))


def changed(path: Path, tmp_path: Path, name: str, change: Callable[[str], str]) -> Path:
    """A copy of a bundle in which one file is another, and MANIFEST says so."""
    copy = tmp_path / "changed"
    shutil.copytree(path, copy)
    (copy / name).write_text(change((copy / name).read_text()))
    manifest, data = json.loads((copy / MANIFEST).read_text()), (copy / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


# ------------------------------------------------------------------------------------------ writing


def test_a_bundle_is_a_few_files_without_weights_and_written_once(golden: Golden, tmp_path: Path) -> None:
    root, plan = golden
    source, newest = stored(root)
    folder = Results(root).job(plan.runs[0].id)
    with folder.lock():
        store.write_bytes(folder.path / "model.safetensors", bytes(1000))
        folder.finish("completed")
    written = write_bundle(source, newest, tmp_path / "bundle")
    assert write_bundle(source, newest, tmp_path / "bundle") == []
    assert set((tmp_path / "bundle").iterdir()) == set(written)
    assert len(written) <= 10
    left_out = json.loads((tmp_path / "bundle" / MANIFEST).read_text())["left_out"]
    weights = hashlib.sha256(hashlib.sha256(bytes(1000)).hexdigest().encode()).hexdigest()
    assert left_out["model.safetensors of train"] == {"sha256": weights, "bytes": 1000}
    assert not any("DONE" in name for name in left_out)


def test_all_that_is_read_reads_back_exactly(golden: Golden, bundled: Path) -> None:
    root, plan = golden
    source, (here, newest) = stored(root)[0], stored(bundled)
    assert newest == source.plans()[0]
    for job in plan.jobs:
        old, new = source.job(job.id), here.job(job.id)
        assert (new.status(), new.verify(), new.id) == (old.status(), [], old.id)
        assert new.job_json() == old.job_json()
        assert rows(new, "items.jsonl") == rows(old, "items.jsonl")
        last = max((record.step or 0 for record in old.records()), default=0)
        kept = [r for r in old.records() if not r.metric.startswith("routing.tokens[") or r.step == last]
        assert sorted(map(repr, new.records())) == sorted(map(repr, kept))
        points = set(plan.models[job.model].recipe.evaluate_at)
        digests = [(row["step"], row["digest"]) for row in old.steps() if row["step"] in points]
        assert set(digests) <= {(row["step"], row["digest"]) for row in new.steps()}
        assert not digests or len(new.steps()) < len(old.steps())
        trained = [row for row in old.each_row("timed.jsonl") if row["what"] == "train"]
        assert rows(new, "timed.jsonl") == sorted(map(canonical, trained))
    assert plan.tune is not None
    assert here.tune(plan.tune.id).read("tune.json") == source.tune(plan.tune.id).read("tune.json")


def test_a_job_that_is_measured_again_changes_few_lines(golden: Golden, bundled: Path, tmp_path: Path) -> None:
    root, plan = golden
    shutil.copytree(root, tmp_path / "source")
    shutil.copytree(bundled, tmp_path / "bundle")
    job = next(job for job in plan.jobs if job.measurement == "memory")
    folder = Results(tmp_path / "source").job(job.id)
    text = (folder.path / "records.jsonl").read_text().splitlines()
    row = json.loads(text[0])
    (folder.path / "records.jsonl").write_text(
        "\n".join([json.dumps({**row, "value": row["value"] + 1}), *text[1:], ""])
    )
    (folder.path / "DONE").unlink()
    folder.finish("completed")
    written = write_bundle(*stored(tmp_path / "source"), tmp_path / "bundle")
    assert {path.name for path in written} == {MANIFEST, FACTS, "records.txt"}
    for name, most in (("records.txt", 1), (FACTS, 6)):
        before, after = ((path / name).read_text().splitlines() for path in (bundled, tmp_path / "bundle"))
        assert 0 < len(set(after) - set(before)) <= most


def test_a_spoilt_run_is_not_written_and_a_failed_one_only_as_its_failure(tmp_path: Path) -> None:
    plan = golden_results.write(tmp_path / "source", seeds=1)
    source = Results(tmp_path / "source")
    failed, spoilt = source.job(plan.runs[0].id), source.job(plan.runs[1].id)
    (failed.path / "DONE").unlink()
    failed.fail("oom", "MemoryError", 7)
    write_bundle(*stored(source.root), tmp_path / "bundle")
    copy = open_results(tmp_path / "bundle").job(failed.id)
    assert (copy.status(), (copy.failure() or {})["reason"]) == ("failed", "MemoryError")
    assert copy.steps() == []
    (spoilt.path / "records.jsonl").write_text("{}\n")
    with pytest.raises(CorruptFile, match=spoilt.id):
        write_bundle(*stored(source.root), tmp_path / "bundle")


@pytest.mark.parametrize(("name", "row"), [("steps.jsonl", {}), ("records.jsonl", {"metric": "train.tokens"})])
def test_rows_that_no_job_writes_are_not_written(
    golden: Golden, tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    root, plan = golden
    shutil.copytree(root, tmp_path / "source")
    folder = Results(tmp_path / "source").job(plan.runs[0].id)
    store.append_lines(folder.path / name, [row])
    folder.finish("completed", None, "omitted")
    with pytest.raises(CorruptFile, match=name.partition(".")[0]):
        write_bundle(*stored(tmp_path / "source"), tmp_path / "copy")


# ------------------------------------------------------------------------------------------ reading


def test_a_bundle_is_judged_reported_loaded_and_compared_as_its_original(
    golden: Golden, bundled: Path, tmp_path: Path
) -> None:
    root, _ = golden
    original, copy = (gather(*stored(path)) for path in (root, bundled))
    assert judge(copy) == judge(original)
    assert copy.tuned == original.tuned
    for a, b in zip(copy.outcomes, original.outcomes, strict=True):
        assert (a.values, a.absent, a.digests, a.step_s, a.finished) == (
            b.values,
            b.absent,
            b.digests,
            b.step_s,
            b.finished,
        )
    for one, other in zip(copy.processes, original.processes, strict=True):
        assert (one.values, one.samples, one.unsteady, one.setup) == (
            other.values,
            other.samples,
            other.unsteady,
            other.setup,
        )
    for path, out in ((root, "a"), (bundled, "b"), (bundled.parent, "c")):
        (report,) = build(path, out=tmp_path / out, formats=("json", "csv"))
        assert report.verdicts == tuple(judge(original))
    for one in (tmp_path / "a").rglob("*.*"):
        assert one.read_bytes() == (tmp_path / "b" / one.relative_to(tmp_path / "a")).read_bytes()
        assert one.read_bytes() == (tmp_path / "c" / one.relative_to(tmp_path / "a")).read_bytes()
    early = load(root)
    early = early[~(early["metric"].str.startswith("routing.tokens[") & (early["step"] < golden_results.STEPS))]
    order = ["model", "metric", "seed", "step"]
    one, other = (frame.sort_values(order, ignore_index=True) for frame in (early, load(bundled.parent)))
    assert one.equals(other)
    assert not any(row.change for row in compare_folders(root, bundled))


def test_a_job_that_a_bundle_lacks_is_missing(bundled: Path) -> None:
    source = open_results(bundled)
    assert source.job("0" * 20).status() == "missing"
    with pytest.raises(store.UnsafeName):
        source.job("../escape")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_not_fit_manifest_spoils_the_bundle(bundled: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundled, copy)
    (copy / name).write_bytes((copy / name).read_bytes().replace(b"1", b"2", 1))
    (problem,) = open_results(copy).unreadable_plans()
    assert (problem.path.name, problem.reason) == (name, "contents differ from what was written")
    (copy / name).unlink()
    (problem,) = open_results(copy).unreadable_plans()
    assert (problem.path.name, problem.reason) == (name, "missing")
    assert open_results(copy).plans() == []


def test_a_link_and_a_file_of_another_name_spoil_the_bundle(bundled: Path, tmp_path: Path) -> None:
    copy = changed(bundled, tmp_path, "items.txt", lambda text: text)
    manifest = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(
        json.dumps({**manifest, "files": {**manifest["files"], "../x": {"sha256": "", "bytes": 0}}})
    )
    assert "is not a file of a bundle" in str(open_results(copy).unreadable_plans()[0])
    (copy / MANIFEST).write_text(json.dumps(manifest))
    (copy / "items.txt").rename(copy / "elsewhere")
    (copy / "items.txt").symlink_to(copy / "elsewhere")
    assert "plain file" in str(open_results(copy).unreadable_plans()[0])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("records.txt", "curve.bits_per_byte\t30\t", "curve.bits_per_byte\t30\tnan\t"),
        ("records.txt", "curve.bits_per_byte\t30\t", "curve.bits_per_byte\t-30\t"),
        ("records.txt", "@ train dense\n", "@ train other\n"),
        ("items.txt", "bits=n", "bits=x"),
        ("items.txt", "bits=n", "bits=g99:"),
        ("steps.txt", "@ train moe_8x2\n0", "@ train moe_8x2\n99"),
    ],
)
def test_a_row_that_is_none_makes_its_job_corrupt(bundled: Path, tmp_path: Path, name: str, old: str, new: str) -> None:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    evidence = gather(*stored(changed(bundled, tmp_path, name, change)))
    reasons = [outcome.reason or "" for outcome in evidence.outcomes if outcome.status == "corrupt"]
    assert reasons
    assert all(name in reason for reason in reasons)
    assert len(reasons) < len(evidence.outcomes)


def test_a_value_that_cannot_be_is_refused_as_in_a_folder(bundled: Path, tmp_path: Path) -> None:
    def change(text: str) -> str:
        lines = text.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith("test.bits_per_byte\t"))
        cells = lines[at].split("\t")
        lines[at] = "\t".join([*cells[:2], *("-1.0" for _ in cells[2:])])
        return "\n".join(lines) + "\n"

    evidence = gather(*stored(changed(bundled, tmp_path, "records.txt", change)))
    told = [one.reason or one.absent.get("test.bits_per_byte", "") for one in evidence.outcomes]
    assert any("below 0" in why for why in told), told


def test_a_job_has_the_id_of_what_it_says_it_did(golden: Golden, bundled: Path, tmp_path: Path) -> None:
    _, plan = golden
    lied = changed(bundled, tmp_path, FACTS, lambda text: text.replace('"batch_tokens":4096', '"batch_tokens":4097'))
    assert all(open_results(lied).job(run.id).status() == "missing" for run in plan.runs)


def test_a_bundle_that_unfolds_without_end_is_refused(bundled: Path, tmp_path: Path) -> None:
    value = fold({"plans": []})
    value["value"] = {"plans": {"$rows": 10**12, "of": {"$runs": [[1, 10**12]]}}}
    copy = changed(bundled, tmp_path, FACTS, lambda _: json.dumps(value))
    assert "unfolds to more" in str(open_results(copy).unreadable_plans()[0])


def test_a_spoilt_bundle_beside_others_is_passed_over(bundled: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(bundled, tmp_path / name)
    (tmp_path / "two" / FACTS).write_text("{}")
    source = open_results(tmp_path)
    assert len(source.plans()) == 1
    assert len(source.unreadable_plans()) == 1


@pytest.mark.parametrize("command", ["run", "plan"])
def test_nothing_is_run_into_bundles(bundled: Path, tmp_path: Path, command: str) -> None:
    before = sorted(bundled.parent.rglob("*"))
    for path in (bundled, bundled.parent):
        done = CliRunner().invoke(main, [command, "quickstart", "--results", str(path)])
        assert (done.exit_code, done.stdout) == (2, "")
        assert "holds bundles, which are only read" in done.stderr
    assert sorted(bundled.parent.rglob("*")) == before


# ----------------------------------------------------------------------------------------------------
# Packed numbers and folded JSON read back exactly, and what is not so written is refused.


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
NUMBER = FINITE | SINGLE | st.integers(-(2**63) + 1, 2**63 - 1)
TEXT = st.text("abcdefgh", max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=30,
)


def exactly(value: object) -> str:
    """Tells 1 from 1.0 and 0.0 from -0.0, but not one order of keys from another."""
    return json.dumps(value, sort_keys=True)


@given(NUMBER)
def test_a_number_reads_back_exactly(value: float) -> None:
    assert exactly(number_of(number_text(value))) == exactly(value)


@given(
    st.lists(NUMBER, max_size=30)
    | st.lists(st.integers(0, 10**6), max_size=30)
    | st.lists(st.integers(0, 10**10).map(lambda n: n / 1e9), max_size=30)
    | st.lists(st.integers(0, 2**45).map(lambda n: n / 2**33), max_size=30)
)
def test_many_numbers_read_back_exactly_from_one_word(values: list[float]) -> None:
    word = pack(values)
    assert exactly(unpack(word)) == exactly(values)
    assert word.isascii()
    assert not set(word) & set(' \t\n"\\')


def test_the_forms_are_short() -> None:
    assert number_text(struct.unpack("<f", struct.pack("<f", 0.1))[0]) == "0.1f"
    assert number_text(0.1) == "0.1"
    assert pack([0, 63, 1]) == "iBA_B"
    assert pack([2e-9, 1e-9]) == "nED"  # 2, then -1
    assert len(pack([749.0499851573259] * 100)) < 810


@pytest.mark.parametrize("values", [[math.nan], [1.0, math.inf]])
def test_what_is_not_finite_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        pack(values)


@pytest.mark.parametrize(
    "word", ["", "x1", "i", "iA", "iCABC", "iB!", "n!", "ng", "g99:BA", "g:BA", "w1,nan", "w1_0", "winf"]
)
def test_no_other_word_reads(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(word)


@given(JSON)
def test_json_unfolds_to_what_was_folded(value: object) -> None:
    assert exactly(unfold(json.loads(json.dumps(fold(value))))) == exactly(value)


def test_what_repeats_stands_once() -> None:
    machine = {"machine": "2-core x86_64 CPU", "threads": 1, "packages": {"torch": "2.13.0+cpu"}, "notes": "-" * 50}
    rows = [{"seed": seed, "environment": machine, "at": {"day": seed, "year": 2026}} for seed in range(8)]
    text = json.dumps(fold({"a": rows, "b": [machine, machine]}))
    assert text.count("2-core") == 1
    assert text.count("2026") == 1


def test_what_two_plans_have_in_common_stands_once_and_their_rows_stay_columns() -> None:
    """A plan that was stored again with one more claim: its claims, its list of jobs and their rows are there twice."""
    claims = {f"claim-{n}": {"says": f"The {n}th is better. " * 5, "test": {"kind": "superior"}} for n in range(9)}
    jobs = [{"id": f"{n:020x}", "model": "moe_8x2" * 20, "inputs": [f"{n + 1:020x}"]} for n in range(40)]
    plans = [{"claims": dict(list(claims.items())[:many]), "jobs": jobs} for many in (8, 9)]
    text = json.dumps(fold({"plans": plans[:1], "akin": plans[1:]}))
    assert all(text.count(f"The {n}th") == 5 for n in range(9))
    assert f"{7:020x}" not in text  # a column of hashes is a word
    assert text.count('"$rows"') == 1


def test_a_column_of_times_is_one_word() -> None:
    rows = [{"id": f"{n:020x}", "started": 1795776817.5264282 + 13.1 * n} for n in range(50)]
    text = json.dumps(fold(rows))
    assert '"$numbers"' in text
    assert len(text) < 50 * (24 + 12) + 200
    assert exactly(unfold(json.loads(text))) == exactly(rows)


def test_hashes_a_choice_and_objects_of_several_kinds_are_columns_too() -> None:
    """One row in three has a key more, as the folder of a stage has what it starts from."""
    digests = [hashlib.sha256(bytes([n])).hexdigest() for n in range(90)]
    rows = [
        {"id": digests[n][:20], "run": {"of": digests[n % 3], "at": f"step {n}"}, **({"start": n} if n % 3 else {})}
        for n in range(90)
    ]
    for some in (rows, [{"all": row} for row in rows]):
        text = json.dumps(fold(some))
        assert exactly(unfold(json.loads(text))) == exactly(some)
        assert text.count('"at"') < 6
        assert all(text.count(digest) == 1 for digest in digests[:3])
        assert not any(digest[:20] in text for digest in digests[3:])
        assert len(text) < 90 * (14 + 10 + 5) + 900


def test_keys_of_folded_json_are_not_folded() -> None:
    with pytest.raises(ValueError, match="only folded JSON has"):
        fold({"a": {"$": 0}, "b": [{"$runs": 1}]})


def test_what_unfolds_without_end_is_refused() -> None:
    shared: list[object] = ["x" * 30]
    shared += [[{"$": n}] * 10 for n in range(30)]
    with pytest.raises(ValueError, match="unfolds to more"):
        unfold({"shared": shared, "value": {"$": 30}})
    with pytest.raises(ValueError, match="unfolds to more"):
        unfold({"shared": [], "value": {"$rows": 10**12, "of": {"$runs": [[1, 10**12]]}}})


@pytest.mark.parametrize(
    "folded",
    [
        {},
        {"shared": []},
        {"shared": [], "value": {"$": 0}},
        {"shared": [], "value": {"$rows": 2, "of": [1]}},
        {"shared": [], "value": {"$rows": 2, "of": {"$numbers": "iBA"}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$numbers": 3}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$hashes": 10**9, "of": "BAB"}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$hashes": 12, "of": "BABC"}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$choice": [1, 2], "at": "iBAC"}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$kinds": [0, 1], "of": [[{}]]}}},
        {"shared": [], "value": {"$rows": 2, "of": {"$kinds": [0, 0], "of": [[{}]]}}},
    ],
)
def test_no_other_json_unfolds(folded: object) -> None:
    with pytest.raises((ValueError, KeyError, IndexError, TypeError)):
        unfold(folded)
