"""The import ladder: two wings joined by a folder, and no arrow backwards or across.

Every import of the package is walked with `ast`, those inside functions included. A module may import what stands
before it on its own wing, and the ground floor; the top may import everything. Only the top may import inside functions
to put off the cost of a wing; below it a lazy import needs a reason in `LAZY`.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import moebench
from moebench.launch.process import child_environment
from tests.support import tiny_suites

PACKAGE = Path(moebench.__file__).parent

LADDER: dict[str, tuple[str, ...]] = {
    "ground": (
        "__init__", "text", "frozen", "amounts", "seeds", "data.markov", "data.tasks", "format", "tables",
        "catalogue", "environment", "counting",
        "identity", "plugins", "models.lazy", "models.initial", "models.routers", "models.transforms", "models.subject",
        "metrics", "experiments", "external", "data.documents", "data.sources",
        "claims.hypothesis", "claims.kinds", "systems.configs", "models.convert.families", "models.convert.words",
        "suite",
        "models.architecture", "checkpoints.facts", "jobs.recipe", "jobs.session", "tasks.facts",
        "planning.planned", "planning.grid", "planning.published", "planning.types", "store",
    ),
    "run": (
        "systems", "checkpoints", "planning.feasibility", "planning.session", "planning.matching",
        "data", "models.decoder", "models.hf", "models.convert", "planning.checkpoints", "models.generation", "tasks",
        "jobs.job", "jobs.kind", "jobs.optimizers", "jobs.training",
        "jobs.chosen", "jobs.load", "jobs.elsewhere", "jobs.measuring", "jobs.keeping", "jobs.loop", "jobs",
        "launch", "planning",
        "systems.inspection", "models",
    ),
    "report": ("stats", "reader", "leverage", "claims", "reporting"),
    "top": ("api", "cli", "__main__"),
}  # fmt: skip
"""Wing -> its packages and modules, each importing only earlier ones of its wing. A module that stands here by its own
name is none of its package's."""

SEES = {"ground": {"ground"}, "run": {"ground", "run"}, "report": {"ground", "report"}, "top": set(LADDER)}

FORBIDDEN = {
    "ground": {"torch", "pandas", "seaborn", "matplotlib", "scipy"},
    "run": {"pandas", "seaborn", "matplotlib"},
    "report": {"torch"},
}
"""Third-party packages that no module of a wing imports, lazily or not."""

MEASURING = {"metrics", "models.subject", "models.lazy", "models.initial", "models.routers", "models.transforms"}
"""Declarations that both wings read, with what computes beside them: torch inside functions, or as a type."""

PLANNING = ("jobs", "launch", "planning.graph", "planning.machine")
"""Modules of the run wing that import torch inside functions alone."""

NO_TORCH = ("counting", "planning.matching", "systems", "checkpoints", "data", "planning.sweep")
"""Modules of the run wing that plan and count, and so must answer without torch."""

LAZY = {
    "__init__": "load, plan and run are brought in on first use",
    "environment": "the version is asked for when the package has been imported",
    "jobs": "torch stays out of the process that plans",
    "jobs.load": "torch stays out of the process that plans",
    "models.hf": "transformers is optional, and loaded when a checkpoint is",
    "planning": "torch stays out of the process that plans",
    "tasks": "lm-eval is imported where a task is carried out",
    "reporting": "pandas and matplotlib wait until a page is built",
}
"""Below the top: which modules import moebench inside functions, and why."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement of one name."""

    file: Path
    line: int
    target: str
    """Dotted name, absolute."""
    lazy: bool
    """Inside a function."""
    typing: bool
    """Under `if TYPE_CHECKING`."""

    @property
    def module(self) -> str:
        """The rung of the importing module."""
        return module_of(self.file)

    @property
    def imported(self) -> str | None:
        """The rung of what is imported; None for another package."""
        first, _, rest = self.target.partition(".")
        return rung_of(rest) if first == "moebench" else None

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.target}"


RUNGS = {name for modules in LADDER.values() for name in modules}


def rung_of(dotted: str) -> str:
    """The longest name on the ladder that a module's dotted name below moebench begins with."""
    parts = dotted.split(".")
    heads = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((head for head in heads if head in RUNGS), "__init__")


def module_of(file: Path) -> str:
    return rung_of(".".join(file.relative_to(PACKAGE).with_suffix("").parts))


def imports_of(file: Path) -> Iterator[Import]:
    """Every import of a file, wherever it stands."""

    def walk(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in targets(child, file):
                    yield Import(file=file, line=child.lineno, target=target, lazy=lazy, typing=typing)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            guarded = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, lazy=lazy or inside, typing=typing or guarded)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), lazy=False, typing=False)


def targets(node: ast.Import | ast.ImportFrom, file: Path) -> list[str]:
    """What a statement imports; `from moebench import costs` is moebench.counting.costs."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = ("moebench", *file.relative_to(PACKAGE).parts[:-1])
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    return [f"{base}.{a.name}" if base == "moebench" or is_module(f"{base}.{a.name}") else base for a in node.names]


def is_module(dotted: str) -> bool:
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return dotted.startswith("moebench.") and (path.is_dir() or path.with_suffix(".py").is_file())


@functools.cache
def every_import() -> tuple[Import, ...]:
    return tuple(found for file in sorted(PACKAGE.rglob("*.py")) for found in imports_of(file))


def wing_of(module: str) -> str:
    return next(wing for wing, modules in LADDER.items() if module in modules)


def test_every_module_stands_on_the_ladder_once() -> None:
    standing = [module for modules in LADDER.values() for module in modules]
    assert len(standing) == len(RUNGS)
    assert {module_of(path) for path in PACKAGE.rglob("*.py")} == RUNGS
    tops = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert {name.partition(".")[0] for name in RUNGS} == tops


def test_no_arrow_crosses_the_wings_or_points_up() -> None:
    arrows = [found for found in every_import() if found.imported is not None]
    wrong = [
        str(a)
        for a in arrows
        if a.module != "__init__"  # the package's root only offers names of the top, lazily: see LAZY
        and wing_of(a.imported or "") not in SEES[wing_of(a.module)]
    ]
    assert wrong == []
    assert len(arrows) > 100


@pytest.mark.parametrize("wing", LADDER)
def test_no_arrow_points_backwards_within_a_wing(wing: str) -> None:
    place = {module: index for index, module in enumerate(LADDER[wing])}
    wrong = [
        str(found)
        for found in every_import()
        if found.module in place and found.imported in place and place[found.module] < place[found.imported]
        and not found.typing
    ]  # fmt: skip
    assert wrong == []


def test_only_the_top_puts_imports_off_without_a_reason() -> None:
    lazy = {f.module for f in every_import() if f.lazy and f.imported is not None and wing_of(f.module) != "top"}
    assert lazy == set(LAZY)


@pytest.mark.parametrize("wing", FORBIDDEN)
def test_no_wing_imports_what_belongs_to_the_other(wing: str) -> None:
    wrong = [
        str(found)
        for found in every_import()
        if found.module in LADDER[wing] and found.target.partition(".")[0] in FORBIDDEN[wing]
        and not (found.module in MEASURING and (found.lazy or found.typing))
    ]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize("module", NO_TORCH)
def test_planning_and_counting_import_no_torch(module: str) -> None:
    assert not [str(f) for f in every_import() if f.module == module and f.target.partition(".")[0] == "torch"]


def loaded_after(code: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after some code; its output is thrown away."""
    ending = "\nimport sys\nprint('\\n' + ' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", code + ending]
    done = subprocess.run(command, env=child_environment(1), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {
    "torch", "pandas", "seaborn", "matplotlib", "scipy", "transformers", "tokenizers", "lm_eval", "datasets", "pyarrow",
    "huggingface_hub",
}  # fmt: skip


def test_the_command_line_and_its_help_load_nothing_heavy() -> None:
    """So that `moebench --help` answers at once; pydantic and ruamel.yaml wait for a suite too."""
    code = "from click.testing import CliRunner\nfrom moebench.cli import main\n"
    code += "assert CliRunner().invoke(main, ['--help']).exit_code == 0"
    assert not loaded_after(code) & (HEAVY | {"numpy", "pydantic", "ruamel"})


def test_importing_the_package_only_defines() -> None:
    assert not loaded_after("import moebench\nassert moebench.__version__") & (HEAVY | {"numpy", "pydantic"})


def test_what_a_coordinator_imports_loads_no_torch_and_no_pandas() -> None:
    """All of it in one Python, which names the first module that brings something in."""
    modules = [f"moebench.{module}" for module in (*LADDER["ground"][1:], *NO_TORCH, *PLANNING)]
    code = "import importlib, sys\n"
    code += f"for name in {modules}:\n    importlib.import_module(name)\n"
    code += f"    assert not (found := {HEAVY - {'scipy'}} & set(sys.modules)), (name, found)"
    assert not loaded_after(code) & (HEAVY - {"scipy"})


def test_the_report_wing_loads_no_torch() -> None:
    code = "import pkgutil, importlib, moebench.stats, moebench.reader.evidence, moebench.claims, moebench.reporting\n"
    code += "path = moebench.reporting.__path__\n"
    code += "for m in pkgutil.walk_packages(path, 'moebench.reporting.'): importlib.import_module(m.name)"
    assert "torch" not in loaded_after(code)


def test_the_run_wing_loads_no_pandas() -> None:
    modules = ", ".join(f"moebench.{module}" for module in LADDER["run"])
    assert not loaded_after(f"import {modules}") & {"pandas", "seaborn", "matplotlib"}


EXTRAS = ("ray", "transformers", "tokenizers", "huggingface_hub", "accelerate", "lm_eval", "datasets", "pyarrow",
          "zstandard")  # fmt: skip
"""What `pip install moebench` does not bring."""
WITHOUT = f"""
import importlib.metadata
import sys
from collections import Counter

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

def version(name):
    if name.replace("-", "_") in {EXTRAS}:
        raise importlib.metadata.PackageNotFoundError(name)
    return honest(name)

honest, importlib.metadata.version = importlib.metadata.version, version
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from click.testing import CliRunner
from moebench.cli import main

def call(*command, code=0):
    done = CliRunner().invoke(main, list(command))
    assert done.exit_code == code, (command, done.output, done.exception)
    return done.output

call("run", "tiny.yaml", "--launcher", "inline")
(run,) = [path.parent.name for path in Path("results/jobs").glob("*/model.safetensors")]
call("generate", run, "ab", "--tokens", "4")
call("export", run, "exported")
for command in ("list", "schema", "status", "report", "inspect --all"):
    call(*command.split())
assert "pip install 'moebench[hf]'" in call("plan", "checkpoint.yaml", code=2)
assert "pip install 'moebench[eval]'" in call("plan", "tasks.yaml", code=2)
assert "pip install 'moebench[ray]'" in call("run", "tiny.yaml", "--set", "seeds=[5]", "--launcher", "ray", code=2)
"""


def test_without_the_extras_all_else_works_and_they_are_named_where_they_are_needed(tmp_path: Path) -> None:
    """As after `pip install .`: the optional packages cannot be imported."""
    dense = {"layers": 1, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 16}}
    small = {"seeds": 1, "models": {"dense": dense}, "train": {"budget": {"steps": 2}}}
    tiny_suites.write(tmp_path, **small, measure={"lm_eval": {"tasks": ["arc_easy"]}}).rename(tmp_path / "tasks.yaml")
    model = {"checkpoint": "exported"}
    tiny_suites.write(tmp_path, seeds=1, models={"published": model}).rename(tmp_path / "checkpoint.yaml")
    tiny_suites.write(tmp_path, **small)
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=tmp_path, env=child_environment(1), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_walk_sees_imports_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instrument itself: top, function, method, TYPE_CHECKING, try, relative and aliased."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    file = tmp_path / "claims" / "x.py"
    file.parent.mkdir()
    file.write_text(
        "import torch.nn as nn\nfrom moebench import costs, plan\nfrom . import y\nfrom ..train import start\n"
        "class A:\n    def f(self):\n        from moebench.run import execute\n"
        "try:\n    import pandas\nexcept ImportError:\n    pass\n"
        "if TYPE_CHECKING:\n    from moebench.api import Outcome\n"
    )
    found = {(i.target, i.lazy, i.typing) for i in imports_of(file)}
    assert found == {
        ("torch.nn", False, False),
        ("moebench.costs", False, False),
        ("moebench.plan", False, False),
        ("moebench.claims", False, False),
        ("moebench.train", False, False),
        ("moebench.run", True, False),
        ("pandas", False, False),
        ("moebench.api", False, True),
    }


ASK_ROUTERS = (
    "models/routers", "models/transforms", "models/architecture.py", "models/decoder/moe.py", "suite",
    "cli/console/lists.py",
)  # fmt: skip
"""Who looks a router up: models build it, transforms and suites are checked against it, and one list shows all."""


def test_nobody_else_asks_the_registry_of_routers() -> None:
    """What counts, verdicts, jobs and reports need of a router travels in the plan."""
    names = {"ROUTERS", "LOSSES", "OPTIONS", "FIELDS", "REFUSED", "router_class", "known_routers", "facts_of"}
    asking = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moebench.models.routers")
        and names & {alias.name for alias in node.names}
    }  # fmt: skip
    assert [path for path in sorted(asking) if not path.startswith(ASK_ROUTERS)] == []
    assert len(asking) >= 5


MOST_OF_ONE = 12
"""Files of one suite's results or report that are committed, or of the tables of `bench`."""


def test_results_and_reports_are_bundles_not_thousands_of_files() -> None:
    """A suite's committed results are a handful of columnar files, and so is its report: who commits job folders, which
    nobody can look through and no diff shows, is stopped here. Code is one idea a file, as many files as it has ideas.
    """
    root = PACKAGE.parent
    command = ["git", "-C", str(root), "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    if "tests/test_layers.py" not in listed:
        pytest.skip("no checkout of git")
    outputs = [Path(path).parts for path in listed if path.startswith(("results/", "reports/"))]
    depth = {"results": 4, "reports": 3}  # results/reference/MACHINE/SUITE, reports/reference/SUITE
    many = Counter(parts[: depth[parts[0]]] for parts in outputs if len(parts) > depth[parts[0]])
    assert many
    assert {where: count for where, count in many.items() if count > MOST_OF_ONE} == {}
    assert {parts[1] for parts in outputs} == {"reference"}
    beside = [parts for parts in outputs if len(parts) <= depth[parts[0]]]
    assert len(beside) <= MOST_OF_ONE
