"""A model as a transformers checkpoint: `config.json`, `model.safetensors` and its tokenizer.

Written without transformers; the tests load it back with that library and compare logits and tokens.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from moebench.data.tokenizer import BYTES, AnyTokenizer
from moebench.models.architecture import Architecture
from moebench.models.convert.config import config, family_of
from moebench.models.convert.families import Family
from moebench.models.convert.tensors import pieces
from moebench.models.convert.tokenizer import tokenizer_config, tokenizer_file, tokens_in_words
from moebench.models.decoder import Transformer
from moebench.store import write_bytes, write_json


def export_checkpoint(model: Transformer, folder: Path, tokenizer: AnyTokenizer = BYTES) -> None:
    """Writes the checkpoint. Raises PlanError for a design that no class of transformers computes; writes nothing."""
    described = config(model.architecture, start=tokenizer.start, end=tokenizer.end)
    family = family_of(model.architecture)
    state = model.state_dict()
    tensors = {
        piece.theirs: piece.view(state[piece.ours]).reshape(piece.shape).contiguous()
        for piece in pieces(model.architecture, family)
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "model.safetensors", safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", described)
    write_json(folder / "tokenizer.json", tokenizer_file(tokenizer))
    write_json(folder / "tokenizer_config.json", tokenizer_config(tokenizer, context=model.architecture.context))
    readme = folder / "README.md"
    if not readme.exists() or readme.read_text(errors="replace").startswith(_HEADING):
        write_bytes(readme, _readme(model.architecture, family, tokenizer).encode())


_HEADING = "# A model trained by moebench"


def _readme(a: Architecture, family: Family, tokenizer: AnyTokenizer) -> str:
    return f"""{_HEADING}

A `{family.architecture}` of {a.layers} layers of width {a.width}, context {a.context}:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained("path/to/this/folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
```

{tokens_in_words(tokenizer)}.
The tokenizer adds none by itself. A document began with id {tokenizer.start} in training, so give it before a text
that begins one; lm-eval takes it as its prefix token by itself.
"""
