"""Fields of a mixture that only some routers read: those that several routers share.

They stand flat beside the mixture's own fields and are absent (None) unless a suite gives them. A router's own options
stand in its file, in a type like these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from moebench.frozen import Frozen, later

if TYPE_CHECKING:
    from moebench.suite.model import MoEFFN as MoEFFN
else:
    MoEFFN = Any  # a mixture, which is made of these options; only annotations name it


ROUTER_SCALE = 1.0
"""Initial scale of a router that is given none."""


def initial_scale(ffn: MoEFFN) -> float:
    """Deviation of a router's initial logits of normalised tokens."""
    return ROUTER_SCALE if ffn.router_scale is None else float(ffn.router_scale)


class Options(Frozen):
    """Base of the options that a router brings; none."""


class Shared(Options):
    """Options of most routers."""

    capacity_factor: float | None = later(gt=0, le=1024, examples=[1.25])
    """Room of an expert in training: this times top_k x tokens / experts, over a micro-batch. Absent: dropless."""
    jitter: float | None = later(gt=0, lt=1)
    """In training the router's input is multiplied by numbers from 1 - jitter to 1 + jitter (Switch: 0.01)."""
    router_scale: float | None = later(gt=0, le=100, examples=[1.0])
    """Deviation of the router's initial logits of normalised tokens, so of its weights times the root of the width."""
    balance_over: Literal["sequence", "micro_batch", "batch"] | None = later()
    """Tokens that the balance loss is taken over: each sequence, each micro-batch, or the batch, as when absent."""


class Groups(Options):
    """Options of routers that choose groups of experts first."""

    groups: int | None = later(ge=1, le=1024, examples=[4])
    """Groups that the experts are divided into (routers hierarchical and sigmoid_bias)."""
    groups_chosen: int | None = later(ge=1, le=1024, examples=[2])
    """Groups that a token's experts come from."""


def ungroupable(ffn: MoEFFN) -> tuple[str, str] | None:
    """(field, what is wrong) unless groups are of equal size and enough of them are chosen to hold top_k experts."""
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
    each = ffn.experts // ffn.groups
    if ffn.groups_chosen * each < ffn.top_k:
        held = f"groups_chosen {ffn.groups_chosen} of {each} experts each hold fewer than top_k {ffn.top_k}"
        return "groups_chosen", f"{held}: choose at least {-(-ffn.top_k // each)}"
    return None
