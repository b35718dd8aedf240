"""Text from models: streamed piece by piece, from runs and checkpoints, one or two side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from moebench.cli.commands import main
from moebench.cli.console import generated
from moebench.models.convert import reading
from moebench.models.convert.export import export_checkpoint
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import bits_per_byte, generate, load_subject, stream
from tests.support import small_checkpoints
from tests.support.small_models import architecture, built, dense, moe
from tests.test_subject import Unigram
from tests.test_trained import stored, wordy

pytestmark = pytest.mark.numeric


def call(*words: Any) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, words)])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a run, and two checkpoints beside it: one of ours, one that transformers computes."""
    root = tmp_path_factory.mktemp("models")
    stored(root / "results")
    export_checkpoint(built(architecture(dense(), context=64)), root / "ours")
    small_checkpoints.save(root / "theirs", "deepseek_v2")
    return root


def run_id(models: Path) -> str:
    (folder,) = (models / "results" / "jobs").iterdir()
    return folder.name


# ------------------------------------------------------------------------------------------ streams


def test_pieces_of_a_stream_are_the_text_after_the_prompt() -> None:
    subject, how = DecoderSubject(wordy()), {"tokens": 30, "temperature": 1.0, "seed": 4}
    pieces = list(stream(subject, b"def ", **how))
    assert [len(piece) for piece in pieces] == [1] * 30
    assert generate(subject, b"def ", **how) == b"def " + b"".join(pieces)


def test_rows_that_stand_for_no_word_are_never_drawn() -> None:
    """A table of 300 rows whose last are by far the likeliest, and a tokenizer of 256 words."""
    model = wordy(architecture(dense(), vocab=300, tied_embeddings=False))
    with torch.no_grad():
        model.head[256:] = 100 * model.head[97]  # type: ignore[index]
    for temperature in (0.0, 1.0):
        assert len(generate(DecoderSubject(model), b"def ", tokens=20, temperature=temperature, seed=0)) == 4 + 20


def test_what_a_prompt_costs_by_hand() -> None:
    """Ids 1, 2, 3 of a known probability stand for 1, 4 and 7 bytes."""
    assert bits_per_byte(Unigram(), b"athe ") == pytest.approx((1 + 2) / 5, rel=1e-6)
    assert bits_per_byte(Unigram(), b"") is None
    assert bits_per_byte(Unigram(), b"a" * 4) == pytest.approx(1, rel=1e-6)
    assert bits_per_byte(Unigram(), b"a" * 5) is None, "longer than its context"


def test_letters_of_several_tokens_are_shown_whole() -> None:
    pieces = iter([b"caf", b"\xc3", b"\xa9", b"\x1b[2J", b"\xff"])
    writing = generated.Writing(name="m", pieces=pieces, bits_per_byte=None, text="")
    shown = [writing.step() for _ in range(5)]
    assert shown == ["caf", "", "é", "\\u001b[2J", "\ufffd"]
    assert writing.step() is None
    assert writing.text == "café\\u001b[2J\ufffd"
    assert writing.tokens == 5


# ------------------------------------------------------------------------------------------ which models


def test_models_are_found_by_run_folder_and_checkpoint(models: Path) -> None:
    results = models / "results"
    by_id, by_folder = (
        load_subject(results, word) for word in (run_id(models)[:8], str(results / "jobs" / run_id(models)))
    )
    assert torch.equal(by_id.weights.state_dict()["embedding"], by_folder.weights.state_dict()["embedding"])
    assert type(load_subject(results, str(models / "ours"))) is DecoderSubject
    assert type(load_subject(results, str(models / "theirs"))).__name__ == "CheckpointSubject"


@pytest.mark.parametrize("words", [["{run}"], ["{run}", "--prompt", "ab"], ["{run}", "ab"], ["{ours}", "a b"]], ids=str)
def test_one_model_writes_its_text_alone(models: Path, words: list[str]) -> None:
    named = [word.format(run=run_id(models)[:9], ours=models / "ours") for word in words]
    found = call(*named, "--tokens", 5, "--results", models / "results")
    assert found.exit_code == 0, found.stderr
    prompt = "def " if len(words) == 1 else words[-1]
    assert found.stdout.startswith(prompt)
    assert found.stderr == ""


@pytest.mark.parametrize("order", [("{run}", "{ours}"), ("{theirs}", "{ours}")], ids=str)
def test_two_models_write_one_after_the_other_where_it_is_narrow(models: Path, order: tuple[str, str]) -> None:
    names = [one.format(run=run_id(models), ours=models / "ours", theirs=models / "theirs") for one in order]
    found = call(*names, "ab", "--tokens", 5, "--temperature", 0, "--results", models / "results")
    assert found.exit_code == 0, found.stderr
    first, second = found.stdout.split(f"\n--- {names[1]}\n")
    assert first.startswith(f"--- {names[0]}\nab")
    assert second.startswith("ab")
    assert [line.count("tokens/s, prompt ") for line in found.stderr.splitlines()] == [1, 1]
    alone = call(names[1], "ab", "--tokens", 5, "--temperature", 0, "--results", models / "results")
    assert alone.stdout == second


def test_two_models_write_side_by_side_where_it_is_wide(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(generated, "_is_wide", lambda: True)
    run = run_id(models)
    found = call(run, models / "ours", "a prompt", "--tokens", 5, "--results", models / "results")
    assert found.exit_code == 0, found.stderr
    row = next(line for line in found.stdout.splitlines() if "a prompt" in line)
    assert row.count("a prompt") == 2
    assert f"{run}: " in found.stdout


def test_two_models_as_json(models: Path) -> None:
    found = call(run_id(models), models / "ours", "ab", "--tokens", 5, "--json", "--results", models / "results")
    one, other = json.loads(found.stdout)
    assert (one["model"], other["model"]) == (run_id(models), str(models / "ours"))
    assert one["text"].startswith("ab")
    assert other["tokens_per_s"] == pytest.approx(other["tokens"] / other["seconds"])
    assert 0 < one["prompt_bits_per_byte"] < 50
    assert math.isfinite(other["seconds"])


def test_what_names_no_model_exits_2(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, says in (
        (["nowhere/at/all", "ab"], "there is no folder 'nowhere/at/all'"),
        (["zzz", "ab"], "no run begins with 'zzz'"),
        (["a", "b", "c", "d"], "give one model or two, and one prompt"),
        ([models / "ours", "--prompt", "x", models / "ours", models / "ours"], "give one model or two"),
        ([], "Missing argument"),
    ):
        found = call(*words, "--results", models / "results")
        assert (found.exit_code, found.stdout) == (2, "")
        assert says in found.stderr
    (models / "broken").mkdir(exist_ok=True)
    (models / "broken" / "config.json").write_text('{"model_type": "llama"}')
    monkeypatch.setattr(reading, "build", lambda *_, **__: pytest.fail("a model of 7 billion parameters is made"))
    found = call(models / "broken", "--results", models / "results")
    assert found.exit_code == 2
    assert found.stderr.startswith("error: ")


def test_a_mixture_and_its_words_go_to_a_checkpoint_and_back(tmp_path: Path) -> None:
    model = built(architecture(moe(), context=64))
    export_checkpoint(model, tmp_path)
    how = {"tokens": 20, "temperature": 0.0, "seed": 0}
    assert generate(load_subject(Path(), str(tmp_path)), b"import ", **how) == generate(
        DecoderSubject(model), b"import ", **how
    )
