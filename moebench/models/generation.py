"""A model, found by its run or its folder, and text from it through the key and value cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError

from moebench.checkpoints.described import describe
from moebench.checkpoints.located import CheckpointError, Located, locate
from moebench.data.tokenizer import AnyTokenizer, of_checkpoint, tokenizer_of
from moebench.jobs.recipe import Run
from moebench.models.convert.reading import load_native
from moebench.models.convert.stored import described
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.hf.loading import load
from moebench.models.subject import Subject
from moebench.models.transforms import unpacked
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
        model.load_state_dict(unpacked(run.derived, safetensors.torch.load_file(weights), run.architecture))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise CorruptFile(weights, f"not the weights of the run beside it: {error}") from error
    return model.eval()


def _find(results: Path, run_id: str) -> Folder:
    alike = [folder for folder in open_results(results).jobs() if folder.id.startswith(run_id)]
    found = [folder for folder in alike if folder.kind in ("train", "transform", None)]
    if len(found) != 1:
        known = ", ".join(folder.id for folder in found[:5])
        what = f"{len(found)} runs begin with {run_id!r}: {known}" if found else f"no run begins with {run_id!r}"
        raise CorruptFile(results / "jobs", what)
    return found[0]


def load_subject(results: Path, word: str) -> Subject:
    """A model by its run's id, or the beginning of one, by the folder of a run, or by a checkpoint's folder or name.

    A checkpoint is computed by our decoder where that knows its family, else by transformers. Raises what
    `load_trained` raises, DataError for its tokenizer, and CheckpointError for a checkpoint that cannot be had.
    """
    folder = Path(word).expanduser()
    if folder.is_dir() and (folder / "job.json").is_file():
        results, word, folder = folder.parent.parent, folder.name, Path()
    if (folder / "config.json").is_file() or "/" in word:
        return _checkpoint(locate(word, base=Path.cwd()))
    return DecoderSubject(*trained(results, word))


def trained(results: Path, run_id: str) -> tuple[Transformer, AnyTokenizer]:
    """The model of a completed run, and its tokenizer. Raises what `load_trained` raises, and DataError."""
    return load_trained(results, run_id), tokenizer_of(_find(results, run_id).path)


def _checkpoint(located: Located) -> Subject:
    try:
        described(located.folder)
    except CheckpointError:
        facts, blueprint = describe(located, cache=None)
        subject: Subject = load(located.folder, blueprint, dtype=facts.stored_dtype)
        return subject
    return DecoderSubject(load_native(located.folder), of_checkpoint(located.folder))


def generate(subject: Subject, prompt: bytes, *, tokens: int, temperature: float, seed: int) -> bytes:
    """The prompt and up to `tokens` tokens after it; see `stream`."""
    pieces = stream(subject, prompt, tokens=tokens, temperature=temperature, seed=seed)
    return prompt + b"".join(pieces)


def stream(subject: Subject, prompt: bytes, *, tokens: int, temperature: float, seed: int) -> Iterator[bytes]:
    """Up to `tokens` tokens after a prompt, one decoding step each; ends early at a document's end.

    Beyond the context the cache starts anew from the last half of the text.
    """
    draws = torch.Generator().manual_seed(derive(seed, "generate"))
    tokenizer, context = subject.tokenizer, subject.context
    words = len(tokenizer.token_bytes)  # a table may have more rows than the tokenizer has words
    text = [tokenizer.start, *tokenizer.encode(prompt)]
    told = tokenizer.decode(text[1:])
    cache, unread = subject.new_cache(1), text[-context:]
    for _ in range(tokens):
        if cache.length + len(unread) > context:
            cache, unread = subject.new_cache(1), text[-context // 2 :]
        logits_V = subject.extend(torch.tensor([unread], device=subject.device), cache)[0]
        unread = [_choose(logits_V[:words], temperature, draws)]
        if unread[0] in (tokenizer.start, tokenizer.end):
            return
        text += unread
        whole = tokenizer.decode(text[1:])
        yield whole[len(told) :]
        told = whole


def _choose(logits_V: torch.Tensor, temperature: float, draws: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial((logits_V.cpu().float() / temperature).softmax(0), 1, generator=draws))


def bits_per_byte(subject: Subject, text: bytes) -> float | None:
    """What a text costs a model that begins with it; None for no text, or one that is longer than the context."""
    ids = [subject.tokenizer.start, *subject.tokenizer.encode(text)]
    if not 2 <= len(ids) <= subject.context + 1:
        return None
    row_1T = torch.tensor([ids], device=subject.device)
    scores = subject.score(row_1T[:, :-1], row_1T[:, 1:])
    return float(-scores.logprob_BT.double().sum()) / math.log(2) / len(text)
