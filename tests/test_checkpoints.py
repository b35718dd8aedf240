"""Checkpoints as files: described by their headers alone, and refused, before a weight is read, for what they are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from moebench.checkpoints.described import describe
from moebench.checkpoints.digest import digest
from moebench.checkpoints.facts import CheckpointFacts
from moebench.checkpoints.families import family_of
from moebench.checkpoints.located import CheckpointError, locate
from moebench.counting.weights import parameters
from moebench.systems.configs import read_config
from tests.support import small_checkpoints

FAMILIES = tuple(small_checkpoints.FAMILIES)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("originals")
    made = {word: small_checkpoints.save(root / word, word) for word in FAMILIES}
    made["shards"] = small_checkpoints.save(root / "shards", "mixtral", shard="60KB")
    return made


@pytest.fixture
def copy(originals: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of the test's own."""

    def copied(word: str = "mixtral") -> Path:
        return Path(shutil.copytree(originals[word], tmp_path / word))

    return copied


def described(folder: Path, cache: Path | None = None) -> CheckpointFacts:
    return describe(locate(str(folder), base=Path()), cache=cache)[0]


def refused(folder: Path, message: str) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(CheckpointError, match=message):
        described(folder, cache=folder.parent / "cache")
    assert sorted(folder.rglob("*")) == before
    assert not (folder.parent / "cache").exists(), "nothing is written of what is refused"


def configured(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


# ------------------------------------------------------------------------------------------ what is there


@pytest.mark.parametrize("word", FAMILIES)
def test_parameters_in_the_files_are_those_of_the_configuration(originals: dict[str, Path], word: str) -> None:
    facts, blueprint = describe(locate(str(originals[word]), base=Path()), cache=None)
    assert facts.model_type == word
    assert facts.stored_dtype == "float32"
    assert (facts.context, facts.vocab) == (64, 384)
    assert facts.file_bytes >= 4 * parameters(blueprint).total
    assert facts.files == ("model.safetensors",)


def test_shards_are_one_checkpoint(originals: dict[str, Path]) -> None:
    whole, shards = described(originals["mixtral"]), described(originals["shards"])
    assert len(shards.files) > 1
    assert shards.file_bytes == whole.file_bytes
    assert shards.digest != whole.digest


def test_a_folder_is_found_from_the_suites(copy: Callable[..., Path]) -> None:
    folder = copy()
    assert locate(folder.name, base=folder.parent) == locate(str(folder), base=Path("/")).__class__(
        asked=folder.name, folder=folder.resolve(), revision=None
    )
    with pytest.raises(CheckpointError, match="which has no revisions"):
        locate(str(folder), base=Path(), revision="main")


def test_a_name_that_is_not_in_the_cache_says_what_to_download() -> None:
    with pytest.raises(CheckpointError, match=r"hf download some/model --revision abc --include '\*\.json'"):
        locate("some/model", base=Path(), revision="abc")
    with pytest.raises(CheckpointError, match="there is no folder 'here'"):
        locate("here", base=Path())


def test_a_name_in_the_cache_is_its_snapshot(
    copy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    hub, commit = tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(copy(), repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    found = locate("some/model", base=Path())
    assert found.revision == commit
    assert describe(found, cache=None)[0].asked == "some/model"


def test_the_digest_is_of_the_contents(copy: Callable[..., Path], originals: dict[str, Path]) -> None:
    folder = copy()
    assert described(folder).digest == described(originals["mixtral"]).digest
    (folder / "README.md").write_text("new")
    (folder / "generation_config.json").unlink()
    assert described(folder).digest == described(originals["mixtral"]).digest
    (folder / "tokenizer_config.json").write_text("{}")
    assert described(folder).digest != described(originals["mixtral"]).digest


def test_a_hash_is_taken_once(copy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cache = copy(), tmp_path / "cache"
    first, hashed = described(folder, cache), []
    monkeypatch.setattr("hashlib.file_digest", lambda *args: hashed.append(args))
    assert described(folder, cache) == first
    assert hashed == []
    (next(cache.iterdir())).write_text("[]")
    with pytest.raises(AttributeError):
        described(folder, cache)


def test_a_flipped_bit_is_another_digest(copy: Callable[..., Path], tmp_path: Path) -> None:
    """Even where the time of change was put back."""
    folder, cache = copy(), tmp_path / "cache"
    first, path = described(folder, cache), folder / "model.safetensors"
    was = path.stat()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert described(folder, cache).digest != first.digest
    assert digest(folder, ["config.json"], cache=None) == digest(folder, ["config.json"], cache=cache)


# ------------------------------------------------------------------------------------------ what is refused


def test_truncated_files_are_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    refused(folder, r"model\.safetensors: 100 bytes short of what its header says: download it again")
    path.write_bytes(data + b"x")
    refused(folder, "1 bytes too long")
    path.write_bytes(data[:200])
    refused(folder, "no safetensors file, or cut short")
    path.write_bytes(data[:8] + b"x" + data[9:])
    refused(folder, "its header does not read")
    path.write_bytes(b"")
    refused(folder, "no safetensors file, or cut short")


def headed(folder: Path, name: str, **changes: Any) -> Path:
    """The checkpoint with another row for a tensor in its header."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    rows = json.loads(data[8:end])
    text = json.dumps({**rows, name: {**rows[name], **changes}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_offsets": [0, 4096]}, "its tensors do not stand one behind the other"),
        ({"data_offsets": [0, 0]}, "has not as many bytes as its shape takes"),
        ({"dtype": "F64"}, "has not as many bytes as its shape takes"),
        ({"dtype": "F31"}, "of 'F31', which is no type that is known"),
        ({"shape": [10**30]}, "has not as many bytes as its shape takes"),
        ({"shape": [32.0, 32.0]}, "has impossible places"),
        ({"shape": [-32, -32]}, "has impossible places"),
        ({"data_offsets": [0, 10**400]}, "has not as many bytes as its shape takes"),
    ],
)
def test_a_header_that_cannot_be_is_refused(copy: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    folder = copy("llama")
    refused(headed(folder, "model.layers.0.self_attn.q_proj.weight", **changes), message)


def test_whole_numbers_are_no_weights(copy: Callable[..., Path]) -> None:
    folder = copy("llama")
    name, path = "model.layers.0.self_attn.q_proj.weight", folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, name: tensors[name].to(torch.int8)}, path)
    refused(folder, "weights of I8 are not read: take the unquantised checkpoint")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation_internal", "experts_implementation"])
def test_code_of_the_hub_is_not_asked_for_by_a_configuration(copy: Callable[..., Path], key: str) -> None:
    """transformers takes such a name for a repository of kernels, which it downloads and runs."""
    folder = copy()
    refused(configured(folder, **{key: "someone/kernels"}), rf"asks for code of its publisher \({key}.*never run")
    refused(configured(folder, **{key: {"": "someone/kernels"}}), "asks for code of its publisher")
    assert described(configured(folder, **{key: "eager"}))


@pytest.mark.parametrize("number", [-1, None, "1", True])
def test_ids_are_whole_numbers_from_0(copy: Callable[..., Path], number: object) -> None:
    folder = copy()
    value = json.loads((folder / "tokenizer.json").read_text())
    value["model"]["vocab"]["the"] = number
    (folder / "tokenizer.json").write_text(json.dumps(value))
    refused(folder, "no tokenizer of the library .* is no id")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused_and_never_read(copy: Callable[..., Path], name: str) -> None:
    folder = copy()
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, f"{name}, pickle or another format that can run code .* take the repository's safetensors")


def test_other_formats_are_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / "model.safetensors").unlink()
    refused(folder, "model.safetensors is not there: download the checkpoint again")
    (folder / "model.gguf").write_bytes(b"")
    refused(folder, "GGUF is not read")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "is an adapter, not a model: merge it")


def test_code_of_a_publisher_is_never_run(copy: Callable[..., Path]) -> None:
    folder = configured(copy("deepseek_v3"), auto_map={"AutoModelForCausalLM": "modeling.Model"})
    (folder / "modeling.py").write_text("raise SystemExit")
    refused(folder, r"asks for code of its publisher \(auto_map\), which is never run: where .* DeepseekV3ForCausalLM")


def test_unknown_families_are_refused_by_name(copy: Callable[..., Path]) -> None:
    folder = copy()
    refused(configured(folder, model_type="mixtrall"), "family 'mixtrall' is not measured: did you mean 'mixtral'")
    refused(configured(folder, model_type=None), "family 'None' is not measured: known: .*olmoe")
    refused(configured(folder, model_type="t5"), "family 't5' is not measured")
    refused(configured(folder, model_type="deepseek"), "family 'deepseek' is not measured")


def test_nested_models_are_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    config = {"model_type": "llava_onevision", "text_config": {"model_type": "qwen2"}, "vision_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    refused(
        folder, r"a model of more than text \('llava_onevision', around 'qwen2'\) is not measured: save its language"
    )


def test_other_tokenizers_are_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["added_tokens"].append({"id": 500, "content": "<new>", "special": True})
    path.write_text(json.dumps(value))
    refused(folder, "has ids up to 500, and the model 384 rows of embeddings: it is another model's tokenizer")
    path.write_text("{}")
    refused(folder, "no tokenizer of the library `tokenizers`: 'model'")
    path.unlink()
    refused(folder, "no tokenizer .*put the files of its own tokenizer into the folder")


def test_weights_of_another_model_are_refused(copy: Callable[..., Path]) -> None:
    refused(configured(copy(), num_hidden_layers=3), "its files hold 68,256 parameters, its config.json stands for")


def test_quantised_weights_are_refused_but_for_gpt_oss(copy: Callable[..., Path]) -> None:
    refused(configured(copy(), quantization_config={"quant_method": "gptq"}), "quantised by 'gptq' are not read")
    refused(configured(copy("llama"), quantization_config={"quant_method": "mxfp4"}), "by 'mxfp4' are not read")
    packed = configured(copy("gpt_oss"), quantization_config={"quant_method": "mxfp4"})
    assert described(packed).model_type == "gpt_oss"


def test_packed_numbers_are_counted_one_by_one() -> None:
    family = family_of("gpt_oss")
    blueprint, _ = read_config({"model_type": "gpt_oss"})
    assert family.size("model.layers.0.mlp.experts.down_proj_blocks", (8, 32, 2, 16)) == 8 * 32 * 64
    assert not family.is_parameter("model.layers.0.mlp.experts.down_proj_scales", blueprint)


def test_an_index_leads_nowhere_else(copy: Callable[..., Path]) -> None:
    folder = copy("shards")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    name = next(iter(index["weight_map"]))
    for value, message in (
        ("../other.safetensors", "is not a safetensors file of this folder"),
        ("weights.bin", "is not a safetensors file of this folder"),
        ("none.safetensors", "none.safetensors is not there"),
    ):
        path.write_text(json.dumps({"weight_map": {**index["weight_map"], name: value}}))
        refused(folder, message)
    path.write_text(json.dumps({"weight_map": {**index["weight_map"], "more": index["weight_map"][name]}}))
    refused(folder, "lists more, which no file has")
    path.write_text("[]")
    refused(folder, "no index of weights")


def test_a_configuration_that_does_not_read_is_refused(copy: Callable[..., Path]) -> None:
    folder = copy()
    (folder / "config.json").write_text("{")
    refused(folder, "no JSON")
    (folder / "config.json").unlink()
    refused(folder, "No such file")
