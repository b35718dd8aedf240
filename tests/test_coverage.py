"""How much of the text that was asked for a verdict was scored on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moebench.reader.evidence import Evidence
from tests.support.alike import DOCUMENTS, scoring, twins
from tests.support.builders import BPB, judged, with_plan, with_recipe


def with_data(evidence: Evidence, **facts: Any) -> Evidence:
    return with_plan(evidence, data=evidence.plan.data.model_copy(update=facts))


def test_little_of_what_was_asked_is_said_and_very_little_is_no_verdict() -> None:
    plenty = {"tokens": {"test": 10**6, "train": 10**7}, "documents": {"test": 9, "train": 90}}
    half = judged(with_data(twins(items=scoring([*DOCUMENTS[:3], (45_000, 85_500.0)])), **plenty))
    assert half.state == "supported"
    assert half.caveats == ("46% of the text requested",)
    (note,) = [note for note in half.notes if "bytes requested" in note]
    assert note == ("only 46% of the 131,072 bytes requested were scored: at most 4 windows of each document are read")
    few = judged(with_data(twins(items=scoring(DOCUMENTS[:3])), **plenty))
    assert few.state == "invalid"
    assert few.reason == (
        "evaluation: scored on 15,000 of 131,072 bytes requested, 3 documents, below 25%: at most 4 windows of each "
        "document are read: raise `windows_per_document` or leave it out, or ask for fewer bytes (`evaluate:`)"
    )


def test_all_the_text_there_is_is_enough_when_it_is_several_documents() -> None:
    small = with_data(twins(items=scoring(DOCUMENTS[:2])), tokens={"test": 10_002}, documents={"test": 2})
    verdict = judged(small)
    assert verdict.state in ("supported", "inconclusive")
    assert "only 8% of the 131,072 bytes requested were scored: all the text there is" in verdict.notes
    one = judged(with_data(twins(items=scoring(DOCUMENTS[3:])), tokens={"test": 115_001}, documents={"test": 1}))
    assert one.state == "invalid"
    assert "one document does not say how quality varies over documents" in one.reason


def test_a_domain_is_scored_on_its_own_bytes() -> None:
    evidence = twins(f"{BPB}[domain=code]")
    verdict = judged(evidence)
    assert verdict.state == "supported"
    assert "scored on 130,000 bytes of code, 4 documents" in verdict.scope
    assert judged(twins(f"{BPB}[domain=prose]")).scored is None


def test_runs_say_themselves_what_they_scored_where_their_documents_are_not_known() -> None:
    evidence = twins(items=None)
    assert judged(evidence).scored is None
    told = {"test.scored_bytes": 131_000.0, "test.scored_documents": 41.0}
    outcomes = tuple(replace(run, values={**run.values, **told}) for run in evidence.outcomes)
    verdict = judged(replace(evidence, outcomes=outcomes))
    assert "scored on 131,000 of 131,072 bytes requested, 41 documents" in verdict.scope


def test_few_bytes_are_said_even_if_no_more_were_asked() -> None:
    evidence = twins(items=scoring([(500, 950.0), (524, 995.6)]))
    for model in ("moe", "dense"):
        evidence = with_recipe(evidence, model, final_eval_tokens=1024)
    assert "only 1,024 bytes were scored" in judged(evidence).notes
