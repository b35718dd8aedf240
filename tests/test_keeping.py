"""Early stopping by choice: a run leaves the weights of its best look at the tune split, alike for every model.

Text that is read often punishes whoever overfits sooner, unless each model is measured at its best; and whoever looks
more often has more to choose from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from moebench import api
from moebench.jobs import loop
from moebench.jobs.measuring import load_state, scored_windows
from moebench.jobs.recipe import Run, training_of
from moebench.metrics.measurement import NotFinite
from moebench.metrics.quality import evaluate
from moebench.models.decoder.subject import DecoderSubject
from moebench.store import Results
from tests.support import tiny_suites
from tests.support.builders import BPB, SUPERIOR, claim, evidence_of, judged, with_recipe
from tests.support.suite_texts import messages

LOOK, KEPT = "train.tune_bits_per_byte", "train.kept_tokens"
TRAIN = {
    "budget": {"steps": 40},
    "optimizer": {"lr": 0.1, "weight_decay": 0.0},
    "schedule": {"decay": "none"},
    "evaluate": {"points": 8, "tokens": 256, "final_tokens": 512, "keep": "best_on_tune"},
}
FEW = {"layers": 1, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 32}, "data": {"limit": 1000}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    """One model on a thousand bytes, again and again."""
    folder = tmp_path_factory.mktemp("keeping")
    return tiny_suites.planned(folder, models={"few": FEW}, train=TRAIN, seeds=1)


def trained(made: api.Planned, root: Path, **changes: Any) -> tiny_suites.Left:
    (job,) = (job for job in made.graph.jobs if job.kind == "train")
    ended = loop.execute(job, root=root, on_event=lambda _: None, should_stop=lambda: False)
    assert ended == "completed"
    return tiny_suites.Left.of(root, [job])


def test_a_run_leaves_the_weights_of_its_best_look(made: api.Planned, tmp_path: Path) -> None:
    left = trained(made, tmp_path)
    records = left.records()
    looks = {one.step: one.value for one in records if one.metric == LOOK}
    assert list(looks) == [5, 10, 15, 20, 25, 30, 35, 40]
    best = min(looks, key=lambda step: (looks[step], step))
    assert best < 40, "the last weights would prove nothing"
    (kept,) = (one.value for one in records if one.metric == KEPT)
    assert kept == best * 128
    run = Run.model_validate(made.graph.jobs[0].spec)
    job = next(job for job in made.graph.jobs if job.kind == "train")
    corpus = loop.corpus_of(job, run.data_digest, tmp_path)
    subject = DecoderSubject(load_state(run, left.trained).model, corpus.tokenizer)
    on_tune = scored_windows(corpus, run.recipe.model_copy(update={"split": "tune"}), tokens=256)
    assert evaluate(subject, on_tune).bits_per_byte() == looks[best]
    names = {path.name for path in left.trained.path.iterdir()}
    assert not any("checkpoint" in name for name in names), names


def test_the_last_weights_stay_the_default(made: api.Planned, tmp_path: Path) -> None:
    recipe = made.plan.decoders["few"].recipe
    last = recipe.model_copy(update={"keep": "last"})
    assert "keep" not in last.model_dump(mode="json")
    assert recipe.model_dump(mode="json")["keep"] == "best_on_tune"
    run = Run.model_validate(made.graph.jobs[0].spec)
    job = next(job for job in made.graph.jobs if job.kind == "train")
    plain = job.model_copy(update={"spec": run.model_copy(update={"recipe": last}).model_dump(mode="json")})
    loop.execute(plain, root=tmp_path, on_event=lambda _: None, should_stop=lambda: False)
    folder = Results(tmp_path).job(plain.id)
    assert not {LOOK, KEPT} & {one.metric for one in folder.records()}
    assert folder.steps() == trained(made, tmp_path).steps(), "looking changes nothing of the training"


@pytest.mark.parametrize("at", [7, 12, 33, 40])
def test_a_stopped_run_that_goes_on_leaves_the_same_weights(made: api.Planned, tmp_path: Path, at: int) -> None:
    whole = trained(made, tmp_path / "whole")
    (job,) = (job for job in made.graph.jobs if job.kind == "train")
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps >= at

    ended = loop.execute(job, root=tmp_path / "cut", on_event=lambda _: None, should_stop=stop)
    assert ended == ("completed" if at == 40 else "stopped")
    again = trained(made, tmp_path / "cut") if ended == "stopped" else tiny_suites.Left.of(tmp_path / "cut", [job])
    assert again.contents() == whole.contents()


def test_a_run_killed_after_a_better_look_takes_it_again(
    made: api.Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights are on the disk before the checkpoint that knows of them."""
    whole = trained(made, tmp_path / "whole")
    (job,) = (job for job in made.graph.jobs if job.kind == "train")
    real = loop._checkpoint

    def dies(checkpoints: Any, journal: Any, state: Any) -> None:
        if state.step == 20:
            raise KeyboardInterrupt
        real(checkpoints, journal, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            loop.execute(job, root=tmp_path / "cut", on_event=lambda _: None, should_stop=lambda: False)
    assert trained(made, tmp_path / "cut").contents() == whole.contents()


def test_a_look_that_is_no_number_is_a_divergence(
    made: api.Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise NotFinite("cross-entropy")

    monkeypatch.setattr("moebench.jobs.keeping.evaluate", fails)
    (job,) = (job for job in made.graph.jobs if job.kind == "train")
    assert loop.execute(job, root=tmp_path, on_event=lambda _: None, should_stop=lambda: False) == "diverged"
    assert "on the tune split is not finite" in str((Results(tmp_path).job(job.id).manifest() or {})["reason"])


def test_a_sweep_of_rates_takes_the_same_looks(tmp_path: Path) -> None:
    tune = {"lr": [0.01, 0.02, 0.04]}
    best = tiny_suites.planned(tmp_path, models={"few": FEW}, train=TRAIN, seeds=1, tune=tune)
    assert best.graph.sweep is not None
    for job in best.graph.sweep.jobs:
        if job.kind == "train":
            recipe = Run.model_validate(job.spec).recipe
            assert (recipe.split, recipe.keep, len(recipe.evaluate_at)) == ("tune", "best_on_tune", 8)


def test_what_is_looked_at_decides_the_training_only_where_the_best_is_kept(made: api.Planned) -> None:
    planned = made.plan.decoders["few"]
    architecture = planned.architecture.model_dump(mode="json")

    def told(**changes: Any) -> str:
        recipe = planned.recipe.model_copy(update=changes)
        return training_of(architecture, recipe.model_dump(mode="json"), "d")

    assert told(keep="last") == told(keep="last", evaluate_at=(40,))
    assert len({told(), told(evaluate_at=(40,)), told(eval_tokens=512), told(keep="last")}) == 4


def test_whoever_looks_more_often_has_more_to_choose_from() -> None:
    values = {"moe": {BPB: [1.9 + s / 1e3 for s in range(8)]}, "dense": {BPB: [2.0 - s / 1e3 for s in range(8)]}}
    evidence = evidence_of(values, {"c": claim(SUPERIOR)})
    both = evidence
    for name in ("moe", "dense"):
        both = with_recipe(both, name, keep="best_on_tune")
    assert judged(evidence).state == judged(both).state == "supported"
    points = len(evidence.plan.decoders["moe"].recipe.evaluate_at)
    assert any(f"each leaves the best of {points} looks" in note for note in judged(both).notes)
    one = judged(with_recipe(evidence, "moe", keep="best_on_tune"))
    assert one.state == "invalid"
    assert "dense leaves its last weights: give both the same `evaluate:`" in one.reason
    steps = evidence.plan.decoders["moe"].recipe.steps
    assert judged(with_recipe(both, "moe", evaluate_at=tuple(range(1, steps + 1)))).state == "invalid"
    assert judged(with_recipe(both, "moe", eval_tokens=1 << 16)).state == "invalid"
    unkept = with_recipe(evidence, "moe", evaluate_at=tuple(range(1, steps + 1)))
    assert judged(unkept).state == "supported", "a look that chooses nothing gives no advantage"


def test_branches_are_of_the_last_weights(tmp_path: Path) -> None:
    text = """\
suite: x
question: Is it so?
seeds: 8
data: {source: stdlib, context: 64}
train:
  budget: {tokens: 1.0e6}
  batch_tokens: 1024
  schedule: {decay: wsd, branches: [50%]}
  evaluate: {keep: best_on_tune}
models:
  dense: {layers: 2, width: 32, heads: 4, ffn: {kind: dense, hidden: 99}}
"""
    told = messages(tmp_path, text)
    assert "branches are of the last weights" in told
    assert "did you mean 'best_on_tune'" in messages(tmp_path, text.replace("best_on_tune", "best_on_tunes"))


def test_weights_that_are_left_are_whole(made: api.Planned, tmp_path: Path) -> None:
    left = trained(made, tmp_path)
    names = set(safetensors.torch.load_file(left.trained.path / "model.safetensors"))
    run = Run.model_validate(made.graph.jobs[0].spec)
    assert names == set(load_state(run, left.trained).model.state_dict())
