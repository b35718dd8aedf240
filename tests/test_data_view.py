"""What of the text a model is trained on: the view takes what it says, of training alone, and is part of every run.

A view misleads where two models are held against each other that had different ones: such a verdict is INVALID.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moebench import api
from moebench.claims.kinds.kind import MarginKind
from moebench.data.batches import train_batch
from moebench.data.corpus import Corpus
from moebench.data.documents import DataError
from moebench.data.selection import select
from moebench.jobs.recipe import Run
from moebench.store import Results
from moebench.suite.load import load_suite
from moebench.suite.view import TrainingView
from tests.support import small_corpora, tiny_suites
from tests.support.builders import BPB, SUPERIOR, TWIN, claim, evidence_of, judged, with_plan, with_recipe
from tests.support.suite_texts import load, messages

SIZES = {"code": [300, 500, 200, 400, 600], "prose": [250, 150, 350], "logs": [120, 80]}


def texts(split: str) -> list[Any]:
    bodies = [(f"{split}/{domain}/{i}", domain, n) for domain, sizes in SIZES.items() for i, n in enumerate(sizes)]
    drawn = enumerate(bodies, start=len(split))
    return [small_corpora.text(name, small_corpora.words(seed, n), domain=domain) for seed, (name, domain, n) in drawn]


@pytest.fixture(scope="module")
def whole() -> Corpus:
    return small_corpora.corpus(train=texts("train"), tune=texts("tune"), test=texts("test"), context=16)


def seen(corpus: Corpus) -> dict[str, int]:
    """Domain -> bytes of its training documents."""
    documents = corpus.documents("train")
    sizes = documents.stops - documents.starts
    return {name: int(sizes[some].sum()) for name, some in documents.by_domain().items() if len(some)}


# ---------------------------------------------------------------------------------------------- which documents


def test_a_view_takes_whole_documents_of_training_and_leaves_the_rest(whole: Corpus, tmp_path: Path) -> None:
    part = select(whole, TrainingView(domains=["code"]), cache=tmp_path)
    assert seen(part) == {"code": 2000}
    assert [one.name for one in part.documents("train")] == [f"train/code/{i}" for i in range(5)]
    for split in ("tune", "test"):
        assert part.split_digest(split) == whole.split_digest(split)
        assert part.text_digest(split) == whole.text_digest(split)
    assert part.digest != whole.digest
    assert "trained on 2,000 bytes of 5 documents (code 100.00%; none of prose or logs)" in part.facts.notes[-1]
    again = select(whole, TrainingView(domains=["code"]), cache=tmp_path)
    assert (again.digest, again.facts) == (part.digest, part.facts), "from the cache"


def test_what_is_written_otherwise_and_is_the_same_text_is_the_same_data(whole: Corpus, tmp_path: Path) -> None:
    kept = select(whole, TrainingView(domains=["code"]), cache=tmp_path)
    left = select(whole, TrainingView(holdout=["prose", "logs"]), cache=tmp_path)
    assert kept.digest == left.digest
    for everything in (TrainingView(limit=1e9), TrainingView(domains=list(SIZES))):
        assert select(whole, everything, cache=tmp_path) is whole


@given(limit=st.integers(200, 4000))
def test_a_limit_is_kept_to_half_a_document_of_each_domain(limit: int) -> None:
    corpus = small_corpora.corpus(train=texts("train"), tune=texts("tune"), test=texts("test"), context=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moebench.data.selection.load", lambda *_, **__: None)
        patch.setattr("moebench.data.selection._written", lambda _c, chosen, _f, note: (chosen, note))
        chosen = select(corpus, TrainingView(limit=limit), cache=Path())
    if isinstance(chosen, Corpus):
        assert limit >= sum(map(sum, SIZES.values())) - sum(map(max, SIZES.values()))
        return
    documents = corpus.documents("train")
    sizes = (documents.stops - documents.starts)[chosen[0]]
    assert abs(int(sizes.sum()) - limit) <= sum(max(sizes) for sizes in SIZES.values()) / 2


def test_shares_of_a_mix_hold_and_others_have_the_rest_by_their_size(whole: Corpus, tmp_path: Path) -> None:
    many = [
        small_corpora.text(f"{domain}/{i}", small_corpora.words(1000 * j + i, 40), domain=domain)
        for j, (domain, count) in enumerate((("code", 300), ("prose", 100), ("logs", 200)))
        for i in range(count)
    ]
    corpus = small_corpora.corpus(train=many, tune=texts("tune"), test=texts("test"), context=16)
    for share in (0.003, 0.05, 0.4):
        found = seen(select(corpus, TrainingView(mix={"prose": share}), cache=tmp_path))
        total = sum(found.values())
        assert found["prose"] / total == pytest.approx(share, abs=40 / total)
        assert found["code"] / found["logs"] == pytest.approx(1.5, rel=0.05)
    alone = seen(select(corpus, TrainingView(mix={"code": 0.5, "prose": 0.5}), cache=tmp_path))
    assert alone == {"code": 4000, "prose": 4000}, "nothing is left for logs; the scarcer is kept whole"
    little = seen(select(corpus, TrainingView(mix={"prose": 0.25}, limit=4000), cache=tmp_path))
    assert little["prose"] == 1000
    assert sum(little.values()) == pytest.approx(4000, abs=40)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (TrainingView(domains=["cod"]), "no training text has the domain cod: did you mean 'code'"),
        (TrainingView(mix={"code": 0.5}, domains=["code"]), "add up to 0.5, and there is no other domain"),
        (TrainingView(holdout=list(SIZES)), "nothing is left to train on"),
        (TrainingView(mix={"prose": 0.01}), "bytes of prose are less than one of its documents"),
        (TrainingView(limit=20), "no document of the training text is as small"),
    ],
)
def test_a_view_that_cannot_be_had_says_why(whole: Corpus, tmp_path: Path, view: TrainingView, words: str) -> None:
    with pytest.raises(DataError, match=words):
        select(whole, view, cache=tmp_path)


# ---------------------------------------------------------------------------------------------- replaced tokens


def batches(corpus: Corpus, share: float, *, seed: int = 0) -> NDArray[np.int64]:
    rows = [train_batch(corpus, seed=seed, step=step, batch_tokens=320, corrupt=share) for step in range(20)]
    return np.concatenate(rows)


def test_tokens_are_replaced_in_their_share_by_tokens_of_the_text_alike_for_every_model(whole: Corpus) -> None:
    clean, noisy = batches(whole, 0.0), batches(whole, 0.3)
    assert np.array_equal(noisy, batches(whole, 0.3))
    assert not np.array_equal(noisy, batches(whole, 0.3, seed=1))
    # 4 of 30 words are blanks, the others alike: a replacement is what stood there in 4.5% of places.
    assert np.mean(clean != noisy) == pytest.approx(0.3 * (1 - 0.0178 - 26 / 900), abs=0.02)
    assert set(np.unique(noisy)) <= set(np.unique(whole.tokens("train")).tolist())
    assert np.array_equal(clean == 0, noisy == 0), "documents begin where they began"
    less = batches(whole, 0.1)
    assert np.all((less == clean) | (less == noisy)), "more noise replaces what less did"
    first, second = (clean != noisy).reshape(20, -1)[:2]
    assert np.any(first != second), "drawn anew at each step"


# ---------------------------------------------------------------------------------------------- in a suite

DENSE = {"layers": 1, "width": 8, "heads": 2, "ffn": {"kind": "dense", "hidden": 8}}
SPEC: dict[str, Any] = {
    "models": {
        "dense": DENSE,
        "wide": {"base": "dense", "ffn": {"hidden": 12}},
        "few": {"base": "dense", "data": {"limit": 3000}},
        "wide_few": {"base": "wide", "data": {"limit": 3000}},
        "one": {"base": "dense", "data": {"domains": ["source-0"]}},
        "without": {"base": "dense", "data": {"holdout": "source-1"}},
        "noisy": {"base": "dense", "sweep": {"data.corrupt": [0.0, 0.1, 0.3]}},
        "bpe": {"base": "dense", "data": {"tokenizer": {"bpe": 300}}},
        "bpe_few": {"base": "few", "data": {"tokenizer": {"bpe": 300}}},
    },
    "train": {"budget": {"steps": 3}, "evaluate": {"points": 1, "tokens": 256, "final_tokens": 2000}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    return tiny_suites.planned(tmp_path_factory.mktemp("views"), **SPEC)


def test_a_view_is_part_of_what_a_run_is(made: api.Planned) -> None:
    plan = made.plan
    ids = {run.model: run.id for run in plan.runs if run.seed == 0}
    assert len({ids[name] for name in ("dense", "few", "one", "noisy.corrupt-0.1", "noisy.corrupt-0.3")}) == 5
    assert ids["noisy.corrupt-0"] == ids["dense"], "no noise is the model as it was"
    assert ids["one"] == ids["without"], "the same text, written otherwise"
    assert set(plan.views) == {"few", "wide_few", "one", "without", "bpe", "bpe_few"}
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


def test_without_a_view_no_run_is_another(made: api.Planned, tmp_path: Path) -> None:
    plain = {name: SPEC["models"][name] for name in ("dense", "wide")}
    alone = tiny_suites.planned(tmp_path, **{**SPEC, "models": plain})
    assert {run.id for run in alone.plan.runs} < {run.id for run in made.plan.runs}
    assert "corrupt" not in made.plan.model_dump(mode="json")["models"]["dense"]["recipe"]


def test_a_part_is_read_in_tokens_that_were_learned_from_all(made: api.Planned) -> None:
    whole, part, text = (made.plan.data_of(name) for name in ("bpe", "bpe_few", "few"))
    assert part.tokenizer == whole.tokenizer
    assert part.text_digest == text.text_digest != whole.text_digest
    assert part.tokens["train"] < whole.tokens["train"]
    assert part.tokens["test"] == whole.tokens["test"]


def test_runs_train_on_their_view_and_are_scored_on_the_same_text(tmp_path: Path) -> None:
    models = {name: SPEC["models"][name] for name in ("dense", "few", "noisy", "bpe_few")}
    path = tiny_suites.write(tmp_path, **{**SPEC, "models": models, "seeds": 1})
    found = tiny_suites.call_run(path)
    assert found.exit_code == 0, found.output
    plan = api.prepare_plan(path, results=tmp_path / "results").plan
    folders = {run.model: Results(tmp_path / "results").job(run.id) for run in plan.runs}
    about = {name: folder.job_json() for name, folder in folders.items()}
    assert len({one["data_splits"]["test"]["digest"] for one in about.values()}) == 1
    assert about["few"]["view"] == {"limit": 3000.0}
    assert "view" not in about["dense"]
    digests = {name: folder.steps()[-1]["digest"] for name, folder in folders.items()}
    assert len(set(digests.values())) == 5, "the first noisy model is the dense one"
    page = (tmp_path / "reports" / "tiny" / "index.md").read_text()
    assert "A part of its training text for few" in page
    assert "30% of the training tokens of noisy.corrupt-0.3 are replaced" in page
    assert "did NOT read identical data" not in page


def test_epochs_are_those_of_the_view(made: api.Planned) -> None:
    models = {"few": {**DENSE, "data": {"limit": 2000}, "train": {"budget": {"steps": 100}}}}
    plan = tiny_suites.planned(made.loaded.path.parent, **{**SPEC, "models": models}).plan
    assert any(note.startswith("few reads the training split 6") for note in plan.warnings), plan.warnings
    run = Run.model_validate(made.graph.jobs[0].spec)
    assert run.data_digest == made.plan.data.digest


BASE = """\
suite: x
question: Is it so?
seeds: 8
data: {source: stdlib, context: 64}
train: {budget: {tokens: 1.0e6}, batch_tokens: 1024}
models:
  dense: {layers: 2, width: 32, heads: 4, ffn: {kind: dense, hidden: 99}, data: {DATA}}
"""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("domains: [cod]", "the data have no domain 'cod'"),
        ("holdout: prosa", "did you mean 'prose'"),
        ("mix: {kode: 10%}", "did you mean 'code'"),
        ("mix: {code: 70%, prose: 40%}", "the shares of mix add up to 1.1"),
        ("domains: [code], holdout: prose", "give one of the two"),
        ("domains: [code], mix: {prose: 10%}", "prose has a share in mix and is left out"),
        ("corrupt: 100%", "corrupt must be below 1"),
        ("corrupt: lots", "is not an amount"),
        ("limit: 0", "limit must be at least 1"),
        ("limits: 10", "did you mean 'limit'"),
    ],
)
def test_what_cannot_be_is_told_at_its_place(tmp_path: Path, data: str, words: str) -> None:
    told = messages(tmp_path, BASE.replace("DATA", data))
    assert words in told
    assert "suite.yaml:7:" in told


def test_a_share_may_be_a_percentage_and_is_swept_as_a_number(tmp_path: Path) -> None:
    spec = load(tmp_path, BASE.replace("data: {DATA}", "data: {corrupt: 10%}, sweep: {data.mix.prose: [0.003, 0.1]}"))
    views = {name: spec.view_of(name) for name in spec.models}
    assert [view.mix for view in views.values()] == [{"prose": 0.003}, {"prose": 0.1}]
    assert {view.corrupt for view in views.values()} == {0.1}
    assert spec.sweeps["dense"]["dense.prose-0.1"] == {"data.mix.prose": 0.1}


# ---------------------------------------------------------------------------------------------- verdicts

MOE, PLAIN = [1.9 + s / 1e3 for s in range(8)], [2.0 - s / 1e3 for s in range(8)]


def parted(evidence: Any, **digests: str) -> Any:
    """The same evidence of models that were trained on parts of the text."""
    views = {name: evidence.plan.data.model_copy(update={"digest": digest}) for name, digest in digests.items()}
    return with_plan(evidence, views=views)


def test_models_of_different_views_are_not_compared_unless_that_is_the_claim() -> None:
    values = {"moe": {BPB: MOE}, "dense": {BPB: PLAIN}}
    alike = evidence_of(values, {"c": claim(SUPERIOR)})
    assert judged(alike).state == "supported"
    assert judged(parted(alike, moe="part", dense="part")).state == "supported"
    other = judged(parted(alike, moe="part"))
    assert other.state == "invalid"
    assert "moe and dense are trained on different parts of the text" in other.reason
    noisy = judged(with_recipe(alike, "dense", corrupt=0.1))
    assert (noisy.state, noisy.reason) == ("invalid", other.reason)
    meant = evidence_of(values, {"c": claim(SUPERIOR, across="data")})
    assert judged(parted(meant, moe="part")).state == "supported"


def test_views_do_not_matter_to_what_is_counted() -> None:
    metric = "cost.total_params"
    counted = evidence_of({"moe": {}, "dense": {}}, {"c": claim({"kind": "ratio_at_least", "value": 0.5}, metric)})
    assert "different parts" not in judged(parted(counted, moe="part")).reason


SWEEPS = {name: {f"{name}_{n}": {"data.limit": float(n)} for n in (1000, 2000, 4000)} for name in ("moe_s", "dense_s")}
PAIR = {"treatment": "moe_s", "baseline": "dense_s"}


def gaining(views: dict[str, str], **changes: Any) -> Any:
    """Two sweeps over the size of the training text; the gain grows with it."""
    jitter = [s / 1e4 for s in range(8)]
    values: dict[str, Any] = {}
    for i, n in enumerate((1000, 2000, 4000)):
        values[f"moe_s_{n}"] = {BPB: [2.0 - 0.05 * i + d for d in jitter]}
        values[f"dense_s_{n}"] = {BPB: [2.0 - d for d in jitter]}
    test = {"kind": "trend", "sign": "rising"}
    block = {**claim(test, compare=PAIR, along="data.limit"), **changes}
    evidence = parted(with_plan(evidence_of(values, {"c": block}, sweeps=SWEEPS), matches=()), **views)
    return replace(evidence, outcomes=tuple(read(run, views.get(run.model, "")) for run in evidence.outcomes))


def read(run: Any, view: str) -> Any:
    """The run with digests of a view's tokens."""
    return replace(run, digests={step: f"{digest}{view}" for step, digest in run.digests.items()})


EACH = {name: name.rpartition("_")[2] for points in SWEEPS.values() for name in points}


def test_sweeps_over_data_are_compared_point_by_point() -> None:
    """Runs of one point have read the same tokens, those of different points have not."""
    verdict = judged(gaining(EACH))
    assert verdict.state == "supported", verdict.reason
    off = judged(gaining({**EACH, "dense_s_4000": "2000"}))
    assert off.state == "invalid"
    assert "moe_s_4000 and dense_s_4000 are trained on different parts" in off.reason
    ends = judged(gaining(EACH, test={"kind": "crosses", "margin": "1%"}))
    assert ends.state == "supported", ends.reason
    assert judged(gaining({**EACH, "moe_s_1000": "x"}, test={"kind": "crosses", "margin": "1%"})).state == "invalid"


def test_models_of_one_point_must_have_read_the_same_tokens() -> None:
    evidence = gaining(EACH)
    changed = [read(run, "another") if run.model == "moe_s_2000" else run for run in evidence.outcomes]
    verdict = judged(replace(evidence, outcomes=tuple(changed)))
    assert verdict.state == "invalid"
    assert "did not see the same tokens" in verdict.reason


def test_a_sweep_over_models_has_one_view_unless_it_is_swept_itself() -> None:
    points = {f"moe_s{x}": {"ffn.experts": float(x)} for x in (2, 4, 8)}
    values = {name: {BPB: [2.0 - 0.01 * i + s / 1e4 for s in range(8)]} for i, name in enumerate(points)}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe_s", along="ffn.experts")
    evidence = with_plan(evidence_of(values, {"c": block}, sweeps={"moe_s": points}), matches=())
    assert judged(evidence).state == "supported"
    assert judged(parted(evidence, moe_s8="part")).state == "invalid"
    sized = {name: {"data.limit": point["ffn.experts"]} for name, point in points.items()}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe_s", along="data.limit")
    evidence = with_plan(evidence_of(values, {"c": block}, sweeps={"moe_s": sized}), matches=())
    assert judged(parted(evidence, **{name: name for name in points})).state == "supported"


def test_a_second_pair_may_have_another_view_than_the_first() -> None:
    columns = {"moe": MOE, "dense": PLAIN, "moe_b": PLAIN, "dense_b": PLAIN}
    other = {"treatment": "moe_b", "baseline": "dense_b"}
    values = {name: {BPB: column} for name, column in columns.items()}
    evidence = evidence_of(values, {"c": claim(SUPERIOR, compare=TWIN, minus=other)})
    assert judged(parted(evidence, moe_b="part", dense_b="part")).state == "supported"
    assert judged(parted(evidence, moe_b="part")).state == "invalid"


def noisy(test: dict[str, Any]) -> Any:
    """The same gain of 0.05 bits at each level of noise, over losses that noise raises."""
    losses = {"clean": 2.0, "some": 2.6, "much": 3.4}
    values: dict[str, Any] = {}
    for turn, (level, loss) in enumerate(losses.items()):
        values[f"moe_{level}"] = {BPB: [loss - 0.05 + (s * (2 * turn + 1) % 8 - 3.5) / 1e3 for s in range(8)]}
        values[f"dense_{level}"] = {BPB: [loss] * 8}
    shares = dict(zip(losses, (0.0, 0.1, 0.3), strict=True))
    sweeps = {
        f"{kind}_s": {f"{kind}_{level}": {"data.corrupt": share} for level, share in shares.items()}
        for kind in ("moe", "dense")
    }
    pairs = [{"treatment": f"moe_{level}", "baseline": f"dense_{level}"} for level in ("clean", "much")]
    of = (
        {"compare": PAIR, "along": "data.corrupt"}
        if test["kind"] == "trend"
        else dict(zip(("compare", "minus"), pairs, strict=True))
    )
    evidence = with_plan(evidence_of(values, {"c": claim(test, **of)}, sweeps=sweeps), matches=())
    for kind in ("moe", "dense"):
        for level, share in shares.items():
            evidence = with_recipe(evidence, f"{kind}_{level}", corrupt=share)
    marked = (read(run, run.model.partition("_")[2]) for run in evidence.outcomes)
    return judged(replace(evidence, outcomes=tuple(marked)))


def test_a_gain_that_falls_in_percent_may_be_the_same_in_bits() -> None:
    """Noise leaves less to be gained for whoever: what a trend says in percent is to be asked in bits too."""
    assert noisy({"kind": "trend", "sign": "falling"}).state == "supported"
    assert noisy({"kind": "interaction", "margin": "0%"}).state == "supported"
    assert noisy({"kind": "interaction", "margin": 0}).state != "supported"
    assert noisy({"kind": "interaction", "margin": 0.02}).state == "refuted"


def test_the_suite_asks_in_both_and_stops_early_where_text_is_repeated() -> None:
    suites = Path(api.__file__).parents[1] / "suites"
    spec, rare = (load_suite(suites / f"{name}.yaml").spec for name in ("data", "rare"))
    for claims, name in ((spec.claims, "noisy-inputs-hurt"), (rare.claims, "rare-inputs-suffer")):
        bits = claims[f"{name}-in-bits"].test
        assert isinstance(bits, MarginKind)
        assert not bits.margin.relative
    for name, model in spec.decoders.items():
        assert model.train is not None
        few = (model.data.limit if model.data else None) is not None
        assert (model.train.evaluate.keep == "best_on_tune") == few, name


def test_across_data_needs_different_data(tmp_path: Path) -> None:
    text = BASE.replace(", data: {DATA}", "") + (
        "  other: {base: dense, ffn: {hidden: 98}}\n"
        "claims:\n  c:\n    compare: {treatment: dense, baseline: other}\n    metric: test.bits_per_byte\n"
        "    across: data\n    test: {kind: superior, margin: 0%}\n"
    )
    assert "its models are trained on the same text" in messages(tmp_path, text)
    parts = text.replace("ffn: {hidden: 98}", "data: {domains: [code]}")
    assert load(tmp_path, parts).claims["c"].across == "data"
    assert "differ in what they are trained on" in str(
        api.validate(tmp_path / "suite.yaml", sets=["claims.c.across=null"])[1]
    )
