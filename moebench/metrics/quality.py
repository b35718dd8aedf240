"""Quality: cross-entropy alone, in bits per byte of text. Auxiliary router losses never enter.

Bits of all scored tokens over the bytes of text that those tokens stand for, so models with different tokenizers
compare. A document's windows start fresh, so its loss depends on no batch mate; the windows are the same for every seed
and model.

Legend: N windows, B of them at once, T context, L mixtures, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Document, Measured, Measurement, NotFinite, ScoredText
from moebench.metrics.metric import Metric, Record
from moebench.metrics.routing import DOMAIN_TOKENS, domain_records
from moebench.models.subject import LayerRouting, Subject

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS_AT_ONCE = 16
_FOR_RATES = ("is for choosing learning rates", "a claim is about the test split: use test.bits_per_byte")


def _bits_per_byte(group: str, says: str, cannot: str, **facts: Any) -> Metric:
    return Metric(
        name=f"{group}.bits_per_byte", unit="bits/byte", rests_on_loss=True, says=says, cannot=cannot, **facts
    )


BITS_PER_BYTE = {
    "test": _bits_per_byte(
        "test",
        "cross-entropy on the test split after the last step; domains take turns",
        "quality on other text, or on tasks; it holds no auxiliary loss",
        labels=("domain",),
        whole=True,
        asked_by=("bits_per_byte",),
    ),
    "tune": _bits_per_byte(
        "tune",
        "cross-entropy on the tune split after the last step",
        "anything about the test split: rates were chosen by it",
        labels=("domain",),
        whole=True,
        unclaimable=_FOR_RATES,
    ),
    "curve": _bits_per_byte(
        "curve",
        "cross-entropy at an evaluation point, on the first documents of the split",
        "the final loss: it reads fewer documents, before the learning rate has decayed",
        asked_by=("bits_per_byte",),
    ),
}


def _scored(group: str, what: str) -> Metric:
    split = f" of the {group} split" if what == "bytes" else ""
    ended = f"{what}{split} that {group}.bits_per_byte was scored on"
    return Metric(
        name=f"{group}.scored_{what}",
        unit=what,
        better="neither",
        labels=() if group == "curve" else ("domain",),
        fixed=lambda _: "it is what the suite asks to be scored",
        unclaimable=_FOR_RATES if group == "tune" else None,
        says=f"{what} scored at each evaluation point" if group == "curve" else ended,
        cannot="quality; it is what the suite asked for, as far as there was text",
    )


SCORED = {(group, what): _scored(group, what) for group in BITS_PER_BYTE for what in ("bytes", "documents")}

METRICS = (*BITS_PER_BYTE.values(), *SCORED.values())


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one pass over the evaluation windows saw."""

    bits_N: NDArray[np.float64]
    """Cross-entropy of each window, summed over its scored tokens."""
    bytes_N: NDArray[np.int64]
    """Bytes of text that each window's scored tokens stand for."""
    greedy_N: NDArray[np.int64] | None
    """Scored tokens that were the model's first choice; None where that was not asked."""
    tokens_NLE: NDArray[np.int64]
    """Tokens each expert received from each window; L = 0 for a dense model."""
    dropped: int
    """Assignments dropped (over capacity)."""
    answer_bits_N: NDArray[np.float64] | None = None
    """Cross-entropy of each window's answer; None of a text without questions."""
    right_N: NDArray[np.bool_] | None = None
    """Whether every token of the answer was the model's first choice; None where that was not asked."""

    def bits_per_byte(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> float:
        """Total bits over total bytes of the chosen windows."""
        return float(self.bits_N[chosen].sum() / self.bytes_N[chosen].sum())


def evaluate(subject: Subject, text: ScoredText, *, count: int | None = None, greedy: bool = False) -> Evaluated:
    """Reads the first `count` windows, all when absent. Raises NotFinite when the cross-entropy is not."""
    import torch

    bits, greedies, loads, dropped, asked = [], [], [], 0, text.asked
    answers, rights = [], []
    stop = len(text.inputs) if count is None else count
    log2 = torch.log(torch.tensor(2.0, device=subject.device))
    for first in range(0, stop, WINDOWS_AT_ONCE):
        rows = slice(first, min(first + WINDOWS_AT_ONCE, stop))
        inputs, targets, mask = (
            torch.from_numpy(np.ascontiguousarray(part[rows])).to(subject.device)
            for part in (text.inputs, text.targets, text.mask)
        )
        scores = subject.score(inputs, targets, greedy=greedy)
        bits.append((-scores.logprob_BT / log2 * mask).double().sum(1).cpu().numpy())
        if scores.greedy_BT is not None:
            greedies.append((scores.greedy_BT & mask).sum(1).cpu().numpy())
        if asked is not None:
            asked_BT = torch.from_numpy(np.ascontiguousarray(asked.mask[rows])).to(subject.device)
            answers.append((-scores.logprob_BT / log2 * asked_BT).double().sum(1).cpu().numpy())
            if scores.greedy_BT is not None:
                rights.append((scores.greedy_BT | ~asked_BT).all(1).cpu().numpy())
        loads.append(_expert_tokens(scores.routings, mask, experts=subject.experts))
        dropped += sum(routing.dropped for routing in scores.routings)
    bits_N = np.concatenate(bits)
    if not np.isfinite(bits_N.sum()):
        raise NotFinite("cross-entropy")
    return Evaluated(
        bits_N=bits_N,
        bytes_N=_bytes(subject, text, stop),
        greedy_N=np.concatenate(greedies) if greedies else None,
        tokens_NLE=np.concatenate(loads),
        dropped=dropped,
        answer_bits_N=np.concatenate(answers) if answers else None,
        right_N=np.concatenate(rights) if rights else None,
    )


def _bytes(subject: Subject, text: ScoredText, stop: int) -> NDArray[np.int64]:
    if text.text_bytes is not None:
        return text.text_bytes[:stop]
    bytes_N: NDArray[np.int64] = (subject.tokenizer.token_bytes[text.targets[:stop]] * text.mask[:stop]).sum(1)
    return bytes_N


def _expert_tokens(routings: tuple[LayerRouting, ...], mask_BT: Tensor, *, experts: int) -> NDArray[np.int64]:
    """Assignments by window, layer and expert, counting scored positions only: [B, L, E]."""
    batch, length = mask_BT.shape
    counts = np.zeros((batch, len(routings), experts), dtype=np.int64)
    scored = mask_BT.flatten()
    for row, routing in enumerate(routings):
        token_N = routing.token_N
        cell_N = (token_N // length) * experts + routing.expert_N
        counted = cell_N[scored[token_N]].bincount(minlength=batch * experts)
        counts[:, row] = counted.view(batch, experts).cpu().numpy()
    return counts


# ------------------------------------------------------------------------------------------------ records


def point_records(seen: Evaluated, text: ScoredText, *, step: int, first: bool) -> Iterator[Record]:
    """Quality at an evaluation point; what was scored with the first, as all of them score the same text."""
    yield BITS_PER_BYTE["curve"].record(seen.bits_per_byte(), step=step)
    if first:
        yield from _coverage("curve", text, seen, step=step)


def _measure(context: Context) -> Measured:
    """Bits per byte overall, by domain and by document, and the experts that each domain used."""
    text, documents = context.text, context.documents
    seen = evaluate(context.subject, text)
    records = list(_records(context, text, documents, seen))
    if text.asked is not None:  # questions by the thousand: their answers have items of their own
        return Measured(records=records)
    return Measured(records=records, items=by_document(text, documents, bytes=seen.bytes_N, bits=seen.bits_N))


def _records(context: Context, text: ScoredText, documents: Any, seen: Evaluated) -> Iterator[Record]:
    split, step = context.split, context.step
    yield BITS_PER_BYTE[split].record(seen.bits_per_byte(), step=step)
    yield from _coverage(split, text, seen, step=step)
    chosen = domains(text, documents)
    for domain, chosen_N in chosen.items():
        yield BITS_PER_BYTE[split].record(seen.bits_per_byte(chosen_N), domain=domain, step=step)
        yield from _coverage(split, text, seen, step=step, chosen_N=chosen_N, domain=domain)
    if seen.tokens_NLE.shape[1]:
        by_domain = {domain: seen.tokens_NLE[chosen_N].sum(0) for domain, chosen_N in chosen.items()}
        yield from domain_records(by_domain, layers=context.subject.mixtures, step=step)


def _coverage(
    group: str,
    text: ScoredText,
    seen: Evaluated,
    *,
    step: int | None,
    chosen_N: NDArray[np.bool_] | slice = slice(None),
    **labels: str,
) -> Iterator[Record]:
    """How much text an evaluation scored."""
    yield SCORED[group, "bytes"].record(int(seen.bytes_N[chosen_N].sum()), step=step, **labels)
    yield SCORED[group, "documents"].record(len(np.unique(text.document[chosen_N])), step=step, **labels)


def domains(text: ScoredText, documents: Any) -> dict[str, NDArray[np.bool_]]:
    """Domain -> which windows are of it, in the order of names."""
    domain_N = np.array([documents[index].domain for index in text.document.tolist()])
    return {domain: domain_N == domain for domain in sorted(set(domain_N.tolist()))}


def by_document(text: ScoredText, documents: Any, **values_N: NDArray[Any]) -> list[dict[str, Any]]:
    """One row a document: the sums over its windows of what has one value a window."""
    rows: dict[int, dict[str, Any]] = {}
    for n, index in enumerate(text.document.tolist()):
        document: Document = documents[index]
        empty = {name: values.dtype.type(0).item() for name, values in values_N.items()}
        row = rows.setdefault(index, {"document": document.name, "domain": document.domain, **empty})
        for name, values in values_N.items():
            row[name] += values[n].item()
    return list(rows.values())


MEASUREMENT = Measurement(
    name="quality",
    metrics=(
        *(metric for group, metric in BITS_PER_BYTE.items() if group != "curve"),
        *(metric for (group, _), metric in SCORED.items() if group != "curve"),
        DOMAIN_TOKENS,
    ),
    measure=_measure,
)
