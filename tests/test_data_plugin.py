"""Sources from other packages: found by entry point, checked like any text."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from moebench import plugins
from moebench.data import DataError, Gathered, Source, Text
from moebench.data.prepare import prepare
from moebench.data.sources import plugin
from moebench.data.sources.plugin import PluginData
from tests.support.small_corpora import text, words


def offer(monkeypatch: pytest.MonkeyPatch, texts: list[Text]) -> None:
    source = Source(says="", gather=lambda spec, base: Gathered(texts=texts), fingerprint=lambda spec, base: None)
    monkeypatch.setattr(plugin, "OFFERED_HERE", source, raising=False)
    point = EntryPoint(name="letters", value="moebench.data.sources.plugin:OFFERED_HERE", group=plugin.GROUP)
    not_one = EntryPoint(name="wrong", value="moebench.data.sources.plugin:GROUP", group=plugin.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point, not_one] if group == plugin.GROUP else [])


def asked(name: str = "letters") -> PluginData:
    return PluginData(source="plugin", name=name, options={"size": 3}, context=8)


def test_an_entry_point_gives_a_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, [text(str(i), words(i, 200)) for i in range(20)])
    corpus = prepare(asked(), base=tmp_path, cache=tmp_path)
    assert sum(corpus.facts.documents.values()) == 20
    assert prepare(asked(), base=tmp_path, cache=tmp_path).digest == corpus.digest


@pytest.mark.parametrize("bad", [b"", b"a\0b"])
def test_unfit_texts_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: bytes) -> None:
    offer(monkeypatch, [text("fine", words(0, 200)), text("unfit", bad)])
    with pytest.raises(DataError, match="'unfit'"):
        prepare(asked(), base=tmp_path, cache=tmp_path)


def test_two_documents_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch, [text("twin", words(0, 200)), text("twin", words(1, 200))])
    with pytest.raises(DataError, match="two documents named 'twin'"):
        prepare(asked(), base=tmp_path, cache=tmp_path)


def test_unknown_names_list_the_known_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is installed"):
        prepare(asked("nobody"), base=tmp_path, cache=tmp_path)
    offer(monkeypatch, [])
    with pytest.raises(DataError, match="known: letters, wrong"):
        prepare(asked("nobody"), base=tmp_path, cache=tmp_path)
    with pytest.raises(DataError, match=r"is not a moebench\.data\.Source"):
        prepare(asked("wrong"), base=tmp_path, cache=tmp_path)
