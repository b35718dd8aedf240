"""Installed packages without an installer: modules and a dist-info folder in a folder on `sys.path`."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

ROUTER = '''
    """Routers of a package."""

    import torch
    from torch import Tensor, nn

    from moebench.models.initial import normal_
    from moebench.models.routers import Router, Routing, Text


    class Nearest(Router):
        """The experts whose vectors lie nearest to the token."""

        causal = True  # a token's experts depend on no later token
        learned = True  # it has weights that are trained
        options = ("capacity_factor", "jitter")  # the base class reads these two

        def __init__(self, ffn, *, width, vocab, layer):
            super().__init__(ffn, width=width, vocab=vocab, layer=layer)
            self.weight = nn.Parameter(torch.empty(ffn.experts, width))

        def choose(self, x_TD: Tensor, text: Text) -> Routing:
            scores_TE = torch.linalg.vector_norm(x_TD[:, None].float() - self.weight, dim=2).neg().softmax(1)
            weights_TK, experts_TK = scores_TE.topk(self.top_k, dim=1)
            return self.full_routing(experts_TK, weights_TK, losses={})

        @torch.no_grad()
        def initialise(self, seed, prefix):
            normal_(self.weight, seed, prefix, std=1.0)
'''
"""A router as README shows one."""

PEEK = '''
    """A router that looks at the next word."""

    import torch

    from moebench.models.routers import Router


    class Peek(Router):
        """NOT CAUSAL: a token's expert is the next word modulo the number of experts."""

        causal = False
        learned = False
        options = ()

        def choose(self, x_TD, text):
            ahead = torch.roll(text.ids_BT, -1, dims=1)
            ahead[:, -1] = 0
            experts_TK = (ahead.reshape(-1, 1) % self.experts).long()
            weights_TK = torch.ones_like(experts_TK, dtype=torch.float32)
            return self.full_routing(experts_TK, weights_TK, losses={})
'''

SOURCE = '''
    """A source of texts."""

    from moebench.data import Gathered, Source, Text

    def gather(spec, base):
        texts = [Text(name=f"t{i}", domain="words", group=f"t{i}", body=(WORD * 40).encode()) for i in range(30)]
        return Gathered(texts=[*texts], independent=True)

    WORD = "plain words "
    SOURCE = Source(says="words", gather=gather, fingerprint=lambda spec, base: None)
'''


_NAMES = {"mine", "words", "beside"}
"""Modules that tests install."""


class Installed:
    """One package at a time: `install` replaces what was there, as a reinstallation in a fresh Python would."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = root / "site"
        self.site.mkdir()
        monkeypatch.syspath_prepend(str(self.site))

    def install(
        self,
        modules: Mapping[str, str] | str,
        points: str = "[moebench.routers]\nmine = mine:Nearest\n",
        *,
        version: str = "1.0",
        name: str = "mine-of-them",
    ) -> None:
        """Writes modules (path -> text; `mine.py` for a text alone) and the metadata that offers the entry points."""
        files = {"mine.py": modules} if isinstance(modules, str) else dict(modules)
        shutil.rmtree(self.site)
        about = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "entry_points.txt").write_text(points)
        (about / "top_level.txt").write_text("\n".join({path.partition("/")[0].removesuffix(".py") for path in files}))
        for path, text in files.items():
            (self.site / path).parent.mkdir(parents=True, exist_ok=True)
            (self.site / path).write_text(dedent(text))
        self.forget()

    def forget(self) -> None:
        """As if Python had been started again; what another test installed under the same names is forgotten too."""
        for module in [name for name in sys.modules if name.partition(".")[0] in _NAMES]:
            del sys.modules[module]
        importlib.invalidate_caches()
