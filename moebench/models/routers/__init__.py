"""Routers: which experts a token goes to, with what weight, and what the auxiliary losses are.

A new router is a class in this package, a line in `ROUTERS` below, and its facts (options, matrices, whether it is
causal) in `spec.routers`. Installed packages add theirs through the entry point group `moebench.routers`.
"""

from __future__ import annotations

from moebench import plugins
from moebench.models.routers.expert_choice import ExpertChoice
from moebench.models.routers.losses import load_balance_loss as load_balance_loss
from moebench.models.routers.losses import router_z_loss as router_z_loss
from moebench.models.routers.noisy import Hierarchical, NoisyTopK
from moebench.models.routers.routing import Router as Router
from moebench.models.routers.routing import Routing as Routing
from moebench.models.routers.routing import Text as Text
from moebench.models.routers.sigmoid import SigmoidBias
from moebench.models.routers.softmax import FrozenRandom, GShard, SoftmaxTopK, SoftMixture, Switch, TopKSoftmax, TopP
from moebench.models.routers.unlearned import RoundRobin, TokenHash

ROUTERS: dict[str, type[Router]] = {
    "softmax_topk": SoftmaxTopK,
    "topk_softmax": TopKSoftmax,
    "noisy_topk": NoisyTopK,
    "hierarchical": Hierarchical,
    "switch": Switch,
    "gshard": GShard,
    "expert_choice": ExpertChoice,
    "sigmoid_bias": SigmoidBias,
    "token_hash": TokenHash,
    "frozen_random": FrozenRandom,
    "round_robin": RoundRobin,
    "soft_mixture": SoftMixture,
    "top_p": TopP,
}


def router_class(word: str) -> type[Router]:
    """The router a suite names: ours, or an installed package's.

    Raises KeyError listing the known words, and PluginError when a package's does not load or is no router.
    """
    if word in ROUTERS:
        return ROUTERS[word]
    others = plugins.offered(plugins.ROUTERS)
    if word in others:
        return plugins.router_class(word)  # type: ignore[no-any-return]
    raise KeyError(f"unknown router {word!r}; known: {', '.join(sorted([*ROUTERS, *others]))}")
