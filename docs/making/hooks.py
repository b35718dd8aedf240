"""What mkdocs does besides: two pages made from the code, reports and suites beside the pages, and every link checked.

Pages keep the links that a reader of the repository follows. On the site `../reports/reference/NAME/index.md` is the
report's own page. The build fails on a link that leads nowhere, and on anything that a page would fetch from elsewhere.
"""

from __future__ import annotations

import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
BESIDE = {
    "reports/reference": ("*/index.html", "*/figures/*.svg", "claims/claims.*", "*.svg"),
    "suites": ("*.yaml",),
    "results/reference/bench": ("**/*.json",),
}
"""Folders of the repository that pages link to, and what of them is copied."""
ELSEWHERE = re.compile(r"(?:@import\s+|@import\s*url\(|url\()\s*['\"]?((?:https?:)?//[^'\")]+)")
"""What a style sheet would fetch."""
SHIM, WORKER = '"https://unpkg.com/iframe-worker/shim"', '"worker.js"'


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made, and what lies beside the pages in the repository."""
    from mkdocs.structure.files import File

    spec = importlib.util.spec_from_file_location("moebench_docs_generate", Path(__file__).with_name("generate.py"))
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    files.append(File.generated(config, "language.md", content=generate.language()))
    files.append(File.generated(config, "gallery.md", content=generate.gallery()))
    files.append(File.generated(config, "worker.js", abs_src_path=str(Path(__file__).with_name("worker.js"))))
    for folder, patterns in BESIDE.items():
        for path in sorted({path for pattern in patterns for path in (ROOT / folder).glob(pattern)}):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/ lead to the copies beside the pages; a report's page in markdown to its page in html."""
    text = re.sub(r"\]\(\.\./(reports|suites|results)/", r"](\1/", markdown)
    return re.sub(r"(\]\(reports/reference/[\w.-]+/index)\.md", r"\1.html", text)


def on_post_page(output: str, **_: Any) -> str:
    """What makes the search work from a disk comes from here and not from a server elsewhere."""
    return output.replace(SHIM, WORKER)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for the page that a server shows where there is none."""
    return output_content.replace(SHIM, WORKER)


class _Links(HTMLParser):
    """Anchors of a page, where its links lead, and what a browser would fetch for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        self.anchors |= {held[key] or "" for key in ("id", "name") if held.get(key)}
        for key in ("href", "src"):
            value = held.get(key)
            if value is None or (tag == "link" and held.get("rel") in ("canonical", "next", "prev", "alternate")):
                continue
            (self.links if tag == "a" else self.fetched).append(value)


def on_post_build(config: Any) -> None:
    """Refuses a site with a link that leads nowhere, or that would fetch anything from elsewhere."""
    from mkdocs.exceptions import PluginError

    if problems := problems_of(Path(config["site_dir"])):
        raise PluginError("\n".join(problems))


def problems_of(site: Path) -> list[str]:
    """What is wrong with the links of a built site."""
    pages = {path: _Links(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    problems = []
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        outside = [one for one in page.fetched if urlsplit(one).scheme not in ("", "data") or one.startswith("//")]
        problems += [f"{where} fetches {one}" for one in outside]
        if where == "404.html":
            continue  # its links are absolute: it may be shown at any address
        for link in [*page.links, *(one for one in page.fetched if one not in outside)]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                problems.append(f"{where} links to {link}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                problems.append(f"{where} links to {link}, which has no such place")
    for path in sorted(site.rglob("*.css")):
        found = ELSEWHERE.findall(path.read_text(encoding="utf-8"))
        problems += [f"{path.relative_to(site).as_posix()} fetches {one}" for one in found]
    return problems
