"""Routers of installed packages: loaded when a suite names one, and refused when they declare too little."""

from __future__ import annotations

from typing import Any

from moebench.models.routers.routing import Router
from moebench.plugins import ROUTERS, PluginCode, PluginError, code_of, load, offered, place
from moebench.text import listed, plain

_DECLARED = {
    "causal": ("whether it is causal", "causal = True  # a token's experts depend on no later token", "causal = False"),
    "learned": ("whether it learns", "learned = True  # it has weights that are trained", "learned = False"),
    "options": (
        "which options of a mixture it reads",
        'options = ("capacity_factor", "jitter")  # the base class reads these two',
        "options = ()",
    ),
}
"""What a class says itself, whatever it inherits: in words, and how to write it, one way and the other."""


def load_router(word: str, *, options: tuple[str, ...], losses: tuple[str, ...]) -> type[Router]:
    """The class that an installed package offers under a name; `options` and `losses` are those that mixtures have.

    Raises KeyError when none does, PluginError when it does not load, is no router, or declares too little.
    """
    point = offered(ROUTERS)[word]
    made = load(point)
    if not (isinstance(made, type) and issubclass(made, Router)):
        what = f"the entry point {plain(point.value)} of {ROUTERS}"
        raise PluginError(f"{what} is no subclass of moebench.models.routers.Router ({place(made)})")
    for name, (what, one, other) in _DECLARED.items():
        if name not in vars(made):
            raise PluginError(
                f"the router {word} does not say {what}: write into class {made.__name__} ({place(made)}) "
                f"`{one}`, or `{other}`"
            )
    for name in ("causal", "learned"):
        if not isinstance(value := getattr(made, name), bool):
            raise PluginError(f"{name} of {made.__name__} ({place(made)}) is True or False, not {plain(value)}")
    _check_words(made, "options", options)
    _check_words(made, "auxiliary", losses)
    return made


def code(word: str, made: type[Router]) -> PluginCode:
    """Package, version and code of an installed package's router as it is now."""
    return code_of(offered(ROUTERS)[word], made)


def _check_words(made: type[Router], name: str, known: tuple[str, ...]) -> None:
    value: Any = getattr(made, name)
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise PluginError(f"{name} of {made.__name__} ({place(made)}) is a tuple of words, such as {name} = ()")
    if unknown := [plain(one) for one in value if str(one) not in known]:
        there = f"known are {listed(known, last='and')}"
        raise PluginError(f"{name} of {made.__name__} ({place(made)}) has {listed(unknown)}: {there}")
