"""Nothing that a plan or a record says acts on a screen or a page unseen: it is escaped wherever it is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from moebench import store
from moebench.cli.commands import main
from moebench.cli.progress import shown
from moebench.reporting import build
from moebench.text import plain, visible
from tests.support import golden_results

HOSTILE = "\x1b[2Jgone\x07\x85\u202esdrawkcab\u2066\u200f\u061c\u2028"
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a suite that says hostile things, one run of which failed for a hostile reason."""
    root = tmp_path_factory.mktemp("unseen")
    claims = golden_results.golden_claims()
    for claim in claims.values():
        claim["says"] += HOSTILE
    made = golden_results.golden_plan(seeds=6, claims=claims)
    spec = made.spec.model_copy(update={"question": made.spec.question + HOSTILE})
    plan = made.model_copy(update={"spec": spec, "warnings": (HOSTILE,)})
    golden_results.write(root, plan=plan)
    folder = store.Results(root).job(plan.runs[0].id)
    (folder.path / "DONE").unlink()
    store.write_json(folder.path / "FAILED.json", {"status": HOSTILE, "reason": HOSTILE})
    return root


def written(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.*")):
        if path.suffix in (".html", ".md", ".csv", ".json", ".svg"):
            yield path.name, path.read_bytes().decode()


def test_no_file_of_a_report_holds_what_is_not_seen(root: Path, tmp_path: Path) -> None:
    build(root, out=tmp_path, formats=("html", "md", "csv", "json", "svg"))
    texts = dict(written(tmp_path))
    assert len(texts) > 10
    for name, text in texts.items():
        assert UNSEEN.search(text) is None, name
    for name in ("index.html", "index.md", "claims.json"):
        assert "\\u202esdrawkcab" in texts[name], name
    said = json.loads(texts["claims.json"])["claims"][0]["says"]
    assert said.endswith(HOSTILE), "for a program the escapes of JSON are the words themselves"


@pytest.mark.parametrize("command", ["report", "compare"])
def test_no_command_prints_what_is_not_seen(root: Path, tmp_path: Path, command: str) -> None:
    arguments = {
        "report": ["report", "--results", str(root), "--out", str(tmp_path), "--format", "json"],
        "compare": ["compare", str(root), str(root)],
    }
    done = CliRunner().invoke(main, arguments[command])
    assert done.exit_code == 0, done.output
    for text in (done.stdout, done.stderr):
        assert UNSEEN.search(text) is None


def test_progress_is_seen() -> None:
    event = {"event": "failed", "model": HOSTILE, "seed": 0, "status": "crash", "reason": HOSTILE}
    assert UNSEEN.search(shown(event) or "") is None


@given(st.text())
def test_what_is_visible_stays_and_nothing_else_does(text: str) -> None:
    shown = visible(text)
    assert UNSEEN.search(shown) is None
    assert visible(shown) == shown
    if UNSEEN.search(text) is None:
        assert shown == text
    assert UNSEEN.search(plain(text)) is None
