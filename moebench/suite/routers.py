"""What suites and counting know of each router: its words, its options and its matrices; `model.routers` computes it.

The two are kept apart so that checking, planning and reporting load no torch; a test holds their words equal and the
counts below equal to what is built. Routers of installed packages are loaded when a suite is checked, for what their
classes declare, and built when it is planned, for their counts; a plan that is read back loads neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from moebench.suite.model import DenseFFN, MoEFFN

OPTIONS = (
    "capacity_factor",
    "jitter",
    "top_p",
    "groups",
    "groups_chosen",
    "scale",
    "bias_rate",
    "importance_loss",
    "load_loss",
    "entropy_loss",
    "balance_over",
)
"""Fields of an MoE that only some routers read; absent (None) unless a suite gives them."""

LOSSES = ("balance_loss", "z_loss", "importance_loss", "load_loss", "entropy_loss")
"""Auxiliary losses of routers; a mixture has the coefficient of each under the same name."""

_OF_EVERY_MIXTURE = ("balance_loss", "z_loss")
"""Losses whose coefficients every mixture has, at a default when a suite gives none."""

_EXAMPLES = {"capacity_factor": "1.25", "top_p": "0.4", "groups": "4", "groups_chosen": "2"}
"""Values to start from, for options that some router cannot do without."""


def _one_row_an_expert(ffn: MoEFFN) -> int:
    return ffn.experts


def _none(_: MoEFFN) -> int:
    return 0


def _fits(_: MoEFFN) -> tuple[str, str] | None:
    return None


def _never(_: MoEFFN) -> bool:
    return False


def _always(_: MoEFFN) -> bool:
    return True


def _renormalised(ffn: MoEFFN) -> bool:
    return ffn.renormalise


@dataclass(frozen=True, kw_only=True)
class RouterFacts:
    """A router as suites, plans and counts see it."""

    says: str
    """One line: the rule."""
    source: str
    """Where it was published."""
    causal: bool = True
    """Whether a token's experts depend on no later token and on no other sequence when evaluated."""
    options: tuple[str, ...] = ()
    """Which of `OPTIONS` it reads."""
    needs: tuple[str, ...] = ()
    """Which of them it cannot do without."""
    losses: tuple[str, ...] = _OF_EVERY_MIXTURE
    """Auxiliary losses it offers."""
    rows: Callable[[MoEFFN], int] = _one_row_an_expert
    """Rows of its projection of the width: its weights, and its FLOPs a token over 2 x width."""
    noise_rows: Callable[[MoEFFN], int] = _none
    """Further rows that are used in training alone."""
    learned: bool = True
    """Whether its projection is trained."""
    can_bias: bool = False
    """Whether its logits take a bias an expert when the mixture has biases."""
    even: bool = False
    """Whether its experts get equally many tokens whatever it learns."""
    fewer: Literal["training", "always"] | None = None
    """When it may itself give a token fewer than top_k experts, capacity aside; None where it never does."""
    renormalises: bool = False
    """Whether it reads `renormalise`."""
    adds_up_to_1: Callable[[MoEFFN], bool] = _never
    """Whether a token's weights always add up to 1: with one expert, its weight is then 1 whatever the router says."""
    fits: Callable[[MoEFFN], tuple[str, str] | None] = _fits
    """(field, what is wrong) of a mixture that it cannot route."""


def _top_1(ffn: MoEFFN) -> tuple[str, str] | None:
    return None if ffn.top_k == 1 else ("top_k", f"switch sends a token to 1 expert, not {ffn.top_k}: give top_k: 1")


def _top_2(ffn: MoEFFN) -> tuple[str, str] | None:
    return None if ffn.top_k == 2 else ("top_k", f"gshard sends a token to 2 experts, not {ffn.top_k}: give top_k: 2")


def _all(ffn: MoEFFN) -> tuple[str, str] | None:
    if ffn.top_k == ffn.experts:
        return None
    return "top_k", f"in a soft mixture every expert runs: give top_k: {ffn.experts}, the number of experts"


def _grouped(ffn: MoEFFN) -> tuple[str, str] | None:
    """Groups of equal size, enough of them chosen to hold top_k experts."""
    if ffn.groups is None and ffn.groups_chosen is None:
        return None
    if ffn.groups is None or ffn.groups_chosen is None:
        given, missing = ("groups_chosen", "groups") if ffn.groups is None else ("groups", "groups_chosen")
        return given, f"{given} is given without {missing}: they go together"
    if ffn.experts % ffn.groups:
        divisors = [str(n) for n in range(2, ffn.experts) if ffn.experts % n == 0]
        these = f"use {', '.join(divisors)}" if divisors else "no number of groups does"
        return "groups", f"{ffn.groups} groups do not divide {ffn.experts} experts: {these}"
    if ffn.groups_chosen > ffn.groups:
        return "groups_chosen", f"groups_chosen {ffn.groups_chosen} is more than the {ffn.groups} groups there are"
    if ffn.groups_chosen * (ffn.experts // ffn.groups) < ffn.top_k:
        each = ffn.experts // ffn.groups
        held = f"groups_chosen {ffn.groups_chosen} of {each} experts each hold fewer than top_k {ffn.top_k}"
        return "groups_chosen", f"{held}: choose at least {-(-ffn.top_k // each)}"
    return None


def _two_levels(ffn: MoEFFN) -> tuple[str, str] | None:
    if (found := _grouped(ffn)) is not None:
        return found
    assert ffn.groups_chosen is not None
    if ffn.top_k % ffn.groups_chosen:
        text = f"top_k {ffn.top_k} is not shared equally by {ffn.groups_chosen} chosen groups"
        return "top_k", f"{text}: give a multiple of {ffn.groups_chosen}"
    return None


def _group_of_two(ffn: MoEFFN) -> tuple[str, str] | None:
    """DeepSeek-V3 ranks a group by its two best experts, so a group has at least two."""
    if (found := _grouped(ffn)) is not None:
        return found
    if ffn.groups is not None and ffn.groups > 1 and ffn.experts // ffn.groups < 2:
        return "groups", f"{ffn.groups} groups of {ffn.experts} experts are groups of one: a group has at least two"
    return None


_TOKEN_CHOICE = ("capacity_factor", "jitter", "balance_over")

ROUTERS: dict[str, RouterFacts] = {
    "softmax_topk": RouterFacts(
        says="softmax over all experts, then the k most probable, renormalised or not; dropless unless capped",
        source="Mixtral, arXiv:2401.04088 (renormalised); OLMoE, arXiv:2409.02060 (not)",
        options=_TOKEN_CHOICE,
        can_bias=True,
        renormalises=True,
        adds_up_to_1=_renormalised,
    ),
    "topk_softmax": RouterFacts(
        says="the k largest logits, then a softmax over those k; equals softmax_topk renormalised",
        source="gpt-oss 2025; Mixtral's equation (arXiv:2401.04088)",
        options=_TOKEN_CHOICE,
        can_bias=True,
        adds_up_to_1=_always,
    ),
    "noisy_topk": RouterFacts(
        says="top-k of logits plus trainable Gaussian noise, then softmax over those k; importance and load losses",
        source="Shazeer et al. 2017, arXiv:1701.06538",
        options=(*_TOKEN_CHOICE, "importance_loss", "load_loss"),
        losses=("balance_loss", "z_loss", "importance_loss", "load_loss"),
        noise_rows=_one_row_an_expert,
        adds_up_to_1=_always,
    ),
    "hierarchical": RouterFacts(
        says="two levels of noisy top-k: groups first, then experts within each chosen group; weights multiply",
        source="Shazeer et al. 2017, arXiv:1701.06538, appendix B",
        options=("capacity_factor", "jitter", "groups", "groups_chosen", "importance_loss", "load_loss"),
        needs=("groups", "groups_chosen"),
        losses=("z_loss", "importance_loss", "load_loss"),
        rows=lambda ffn: ffn.experts + (ffn.groups or 0),
        noise_rows=lambda ffn: ffn.experts + (ffn.groups or 0),
        fits=_two_levels,
        adds_up_to_1=_always,
    ),
    "switch": RouterFacts(
        says="the most probable expert, its output scaled by that probability; capacity, dropping and input jitter",
        source="Fedus et al. 2021, arXiv:2101.03961",
        options=_TOKEN_CHOICE,
        needs=("capacity_factor",),
        can_bias=True,
        fits=_top_1,
    ),
    "gshard": RouterFacts(
        says="the two most probable experts; in training the second with probability twice its weight; capacity",
        source="Lepikhin et al. 2020, arXiv:2006.16668",
        options=_TOKEN_CHOICE,
        needs=("capacity_factor",),
        can_bias=True,
        fits=_top_2,
        fewer="training",
    ),
    "expert_choice": RouterFacts(
        says="NOT CAUSAL: each expert picks its tokens of the sequence, so a token's experts depend on later ones",
        source="Zhou et al. 2022, arXiv:2202.09368",
        causal=False,
        options=("jitter",),
        losses=("z_loss",),
        even=True,
    ),
    "sigmoid_bias": RouterFacts(
        says="sigmoid scores; selection by score plus a bias that evens the load without a loss; optional groups; a "
        "balance loss, if any, counts the experts so selected",
        source="DeepSeek-V3, arXiv:2412.19437; Wang et al. 2024, arXiv:2408.15664",
        options=(*_TOKEN_CHOICE, "groups", "groups_chosen", "scale", "bias_rate"),
        fits=_group_of_two,
        renormalises=True,
        adds_up_to_1=_renormalised,
    ),
    "token_hash": RouterFacts(
        says="a fixed random table from the token's word to k experts; nothing is learned",
        source="Roller et al. 2021, arXiv:2106.04426",
        options=("capacity_factor",),
        losses=(),
        rows=_none,
        learned=False,
    ),
    "frozen_random": RouterFacts(
        says="softmax_topk whose projection is drawn once and never trained",
        source="Dikkala et al. 2023, doi:10.18653/v1/2023.emnlp-main.583",
        options=("capacity_factor", "jitter"),
        losses=(),
        can_bias=False,
        renormalises=True,
        learned=False,
    ),
    "round_robin": RouterFacts(
        says="experts in turn by position: perfectly balanced, blind to content; a control",
        source="control of this suite",
        options=(),
        losses=(),
        rows=_none,
        learned=False,
        even=True,
    ),
    "soft_mixture": RouterFacts(
        says="every expert runs, weighted by a softmax gate: no sparsity, active equals total",
        source="Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79",
        options=("jitter",),
        losses=("z_loss",),
        can_bias=True,
        fits=_all,
        even=True,
    ),
    "top_p": RouterFacts(
        says="the fewest experts whose probabilities reach p, at most top_k; how many is the token's own",
        source="Huang et al. 2024, arXiv:2403.07652",
        options=("capacity_factor", "jitter", "top_p", "entropy_loss"),
        needs=("top_p",),
        losses=("balance_loss", "z_loss", "entropy_loss"),
        can_bias=True,
        renormalises=True,
        adds_up_to_1=_renormalised,
        fewer="always",
    ),
}

REFUSED = {
    "soft_moe": "Soft MoE (Puigcerver et al. 2023, arXiv:2308.00951) mixes all tokens of a sequence into every slot, "
    "so each output holds later tokens; a causal form is not published, and a prefix-wise one costs another order",
}
"""Designs that cannot be routers of a causal decoder, and why."""

_PLUGIN = RouterFacts(says="of an installed package", source="", options=OPTIONS, renormalises=True)


def facts(word: str) -> RouterFacts:
    """What is known of a router without loading it: of an installed package's nothing, so it may read everything."""
    return ROUTERS.get(word, _PLUGIN)


def problem(ffn: MoEFFN, known: RouterFacts | None = None) -> tuple[str, str] | None:
    """(field, message) when a mixture's options do not go with its router, of which `known` is known."""
    if ffn.router in REFUSED:
        return "router", f"{ffn.router} is refused: {REFUSED[ffn.router]}"
    known = known or facts(ffn.router)
    unread = [option for option in OPTIONS if getattr(ffn, option) is not None and option not in known.options]
    if unread:
        reads = f"it reads {', '.join(known.options)}" if known.options else "it has no options"
        return unread[0], f"the router {ffn.router} does not use {' or '.join(unread)}: {reads}"
    missing = [option for option in known.needs if getattr(ffn, option) is None]
    if missing:
        such = ", ".join(f"{option}: {_EXAMPLES[option]}" for option in missing)
        return "router", f"the router {ffn.router} needs {' and '.join(missing)}, such as {such}"
    return known.fits(ffn)


def unread_options(word: str, given: Mapping[str, object]) -> list[str]:
    """Those of the given options (not None) that a router does not read."""
    read = facts(word).options
    return [option for option in OPTIONS if given.get(option) is not None and option not in read]


def unread_losses(ffn: MoEFFN, losses: Sequence[str] | None = None) -> list[str]:
    """The losses that are written with a coefficient and that the router does not have; `losses` are those it has."""
    return [loss for loss in idle_losses(ffn, losses) if loss in ffn.model_fields_set]


def unread_renormalise(ffn: MoEFFN) -> str | None:
    """Why `renormalise: false` changes nothing; None when the router reads it."""
    known = facts(ffn.router)
    if ffn.renormalise or known.renormalises:
        return None
    return "its weights always add up to 1" if known.adds_up_to_1(ffn) else "its weights are set by its rule"


def idle_losses(ffn: MoEFFN, losses: Sequence[str] | None = None) -> list[str]:
    """The losses with a coefficient, if only by default, that the router does not have; `losses` are those it has."""
    known = facts(ffn.router).losses if losses is None else losses
    return [loss for loss in _OF_EVERY_MIXTURE if getattr(ffn, loss) != 0 and loss not in known]


def idle_gradient(ffn: MoEFFN) -> tuple[str, str] | None:
    """(what is wrong, what would do) of a trained router whose one expert weighs 1 whatever it says."""
    known = facts(ffn.router)
    if ffn.top_k != 1 or ffn.experts == 1 or not known.learned or not known.adds_up_to_1(ffn):
        return None
    wrong = (
        f"with top_k: 1 the weight of {ffn.router}'s one expert is always 1, so the router learns nothing from the loss"
    )
    if known.adds_up_to_1 is _renormalised:
        return wrong, "write `renormalise: false`, or use the router switch"
    return wrong, "use softmax_topk with `renormalise: false`, or the router switch"


def uneven(ffn: MoEFFN, *, context: int) -> tuple[str, str] | None:
    """(what is wrong, what would do) of experts that cannot choose the same number of tokens, top_k for each in all.

    Expert choice gives every expert C = top_k x context / experts tokens of a sequence (Zhou et al. 2022, section 3.2);
    rounded up, tokens would have more than top_k experts on average, and cost more than is planned.
    """
    pairs = ffn.top_k * context
    if ffn.router != "expert_choice" or pairs % ffn.experts == 0:
        return None
    number = min((n for n in range(ffn.top_k, 1025) if pairs % n == 0), key=lambda n: (abs(n - ffn.experts), n))
    contexts, top_k = ffn.experts // gcd(ffn.experts, ffn.top_k), ffn.experts // gcd(ffn.experts, context)
    wrong = f"{ffn.experts} experts cannot choose equally many of {context} tokens for top_k {ffn.top_k}"
    return wrong, f"use {number} experts, a context that {contexts} divides, or a top_k that {top_k} divides"


def drops(ffn: DenseFFN | MoEFFN, *, training: bool) -> bool:
    """Whether some of the pairs may go over capacity. Ours take every pair in evaluations; of others it is unknown."""
    if ffn.kind == "dense":
        return False
    return ffn.router not in ROUTERS or (training and ffn.capacity_factor is not None)


def computes_fewer(ffn: DenseFFN | MoEFFN, *, training: bool) -> bool:
    """Whether fewer than top_k pairs a token may be computed: over capacity, or because a router picks fewer."""
    if ffn.kind == "dense" or ffn.router not in ROUTERS:
        return False
    fewer = ROUTERS[ffn.router].fewer
    return fewer == "always" or (training and (fewer == "training" or ffn.capacity_factor is not None))


def parameters(ffn: MoEFFN, *, width: int) -> int:
    """Weights of the router, those of its noise and biases included."""
    known = facts(ffn.router)
    biases = ffn.experts if ffn.bias and known.can_bias else 0
    return width * (known.rows(ffn) + known.noise_rows(ffn)) + biases


def multiply_adds(ffn: MoEFFN, *, width: int, training: bool) -> int:
    """Multiply-adds of routing one token."""
    known = facts(ffn.router)
    return width * (known.rows(ffn) + (known.noise_rows(ffn) if training else 0))
