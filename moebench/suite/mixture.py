"""Whether a mixture's options go with its router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moebench.models.routers import FIELDS, LOSSES, OPTIONS, REFUSED, ROUTERS, Router, options_of
from moebench.models.routers.options import MoEFFN


def problem(ffn: MoEFFN, router: type[Router] | None) -> tuple[str, str] | None:
    """(field, message) when a mixture's options do not go with its router; None for a router that is not known here."""
    if ffn.router in REFUSED:
        return "router", f"{ffn.router} is refused: {REFUSED[ffn.router]}"
    if router is None:
        return None
    options = options_of(router)
    unread = [option for option in OPTIONS if getattr(ffn, option) is not None and option not in options]
    if unread:
        reads = f"it reads {', '.join(options)}" if options else "it has no options"
        return unread[0], f"the router {ffn.router} does not use {' or '.join(unread)}: {reads}"
    missing = [option for option in router.needs if getattr(ffn, option) is None]
    if missing:
        such = ", ".join(f"{option}: {one}" for option in missing for one in FIELDS[option][1].examples or ())
        return "router", f"the router {ffn.router} needs {' and '.join(missing)}{such and f', such as {such}'}"
    return router.unfit(ffn)


def routed_by(ffn: MoEFFN, word: str) -> MoEFFN:
    """The mixture under a router that needs no options: without the options of its own router, and without losses."""
    left = {*OPTIONS, *LOSSES, "renormalise"}
    kept = {name: value for name, value in ffn.model_dump().items() if name not in left}
    losses = {name: 0.0 for name, loss in LOSSES.items() if loss.default is not None}
    return type(ffn).model_validate({**kept, **losses, "router": word})


def unread_options(word: str, given: Mapping[str, object]) -> list[str]:
    """Those of the given options (not None) that a router of ours does not read."""
    if word not in ROUTERS:
        return []
    read = options_of(ROUTERS[word])
    return [option for option in OPTIONS if given.get(option) is not None and option not in read]


def unread_losses(ffn: MoEFFN, router: type[Router]) -> list[str]:
    """The losses that are written with a coefficient and that the router does not have."""
    return [loss for loss in idle_losses(ffn, tuple(map(str, router.auxiliary))) if loss in ffn.model_fields_set]


def idle_losses(ffn: MoEFFN, losses: Sequence[str] | None = None) -> list[str]:
    """The losses with a coefficient, if only by default, that the router does not have.

    `losses` are those it has; when absent, ours are known, and another may have all.
    """
    if losses is None:
        losses = tuple(map(str, ROUTERS[ffn.router].auxiliary if ffn.router in ROUTERS else LOSSES))
    of_every_mixture = [name for name, loss in LOSSES.items() if loss.default is not None]
    return [loss for loss in of_every_mixture if getattr(ffn, loss) != 0 and loss not in losses]


def unread_renormalise(ffn: MoEFFN, router: type[Router]) -> str | None:
    """Why `renormalise: false` changes nothing; None when the router reads it, or may: an installed package's."""
    if ffn.renormalise or router.sums_to_1 == "if asked" or ffn.router not in ROUTERS:
        return None
    return "its weights always add up to 1" if router.sums_to_1 == "always" else "its weights are set by its rule"


def idle_gradient(ffn: MoEFFN, router: type[Router]) -> tuple[str, str] | None:
    """(what is wrong, what would do) of a trained router whose one expert weighs 1 whatever it says."""
    sums_to_1 = router.sums_to_1 == "always" or (router.sums_to_1 == "if asked" and ffn.renormalise)
    if ffn.top_k != 1 or ffn.experts == 1 or not router.learned or not sums_to_1:
        return None
    wrong = (
        f"with top_k: 1 the weight of {ffn.router}'s one expert is always 1, so the router learns nothing from the loss"
    )
    if router.sums_to_1 == "if asked":
        return wrong, "write `renormalise: false`, or use the router switch"
    return wrong, "use softmax_topk with `renormalise: false`, or the router switch"
