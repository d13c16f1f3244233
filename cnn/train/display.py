"""How results and runs show: a line of text, and tables in notebooks; never arrays of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn.html_table import html_table

Parts = Mapping[str, Mapping[str, np.ndarray]]
"""Measures by part of the data and name: arrays with one entry per seed."""
COLUMNS = ("run", "model", "data", "status", "step", "optimizer", "lr", "seeds", "best", "best_of")
ROWS = 50


def measures_text(parts: Parts) -> str:
    """Return every measure that is one number per seed, as a mean with its deviation."""
    return ", ".join(f"{name} {_mean(values)}" for name, values in _numbers(parts).items())


def measures_html(seeds: Sequence[int], parts: Parts) -> str:
    """Return a table with a row for each seed and, of several seeds, one of means."""
    numbers = _numbers(parts)
    rows = [[str(seed), *(_text(v[i]) for v in numbers.values())] for i, seed in enumerate(seeds)]
    means = ["mean ± s.d.", *map(_mean, numbers.values())]
    return html_table(["seed", *numbers], [*rows, means] if len(rows) > 1 else rows)


def facts_html(facts: Mapping[str, str]) -> str:
    """Return a table with a name and a value in each row."""
    return html_table([], [[name.replace("_", " "), text] for name, text in facts.items()], names=2)


def line_facts(line: Mapping[str, Any]) -> dict[str, str]:
    """Return the measures of a line of metrics, a mean over the seeds, as text by name."""
    found = {}
    for name, value in line.items():
        if name.startswith(("train_", "validation_", "test_")):
            values = np.atleast_1d(np.asarray(value, float))
            if values.ndim == 1:
                found[name] = _mean(values)
    return found


def rows_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the main columns of the rows of `list_runs`."""
    cells = [[_text(row.get(name, "")) for name in COLUMNS] for row in rows]
    return html_table([name.replace("_", " ") for name in COLUMNS], cells, names=4, limit=ROWS)


def _numbers(parts: Parts) -> dict[str, np.ndarray]:
    return {
        f"{part} {name}": np.asarray(values, float)
        for part, measured in parts.items()
        for name, values in measured.items()
        if np.ndim(values) == 1
    }


def _mean(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.4g}{spread}"


def _text(value: Any) -> str:
    if isinstance(value, bool | str) or value is None:
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
