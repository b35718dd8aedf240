"""A checkpoint before it is loaded: its family, counts, bytes and digest, from headers and `config.json` alone.

The parameters in the files must be those that the configuration stands for, so that what is counted is what is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moebench.checkpoints.contents import BESIDE, Contents, contents, largest_id, tokenizer_file
from moebench.checkpoints.digest import digest
from moebench.checkpoints.facts import CheckpointFacts, Dtype
from moebench.checkpoints.families import Family, family_of
from moebench.checkpoints.located import CheckpointError, Located
from moebench.counting.blueprint import Blueprint
from moebench.counting.weights import parameters
from moebench.systems.configs import ConfigError, families, load_config, read_config
from moebench.text import listed, nearest, quoted

_KERNELS = tuple(
    f"{start}{what}_implementation{end}"
    for what in ("attn", "experts") for start in ("", "_") for end in ("", "_internal")
)  # fmt: skip
"""Keys of a configuration that name the code of its layers."""
_DTYPES: Mapping[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def describe(located: Located, *, cache: Path | None) -> tuple[CheckpointFacts, Blueprint]:
    """The facts of a checkpoint and what it is counted as; hashes of its files are kept in `cache`.

    Raises CheckpointError for whatever cannot be measured, and then nothing has been written.
    """
    folder = located.folder
    config = _config(folder)
    blueprint, notes = _counted(folder, config)
    family = family_of(config["model_type"])
    held = contents(folder)
    _same_parameters(folder, family, blueprint, held, packed=bool(config.get("quantization_config")))
    tokens_from = tokenizer_file(folder)
    last = largest_id(folder)
    if last is not None and last >= blueprint.vocab:
        raise CheckpointError(
            f"{folder}: {tokens_from} has ids up to {last:,}, and the model {blueprint.vocab:,} rows of embeddings: it "
            "is another model's tokenizer"
        )
    if blueprint.context is None:
        raise CheckpointError(f"{folder}: config.json names no longest sequence")
    beside = [name for name in BESIDE if (folder / name).is_file()]
    facts = CheckpointFacts(
        asked=located.asked,
        revision=located.revision,
        digest=digest(folder, [*held.files, *beside], cache=cache),
        model_type=config["model_type"],
        files=held.files,
        file_bytes=held.num_bytes,
        stored_dtype=_stored_dtype(folder, held),
        context=blueprint.context,
        vocab=blueprint.vocab,
        notes=notes,
    )
    return facts, blueprint


def _config(folder: Path) -> dict[str, Any]:
    """The configuration of a family that transformers has a decoder for."""
    try:
        config = load_config(folder)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    word, inner = config.get("model_type"), config.get("text_config")
    if isinstance(inner, dict) and word not in list(families()):
        raise CheckpointError(
            f"{folder}: a model of more than text ({quoted(word)}, around {quoted(inner.get('model_type'))}) is not "
            "measured",
            hint="save its language model alone, with that part's own config.json",
        )
    known = {name: one for name, one in families().items() if one.in_transformers and "is_encoder_decoder" not in
             one.defaults}  # fmt: skip
    if not isinstance(word, str) or word not in known:
        likely = nearest(word, known) if isinstance(word, str) else None
        hint = f"{likely + ' ' if likely else ''}known: {', '.join(sorted(known))}"
        raise CheckpointError(f"{folder}: the family {quoted(word)} is not measured", hint=hint)
    if config.get("auto_map"):
        raise CheckpointError(
            f"{folder}: config.json asks for code of its publisher (auto_map), which is never run",
            hint=f"where transformers' own {known[word].architecture} reads it, take `auto_map` out of config.json",
        )
    _check_quantised(folder, config)
    _check_kernels(folder, config)
    return config


def _check_kernels(folder: Path, config: Mapping[str, Any]) -> None:
    """transformers takes a name of the hub for code to download and run."""
    for key in _KERNELS:
        word = config.get(key)
        words = word.values() if isinstance(word, dict) else (word,)
        if any(one is not None and (not isinstance(one, str) or "/" in one) for one in words):
            raise CheckpointError(
                f"{folder}: config.json asks for code of its publisher ({key}: {quoted(word)}), which is never run",
                hint=f"take `{key}` out of config.json",
            )


def _check_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization_config")
    if not quantised:
        return
    method = quantised.get("quant_method") if isinstance(quantised, dict) else None
    if method not in family_of(config["model_type"]).quantised:
        raise CheckpointError(
            f"{folder}: weights quantised by {quoted(method)} are not read", hint="take the unquantised checkpoint"
        )


def _counted(folder: Path, config: Mapping[str, Any]) -> tuple[Blueprint, tuple[str, ...]]:
    try:
        return read_config(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: config.json: {error}") from None


def _same_parameters(folder: Path, family: Family, b: Blueprint, held: Contents, *, packed: bool) -> None:
    """The files hold as many parameters as the configuration stands for, as fractions unless they are packed."""
    whole = {one.dtype for name, one in held.tensors.items() if family.is_parameter(name, b)} - {*_DTYPES, "F64"}
    if whole and not packed:
        kinds = listed(sorted(whole), last="and")
        raise CheckpointError(f"{folder}: weights of {kinds} are not read", hint="take the unquantised checkpoint")
    stored = sum(family.size(name, one.shape) for name, one in held.tensors.items() if family.is_parameter(name, b))
    if (planned := parameters(b).total) != stored:
        raise CheckpointError(
            f"{folder}: its files hold {stored:,} parameters, its config.json stands for {planned:,}",
            hint="configuration and weights are of different models, or weights are missing",
        )


def _stored_dtype(folder: Path, held: Contents) -> Dtype:
    sizes = Counter[str]()
    for one in held.tensors.values():
        if one.dtype in _DTYPES:
            sizes[one.dtype] += one.num_bytes
    if not sizes:
        raise CheckpointError(f"{folder}: none of its weights are float32, bfloat16 or float16")
    return _DTYPES[sizes.most_common(1)[0][0]]
