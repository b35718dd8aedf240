"""What measuring must know of a family beyond its counts; here as most families have it.

Three things: which stored tensors are no parameters, how hidden states become logits, and where its routers say which
experts they chose. No torch is loaded: tensors and modules are handed in.

Legend: T tokens, K experts of a token, D width, V vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from moebench.counting.blueprint import Blueprint
from moebench.models.lazy import Tensor

_BUFFERS = re.compile(r"\.(inv_freq|masked_bias|attn\.bias)$")
"""Stored by older versions; computed, not learned."""
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


class Family:
    """A family that does as Llama, Mixtral, OLMoE, Qwen and DeepSeek do."""

    quantised: Sequence[str] = ()
    """Values of `quant_method` whose weights are read, as plain numbers."""

    def size(self, name: str, shape: Sequence[int]) -> int:  # noqa: ARG002  of packed weights it depends
        """Parameters in a stored tensor."""
        return math.prod(shape)

    def is_parameter(self, name: str, b: Blueprint) -> bool:
        """Whether transformers' class holds a stored tensor as a parameter of its own."""
        if _BUFFERS.search(name) or (b.tied and name == "lm_head.weight"):
            return False
        layer = _LAYER.search(name)
        if layer is not None and int(layer[1]) >= b.depth:  # layers that predict further tokens
            return False
        chosen_by_bias = any(ffn.selection_bias for _, ffn in b.mixtures)
        return not (chosen_by_bias and name.endswith("e_score_correction_bias"))

    def logits(self, model: Any, hidden_TD: Tensor) -> Tensor:
        """Logits of hidden states after the last norm."""
        logits: Tensor = model.get_output_embeddings()(hidden_TD)
        return logits

    def router(self, mixture: Any) -> Any:
        """The router of a mixture, a module."""
        return getattr(mixture, "gate", None) or mixture.router

    def chosen(self, mixture: Any, output: Any) -> Tensor:  # noqa: ARG002  others ask the mixture
        """Experts of each token, [T, K], of what a mixture's router gave: logits, weights and indices."""
        chosen_TK: Tensor = output[2]
        return chosen_TK.reshape(-1, chosen_TK.shape[-1])
