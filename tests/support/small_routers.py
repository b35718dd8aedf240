"""One mixture for every router, and routers that stand alone with weights spread out, so that routing is decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moebench.models.architecture import Architecture
from moebench.models.routers import ROUTERS, Router, Routing, Text
from moebench.suite.model import MoEFFN
from tests.support.small_models import architecture, moe, tokens

WIDTH, VOCAB = 16, 256

OPTIONS: dict[str, dict[str, Any]] = {
    "softmax_topk": {},
    "topk_softmax": {},
    "noisy_topk": {"importance_loss": 0.1, "load_loss": 0.1},
    "hierarchical": {
        "experts": 9, "top_k": 4, "groups": 3, "groups_chosen": 2, "importance_loss": 0.1, "load_loss": 0.1,
    },
    "switch": {"top_k": 1, "capacity_factor": 1.0, "jitter": 0.01},
    "gshard": {"capacity_factor": 1.0},
    "expert_choice": {},
    "sigmoid_bias": {"groups": 4, "groups_chosen": 2, "scale": 2.5, "bias_rate": 0.01},
    "token_hash": {},
    "frozen_random": {},
    "round_robin": {},
    "soft_mixture": {"top_k": 8},
    "top_p": {"top_k": 4, "top_p": 0.6, "entropy_loss": 0.1},
}  # fmt: skip
"""What a mixture needs for each router; 8 experts, top-2, where nothing else is said."""

CAPPED = [word for word, router in ROUTERS.items() if "capacity_factor" in router.options]
JITTERED = [word for word, router in ROUTERS.items() if "jitter" in router.options]
NOISY = ["noisy_topk", "hierarchical", "gshard"]
"""Those that draw at random in training whatever their options."""
CAUSAL = [word for word, router in ROUTERS.items() if router.causal]
LEARNED = [word for word, router in ROUTERS.items() if router.learned]
UNEVEN = ["expert_choice", "top_p"]
"""Those that give tokens different numbers of experts even when nothing is refused."""


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shared expert": {"shared_hidden": 12},
    "shared expert with a gate": {"shared_hidden": 12, "shared_gate": True},
    "biases": {"bias": True},
    "every other layer": {"every": 2, "dense_hidden": 20},
    "first layer dense": {"first_dense": 1, "dense_hidden": 20, "dense_activation": "relu"},
    "geglu": {"activation": "geglu"},
    "relu": {"activation": "relu"},
    "gelu": {"activation": "gelu"},
    "clamped": {"activation": "swiglu_clamped"},
    "everything": {
        "shared_hidden": 12, "shared_gate": True, "bias": True, "every": 2, "first_dense": 1, "dense_hidden": 20,
        "dense_activation": "swiglu", "activation": "gelu",
    },
}  # fmt: skip
"""What combines with any router."""


def model_of(word: str, variant: str = "plain", *, layers: int = 2, **changes: Any) -> Architecture:
    """A model with a router, in a variant."""
    return architecture(mixture(word, **VARIANTS[variant], **changes), layers=layers)


def mixture(word: str, **changes: Any) -> MoEFFN:
    """The mixture of a router; `changes` replace options."""
    return moe(**{"experts": 8, "top_k": 2, "router": word, **OPTIONS[word], **changes})


def single(word: str, **changes: Any) -> MoEFFN:
    """A mixture of one expert without auxiliary losses: the dense network of its width."""
    changes = {"balance_loss": 0.0, **changes}
    groups = {"groups": 1, "groups_chosen": 1} if ROUTERS[word].needs == ("groups", "groups_chosen") else {}
    needed = {name: value for name, value in OPTIONS[word].items() if name in ROUTERS[word].needs}
    return moe(1, 1, 24, router=word, **{**needed, **groups, **changes})


def router(word: str, *, seed: int = 0, layer: int = 0, **changes: Any) -> Router:
    """A router alone, ready to train, its projections spread out: logits of deviation 2 or so, loads uneven."""
    return of(mixture(word, **changes), seed=seed, layer=layer)


def of(ffn: MoEFFN, *, width: int = WIDTH, seed: int = 0, layer: int = 0) -> Router:
    made = ROUTERS[ffn.router](ffn, width=width, vocab=VOCAB, layer=layer)
    made.initialise(seed, f"layers.{layer}.ffn.router")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            if name.endswith(("weight", "noise")):
                value.copy_(torch.randn(value.shape, generator=generator) * 2 * width**-0.5)
    return made.train()


def projection(made: Router) -> Tensor:
    """The weights of the experts' logits; a buffer where they are frozen."""
    weight = getattr(made, "gate", made).weight
    assert isinstance(weight, Tensor)
    return weight


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Given:
    """Tokens of some sequences, as vectors and as text."""

    x_TD: Tensor
    ids_BT: Tensor

    def text(self, seed: int | None = 0, *, start: int = 0) -> Text:
        """With a generator of a seed, or without one."""
        return Text(ids_BT=self.ids_BT, start=start, generator=None if seed is None else chance(seed))

    def routed_by(self, made: Router, seed: int | None = 0) -> Routing:
        routing = made(self.x_TD, self.text(seed))
        assert isinstance(routing, Routing)
        return routing


def given(batch: int = 4, length: int = 16, *, width: int = WIDTH, seed: int = 1) -> Given:
    """Vectors and words drawn at random."""
    x_TD = torch.randn(batch * length, width, generator=chance(seed))
    return Given(x_TD, tokens(batch, length, seed=seed))


def matrix(routing: Routing, *, num_tokens: int, experts: int = 9) -> Tensor:
    """The weight of every token at every expert, [T, E]; 0 where it does not go, and of experts that there are not."""
    weights_TE = torch.zeros(num_tokens, experts)
    return weights_TE.index_put((routing.token_N, routing.expert_N), routing.weight_N, accumulate=True)
