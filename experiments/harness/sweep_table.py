"""The table of a sweep: one row for each point, on the screen and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from experiments.harness.points import mean, measured
from experiments.harness.tables import Table, number, percent

with epy.lazy_imports():
    import numpy as np

    from cnn.train import run_dir

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Row:
    """A point in the table."""

    values: Mapping[str, str]
    """The value of every axis."""
    folder: str
    status: str
    """finished, pruned, failed, running, stopped (it has a folder) or waiting."""
    line: Mapping[str, Any]
    """Its last line of metrics."""
    why: str = ""
    """Why it failed."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the CSV."""

    def plain(self) -> dict[str, Any]:
        """Return all columns: numbers and text."""
        facts = {name: self.line.get(name) for name in ("parameters", "step", "seconds")}
        columns = {**self.more, **self.values, "status": self.status, **facts}
        for name, values in measured(self.line).items():
            if (value := mean(self.line, name)) is not None:
                columns[name] = value
                if len(values) > 1:
                    columns[f"{name}_std"] = float(np.std(values, ddof=1))
        return {**columns, "run": self.folder, "why": self.why}


def newest(folder: Path) -> dict[str, Any]:
    """Return the newest value of everything in the metrics of a run."""
    found: dict[str, Any] = {}
    for line in run_dir.read_metrics(folder):
        found |= line
    return found


def ordered(rows: Sequence[Row], objective: str, maximize: bool) -> list[Row]:
    """Return the rows from the best to the worst: finished ones, pruned ones, the others."""

    def key(row: Row) -> tuple[int, float]:
        rank = {"finished": 0, "pruned": 1}.get(row.status, 2)
        value = row.plain().get(objective)
        if value is None:
            return rank, float("inf")
        return rank, -value if maximize else value

    return sorted(rows, key=key)


def table(rows: Sequence[Row], caption: str, part: str, objective: str | None) -> Table:
    """Return status, parameters and measures of every point, mean ± deviation over the seeds.

    The measures are the `objective`, or else those of the `part` ("validation" or "test"), without
    the loss if there is another, and the training loss.
    """
    names = dict.fromkeys(name for row in rows for name in _scalars(row.line))
    own = [name for name in names if name.startswith(f"{part}_")]
    shown = [objective] if objective else [name for name in own if name != f"{part}_loss"] or own
    shown = list(dict.fromkeys((*shown, "train_loss")))
    heads = [*rows[0].values, "status", "parameters", *map(_head, shown), "folder"]
    cells = [
        [
            *row.values.values(),
            row.status,
            row.line.get("parameters", ""),
            *(_cell(name, row.line) for name in shown),
            row.folder,
        ]
        for row in rows
    ]
    return Table(caption, heads, cells)


def summary(line: Mapping[str, Any], part: str) -> str:
    """Return what a final line measured: "validation accuracy 97.10 %, training loss 0.1234"."""
    names = [name for name in _scalars(line) if name.startswith(f"{part}_")]
    names = [name for name in names if name != f"{part}_loss"] or names
    texts = []
    for name in (*names, "train_loss"):
        unit = " %" if _is_fraction(name) else ""
        texts.append(f"{_head(name).removesuffix(', %')} {_cell(name, line)}{unit}")
    return ", ".join(texts)


def _scalars(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the measures that are numbers."""
    for name, values in measured(line).items():
        if not any(isinstance(each, list) for each in values):
            yield name


def _head(name: str) -> str:
    text = name.replace("train_", "training_").replace("_", " ")
    return f"{text}, %" if _is_fraction(name) else text


def _is_fraction(name: str) -> bool:
    return name.endswith("accuracy") or "_top-" in name


def _cell(name: str, line: Mapping[str, Any]) -> str:
    values = measured(line).get(name)
    if not values or None in values:
        return "–"
    array = np.array(values, float)
    return percent(array) if _is_fraction(name) else number(array, 4)
