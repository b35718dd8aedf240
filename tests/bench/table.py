"""Tables of a bench: printed, and written for readers when asked.

`<folder>/<machine>/<name>.json` holds the table as it is printed, then every round's seconds, the machine, the packages
and the commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from bench.race import Ratio, Result
from moebench.environment import environment

Cell = str | int | float | Ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """One race: what raced, the figures shown, and the samples behind them."""

    cells: dict[str, Cell]
    result: Result


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    """Of its file."""
    title: str
    says: str
    """What the columns mean, in a sentence or two."""
    device: str
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        """The table with its machine and its clock."""
        heads = list(dict.fromkeys(head for row in self.rows for head in row.cells))
        lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
        lines += [" | ".join(shown(row.cells.get(head, "")) for head in heads) for row in self.rows]
        body = "\n".join(f"| {line} |" for line in lines)
        return f"# {self.title}\n\n{self.says}\n\n{self._where()}\n\n{body}\n"

    def _where(self) -> str:
        here = environment(torch.get_num_threads(), self.device)
        chip = here.gpu if self.device == "cuda" else here.cpu
        versions = f"torch {torch.__version__}, transformers {metadata.version('transformers')}"
        rounds = sorted(row.result.rounds for row in self.rows)
        return (
            f"{here.machine} ({chip}), {here.threads} thread(s), {versions}, "
            f"commit {here.git}; {self.rows[0].result.clock}, {rounds[0]} to {rounds[-1]} rounds a row. In brackets "
            "95% intervals of the medians."
        )

    def as_json(self) -> dict[str, Any]:
        """All that was seen."""
        here = environment(torch.get_num_threads(), self.device)
        return {
            "table": self.markdown().splitlines(),
            "title": self.title,
            "environment": here.model_dump(mode="json"),
            "transformers": metadata.version("transformers"),
            "clock": self.rows[0].result.clock,
            "rows": [
                {
                    "cells": {head: _plain(cell) for head, cell in row.cells.items()},
                    "seconds": _rounded(row.result.seconds),
                    "wall_seconds": _rounded(row.result.wall_seconds),
                }
                for row in self.rows
            ],
        }


def publish(table: Table, folder: Path | None) -> None:
    """Prints the table; writes it under `folder` unless that is None."""
    print(f"\n{table.markdown()}")
    if folder is None:
        return
    place = folder / machine_folder(table.device)
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table.as_json(), indent=1, ensure_ascii=False) + "\n"
    (place / f"{table.name}.json").write_text(text, encoding="utf-8")


def machine_folder(device: str) -> str:
    """The machine's name as a folder: '2-core-x86_64-cpu'."""
    name = environment(torch.get_num_threads(), device).machine.lower()
    return "-".join("".join(c if c.isalnum() or c in "_-" else " " for c in name).split())


def shown(cell: Cell) -> str:
    """Ratios as '1.23 [1.20, 1.27]', times in milliseconds to three digits."""
    if isinstance(cell, Ratio):
        ends = cell.interval
        return f"{cell.value:.2f}" + ("" if ends is None else f" [{ends.low:.2f}, {ends.high:.2f}]")
    if isinstance(cell, float):
        return f"{cell:.3g}" if cell < 100 else f"{cell:.0f}"
    return str(cell)


def _plain(cell: Cell) -> Any:
    if not isinstance(cell, Ratio):
        return cell
    ends = cell.interval
    return {"value": cell.value, "interval": None if ends is None else [ends.low, ends.high]}


def _rounded(samples: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [float(f"{value:.4g}") for value in values] for name, values in samples.items()}
