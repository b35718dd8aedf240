"""Which weights a run leaves: those after its last step, or those with the lowest loss on the tune split.

Early stopping as a choice among looks: the run goes to its end, each evaluation point is a look, and the weights of the
best one are put aside. A tie goes to the earlier. A resumed run knows the looks that it took from its records, and
takes those after its checkpoint again, with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import safetensors.torch

from moebench.data.batches import Windows
from moebench.data.corpus import Corpus
from moebench.data.tokenizer import AnyTokenizer
from moebench.jobs.measuring import scored_windows
from moebench.jobs.recipe import Run
from moebench.jobs.training import State
from moebench.metrics.metric import Record
from moebench.metrics.quality import evaluate
from moebench.metrics.training import KEPT, LOOK
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.decoder.trained import adapter_state, own_state
from moebench.store import WEIGHTS, JobFolder, write_bytes

BEST = "checkpoint.best"
"""How the files of the best weights so far begin: dropped with the checkpoints when the run ends."""
ADAPTERS = "adapters.safetensors"
"""Beside weights into which they are merged."""


@dataclass(kw_only=True)
class Keeper:
    """The best look so far of a run that keeps it; of another run it does nothing."""

    run: Run
    folder: JobFolder
    windows: Windows | None
    """Of the tune split; None where the last weights are kept."""
    tokenizer: AnyTokenizer
    best: tuple[float, int] | None
    """Bits per byte, and after which step."""

    @classmethod
    def of(cls, run: Run, folder: JobFolder, corpus: Corpus) -> Self:
        """With the looks that the folder's records tell of."""
        windows, looks = None, []
        if run.recipe.keep == "best_on_tune":
            recipe = run.recipe.model_copy(update={"split": "tune"})
            windows = scored_windows(corpus, recipe, tokens=recipe.eval_tokens)
            looks = [one for one in folder.records() if one.metric == LOOK.name]
        taken = [(one.value, one.step) for one in looks if one.value is not None and one.step is not None]
        return cls(run=run, folder=folder, windows=windows, tokenizer=corpus.tokenizer, best=min(taken, default=None))

    def look(self, state: State) -> Iterator[Record]:
        """Puts the weights aside where they are the best so far. Raises NotFinite as `evaluate` does."""
        if self.windows is None:
            return
        bits = evaluate(DecoderSubject(state.model, self.tokenizer), self.windows).bits_per_byte()
        if self.best is None or bits < self.best[0]:
            self.best = bits, state.step
            for name, data in _left(state).items():
                write_bytes(self.folder.path / f"{BEST}.{name}", data)
        yield LOOK.record(bits, step=state.step)

    def leave(self, state: State) -> Iterator[Record]:
        """Writes the weights that the run leaves, and says how far they were trained where they are not the last."""
        files = _left(state)
        if self.best is not None:
            files = {name: (self.folder.path / f"{BEST}.{name}").read_bytes() for name in files}
            yield KEPT.record(self.best[1] * self.run.recipe.batch_tokens, step=self.run.recipe.steps)
        for name, data in files.items():
            write_bytes(self.folder.path / name, data)


def _left(state: State) -> dict[str, bytes]:
    """Files of a model's own weights, with adapters merged into them, and of the adapters where there are some."""
    adapters = adapter_state(state.model)
    beside = {ADAPTERS: safetensors.torch.save(adapters)} if adapters else {}
    return {WEIGHTS: safetensors.torch.save(own_state(state.model)), **beside}
