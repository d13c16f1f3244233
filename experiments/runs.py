"""List the runs in a folder: status, settings, best measure, rate.

    python -m experiments.runs runs
    python -m experiments.runs runs --filter "lr<0.01" data=mnist1d --sort best --descending
    python -m experiments.runs runs --csv runs.csv --plot curves
    python -m experiments.runs gs://bucket/runs

A run is a folder with a `run.json`, at any depth. Its status is "running" while a process holds its
lock, "finished" when its metrics end with a final line, "diverged" when a loss, gradient or
update was not finite, and "stopped" otherwise: `--resume` continues it. The same rows in Python are
`cnn.train.list_runs("runs")`, for `pandas.DataFrame`.
"""

from __future__ import annotations

import csv
import io
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from etils import epy

from cnn.buckets import BucketPath
from cnn.errors import InputError, unknown_name
from experiments.harness import cli, drawing, plots
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np

    from cnn.train import files, mirror, run_dir, run_list

SHOWN = ("run", "model", "data", "status", "step", "optimizer", "lr", "seeds", "best", "steps/s")
COLORS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PINK, plots.BLACK, plots.AMBER, plots.SKY)
Row = dict[str, Any]


@dataclass(frozen=True)
class Flags:
    """Where to look, and what to show."""

    folder: Annotated[Path | BucketPath, tyro.conf.Positional] = Path("runs")
    """Folder that holds run folders, also in a bucket (gs://, s3://)."""
    filter: tuple[str, ...] = ()
    """Conditions that all hold: NAME=VALUE, NAME!=VALUE, NAME<VALUE, <=, >, >=."""
    sort: str = "run"
    """Column to sort by. Rows without a value come last."""
    descending: bool = False
    """Sort from the largest value to the smallest."""
    csv: Path | None = None
    """Write all columns of the rows to this file, or to the screen for "-"."""
    plot: Path | None = None
    """Write learning curves of the rows (PNG and SVG) into this folder."""


def main(flags: Flags) -> None:
    """Print the table and write what is asked for."""
    with mirror.copied(flags.folder) as folder:
        _show(folder, flags)


def _show(folder: Path, flags: Flags) -> None:
    rows = run_list.list_runs(folder)
    for condition in flags.filter:
        rows = select(rows, condition)
    rows = ordered(rows, flags.sort, flags.descending)
    if flags.plot is not None:
        draw(folder, rows, flags.plot)
    if flags.csv is not None and str(flags.csv) != "-":
        files.write_atomic(flags.csv, to_csv(rows))
    if str(flags.csv) == "-":
        print(to_csv(rows), end="")
    else:
        table(flags.folder, rows).show()


def select(rows: Sequence[Row], condition: str) -> list[Row]:
    """Return the rows for which a condition such as "lr<0.01" holds. Unknown values never do."""
    match = re.fullmatch(r"\s*([\w-]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", condition)
    if not match:
        raise InputError(f"filter must be NAME=VALUE or NAME<VALUE, got {condition!r}")
    name, sign, text = match.groups()
    _check_column(name, rows)
    compare = OPERATORS[sign]
    if sign in ("=", "!="):
        return [row for row in rows if name in row and compare(_is_equal(row[name], text), True)]
    try:
        limit = float(text)
    except ValueError:
        raise InputError(f"filter must compare with a number, got {condition!r}") from None
    return [row for row in rows if _is_number(row.get(name)) and compare(row[name], limit)]


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _is_equal(value: Any, text: str) -> bool:
    if _is_number(value):
        try:
            return bool(value == float(text))
        except ValueError:
            return False
    return str(value).lower() == text.lower()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ordered(rows: Sequence[Row], column: str, descending: bool = False) -> list[Row]:
    """Return the rows sorted by a column, numbers before text."""
    _check_column(column, rows)
    known = [row for row in rows if row.get(column) is not None]
    measures = {str(row.get("best_of")).partition("_")[2] for row in known}
    if column == "best" and len(measures) > 1:
        raise InputError(
            f"sort cannot compare the best of {', '.join(sorted(measures))}: use --filter, or sort "
            "by a measure that all runs have"
        )
    known.sort(
        key=lambda row: (not _is_number(v := row[column]), v if _is_number(v) else str(v)),
        reverse=descending,
    )
    return known + [row for row in rows if row.get(column) is None]


def _check_column(name: str, rows: Sequence[Row]) -> None:
    columns = {column for row in rows for column in row}
    if rows and name not in columns:
        raise unknown_name("column", name, columns)


def to_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV, with all columns that any of them has."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(folder: Path | BucketPath, rows: Sequence[Row]) -> Table:
    """Return the columns that fit a screen."""
    known = any(_is_number(row.get("mfu")) for row in rows)
    shown = (*SHOWN, "MFU") if known else SHOWN
    return Table(f"Runs in {folder}", shown, [[_cell(row, name) for name in shown] for row in rows])


def _cell(row: Row, name: str) -> str:
    if name == "best":
        value, of = row.get("best"), str(row.get("best_of", ""))
        part, _, measure = of.replace("train_", "training_").partition("_")
        shown = f"{value:.4f} {part} {measure}" if value is not None else "–"
        if value is not None and measure == "accuracy":
            shown = f"{100 * value:.2f} % {part}"
    elif name == "steps/s":
        rate = row.get("steps_per_second")
        shown = "–" if rate is None else f"{rate:,.0f}"
    elif name == "MFU":
        shown = f"{100 * row['mfu']:.1f} %" if _is_number(row.get("mfu")) else "–"
    else:
        value = row.get(name, "–")
        shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if shown.isprintable() else repr(shown)


def draw(folder: Path, rows: Sequence[Row], out: Path) -> None:
    """Write the learning curves of some runs: training loss, and what validation measured."""
    if not 1 <= len(rows) <= len(COLORS):
        raise InputError(f"plot shows 1 to {len(COLORS)} runs, got {len(rows)}: use --filter")
    panels = []
    for name in ("train_loss", "validation_accuracy", "validation_loss"):
        series = [
            _curve(folder / row["run"], row["run"], name, COLORS[i]) for i, row in enumerate(rows)
        ]
        if shown := [one for one in series if one is not None]:
            scale = 100 if name.endswith("accuracy") else 1
            label = name.replace("train", "training").replace("_", " ")
            y_label = f"{label} (%)" if scale == 100 else label
            panels.append(plots.Curves(shown, x_label="step", y_label=y_label))
    if not panels:
        raise InputError("plot needs runs that have lines of metrics")
    run_dir.make_folder(out)
    drawing.save(plots.Figure(panels, legend="below"), out / "curves")


def _curve(run: Path, label: str, name: str, color: str) -> plots.Series | None:
    """Return a measure over the steps, one value per seed; None if there are no two of them."""
    lines = [line for line in run_dir.read_metrics(run) if name in line and not line.get("final")]
    scale = 100 if name.endswith("accuracy") else 1
    values = [scale * np.array(line[name], float) for line in lines]
    steps = [line["step"] for line in lines]
    if len(values) < 2:
        return None
    return plots.Series(label, values, steps, color=color, marker="")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
