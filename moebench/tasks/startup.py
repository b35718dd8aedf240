"""Makes `lm_eval --model moebench` known to lm-eval, which has no entry points for models.

`moebench-lm-eval.pth` lies beside the installed packages, and Python reads it when it starts: where the command names
lm-eval, its one line imports this module, which loads nothing and waits. When lm-eval loads its list of models, ours is
added to it by name; the adapter is loaded when it is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

NAME, TARGET = "moebench", "moebench.tasks.command_line:Model"
MODELS = "lm_eval.models"


class _Registering(Loader):
    """Executes lm-eval's list of models, then adds ours."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        register()


class _Waiting(MetaPathFinder):
    """Stands before the other finders until lm-eval's list of models is looked for."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != MODELS:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def register() -> None:
    """Adds the model to lm-eval's registry; an lm-eval that has another one goes on without ours."""
    try:
        from lm_eval.api.registry import model_registry

        if NAME not in model_registry:
            model_registry.register(NAME, target=TARGET)
    except Exception as error:  # lm-eval's own work must not end here
        print(f"moebench is not among lm-eval's models: {error}", file=sys.stderr)


if MODELS in sys.modules:
    register()
elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Waiting())
