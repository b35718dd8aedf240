"""Routers: which experts a token goes to, with what weight, and what the auxiliary losses are.

A router is one file: the options that it brings, what suites and plans must know of it, and what it computes; and a
line in `ROUTERS` below. Installed packages add theirs through the entry point group `moebench.routers`.
"""

from __future__ import annotations

from typing import Any

from moebench import plugins
from moebench.models.routers import installed
from moebench.models.routers.expert_choice import ExpertChoice
from moebench.models.routers.facts import RouterFacts as RouterFacts
from moebench.models.routers.frozen_random import FrozenRandom
from moebench.models.routers.gshard import GShard
from moebench.models.routers.hierarchical import Hierarchical
from moebench.models.routers.losses import Loss as Loss
from moebench.models.routers.noisy_topk import NoisyTopK
from moebench.models.routers.options import MoEFFN, Options, Shared
from moebench.models.routers.round_robin import RoundRobin
from moebench.models.routers.routing import Router as Router
from moebench.models.routers.routing import Routing as Routing
from moebench.models.routers.routing import Text as Text
from moebench.models.routers.sigmoid_bias import SigmoidBias
from moebench.models.routers.soft_mixture import SoftMixture
from moebench.models.routers.softmax_topk import SoftmaxTopK
from moebench.models.routers.switch import Switch
from moebench.models.routers.token_hash import TokenHash
from moebench.models.routers.top_p import TopP
from moebench.models.routers.topk_softmax import TopKSoftmax
from moebench.plugins import PluginError
from moebench.text import plain

REFUSED = {
    "soft_moe": "Soft MoE (Puigcerver et al. 2023, arXiv:2308.00951) mixes all tokens of a sequence into every slot, "
    "so each output holds later tokens; a causal form is not published, and a prefix-wise one costs another order",
}
"""Designs that cannot be routers of a causal decoder, and why."""


def router_class(word: str) -> type[Router]:
    """The router a suite names: ours, or an installed package's.

    Raises KeyError listing the known words, and PluginError when a package's does not load or declares too little.
    """
    if word in ROUTERS:
        return ROUTERS[word]
    others = plugins.names(plugins.ROUTERS)
    if word in others:
        return installed.load_router(word, options=OPTIONS, losses=tuple(LOSSES))
    raise KeyError(f"unknown router {word!r}; known: {', '.join(sorted([*ROUTERS, *others]))}")


def known_routers() -> list[str]:
    """Our routers and those of installed packages."""
    return [*ROUTERS, *sorted(plugins.names(plugins.ROUTERS) - set(ROUTERS))]


def options_of(router: type[Router]) -> tuple[str, ...]:
    """The `OPTIONS` that a router reads, coefficients of its losses among them."""
    return tuple(option for option in OPTIONS if option in (*router.options, *map(str, router.auxiliary)))


def described(word: str, router: type[Router]) -> tuple[str, str]:
    """(the rule, where it is from): of the docstring's first paragraph, and of the publication or the package."""
    says = " ".join((router.__doc__ or "").strip().partition("\n\n")[0].split())
    package = [] if word in ROUTERS else [str(installed.code(word, router))]
    return plain(says) or "of an installed package", "; ".join(filter(None, [router.source, *package]))


def facts_of(ffn: MoEFFN, *, width: int) -> RouterFacts | None:
    """What is known of a router of ours by arithmetic; None for one of an installed package, see `trial`."""
    router = ROUTERS.get(ffn.router)
    if router is None:
        return None
    used = width * router.rows(ffn)
    in_training = 2 * used if router.noisy else used
    parameters = in_training + (ffn.experts if ffn.bias and router.can_bias else 0)
    return RouterFacts(
        causal=router.causal,
        learned=router.learned,
        losses=tuple(map(str, router.auxiliary)),
        even=router.even,
        fewer=router.fewer,
        selection_bias=router.selection_bias,
        parameters=parameters,
        untrained_parameters=0 if router.learned else parameters,
        multiply_adds=used,
        training_multiply_adds=in_training,
    )


def losses_of_batch(ffn: MoEFFN, losses: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a router's losses with a coefficient that are taken over the batch and are no mean over its tokens."""
    asked = (name for name in losses if getattr(ffn, name, None) and not LOSSES[name].mean)
    small = ffn.balance_over in ("sequence", "micro_batch")
    return tuple(name for name in asked if not (small and name == "balance_loss"))


def same_code(word: str, facts: RouterFacts | None) -> None:
    """Raises PluginError when the code of an installed package's router is not that of the plan."""
    if facts is None or facts.code is None:
        return
    now = installed.code(word, router_class(word))
    if now != facts.code:
        raise PluginError(f"the router {word} is now {now}; the plan was made with {facts.code}: plan again")


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

_BROUGHT: dict[type[Options], None] = dict.fromkeys([Shared, *(router.Options for router in ROUTERS.values())])
_FIELDS = {name: (field.annotation, field) for options in _BROUGHT for name, field in options.model_fields.items()}
LOSSES = {str(loss): loss for router in ROUTERS.values() for loss in router.auxiliary if isinstance(loss, Loss)}
"""Every auxiliary loss by name; a mixture has the coefficient of each under the same name."""
OPTIONS = (*_FIELDS, *(name for name, loss in LOSSES.items() if loss.default is None))
"""Fields of a mixture that only some routers read; absent (None) unless a suite gives them."""
FIELDS: dict[str, tuple[Any, Any]] = {**{name: loss.coefficient for name, loss in LOSSES.items()}, **_FIELDS}
"""What routers add to a mixture's fields: type and default of each, as pydantic takes them."""
