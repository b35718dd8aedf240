"""torch, brought in when something of it is first used.

A router's file holds what suites, plans and reports read of it beside what computes it; the former is read without
torch, so such a file takes torch from here, and its classes derive from this `Module`. What is used while a module is
imported, such as a decorator, cannot be taken from here.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor as Tensor
    from torch import nn as nn
    from torch.nn import Module as Module
    from torch.nn import functional as F  # noqa: N812
else:

    class _Lazy:
        """A module that is imported when it is asked for something."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, word: str) -> Any:
            value = getattr(import_module(self._name), word)
            setattr(self, word, value)  # asked for in every layer of every step: once by name, then as an attribute
            return value

    torch, nn, F = _Lazy("torch"), _Lazy("torch.nn"), _Lazy("torch.nn.functional")
    Tensor = Any  # only annotations name it

    class Module:
        """Base of classes whose objects are `torch.nn.Module`s, though the class is made without torch.

        An object is one of a subclass that has torch's Module for its last base, made with the first object.
        """

        def __new__(cls, *_: Any, **__: Any) -> Any:
            return object.__new__(_with_torch(cls))

    @functools.cache
    def _with_torch(cls: type) -> type:
        if issubclass(cls, nn.Module):
            return cls
        named = {key: getattr(cls, key) for key in ("__module__", "__qualname__", "__doc__")}
        return type(cls.__name__, (cls, nn.Module), named)


__all__ = ["F", "Module", "Tensor", "nn", "torch"]
