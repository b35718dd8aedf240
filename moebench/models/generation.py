"""A trained model, found by its run, and text from it through the key and value cache."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError

from moebench.jobs.recipe import Run
from moebench.models.decoder import Transformer, build
from moebench.models.subject import Subject
from moebench.seeds import derive
from moebench.store import CorruptFile, Folder, open_results


def load_trained(results: Path, run_id: str) -> Transformer:
    """The model of a completed run, found by its id or the beginning of one.

    Raises CorruptFile when there is no such run, more than one, it diverged, or its files are not what a run leaves.
    """
    folder = _find(results, run_id)
    if folder.status() == "diverged":
        raise CorruptFile(folder.path, f"it diverged: {(folder.manifest() or {}).get('reason')}")
    problems = folder.verify()
    if problems or not (folder.path / "model.safetensors").is_file():
        raise CorruptFile(folder.path, problems[0] if problems else "its weights were left out")
    try:
        run = Run.model_validate(folder.spec())
    except (KeyError, ValidationError) as error:
        raise CorruptFile(folder.path / "job.json", "not a run of this version of moebench") from error
    weights = folder.path / "model.safetensors"
    try:
        model = build(run.architecture, seed=None, dtype=run.recipe.dtype)
        model.load_state_dict(safetensors.torch.load_file(weights))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise CorruptFile(weights, f"not the weights of the run beside it: {error}") from error
    return model.eval()


def _find(results: Path, run_id: str) -> Folder:
    alike = [folder for folder in open_results(results).jobs() if folder.id.startswith(run_id)]
    found = [folder for folder in alike if folder.kind in ("train", None)]
    if len(found) != 1:
        known = ", ".join(folder.id for folder in found[:5])
        what = f"{len(found)} runs begin with {run_id!r}: {known}" if found else f"no run begins with {run_id!r}"
        raise CorruptFile(results / "jobs", what)
    return found[0]


@torch.inference_mode()
def generate(subject: Subject, prompt: bytes, *, tokens: int, temperature: float, seed: int) -> bytes:
    """The prompt and up to `tokens` tokens after it, one decoding step each; ends early at a document's end.

    Beyond the context the cache starts anew from the last half of the text.
    """
    draws = torch.Generator().manual_seed(derive(seed, "generate"))
    start, context = subject.tokenizer.start, subject.context
    text = [start, *subject.tokenizer.encode(prompt)]
    cache, unread = subject.new_cache(1), text[-context:]
    for _ in range(tokens):
        if cache.length + len(unread) > context:
            cache, unread = subject.new_cache(1), text[-context // 2 :]
        logits_V = subject.extend(torch.tensor([unread], device=subject.device), cache)[0]
        unread = [_choose(logits_V, temperature, draws)]
        if unread == [start]:
            break
        text += unread
    return subject.tokenizer.decode(text[1:])


def _choose(logits_V: torch.Tensor, temperature: float, draws: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial((logits_V / temperature).softmax(0), 1, generator=draws))
