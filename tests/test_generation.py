"""Text from a trained model, and finding that model: by its run's id, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from moebench.jobs.recipe import Run
from moebench.models.architecture import Architecture
from moebench.models.decoder import Output, Transformer
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import generate, load_trained
from moebench.store import CorruptFile, JobFolder, Results, write_bytes, write_json
from tests.support.small_models import architecture, built, dense, moe, run

pytestmark = pytest.mark.numeric

PLAIN, MIXTURE = architecture(dense()), architecture(moe(), kv_heads=2)


def wordy(a: Architecture = MIXTURE) -> Transformer:
    """A model that never ends a document: byte 0 cannot be drawn."""
    model = built(a)

    def silence(_module: object, _inputs: object, output: Output) -> Output:
        logits_BTV = output.logits_BTV.clone()
        logits_BTV[..., 0] = -torch.inf
        return replace(output, logits_BTV=logits_BTV)

    model.register_forward_hook(silence)
    return model


def about(chosen: Run) -> dict[str, Any]:
    return {"job": {"kind": "train", "spec": chosen.model_dump(mode="json"), "inputs": []}}


def stored(root: Path, a: Architecture = MIXTURE, *, seed: int = 0) -> tuple[JobFolder, Transformer]:
    """A finished run whose weights are not its initial ones."""
    chosen, model = run(a, seed=seed), built(a)
    folder = Results(root).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    write_bytes(folder.path / "model.safetensors", safetensors.torch.save(model.state_dict()))
    folder.finish("completed")
    return folder, model


def greedy(model: Transformer, prompt: bytes, tokens: int) -> bytes:
    return generate(DecoderSubject(model), prompt, tokens=tokens, temperature=0, seed=0)


# ------------------------------------------------------------------------------------------ generation


def likeliest(model: Transformer, text: bytes) -> int:
    """The next byte by the full forward, without a cache."""
    with torch.inference_mode():
        return int(model(torch.tensor([[0, *text]])).logits_BTV[0, -1].argmax())


def test_greedy_text_takes_the_likeliest_byte_at_every_step() -> None:
    """Ten prompts, because a tie in rounding could hide a wrong cache in one."""
    model = built(MIXTURE)
    for first in range(97, 107):
        text = bytes([first, 32])
        for _ in range(8):
            following = likeliest(model, text)
            if following == 0:
                break
            text += bytes([following])
        assert greedy(model, bytes([first, 32]), 8) == text


def test_greedy_text_is_the_same_whatever_the_seed() -> None:
    model = built(MIXTURE)
    texts = {generate(DecoderSubject(model), b"def ", tokens=40, temperature=0, seed=seed) for seed in range(3)}
    assert len(texts) == 1


def test_drawn_text_follows_its_seed() -> None:
    model = wordy()
    texts = [generate(DecoderSubject(model), b"def ", tokens=40, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_low_temperature_is_nearly_greedy() -> None:
    model = wordy()
    assert generate(DecoderSubject(model), b"def ", tokens=8, temperature=1e-4, seed=1) == greedy(model, b"def ", 8)


def test_text_goes_past_the_context() -> None:
    text = generate(DecoderSubject(wordy()), b"def ", tokens=100, temperature=1.0, seed=0)
    assert len(text) == 4 + 100
    assert text.startswith(b"def ")


@pytest.mark.parametrize("length", [1, 7, 8, 12, 14])
def test_a_prompt_that_fits_the_context_is_read_whole(length: int) -> None:
    model, prompt = wordy(), bytes(range(97, 97 + length))
    assert greedy(model, prompt, 1) == prompt + bytes([likeliest(model, prompt)])


@pytest.mark.parametrize("length", [15, 16, 17, 50])
def test_a_prompt_beyond_the_context_is_taken_too(length: int) -> None:
    prompt = bytes(97 + i % 26 for i in range(length))
    text = greedy(wordy(), prompt, 5)
    assert text.startswith(prompt)
    assert len(text) == length + 5


def test_a_document_that_ends_is_not_gone_on_with() -> None:
    model = built(architecture(dense(), tied_embeddings=False))
    assert model.head is not None
    with torch.no_grad():
        model.head.zero_()  # all alike: the first of the likeliest is byte 0
    assert greedy(model, b"def ", 40) == b"def "


def test_an_empty_prompt_begins_a_document() -> None:
    assert len(greedy(wordy(), b"", 5)) == 5


# ------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("a", [PLAIN, MIXTURE], ids=["dense", "moe"])
def test_a_trained_model_has_the_weights_that_were_stored(tmp_path: Path, a: Architecture) -> None:
    folder, model = stored(tmp_path, a)
    found = load_trained(tmp_path, folder.id)
    assert found.architecture == a
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())
    assert not found.training


def test_the_beginning_of_an_id_will_do_when_it_is_one_runs(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    stored(tmp_path, PLAIN)
    load_trained(tmp_path, folder.id[:12])
    with pytest.raises(CorruptFile, match="2 runs begin with ''"):
        load_trained(tmp_path, "")


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(CorruptFile, match="no run begins with 'zzz'"):
        load_trained(tmp_path, "zzz")
    with pytest.raises(CorruptFile, match="no run begins with"):
        load_trained(tmp_path / "nowhere", "abc")


def test_spoilt_weights_are_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    path = folder.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match="contents differ"):
        load_trained(tmp_path, folder.id)


def test_cut_weights_are_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    path = folder.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CorruptFile, match="bytes, not"):
        load_trained(tmp_path, folder.id)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    (folder.path / "DONE").unlink()
    with pytest.raises(CorruptFile, match="not finished"):
        load_trained(tmp_path, folder.id)


def test_a_run_whose_weights_were_left_out_is_refused(tmp_path: Path) -> None:
    chosen = run(PLAIN)
    folder = Results(tmp_path).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    write_bytes(folder.path / "model.safetensors", b"weights")
    folder.finish("completed", weights="omitted")
    (folder.path / "model.safetensors").unlink(missing_ok=True)
    with pytest.raises(CorruptFile, match="left out"):
        load_trained(tmp_path, folder.id)


def test_a_diverged_run_has_no_model_and_says_why(tmp_path: Path) -> None:
    chosen = run(PLAIN)
    folder = Results(tmp_path).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    folder.finish("diverged", reason="step 3: loss nan")
    with pytest.raises(CorruptFile, match="diverged: step 3: loss nan"):
        load_trained(tmp_path, folder.id)
